"""Points, electrodes and wells that lie in no active cell of the case's own grid: refused, put to
the nearest active cell, or dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from npde_opt.grids.locate import boxed, located, lost
from npde_opt.grids.scattered import Mask

REFUSE, SNAP, DROP = "refuse", "snap", "drop"
"""REFUSE leaves places as they are: whoever uses them refuses them."""


@dataclass(frozen=True, eq=False)
class OwnCells:
    """The cells of a case's grid, without the grid: what locate.py asks of one."""

    edges: tuple[np.ndarray, ...]
    mask: Mask | None
    periodic_axes: tuple[bool, ...]

    @property
    def dim(self) -> int:
        return len(self.edges)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(e.size - 1 for e in self.edges)

    @cached_property
    def centers(self) -> tuple[np.ndarray, ...]:
        return tuple((e[1:] + e[:-1]) / 2 for e in self.edges)

    @cached_property
    def widths(self) -> tuple[np.ndarray, ...]:
        return tuple(np.diff(e) for e in self.edges)

    def periodic(self, axis: int) -> bool:
        return self.periodic_axes[axis]


@dataclass(frozen=True, eq=False)
class Settled:
    """Where places are taken to be.

    Attributes:
        at: coordinates (n, dim).
        dropped: which of them do not count.
        said: how many were moved, and how far, or dropped; '' for none.
    """

    at: np.ndarray
    dropped: np.ndarray
    said: str = ""


def settled(
    choice: str, cells: OwnCells, at: np.ndarray, names: str | Sequence[str], what: str
) -> Settled:
    """Places as `choice` wants them, 'snap' or 'drop'.

    Args:
        what: they are, in the line.

    Raises:
        InputError: for places beyond the box that shall be put to a cell.
    """
    none = np.zeros(len(at), bool)
    if choice == SNAP:
        boxed(cells, at, names)
    away = lost(cells, at)
    if not away.any():
        return Settled(at, none)
    count = f"{what}: {int(away.sum()):,} of {len(at):,} in no active cell"
    if choice == DROP:
        return Settled(at, away, f"{count}, dropped")
    moved = np.array(at, float)
    moved[away], _ = located(cells, moved[away], names, nearest=True)
    far = np.linalg.norm(moved - at, axis=1)[away]
    way = (
        f"by {far.min():.3g} to {far.max():.3g}" if far.size > 1 else f"by {far[0]:.3g}"
    )
    return Settled(moved, none, f"{count}, put to the nearest one, {way}")
