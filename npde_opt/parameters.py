"""Named unknowns <-> one PETSc Vec: k_name = T(p_name) for fields and small arrays (scalars, histories), and by region
k_name(cell) = T(p_name[region(cell)]).

Transforms T: identity k = p; log k = exp(p); bounded k = lo + (hi - lo) / (1 + exp(-p)). Owned parts of the fields come
first in the Vec, in the grid's ordering; region constants and small arrays are stored on rank 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.errors import InputError
from npde_opt.grids import Grid, sums_by_number
from npde_opt.io.vectors import Sink, Source
from npde_opt.reductions import largest

TRANSFORMS = ("identity", "log", "bounded")
RUNAWAY = 30.0
"""Change of a logarithm, a factor of 1e13, that is no answer any more."""
SATURATED = 12.0
"""|p| of a bounded transform from which on its coefficient is at an end of its range, to 6e-6 of it."""
GAIN = 1e-3
"""What the objective may still gain on the way of all values of an unknown to the ends of their range."""
SMALL = 40
"""Most values of small unknowns for which their own Hessian is formed column by column."""


@dataclass(frozen=True, eq=False)
class Unknown:
    """One unknown coefficient.

    Args:
        name: the coefficient's name in the equation.
        transform: 'identity', 'log' or 'bounded'.
        bounds: (lo, hi) of the coefficient: the range of 'bounded', or box constraints for bounded optimizers with
            the other transforms (None: none on that side).
        regions: None for a field, or an int array [i, j, k] (global, on every rank) of region numbers 0, 1, ...
        fixed: optional values of the coefficient [i, j, k]; where they are not NaN the field is known and kept.
        constants: of regions: at least this many, also where the last ones have no cell (on a coarser grid).
        length: None for a field or regions; 1 for a scalar, n for n values (a history), the same on every rank.
    """

    name: str
    transform: str = "identity"
    bounds: tuple[float | None, float | None] = (None, None)
    regions: np.ndarray | None = None
    fixed: np.ndarray | None = None
    length: int | None = None
    constants: int = 0

    def __post_init__(self):
        lo, hi = self.bounds
        if self.transform not in TRANSFORMS:
            raise InputError(f"unknown.{self.name}.transform", repr(self.transform), ", ".join(TRANSFORMS))
        if (self.transform == "bounded" or (lo is not None and hi is not None)) and not (
                lo is not None and hi is not None and lo < hi):
            raise InputError(f"unknown.{self.name}.bounds", list(self.bounds), "[lower, upper] with lower < upper")
        if self.transform == "log" and lo is not None and lo <= 0:
            raise InputError(f"unknown.{self.name}.bounds", list(self.bounds), "positive bounds with the log transform")
        if self.regions is not None and self.fixed is not None:
            raise InputError(f"unknown.{self.name}.fixed", "given with regions", "fields only")
        if self.length is not None and (self.length < 1 or self.regions is not None or self.fixed is not None):
            raise InputError(f"unknown.{self.name}.length", self.length, "a positive integer, without regions or fixed")

    @property
    def is_field(self) -> bool:
        """One value a cell, rather than region constants or a small array."""
        return self.regions is None and self.length is None

    @property
    def count(self) -> int:
        """Number of region constants or values of a small array; 0 for fields."""
        if self.length is not None:
            return self.length
        return max(int(self.regions.max()) + 1, self.constants) if self.regions is not None else 0

    @property
    def range(self) -> tuple[float, float]:
        """The bounds, infinite where there are none."""
        lo, hi = self.bounds
        return -np.inf if lo is None else lo, np.inf if hi is None else hi

    def value(self, p: np.ndarray) -> np.ndarray:
        if self.transform == "log":
            with np.errstate(over="ignore"):
                return np.exp(p)
        if self.transform == "bounded":
            lo, hi = self.range
            return lo + (hi - lo) * logistic(p)
        return np.array(p, order="F")

    def slope(self, k: np.ndarray) -> np.ndarray | float:
        """dT/dp where T(p) = k."""
        if self.transform == "log":
            return k
        if self.transform == "bounded":
            lo, hi = self.range
            return (k - lo) * (hi - k) / (hi - lo)
        return 1.0

    def curvature(self, k: np.ndarray) -> np.ndarray | float:
        """d2T/dp2 where T(p) = k."""
        if self.transform == "log":
            return k
        if self.transform == "bounded":
            lo, hi = self.range
            return (k - lo) * (hi - k) / (hi - lo) * (hi + lo - 2 * k) / (hi - lo)
        return 0.0

    def inverse(self, k: np.ndarray | float) -> np.ndarray:
        """p with T(p) = k. Raises InputError where k is outside the transform's range."""
        values = np.asarray(k, float)
        lo, hi = self.range
        if self.transform == "log":
            self._require(values, values > 0, "positive values (log transform)")
            return np.log(values)
        if self.transform == "bounded":
            self._require(values, (values > lo) & (values < hi), f"values strictly between {lo:g} and {hi:g}")
            s = (values - lo) / (hi - lo)
            return np.log(s / (1 - s))
        self._require(values, np.isfinite(values), "finite values")
        return values.copy()

    def _require(self, values: np.ndarray, good: np.ndarray, allowed: str) -> None:
        if not np.all(good):
            raise InputError(f"unknown.{self.name}", float(values[~good].flat[0]), allowed)


