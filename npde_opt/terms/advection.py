"""v . grad u with a known constant velocity, integrated over cells. It makes the operator
non-symmetric.

upwind   first order: along each axis area * |v| * (u - u_upwind); where there is no upwind
         neighbour the value of a Dirichlet or Robin side enters, and at Neumann sides nothing
         flows in
central  second order: area * v * (u_upper face - u_lower face) with the mean of the neighbours at
         a face, the value of a Dirichlet or Robin side there, and the cell's own value at Neumann
         sides
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npde_opt.aliases import Coefficients
from npde_opt.errors import InputError
from npde_opt.grids import Grid, along, of_cells
from npde_opt.terms.diffusion import Diffusion, add_exchange, sides
from npde_opt.terms.interface import LinearAt, LinearTerm, Planes, Rates, Species


class Advection(LinearTerm):
    """Advection with velocity (v_x, v_y, ...) in length per unit of time; `scheme` 'upwind' or
    'central'."""

    columns = True

    def __init__(
        self, grid: Grid, velocity: Sequence[float], scheme: str = "upwind", species: Species = None
    ):
        super().__init__(grid, species)
        if len(velocity) != grid.dim or not np.isfinite(velocity).all():
            raise InputError("velocity", list(velocity), f"{grid.dim} numbers")
        if scheme not in ("upwind", "central"):
            raise InputError("advection scheme", repr(scheme), "upwind, central")
        self.velocity, self.scheme = tuple(float(v) for v in velocity), scheme
        diffusion = Diffusion(grid)
        areas = [diffusion.areas(d) for d in range(grid.dim)]
        self.rates = [
            self._upwind(v, a, d) if scheme == "upwind" else self._central(v, a, d, diffusion)
            for d, (v, a) in enumerate(zip(self.velocity, areas, strict=True))
        ]

    @staticmethod
    def _upwind(v: float, area: np.ndarray, d: int) -> tuple[np.ndarray, np.ndarray]:
        lower, upper = sides(area, d)
        return (v * lower, np.zeros_like(upper)) if v > 0 else (np.zeros_like(lower), -v * upper)

    @staticmethod
    def _central(
        v: float, area: np.ndarray, d: int, diffusion: Diffusion
    ) -> tuple[np.ndarray, np.ndarray]:
        share = np.full(area.shape[d], 0.5)
        for _, face, here in diffusion.outer_faces(d):
            if here and not diffusion.grid.periodic(d):
                share[face] = 1.0
        lower, upper = sides(v * area * along(share, d, area.ndim), d)
        return lower, -upper

    def at(self, coefficients: Coefficients) -> AdvectionAt:
        return AdvectionAt(self)


class AdvectionAt(LinearAt):
    """r = sum of rate (u - u_neighbour) over the lower and upper neighbours along each axis."""

    term: Advection

    def __init__(self, term: Advection):
        self.term = term

    def add_planes(self, planes: Planes) -> None:
        for d, (lower, upper) in enumerate(self.term.rates):
            add_exchange(planes, d, lower, upper)

    def rates(self) -> Rates:
        grid, upwind = self.term.grid, self.term.scheme == "upwind"
        found = Rates.none(grid.dim)
        found.velocity = list(self.term.velocity)
        found.central = not upwind and any(self.term.velocity)
        for d, v in enumerate(self.term.velocity if upwind else ()):
            found.diffusive[d] = abs(v) / along(grid.widths[d][grid.local_slice[d]], d, grid.dim)
        return found

    def boundary_load(self, outside: np.ndarray) -> np.ndarray | float:
        load: np.ndarray | float = 0.0
        inner = [slice(1, -1)] * self.term.grid.dim
        for d, (lower, upper) in enumerate(self.term.rates):
            below, above = inner.copy(), inner.copy()
            below[d], above[d] = slice(0, -2), slice(2, None)
            load = load + lower * outside[of_cells(below)] + upper * outside[of_cells(above)]
        return load
