"""Whether the plain levels of cycle.py would lose a matrix, from some lines of cells along every
axis: a thousandth of what new values take.

They would where lines across an axis that is halved are coupled FAINT times less along it than
along others in half of their cells (padding whose cells grow, conductivities of other sizes along
other axes), where many lines are coupled to the next in fewer than half of their cells (strips),
and where couplings side by side differ by JUMP (conductors, insulators).
"""

from __future__ import annotations

import numpy as np

from npde_opt.linear.planes.between import Lines
from npde_opt.linear.planes.levels import Planes

LINES = 32
FAINT = 1 / 30
SHARE, APART = 0.03, 0.2
"""Of all lines across an axis."""
LOST = 3
"""Or as many lines as this, however many there are."""
JUMP = 1e5


def losses(planes: Planes, halved: Lines) -> np.ndarray:
    """Of a rank's own cells, along every axis that is halved: the share of lines across it that
    are coupled faintly along it, over SHARE (or their number, over LOST), or that are coupled to
    the next one in fewer than half of their cells, over APART, what is larger; and by how much
    couplings side by side differ.

    Args:
        planes: [k, j, i] of one of o and -o, 0 towards what is outside.
        halved: what the first plain level does with every axis.
    """
    dim = len(halved)
    couplings = [np.abs(planes[_unit(d, dim)]) for d in range(dim)]
    found = np.zeros(dim + 1)
    if not couplings[0].size:
        return found
    for d in range(dim):
        lines = [_along(values, dim - 1 - d) for values in couplings]
        own = lines.pop(d)
        before = np.concatenate([np.zeros_like(own[:1]), own[:-1]])
        most, least = np.maximum(own, before), np.minimum(own, before)
        jumps = most / np.where(least > 0, least, np.inf)
        found[dim] = max(found[dim], float(jumps.max()))
        largest = np.maximum.reduce(lines)
        active = (most > 0) | (largest > 0)
        faint = active & (most < FAINT * largest)
        across = tuple(range(1, own.ndim))
        lost = 2 * faint.sum(axis=across) > active.sum(axis=across)
        apart = 2 * (own > 0).sum(axis=across) < active.sum(axis=across)
        shares = lost.mean() / SHARE, lost.sum() / LOST, apart.mean() / APART
        found[d] = max(shares) if halved[d] is not None else 0.0
    return found


def reason(losses: np.ndarray) -> str:
    """Why the plain levels would lose the matrix; nothing where they would not."""
    *shares, jump = losses
    faint = [axis for axis, share in zip("xyz", shares, strict=False) if share > 1]
    if faint:
        return f"weak couplings along {', '.join(faint)}"
    return f"couplings side by side that differ by {jump:.1g}" if jump > JUMP else ""


def _unit(d: int, dim: int) -> tuple[int, ...]:
    return tuple(int(e == d) for e in range(dim))


def _along(values: np.ndarray, axis: int) -> np.ndarray:
    """LINES or more whole lines along an axis, which comes first."""
    moved = np.moveaxis(values, axis, 0)
    count = int(np.prod(moved.shape[1:]))
    each = int(np.ceil((count / LINES) ** (1 / (values.ndim - 1))))
    # Of an axis that has fewer cells there is one.
    some = [slice(min(each, n) // 2, None, each) for n in moved.shape[1:]]
    return moved[(slice(None), *some)]
