"""What the C library does with memory that arrays leave: it keeps it for the next ones.

By default glibc gives a page back as soon as an array of some hundred kilobytes is freed, and the
next one of the same size touches new pages, which the kernel has to clear: every whole-field
expression of numpy pays for it, on virtual machines as much as for its arithmetic. With the
thresholds below arrays of up to LARGEST are cut from a heap that keeps up to KEPT free bytes.

Larger arrays go back at once, so that the peak of a large run is what it was.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache

LARGEST = 32 << 20
"""Bytes of arrays that lie in the heap, the most that glibc allows."""
KEPT = 64 << 20
"""Free bytes at the heap's end that are not given back."""
AHEAD = 16 << 20
"""Bytes by which the heap grows; they cost nothing before they are used."""

# Numbers of malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
CHOSEN = (
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TOP_PAD_",
    "GLIBC_TUNABLES",
)
"""Variables of the environment by which a user has chosen."""


@cache
def keep() -> bool:
    """Sets the thresholds once a process; whether they are set: not where a user has chosen others,
    nor where the C library has none."""
    if any(name in os.environ for name in CHOSEN):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    wanted = ((_MMAP_THRESHOLD, LARGEST), (_TRIM_THRESHOLD, KEPT), (_TOP_PAD, AHEAD))
    return all(mallopt(number, size) for number, size in wanted)
