"""Points, electrodes and wells that lie in no active cell of the case's own grid: refused, put to
the nearest active cell, or dropped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from mpi4py import MPI

from npde_opt import reductions
from npde_opt.errors import collective
from npde_opt.grids.locate import Named, boxed, located, located_here, lost
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
    """Places as `choice` wants them, 'snap' or 'drop'. Collective over the ranks of the mask.

    Args:
        what: they are, in the line.

    Raises:
        InputError: for places beyond the box that shall be put to a cell.
    """
    if choice == SNAP:
        boxed(cells, at, names)
    away = lost(cells, at)
    if choice == DROP or not away.any():
        return _told(at, at, away, what, MPI.COMM_SELF)
    moved = np.array(at, float)
    moved[away], _ = located(cells, moved[away], names, nearest=True)
    return _told(at, moved, away, what, MPI.COMM_SELF)


def settled_here(
    choice: str,
    cells: OwnCells,
    comm: MPI.Intracomm,
    at: np.ndarray,
    names: Callable[[int], str],
    what: str,
) -> Settled:
    """As `settled`, of places of which each rank has others. Collective over `comm`."""
    if choice == SNAP:
        with collective(comm):
            boxed(cells, at, Named(names))
    away = lost(cells, at)
    if choice == DROP:
        return _told(at, at, away, what, comm)
    moved = np.array(at, float)
    moved[away], _ = located_here(cells, comm, moved[away], names, nearest=True)
    return _told(at, moved, away, what, comm)


def _told(
    at: np.ndarray,
    moved: np.ndarray,
    away: np.ndarray,
    what: str,
    comm: MPI.Intracomm,
) -> Settled:
    """Places that were put elsewhere, or dropped where they are as before. Collective."""
    none = np.zeros(len(at), bool)
    count, of = reductions.total(comm, np.array([float(away.sum()), len(at)]))
    if not count:
        return Settled(at, none)
    said = f"{what}: {int(count):,} of {int(of):,} in no active cell"
    if moved is at:
        return Settled(at, away, f"{said}, dropped")
    far = np.linalg.norm(moved - at, axis=1)[away]
    least = reductions.smallest(comm, float(far.min(initial=np.inf)))
    most = reductions.largest(comm, float(far.max(initial=0.0)))
    way = f"by {least:.3g} to {most:.3g}" if count > 1 else f"by {most:.3g}"
    return Settled(moved, none, f"{said}, put to the nearest one, {way}")
