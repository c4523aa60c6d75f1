"""A case run forward: its states as VTK, what is observed of them, and an animation."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from npde_opt.errors import collective
from npde_opt.figures import plot_fields
from npde_opt.io.vtk import uniform, write_vtk
from npde_opt.runs.drawing import Film
from npde_opt.runs.opened import Opened

DATA = "simulated.npz"
"""Arrays observation_0, observation_1, ... [experiment, time, place], as a case's `data` takes
them."""


class Simulation(Opened):
    """One forward run; a context that gives its folder back. All methods are collective.

    Every group of ranks solves its experiments; the first writes what belongs to all.
    """

    def say(self, text: str) -> None:
        """On rank 0."""
        if self.world.rank == 0:
            print(text, flush=True)

    def solve(self) -> None:
        """Solves the states of the group's experiments."""
        case, ensemble = self.case, self.ensemble
        case.choose_steps(ensemble)
        with ensemble.together():
            self.grid = case.grid(ensemble.space)
            self.on = case.on(self.grid)
            self.own = list(ensemble.own(case.experiment_count))
            self.forward: Any = self.on.forward(self.own, case.times(), case.storage(self.grid))
        with collective(self.world):
            if self.out is not None:
                self.out.claim(self._names())
        shape = " x ".join(map(str, self.grid.shape))
        title = case.table.case.title or case.name
        self.say(f"{title}: {shape} cells, {case.experiment_count} experiments")
        with ensemble.together():
            m = self.on.known()
            self.at = self.forward.linearize(m)
            m.destroy()

    def _names(self) -> list[str]:
        """Files that are this run's."""
        suffix = "vti" if uniform(self.grid) else "vtr"
        count = range(self.case.experiment_count)
        return [f"{self._state(e)}.{suffix}" for e in count] + [DATA, "state.png"]

    def _state(self, e: int) -> str:
        return f"state-{e}"

    def write_states(self) -> None:
        """The (last) state of every experiment."""
        for e in range(self.case.experiment_count):
            with self.ensemble.together():
                mine = e in self.own
                final = self.at.final[self.own.index(e)] if mine else None
            states = self._first(final)
            with collective(self.world):
                if self.out is not None and states is not None:
                    fields = dict(zip(self.case.species, states, strict=True))
                    fields["active"] = self.grid.active.astype(float)
                    write_vtk(self.out.file(self._state(e)), self.grid, fields)
        self.say(f"states in {self.options.out}")

    def _first(self, values: np.ndarray | None) -> np.ndarray | None:
        """What the group that has it knows, in the first group: all groups have the same boxes."""
        parts = self.ensemble.across.gather(values, root=0)
        return next((p for p in parts if p is not None), None) if parts else None

    def write_data(self) -> None:
        """What is observed, with the case's noise where it is asked for."""
        if not self.case.observations:
            return
        arrays = self._data()
        text = io.BytesIO()
        np.savez(text, **arrays)
        with collective(self.world):
            if self.out is not None and self.out.comm.rank == 0:
                with self.out.writing(), open(self.out.file(DATA), "wb") as file:
                    file.write(text.getvalue())
        self.say(
            f"data in {self.options.out}/{DATA}: {', '.join(arrays)} [experiment, time, place]"
        )

    def _data(self) -> dict[str, Any]:
        case, ensemble = self.case, self.ensemble
        with ensemble.together():
            pairs = zip(self.own, self.forward.observers, self.at.data, strict=True)
            found = {e: observer.gather(d) for e, observer, d in pairs}
        for part in ensemble.across.allgather(dict(found)):
            found |= part
        sizes = [(s.count, s.size) for s in self.forward.observers[0].samplings]
        ends = np.cumsum([times * places for times, places in sizes])[:-1]
        clean = [np.split(found[e], ends) for e in range(case.experiment_count)]
        for own in clean:
            for observed, values, size in zip(case.observations, own, sizes, strict=True):
                observed.drop_lost(values.reshape(size))
        if self.options.noise:
            reader = case.measurements(sizes)
            none = [[None] * len(sizes)] * case.experiment_count
            data = reader.data(none, clean, case.seed, "")
            clean = [np.split(values, ends) for values in data.observed]
        return {
            f"observation_{i}": np.array([own[i].reshape(size) for own in clean])
            for i, size in enumerate(sizes)
        }

    def draw(self) -> None:
        """The first experiment's state: an animation with [time], else a figure."""
        out = self.out
        if out is None:
            return
        if self.case.evolves:
            Film(self.case, self.on, self.forward, self.at, out).draw()
            return
        field = self.grid.to_natural(self.at.final[0][0])
        if field is not None:
            plot_fields(
                out.file("state.png"),
                self.grid.edges,
                field,
                name=self.case.species[0],
                length_unit=self.case.table.case.length_unit,
                active=self.grid.active_global,
                points=self.case.markers,
            )
