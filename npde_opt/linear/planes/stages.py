"""Levels of the V-cycle (cycle.py), and the ranks that they lie on: fine ones on all; where a rank
has few cells of a level left, this and all below lie on fewer ranks, at last on one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from npde_opt.lazily import loaded_lazily
from npde_opt.linear.planes.between import (
    Lines,
    coarse_active,
    galerkin,
    prolongation,
    restriction,
)
from npde_opt.linear.planes.boxes import Box, Exchange
from npde_opt.linear.planes.gathering import Gathering, on_the_same_ranks
from npde_opt.linear.planes.levels import (
    SINGLE,
    Planes,
    Shape,
    axes_halved,
    dense,
    widened,
)
from npde_opt.linear.planes.messages import calls
from npde_opt.linear.planes.runs import CHUNK
from npde_opt.linear.planes.whole import CELLS, Whole
from npde_opt.machine_code import Kept, Repeated
from npde_opt.operators.patterns import Offset

if TYPE_CHECKING:
    from npde_opt.linear.planes import sweeps
else:
    sweeps = loaded_lazily("npde_opt.linear.planes.sweeps")

LOOPS = "npde_opt.linear.planes.galerkin_loops"
TAKE = Kept(LOOPS, "take", float)
COARSEN, FINISH = Kept(LOOPS, "coarsen"), Kept(LOOPS, "finish")

Precision = type[np.floating] | type[float]

PART = 2.0
"""The smoother works on eigenvalues down to their bound over this times the axes: waves that the
next level has not, which are long along all axes but one, have such."""


LEAST = 1e-6
"""Eigenvalues of the coarsest matrix below are roundings of single precision, its diagonal 1."""
SMALL = 32
"""Rows of matrices that are inverted as they are."""


class PlaneLevel:
    """A rank's box of one level: its stencil, and the fields that a cycle works on.

    Args:
        active: the owned active cells [k, j, i]; None for all.
        precision: of all of them.
        skips: as in Shape.

    Collective.
    """

    def __init__(
        self,
        box: Box,
        offsets: Sequence[Offset],
        active: np.ndarray | None = None,
        precision: Precision = SINGLE,
        skips: bool = True,
    ):
        self.active = None if active is None else box.spread(active)
        """With ghosts."""
        how = offsets, box.inner, self.active, skips
        shape = self.shape = Shape(box.cells, box.wraps, *how)
        self.box, self.precision = box, precision
        self.bounds = 0.0, 0.0
        """Of eigenvalues of D^-1 A, two: the smaller one over all ranks holds."""
        self.A = shape.couplings(precision)
        self.inverse = shape.zeros(precision)
        # Of what lies outside, too.
        self.inverse[...] = 1
        self.factors = (precision(0), precision(0), precision(0))
        self.v = np.zeros(CHUNK, precision)
        self._coarsen, self._finish = Repeated(COARSEN), Repeated(FINISH)
        self._exchanges = dict[int, tuple[np.ndarray, Exchange]]()
        """With the fields, so that no other one gets the number of one of them."""

    @cached_property
    def b(self) -> np.ndarray:
        return self.shape.zeros(self.precision)

    @cached_property
    def x(self) -> np.ndarray:
        return self.shape.zeros(self.precision)

    @cached_property
    def y(self) -> np.ndarray:
        return self.shape.zeros(self.precision)

    def free(self) -> None:
        """Drops the work of a cycle."""
        for name in ("b", "x", "y"):
            self.__dict__.pop(name, None)
        self._exchanges.clear()

    def drop(self) -> None:
        """Drops the values, too: no cycle goes over this level any more."""
        self.free()
        self.A = self.inverse = np.empty((0, 0), self.precision)

    def take(
        self, planes: Planes, before: np.ndarray, scale: float, sums: np.ndarray
    ) -> None:
        """New values, of the finest level, from planes with ghosts, times `scale`; sums = A 1."""
        centre, *couplings = (planes[o].reshape(-1) for o in self.shape.offsets)
        given = centre, tuple(couplings), before, scale
        found = self.A, self.y, self.inverse, sums
        work = np.empty((3, self.shape.cells[0]))
        bound = float(TAKE(*given, *found, self.shape.whole, work))
        self.bounds = bound, bound
        for field in (*self.values(), self.inverse):
            self.shape.wrap(field)

    def values(self) -> list[np.ndarray]:
        """Couplings and, while values are new, the diagonal."""
        return [*self.A, self.y]

    def take_from_above(self) -> None:
        """New values of the level below, at owned cells."""
        shape, below = self.shape, self._below
        fine = self.A, self.y, shape.geometry
        coarse = below.A, below.y, below.shape.geometry
        work = np.empty((3, shape.cells[0] + 2), self.precision)
        self._coarsen(*fine, *self._galerkin, *coarse, work)

    def complete(self) -> None:
        """What follows from values at owned cells. Collective."""
        shape = self.shape
        if self.box.is_cut:
            self.box.exchange(*(shape.view(field) for field in self.values()))
        for field in self.values():
            shape.wrap(field)
        given = self.A, self.y, shape.steps, self.inverse, shape.whole
        work = np.empty((4, shape.cells[0]), self.precision)
        bounds = np.empty(2)
        self._finish(*given, np.empty_like(self.y), work, bounds)
        self.bounds = float(bounds[0]), float(bounds[1])
        shape.wrap(self.inverse)

    def planes(self) -> Planes:
        """The values, owned [k, j, i] by offset."""
        centre, *others = self.shape.offsets
        found = {o: self.inner(self.A[n]).astype(float) for n, o in enumerate(others)}
        return {centre: 1 / self.inner(self.inverse).astype(float), **found}

    def take_bounds(self, bounds: Sequence[float] | np.ndarray) -> None:
        """The coefficients of Chebyshev's recursion, from the bounds over all ranks."""
        high = float(min(bounds))
        low = high / (PART * len(self.shape.cells))
        middle, half = (high + low) / 2, (high - low) / 2
        ratio = middle / half
        rho = 1 / (2 * ratio - 1 / ratio)
        factors = 1 / middle, rho / ratio, 2 * rho / half
        begin, a, c = (self.precision(factor) for factor in factors)
        self.factors = begin, a, c

    def link(self, below: PlaneLevel, halved: Lines) -> None:
        """The next level."""
        self._below = below
        between = (self.box, below.box), (self.shape, below.shape), halved
        self.restriction = restriction(*between)
        self.prolongation = prolongation(*between)
        self._galerkin = galerkin(self.box, below.box, halved)
        self.row, self.row_below = (
            np.zeros(shape.cells[0] + 2, SINGLE) for shape in (self.shape, below.shape)
        )

    def inner(self, field: np.ndarray) -> np.ndarray:
        """The owned cells [k, j, i] of a field."""
        found: np.ndarray = self.shape.view(field)[self.box.inner]
        return found

    def exchange(self, field: np.ndarray) -> None:
        """Ghosts of a field that is kept until `free`. Collective."""
        if not self.box.is_cut:
            return
        if id(field) not in self._exchanges:
            kept = field, self.box.kept(self.shape.view(field))
            self._exchanges[id(field)] = kept
        self._exchanges[id(field)][1].run()
        self.shape.wrap(field)

    def down(self) -> None:
        """x = q(D^-1 A) D^-1 b, and b of the next level."""
        self.exchange(self.b)
        values = self.A, self.inverse, self.b, self.x, self._below.b
        how = self.factors, self.restriction, self.shape.geometry
        sweeps.down(*values, *how, self.y, self.v, self.row)

    def up(self) -> tuple[float, float]:
        """x := x + P e, x := x + q(D^-1 A) D^-1 (b - A x); own parts of b^T x and x^T x."""
        self._below.exchange(self._below.x)
        values = self.A, self.inverse, self.b, self.x, self._below.x
        how = self.factors, self.prolongation, self.shape.geometry
        return sweeps.up(*values, *how, self.y, self.v, self.row_below)


