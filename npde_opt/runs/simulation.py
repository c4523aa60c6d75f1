"""A case run forward: its states as VTK, what is observed of them, and an animation."""

from __future__ import annotations

import functools

import numpy as np

from npde_opt.cases import Case
from npde_opt.errors import InputError, collective
from npde_opt.io.npz_runs import NpzRuns
from npde_opt.observations.shares import Share
from npde_opt.runs.drawing import Films
from npde_opt.runs.folder import SIMULATED
from npde_opt.runs.opened import Opened
from npde_opt.runs.states import STORE, States, figures, files


class Simulation(Opened[Case]):
    """One forward run; a context that gives its folder back. All methods are collective.

    Every group of ranks solves its experiments; the first writes what belongs to all.
    """

    can_resume = False

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
        shape = " x ".join(map(str, self.grid.shape))
        title = case.table.case.title or case.name
        self.say(f"{title}: {shape} cells, {case.experiment_count} experiments")
        for line in case.domain.notes.values():
            self.say(line)
        with ensemble.together():
            m = self.on.known()
            self.at = self.forward.linearize(m)
            m.destroy()
        # All input is right as far as that can be told: from here on the folder is this run's.
        with collective(self.world):
            if self.out is not None:
                self.out.claim(names)
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
        share, data = self._data()
        names = [f"observation_{i}" for i in range(len(share.sizes))]
        with collective(self.world):
            if self.out is not None and self.out.comm.rank == 0:
                self.out.check()
        with collective(self.world):
            self._store(names, share, data)
        self.say(
            f"data in {self.options.out}/{SIMULATED}: {', '.join(names)} [experiment, time, place]"
        )

    def _data(self) -> tuple[Share, list[np.ndarray]]:
        """Data of all experiments, as all ranks share them."""
        case, world, count = self.case, self.world, self.case.experiment_count
        mine = self.forward.observed.by_experiment(self.at.data)
        found = {self.own[k]: own.copy() for k, own in mine.items()}
        of_group = self.forward.observed.observer(0).share
        share, whole = of_group.over(world), of_group.of_all(found, world, count)
        for own in whole:
            parts = zip(case.observations, share.split(own), strict=True)
            for i, (observed, values) in enumerate(parts):
                observed.drop_lost(values, share, i)
        if not self.options.noise:
            return share, whole
        clean = [[part.flatten() for part in share.split(own)] for own in whole]
        none = [[None] * len(share.sizes)] * count
        with collective(world):
            data = case.measurements(share).data(none, clean, case.seed, "")
        kept = data.observed
        for part in data.held_out:
            # What is not fitted is simulated as well.
            pairs = zip(kept, part.observed, strict=True)
            kept = [np.where(np.isnan(y), held, y) for y, held in pairs]
        return share, kept

    def _store(self, names: list[str], share: Share, data: list[np.ndarray]) -> None:
        """The arrays of a .npz file, which pass through rank 0 in runs. Collective."""
        out = self.out if share.comm.rank == 0 else None
        file = None if out is None else NpzRuns(out.file(SIMULATED))
        for i, name in enumerate(names):
            own = np.array([share.split(values)[i].ravel() for values in data])
            if file is not None:
                file.begin(name, (len(data), *share.sizes[i]))
            one = Share(share.comm, (share.sizes[i],))
            values = functools.partial(_some, own)
            for run in one.in_order(len(data), values):
                if file is not None and run is not None:
                    file.add(run)
        if out is not None and file is not None:
            with out.writing():
                file.close()

    def draw(self) -> None:
        """The states: animations with [time], else figures."""
        if self.case.evolves:
            Films(self.states).draw(self.states.drawn)
        else:
            self.states.draw()
        drawn = self.states.drawn
        if len(drawn) < self.states.count:
            self.say(f"figures of experiments 0 to {drawn[-1]} of {self.states.count}")


def _some(own: np.ndarray, experiments: slice, data: slice) -> np.ndarray:
    """Values (experiments, data, 1)."""
    return np.asarray(own[experiments, data, None])