def logistic(p: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(p))
    return np.where(p >= 0, 1, e) / (1 + e)


class ParameterSpace:
    """The vector space of all unknowns on a grid."""

    def __init__(self, grid: Grid, unknowns: Sequence[Unknown]):
        self.grid, self.comm, self.unknowns = grid, grid.comm, tuple(unknowns)
        names = [u.name for u in self.unknowns]
        if not names or len(set(names)) != len(names):
            raise InputError("unknowns", names, "at least one, with distinct names")
        for u in self.unknowns:
            for label, array in (("regions", u.regions), ("fixed", u.fixed)):
                if array is not None and array.shape != grid.shape:
                    raise InputError(f"unknown.{u.name}.{label}", f"shape {array.shape}", f"shape {grid.shape}")
            if u.regions is not None and np.any((u.regions < 0) & (True if grid.active_global is None else grid.active_global)):
                raise InputError(f"unknown.{u.name}.regions", f"{int(u.regions.min())} in an active cell", "integers >= 0")
        self._offsets: dict[str, int] = {}
        size = 0
        for u in self.unknowns:
            if u.is_field:
                self._offsets[u.name] = size
                size += grid.layout.local_size
        self._fields = size
        for u in self.unknowns:
            if not u.is_field:
                self._offsets[u.name] = size
                size += u.count if self.comm.rank == 0 else 0
        self.local_size = size
        self._regions = {u.name: np.asfortranarray(u.regions[grid.local_slice])
                         for u in self.unknowns if u.regions is not None}
        self._free = {u.name: np.asfortranarray(grid.active & (np.isnan(u.fixed[grid.local_slice])
                                                if u.fixed is not None else True))
                      for u in self.unknowns if u.is_field}
        self._fixed = {u.name: np.asfortranarray(u.fixed[grid.local_slice]) for u in self.unknowns
                       if u.fixed is not None}

    @property
    def size(self) -> int:
        """Number of unknown values that are free."""
        fields = sum(int(f.sum()) for f in self._free.values())
        return int(reductions.total(self.comm, fields)) + sum(u.count for u in self.unknowns)

    def free(self, name: str) -> np.ndarray:
        """Owned cells where the field is unknown: active and not fixed."""
        return self._free[name]

    def create_vec(self) -> PETSc.Vec:
        return PETSc.Vec().createMPI((self.local_size, None), comm=self.comm)

    def offset(self, name: str) -> int:
        """Where the owned part of an unknown starts in the owned part of the Vec."""
        return self._offsets[name]

    def field(self, vec: PETSc.Vec, name: str) -> np.ndarray:
        """The owned part of a field as a view [i, j, k]."""
        at = self._offsets[name]
        return vec.getArray()[at: at + self.grid.layout.local_size].reshape(self.grid.local_shape, order="F")

    def field_vec(self, vec: PETSc.Vec, name: str) -> PETSc.Vec:
        """A copy of a field as a scalar Vec of the grid; the caller destroys it."""
        out = self.grid.create_scalar()
        self.grid.view(out)[...] = self.field(vec, name)
        return out

    def block_vec(self, vec: PETSc.Vec, name: str) -> PETSc.Vec:
        """A copy of an unknown's parameters: a scalar Vec of the grid, or a Vec of its constants or small array, all on
        rank 0. The caller destroys it. Collective."""
        u = self.unknown(name)
        if u.is_field:
            return self.field_vec(vec, name)
        out = PETSc.Vec().createMPI((self._owned(u), u.count), comm=self.comm)
        out.setArray(self.owned_constants(vec, name))
        return out

    def add_block(self, vec: PETSc.Vec, name: str, part: PETSc.Vec) -> None:
        """Adds a block to an unknown's parameters where they are free. Collective."""
        if self.unknown(name).is_field:
            target = self.field(vec, name)
            target += np.where(self.free(name), self.grid.view(part), 0.0)
        else:
            own = self.owned_constants(vec, name)
            own += part.getArray(readonly=True)

    def zero_block(self, vec: PETSc.Vec, name: str) -> None:
        """Sets an unknown's parameters to 0 where they are free. Collective."""
        if self.unknown(name).is_field:
            self.field(vec, name)[self.free(name)] = 0
        else:
            self.owned_constants(vec, name)[...] = 0

    def constants(self, vec: PETSc.Vec, name: str) -> np.ndarray:
        """Region constants, replicated. Collective."""
        at, u = self._offsets[name], self.unknown(name)
        own = np.array(vec.getArray(readonly=True)[at: at + u.count]) if self.comm.rank == 0 else None
        return self.comm.bcast(own, root=0)

    def _owned(self, u: Unknown) -> int:
        return u.count if self.comm.rank == 0 else 0

    def owned_constants(self, vec: PETSc.Vec, name: str) -> np.ndarray:
        """The owned part of region constants as a view: all of them on rank 0, none elsewhere. Collective: PETSc keeps
        norms until the array is taken for writing, so ranks that left that out would wait for each other."""
        at, u = self._offsets[name], self.unknown(name)
        return vec.getArray()[at: at + self._owned(u)]

    def unknown(self, name: str) -> Unknown:
        return next(u for u in self.unknowns if u.name == name)

    def split(self, vec: PETSc.Vec) -> dict[str, np.ndarray]:
        """Parameters by name: owned view [i, j, k] of a field, replicated 1-D array of region constants."""
        return {u.name: self.field(vec, u.name) if u.is_field else self.constants(vec, u.name)
                for u in self.unknowns}

    def from_values(self, values: Mapping[str, np.ndarray | float]) -> PETSc.Vec:
        """The Vec of given coefficient values: a number, an owned array [i, j, k], or region values."""
        vec = self.create_vec()
        for u in self.unknowns:
            if u.is_field:
                field = np.array(np.broadcast_to(np.asarray(values[u.name], float), self.grid.local_shape), order="F")
                inside = self._free[u.name]
                out = self.field(vec, u.name)
                out[inside] = u.inverse(field[inside])
                if u.fixed is not None:  # regularizers see the known values too
                    known = self.grid.active & ~inside
                    out[known] = u.inverse(self._fixed[u.name][known])
            else:
                given = np.broadcast_to(np.asarray(values[u.name], float), u.count)
                self.owned_constants(vec, u.name)[...] = u.inverse(given)[:self._owned(u)]
        return vec

    def standard_normal(self, seed: int) -> PETSc.Vec:
        """White noise as a gradient (a dual vector), drawn in natural order: the same on any number of ranks."""
        vec, noise = self.create_vec(), self.grid.standard_normal(seed)
        for u in self.unknowns:
            if u.is_field:
                values = self.grid.view(noise) * np.sqrt(self.grid.volume)
                self.field(vec, u.name)[...] = np.where(self.free(u.name), values, 0.0)
            else:
                own = self.owned_constants(vec, u.name)
                own[...] = np.random.default_rng([seed, u.count]).standard_normal(u.count)[:own.size]
        noise.destroy()
        return vec

    def trial_change(self, m: PETSc.Vec, name: str) -> PETSc.Vec:
        """Random changes of one unknown's values, of size 1 for logarithms and of the largest value's size otherwise.
        The same on any number of ranks. Collective; the caller destroys the Vec."""
        u, vec = self.unknown(name), self.create_vec()
        if u.is_field:
            noise = self.grid.standard_normal(0)
            self.field(vec, name)[...] = np.where(self.free(name), self.grid.view(noise), 0.0)
            noise.destroy()
        else:
            own = self.owned_constants(vec, name)
            own[...] = np.random.default_rng(0).standard_normal(u.count)[:own.size]
        if u.transform == "identity":
            vec.scale(largest(self.comm, float(np.abs(self._own(m, u)).max(initial=0.0))) or 1.0)
        return vec

    def at(self, vec: PETSc.Vec) -> ParametersAt:
        return ParametersAt(self, vec)

    def weights(self) -> PETSc.Vec:
        """Cell volumes for fields (1 where nothing is unknown), 1 for region constants."""
        vec = self.create_vec()
        vec.set(1.0)
        for name, free in self._free.items():
            self.field(vec, name)[...] = np.where(free, self.grid.volume, 1.0)
        return vec

    @property
    def has_bounds(self) -> bool:
        """Whether some parameter has a box constraint (a bounded transform needs none)."""
        return any(b is not None for u in self.unknowns if u.transform != "bounded" for b in u.bounds)

    def bounds(self) -> tuple[PETSc.Vec, PETSc.Vec] | None:
        """Box constraints on the parameters, or None where no unknown has any (a bounded transform needs none)."""
        if not self.has_bounds:
            return None
        lower, upper = self.create_vec(), self.create_vec()
        for vec, side, default in ((lower, 0, PETSc.NINFINITY), (upper, 1, PETSc.INFINITY)):
            vec.set(default)
            for u in self.unknowns:
                limit = u.bounds[side]
                if u.transform == "bounded" or limit is None:
                    continue
                at = self._offsets[u.name]
                count = self.grid.layout.local_size if u.is_field else u.count * (self.comm.rank == 0)
                vec.getArray()[at: at + count] = u.inverse(limit)
        return lower, upper

    def stretch(self, dm: PETSc.Vec) -> float:
        """Largest change of a parameter whose coefficient depends on it exponentially (log or bounded). Collective."""
        own = [np.abs(self._own(dm, u)).max(initial=0.0) for u in self.unknowns if u.transform != "identity"]
        return largest(self.comm, float(np.max(own, initial=0.0)))

    def runaways(self, dm: PETSc.Vec) -> list[str]:
        """Names of the unknowns with a log transform that dm changes by more than a factor of exp(RUNAWAY). Collective."""
        logs = [u for u in self.unknowns if u.transform == "log"]
        own = np.array([np.abs(self._own(dm, u)).max(initial=0.0) for u in logs])
        changes = largest(self.comm, own) if logs else own
        return [u.name for u, change in zip(logs, changes, strict=True) if change > RUNAWAY]

    def saturated(self, m: PETSc.Vec, g: PETSc.Vec) -> np.ndarray:
        """Own entries (bool) at an end of a bounded transform's range.

        They are within exp(-SATURATED) of it, -g leads on, and all the way to the end lowers J by next to nothing: there
        k - end is proportional to exp(-|p|), so that |g| = |dJ/dk (k - end)| is what it gains. In a range of many
        decades a value that far from its end may have a long way to go.
        """
        found = np.zeros(self.local_size, bool)
        for u in self.unknowns:
            if u.transform == "bounded":
                p, slope = self._own(m, u), self._own(g, u)
                at = self._offsets[u.name]
                nothing = GAIN / (self.grid.active_size if u.is_field else u.count)
                outwards = (p * slope < 0) & (np.abs(slope) <= nothing)
                found[at: at + p.size] = (np.abs(p) > SATURATED) & outwards
        return found

    def units(self, m: PETSc.Vec) -> list[tuple[str, PETSc.Vec, float]]:
        """Every value of the small unknowns (none where there are more than SMALL): name, unit Vec and natural size,
        1 for logarithms and the value's own size otherwise. Collective; the caller destroys the Vecs."""
        small = [u for u in self.unknowns if not u.is_field]
        if sum(u.count for u in small) > SMALL:
            return []
        found = []
        for u in small:
            p = self.constants(m, u.name)
            for i in range(u.count):
                unit = self.create_vec()
                self.owned_constants(unit, u.name)[i: i + 1] = 1.0
                size = 1.0 if u.transform != "identity" else float(abs(p[i]) or np.abs(p).max() or 1.0)
                found.append((u.name if u.count == 1 else f"{u.name}[{i}]", unit, size))
        return found

    def _own(self, vec: PETSc.Vec, u: Unknown) -> np.ndarray:
        """The owned parameters of an unknown, flat, as they lie in the Vec."""
        at = self._offsets[u.name]
        size = self.grid.layout.local_size if u.is_field else self._owned(u)
        return vec.getArray(readonly=True)[at: at + size]

    def write(self, vec: PETSc.Vec, sink: Sink) -> None:
        """Writes field by field in natural order, so that any number of ranks can read it. Collective."""
        for u in self.unknowns:
            if u.is_field:
                sink.field(self.grid, self.field(vec, u.name))
            else:
                sink.constants(self.owned_constants(vec, u.name))

    def read(self, vec: PETSc.Vec, source: Source) -> None:
        """Reads what `write` wrote, on any number of ranks. Collective."""
        for u in self.unknowns:
            if u.is_field:
                self.field(vec, u.name)[...] = source.field(self.grid)
            else:
                own = self.owned_constants(vec, u.name)
                own[...] = source.constants(u.count)[: own.size]