class Stage:
    """The levels on the same ranks, from one down to the coarsest or to one on fewer ranks.

    Args:
        box: of the first level.
        offsets: of its stencil.
        halved: by level, which axes are halved to the next one, and how.
        active: the owned active cells [k, j, i]; None for all.

    Collective on these ranks.
    """

    def __init__(
        self,
        box: Box,
        offsets: Sequence[Offset],
        halved: Sequence[Lines],
        active: np.ndarray | None = None,
    ):
        self.levels = [PlaneLevel(box, offsets, active)]
        boxes = on_the_same_ranks(box, axes_halved(halved))
        for n, (along, below) in enumerate(zip(halved, boxes[1:], strict=False)):
            offsets = widened(offsets, along)
            fine, box = box, below
            above = self.levels[-1].active
            if above is not None:
                active = coarse_active(above, (fine, box), along)
            # The coarsest matrix is of all cells.
            last = n + 1 == len(halved)
            self.levels.append(PlaneLevel(box, offsets, None if last else active))
            self.levels[-2].link(self.levels[-1], along)
        own = len(self.levels) - 1
        self.inverse: np.ndarray = np.empty((0, 0))
        last = own == len(halved)
        self._gathering = Gathering(box, last) if box.is_cut else None
        self._rest: Stage | None = None
        self._whole: Whole | None = None
        """The cycle in one call."""
        self._is_renewed = False
        """Whether it has the present values."""
        if self._gathering is None:
            return
        if active is not None and not last:
            found = self._gathering.gather(active.astype(SINGLE))
            active = None if found is None else found > 0
        if self._gathering.box is not None:
            rest = offsets, halved[own:], None if last else active
            self._rest = Stage(self._gathering.box, *rest)

    def free(self) -> None:
        """Drops the first level's work, and the table that has it."""
        self.levels[0].free()
        self._whole = None

    def drop(self) -> None:
        """Keeps nothing but the first level's shape: other levels are in use for good."""
        self._whole = None
        for level in self.levels:
            level.drop()
        self.levels, self._rest = self.levels[:1], None
        self.inverse = np.empty((0, 0))

    def refine(self) -> None:
        """New values of all levels below the first. Collective."""
        self._is_renewed = False
        first, last = self.levels[0], self.levels[-1]
        for level in self.levels[:-1]:
            if level is not first:
                level.complete()
            level.take_from_above()
        if self._gathering is None:
            if last is not first:
                last.complete()
            self.inverse = invert(last, LEAST)
            return
        found = self._gathering.gather(
            np.stack([last.inner(field) for field in last.values()])
        )
        if self._rest is not None and found is not None:
            top = self._rest.levels[0]
            for field, values in zip(top.values(), found, strict=True):
                top.inner(field)[...] = values
            top.complete()
            self._rest.refine()

    def bounds(self, count: int) -> np.ndarray:
        """Of eigenvalues, [level, 2], as far as they are known here; 0 elsewhere."""
        own = np.reshape([level.bounds for level in self.levels[:-1]], (-1, 2))
        rest = count - len(own)
        more = np.zeros((rest, 2)) if self._rest is None else self._rest.bounds(rest)
        return np.concatenate([own, more])

    def take_bounds(self, bounds: np.ndarray) -> None:
        """Those over all ranks."""
        for level, most in zip(self.levels[:-1], bounds, strict=False):
            level.take_bounds(most)
        if self._rest is not None:
            self._rest.take_bounds(bounds[len(self.levels) - 1 :])

    def cycle(self) -> tuple[float, float]:
        """x of the first level from its b; own parts of b^T x and x^T x. Collective."""
        whole = self.in_one_call
        if whole is not None:
            return whole.run()
        for level in self.levels[:-1]:
            level.down()
        self._solve_last()
        found = 0.0, 0.0
        for level in self.levels[-2::-1]:
            found = level.up()
        return found

    @property
    def in_one_call(self) -> Whole | None:
        """The cycle with the present values, where it is one call: levels are so small that their
        fields are kept, and loops can send messages where there are any."""
        if not self._is_one_call:
            return None
        if self._whole is None or not self._whole.goes_over(self.levels[0]):
            self._whole = Whole(self.parts(), len(self.coarsest_inverse))
            self._is_renewed = False
        if not self._is_renewed:
            self._whole.renew(self.coarsest_inverse)
            self._is_renewed = True
        return self._whole

    @property
    def _is_one_call(self) -> bool:
        if self._gathering is None and len(self.levels) == 1:
            return False
        small = self.levels[0].shape.size <= CELLS
        return small and (self._gathering is None or calls() is not None)

    def parts(self) -> list[tuple[PlaneLevel, Gathering | None]]:
        """The levels that this rank has a part of, on all of these ranks and on fewer, and what
        gathers the last one of each."""
        found = [(level, None) for level in self.levels[:-1]]
        own = [*found, (self.levels[-1], self._gathering)]
        return own if self._rest is None else own + self._rest.parts()

    @property
    def coarsest_inverse(self) -> np.ndarray:
        """Empty where another rank has it."""
        return self.inverse if self._rest is None else self._rest.coarsest_inverse

    def _solve_last(self) -> None:
        last = self.levels[-1]
        if self._gathering is None:
            given = np.empty(len(self.inverse))
            last.shape.take(last.b, 1.0, given)
            last.shape.put(self.inverse @ given, 1.0, last.x)
            return
        found = self._gathering.gather(last.inner(last.b))
        solution = None
        if self._rest is not None and found is not None:
            first = self._rest.levels[0]
            first.inner(first.b)[...] = found
            self._rest.cycle()
            solution = first.inner(first.x)
        self._gathering.scatter(solution, last.inner(last.x))


