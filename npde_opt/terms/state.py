"""A state of several species at one time, and the cotangents of coefficients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from npde_opt.grids import Grid


def channels(grid: Grid, count: int) -> np.ndarray:
    """A zero array [c, i, j, k] whose channels are each stored x fastest."""
    shape = grid.local_shape[::-1]
    return np.zeros((count, *shape)).transpose(0, *range(grid.dim, 0, -1))


class State:
    """Values [c, i, j, k] of the owned cells at time t; ghosts are fetched when first asked for,
    and kept.

    Args:
        outside: a ghosted field of boundary values for each species, or None for zero.
        middle: of the time step that the state belongs to, which says on which side of a jump of a
            history it is.
    """

    def __init__(
        self,
        grid: Grid,
        u: np.ndarray,
        t: float = 0.0,
        outside: Sequence[np.ndarray | None] | None = None,
        middle: float | None = None,
    ):
        self.grid, self.u, self.t, self._outside = grid, u, t, outside
        self.middle = t if middle is None else middle
        self._ghosted: dict[int, np.ndarray] = {}

    def moved(self, change: np.ndarray) -> State:
        """u + change at the same time."""
        return State(self.grid, self.u + change, self.t, self._outside, self.middle)

    def ghosted(self, c: int) -> np.ndarray:
        """Species c with one ghost cell all round. Collective at the first call."""
        if c not in self._ghosted:
            found = self.grid.ghosted(self.u[c])
            outside = self._outside[c] if self._outside is not None else None
            if outside is not None:
                found += outside
            self._ghosted[c] = found
        return self._ghosted[c]


class Summed(Protocol):
    """A block of parameters, for whose coefficient cotangents are added up."""

    def cotangent(self, value: Any) -> Any:
        """A term's cotangent in the form in which they are added."""


class Gradients:
    """This rank's part of the cotangents of the unknown coefficients, in the form in which each
    block adds them up.

    Args:
        blocks: the blocks of the unknowns. Cotangents of other coefficients are dropped.
    """

    def __init__(self, blocks: Mapping[str, Summed]):
        self.blocks = blocks
        self.values: dict[str, Any] = {}

    def add(self, name: str, value: Any) -> None:
        if name not in self.blocks:
            return
        value = self.blocks[name].cotangent(value)
        self.values[name] = self.values[name] + value if name in self.values else value

    def subtract(self, other: Gradients) -> None:
        for name, value in other.values.items():
            self.add(name, -value)


SAMPLE = 1024
"""Cells a rank whose rates are looked at within a trajectory; at its first and last state all
are."""


def sample(field: np.ndarray, start: int = 0) -> np.ndarray:
    """Every so many of a rank's cells, from one of the first on, which changes with `start`. The
    distance is odd, as numbers of cells along axes are often even."""
    flat = np.ravel(field, order="F")
    every = max(flat.size // SAMPLE, 1) | 1
    return flat[start % every :: every]
