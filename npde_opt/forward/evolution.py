"""F(m) = observations of the trajectory of gamma M du/dt = -r(u, t; k), u(0) = g(k); derivatives in evolution_point.py."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.errors import InputError
from npde_opt.forward.equation import Equation, LinearPart
from npde_opt.forward.evolution_point import EvolutionPoint
from npde_opt.forward.initial import InitialState, Spec
from npde_opt.forward.interface import Counters, check_alike
from npde_opt.forward.newton import Newton
from npde_opt.forward.positivity import check_known, diffusivities
from npde_opt.forward.schemes import Scheme
from npde_opt.forward.step_solvers import StepSolvers
from npde_opt.forward.steps import with_stops
from npde_opt.forward.trajectory import plan
from npde_opt.grids import AXES
from npde_opt.observations import Observer, Sampling
from npde_opt.parameters import ParameterSpace
from npde_opt.terms.source import Source


@dataclass(frozen=True, eq=False)
class Trial:
    """One experiment: an initial state, sources and boundary values.

    Args:
        initial: species to number, owned array or text (see InitialState).
        sources: of this experiment only.
        boundary: {side: value} for all species, or {species: {side: value}}; Dirichlet and Robin sides.
        samplings: what is observed; None: what the others observe (given to Evolution).
        where: what stands before the keys `initial` and `boundary` in error messages ('experiment[0].').
    """

    initial: Mapping[str, Spec] = field(default_factory=dict)
    sources: Sequence[Source] = ()
    boundary: Mapping[str, Any] = field(default_factory=dict)
    samplings: Sequence[Sampling] | None = None
    where: str = ""


@dataclass(frozen=True)
class Storage:
    """What trajectories may take: bytes of memory a rank (None: all states are kept) and of disk, and where.

    forward_only: no derivatives are wanted; the memory is that of sqrt(steps) states whatever the budget.
    """

    memory: float | None = None
    disk: float = 0.0
    folder: str | None = None
    forward_only: bool = False


@dataclass
class EvolutionCounters(Counters):
    """Also: time steps done, and those that had to be done again."""

    steps: int = 0
    recomputed: int = 0


class Evolution:
    """The forward map of an evolution equation for several experiments on one grid.

    `recomputation` is the steps that the last gradient did, its forward run included, over the steps of a trajectory.

    Args:
        space: the unknowns; coefficients of terms, initial states and sources by name.
        equation: the terms.
        known: numbers or owned arrays of the coefficients that are not unknown.
        experiments: initial states and sources; they share matrices and multigrid.
        samplings: what is observed of every experiment.
        scheme: see schemes.py.
        times: t_0 < ... < t_N, the same for all parameters. Steps also end at the breakpoints of all histories and at the
            times of all observations; `self.times` has them.
        storage: the budget for trajectories.
        bound: a state larger than this is a blow-up; None: GROWTH times what drives it (see guard.py).
        recipe: of the linear solvers (see linear/).
        fused: take the fused explicit step where it applies (see fused.py).

    Raises:
        InputError: for coefficients missing, times that do not increase, or explicit steps beyond their limit.
    """

    def __init__(self, space: ParameterSpace, equation: Equation, known: Mapping[str, Any], experiments: Sequence[Trial],
                 samplings: Sequence[Sampling], scheme: Scheme, times: np.ndarray, storage: Storage | None = None,
                 prefix: str = "state_", bound: float | None = None, recipe: str = "auto",
                 fused: bool = True):
        self.space, self.grid, self.equation, self.scheme = space, space.grid, equation, scheme
        check_alike(self.grid.comm, experiments)
        self.experiments, self.prefix, self.bound = list(experiments), prefix, bound
        self.times = np.asarray(times, float)
        if self.times.size < 2 or not np.all(np.diff(self.times) > 0):
            raise InputError("times", f"{self.times.size} values", "at least two increasing times")
        self.known = {k: np.asarray(v, float) for k, v in known.items()}
        for name, values in self.known.items():
            if values.shape == self.grid.local_shape and self.grid.active_global is not None:
                self.known[name] = np.where(self.grid.active, values, 1.0)
        self.initials = [InitialState(self.grid, equation.species, e.initial, e.where) for e in experiments]
        self.nonlinear_implicit = scheme.nonlinear_implicit and bool(equation.nonlinear)
        self._check_coefficients()
        self.times = with_stops(self.times, *self._stops(samplings))
        self.part = LinearPart(equation)
        self.solvers = StepSolvers(self.part, prefix, recipe)
        self.newton = self._newton()
        self.samplings = tuple(samplings)
        self.observers = [Observer(self.grid, equation.species, self.times, e.samplings or samplings)
                          for e in experiments]
        self.outsides = [equation.outside(e.boundary, partial(self._outside, f"{e.where}boundary"), f"{e.where}boundary")
                         for e in experiments]
        self.counters, self.recomputation = EvolutionCounters(), 1.0
        self._ever, self.fused = False, fused
        self._plan(storage or Storage())

    def _check_texts(self) -> None:
        """Raises InputError for a name in a text that nothing gives a value, with the key of the text."""
        given = {*self.known, *(u.name for u in self.space.unknowns)}
        linear = [t for o in self.equation.operators for t in o.terms]
        sources = [s for e in self.experiments for s in e.sources]
        for part in (*linear, *self.equation.nonlinear, *self.initials, *sources):
            for text in getattr(part, "texts", ()):
                text.check_names(given)

    def _check_coefficients(self) -> None:
        self._check_texts()
        needed = self.equation.coefficients.union(
            *(i.coefficients for i in self.initials), *(s.coefficients for e in self.experiments for s in e.sources))
        missing = needed - set(self.known) - {u.name for u in self.space.unknowns}
        if missing:
            given = sorted({*self.known, *(u.name for u in self.space.unknowns)})
            raise InputError("coefficients", f"no value for {', '.join(sorted(missing))}",
                             f"known or unknown values for all; those given are {', '.join(given) or 'none'}")
        for name in sorted(needed & set(self.known)):
            values = self.known[name]
            on = values if values.shape != self.grid.local_shape else values[self.grid.active]
            if not reductions.everywhere(self.grid.comm, bool(np.isfinite(on).all())):
                raise InputError(f"known.{name}", "values that are not finite", "finite numbers in active cells")
        if not self.equation.complex:
            names = diffusivities(t for o in self.equation.operators for t in o.terms)
            check_known(self.grid, [n for n in names if n in self.known], self.known, zero=True)
        for s in (s for e in self.experiments for s in e.sources if isinstance(s.history, str)):
            self._check_history(s)
        for s in (t for t in self.equation.nonlinear if isinstance(t, Source) and isinstance(t.history, str)):
            self._check_history(s)

    def _check_history(self, source: Source) -> None:
        name = str(source.history)
        unknown = [u.length or 0 for u in self.space.unknowns if u.name == name]
        source.take_length(f"{source.field}.history {name!r}", unknown[0] if unknown else np.size(self.known[name]))

    def _stops(self, samplings: Sequence[Sampling]) -> tuple[list[float], list[float]]:
        """Breakpoints of histories, and observed times."""
        sources = [s for e in self.experiments for s in e.sources]
        sources += [t for t in self.equation.nonlinear if isinstance(t, Source)]
        seen = [s for e in self.experiments for s in e.samplings or samplings]
        return [t for s in sources for t in s.breakpoints], [t for s in seen for t in s.times]

    def _newton(self) -> Newton | None:
        if not self.nonlinear_implicit:
            return None
        symmetric = all(getattr(t, "pointwise", False) for t in self.equation.nonlinear) \
            and all(o.symmetric for o in self.equation.operators)
        return Newton(self.part, self.solvers.mass, self.prefix, symmetric, self.solvers.recipe)

    def _plan(self, storage: Storage) -> None:
        """Trajectories of all experiments share the budget; multipliers and increments are kept where thrice fits."""
        steps, count = self.times.size - 1, len(self.equation.species)
        state = 8 * count * self.grid.layout.local_size
        state = int(reductions.largest(self.grid.comm, state))
        unit = state * self.scheme.stages
        runs = max(len(self.experiments), 1)
        budget = None if storage.memory is None else storage.memory / runs
        if budget is not None and budget < unit:
            ranks = self.grid.comm.size
            raise InputError("memory", f"{budget * runs * ranks:.4g} bytes", f"at least {unit * runs * ranks:,} bytes for one "
                             f"checkpoint an experiment ({runs}) on all ranks ({ranks})")
        if storage.forward_only:
            budget = max(math.isqrt(steps), 2) * unit
        self.storage = plan(steps, unit, unit, budget, storage.disk / runs, storage.folder)
        both = max(2 * unit, 3 * state)
        least = None if budget is None else max(budget, both)
        self.storage_second = plan(steps, 2 * unit, both, least, storage.disk / runs, storage.folder)
        self.keeps_multipliers = budget is None or 3 * steps * state * self.scheme.stages <= budget

    def _outside(self, where: str, values: Mapping[str, float]) -> np.ndarray:
        """Ghosted field of the boundary values, 0 inside."""
        grid = self.grid
        out = np.zeros([n + 2 for n in grid.local_shape], order="F")
        for side, value in values.items():
            if side not in grid.boundaries or grid.boundaries[side].kind not in ("dirichlet", "robin"):
                raise InputError(where, side, "Dirichlet or Robin sides of the grid")
            d, end = AXES.index(side[0]), side[1] == "+"
            if (grid.stop[d] == grid.shape[d]) if end else (grid.start[d] == 0):
                layer: list[slice | int] = [slice(1, -1)] * grid.dim
                layer[d] = -1 if end else 0
                out[tuple(layer)] = value
        return out

    def linearize(self, m: PETSc.Vec) -> EvolutionPoint:
        """Runs all trajectories at m. Raises SolverError where a solve diverges or a state blows up."""
        return EvolutionPoint(self, self.space.at(m))

    def count_krylov(self) -> None:
        self.counters.krylov_iterations = self.solvers.iterations + (self.newton.iterations if self.newton else 0)

    def asked(self) -> dict[str, str]:
        """The tolerances of the solves, with their norms, by kind (see linear/measured.py)."""
        return self.newton.asked if self.newton else {"state": self.solvers.asked}

    def destroy(self) -> None:
        if self.newton is not None:
            self.newton.destroy()
        self.solvers.destroy()
        self.part.destroy()
        for observer in self.observers:
            observer.destroy()
