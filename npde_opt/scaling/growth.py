"""How many messages, bytes and sums a rank of a run has: fitted to runs, and for others.

With W solves times iterations on P ranks,

    R = r W,   M = W (m1 cycle(N, P) + m2 halo(P)),   B = W (b1 cycle bytes(N, P) + b2 faces(N, P))

all coefficients >= 0, fitted by least squares of relative errors. A halo is one exchange with every
neighbour, faces are the bytes in it. One rank has none of them. The cycle is the one of the two
that fits better:

    planes    counted on the boxes that it would have, by the rules that the cycle itself follows
              (linear/planes/expected.py): few cells a rank lie on fewer ranks
    levels    of which all lie on all ranks, as those of the recipe `geometric`: on each an exchange
              with all ranks around, those at corners too
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.optimize import nnls

from npde_opt.grids.cuts import as_petsc_cuts
from npde_opt.linear.planes import expected
from npde_opt.scaling.collect import Row

VALUE = 8.0
"""Bytes of an unknown."""
CYCLES = PLANES, LEVELS = 1, 2
"""Columns of `traffic`; that of a halo is the first one."""


@dataclass(frozen=True)
class Size:
    """What is predicted: unknowns of one state on a grid of so many axes.

    Attributes:
        grid: cells along each axis; empty: of a cube with as many cells as unknowns.
    """

    unknowns: float
    axes: int
    ranks: int
    groups: int = 1
    grid: tuple[int, ...] = ()

    @property
    def space(self) -> int:
        """Ranks that share one grid."""
        return self.ranks // self.groups

    @property
    def load(self) -> float:
        """Unknowns on a rank."""
        return self.unknowns / self.space

    @property
    def shape(self) -> tuple[int, ...]:
        """Cells along each axis."""
        side = max(1, round(self.unknowns ** (1 / self.axes)))
        return self.grid or (side,) * self.axes


@dataclass(frozen=True)
class Counts:
    """Of one rank in a whole run."""

    work: float
    reductions: float
    messages: float
    bytes: float


def size_of(row: Row) -> Size:
    """Of a run; a grid that is the case's own counts as one with two axes."""
    run = row.run
    return Size(row.unknowns, len(run.grid) or 2, run.ranks, run.groups, run.grid)


def counts_of(row: Row) -> Counts:
    """As PETSc counted them. A group does its share of the solves."""
    work = row.work / row.run.groups
    return Counts(work, row.reductions(), row.messages(), row.bytes())


@lru_cache(maxsize=4096)
def _cut(shape: tuple[int, ...], ranks: int) -> tuple[tuple[int, ...], ...]:
    return as_petsc_cuts(shape, ranks)


def _beside(size: Size) -> list[int]:
    """By axis, neighbours of the rank that has the most."""
    return [min(len(c) - 1, 2) for c in _cut(size.shape, size.space)]


def neighbours(size: Size) -> int:
    """Ranks that share a face with the one that has the most."""
    return sum(_beside(size))


@lru_cache(maxsize=4096)
def together(size: Size) -> float:
    """Messages sent and received of an exchange along an axis, the mean of the axes that are
    cut."""
    cut = [n for n in _beside(size) if n]
    return 2 * sum(cut) / len(cut) if cut else 1.0


def surface(size: Size) -> float:
    """Unknowns of the faces that a rank shares with others, sent and received ones counted
    once."""
    return _faces(size, [max(c) for c in _cut(size.shape, size.space)])


def _faces(size: Size, most: list[int]) -> float:
    """The same of a box of so many cells along each axis."""
    cells = sum(
        n * math.prod(most[:d] + most[d + 1 :]) for d, n in enumerate(_beside(size))
    )
    return cells * size.unknowns / math.prod(size.shape)


@lru_cache(maxsize=4096)
def _cycle(shape: tuple[int, ...], ranks: int) -> tuple[int, int]:
    if len(shape) == 1 or ranks == 1:
        return 0, 0
    walls = (False,) * len(shape)
    return expected.most(_cut(shape, ranks), walls, expected.axes_halved(shape))


def _levels(size: Size) -> tuple[int, float]:
    """One exchange on every level, where all lie on all ranks: messages, and bytes."""
    if size.space == 1:
        return 0, 0.0
    around = math.prod(n + 1 for n in _beside(size)) - 1
    most = [max(c) for c in _cut(size.shape, size.space)]
    halved = expected.axes_halved(size.shape)
    faces = _faces(size, most)
    for axes in halved:
        pairs = zip(most, axes, strict=True)
        most = [-(-n // 2) if half else n for n, half in pairs]
        faces += _faces(size, most)
    return 2 * around * (1 + len(halved)), 2 * VALUE * faces


@lru_cache(maxsize=4096)
def traffic(size: Size) -> np.ndarray:
    """[messages or bytes, of a halo or of a cycle of each of CYCLES]; not to be changed."""
    halo = 2 * neighbours(size), 2 * VALUE * surface(size)
    planes = _cycle(size.shape, size.space)
    return np.array([halo, planes, _levels(size)]).T


@dataclass(frozen=True)
class Growth:
    """How counts follow from the size.

    Attributes:
        work: solves times iterations, the mean of the runs.
        sent: coefficients [messages or bytes, as in `traffic`].
    """

    work: float
    reductions: float
    sent: np.ndarray

    def at(self, size: Size) -> Counts:
        """Of a run of this size."""
        work = self.work / size.groups
        sums = self.reductions * work if size.ranks > 1 else 0.0
        messages, amount = (self.sent * traffic(size)).sum(axis=1)
        return Counts(work, sums, work * float(messages), work * float(amount))


def growth(rows: Sequence[Row]) -> Growth:
    """Fitted to what was counted, in runs with a log."""
    known = [(size_of(r), counts_of(r)) for r in rows if r.stages]
    works = [r.work for r in rows if r.stages]
    sums = [c.reductions / c.work for s, c in known if s.ranks > 1]
    cut = [(s, c) for s, c in known if s.space > 1]
    sent = min((_of_cycle(cut, c) for c in CYCLES), key=lambda found: found[1])[0]
    return Growth(float(np.mean(works)), float(np.mean(sums)) if sums else 0.0, sent)


def _of_cycle(
    cut: Sequence[tuple[Size, Counts]], cycle: int
) -> tuple[np.ndarray, float]:
    """Coefficients of a halo and of this cycle, and the square of their relative errors."""
    found, missed = np.zeros((2, 1 + len(CYCLES))), 0.0
    if not cut:
        return found, missed
    columns = [0, cycle]
    parts = np.array([traffic(s)[:, columns] for s, _ in cut])
    told = np.array([(c.messages / c.work, c.bytes / c.work) for _, c in cut])
    alone = len({s for s, _ in cut}) == 1
    for k in range(2):
        found[k, columns], error = _fitted(parts[:, k], told[:, k], alone)
        missed += error
    return found, missed


def _fitted(
    parts: np.ndarray, told: np.ndarray, alone: bool
) -> tuple[np.ndarray, float]:
    """Coefficients of [run, part], one for both where runs of one size tell no more, and the square
    of their relative errors."""
    sent = told > 0
    if not sent.any():
        return np.zeros(2), 0.0
    relative = parts[sent] / told[sent, None]
    if alone:
        return np.full(2, 1 / relative.sum(axis=1).mean()), 0.0
    found, error = nnls(relative, np.ones(len(relative)))
    return found, error**2
