"""v . grad u with a known constant velocity, integrated over cells. It makes the operator non-symmetric.

upwind   first order: along each axis area * |v| * (u - u_upwind); where there is no upwind neighbour the value of a
         Dirichlet or Robin side enters, and at Neumann sides nothing flows in
central  second order: area * v * (u_upper face - u_lower face) with the mean of the neighbours at a face, the value of a
         Dirichlet or Robin side there, and the cell's own value at Neumann sides
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npde_opt.errors import InputError
from npde_opt.grids import Grid, along
from npde_opt.terms.diffusion import Diffusion, sides
from npde_opt.terms.interface import Coefficients


class Advection:
    """Advection with velocity (v_x, v_y, ...) in length per unit of time; `scheme` 'upwind' or 'central'."""

    symmetric = False

    def __init__(self, grid: Grid, velocity: Sequence[float], scheme: str = "upwind"):
        if len(velocity) != grid.dim or not np.isfinite(velocity).all():
            raise InputError("velocity", list(velocity), f"{grid.dim} numbers")
        if scheme not in ("upwind", "central"):
            raise InputError("advection scheme", repr(scheme), "upwind, central")
        self.grid, self.velocity, self.scheme = grid, tuple(float(v) for v in velocity), scheme
        diffusion = Diffusion(grid)
        areas = [diffusion.areas(d) for d in range(grid.dim)]
        self.rates = [self._upwind(v, a, d) if scheme == "upwind" else self._central(v, a, d, diffusion)
                      for d, (v, a) in enumerate(zip(self.velocity, areas, strict=True))]

    @staticmethod
    def _upwind(v: float, area: np.ndarray, d: int) -> tuple[np.ndarray, np.ndarray]:
        lower, upper = sides(area, d)
        return (v * lower, np.zeros_like(upper)) if v > 0 else (np.zeros_like(lower), -v * upper)

    @staticmethod
    def _central(v: float, area: np.ndarray, d: int, diffusion: Diffusion) -> tuple[np.ndarray, np.ndarray]:
        share = np.full(area.shape[d], 0.5)
        for _, face, here in diffusion.outer_faces(d):
            if here and not diffusion.grid.periodic(d):
                share[face] = 1.0
        lower, upper = sides(v * area * along(share, d, area.ndim), d)
        return lower, -upper

    @property
    def coefficients(self) -> tuple[str, ...]:
        return ()

    def at(self, coefficients: Coefficients) -> AdvectionAt:
        return AdvectionAt(self)


class AdvectionAt:
    """r = sum of rate (u - u_neighbour) over the lower and upper neighbours along each axis."""

    def __init__(self, term: Advection):
        self.term = term

    def add_stencil(self, values: np.ndarray) -> None:
        for d, (lower, upper) in enumerate(self.term.rates):
            values[0] += lower
            values[0] += upper
            values[1 + 2 * d] -= lower
            values[2 + 2 * d] -= upper

    def boundary_load(self, outside: np.ndarray) -> np.ndarray | float:
        load: np.ndarray | float = 0.0
        inner = [slice(1, -1)] * self.term.grid.dim
        for d, (lower, upper) in enumerate(self.term.rates):
            below, above = inner.copy(), inner.copy()
            below[d], above[d] = slice(0, -2), slice(2, None)
            load = load + lower * outside[tuple(below)] + upper * outside[tuple(above)]
        return load

    def derivative(self, u: np.ndarray, dk: Coefficients) -> np.ndarray | float:
        return 0.0

    def contraction(self, pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
        return {}

    def second_contraction(self, pairs: list[tuple[np.ndarray, np.ndarray]], dk: Coefficients) -> dict[str, np.ndarray]:
        return {}
