"""A state of several species at one time, and the cotangents of coefficients.

States that share every operator may be columns of one array [c, s, i, j, k], samples fastest in
memory: fields of cells broadcast over the samples, as these stand before the axes of the grid.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar, cast

import numpy as np

from npde_opt.aliases import Coefficients, Numbers
from npde_opt.grids import Grid
from npde_opt.grids.sides import Side

T = TypeVar("T")
SMALL = 1 << 16
"""Values of a state up to which what is found of it is kept: beyond, arrays leave the cache, and
memory counts."""


def channels(grid: Grid, count: int, columns: tuple[int, ...] = ()) -> np.ndarray:
    """A zero array [c, i, j, k] whose channels are each stored x fastest; with (s,) `columns`
    [c, s, i, j, k], samples fastest."""
    shape = (*columns, *grid.local_shape)
    return np.zeros((count, *shape[::-1])).transpose(0, *range(len(shape), 0, -1))


def over_columns(grid: Grid, values: np.ndarray) -> np.ndarray:
    """The sum [i, j, k] of a field over its columns, where it has any."""
    return values.sum(axis=0) if values.ndim > grid.dim else values


class Ghosts(Protocol):
    """Values in the ghosts outside the domain (see boundary.py)."""

    def put(self, c: int, ghosted: np.ndarray) -> bool: ...
    def field(self, c: int) -> np.ndarray | None: ...
    def push(self, dk: Coefficients) -> Ghosts | None: ...
    def sought(self, out: Gradients) -> Outer | None: ...
    def pull(self, outer: Outer, out: Gradients) -> None: ...
    def second(self, outer: Outer, dk: Coefficients, out: Gradients) -> None: ...


class Boundary(Protocol):
    """The boundary values of a state, or of its columns, at given coefficients."""

    any: bool
    """Whether something stands in the ghosts."""
    constant: bool
    """Whether it is the same at all times."""

    def outside(self, t: float, middle: float) -> Ghosts | None:
        """At a time in the step around `middle`; None where nothing stands there."""

    def size(self, times: np.ndarray) -> float:
        """The largest |g| on this rank at given times."""


class State:
    """Values [c, i, j, k] of the owned cells at time t, or columns [c, s, i, j, k]; ghosts are
    fetched when first asked for, and kept, as is what terms find of them.

    Args:
        outside: boundary values (see boundary.py), or None for zero; of a change of a state their
            change.
        middle: of the time step that the state belongs to, which says on which side of a jump of a
            history it is.
    """

    def __init__(
        self,
        grid: Grid,
        u: np.ndarray,
        t: float = 0.0,
        outside: Ghosts | None = None,
        middle: float | None = None,
    ):
        self.grid, self.u, self.t, self.outside = grid, u, t, outside
        self.middle = t if middle is None else middle
        self._ghosted: dict[int, np.ndarray] = {}
        self._found: dict[object, object] = {}

    def kept(self, key: object, find: Callable[[], T]) -> T:
        """What a term finds of this state, kept from the first time that it is asked for where the
        state is small."""
        if self.u.size > SMALL:
            return find()
        if key not in self._found:
            self._found[key] = find()
        return cast(T, self._found[key])

    def zeros(self) -> np.ndarray:
        """Of the shape of u: what a residual is."""
        return np.zeros_like(self.u)

    def column(self, s: int) -> State:
        """One of the columns, as a view, without boundary values."""
        return State(self.grid, self.u[:, s], self.t, None, self.middle)

    def moved(self, change: np.ndarray) -> State:
        """u + change at the same time."""
        return State(self.grid, self.u + change, self.t, self.outside, self.middle)

    def carrying(self, change: np.ndarray, dk: Coefficients) -> State | None:
        """A change of this state with that of its boundary values along dk; None where they do not
        change."""
        outside = self.outside.push(dk) if self.outside is not None else None
        return (
            State(self.grid, change, self.t, outside, self.middle) if outside else None
        )

    def ghosted(self, c: int) -> np.ndarray:
        """Species c with one ghost cell all round, of all columns. Collective at the first
        call."""
        if c not in self._ghosted:
            found = self.grid.ghosted(self.u[c])
            if self.outside is not None:
                self.outside.put(c, found)
            self._ghosted[c] = found
        return self._ghosted[c]


class Summed(Protocol):
    """A block of parameters, for whose coefficient cotangents are added up."""

    def cotangent(self, value: Numbers) -> Numbers:
        """A term's cotangent in the form in which they are added."""


Outer = dict[tuple[int, str], tuple[Side, np.ndarray | float]]
"""(side, cotangent of its boundary values as a layer) by species and name of side."""


class Gradients:
    """This rank's part of the cotangents of the unknown coefficients, in the form in which each
    block adds them up.

    Args:
        blocks: the blocks of the unknowns. Cotangents of other coefficients are dropped.

    Attributes:
        outer: where terms add cotangents of the boundary values of the state at hand; None where
            nobody asks for them.
    """

    outer: Outer | None = None

    def __init__(self, blocks: Mapping[str, Summed]):
        self.blocks = blocks
        self.values: dict[str, Numbers] = {}

    def add(self, name: str, value: Numbers) -> None:
        if name not in self.blocks:
            return
        value = self.blocks[name].cotangent(value)
        self.values[name] = self.values[name] + value if name in self.values else value

    def add_outer(self, c: int, side: str, layer: np.ndarray | float) -> None:
        """Adds a cotangent of the boundary values of a species at a side, where it is sought."""
        if self.outer is not None and (c, side) in self.outer:
            at, found = self.outer[c, side]
            self.outer[c, side] = at, found + layer

    def subtract(self, other: Gradients) -> None:
        for name, value in other.values.items():
            self.add(name, -value)


SAMPLE = 1024
"""Cells a rank whose rates are looked at within a trajectory; at its first and last state all
are."""


def sample(field: np.ndarray, start: int = 0) -> np.ndarray:
    """Every so many of a rank's cells, from one of the first on, which changes with `start`. The
    distance is odd, as numbers of cells along axes are often even."""
    return np.asarray(field)[sampled(field.shape, start)]


def samples(u: np.ndarray, start: int = 0) -> np.ndarray:
    """`sample` of each species of a state."""
    cells = sampled(u.shape[1:], start)
    places: tuple[slice | np.ndarray, ...] = (slice(None), *cells)
    return u[places]


def sampled(shape: tuple[int, ...], start: int) -> tuple[np.ndarray, ...]:
    """Indices of the cells of a `sample`."""
    every = distance(math.prod(shape))
    return _places(shape, start % every, every)


def distance(cells: int) -> int:
    """Between two cells of a sample."""
    return max(cells // SAMPLE, 1) | 1


@functools.lru_cache(maxsize=256)
def _places(shape: tuple[int, ...], first: int, every: int) -> tuple[np.ndarray, ...]:
    """Indices of the cells first, first + every ..., the first axis fastest."""
    flat = np.arange(first, int(np.prod(shape)), every)
    return tuple(np.unravel_index(flat, shape, order="F"))