def invert(level: PlaneLevel, least: float) -> np.ndarray:
    """The inverse of a level's matrix, dense; NaN where it has none.

    Args:
        least: eigenvalues below are roundings, its diagonal 1.
    """
    return inverted(dense(level.planes(), level.box.periodic), least)


def inverted(A: np.ndarray, least: float) -> np.ndarray:
    """As `invert`, of an array."""
    size = np.sqrt(np.abs(np.diagonal(A)))
    scaled = A / size[:, None]
    scaled /= size
    try:
        found = _definite_inverse(scaled, least)
    except np.linalg.LinAlgError:
        return np.full_like(A, np.nan)
    found /= size[:, None]
    found /= size
    return found


def _definite_inverse(S: np.ndarray, least: float) -> np.ndarray:
    """Of a matrix of diagonal 1 that is positive definite but for rounding: what reactions and
    masses add where nothing else holds the mean may be less than the rounding of its values."""
    found = inverse_by_halves(S)
    # An eigenvalue of it is no larger than a sum of a row.
    if found is not None and np.abs(found).sum(axis=1).max() * least < 1:
        return found
    diagonal = np.einsum("ii->i", S)
    whole = diagonal.copy()
    try:
        diagonal -= least
        np.linalg.cholesky(S)
    except np.linalg.LinAlgError:
        found = None
    diagonal[...] = whole
    if found is not None:
        return found
    values, vectors = np.linalg.eigh(S)
    return np.asarray((vectors / np.maximum(values, least)) @ vectors.T)


