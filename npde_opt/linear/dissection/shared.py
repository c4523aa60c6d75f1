"""Factors of a box whose cells lie on several ranks: every rank has all values and the factors
(factors.py), and of what it solves it keeps its own part.

    b of all ranks, in one message -> x = A^-1 b, the same on all -> own x

As PETSc's `redundant` does it, with loops that take less time on small boxes.
"""

from __future__ import annotations

import numpy as np

from npde_opt import reductions, traffic
from npde_opt.grids import Grid
from npde_opt.grids.layout import Layout
from npde_opt.linear.dissection.factors import BoxFactors, plan_of, takes
from npde_opt.linear.dissection.plan import Plan
from npde_opt.operators.halves import Planes
from npde_opt.operators.stencils import StencilMatrix


def shared_plan(grid: Grid, matrix: StencilMatrix) -> Plan | None:
    """The order for a matrix on several ranks, where factors apply and pay: not under a mask."""
    if grid.comm.size == 1 or grid.mask is not None:
        return None
    return plan_of(grid, matrix)


def own_factors_take(grid: Grid, matrix: StencilMatrix) -> bool:
    """Whether factors of our own take the values of a matrix, on any number of ranks."""
    alone_or_whole = grid.comm.size == 1 or grid.mask is None
    return alone_or_whole and takes(grid, matrix)


def shared_factors(grid: Grid, matrix: StencilMatrix) -> SharedFactors | None:
    """Factors for the values of a matrix on several ranks; None where `shared_plan` is."""
    plan = shared_plan(grid, matrix)
    return None if plan is None else SharedFactors(grid, BoxFactors(grid, plan))


class SharedFactors:
    """Of one matrix at a time. All methods are collective.

    Args:
        whole: factors of all cells of the grid.
    """

    def __init__(self, grid: Grid, whole: BoxFactors):
        self._whole, self._comm, self._dim = whole, grid.comm, grid.dim
        layouts = [Layout(grid.layout.counts, r) for r in range(grid.comm.size)]
        self._counts = [layout.local_size for layout in layouts]
        self._shape = grid.shape[::-1]
        self._places = np.concatenate([_numbers(layout) for layout in layouts])
        """Of what ranks have in turn, in the order of the whole grid, x fastest."""
        self._lie_in_order = bool(np.all(np.diff(self._places) == 1))
        """Whether ranks in turn have what the grid has in turn: boxes are cut across the last axis
        only."""
        first = sum(self._counts[: grid.comm.rank])
        self._own = self._places[first : first + grid.layout.local_size]
        self._range = slice(first, first + grid.layout.local_size)
        self._given, self._found, self._parts = (np.empty(grid.size) for _ in range(3))

    def update(self, planes: Planes) -> bool:
        """Factorizes a matrix of owned values [k, j, i] by offset; whether it is positive
        definite."""
        offsets = [tuple(int(e == d) for e in range(self._dim)) for d in range(-1, 3)]
        there = [o for o in offsets[: self._dim + 1] if o in planes]
        whole = {}
        for offset in there:
            self._gather(np.ascontiguousarray(planes[offset], float).ravel())
            whole[offset] = self._given.reshape(self._shape).copy()
        return reductions.everywhere(self._comm, self._whole.update(whole))

    def solve(self, b: np.ndarray, x: np.ndarray) -> None:
        """Own x of A x = b, x fastest; they may be one array."""
        self._gather(b)
        self._whole.solve(self._given, self._found)
        if self._lie_in_order:
            np.copyto(x, self._found[self._range])
        else:
            np.take(self._found, self._own, out=x, mode="clip")

    def _gather(self, own: np.ndarray) -> None:
        """What all ranks have, in the order of the grid."""
        traffic.summed()
        gathered = self._given if self._lie_in_order else self._parts
        self._comm.Allgatherv(own, [gathered, self._counts])
        if not self._lie_in_order:
            self._given[self._places] = self._parts


def _numbers(layout: Layout) -> np.ndarray:
    """Of the cells of a rank, x fastest."""
    found = np.zeros(1, np.int64)
    axes = zip(layout.owned()[::-1], layout.shape[::-1], strict=True)
    for own, total in axes:
        found = (found[:, None] * total + own).ravel()
    return found
