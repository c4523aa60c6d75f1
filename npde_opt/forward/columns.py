"""Experiments that share every operator, as columns of one state: [c, s, i, j, k], samples fastest
in memory.

Fields of cells broadcast over the samples, as these stand before the axes of the grid. What drives
the experiments may differ from column to column: boundary values and loads are columns too; sources
are taken one experiment at a time, as they do not depend on the state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from npde_opt.aliases import Coefficients
from npde_opt.forward.experiment import Driving
from npde_opt.grids import Grid, of_cells
from npde_opt.grids.sides import Side
from npde_opt.terms.boundary import BoundaryValuesAt, Outside
from npde_opt.terms.interface import Term, TermAt
from npde_opt.terms.source import Load
from npde_opt.terms.state import Boundary, Ghosts, Gradients, Outer, State

if TYPE_CHECKING:
    from npde_opt.forward.stepper import Stepper

CELLS = 1 << 16
"""Cells a rank of all columns of a state. Beyond, arrays leave the cache, and what a step costs is
the work on its cells, not the calls."""


def blocks(
    members: Sequence[int], driving: Sequence[Driving], unknown: Iterable[str]
) -> list[tuple[int, ...]]:
    """The experiments that go together as columns, as many as CELLS lets. Those whose boundary
    values depend on unknowns go alone.

    Args:
        driving: of all experiments.
    """
    sought = set(unknown)
    apart = {
        e for e in members if sought.intersection(driving[e].boundary.coefficients)
    }
    alone = [e for e in members if e in apart]
    rest = [e for e in members if e not in apart]
    most = most_columns(driving[0].grid)
    found = [tuple(rest[at : at + most]) for at in range(0, len(rest), most)]
    return [*found, *((e,) for e in alone)]


def most_columns(grid: Grid) -> int:
    """Experiments that go together at most."""
    return max(CELLS * grid.comm.size // grid.size, 1)


@dataclass(frozen=True)
class Columns:
    """Experiments that are columns of one state.

    Args:
        members: numbers of the experiments; a single one has states [c, i, j, k] of its own.
    """

    members: tuple[int, ...]

    def join(self, states: Sequence[np.ndarray]) -> np.ndarray:
        """The members' states, or fields [..., i, j, k], as one [..., s, i, j, k] of states."""
        if len(self.members) == 1:
            return states[0]
        count, *cells = states[0].shape
        out = np.empty((count, *cells[::-1], len(states)))
        whole = out.transpose(0, *range(out.ndim - 1, 0, -1))
        for s, state in enumerate(states):
            whole[:, s] = state
        return whole

    def part(self, u: np.ndarray, at: int) -> np.ndarray:
        """A member's column, as a view."""
        return u if len(self.members) == 1 else u[:, at]

    def each(self, *arrays: np.ndarray) -> Iterator[tuple[Any, ...]]:
        """(experiment, its columns of the arrays) of all members."""
        for at, e in enumerate(self.members):
            yield e, *(self.part(u, at) for u in arrays)

    def boundary(self, driving: Sequence[Driving], k: Coefficients) -> Boundary:
        """The boundary values of all members.

        Args:
            driving: of all experiments.
        """
        own = [driving[e].boundary.at(k) for e in self.members]
        return own[0] if len(own) == 1 else OwnBoundary(own)

    def _filled(self, arrays: Sequence[np.ndarray | None]) -> np.ndarray | None:
        """The members' arrays as one, 0 for those that have none."""
        given = next((a for a in arrays if a is not None), None)
        if given is None:
            return None
        zero = np.zeros_like(given)
        return self.join([zero if a is None else a for a in arrays])

    def driven(self, driving: Sequence[Driving], k: Coefficients) -> list[TermAt]:
        """The sources and loads of all members."""
        own = [driving[e] for e in self.members]
        if len(own) == 1:
            return [t.at(k) for t in own[0].terms]
        found: list[TermAt] = []
        sources = [[t.at(k) for t in d.sources] for d in own]
        if any(sources):
            found.append(OwnSources(own[0].grid, sources))
        load = self._filled([d.load for d in own])
        if load is not None:
            found.append(Load(own[0].grid, load).at(k))
        return found


