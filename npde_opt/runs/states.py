"""The states of all experiments, whichever group of ranks solved them: files of them, and figures
of the first ones."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np

from npde_opt.cases import Case
from npde_opt.cases.on_grid import OnGrid
from npde_opt.ensemble import Ensemble
from npde_opt.errors import collective
from npde_opt.forward import Steady
from npde_opt.forward.interface import ForwardMap
from npde_opt.grids import Grid
from npde_opt.grids.thinned import Thinned
from npde_opt.io.vtk import uniform, write_vtk
from npde_opt.runs.folder import RunDirectory

if TYPE_CHECKING:
    from npde_opt.forward import Evolution

STORE = "states.zarr"
MOST_FIGURES = 16
"""Experiments of which there are figures."""


class Solved(Protocol):
    """What a linearization has: the (last) state of each of the group's experiments [c, i, j, k],
    and all states of one after the other."""

    @property
    def final(self) -> list[np.ndarray]: ...
    def states(self, e: int) -> Iterator[np.ndarray]: ...


class States:
    """Of a linearization of the group's experiments. Methods are collective over all groups.

    Args:
        lin: has them.
        out: the run's folder, in the first group.
    """

    def __init__(
        self,
        case: Case,
        on: OnGrid,
        ensemble: Ensemble,
        forward: ForwardMap,
        lin: Solved,
        out: RunDirectory | None,
    ):
        self.case, self.on, self.grid, self.ensemble = case, on, on.grid, ensemble
        self.forward, self.lin, self.out = forward, lin, out
        self.count = case.experiment_count
        self._own = list(ensemble.own(self.count))

    @property
    def drawn(self) -> range:
        """Numbers of the experiments of which there are figures."""
        return range(min(self.count, MOST_FIGURES))

    def final(self, e: int) -> np.ndarray | None:
        """Owned values [c, i, j, k] of an experiment, the last ones where there is a time; in the
        first group."""
        with self.ensemble.together():
            mine = self.lin.final[self._own.index(e)] if e in self._own else None
        return self._first(mine)

    def after(self, e: int, picks: np.ndarray) -> Iterator[np.ndarray | None]:
        """As `final`, of an evolution after these steps, one after the other."""
        mine = self._after(e, picks) if e in self._own else None
        for _ in picks:
            with self.ensemble.together():
                values = next(mine) if mine is not None else None
            yield self._first(values)

    def _after(self, e: int, picks: np.ndarray) -> Iterator[np.ndarray]:
        """On the group that has the experiment."""
        wanted = set(picks.tolist())
        for n, u in enumerate(self.lin.states(self._own.index(e))):
            if n in wanted:
                yield u
            if n == picks[-1]:
                return

    def _first(self, values: np.ndarray | None) -> np.ndarray | None:
        """What the group that has it knows, in the first group: all groups have the same boxes."""
        parts = self.ensemble.across.gather(values, root=0)
        return next((p for p in parts if p is not None), None) if parts else None

    def write(self) -> None:
        """state-K.vti of every experiment K."""
        for e in range(self.count):
            states = self.final(e)
            with collective(self.ensemble.world):
                if self.out is not None and states is not None:
                    fields = dict(zip(self.case.species, states, strict=True))
                    fields["active"] = self.grid.active.astype(float)
                    write_vtk(self.out.file(f"state-{e}"), self.grid, fields)

    def store(self, count: int) -> None:
        """states.zarr: `count` states of every experiment, evenly spaced in time with the first and
        the last, or the last one alone. Every rank of the first group writes its shards."""
        from npde_opt.io.zarr_writer import ZarrStore  # few runs ask for it

        evolution = None
        if not isinstance(self.forward, Steady):
            evolution = cast("Evolution", self.forward)
        leading = {"experiment": np.arange(self.count)}
        picks = np.zeros(1, int)
        if evolution is not None:
            times = evolution.times
            even = np.linspace(times[0], times[-1], count) if count > 1 else times[-1:]
            picks = np.unique(np.searchsorted(times, even).clip(0, times.size - 1))
            leading["t"] = times[picks]
        unit = self.case.table.case.length_unit
        with contextlib.ExitStack() as stack:
            store = None
            with collective(self.ensemble.world):
                if self.out is not None:
                    path = self.out.path / STORE
                    store = ZarrStore(path, self.grid, leading, length_unit=unit)
            if store is not None:
                stack.enter_context(store)
            for e in range(self.count):
                last = iter([self.final(e)]) if evolution is None else None
                for n, states in enumerate(last or self.after(e, picks)):
                    at = (e,) if evolution is None else (e, n)
                    with collective(self.ensemble.world):
                        if store is not None and states is not None:
                            for name, values in zip(
                                self.case.species, states, strict=True
                            ):
                                store.put(name, values, at)

    def draw(self) -> None:
        """A figure of the first species of every experiment, of MOST_FIGURES at most."""
        for e in self.drawn:
            states = self.final(e)
            with collective(self.ensemble.world):
                if self.out is None or states is None:
                    continue
                thinned = Thinned(self.grid)
                field = thinned.gathered(states[0])
                active = thinned.gathered(self.grid.active)
                if field is not None and active is not None:
                    self._draw(self.out, e, thinned.edges, field, active)

    def _draw(
        self,
        out: RunDirectory,
        e: int,
        edges: Sequence[np.ndarray],
        field: np.ndarray,
        active: np.ndarray,
    ) -> None:
        from npde_opt.figures import plot_fields
        from npde_opt.runs.marked import marks_of, sides_of, unit_of

        plot_fields(
            out.file(figure_name(e, "png")),
            edges,
            field,
            name=self.case.species[0],
            length_unit=self.case.table.case.length_unit,
            active=active,
            title=f"state of experiment {e}",
            unit=unit_of(self.case, self.case.species[0]),
            marks=marks_of(self.case),
            sides=sides_of(self.case, e),
            axes=self.grid.axis_names,
        )


def figure_name(e: int, suffix: str) -> str:
    """Of the state of an experiment."""
    return f"state-{e}.{suffix}" if e else f"state.{suffix}"


def files(case: Case, grid: Grid) -> list[str]:
    """Names of what `write` leaves."""
    suffix = "vti" if uniform(grid) else "vtr"
    return [f"state-{e}.{suffix}" for e in range(case.experiment_count)]


def figures(case: Case) -> list[str]:
    """Names of what `draw` and Films leave."""
    drawn = range(min(case.experiment_count, MOST_FIGURES))
    return [figure_name(e, "gif" if case.evolves else "png") for e in drawn]
