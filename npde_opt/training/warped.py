"""Pictures between their cells, and the smooth random fields that bend them,

    d(y, x) = sum_ab B_a(y) B_b(x) p_ab / |B|,    p_ab normal,

B cubic B-splines WIDTH cells wide, |B| such that d has standard deviation 1 on the whole.
"""

from __future__ import annotations

import numpy as np

WIDTH = 6.0
"""Cells between two bumps: as wide as a stroke's bend in a digit of 20 cells."""


class Bumps:
    """Smooth random fields on a picture of this shape [j, i]."""

    def __init__(self, shape: tuple[int, ...]):
        self._along = [bumps(n) for n in shape]

    def field(self, rng: np.random.Generator) -> np.ndarray:
        """[j, i]"""
        down, across = self._along
        drawn = rng.standard_normal((down.shape[1], across.shape[1]))
        found: np.ndarray = down @ drawn @ across.T
        return found


def bumps(count: int) -> np.ndarray:
    """B at so many cells [cell, bump], of a mean square of 1."""
    number = int(np.ceil((count - 1) / WIDTH)) + 3
    away = np.abs(np.arange(count)[:, None] / WIDTH - np.arange(-1, number - 1))
    near = 2 / 3 - away**2 * (1 - away / 2)
    far = np.maximum(2 - away, 0.0) ** 3 / 6
    found = np.where(away < 1, near, far)
    return np.asarray(found / np.sqrt((found**2).sum(axis=1).mean()))


def between(values: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """[sample, channel, 1, j, i] at rows y and columns x [sample, j, i] that lie between cells:
    linear in both axes, 0 outside."""
    samples, channels, _, rows, columns = values.shape
    padded = np.zeros((channels, samples, rows + 3, columns + 3), values.dtype)
    padded[:, :, 1 : rows + 1, 1 : columns + 1] = values[:, :, 0].swapaxes(0, 1)
    y, x = np.clip(y + 1, 0, rows + 1), np.clip(x + 1, 0, columns + 1)
    j, i = y.astype(np.int64), x.astype(np.int64)
    b, a = (y - j).astype(values.dtype), (x - i).astype(values.dtype)
    wide = columns + 3
    at = (np.arange(samples)[:, None, None] * (rows + 3) + j) * wide + i
    out = np.empty_like(values)
    for c, channel in enumerate(padded.reshape(channels, -1)):
        above, below = channel.take(at), channel.take(at + wide)
        above += a * (channel.take(at + 1) - above)
        below += a * (channel.take(at + wide + 1) - below)
        out[:, c, 0] = above + b * (below - above)
    return out
