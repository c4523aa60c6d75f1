"""The vector space of all unknowns on a grid: one PETSc Vec, of which each block has a part on
every rank."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.aliases import Coefficients, Numbers
from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.io.vectors import Sink, Source
from npde_opt.parameters.draws import child
from npde_opt.parameters.interface import Placed
from npde_opt.parameters.point import ParametersAt
from npde_opt.parameters.transforms import GAIN, RUNAWAY
from npde_opt.parameters.unknown import Unknown

SMALL = 40
"""Most values of listed unknowns for which their own Hessian is formed column by column."""
FEW = 12
"""Most parameters whose Gauss-Newton Hessian is formed (see formed.py)."""

Unit = tuple[str, PETSc.Vec, float]


class ParameterSpace:
    """The vector space of all unknowns on a grid.

    `blocks` are the unknowns' blocks on this grid, by name. Methods are collective.

    Raises:
        InputError: for names that are given twice, and blocks that do not go with the grid.
    """

    def __init__(self, grid: Grid, unknowns: Sequence[Unknown]):
        self.grid, self.comm, self.unknowns = grid, grid.comm, tuple(unknowns)
        names = [u.name for u in self.unknowns]
        if len(set(names)) != len(names):
            raise InputError("unknowns", names, "distinct names")
        self._by_name = {u.name: u for u in self.unknowns}
        self.blocks: dict[str, Placed] = {
            u.name: u.block.on(grid, f"unknown.{u.name}") for u in self.unknowns
        }
        self._places: dict[str, slice] = {}
        self._weights: np.ndarray | None = None
        self.local_size = 0
        for name, block in sorted(
            self.blocks.items(), key=lambda item: not item[1].large
        ):
            end = self.local_size + block.local_size
            self._places[name] = slice(self.local_size, end)
            self.local_size = end

    @property
    def size(self) -> int:
        """Number of unknown values that are free."""
        return sum(block.free_count() for block in self.blocks.values())

    def unknown(self, name: str) -> Unknown:
        return self._by_name[name]

    def free(self, name: str) -> np.ndarray:
        """Which owned numbers are unknown (bool), in the shape of `own`: of a field those in cells
        that are active and not fixed."""
        return self.blocks[name].free

    def create_vec(self) -> PETSc.Vec:
        return PETSc.Vec().createMPI((self.local_size, None), comm=self.comm)

    # Parts of a vector

    def place(self, name: str) -> slice:
        """Where an unknown's own parameters stand among those of a rank."""
        return self._places[name]

    def own(self, vec: PETSc.Vec, name: str) -> np.ndarray:
        """The owned parameters of an unknown, as a view that writes the Vec: [i, j, k] of a field.

        PETSc keeps norms until the array is taken for writing: ranks that left that out would wait
        for each other.
        """
        return self.blocks[name].view(vec.getArray()[self._places[name]])

    def look(self, vec: PETSc.Vec, name: str) -> np.ndarray:
        """As `own`, to read only. Not collective."""
        return self.blocks[name].view(vec.getArray(readonly=True)[self._places[name]])

    def values(self, vec: PETSc.Vec, name: str) -> np.ndarray:
        """The parameters of an unknown that this rank reads: owned cells of a field, and all
        constants of regions or numbers of a small array (count,), the same on every rank."""
        return self.blocks[name].values(self.look(vec, name))

    def block_vec(self, vec: PETSc.Vec, name: str) -> PETSc.Vec:
        """A copy of an unknown's parameters as a Vec of their own: of a field a scalar Vec of the
        grid. The caller destroys it."""
        out = self.blocks[name].create_vec()
        self.take_block(vec, name, out)
        return out

    def take_block(self, vec: PETSc.Vec, name: str, out: PETSc.Vec) -> None:
        """Sets a Vec as `block_vec` makes them."""
        # Both lie in memory alike.
        out.getArray()[...] = vec.getArray(readonly=True)[self._places[name]]

    def add_block(self, vec: PETSc.Vec, name: str, part: PETSc.Vec) -> None:
        """Adds a Vec of `block_vec` to an unknown's parameters where they are free."""
        block, more = self.blocks[name], part.getArray(readonly=True)
        if block.all_free:
            own = vec.getArray()[self._places[name]]
            own += more
            return
        own = self.own(vec, name)
        np.add(own, block.view(more), out=own, where=block.free)

    def zero_block(self, vec: PETSc.Vec, name: str) -> None:
        """Sets an unknown's parameters to 0 where they are free."""
        if self.blocks[name].all_free:
            vec.getArray()[self._places[name]] = 0.0
        else:
            self.own(vec, name)[self.free(name)] = 0.0

    # Vectors

    def from_values(self, values: Coefficients) -> PETSc.Vec:
        """The Vec of given coefficient values: numbers, owned arrays [i, j, k] of fields, values of
        regions or arrays.

        Raises:
            InputError: for values that a transform does not reach.
        """
        vec = self.create_vec()
        for name, block in self.blocks.items():
            inverse = self.unknown(name).inverse
            self.own(vec, name)[...] = block.parameters(values[name], inverse)
        return vec

    def standard_normal(self, seed: int) -> PETSc.Vec:
        """White noise as a gradient (a dual vector), of every unknown its own, the same on any
        number of ranks."""
        vec = self.create_vec()
        for number, (name, block) in enumerate(self.blocks.items()):
            drawn = block.noise(child(seed, number))
            self.own(vec, name)[...] = drawn * np.sqrt(block.mass())
        return vec

    def trial_change(self, m: PETSc.Vec, name: str) -> PETSc.Vec:
        """Random changes of one unknown's values, of size 1 for logarithms and of the largest
        value's size otherwise; the same on any number of ranks. The caller destroys the Vec."""
        vec = self.create_vec()
        self.own(vec, name)[...] = self.blocks[name].noise(0)
        size = reductions.largest(self.comm, _largest(self.look(m, name)))
        vec.scale(self.unknown(name).transform.natural(size or 1.0))
        return vec

    def mass(self) -> PETSc.Vec:
        """The diagonal of the inner product: cell volumes for fields (1 where nothing is unknown),
        1 for other numbers."""
        vec = self.create_vec()
        vec.setArray(self.weights)
        return vec

    @property
    def weights(self) -> np.ndarray:
        """Own entries of `mass`, to read only; kept on small grids."""
        if self._weights is not None:
            return self._weights
        found = np.empty(self.local_size)
        for name, block in self.blocks.items():
            block.view(found[self._places[name]])[...] = block.mass()
        self._weights = found if self.grid.small else None
        return found

    def units(self, m: PETSc.Vec) -> list[Unit]:
        """Every value of the listed unknowns (none where there are more than SMALL): label, unit
        Vec and natural size, 1 for logarithms and the value's own size otherwise. The caller
        destroys the Vecs."""
        small = [u for u in self.unknowns if u.block.listed]
        if sum(u.block.count for u in small) > SMALL:
            return []
        return [unit for u in small for unit in self._units(m, u)]

    def _units(self, m: PETSc.Vec, u: Unknown) -> list[Unit]:
        p = self.values(m, u.name).ravel()
        found = []
        for i, value in enumerate(p):
            unit = self.create_vec()
            # Few numbers are all on rank 0.
            unit.getArray()[self._places[u.name]][i : i + 1] = 1.0
            size = float(abs(value) or np.abs(p).max() or 1.0)
            found.append((u.label(i), unit, u.transform.natural(size)))
        return found

    def at(self, vec: PETSc.Vec) -> ParametersAt:
        return ParametersAt(self, vec)

    def finite(self, vec: PETSc.Vec) -> bool:
        """`ParametersAt.finite` of a point, of which nothing more is asked. Collective."""
        array, own = vec.getArray(readonly=True), list[np.ndarray]()
        for name, place in self._places.items():
            block = self.blocks[name]
            own.append(block.values(block.view(array[place])))
        transforms = (u.transform for u in self.unknowns)
        good = all(t.sound(p) for t, p in zip(transforms, own, strict=True))
        return reductions.everywhere(self.comm, good)

    # Bounds, and what goes too far

    @property
    def has_bounds(self) -> bool:
        """Whether some parameter has a box constraint (a bounded transform needs none)."""
        return any(np.isfinite(u.box).any() for u in self.unknowns)

    def bounds(self) -> tuple[PETSc.Vec, PETSc.Vec] | None:
        """Box constraints on the parameters, or None where no unknown has any."""
        if not self.has_bounds:
            return None
        lower, upper = self.create_vec(), self.create_vec()
        for u in self.unknowns:
            low, high = u.box
            self.own(lower, u.name)[...] = max(low, PETSc.NINFINITY)
            self.own(upper, u.name)[...] = min(high, PETSc.INFINITY)
        return lower, upper

    def stretch(self, dm: PETSc.Vec) -> float:
        """Largest change of a parameter on which its coefficient depends exponentially."""
        some = [u for u in self.unknowns if u.transform.exponential]
        own = [_largest(self.look(dm, u.name)) for u in some]
        return reductions.largest(self.comm, float(np.max(own, initial=0.0)))

    def runaways(self, dm: PETSc.Vec) -> list[str]:
        """Names of the unknowns with a log transform that dm changes by more than a factor of
        exp(RUNAWAY)."""
        some = [u for u in self.unknowns if u.transform.multiplicative]
        if not some:
            return []
        own = np.array([_largest(self.look(dm, u.name)) for u in some])
        changes = reductions.largest(self.comm, own)
        return [
            u.name for u, change in zip(some, changes, strict=True) if change > RUNAWAY
        ]

    def saturated(self, m: PETSc.Vec, g: PETSc.Vec) -> np.ndarray:
        """Own entries (bool) that are as good as at an end of their transform's range; all values
        of an unknown together may still lower J by GAIN."""
        found = np.zeros(self.local_size, bool)
        for u in self.unknowns:
            p, slope = self.look(m, u.name), self.look(g, u.name)
            block = self.blocks[u.name]
            own = block.view(found[self._places[u.name]])
            own[...] = u.transform.saturated(p, slope, GAIN / block.count)
        return found

    def error(self, m: PETSc.Vec, name: str, truth: Numbers, start: Numbers) -> float:
        """Error of an unknown against its true values: of fields in the parameter and relative to
        that of the start, of other numbers in the coefficient and relative to the truth.

        Args:
            truth, start: coefficient values, as in `from_values`.
        """
        own = self.blocks[name].squares(
            self.unknown(name), self.look(m, name), truth, start
        )
        wrong, size = reductions.total(self.comm, own)
        return float(np.sqrt(wrong / max(size, 1e-300)))

    # Files

    def write(self, vec: PETSc.Vec, sink: Sink) -> None:
        """Writes block by block in natural order, so that any number of ranks can read it."""
        for name, block in self.blocks.items():
            block.write(self.look(vec, name), sink)

    def read(self, vec: PETSc.Vec, source: Source) -> None:
        """Reads what `write` wrote, on any number of ranks."""
        for name, block in self.blocks.items():
            self.own(vec, name)[...] = block.read(source)


def _largest(values: np.ndarray) -> float:
    return float(np.abs(values).max(initial=0.0))
