"""The V-cycle of cycle.py on levels that follow the values, in double precision: for padding whose
cells grow, couplings of other sizes along other axes, conductors and insulators, and masks of
strips, all of which the plain levels lose.

Which cells of an axis a level keeps is told by the couplings (strength.py), and so is what the
others take from them: P is a product of one interpolation an axis, each made of the matrix that
those before left. On several ranks one of them does all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from npde_opt.lazily import loaded_lazily
from npde_opt.linear.planes import strength
from npde_opt.linear.planes.boxes import Box
from npde_opt.linear.planes.gathering import Gathering
from npde_opt.linear.planes.levels import Planes, moved
from npde_opt.linear.planes.stages import PlaneLevel, invert
from npde_opt.operators.patterns import Offset

if TYPE_CHECKING:
    from npde_opt.linear.planes import adapted_loops, rows, sweeps
else:
    adapted_loops = loaded_lazily("npde_opt.linear.planes.adapted_loops")
    rows = loaded_lazily("npde_opt.linear.planes.rows")
    sweeps = loaded_lazily("npde_opt.linear.planes.sweeps")

COARSEST = 500
"""Unknowns that are solved for at once."""
MOST = 2000
"""As many where no axis wants to be parted further; more are parted all the same."""


class Step:
    """Interpolation along one axis.

    Args:
        planes: of both of o and -o, owned by this rank alone.
        kept: numbers of the cells of axis d that are kept.
    """

    def __init__(self, planes: Planes, d: int, kept: np.ndarray, periodic: bool):
        self.d, self.kept, self.periodic = d, kept, periodic
        like = next(iter(planes.values()))
        self.shape = like.shape
        self.axis = like.ndim - 1 - d
        self.lower, self.upper = (
            np.ascontiguousarray(w).reshape(self._parted(self.shape))
            for w in strength.weights(planes, d)
        )
        coarse = list(self.shape)
        coarse[self.axis] = kept.size
        self.coarse = tuple(coarse)

    def _parted(self, shape: Sequence[int]) -> tuple[int, int, int]:
        """Cells before, along and behind the axis."""
        return (
            int(np.prod(shape[: self.axis])),
            shape[self.axis],
            int(np.prod(shape[self.axis + 1 :])),
        )

    def restrict(self, r: np.ndarray) -> np.ndarray:
        """P^T r, [k, j, i]."""
        out = np.empty(self.coarse)
        given = np.ascontiguousarray(r).reshape(self._parted(self.shape))
        how = self.lower, self.upper, self.kept, self.periodic
        adapted_loops.restrict(given, *how, out.reshape(self._parted(self.coarse)))
        return out

    def prolong(self, e: np.ndarray) -> np.ndarray:
        """P e."""
        out = np.empty(self.shape)
        given = np.ascontiguousarray(e).reshape(self._parted(self.coarse))
        how = self.lower, self.upper, self.kept, self.periodic
        adapted_loops.prolong(given, *how, out.reshape(self._parted(self.shape)))
        return out

    def galerkin(self, planes: Planes, periodic: Sequence[bool]) -> Planes:
        """P^T A P, of both of o and -o."""
        d, n = self.d, self.shape[self.axis]
        others = sorted({o[:d] + (0,) + o[d + 1 :] for o in planes})
        across = int(np.prod(self.shape)) // n
        A = np.zeros((3, len(others), n, across))
        there = np.zeros((3, len(others)), bool)
        for offset, values in planes.items():
            k = others.index(offset[:d] + (0,) + offset[d + 1 :])
            A[offset[d] + 1, k] = self._along_first(values)
            there[offset[d] + 1, k] = True
        beside = np.stack([self._beside(o, periodic) for o in others])
        lower, upper = (
            self._along_first(w.reshape(self.shape)) for w in (self.lower, self.upper)
        )
        B = np.zeros((3, len(others), self.kept.size, across))
        weights = lower, upper, self.kept
        adapted_loops.coarsen(A, there, *weights, beside, self.periodic, B)
        moved_shape = [self.coarse[self.axis]] + [
            m for a, m in enumerate(self.coarse) if a != self.axis
        ]
        found: Planes = {}
        for step, k in np.ndindex(3, len(others)):
            values = np.moveaxis(B[step, k].reshape(moved_shape), 0, self.axis)
            o = others[k]
            found[o[:d] + (step - 1,) + o[d + 1 :]] = np.ascontiguousarray(values)
        return found

    def _along_first(self, values: np.ndarray) -> np.ndarray:
        n = self.shape[self.axis]
        return np.ascontiguousarray(np.moveaxis(values, self.axis, 0)).reshape(n, -1)

    def _beside(self, other: Offset, periodic: Sequence[bool]) -> np.ndarray:
        """Numbers of cells across the axis, moved; the cell itself where there is none."""
        shape = [m for a, m in enumerate(self.shape) if a != self.axis]
        numbers = np.arange(int(np.prod(shape))).reshape(shape)
        rest = other[: self.d] + other[self.d + 1 :]
        wraps = [*periodic[: self.d], *periodic[self.d + 1 :]]
        found = moved(numbers + 1, rest, wraps) - 1
        return np.where(found < 0, numbers, found).ravel()


class AdaptedLevel(PlaneLevel):
    """A level that one rank has, and the way to the next one."""

    def __init__(
        self, box: Box, offsets: Sequence[Offset], active: np.ndarray | None = None
    ):
        super().__init__(box, offsets, active, float, skips=False)
        self.steps = list[Step]()
        none = np.zeros(0, np.int64), np.zeros((0, 1), np.int64), np.zeros((0, 1))
        numbers, line = np.zeros(5, np.int64), np.zeros(1)
        targets, taken, shares = none
        rest = targets, taken, shares, targets, np.zeros((0, 2), np.int64)
        self._nothing = False, numbers, line, line, *rest

    def set_planes(self, planes: Planes) -> None:
        """Values [k, j, i] by offset, of both of o and -o."""
        shape = self.shape
        for n, o in enumerate(shape.offsets[1:]):
            shape.view(self.A[n])[...] = planes.get(o, 0.0)
        shape.view(self._y)[...] = planes[(0,) * len(shape.cells)]
        self.complete()
        self.take_bounds(self.bounds)

    def relax(self) -> np.ndarray:
        """x = q(D^-1 A) D^-1 b; b of the next level [k, j, i]."""
        self.shape.wrap(self.b)
        values = self.A, self.inverse, self.b, self.x, self.b
        how = self._factors, self._nothing, self.shape.geometry
        sweeps.down(*values, *how, self._y, self._v, self._v)
        found = self.inner(self._y)
        for step in self.steps:
            found = step.restrict(found)
        return found

    def correct(self, e: np.ndarray) -> tuple[float, float]:
        """x := x + P e, and the sweeps after it; b^T x and x^T x."""
        for step in self.steps[::-1]:
            e = step.prolong(e)
        self.inner(self.x)[...] += e
        self.shape.wrap(self.x)
        values = self.A, self.inverse, self.b, self.x, self.b
        how = self._factors, self._nothing, self.shape.geometry
        return sweeps.up(*values, *how, self._y, self._v, self._v)


class AdaptedStage:
    """All levels.

    Args:
        box: of the finest level, whose values `take` gets.
        active: its owned active cells [k, j, i]; None for all.

    Collective.
    """

    def __init__(
        self, box: Box, offsets: Sequence[Offset], active: np.ndarray | None = None
    ):
        self.top = AdaptedLevel(box, offsets, active)
        self._offsets, self.periodic = list(offsets), box.periodic
        self._gathering = Gathering(box, last=True) if box.is_cut else None
        self.levels = list[AdaptedLevel]()
        self.inverse = np.empty((0, 0))

    def take(self, planes: Planes, scale: float) -> None:
        """Values of one of o and -o with ghosts, 0 towards what is outside, times `scale`.
        Collective."""
        own = {o: scale * v[self.top.box.inner] for o, v in planes.items()}
        box: Box | None = self.top.box
        if self._gathering is not None:
            offsets = list(own)
            found = self._gathering.gather(np.stack([own[o] for o in offsets]))
            box = self._gathering.box
            own = {} if found is None else dict(zip(offsets, found, strict=True))
        if box is not None and own:
            self._build(box, own)

    def _build(self, box: Box, half: Planes) -> None:
        planes = dict(half)
        for o, values in half.items():
            if any(o):
                minus = tuple(-s for s in o)
                planes[minus] = moved(values, minus, self.periodic)
        first = self.top if box is self.top.box else AdaptedLevel(box, self._offsets)
        self.levels = [first]
        while True:
            level = self.levels[-1]
            level.set_planes(planes)
            level.steps = list[Step]()
            axes = _axes(planes, len(level.shape.cells))
            if not axes:
                break
            for d, kept in axes.items():
                step = Step(planes, d, kept, self.periodic[d])
                planes = step.galerkin(planes, self.periodic)
                level.steps.append(step)
            shape = next(iter(planes.values())).shape[::-1]
            self.levels.append(AdaptedLevel(box.of_cells(shape), list(planes)))
        self.inverse = invert(self.levels[-1], np.finfo(float).eps)

    def cycle(self) -> tuple[float, float]:
        """x of the top from its b; own parts of b^T x and x^T x. Collective."""
        top = self.top
        if self._gathering is None:
            return self._cycle()
        found, solution = self._gathering.gather(top.inner(top.b)), None
        if found is not None:
            first = self.levels[0]
            first.inner(first.b)[...] = found
            self._cycle()
            solution = np.ascontiguousarray(first.inner(first.x))
        own = top.inner(top.x)
        values = np.empty(own.shape)
        self._gathering.scatter(solution, values)
        own[...] = values
        # The next direction is formed on a layer of ghosts, too.
        top.exchange(top.x)
        geometry = top.shape.geometry
        both, square = rows.dots(top.b, top.x, geometry, 0, len(geometry[4]))
        return float(both), float(square)

    def _cycle(self) -> tuple[float, float]:
        for level, below in zip(self.levels, self.levels[1:], strict=False):
            below.inner(below.b)[...] = level.relax()
        last = self.levels[-1]
        e = self.inverse @ last.inner(last.b).ravel()
        last.inner(last.x)[...] = e.reshape(last.inner(last.x).shape)
        found = float(e @ last.inner(last.b).ravel()), float(e @ e)
        for level, below in zip(self.levels[-2::-1], self.levels[:0:-1], strict=True):
            found = level.correct(below.inner(below.x))
        return found


def _axes(planes: Planes, dim: int) -> dict[int, np.ndarray]:
    """Axes that the next level parts, with the cells that it keeps; none where there is no next
    level."""
    diagonal = planes[(0,) * dim]
    if diagonal.size <= COARSEST:
        return {}
    active = diagonal != 0
    shares = strength.weak_shares(strength.strengths(planes, dim), active)
    cells = diagonal.shape[::-1]
    for few in (strength.FEW, 2):
        found = _fewer(strength.kept(shares, few), cells)
        if found:
            return found
    if diagonal.size <= MOST:
        return {}
    return _fewer([np.arange(0, n, 2) for n in cells], cells)


def _fewer(kept: Sequence[np.ndarray], cells: Sequence[int]) -> dict[int, np.ndarray]:
    return {
        d: k for d, (k, n) in enumerate(zip(kept, cells, strict=True)) if k.size < n
    }
