"""F(m) = observations of the trajectories of gamma M du/dt = -r(u, t; k), u(0) = g(k), one an
experiment.

Trajectories and derivatives at a point are in evolution_point.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.aliases import Coefficients
from npde_opt.errors import InputError, collective
from npde_opt.forward.coefficients import check_coefficients, known_values
from npde_opt.forward.equation import Equation
from npde_opt.forward.evolution_point import EvolutionCounters, EvolutionPoint
from npde_opt.forward.experiment import (
    Driving,
    Experiment,
    check_sources,
    check_values,
    looked_at,
)
from npde_opt.forward.fused import dtype_of
from npde_opt.forward.initial import InitialState
from npde_opt.forward.interface import check_alike
from npde_opt.forward.line_system import line_steps
from npde_opt.forward.linear_part import LinearPart
from npde_opt.forward.newton import Newton
from npde_opt.forward.schemes import Scheme
from npde_opt.forward.step_solvers import StepSolvers, reuse_in
from npde_opt.forward.steps import with_stops
from npde_opt.forward.storage import Plan, Storage
from npde_opt.observations import DataLayout, Observations, Sampling
from npde_opt.parameters import ParameterSpace
from npde_opt.terms.interface import Reader


class Evolution:
    """The forward map of an evolution equation for several experiments on one grid.

    `recomputation` is the steps that the last gradient did, its forward run included, over the
    steps of a trajectory; `ran` says whether F was found somewhere before.

    Args:
        space: the unknowns; coefficients of terms, initial states and sources by name.
        equation: the terms.
        known: numbers or owned arrays of the coefficients that are not unknown.
        experiments: they share matrices and multigrid, and run as columns of one state where all
            terms take that (see columns.py), other than with nonlinear implicit steps.
        samplings: what is observed of every experiment.
        scheme: see schemes.py.
        times: t_0 < ... < t_N, the same for all parameters. Steps also end at the breakpoints of
            all histories and at the times of all observations; `self.times` has them.
        storage: the budget for trajectories.
        bound: a state larger than this is a blow-up; None: GROWTH times what drives it (see
            guard.py).
        recipe: of the linear solvers (see linear/).
        fused: take the fused explicit step where it applies (see fused.py).
        precision: 'double', or 'single' where all experiments take that step: states, increments
            and adjoints are kept in 32 bits; parameters, sums and derivatives stay double.

    Raises:
        InputError: for coefficients missing, times that do not increase, or explicit steps beyond
            their limit.
    """

    def __init__(
        self,
        space: ParameterSpace,
        equation: Equation,
        known: Coefficients,
        experiments: Sequence[Experiment],
        samplings: Sequence[Sampling],
        scheme: Scheme,
        times: np.ndarray,
        storage: Storage | None = None,
        prefix: str = "state_",
        bound: float | None = None,
        recipe: str = "auto",
        fused: bool = True,
        precision: str = "double",
    ):
        self.space, self.grid, self.equation, self.scheme = (
            space,
            space.grid,
            equation,
            scheme,
        )
        check_alike(self.grid.comm, experiments)
        self.experiments, self.prefix, self.bound = list(experiments), prefix, bound
        self.times = np.asarray(times, float)
        if self.times.size < 2 or not np.all(np.diff(self.times) > 0):
            raise InputError(
                "times", f"{self.times.size} values", "at least two increasing times"
            )
        self.known = known_values(self.grid, known)
        self.initials = [
            InitialState(self.grid, equation.species, e.initial, e.where)
            for e in experiments
        ]
        self.nonlinear_implicit = scheme.nonlinear_implicit and bool(equation.nonlinear)
        self.driving = [Driving(equation, e, timed=True) for e in experiments]
        terms = [*equation.readers, *(t for d in self.driving for t in d.parts)]
        check_coefficients(space, equation, self.known, self.initials, terms, zero=True)
        self.times = with_stops(self.times, *self._stops(terms, samplings))
        self.looked_at = looked_at(self.times)
        check_values(self.driving, self.known, self.looked_at, space.blocks)
        check_sources(terms, self.known, space.blocks)
        self.part = LinearPart(equation)
        reuse = reuse_in(self.times, len(self.experiments))
        self.solvers = StepSolvers(self.part, prefix, recipe, reuse=reuse)
        mass, how = self.part.mass_vec, self.solvers.recipe
        made = self.nonlinear_implicit
        self.newton = Newton(self.part, mass, prefix, how) if made else None
        self.observed = Observations(
            self.grid, equation.species, self.times, self._samplings(samplings)
        )
        self.counters, self.recomputation = EvolutionCounters(), 1.0
        self.ran, self.fused = False, fused
        self.dtype = dtype_of(precision)
        self._plan(storage or Storage())
        self._on_line()

    def _on_line(self) -> None:
        """What the compiled loops along a line need."""
        how = self.prefix, self.solvers.recipe
        found = line_steps(self.part, self.scheme, self.times, *how)
        self.near: dict[int, np.ndarray] = {}
        """Stages of the last trajectory of an experiment, where these are found from those."""
        keeps = self.plans.states.keeps_all and self.dtype.itemsize == 8
        self.line = found if keeps else None

    def on_line(self, e: int) -> bool:
        """Whether an experiment's steps go through the compiled loops along a line."""
        boundary = self.driving[e].boundary
        given = self.space.blocks.keys().isdisjoint(boundary.coefficients)
        return self.line is not None and boundary.constant and given

    def _samplings(self, shared: Sequence[Sampling]) -> list[Sequence[Sampling]]:
        """Of each experiment."""
        return [
            shared if e.samplings is None else e.samplings for e in self.experiments
        ]

    def _stops(
        self, terms: Sequence[Reader], samplings: Sequence[Sampling]
    ) -> tuple[list[float], list[float]]:
        """Breakpoints of terms, and observed times."""
        seen = [s for own in self._samplings(samplings) for s in own]
        return [t for term in terms for t in term.breakpoints], [
            t for s in seen for t in s.times
        ]

    def _plan(self, storage: Storage) -> None:
        """Trajectories of all experiments share the budget."""
        grid, steps = self.grid, self.times.size - 1
        own = self.dtype.itemsize * len(self.equation.species) * grid.layout.local_size
        state = int(reductions.largest(grid.comm, own))
        runs = max(len(self.experiments), 1)
        with collective(grid.comm):
            self.plans = storage.plans(
                steps, state, self.scheme.stages, runs, grid.comm.size
            )

    @property
    def storage(self) -> Plan:
        """How the states of a trajectory are stored."""
        return self.plans.states

    @property
    def layouts(self) -> list[DataLayout]:
        """Of the blocks of data, one for the experiments that share all samplings."""
        return self.observed.layouts

    def linearize(
        self, m: PETSc.Vec, columns: Sequence[int] | None = None
    ) -> EvolutionPoint:
        """Runs the trajectories of all experiments at m, or of those of which the numbers are
        given. Raises SolverError where a solve diverges or a state blows up."""
        found = EvolutionPoint(self, self.space.at(m), columns)
        self.ran = True
        return found

    def count_krylov(self) -> None:
        found = self.solvers.iterations
        found += self.newton.iterations if self.newton is not None else 0
        found += self.line.solved if self.line is not None else 0
        self.counters.krylov_iterations = found

    def asked(self) -> dict[str, str]:
        """The tolerances of the solves, with their norms, by kind (see linear/measured.py)."""
        if self.newton is not None:
            return self.newton.asked
        looped = self.line is not None and self.line.solved > 0
        return {"state": "direct" if looped else self.solvers.asked}

    def destroy(self) -> None:
        if self.newton is not None:
            self.newton.destroy()
        self.solvers.destroy()
        self.part.destroy()
        self.observed.destroy()
