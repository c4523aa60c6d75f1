"""One process of a machine makes what several of them miss at the same time: machine code, say,
which takes seconds and a hundred MB to compile.

A turn is a lock on one byte, told by what is to be made, of a file in memory that all of a user's
processes on this machine have open. The system ends it when its process ends, however that is.
Nobody waits longer than PATIENCE, and nobody at all where there can be no such file, or once
something was waited for in vain: it cannot be kept, so that every process has to make its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeVar

from npde_opt.packages import tempfile

MEMORY = Path("/dev/shm")
PATIENCE = 120.0
"""Seconds."""
BETWEEN = 0.02
"""Seconds between two looks."""

T = TypeVar("T")

_waited_in_vain = False


def found_or_turn(
    key: str, find: Callable[[], T | None], waits: Callable[[], None]
) -> T | None:
    """What is found, at once or when another process has made it; None where this one is to make
    it, after which it calls `over`.

    Args:
        key: of what is to be made, the same in all processes that may make it.
        find: returns it, or None while it is missing.
        waits: called where it is another process's turn.
    """
    global _waited_in_vain
    found = find()
    if found is not None or _waited_in_vain:
        return found
    has_waited = _take(key, waits)
    # Another process may have made it since, waited for or not.
    found = find()
    if found is not None or has_waited:
        # In vain: the others make theirs, too, at the same time.
        over(key)
    _waited_in_vain = has_waited and found is None
    return found


def over(key: str) -> None:
    """Ends a turn, or nothing."""
    file = _file()
    if file is not None:
        with contextlib.suppress(OSError):
            fcntl.lockf(file, fcntl.LOCK_UN, 1, _place(key))


def _take(key: str, waits: Callable[[], None]) -> bool:
    """Whether it was another process's turn."""
    file, place = _file(), _place(key)
    if file is None:
        return False
    has_waited, end = False, time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except (BlockingIOError, PermissionError):
            if not has_waited:
                waits()
            has_waited = True
        except OSError:
            # No locks here.
            return has_waited
        else:
            return has_waited
        if time.monotonic() > end:
            return True
        time.sleep(BETWEEN)


def _place(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:7])


@cache
def _file() -> int | None:
    """Opened once: to close it anywhere would end all of this process's turns."""
    folder = MEMORY if os.access(MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    own = f"npde_opt_{os.getuid()}.turns"
    how = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(folder / own, how, 0o600)
    except OSError:
        return None