@dataclass(frozen=True)
class Batch(Columns):
    """Experiments that one stepper runs together."""

    stepper: Stepper


class OwnBoundary:
    """Boundary values of each column.

    Args:
        columns: at given coefficients, on which no unknown has an influence.
    """

    def __init__(self, columns: Sequence[BoundaryValuesAt]):
        self.columns = columns
        self.any = any(at.any for at in columns)
        self.constant = all(at.boundary.constant for at in columns)
        self._always: OwnGhosts | None = None

    def outside(self, t: float, middle: float) -> Ghosts | None:
        """At a time in the step around `middle`; None where nothing stands there. One object for
        all times where nothing changes."""
        if not self.any:
            return None
        if self._always is not None:
            return self._always
        found = OwnGhosts([at.outside(t, middle) for at in self.columns])
        if self.constant:
            self._always = found
        return found

    def size(self, times: np.ndarray) -> float:
        """The largest |g| on this rank at given times."""
        return max(at.size(times) for at in self.columns)


class OwnGhosts:
    """Values in the ghosts outside, of each column; they depend on no unknowns."""

    def __init__(self, columns: Sequence[Outside | None]):
        self._layers: dict[tuple[int, str], tuple[Side, np.ndarray]] = {}
        for s, outside in enumerate(columns):
            for c, side, layer in outside.parts if outside is not None else ():
                empty = np.zeros((len(columns), *layer.shape), order="F")
                self._layers.setdefault((c, side.name), (side, empty))[1][s] = layer
        self.count = len(columns)

    def put(self, c: int, ghosted: np.ndarray) -> bool:
        """Writes those of a species into ghosted fields. Whether it has some, on any rank."""
        found = False
        for (species, _), (side, layers) in self._layers.items():
            if species == c:
                ghosted[of_cells(side.ghosts)] = layers
                found = True
        return found

    def field(self, c: int) -> np.ndarray | None:
        """Ghosted fields with those of a species, 0 elsewhere; None where it has none."""
        grid = next(side.grid for side, _ in self._layers.values())
        out = np.zeros((self.count, *(n + 2 for n in grid.local_shape)), order="F")
        return out if self.put(c, out) else None

    def push(self, dk: Coefficients) -> None:
        return None

    def sought(self, out: Gradients) -> None:
        return None

    def pull(self, outer: Outer, out: Gradients) -> None:
        """Nothing depends on unknowns."""

    def second(self, outer: Outer, dk: Coefficients, out: Gradients) -> None:
        """Nothing depends on unknowns."""


class AnySources(Term):
    """Sources that differ from column to column."""

    symmetric = True
    pointwise = True
    stateless = True
    columns = True


class OwnSources(TermAt):
    """The sources of each column.

    Args:
        sources: by column, at given coefficients; none of them depends on the state.
    """

    def __init__(self, grid: Grid, sources: Sequence[Sequence[TermAt]]):
        self.term, self.grid, self.sources = AnySources(), grid, sources

    def _each(self, *states: State) -> Iterator[tuple[int, TermAt, list[State]]]:
        """(column, a source, that column of the states)."""
        for s, points in enumerate(self.sources):
            own = [state.column(s) for state in states] if points else []
            for point in points:
                yield s, point, own

    def residual(self, state: State) -> np.ndarray:
        out = state.zeros()
        for s, point, (own,) in self._each(state):
            out[:, s] += point.residual(own)
        return out

    def derivative(self, state: State, dk: Coefficients) -> np.ndarray | float:
        out, named = state.zeros(), set(dk)
        for s, point, (own,) in self._each(state):
            if named.intersection(point.term.coefficients):
                out[:, s] += point.derivative(own, dk)
        return out

    def contraction(self, state: State, adjoint: State, out: Gradients) -> None:
        for _, point, (own, own_adjoint) in self._each(state, adjoint):
            point.contraction(own, own_adjoint, out)

    def second(
        self,
        state: State,
        adjoint: State,
        change: State,
        dk: Coefficients,
        out: Gradients,
    ) -> np.ndarray:
        for _, point, (own, nu, moved) in self._each(state, adjoint, change):
            point.second(own, nu, moved, dk, out)
        return adjoint.zeros()

    def size(self) -> float:
        return max(sum(p.size() for p in points) for points in self.sources)
