"""Electrodes in rings: points at even angles on the outline of a plane's active cells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npde_opt.errors import InputError

COUNT = "electrodes.count"
NARROWEST = 60
"""A point is sought within half of the angle between neighbours, or of this share of a turn."""


def ring_levels(mask: np.ndarray, rings: int) -> list[int]:
    """Indices of the axial planes of rings, evenly spaced over those with active cells; of one
    ring the middle of the box. Raises InputError for more rings than planes."""
    on = np.flatnonzero(mask.any(axis=(0, 1)))
    if not 1 <= rings <= max(on.size, 1):
        allowed = f"from 1 to the {on.size} planes with active cells"
        raise InputError("electrodes.rings", rings, allowed)
    if rings == 1:
        return [mask.shape[2] // 2]
    return [int(on[(k + 1) * on.size // (rings + 1)]) for k in range(rings)]


def outline(
    plane: np.ndarray, edges: Sequence[np.ndarray], count: int, radius: float
) -> np.ndarray:
    """Points (count, 2) at even angles about the mean of a plane's active cells [i, j]: centres of
    the outermost cell in each direction, moved inwards by half a radius.

    Raises:
        InputError: where no cell is active, none lies in some direction, two points would share a
            cell, or the radius leads back to the middle.
    """
    cells = np.nonzero(plane)
    if not cells[0].size:
        raise InputError(
            "electrodes", "no active cell in the middle plane", "electrodes.at"
        )
    if count > cells[0].size:
        raise InputError(
            COUNT, count, f"at most the plane's {cells[0].size} active cells"
        )
    boxes = [(e[i], e[i + 1]) for e, i in zip(edges, cells, strict=False)]
    centers = [(low + high) / 2 for low, high in boxes]
    middle = [float(c.mean()) for c in centers]
    x, y = (c - m for c, m in zip(centers, middle, strict=True))
    angle, r = np.arctan2(y, x), np.hypot(x, y)
    chosen, found = [], []
    for target in 2 * np.pi * np.arange(count) / count:
        near = np.abs(np.angle(np.exp(1j * (angle - target)))) < np.pi / max(
            count, NARROWEST
        )
        near |= _outermost(boxes, middle, target)
        k = int(np.argmax(np.where(near, r, -1)))
        if not near[k] or not r[k] > 0.5 * radius:
            raise InputError(
                COUNT,
                count,
                "electrodes.at: in the direction of "
                f"{np.degrees(target):.0f} degrees there is no active cell, or none "
                "further than half a radius from the middle",
            )
        pull = 1 - 0.5 * radius / r[k]
        chosen.append(k)
        found.append([middle[0] + pull * x[k], middle[1] + pull * y[k]])
    if len(set(chosen)) < count:
        raise InputError(
            COUNT,
            count,
            f"at most {len(set(chosen))}: more would share cells of the "
            "outline (or finer cells, or electrodes.at)",
        )
    return np.array(found)


def _outermost(
    boxes: Sequence[tuple[np.ndarray, np.ndarray]],
    middle: Sequence[float],
    angle: float,
) -> np.ndarray:
    """Which cell (all False: none) a ray from the middle leaves last."""
    enter, leave = np.zeros(boxes[0][0].size), np.full(boxes[0][0].size, np.inf)
    for (low, high), m, step in zip(
        boxes, middle, (np.cos(angle), np.sin(angle)), strict=True
    ):
        if abs(step) < 1e-12:  # along the other axis
            leave[(low > m) | (high < m)] = -np.inf
            continue
        ends = np.sort([(low - m) / step, (high - m) / step], axis=0)
        enter, leave = np.maximum(enter, ends[0]), np.minimum(leave, ends[1])
    hit = leave > enter
    last = np.zeros(hit.size, bool)
    if hit.any():
        last[int(np.argmax(np.where(hit, leave, -np.inf)))] = True
    return last
