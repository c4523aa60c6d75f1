"""v . grad u with a known constant velocity, first-order upwind, integrated over cells.

Along each axis volume * |v| / h * (u - u_upwind), with h the distance of the centres; where there is no upwind
neighbour the value of a Dirichlet side enters, and elsewhere nothing flows in. It makes the operator non-symmetric.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.terms.diffusion import Diffusion, sides
from npde_opt.terms.interface import Coefficients


class Advection:
    """Advection with velocity (v_x, v_y, ...) in length per unit of time."""

    symmetric = False

    def __init__(self, grid: Grid, velocity: Sequence[float]):
        if len(velocity) != grid.dim or not np.isfinite(velocity).all():
            raise InputError("velocity", list(velocity), f"{grid.dim} numbers")
        self.grid, self.velocity = grid, tuple(float(v) for v in velocity)
        diffusion = Diffusion(grid)
        self.areas = [diffusion.areas(d) for d in range(grid.dim)]

    @property
    def coefficients(self) -> tuple[str, ...]:
        return ()

    def at(self, coefficients: Coefficients) -> AdvectionAt:
        return AdvectionAt(self)


class AdvectionAt:
    """The upwind stencil."""

    def __init__(self, term: Advection):
        self.term = term

    def add_stencil(self, values: np.ndarray) -> None:
        for d, (v, area) in enumerate(zip(self.term.velocity, self.term.areas, strict=True)):
            lower, upper = sides(area, d)
            upwind = lower if v > 0 else upper
            values[0] += abs(v) * upwind
            values[(1 if v > 0 else 2) + 2 * d] -= abs(v) * upwind

    def boundary_load(self, outside: np.ndarray) -> np.ndarray | float:
        load: np.ndarray | float = 0.0
        inner = [slice(1, -1)] * self.term.grid.dim
        for d, (v, area) in enumerate(zip(self.term.velocity, self.term.areas, strict=True)):
            lower, upper = sides(area, d)
            neighbour = inner.copy()
            neighbour[d] = slice(0, -2) if v > 0 else slice(2, None)
            load = load + abs(v) * (lower if v > 0 else upper) * outside[tuple(neighbour)]
        return load

    def derivative(self, u: np.ndarray, dk: Coefficients) -> np.ndarray | float:
        return 0.0

    def contraction(self, pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
        return {}

    def second_contraction(self, pairs: list[tuple[np.ndarray, np.ndarray]], dk: Coefficients) -> dict[str, np.ndarray]:
        return {}
