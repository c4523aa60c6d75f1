"""v . grad u, or div(v u), integrated over cells. It makes the operator non-symmetric.

With the fluxes F_f = area_f v_f through faces (upward positive) and what they carry, u_f,

    v . grad u   r = F_upper (u_upper - u) - F_lower (u_lower - u)    0 for a constant u
    div(v u)     r = F_upper u_upper - F_lower u_lower                goes from cell to cell

    upwind   first order: u_f is that of the cell that the flow comes from
    central  second order: u_f is the mean of both

At Dirichlet and Robin sides the given value is what comes in (of central differences u_f, whatever
the flow). At Neumann sides what flows out carries the cell's own u, and nothing flows in; through
faces of inactive cells nothing flows. For an incompressible v both forms are the same equation; the
discrete div v is that of the face values, 0 up to the order of their means.

v is text in x, y, z and coefficients, taken at the faces' middles; coefficients that are cell
fields enter as means of both cells, weighted by widths. Upwind rates max(F, 0) have a kink where v
= 0: their derivatives are those of both sides elsewhere, and their mean there; central differences
are linear in v.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from npde_opt.aliases import Coefficients
from npde_opt.errors import InputError, SolverError
from npde_opt.grids import AXES, Grid, along
from npde_opt.reductions import total
from npde_opt.terms.face_texts import FaceText
from npde_opt.terms.faces import closed_ends, faces, jump, sides, whole_areas
from npde_opt.terms.interface import (
    LinearAt,
    LinearTerm,
    Pairs,
    Planes,
    Rates,
    Species,
    inner,
)
from npde_opt.terms.planes import add_exchange
from npde_opt.terms.state import over_columns

SCHEMES = ("upwind", "central")


class Advection(LinearTerm):
    """Advection.

    Args:
        velocity: in length per unit of time, one an axis: a number, or text in x, y, z and
            coefficients ("v_x", "Q*y*(1 - y)"); or the name of a coefficient [d, i, j, k].
        scheme: 'upwind' or 'central'.
        conservative: div(v u) in place of v . grad u.
        field: the velocity's key in error messages. timed: texts may read the time t (see
            TimedAdvection).

    Raises:
        InputError: for another number of components, numbers that are not finite, and texts that
            are no expressions.
    """

    columns = True

    def __init__(
        self,
        grid: Grid,
        velocity: Sequence[float | str] | str,
        scheme: str = "upwind",
        species: Species = None,
        conservative: bool = False,
        field: str = "velocity",
        timed: bool = False,
    ):
        super().__init__(grid, species)
        self.vector = velocity if isinstance(velocity, str) else None
        parts = _components(grid, velocity, field)
        if scheme not in SCHEMES:
            raise InputError("advection scheme", repr(scheme), ", ".join(SCHEMES))
        self.velocity, self.scheme, self.conservative = (
            tuple(parts),
            scheme,
            conservative,
        )
        fields = [field if self.vector else f"{field}[{d}]" for d in range(grid.dim)]
        self.parts = [
            FaceText(grid, d, v, f, timed)
            for d, (v, f) in enumerate(zip(parts, fields, strict=True))
        ]
        self.texts = () if self.vector else tuple(p.text for p in self.parts if p.text)
        self.areas = [np.asfortranarray(whole_areas(grid, d)) for d in range(grid.dim)]
        self.between = [1 - closed_ends(grid, d) for d in range(grid.dim)]
        """1 at faces with a cell or a value beyond them, 0 at closed sides."""
        self._constant = None if self.coefficients or timed else AdvectionAt(self, {})

    @property
    def coefficients(self) -> tuple[str, ...]:
        if self.vector is not None:
            return (self.vector,)
        return tuple(dict.fromkeys(n for p in self.parts for n in p.parameters))

    @property
    def said(self) -> str:
        return "the velocity " + ", ".join(map(str, self.velocity))

    def at(self, coefficients: Coefficients) -> AdvectionAt:
        return self._constant or AdvectionAt(self, self.split(coefficients))

    def split(self, k: Coefficients) -> Coefficients:
        """A coefficient of all axes as one an axis."""
        if self.vector is None:
            return k
        if self.vector not in k:
            return {}
        values = np.asarray(k[self.vector])
        shape = (self.grid.dim, *self.grid.local_shape)
        if values.shape != shape:
            said = f"a field of {self.grid.dim} channels, or one velocity an axis"
            raise InputError(f"velocity {self.vector}", f"shape {values.shape}", said)
        return dict(zip(map(str, self.velocity), values, strict=True))

    def joined(self, parts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The inverse of `split`, of cotangents."""
        if self.vector is None or not parts:
            return parts
        zero = np.zeros(self.grid.local_shape)
        return {self.vector: np.array([parts.get(str(v), zero) for v in self.velocity])}


