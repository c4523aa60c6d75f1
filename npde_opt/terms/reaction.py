"""c u, integrated over cells: volume * c * u."""

from __future__ import annotations

import numpy as np

from npde_opt.grids import Grid
from npde_opt.terms.interface import Coefficients


class Reaction:
    """Linear reaction with the cell field named `coefficient`."""

    symmetric = True

    def __init__(self, grid: Grid, coefficient: str = "c"):
        self.grid, self.name = grid, coefficient

    @property
    def coefficients(self) -> tuple[str, ...]:
        return (self.name,)

    def at(self, coefficients: Coefficients) -> ReactionAt:
        return ReactionAt(self, coefficients)


class ReactionAt:
    """Reaction at given c."""

    def __init__(self, term: Reaction, coefficients: Coefficients):
        self.name, self.volume, self.c = term.name, term.grid.volume, coefficients[term.name]
        self.inner = (slice(1, -1),) * term.grid.dim

    def add_stencil(self, values: np.ndarray) -> None:
        values[0] += self.volume * self.c

    def boundary_load(self, outside: np.ndarray) -> np.ndarray | float:
        return 0.0

    def derivative(self, u: np.ndarray, dk: Coefficients) -> np.ndarray | float:
        return self.volume * dk[self.name] * u[self.inner] if self.name in dk else 0.0

    def contraction(self, pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
        return {self.name: self.volume * sum(a[self.inner] * u[self.inner] for a, u in pairs)}

    def second_contraction(self, pairs: list[tuple[np.ndarray, np.ndarray]], dk: Coefficients) -> dict[str, np.ndarray]:
        return {}
