"""A case run forward: its states as VTK, what is observed of them, and an animation."""

from __future__ import annotations

import io

import numpy as np

from npde_opt.aliases import Record
from npde_opt.cases import Case
from npde_opt.errors import InputError, collective
from npde_opt.runs.drawing import Films
from npde_opt.runs.folder import SIMULATED
from npde_opt.runs.opened import Opened
from npde_opt.runs.states import STORE, States, figures, files


class Simulation(Opened[Case]):
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
        if self.options.zarr is not None and self.options.zarr < 1:
            raise InputError(
                "--zarr", self.options.zarr, "a number of states from 1 on"
            )
        case.choose_steps(ensemble)
        with ensemble.together():
            self.grid = case.grid(ensemble.space)
            self.on = case.on(self.grid, truth=True)
            self.own = list(ensemble.own(case.experiment_count))
            self.forward = self.on.forward(
                self.own, case.times(), case.storage(self.grid)
            )
        names = files(case, self.grid) + (figures(case) if self.options.plot else [])
        names += [STORE] if self.options.zarr else []
        with collective(self.world):
            if self.out is not None:
                self.out.claim(names)
        shape = " x ".join(map(str, self.grid.shape))
        title = case.table.case.title or case.name
        self.say(f"{title}: {shape} cells, {case.experiment_count} experiments")
        for line in case.domain.notes.values():
            self.say(line)
        with ensemble.together():
            m = self.on.known()
            self.at = self.forward.linearize(m)
            m.destroy()
        self.states = States(case, self.on, ensemble, self.forward, self.at, self.out)

    def write_states(self) -> None:
        """The (last) state of every experiment."""
        self.states.write()
        if self.options.zarr:
            self.states.store(self.options.zarr)
        self.say(f"states in {self.options.out}")

    def write_data(self) -> None:
        """What is observed, with the case's noise where it is asked for."""
        if not self.case.observations:
            return
        arrays = self._data()
        text = io.BytesIO()
        np.savez(text, **arrays)
        with collective(self.world):
            if self.out is not None and self.out.comm.rank == 0:
                with self.out.writing(), open(self.out.file(SIMULATED), "wb") as file:
                    file.write(text.getvalue())
        self.say(
            f"data in {self.options.out}/{SIMULATED}: {', '.join(arrays)} [experiment, time, place]"
        )

    def _data(self) -> Record:
        case, ensemble = self.case, self.ensemble
        with ensemble.together():
            mine = self.forward.observed.by_experiment(self.at.data)
            found = {self.own[k]: own for k, own in mine.items()}
        sizes = self.forward.observed.observer(0).sizes
        ends = np.cumsum([times * places for times, places in sizes])[:-1]
        clean = [np.split(values, ends) for values in ensemble.everything(found)]
        for own in clean:
            for observed, values, size in zip(
                case.observations, own, sizes, strict=True
            ):
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
        """The states: animations with [time], else figures."""
        if self.case.evolves:
            Films(self.states).draw(self.states.drawn)
        else:
            self.states.draw()
        drawn = self.states.drawn
        if len(drawn) < self.states.count:
            self.say(f"figures of experiments 0 to {drawn[-1]} of {self.states.count}")
