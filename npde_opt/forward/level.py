"""The level of steady states that no side and no reaction holds: of A u = b with A 1 = 0, the u
whose mean over the volume is given.

With v = volume / sum of volumes it solves [A v; v^T 0] [u; w] = [b; mean]. The first row needs a
balanced right-hand side, sum b = 0; those of derivatives are balanced by what v^T w takes:

    u = P A'^-1 P^T b,   P = 1 - 1 v^T,   A' = A + a_ii e_i e_i^T,

as for a balanced b the solution with A' is that with A which is 0 in cell i. P A'^-1 P^T is
symmetric: adjoints are solved for alike.
"""

from __future__ import annotations

import numpy as np

from npde_opt.aliases import Coefficients
from npde_opt.errors import InputError
from npde_opt.forward.equation import Equation
from npde_opt.grids import Grid
from npde_opt.reductions import smallest, total
from npde_opt.terms.interface import LinearAt, LinearTerm, Planes

BALANCED = 1e-8
"""Share of all that is driven in and out by which the two may differ."""


class Level:
    """The mean of states.

    Args:
        mean: over the volume of active cells.
    """

    def __init__(self, grid: Grid, mean: float):
        self.grid, self.mean = grid, mean
        own = np.where(grid.active, grid.volume, 0.0)
        self.weights = own / total(grid.comm, float(own.sum()))

    def _sums(self, values: np.ndarray) -> np.ndarray:
        """Of [..., i, j, k] over all cells, shaped to broadcast. Collective."""
        axes = tuple(range(values.ndim - self.grid.dim, values.ndim))
        own = np.asarray(values.sum(axis=axes))
        found = np.reshape(total(self.grid.comm, np.atleast_1d(own).ravel()), own.shape)
        return found.reshape(own.shape + (1,) * self.grid.dim)

    def check(self, rhs: np.ndarray) -> None:
        """Raises InputError for sources and fluxes that do not add up to 0. Collective."""
        sums, sizes = self._sums(rhs).ravel(), self._sums(np.abs(rhs)).ravel()
        wrong = np.abs(sums) > BALANCED * sizes
        if wrong.any():
            integral = sums[int(np.argmax(wrong))]
            said = "0, as no side and no reaction takes what is left over"
            raise InputError(
                "mean", f"sources and fluxes whose integral is {integral:.6g}", said
            )

    def balanced(self, rhs: np.ndarray) -> np.ndarray:
        """P^T b. Collective."""
        return rhs - self.weights * self._sums(rhs)

    def levelled(self, u: np.ndarray, mean: float = 0.0) -> np.ndarray:
        """P u + mean. Collective."""
        moved = u + (mean - self._sums(self.weights * u))
        return np.where(self.grid.active, moved, 0.0)


def first_active(grid: Grid) -> tuple[int, ...]:
    """The first active cell in the order of i, then j, then k. Collective."""
    own = np.argwhere(grid.active)
    number = float(grid.size)
    if own.size:
        cell = tuple(own[0] + np.asarray(grid.start))
        number = float(np.ravel_multi_index(cell, grid.shape))
    least = int(smallest(grid.comm, number))
    return tuple(int(i) for i in np.unravel_index(least, grid.shape))


class Pin(LinearTerm):
    """a_ii e_i e_i^T of the first active cell; it comes after all other terms."""

    symmetric = True
    pointwise = True
    columns = True

    def __init__(self, grid: Grid):
        super().__init__(grid)
        first = first_active(grid)
        here = all(
            s.start <= i < s.stop for i, s in zip(first, grid.local_slice, strict=True)
        )
        own = [int(i) - s.start for i, s in zip(first, grid.local_slice, strict=True)]
        self.cell = tuple(slice(i, i + 1) if here else slice(0, 0) for i in own)

    def at(self, coefficients: Coefficients) -> PinAt:
        return PinAt(self)


class PinAt(LinearAt):
    """The pin, at any coefficients: where it is, the state is 0, so that it has no derivatives."""

    term: Pin

    def __init__(self, term: Pin):
        self.term = term

    def add_planes(self, planes: Planes) -> None:
        planes[self.term.offsets[0]][self.term.cell] *= 2


def pinned(equation: Equation, mean: float) -> Equation:
    """The equation with A'.

    Raises:
        InputError: unless it is linear, symmetric and of one species.
    """
    linear = all(t.linear or t.stateless for t in equation.terms)
    if not (linear and equation.symmetric and len(equation.species) == 1):
        raise InputError("mean", mean, "a linear and symmetric equation of one species")
    grid = equation.grid
    return Equation(
        grid, [*equation.terms, Pin(grid)], equation.species, equation.gamma
    )
