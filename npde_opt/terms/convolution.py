"""sum_s w_s u(x + s h) over a few cells, integrated over cells: r_i = |i| sum_s w_s u_{i + s}.

u is 0 outside the domain and in inactive cells; on periodic axes it goes on. Weights may vary in
space.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from npde_opt.aliases import Coefficients
from npde_opt.errors import InputError
from npde_opt.grids import Grid, of_cells
from npde_opt.grids.halo import with_halo
from npde_opt.operators.patterns import Offset
from npde_opt.terms.interface import LinearAt, LinearTerm, Pairs, Planes, Species
from npde_opt.terms.state import over_columns


class Convolution(LinearTerm):
    """A stencil of any width.

    Args:
        weights: by offset, one integer an axis: the name of a coefficient, or a number.
        species: that it acts on, or (row, column).

    Raises:
        InputError: for offsets of another length than the grid's axes.
    """

    columns = True

    def __init__(
        self, grid: Grid, weights: Mapping[Offset, str | float], species: Species = None
    ):
        super().__init__(grid, species)
        for offset in weights:
            if len(offset) != grid.dim:
                raise InputError("convolution offset", offset, f"{grid.dim} integers")
        self.weights = dict(weights)
        self.named = {o: w for o, w in self.weights.items() if isinstance(w, str)}

    @property
    def coefficients(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.named.values()))

    @property
    def offsets(self) -> tuple[Offset, ...]:
        centre = (0,) * self.grid.dim
        return tuple(dict.fromkeys((centre, *self.weights)))

    def at(self, coefficients: Coefficients) -> ConvolutionAt:
        return ConvolutionAt(self, coefficients)


def shifted(grid: Grid, values: np.ndarray, offset: Offset) -> np.ndarray:
    """Owned values_{i + offset} [i, j, k], or of columns [s, i, j, k], 0 from outside the domain.
    Collective."""
    widths = [abs(steps) for steps in offset]
    whole = with_halo(grid, values, widths)
    starts = [w + steps for w, steps in zip(widths, offset, strict=True)]
    box = [slice(a, a + n) for a, n in zip(starts, grid.local_shape, strict=True)]
    return np.asfortranarray(whole[of_cells(box)])


class ConvolutionAt(LinearAt):
    """The stencil with given weights."""

    term: Convolution

    def __init__(self, term: Convolution, coefficients: Coefficients):
        self.term, self.grid = term, term.grid
        self.inner = of_cells([slice(1, -1)] * term.grid.dim)
        self.weights = {
            o: coefficients[w] if isinstance(w, str) else w
            for o, w in term.weights.items()
        }

    def add_planes(self, planes: Planes) -> None:
        for offset, weight in self.weights.items():
            plane = planes[offset]
            plane += self.grid.volume * weight

    def derivative(self, u: np.ndarray, dk: Coefficients) -> np.ndarray | float:
        total: np.ndarray | float = 0.0
        for offset, name in self.term.named.items():
            if name in dk:
                total = total + self.grid.volume * dk[name] * shifted(
                    self.grid, u[self.inner], offset
                )
        return total

    def derivative_transpose(
        self, adjoint: np.ndarray, dk: Coefficients
    ) -> np.ndarray | float:
        total: np.ndarray | float = 0.0
        for offset, name in self.term.named.items():
            if name in dk:
                back = tuple(-o for o in offset)
                total = total + shifted(
                    self.grid, self.grid.volume * dk[name] * adjoint[self.inner], back
                )
        return total

    def contraction(self, pairs: Pairs) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        for offset, name in self.term.named.items():
            for adjoint, u in pairs:
                product = (
                    self.grid.volume
                    * adjoint[self.inner]
                    * shifted(self.grid, u[self.inner], offset)
                )
                product = over_columns(self.grid, product)
                found[name] = found[name] + product if name in found else product
        return found
