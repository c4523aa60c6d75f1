"""-div(D grad u), integrated over cells: the sum over a cell's faces of g_f (u_cell - u_neighbour).

The conductance of face f between cells a and b is g_f = area_f / (R_a + R_b), with half-cell
resistances R = h / (2 D): the harmonic mean of D, weighted by widths (of radial grids with h/2 the
half lengths of grids/geometry.py). Outside the domain R is 0 for
a Dirichlet side and 1 / coefficient for a Robin side, and u is the boundary value; Neumann sides
and faces of inactive cells have area 0. Derivatives follow from dg/dR = -area / S^2 and d2g/dR2 = 2
area / S^3 with S = R_a + R_b, dR/dD = -h / (2 D^2), d2R/dD2 = h / D^3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from npde_opt.aliases import Coefficients
from npde_opt.errors import InputError
from npde_opt.grids import AXES, Grid, along
from npde_opt.lazily import loaded_lazily
from npde_opt.terms.diffusion_slopes import CellSlopes, FaceSlopes
from npde_opt.terms.faces import (
    Index,
    both_active,
    closed_ends,
    driven_sides,
    face_factors,
    face_spans,
    faces,
    half_lengths,
    jump,
    sides,
)
from npde_opt.terms.interface import (
    LinearAt,
    LinearTerm,
    Pairs,
    Planes,
    Rates,
    Species,
)
from npde_opt.terms.kept_faces import KeptFaces, Lines
from npde_opt.terms.planes import add_exchange
from npde_opt.terms.state import over_columns

if TYPE_CHECKING:
    from npde_opt.terms import diffusion_loops
else:
    diffusion_loops = loaded_lazily("npde_opt.terms.diffusion_loops")

KEPT = 1 << 20
"""Cells a rank up to which what derivatives take of the coefficients is kept."""

LEAST = 1 << 13
"""Cells from which on loops over these pay for their loading, of some 20 ms."""


class Diffusion(LinearTerm):
    """Linear diffusion with one coefficient for all directions, or one name a direction.

    Args:
        grid: the grid, whose sides say which boundary conditions hold.
        coefficient: name of D, or names (D_x, D_y, ...) one a direction.
        species: that it acts on.
    """

    symmetric = True
    columns = True

    def __init__(
        self,
        grid: Grid,
        coefficient: str | Sequence[str] = "D",
        species: Species = None,
    ):
        super().__init__(grid, species)
        names = (
            (coefficient,) * grid.dim
            if isinstance(coefficient, str)
            else tuple(coefficient)
        )
        if len(names) != grid.dim:
            raise InputError(
                "diffusion coefficient", names, f"one name or {grid.dim} names"
            )
        self.names = names
        self._factors = [self._area_factors(d) for d in range(grid.dim)]
        self.spans = [face_spans(grid, d, 1.0) for d in range(grid.dim)]
        self.halves = [half_lengths(grid, d) for d in range(grid.dim)]
        # As everywhere but along r: one pass less.
        self.centred = [np.array_equal(*pair) for pair in self.halves]
        self.lines = Lines(grid, self.spans, self.halves)
        self.driven = driven_sides(grid)

    @property
    def coefficients(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.names))

    @property
    def positive(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.coefficients

    def _area_factors(self, d: int) -> list[np.ndarray]:
        """Arrays whose product broadcasts to the areas of the owned cells' faces normal to axis d,
        0 where no flux passes."""
        factors = face_factors(self.grid, d)
        factors[d] = factors[d] * (1 - closed_ends(self.grid, d))
        laid = [along(f, e, self.grid.dim) for e, f in enumerate(factors)]
        if self.grid.mask is None:
            return laid
        return [np.asfortranarray(self.grid.outer(factors) * both_active(self.grid, d))]

    def outer_faces(self, d: int) -> list[tuple[str, int, bool]]:
        """Side, index of its face along axis d, and whether that face is owned here, for both sides
        of the axis."""
        grid = self.grid
        return [("-", 0, grid.start[d] == 0), ("+", -1, grid.stop[d] == grid.shape[d])]

    def weigh(self, values: np.ndarray, d: int, face: int | None = None) -> np.ndarray:
        """Multiplies values on the owned cells' faces normal to axis d (or on one layer of them) by
        the areas: 0 where no flux passes. In place."""
        for factor in self._factors[d]:
            values *= (
                factor
                if face is None or factor.shape[d] == 1
                else np.take(factor, [face], axis=d)
            )
        return values

    def areas(self, d: int) -> np.ndarray:
        """Areas of the owned cells' faces normal to axis d (n_d + 1 along it), 0 where no flux
        passes."""
        faces = [n + (d == e) for e, n in enumerate(self.grid.local_shape)]
        return self.weigh(np.ones(faces, order="F"), d)

    @cached_property
    def all_areas(self) -> np.ndarray:
        """`areas`, one axis after the other."""
        found = np.empty(self.lines.size)
        for d, part in enumerate(self.lines.split(found)):
            part[...] = self.areas(d)
        return found

    def at(self, coefficients: Coefficients) -> DiffusionAt:
        return DiffusionAt(self, coefficients)


class DiffusionAt(LinearAt):
    """Diffusion at given D; keeps the resistances S, on grids that are not large also what every
    derivative takes of them and the last change of D."""

    term: Diffusion

    def __init__(self, term: Diffusion, coefficients: Coefficients):
        self.term, self.grid = term, term.grid
        self.D = [coefficients[name] for name in term.names]
        self.sums: list[np.ndarray] = []
        self._keeps = self.grid.layout.size <= KEPT * self.grid.comm.size
        self._changes: tuple[Coefficients, list[np.ndarray | None]] | None = None
        self._changed: tuple[Coefficients, list[np.ndarray | None]] | None = None
        self._dg: tuple[Coefficients, np.ndarray | None] | None = None
        """The last change of conductances, where KeptFaces found it."""
        half: dict[str, np.ndarray] = {}
        self._all_sums = np.empty(term.lines.size)
        self._kept: KeptFaces | None = None
        sums = term.lines.split(self._all_sums)
        for d, name in enumerate(term.names):
            if name not in half:
                with np.errstate(divide="ignore"):  # no flux passes where D is 0
                    half[name] = self.grid.ghosted(0.5 / coefficients[name], 1.0)
            # Ghosts beyond the sides of an axis are between none of another's faces.
            resistance = half[name]
            self._set_sides(resistance, d)
            self.sums.append(self._across(resistance, d, sums[d]))

    @cached_property
    def _weights(self) -> list[np.ndarray]:
        """area / S^2 on the owned cells' faces, by axis."""
        return self.term.lines.split(self._all_weights)

    @cached_property
    def _all_weights(self) -> np.ndarray:
        """`_weights` one after the other."""
        if self.grid.small:
            return self._all_conductances / self._all_sums
        found = 1 / self._all_sums
        found *= found
        for d, part in enumerate(self.term.lines.split(found)):
            self.term.weigh(part, d)
        return found

    @cached_property
    def _all_conductances(self) -> np.ndarray:
        """Those of all axes, one after the other: kept on small grids."""
        return self.term.all_areas / self._all_sums

    @cached_property
    def _conductances(self) -> list[np.ndarray]:
        return self.term.lines.split(self._all_conductances)

    def _faces(self, *fields: np.ndarray) -> KeptFaces | None:
        """What is kept for compiled loops over ghosted fields, where there is one coefficient and
        the loops go over these."""
        if self._kept is None:
            D = np.asarray(self.D[0])
            shape = self.grid.local_shape
            one = len(set(self.term.names)) == 1 and D.shape == shape
            if not (self._keeps and one and self.grid.size >= LEAST):
                return None
            given = self.term.lines, self._all_weights, self._all_sums, D
            self._kept = KeptFaces(self.grid, *given)
        kept = self._kept
        return kept if all(kept.takes(u) for u in fields) else None

    @cached_property
    def _slopes(self) -> list[np.ndarray]:
        """1 / D^2, by axis."""
        found = dict(zip(self.term.names, map(np.asarray, self.D), strict=True))
        with np.errstate(divide="ignore"):
            squares = {name: (1 / D) / D for name, D in found.items()}
        return [squares[name] for name in self.term.names]

    def _over_D(self, values: np.ndarray, d: int) -> np.ndarray:
        """Over D^2. In place."""
        if self._keeps:
            values *= self._slopes[d]
            return values
        values /= self.D[d]
        values /= self.D[d]
        return values

    @cached_property
    def _face_slopes(self) -> list[FaceSlopes]:
        """By axis."""
        weights, sums, spans = self._weights, self.sums, self.term.spans
        given = dict(zip(self.term.names, map(np.asarray, self.D), strict=True))
        cells = {name: CellSlopes(self.grid, D) for name, D in given.items()}
        return [
            FaceSlopes(d, cells[name], spans[d], weights[d], sums[d])
            for d, name in enumerate(self.term.names)
        ]

    def add_slopes(self, u: np.ndarray, wanted: Mapping[str, Planes]) -> bool:
        for name, of in zip(self.term.names, self._face_slopes, strict=True):
            if name in wanted:
                of.add_slopes(u, wanted[name])
        return True

    def add_bends(
        self, adjoint: np.ndarray, u: np.ndarray, wanted: Mapping[str, Planes]
    ) -> bool:
        for name, of in zip(self.term.names, self._face_slopes, strict=True):
            if name in wanted:
                of.add_bends(adjoint, u, wanted[name])
        return True

    def conductance(self, d: int) -> np.ndarray:
        """g on the owned cells' faces normal to axis d, to read only."""
        if self.grid.small:
            return self._conductances[d]
        return self.term.weigh(1 / self.sums[d], d)

    def _conductance_at(self, d: int, end: int, layer: Index) -> np.ndarray:
        """g at an end of axis d, without the axis."""
        if self.grid.small:
            return self._conductances[d][layer]
        found = 1 / np.take(self.sums[d], [end], axis=d)
        return self.term.weigh(found, d, end).squeeze(d)

    def _across(
        self, resistance: np.ndarray, d: int, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Sums over both sides of the faces normal to axis d of ghosted half resistances per
        width."""
        below, above = faces(resistance, d)
        lower, upper = self.term.spans[d]
        with np.errstate(over="ignore"):  # hardly any flux passes where D is next to 0
            total: np.ndarray = np.multiply(below, lower, out=out)
            total += above * upper
        return total

    def _set_sides(self, resistance: np.ndarray, d: int) -> None:
        """Sets the ghosted half resistances per width beyond axis d's sides."""
        grid = self.grid
        for side, ghost, edge in self.term.outer_faces(d):
            boundary = grid.boundaries[AXES[d] + side]
            # Beyond a Neumann side any number will do: its faces have no area.
            known = {"dirichlet": 0.0, "neumann": 1.0}.get(boundary.kind)
            if boundary.kind == "robin":
                known = 1.0 / boundary.coefficient
            if edge and known is not None:
                layer: list[slice | int] = [slice(None)] * grid.dim
                layer[d] = ghost
                resistance[tuple(layer)] = known

    def add_planes(self, planes: Planes) -> None:
        for d in range(self.grid.dim):
            add_exchange(planes, d, *sides(self.conductance(d), d))

    def rates(self) -> Rates:
        found = Rates.none(self.grid.dim)
        for d, D in enumerate(self.D):
            h = along(self.grid.widths[d][self.grid.local_slice[d]], d, self.grid.dim)
            found.diffusive[d] = 2 * D / h**2
        return found

    def boundary_load(self, outside: np.ndarray) -> np.ndarray | float:
        columns = outside.shape[: outside.ndim - self.grid.dim]
        load = np.zeros((*columns, *self.grid.local_shape), order="F")
        for d, end, layer, ghosts in self.term.driven:
            load[layer] += self._conductance_at(d, end, layer) * outside[ghosts]
        return load

    def _divergence(self, flux: np.ndarray, d: int) -> np.ndarray:
        """r = g_lower (u - u_lower) - g_upper (u_upper - u) from flux = g jump(u)."""
        lower, upper = sides(flux, d - self.grid.dim)
        return lower - upper

    def resistance_changes(self, dk: Coefficients) -> list[np.ndarray | None]:
        """Change of S by direction, to read only; ghosts outside the domain do not change."""
        if self._changes is not None and self._changes[0] is dk:
            return self._changes[1]
        grid = self.grid
        found: dict[str, np.ndarray] = {}
        out: list[np.ndarray | None] = []
        for d, name in enumerate(self.term.names):
            if name not in dk:
                out.append(None)
                continue
            if name not in found:
                change = np.asarray(-0.5 * dk[name])
                found[name] = grid.ghosted(self._over_D(change, d))
            out.append(self._across(found[name], d))
        if self._keeps:
            self._changes = dk, out
        return out

    def conductance_changes(self, dk: Coefficients) -> list[np.ndarray | None]:
        """-area / S^2 dS on the owned cells' faces, by axis, to read only; None where D does not
        change."""
        if self._changed is not None and self._changed[0] is dk:
            return self._changed[1]
        found = [
            None if ds is None else self._over_squares(-ds, d)
            for d, ds in enumerate(self.resistance_changes(dk))
        ]
        if self._keeps:
            self._changed = dk, found
        return found

    def _kept_change(self, kept: KeptFaces, dk: Coefficients) -> np.ndarray | None:
        """dg of all faces; None where D does not change. Collective."""
        if self._dg is None or self._dg[0] is not dk:
            name = self.term.names[0]
            moved = kept.changes(np.asarray(dk[name])) if name in dk else None
            self._dg = dk, moved
        return self._dg[1]

    def derivative(self, u: np.ndarray, dk: Coefficients) -> np.ndarray | float:
        kept = self._faces(u)
        if kept is not None:
            dg = self._kept_change(kept, dk)
            return 0.0 if dg is None else kept.exchanged(dg, u)
        changes = self.conductance_changes(dk)
        every = [c for c in changes if c is not None]
        if len(every) == self.grid.dim and self._is_compiled(u):
            out = np.empty(self.grid.local_shape, order="F")
            diffusion_loops.exchanges(
                tuple(map(_flat, every)), _flat(u), self._lines, _flat(out)
            )
            return out
        result: np.ndarray | float = 0.0
        for d, change in enumerate(changes):
            if change is not None:
                flux = jump(u, d, self.grid.dim)
                flux *= change
                result = result + self._divergence(flux, d)
        return result

    @cached_property
    def _lines(self) -> tuple[int, int, int]:
        """Owned cells along z, y, x."""
        nx, ny, nz = (*self.grid.local_shape, 1, 1)[:3]
        return nz, ny, nx

    def _is_compiled(self, *fields: np.ndarray) -> bool:
        """Whether loops over ghosted fields are compiled: small grids do without loading them."""
        grid = self.grid
        return not grid.small and all(
            u.ndim == grid.dim and u.dtype == float and u.flags.f_contiguous
            for u in fields
        )

    def _over_squares(self, values: np.ndarray, d: int) -> np.ndarray:
        """area / S^2 times values on the faces normal to axis d. In place."""
        if self._keeps:
            values *= self._weights[d]
            return values
        values /= self.sums[d]
        values /= self.sums[d]
        return self.term.weigh(values, d)

    def _products(self, pairs: Pairs, d: int) -> np.ndarray:
        dim = self.grid.dim
        total: np.ndarray | None = None
        for adjoint, u in pairs:
            product = jump(adjoint, d, dim)
            product *= jump(u, d, dim)
            product = over_columns(self.grid, product)
            total = product if total is None else np.add(total, product, out=total)
        assert total is not None
        return total

    def _all_products(self, pairs: Pairs, names: Iterable[str]) -> list[np.ndarray]:
        """`_products` of the axes of these names, empty for others."""
        dim, wanted = self.grid.dim, [name in names for name in self.term.names]
        if all(wanted) and self._is_compiled(*(u for pair in pairs for u in pair)):
            shapes = [
                [n + (d == e) for e, n in enumerate(self.grid.local_shape)]
                for d in range(dim)
            ]
            found = [np.zeros(shape, order="F") for shape in shapes]
            sums = tuple(map(_flat, found))
            for adjoint, u in pairs:
                diffusion_loops.add_products(
                    _flat(adjoint), _flat(u), self._lines, sums
                )
            return found
        return [
            self._products(pairs, d) if w else np.empty(0) for d, w in enumerate(wanted)
        ]

    def contraction(self, pairs: Pairs) -> dict[str, np.ndarray]:
        kept = self._faces(*(u for pair in pairs for u in pair))
        if kept is not None:
            return {self.term.names[0]: kept.contraction(pairs)}
        return self.contracted(self._all_products(pairs, self.term.names))

    def contracted(self, products: list[np.ndarray]) -> dict[str, np.ndarray]:
        """`contraction` from the sums over (lambda, u) of the products of their jumps at the owned
        cells' faces, one array an axis, which are taken from the list, as they are large."""
        result: dict[str, np.ndarray] = {}
        for d, name in enumerate(self.term.names):
            weight = self._over_squares(products.pop(0), d)
            part = self._over_D(self.halved(weight, d), d)
            del weight
            if name in result:
                result[name] += part
            else:
                result[name] = part
        return result

    def halved(self, weight: np.ndarray, d: int) -> np.ndarray:
        """Of a cell, the sum over its faces normal to axis d of weight times half length."""
        (lower, upper), (below, above) = sides(weight, d), self.term.halves[d]
        if self.term.centred[d]:
            total = lower + upper
            total *= below
            return total
        total = lower * below
        total += upper * above
        return total

    def second_contraction(
        self, pairs: Pairs, dk: Coefficients
    ) -> dict[str, np.ndarray]:
        kept, name = (
            self._faces(*(u for pair in pairs for u in pair)),
            self.term.names[0],
        )
        dg = None if kept is None else self._kept_change(kept, dk)
        if kept is not None and dg is not None:
            dD = np.asarray(dk[name])
            return {name: kept.curved(pairs, dD, dg)}
        return self.contracted_change(self._all_products(pairs, dk), dk)

    def contracted_change(
        self, products: Sequence[np.ndarray], dk: Coefficients
    ) -> dict[str, np.ndarray]:
        """The change of `contracted` with D; the products are overwritten."""
        result: dict[str, np.ndarray] = {}
        for d, (name, ds) in enumerate(
            zip(self.term.names, self.resistance_changes(dk), strict=True)
        ):
            if ds is None:
                continue
            weight, D = self._over_squares(products[d], d), self.D[d]
            bent = self.halved(weight, d)
            bent *= dk[name] / D
            weight *= ds
            weight /= self.sums[d]
            # -2 (weight ds / s) / D^2 - 2 weight dk / D^3, in as few passes as there are.
            part = self.halved(weight, d)
            part += bent
            part *= -2.0
            part = self._over_D(part, d)
            result[name] = result[name] + part if name in result else part
        return result


def _flat(field: np.ndarray) -> np.ndarray:
    """A view of an array in Fortran's order, x fastest."""
    found: np.ndarray = np.asfortranarray(field).reshape(-1, order="F")
    return found
