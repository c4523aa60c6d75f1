"""How a peer answers: processor seconds of some runs after a first one, and a value to compare, as
one line of JSON. A peer that lacks what it needs says so and ends with code 3."""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable

ABSENT = 3
REPEATS = 3


def needs(*modules: str) -> None:
    """Ends where one is not installed."""
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError:
            print(f"{name} is not installed in {sys.executable}", file=sys.stderr)
            raise SystemExit(ABSENT) from None


def answer(action: Callable[[], dict[str, float]], repeats: int = REPEATS) -> None:
    """Prints the shortest run, and what the last one returned."""
    found, seconds = action(), []
    for _ in range(repeats):
        start = time.process_time()
        found = action()
        seconds.append(time.process_time() - start)
    print(json.dumps({"seconds": min(seconds), **found}), flush=True)
