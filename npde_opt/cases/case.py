"""A case: an equation, its experiments and data, and what is unknown, on any grid of a
hierarchy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path

import msgspec
import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.cases import times as steps
from npde_opt.cases.data import Measurements
from npde_opt.cases.domain import Domain
from npde_opt.cases.electrodes import Electrodes
from npde_opt.cases.equation_tables import AccurateSteps
from npde_opt.cases.experiment_tables import Well
from npde_opt.cases.histories import read_histories
from npde_opt.cases.observed import Observed
from npde_opt.cases.on_grid import OnGrid
from npde_opt.cases.optimizing import aside, check_aside, parted, settings_of
from npde_opt.cases.own_data import Data
from npde_opt.cases.points import points_of, read_wells
from npde_opt.cases.rules import simulated, time_of
from npde_opt.cases.sections import CaseFile
from npde_opt.cases.side_values import read_sides
from npde_opt.cases.sources import Sources
from npde_opt.cases.unknowns import check_sizes, mover
from npde_opt.cases.weighing import check_regularization, floor, misfit, regularizers
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError, SolverError, collective
from npde_opt.forward import Steady, Storage, scheme
from npde_opt.forward.steps import TooFewSteps, accurate
from npde_opt.forward.storage import Plan
from npde_opt.grids import Grid
from npde_opt.objective import Objective
from npde_opt.observations.shares import Share
from npde_opt.optimizers import Settings
from npde_opt.registry import registered
from npde_opt.restarts import Move, drawn


class Case:
    """A validated case; `grid`, `prepare` and `build` make its PETSc objects.

    Args:
        table: see `rules.validated`.
        path: of its file.
        cells: numbers of cells along the axes, in place of the case's own.
        data: the folder with its data.
        seed: of noise and random points.
        comm: the ranks that read it together. Making a case is collective.

    Attributes:
        data: what is known of the experiments; None before `prepare`.
        weight_override: the weight of regularizations whose tables ask for a rule.
        plan: how trajectories are stored; None of a steady state, and before `prepare`.
    """

    def __init__(
        self,
        table: CaseFile,
        path: Path,
        cells: Sequence[int] | None,
        data: Path | None,
        seed: int,
        comm: MPI.Intracomm,
    ):
        self.table, self.path, self.seed = table, path, seed
        self.name = path.stem
        anatomy = table.domain
        sources = Sources(
            path.parent,
            data,
            (anatomy.mni152, anatomy.slice),
            anatomy.crop,
            table.case.length_unit,
            "" if table.validation is None else table.validation.replicate,
        )
        self.domain = Domain(table, sources, cells, comm)
        self.sources = self.domain.sources
        if simulated(table.observation):
            self.domain.data_edges()
        if self.evolves:
            read_histories(table, self.sources)
            steps.budget(time_of(table).memory)
        read_sides(table, self.sources, self.domain.dim)
        check_sizes(table.unknown)
        self.data: Data | None = None
        self.weight_override: float | None = None
        self.plan: Plan | None = None
        self._chosen: np.ndarray | None = None
        self._check_experiments()
        self.settings()

    @property
    def evolves(self) -> bool:
        """Whether there is a time; else the case is about a steady state."""
        return self.table.time is not None

    @property
    def species(self) -> tuple[str, ...]:
        return tuple(self.table.equation.species)

    # ---- options ---------------------------------------------------------------------------------

    def settings(self, method: str | None = None) -> Settings:
        section = self.table.optimizer
        chosen = method or section.method
        own = self._own_optimizer() if chosen == "registered" else None
        held = aside(self.held_out) if self.held_out else None
        found = settings_of(section, method, seed=self.seed, validation=held, own=own)
        found.check_patience()
        return found

    @property
    def held_out(self) -> list[int]:
        """Numbers of the experiments that are not fitted."""
        section = self.table.validation
        return [] if section is None else section.experiments

    def check_settings(self) -> None:
        """Raises InputError for settings of [optimizer] that cannot be."""
        self.settings()

    def _own_optimizer(self) -> Callable[..., object]:
        """What makes the registered optimizer of an objective."""
        section = self.table.optimizer
        made = registered("optimizer", "optimizer.name", section.name, section.options)
        return partial(made, **section.options)

    @property
    def restarted(self) -> bool:
        """Whether there are several starts."""
        return bool(self.table.optimizer.restarts)

    def moves(self) -> list[Move]:
        """From the start to further ones; see npde_opt.restarts."""
        section, unknowns = self.table.optimizer, self.table.unknown
        if isinstance(section.restarts, int):
            deviations = {
                u.name: u.deviation for u in unknowns if u.deviation is not None
            }
            return drawn(section.restarts, self.seed, section.spread, deviations)
        return [
            mover(unknowns, given, f"optimizer.restarts[{i}]", self.domain)
            for i, given in enumerate(section.restarts)
        ]

    def levels(self, asked: int | None) -> int | None:
        """Grids of nested iteration: as asked, as the case says, else as many as there are."""
        return asked or self.table.optimizer.levels or (1 if self.evolves else None)

    def set_petsc_options(self) -> None:
        """Puts [petsc] into the options database, where the command line says nothing else."""
        options = PETSc.Options()
        for name, value in self.table.petsc.items():
            if not options.hasName(name):
                options.setValue(name, value)

    # ---- experiments and observations ------------------------------------------------------------

    @cached_property
    def electrodes(self) -> Electrodes | None:
        section = self.table.electrodes
        return None if section is None else Electrodes(section, self.domain)

    @cached_property
    def wells(self) -> list[list[Well]]:
        """Those of [wells], by experiment."""
        spec = self.table.wells
        return (
            []
            if spec is None
            else read_wells("wells", spec, self.sources, self.domain.dim)
        )

    @cached_property
    def placed_wells(self) -> list[list[tuple[str, Well]]]:
        """All wells by experiment, with their keys, where `grid.outside` takes them to be."""
        listed: list[list[tuple[str, Well]]] = []
        for k in range(self.experiment_count):
            given = (
                self.table.experiment[k].wells if k < len(self.table.experiment) else []
            )
            own = [(f"experiment[{k}].wells[{j}].at", w) for j, w in enumerate(given)]
            table = self.wells[k] if k < len(self.wells) else []
            listed.append(own + [(f"wells, experiment {k + 1}", w) for w in table])
        return self._settled_wells(listed)

    def _settled_wells(
        self, listed: list[list[tuple[str, Well]]]
    ) -> list[list[tuple[str, Well]]]:
        names, at = [name for own in listed for name, _ in own], []
        for own in listed:
            at += [points_of([w.at], self.domain.dim, name)[0] for name, w in own]
        if not at:
            return listed
        found = self.domain.settled("wells", np.array(at), names, "wells")
        placed = iter(zip(found.at.tolist(), found.dropped.tolist(), strict=True))
        moved = [[(name, w, *next(placed)) for name, w in own] for own in listed]
        return [
            [
                (name, msgspec.structs.replace(w, at=x))
                for name, w, x, dropped in own
                if not dropped
            ]
            for own in moved
        ]

    @cached_property
    def experiment_count(self) -> int:
        if self.electrodes is not None:
            return len(self.electrodes.pairs)
        return (
            len(self.wells)
            if self.table.wells is not None
            else len(self.table.experiment)
        )

    def _check_experiments(self) -> None:
        """Raises InputError for more [[experiment]] tables than electrodes or wells make."""
        given = len(self.table.experiment)
        if given > self.experiment_count:
            said = (
                f"at most {self.experiment_count}, as many as electrodes or wells make"
            )
            raise InputError("experiment", f"{given} tables", said)
        check_aside(self.held_out, self.experiment_count)

    @cached_property
    def observations(self) -> list[Observed]:
        return [
            Observed(
                f"observation[{i}]",
                section,
                self.domain,
                self.electrodes if section.electrodes else None,
                self.seed,
                self.experiment_count,
            )
            for i, section in enumerate(self.table.observation)
        ]

    # ---- grids -----------------------------------------------------------------------------------

    def grid(self, comm: MPI.Intracomm) -> Grid:
        """The grid that is inverted. Collective."""
        return self.domain.grid(comm)

    def on(self, grid: Grid, truth: bool = False) -> OnGrid:
        """The case on a grid; with the true functions in place of unknown ones, where it gives
        them."""
        return OnGrid(
            self.table,
            self.domain,
            grid,
            self.observations,
            self.electrodes,
            self.placed_wells,
            self.experiment_count,
            truth,
        )

    # ---- steps -----------------------------------------------------------------------------------

    def times(self, cut: int = 1) -> np.ndarray | None:
        """Ends of the steps, each cut into `cut`; None of a steady state."""
        if not self.evolves:
            return None
        chosen = (
            self._chosen if self._chosen is not None else steps.given_times(self.table)
        )
        return steps.cut_times(self.table, chosen, cut)

    def storage(self, grid: Grid) -> Storage:
        """Of trajectories on a grid."""
        memory = (
            steps.budget(self.table.time.memory)
            if self.table.time is not None
            else None
        )
        return Storage() if memory is None else Storage(memory / grid.comm.size)

    def choose_steps(self, ensemble: Ensemble) -> None:
        """Equal steps as accurate as `tolerance` asks at the initial parameters. Collective."""
        time = self.table.time
        if (
            time is None
            or not isinstance(time.times, AccurateSteps)
            or self._chosen is not None
        ):
            return
        spec = time.times
        grid, own = self.grid(ensemble.space), list(ensemble.own(self.experiment_count))

        def predict(times: np.ndarray) -> np.ndarray:
            self._chosen = times
            with ensemble.together():
                data, problem = self._tried(grid, own)
            for told in ensemble.across.allgather(problem):
                if told:
                    raise TooFewSteps(told)
            return np.concatenate([np.empty(0), *data])

        order = scheme(time.scheme, field="time.scheme").order
        self._chosen = accurate(
            predict,
            spec.start,
            spec.end,
            order,
            spec.tolerance,
            steps.FEWEST,
            comm=ensemble.world,
        )

    def _tried(self, grid: Grid, own: Sequence[int]) -> tuple[list[np.ndarray], str]:
        """Own predicted data of a group's experiments with the present steps, or why there are
        none."""
        on = self.on(grid)
        forward, m = on.forward(own, self.times()), on.start()
        try:
            lin = forward.linearize(m)
            data = list(forward.observed.by_experiment(lin.data).values())
            lin.destroy()
        except (SolverError, InputError) as error:
            if isinstance(error, InputError) and error.field != "times":
                raise
            return [], str(error)
        finally:
            m.destroy()
            forward.destroy()
        return data, ""

    # ---- data ------------------------------------------------------------------------------------

    def prepare(self, ensemble: Ensemble) -> Data:
        """Reads the data, or simulates them on a finer grid with noise. Collective."""
        self.choose_steps(ensemble)
        with ensemble.together():
            grid = self.grid(ensemble.space)
            own = list(ensemble.own(self.experiment_count))
            on = self.on(grid)
            forward = on.forward(own, self.times(), self.storage(grid))
            self.plan = None if isinstance(forward, Steady) else forward.storage
            share = forward.observed.observer(0).share
            forward.destroy()
            # What is wrong with them is told before data are simulated, which may take long.
            on.start().destroy()
            with collective(grid.comm):
                for i in range(len(self.table.regularization)):
                    check_regularization(self.table, i, self.domain, on.space)
            grid.destroy()
            reader = self.measurements(share, ensemble)
            measured = reader.measured()
        clean, origin = None, ""
        if simulated(self.table.observation):
            clean, origin = self._simulate(ensemble)
        self.data = reader.data(measured, clean, self.seed, origin)
        return self.data

    def measurements(
        self, share: Share, ensemble: Ensemble | None = None
    ) -> Measurements:
        """Reads what was measured: of a group's experiments, of all where there are no groups."""
        seen, count = self.observations, self.experiment_count
        return Measurements(self.table, seen, self.sources, count, share, ensemble)

    def _simulate(self, ensemble: Ensemble) -> tuple[list[list[np.ndarray]], str]:
        """Noise-free own data of the truth by own experiment and observation, and how they were
        made."""
        with ensemble.together():
            found, shape = self._simulate_own(ensemble)
        own = self.domain.edges
        finer = all(n >= e.size or e.size == 2 for n, e in zip(shape, own, strict=True))
        said = f"data simulated on {' x '.join(map(str, shape))} cells"
        if not finer:
            said += (
                ", no finer than the grid inverted: measured data would fit less well"
            )
        return found, said

    def _simulate_own(
        self, ensemble: Ensemble
    ) -> tuple[list[list[np.ndarray]], tuple[int, ...]]:
        """Of the group's experiments, and the shape of the grid. Collective in the group."""
        grid = self.domain.grid(ensemble.space, self.domain.data_edges())
        on, own = self.on(grid, truth=True), list(ensemble.own(self.experiment_count))
        times = self.times(self.table.simulation.steps)
        forward = on.forward(own, times, Storage(forward_only=True))
        m = on.start("truth")
        lin = forward.linearize(m)
        data = forward.observed.by_experiment(lin.data)
        found = []
        for k in range(len(own)):
            parts = forward.observed.observer(k).share.split(data[k])
            found.append([part.flatten() for part in parts])
        shape = grid.shape
        for owned in (lin, forward, m, grid):
            owned.destroy()
        return found, shape

    # ---- objective -------------------------------------------------------------------------------

    def build(
        self, grid: Grid, ensemble: Ensemble, data: Data | None = None
    ) -> tuple[Objective, PETSc.Vec]:
        """The objective and the starting parameters on a grid. Collective.

        Args:
            data: as the grid's ranks share them; None: as `prepare` found them.
        """
        data = self.data if data is None else data
        assert data is not None
        on, own = self.on(grid), list(ensemble.own(self.experiment_count))
        forward = on.forward(own, self.times(), self.storage(grid))
        section = self.table.misfit
        least = 0.0
        if section.kind == "proportional":
            least = floor(section, data.observed, data.share, ensemble.across)
        misfits = []
        blocks = forward.observed
        for observer, layout in zip(blocks.observers, blocks.layouts, strict=True):
            seen = [own[k] for k in layout.members]
            observed, sigma = data.of(data.observed, seen), data.of(data.sigma, seen)
            misfits.append(misfit(section, observer, layout, observed, sigma, least))
        with collective(grid.comm):
            m = on.start()
        penalties = regularizers(
            self.table, self.domain, on.space, m, self.weight_override
        )
        whole = Objective(forward, misfits, penalties, ensemble)
        return (parted(whole, self.held_out) if self.held_out else whole), m
