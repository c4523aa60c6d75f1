"""Who holds arrays of global size: every array that a function of the package returns, or holds by
a local name or in its own attributes when it returns, and at the end what is kept for later.

An array counts with all of the array that it is a view of, in numbers, whatever their type: a mask
of all cells counts as much as a field. Files that are mapped into memory are not held. Arrays that
live for a part of an expression only are not seen, and of a function only its first CALLS calls are
looked at. (tracemalloc knows bytes only, in which a mask of all cells is an eighth of a field, and
takes thrice the time.)
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import numpy as np

import npde_opt

PACKAGE = str(Path(npde_opt.__file__).parent)
CALLS = 20


class Held:
    """What was held of more than `most` numbers.

    Args:
        wider: rooms and files of the package that may hold more, and how much.

    Attributes:
        found: by place in the program and name, the largest number.
    """

    def __init__(self, most: int, wider: dict[str, int] | None = None):
        self.most, self.found = most, dict[str, int]()
        self.wider = wider or {}
        self._calls: dict[object, int] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Looks at all that is done in the block."""
        sys.settrace(self._called)
        try:
            yield
        finally:
            sys.settrace(None)

    def _called(self, frame: FrameType, event: str, value: object) -> Callable | None:
        """Follows the first calls of the package's functions to their ends."""
        code = frame.f_code
        seen = self._calls.get(code)
        if seen is None:
            seen = 0 if code.co_filename.startswith(PACKAGE) else CALLS
        if seen >= CALLS:
            self._calls[code] = CALLS
            return None
        self._calls[code] = seen + 1
        frame.f_trace_lines = False
        return self._returned

    def _returned(self, frame: FrameType, event: str, value: object) -> Callable:
        if event != "return":
            return self._returned
        code = frame.f_code
        where = f"{Path(code.co_filename).relative_to(PACKAGE)}, {code.co_qualname}"
        self._look(where, "what it returns", value)
        for name, held in frame.f_locals.items():
            self._look(where, name, held)
            if name == "self" and code.co_name == "__init__":
                for attribute, part in getattr(held, "__dict__", {}).items():
                    self._look(where, f"self.{attribute}", part)
        return self._returned

    def _look(self, where: str, name: str, held: object) -> None:
        if isinstance(held, list | tuple) and len(held) < 10:
            for part in held:
                self._look(where, name, part)
        if not isinstance(held, np.ndarray):
            return
        while isinstance(held.base, np.ndarray):
            held = held.base
        file = where.partition(",")[0]
        room = where.partition("/")[0]
        most = self.wider.get(file, self.wider.get(room, self.most))
        if held.size > most and not isinstance(held, np.memmap):
            self._keep(f"{where}: {name}", held.size)

    def look_at_what_is_kept(self) -> None:
        """At all arrays that any object holds now, as caches do."""
        for held in gc.get_objects():
            for part in gc.get_referents(held):
                if isinstance(part, np.ndarray):
                    self._look("kept", type(held).__name__, part)

    def _keep(self, where: str, size: int) -> None:
        self.found[where] = max(size, self.found.get(where, 0))