def inverse_by_halves(S: np.ndarray) -> np.ndarray | None:
    """Of a symmetric positive definite matrix, in half the time of one that may be any:

    [P Q; Q^T R]^-1 = [P^-1 + U T^T, -U; -U^T, C^-1],   T = P^-1 Q, C = R - Q^T T, U = T C^-1

    None where it is not positive definite, as it is where P and C are.
    """
    half = len(S) // 2
    if half < SMALL:
        return _small_inverse(S)
    Q = S[:half, half:]
    P_inverse = inverse_by_halves(S[:half, :half])
    if P_inverse is None:
        return None
    T = P_inverse @ Q
    C_inverse = inverse_by_halves(S[half:, half:] - Q.T @ T)
    if C_inverse is None:
        return None
    U = T @ C_inverse
    found = np.empty_like(S)
    np.add(P_inverse, U @ T.T, out=found[:half, :half])
    np.negative(U, out=found[:half, half:])
    found[half:, :half] = found[:half, half:].T
    found[half:, half:] = C_inverse
    return found


def _small_inverse(S: np.ndarray) -> np.ndarray | None:
    """None where it is not positive definite."""
    try:
        np.linalg.cholesky(S)
        return np.asarray(np.linalg.inv(S))
    except np.linalg.LinAlgError:
        return None