class ParametersAt:
    """Coefficients k = T(p) at a point and the chain rule through T."""

    def __init__(self, space: ParameterSpace, vec: PETSc.Vec):
        self.space = space
        parts = space.split(vec)
        self.k = {u.name: u.value(parts[u.name]) for u in space.unknowns}

    def coefficients(self) -> dict[str, np.ndarray]:
        """Owned cell values [i, j, k] (1 in inactive cells, known values where fixed); small arrays (n,), scalars ()."""
        out = {}
        for u in self.space.unknowns:
            if u.length is not None:
                out[u.name] = self.k[u.name] if u.length > 1 else self.k[u.name][0]
                continue
            if u.regions is not None:
                out[u.name] = self.k[u.name][self.space._regions[u.name]]
                continue
            free = self.space.free(u.name)
            values = self.k[u.name]
            if not free.all():
                values = np.where(free, values, self.space._fixed.get(u.name, 1.0))
                values[~self.space.grid.active] = 1.0
            out[u.name] = values
        return out

    def finite(self) -> bool:
        """True where all coefficients are finite and those of log or bounded transforms positive. Collective."""
        good = all(np.isfinite(k).all() and (u.transform != "log" or (k > 0).all())
                   for u, k in ((u, self.k[u.name]) for u in self.space.unknowns))
        return reductions.everywhere(self.space.comm, good)

    def push(self, dm: PETSc.Vec) -> dict[str, np.ndarray]:
        """dk = T'(p) dp, owned cell values, small arrays or scalars."""
        out = {}
        for name, dp in self.space.split(dm).items():
            u = self.space.unknown(name)
            change = u.slope(self.k[name]) * dp
            if u.length is not None:
                out[name] = change if u.length > 1 else change[0]
                continue
            out[name] = change[self.space._regions[name]] if u.regions is not None else \
                np.where(self.space.free(name), change, 0.0)
        return out

    def pull(self, dk: Mapping[str, np.ndarray], out: PETSc.Vec) -> None:
        """Adds T'(p)^T of cell values (of a small array: values a rank, to be summed), the transpose of `push`. Collective."""
        for u in self.space.unknowns:
            if u.name in dk:
                self._add(u, u.slope(self.k[u.name]), dk[u.name], out)

    def pull_second(self, dk: Mapping[str, np.ndarray], dm: PETSc.Vec, out: PETSc.Vec) -> None:
        """Adds T''(p) dp times cell values: the curvature of the transform. Collective."""
        for name, dp in self.space.split(dm).items():
            u = self.space.unknown(name)
            if name in dk and u.transform != "identity":
                self._add(u, u.curvature(self.k[name]) * dp, dk[name], out)

    def _add(self, u: Unknown, factor, cells: np.ndarray, out: PETSc.Vec) -> None:
        if u.length is not None:
            own = self.space.owned_constants(out, u.name)
            own += (np.broadcast_to(factor, u.length) * self._total(u.length, cells))[:own.size]
            return
        if u.regions is None:
            target = self.space.field(out, u.name)
            target += np.where(self.space.free(u.name), factor * cells, 0.0)
            return
        region = self.space._regions[u.name]
        on = self.space.grid.active
        sums = sums_by_number(region[on], cells[on], u.count)
        total = reductions.total(self.space.comm, sums)
        own = self.space.owned_constants(out, u.name)
        own += (np.broadcast_to(factor, u.count) * total)[:own.size]

    def _total(self, length: int, values: np.ndarray) -> np.ndarray:
        """Cotangents of a small array summed over ranks, of a scalar over the active cells too."""
        if length == 1:
            grid = self.space.grid
            values = values[grid.active].sum() if np.shape(values) == grid.local_shape else np.sum(values)
        return reductions.total(self.space.comm, np.broadcast_to(np.asarray(values, float), length))