def _components(
    grid: Grid, velocity: Sequence[float | str] | str, field: str
) -> list[float | str]:
    """One an axis."""
    if isinstance(velocity, str):
        return [f"{velocity}_{a}" for a in AXES[: grid.dim]]
    if len(velocity) != grid.dim:
        raise InputError(
            field, list(velocity), f"{grid.dim} numbers or texts, one an axis"
        )
    found: list[float | str] = [v if isinstance(v, str) else float(v) for v in velocity]
    if not all(np.isfinite(v) for v in found if isinstance(v, float)):
        raise InputError(field, list(velocity), "finite numbers")
    return found


class AdvectionAt(LinearAt):
    """Advection at given coefficients.

    Attributes:
        fluxes: F by axis, at the owned cells' faces.
        weights: by axis, of F in what the cells below and above a face gain by a jump of u across
            it, and of F in what both have in div(v u).
    """

    term: Advection

    def __init__(self, term: Advection, k: Coefficients, t: float | None = None):
        self.term, self.grid = term, term.grid
        self.values = [p.at(k, t) for p in term.parts]
        self.fluxes = [self._open(v.value(), d) for d, v in enumerate(self.values)]
        self.weights = [self._weights(F, d) for d, F in enumerate(self.fluxes)]

    def _open(self, values: np.ndarray | float, d: int) -> np.ndarray:
        """Times areas; 0 at closed faces, where a velocity need not be finite."""
        area = self.term.areas[d]
        return area * np.where(area > 0, values, 0.0)

    def _weights(
        self, F: np.ndarray, d: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        between = along(self.term.between[d], d, self.grid.dim)
        if self.term.scheme == "upwind":
            above = np.heaviside(F, 0.5) * between
            return between - above, above, self._carried(F, d)
        share = np.where(closed_or_given(self.grid, d), 1.0, 0.5) * self.term.between[d]
        laid = along(share, d, self.grid.dim)
        return laid, laid, self._carried(F, d)

    def _carried(self, F: np.ndarray, d: int) -> np.ndarray:
        """1, and at closed sides where something flows out."""
        between, dim = self.term.between[d], self.grid.dim
        if not self.term.conservative or between.all():
            return along(between, d, dim)
        outward = np.ones(between.size)
        outward[0] = -1.0 if not between[0] else 1.0
        leaving = np.heaviside(F * along(outward, d, dim), 0.5)
        return np.where(along(between, d, dim) > 0, 1.0, leaving)

    @cached_property
    def exchanges(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Rates of u - u_lower and u - u_upper, by axis."""
        found = []
        for d, (F, (below, above, _)) in enumerate(
            zip(self.fluxes, self.weights, strict=True)
        ):
            found.append((sides(above * F, d)[0], sides(-below * F, d)[1]))
        return found

    def _own(self, d: int) -> np.ndarray:
        """What leaves a cell along an axis, of div(v u)."""
        lower, upper = sides(self.weights[d][2] * self.fluxes[d], d)
        return upper - lower

    def add_planes(self, planes: Planes) -> None:
        centre = planes[(0,) * self.grid.dim]
        for d, (lower, upper) in enumerate(self.exchanges):
            add_exchange(planes, d, lower, upper)
            if self.term.conservative:
                centre += self._own(d)

    @property
    def central(self) -> bool:
        return self.term.scheme != "upwind" and any(v != 0 for v in self.term.velocity)

    def rates(self) -> Rates:
        found, upwind = Rates.none(self.grid.dim), self.term.scheme == "upwind"
        found.central = self.central
        for d, F in enumerate(self.fluxes):
            area = self.term.areas[d]
            v = np.divide(F, area, out=np.zeros_like(F), where=area > 0)
            found.velocity[d] = speed = np.maximum(*map(np.abs, sides(v, d)))
            if upwind:
                h = along(
                    self.grid.widths[d][self.grid.local_slice[d]], d, self.grid.dim
                )
                found.diffusive[d] = speed / h
        return found

    def check(self, prefix: str) -> None:
        wrong = sum(int(np.count_nonzero(~np.isfinite(F))) for F in self.fluxes)
        found = int(total(self.grid.comm, float(wrong)))
        if found:
            what = f"{self.term.said} is not finite at {found} faces"
            raise SolverError(prefix, what, "Bound the parameters.")

    def boundary_load(self, outside: np.ndarray) -> np.ndarray | float:
        load: np.ndarray | float = 0.0
        dim = self.grid.dim
        for d, (lower, upper) in enumerate(self.exchanges):
            below, above = faces(outside, d, dim)
            load = (
                load
                + lower * sides(below, d - dim)[0]
                + upper * sides(above, d - dim)[1]
            )
        return load

    # ---- derivatives in the velocity -------------------------------------------------------------

    def moved(self, dk: Coefficients) -> list[np.ndarray | None]:
        """dF by axis."""
        own = self.term.split(dk)
        changes = [v.push(own) for v in self.values]
        return [None if c is None else self._open(c, d) for d, c in enumerate(changes)]

    def derivative(self, u: np.ndarray, dk: Coefficients) -> np.ndarray | float:
        return self.product(u, self.moved(dk))

    def product(
        self, u: np.ndarray, fluxes: Sequence[np.ndarray | None]
    ) -> np.ndarray | float:
        """A u, or its change with that of the fluxes, of a ghosted u."""
        result: np.ndarray | float = 0.0
        dim = self.grid.dim
        for d, F in enumerate(fluxes):
            if F is None:
                continue
            below, above, carried = self.weights[d]
            gained = F * jump(u, d, dim)
            result = result + sides(above * gained, d - dim)[0]
            result = result + sides(below * gained, d - dim)[1]
            if self.term.conservative:
                lower, upper = sides(carried * F, d)
                result = result + (upper - lower) * inner(u, dim)
        return result

    def derivative_transpose(
        self, adjoint: np.ndarray, dk: Coefficients
    ) -> np.ndarray | float:
        return self.transposed(adjoint, self.moved(dk))

    def transposed(
        self, adjoint: np.ndarray, fluxes: Sequence[np.ndarray | None]
    ) -> np.ndarray | float:
        """A^T lambda, or its change with that of the fluxes, of a ghosted lambda."""
        result: np.ndarray | float = 0.0
        dim = self.grid.dim
        for d, F in enumerate(fluxes):
            if F is None:
                continue
            (below, above, carried), (low, high) = (
                self.weights[d],
                faces(adjoint, d, dim),
            )
            lower, upper = sides(F * (above * high + below * low), d - dim)
            result = result + lower - upper
            if self.term.conservative:
                lower, upper = sides(carried * F, d)
                result = result + (upper - lower) * inner(adjoint, dim)
        return result

    def _products(self, pairs: Pairs, d: int) -> np.ndarray | float:
        """Of (lambda, u), what multiplies F at the faces normal to axis d."""
        below, above, carried = self.weights[d]
        found: np.ndarray | float = 0.0
        grid, dim = self.grid, self.grid.dim
        for adjoint, u in pairs:
            (low, high), (u_low, u_high) = faces(adjoint, d, dim), faces(u, d, dim)
            moved = (u_high - u_low) * (above * high + below * low)
            if self.term.conservative:
                moved = moved + carried * (low * u_low - high * u_high)
            found = found + over_columns(grid, moved)
        return found

    def contraction(self, pairs: Pairs) -> dict[str, np.ndarray]:
        axes = enumerate(self.values)
        return self.contracted(
            [self._products(pairs, d) if v.parameters else 0.0 for d, v in axes]
        )

    def contracted(
        self, products: Sequence[np.ndarray | float]
    ) -> dict[str, np.ndarray]:
        """`contraction` from what multiplies F, by axis."""
        found: dict[str, np.ndarray] = {}
        for d, v in enumerate(self.values):
            if v.parameters:
                v.add_pulled(self._open(products[d], d), found)
        return self.term.joined(found)

    def second_contraction(
        self, pairs: Pairs, dk: Coefficients
    ) -> dict[str, np.ndarray]:
        own, axes = self.term.split(dk), enumerate(self.values)
        return self.contracted_change(
            [self._products(pairs, d) if v.reads(own) else 0.0 for d, v in axes], dk
        )

    def contracted_change(
        self, products: Sequence[np.ndarray | float], dk: Coefficients
    ) -> dict[str, np.ndarray]:
        """The change of `contracted` with that of the velocity."""
        found: dict[str, np.ndarray] = {}
        own = self.term.split(dk)
        for d, v in enumerate(self.values):
            if v.reads(own):
                v.add_second(self._open(products[d], d), own, found)
        return self.term.joined(found)


def closed_or_given(grid: Grid, d: int) -> np.ndarray:
    """Which of the owned cells' faces normal to axis d are at sides that are not periodic."""
    at = np.zeros(grid.local_shape[d] + 1, bool)
    if not grid.periodic(d):
        at[0], at[-1] = grid.start[d] == 0, grid.stop[d] == grid.shape[d]
    return at
