"""Block-centred grids: unknowns at the centres of boxes, fluxes on their faces.

A box is cut into nx x ny x nz cells by tensor-product edges (uniform or stretched); some cells may
be inactive. Arrays are indexed [i_x, i_y, i_z] and stored x fastest, which is PETSc's natural
ordering.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import cached_property
from types import EllipsisType
from typing import Any, TypeVar

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.draws import normal_box
from npde_opt.errors import InputError
from npde_opt.grids.around import Around
from npde_opt.grids.boundary import Boundary, boundaries_of
from npde_opt.grids.cuts import as_petsc_cuts, balanced, coarser, fits
from npde_opt.grids.geometry import AXES, RADIAL_AXES, Geometry, check_radial, edges_of
from npde_opt.grids.layout import Layout, neighbours
from npde_opt.grids.scattered import Mask, Scattered, halved, in_boxes
from npde_opt.petsc_options import from_options

Made = TypeVar("Made")

SMALL = 1 << 16
"""Cells a rank of grids where calls cost more than passes over cells, and memory little."""


class Grid:
    """A block-centred grid distributed over the ranks of `comm`.

    Args:
        shape: cells along each axis, 1 to 3 axes.
        extent: physical lengths along each axis (default: 1 everywhere); or give `edges`.
        edges: one increasing array of n + 1 edge coordinates an axis, for stretched grids.
        origin: coordinates of the lower corner (default 0), with `extent`.
        boundaries: side name ('x-', 'x+', 'y-', ...) to Boundary or kind name; Neumann where not
            given.
        active: False cells are left out of the domain: a bool array [i, j, k] given on every rank,
            or a Scattered one, of which each rank has a box. Boxes have about equal numbers of
            active cells (see cuts.py).
        components: values a cell in `create_vec`.
        radial: the first axis is the distance r from an axis of symmetry, a second one z: cells
            are rings (see geometry.py). Sides and texts call them x and y.
        like: a grid of the same shape, whose layout and volumes are shared.

    Raises:
        InputError: for shapes, lengths, sides or masks that cannot be, and for more unknowns than
            indices hold.
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        extent: Sequence[float] | None = None,
        edges: Sequence[np.ndarray] | None = None,
        origin: Sequence[float] | None = None,
        boundaries: Mapping[str, Boundary | str] | None = None,
        active: np.ndarray | Scattered | None = None,
        components: int = 1,
        radial: bool = False,
        comm: MPI.Intracomm = MPI.COMM_WORLD,
        like: Grid | None = None,
    ):
        self.shape = tuple(int(n) for n in shape)
        self.dim, self.comm, self.components = len(self.shape), comm, int(components)
        if not 1 <= self.dim <= 3 or min(self.shape) < 1:
            raise InputError("grid.shape", list(shape), "1 to 3 positive integers")
        self.edges = edges_of(self.shape, extent, edges, origin)
        self.centers = tuple((e[1:] + e[:-1]) / 2 for e in self.edges)
        self.widths = tuple(np.diff(e) for e in self.edges)
        self.boundaries = boundaries_of(boundaries or {}, self.dim)
        self.radial = radial
        if radial:
            check_radial(self.edges, self.boundaries["x-"].kind)
        check_indices(self.shape, self.components, comm)
        near = like if like is not None and like.shape == self.shape else None
        if near is not None and near.comm is not comm:
            near = None
        even = near.layout if near is not None else self._layout()
        kept = near is not None and active is near.mask
        mask = near.mask if near is not None and kept else self._mask(active, even)
        self.layout: Layout = even
        if mask is not None and near is None:
            self.layout = self._balanced(mask, even)
        self.start, self.local_shape = self.layout.start, self.layout.local_shape
        self.local_slice = self.layout.box
        self.stop = tuple(s.stop for s in self.local_slice)
        self.mask: Mask | None = None if mask is None else in_boxes(mask, self.layout)
        self.shared: dict[Hashable, Any] = {}
        if (
            near is not None
            and radial == near.radial
            and all(a is b for a, b in zip(self.edges, near.edges, strict=True))
        ):
            self.__dict__["volume"] = near.volume
            self.__dict__["geometry"] = near.geometry
            if self.mask is near.mask:
                self.shared = near.shared
        wraps = [self.periodic(d) for d in range(self.dim)]
        self._beside: np.ndarray | None
        if (
            near is not None
            and self.mask is near.mask
            and wraps == [near.periodic(d) for d in range(self.dim)]
        ):
            self._beside = near._beside
        else:
            self._beside = self._with_neighbours()

    def _even(self) -> tuple[tuple[int, ...], ...]:
        """Cells along each axis of the boxes that PETSc cuts a grid into."""
        ranks = self.comm.size
        if fits(self.shape, ranks):
            return as_petsc_cuts(self.shape, ranks)
        fewer = next(r for r in range(ranks, 0, -1) if fits(self.shape, r))
        allowed = f"a number that grid {self.shape} can be cut into, such as {fewer}"
        raise InputError("ranks", ranks, allowed)

    def _layout(self) -> Layout:
        # PETSc would wait for ever for ranks that make another grid, or none.
        sides = ", ".join(
            f"{name} {side.kind}" for name, side in self.boundaries.items()
        )
        reductions.same(self.comm, f"{self.shape} with {sides}", "the grid")
        return Layout(self._even(), self.comm.rank)

    def _mask(
        self, active: np.ndarray | Scattered | None, layout: Layout
    ) -> Mask | None:
        """As given, or in the boxes of a layout; None where all cells are active. Collective."""
        if active is None:
            return None
        given = active if isinstance(active, Scattered) else np.asarray(active)
        if given.shape != self.shape:
            raise InputError(
                "grid.active", f"shape {given.shape}", f"shape {self.shape}"
            )
        if not isinstance(given, Scattered):
            given = Scattered.of(self.comm, layout, given)
        owned = np.asfortranarray(given.owned.astype(bool))
        mask = Mask(self.comm, given.layout, owned).counted()
        if not mask.size:
            raise InputError("grid.active", "no active cell", "at least one")
        return None if mask.size == self.size else mask

    def _balanced(self, mask: Mask, even: Layout) -> Layout:
        """Boxes of about equal numbers of active cells."""
        ranks = self.comm.size
        found = balanced(mask, ranks) if ranks > 1 else None
        return even if found is None else Layout(found.counts, self.comm.rank)

    def _with_neighbours(self) -> np.ndarray | None:
        """The mask of the owned cells and one more all round, at ends of axes that are not
        periodic the outermost ones again; None where all cells are active. Collective."""
        if self.mask is None:
            return None
        cells = [
            np.arange(a - 1, b + 1) % n
            if self.periodic(d)
            else np.clip(np.arange(a - 1, b + 1), 0, n - 1)
            for d, (a, b, n) in enumerate(
                zip(self.start, self.stop, self.shape, strict=True)
            )
        ]
        return self.mask.at(cells)

    @property
    def active_beside(self) -> np.ndarray:
        """The mask of the owned cells [i, j, k] and one more all round, those behind the end of a
        periodic axis its first ones; elsewhere the outermost cells are there twice."""
        if self._beside is None:
            return np.ones([n + 2 for n in self.local_shape], bool, order="F")
        return self._beside

    def periodic(self, axis: int) -> bool:
        return self.boundaries[AXES[axis] + "-"].kind == "periodic"

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def small(self) -> bool:
        """Whether what saves calls and passes is kept."""
        return self.layout.size <= SMALL * self.comm.size

    @property
    def active_size(self) -> int:
        return self.size if self.mask is None else self.mask.size

    @cached_property
    def active(self) -> np.ndarray:
        """Owned part of the mask, bool [i, j, k]."""
        if self.mask is None:
            return np.ones(self.local_shape, bool, order="F")
        return self.mask.owned

    @cached_property
    def geometry(self) -> Geometry:
        """Lengths, areas and volumes by axis."""
        return Geometry(self.edges, self.radial)

    @property
    def axis_names(self) -> str:
        """Of the axes in figures and tables: r and z where the grid is radial."""
        return RADIAL_AXES if self.radial else AXES

    @property
    def closed_side(self) -> str | None:
        """The side that is none: r = 0."""
        return "x-" if self.radial and self.edges[0][0] == 0 else None

    @cached_property
    def volume(self) -> np.ndarray:
        """Volumes of the owned cells [i, j, k] in the unit of the edges to the power dim; those of
        rings on radial grids, a unit of z high where there is no z."""
        return np.asfortranarray(self.outer(self._measures()))

    def _measures(self) -> list[np.ndarray]:
        return [
            m[s] for m, s in zip(self.geometry.measures, self.local_slice, strict=True)
        ]

    def side_area(self, axis: int, upper: bool) -> np.ndarray:
        """Areas of the faces at an end of an axis beside the owned cells, 1 along the axis."""
        factors = self._measures()
        factors[axis] = self.geometry.faces[axis][[-1 if upper else 0]]
        return self.outer(factors)

    def outer(self, factors: Sequence[np.ndarray]) -> np.ndarray:
        """The product of one 1-D array an axis, broadcast to the box that they span."""
        product: np.ndarray = np.ones((1,) * self.dim)
        for d, f in enumerate(factors):
            product = product * along(f, d, self.dim)
        return product

    @cached_property
    def active_local_size(self) -> int:
        """Number of owned active cells."""
        if self.mask is None:
            return self.layout.local_size
        return self.mask.local_size

    def create_vec(self) -> PETSc.Vec:
        """A Vec of `components` values a cell, cell by cell."""
        return self._like(self.components)

    def create_scalar(self) -> PETSc.Vec:
        """A Vec of one value a cell, whatever the number of components."""
        return self._like(1)

    def create_active(self) -> PETSc.Vec:
        """A Vec of one value an active cell: what stencil matrices act on."""
        vec = PETSc.Vec().create(self.comm)
        vec.setSizes((self.active_local_size, self.active_size))
        with from_options("vec_"):
            vec.setFromOptions()
        return vec

    def _like(self, components: int) -> PETSc.Vec:
        """Of small grids a copy of one that is kept: making a Vec takes as long as a solve there.
        Its values are 0."""
        if not self.small:
            return self._vec(components)
        kept = self.once(("vec", components), lambda: self._vec(components))
        return kept.duplicate()

    def _vec(self, components: int) -> PETSc.Vec:
        vec = PETSc.Vec().create(self.comm)
        vec.setSizes(
            (self.layout.local_size * components, self.layout.size * components),
            bsize=components,
        )
        with from_options("vec_"):
            vec.setFromOptions()
        return vec

    def pack(self, values: np.ndarray) -> np.ndarray:
        """The values of the owned active cells, one after the other, from an owned array [i, j,
        k]."""
        return values.ravel(order="F") if self.mask is None else values.T[self.active.T]

    def put(self, values: np.ndarray, vec: PETSc.Vec) -> None:
        """Writes owned values [i, j, k] into a Vec of active cells, or [c, i, j, k] into one that
        holds c of them in turn."""
        array, n = vec.getArray(), self.active_local_size
        if values.ndim == self.dim:
            array[:n] = self.pack(values)
            return
        for c, v in enumerate(values):
            array[c * n : (c + 1) * n] = self.pack(v)

    def take(self, vec: PETSc.Vec, out: np.ndarray | None = None) -> np.ndarray:
        """The owned values that `put` wrote, in `out`; where that is not given an array [i, j, k],
        which is a view of the Vec if all cells are active. Inactive cells get 0."""
        if out is None and self.mask is None:
            return self.view(vec)
        if out is None:
            out = np.empty(self.local_shape, order="F")
        array, n = vec.getArray(readonly=True), self.active_local_size
        for c, v in enumerate(out if out.ndim > self.dim else out[None]):
            part = array[c * n : (c + 1) * n]
            if self.mask is None:
                v[...] = part.reshape(self.local_shape, order="F")
            else:
                v[...] = 0.0
                v.T[self.active.T] = part
        return out

    def view(self, vec: PETSc.Vec) -> np.ndarray:
        """The owned values as an array [i, j, k], or [c, i, j, k] with components; writing into it
        writes the Vec."""
        shape = (
            self.local_shape
            if vec.getLocalSize() == self.layout.local_size
            else (self.components, *self.local_shape)
        )
        return vec.getArray().reshape(shape, order="F")

    @cached_property
    def _exchanged(self) -> list[int]:
        """Axes along which owned cells have neighbours that lie elsewhere."""
        whole = [
            self.start[d] == 0 and self.stop[d] == self.shape[d]
            for d in range(self.dim)
        ]
        return [d for d in range(self.dim) if self.periodic(d) or not whole[d]]

    @cached_property
    def _around(self) -> Around:
        return Around(self, self._exchanged)

    def ghosted(
        self, values: PETSc.Vec | np.ndarray, outside: float = 0.0
    ) -> np.ndarray:
        """Owned values of a scalar field [i, j, k], or of columns [s, i, j, k], with one ghost cell
        all round; corners and cells outside the domain are left at `outside`. All columns go in one
        exchange an axis. Collective."""
        own = (
            values
            if isinstance(values, np.ndarray)
            else values.getArray(readonly=True).reshape(self.local_shape, order="F")
        )
        columns = own.shape[: own.ndim - self.dim]
        if not columns and own.dtype == float:
            return self._around.of(own, outside)
        shape = [*columns, *(n + 2 for n in self.local_shape)]
        out = np.zeros(shape, order="F")
        if outside:
            out.fill(outside)
        inner = (slice(1, -1),) * self.dim
        out[of_cells(inner)] = own
        if not self._exchanged:
            return out
        layers = own.T[None] if not columns else np.moveaxis(own.T, -1, 0)
        for d in self._exchanged:
            at_ends = self.start[d] == 0, self.stop[d] == self.shape[d]
            below, above = neighbours(
                layers, self.layout, d, self.periodic(d), self.comm
            )
            for layer, end, ghost in ((below, at_ends[0], 0), (above, at_ends[1], -1)):
                if self.periodic(d) or not end:
                    beside = np.moveaxis(layer, 0, -1).T if columns else layer[0].T
                    to = inner[:d] + (ghost,) + inner[d + 1 :]
                    out[of_cells(to)] = beside.squeeze(d - self.dim)
        return out

    def own(self, field: str, values: np.ndarray) -> np.ndarray:
        """The owned part [i, j, k] of an array that is whole on every rank, or owned already.
        Raises InputError naming `field` for another shape."""
        given = np.asarray(values)
        if given.shape not in (self.shape, self.local_shape):
            raise InputError(field, f"shape {given.shape}", f"shape {self.shape}")
        whole = given.shape == self.shape
        return np.asfortranarray(given[self.local_slice] if whole else given)

    def owns(self, cells: Sequence[np.ndarray]) -> np.ndarray:
        """Which cells (n,), given by one index array an axis, this rank owns."""
        sides = zip(cells, self.start, self.stop, strict=True)
        return np.all([(first <= i) & (i < end) for i, first, end in sides], axis=0)

    def from_natural(self, array: np.ndarray) -> PETSc.Vec:
        """A Vec from a global array [i, j, k] given on every rank."""
        values = np.asarray(array)
        if values.shape != self.shape:
            raise InputError(
                "field", f"shape {values.shape}", f"the grid's shape {self.shape}"
            )
        vec = self.create_scalar()
        self.view(vec)[...] = values[self.local_slice]
        return vec

    def to_natural(self, values: PETSc.Vec | np.ndarray) -> np.ndarray | None:
        """The global array [i, j, k] ([c, i, j, k] with components) of a Vec or of owned values on
        rank 0, None elsewhere. Collective."""
        own = values if isinstance(values, np.ndarray) else self.view(values)
        pieces = self.comm.gather((self.local_slice, np.array(own, order="F")), root=0)
        if pieces is None:
            return None
        lead = pieces[0][1].shape[: pieces[0][1].ndim - self.dim]
        full = np.empty((*lead, *self.shape), order="F")
        for box, values in pieces:
            full[(..., *box)] = values
        return full

    def gather(self, vec: PETSc.Vec) -> np.ndarray:
        """The global array on every rank. Collective."""
        return self.comm.bcast(self.to_natural(vec), root=0)

    def coordinates(self) -> list[np.ndarray]:
        """Centre coordinates of the owned cells, one array an axis, shaped to broadcast."""
        return [
            along(c[s], d, self.dim)
            for d, (c, s) in enumerate(zip(self.centers, self.local_slice, strict=True))
        ]

    def evaluate(self, f: Callable[..., np.ndarray]) -> np.ndarray:
        """f(x, y, z) at the owned centres [i, j, k]."""
        return np.asfortranarray(
            np.broadcast_to(f(*self.coordinates()), self.local_shape).astype(float)
        )

    def standard_normal(self, seed: int) -> PETSc.Vec:
        """Independent standard normal values, the same on any number of ranks; each draws those of
        its box (see draws.py)."""
        vec = self.create_scalar()
        self.view(vec)[...] = normal_box(seed, self.shape, self.local_slice)
        return vec

    def with_(self, **changes: object) -> Grid:
        """The same grid with other boundaries, components or mask. Collective."""
        given: dict[str, Any] = {
            "edges": self.edges,
            "boundaries": self.boundaries,
            "active": self.mask,
            "components": self.components,
            "radial": self.radial,
            "comm": self.comm,
        } | changes
        return Grid(self.shape, like=self, **given)

    def coarsen(self, smallest: int = 8) -> Grid | None:
        """Cells merged in pairs along every axis that has at least 2 `smallest` cells (an odd last
        one is kept); a coarse cell is active where any of its children is. None where no axis is
        long enough, or the ranks are more than it could be cut into."""
        shape = coarser(self.shape, smallest)
        if shape == self.shape or not fits(shape, self.comm.size):
            return None
        halve = [n < before for n, before in zip(shape, self.shape, strict=True)]
        edges = [
            np.append(e[:-1:2], e[-1]) if h else e
            for e, h in zip(self.edges, halve, strict=True)
        ]
        active = None if self.mask is None else halved(self.mask, halve)
        return Grid(
            shape,
            edges=edges,
            boundaries=self.boundaries,
            active=active,
            components=self.components,
            radial=self.radial,
            comm=self.comm,
        )

    def once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What `make` gives, made when it is first asked for under this key, here or by a grid that
        is `with_` other boundaries or components. Collective where `make` is."""
        if key not in self.shared:
            self.shared[key] = make()
        return self.shared[key]

    def destroy(self) -> None:
        """Frees what is kept here and by grids that share it (see `once`); a grid that is used
        again makes it again."""
        for made in self.shared.values():
            if hasattr(made, "destroy"):
                made.destroy()
        self.shared.clear()


def check_indices(shape: Sequence[int], components: int, comm: MPI.Intracomm) -> None:
    """Raises InputError where PETSc's indices do not hold a grid's unknowns, or a rank's part of
    its matrix."""
    unknowns = math.prod(shape) * components
    largest = np.iinfo(PETSc.IntType).max
    if unknowns * (1 + 2 * len(shape)) // comm.size > largest or unknowns > largest:
        raise InputError(
            "grid.shape",
            list(shape),
            f"at most {largest:,} unknowns and non-zeros a rank with "
            "this PETSc; build PETSc with --with-64-bit-indices or use a coarser grid",
        )


def sums_by_number(numbers: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """Sums (count,) of values by number, floats also on a rank that has none (where numpy's
    bincount gives integers, which no rank's floats can be added to)."""
    return np.bincount(numbers, values, count).astype(float)


def of_cells(index: Iterable[slice | int]) -> tuple[EllipsisType | slice | int, ...]:
    """An index of the grid's axes, the last ones of fields and of columns of them."""
    return (..., *index)


def along(values: np.ndarray, axis: int, dim: int) -> np.ndarray:
    """A 1-D array laid along one axis of `dim`, for broadcasting."""
    return np.asarray(values).reshape([-1 if d == axis else 1 for d in range(dim)])
