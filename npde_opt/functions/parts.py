"""Values cell by cell of large fields, a part of the cells after the other: what lies between
operations stays in the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from npde_opt.aliases import Numbers

PART = 1 << 13
"""Cells of a part: 64 KiB a field."""

Action = Callable[[Sequence[Numbers]], list[Numbers]]


def in_parts(run: Action, values: Sequence[Numbers]) -> list[Numbers]:
    """run(values), of numbers and of fields that are alike in shape and in the order of memory; all
    at once where they are not, or small."""
    fields = [v for v in values if isinstance(v, np.ndarray) and v.ndim]
    if not fields or fields[0].size < 2 * PART:
        return run(values)
    shape = fields[0].shape
    order = _order(fields)
    if order is None or any(f.shape != shape for f in fields):
        return run(values)
    lines = [
        v.reshape(-1, order=order) if isinstance(v, np.ndarray) and v.ndim else v
        for v in values
    ]
    whole: list[Numbers] = []
    for start in range(0, fields[0].size, PART):
        cells = slice(start, start + PART)
        found = run(
            [v[cells] if isinstance(v, np.ndarray) and v.ndim else v for v in lines]
        )
        if not whole:
            whole = [_room(f, fields[0].size) for f in found]
        for out, part in zip(whole, found, strict=True):
            if isinstance(out, np.ndarray) and out.ndim:
                out[cells] = part
    return [
        w.reshape(shape, order=order) if isinstance(w, np.ndarray) and w.ndim else w
        for w in whole
    ]


def _order(fields: Sequence[np.ndarray]) -> Literal["F", "C"] | None:
    """In which all lie without gaps."""
    if all(f.flags.f_contiguous for f in fields):
        return "F"
    return "C" if all(f.flags.c_contiguous for f in fields) else None


def _room(part: Numbers, size: int) -> Numbers:
    """For all parts of a result; a number is the same in all."""
    if isinstance(part, np.ndarray) and part.ndim:
        return np.empty(size, part.dtype)
    return part
