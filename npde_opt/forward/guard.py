"""What ends a trajectory: coefficients and steps that cannot be, states that blow up or are no numbers.

At the first point a wrong value is wrong input, later a rejected step of the line search. All checks are collective: they
raise on all ranks of the grid.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from npde_opt.errors import InputError, SolverError
from npde_opt.forward.positivity import check_diffusivities, diffusivities, not_finite, rates_not_finite
from npde_opt.forward.stability import Limits
from npde_opt.forward.stepper import Stages, Stepper
from npde_opt.forward.watch import Watch
from npde_opt.reductions import everywhere, largest
from npde_opt.terms.source import SourceAt
from npde_opt.terms.state import sample

if TYPE_CHECKING:
    from npde_opt.forward.evolution import Evolution

GROWTH = 1e30
"""A state is a blow-up when it exceeds its start, its boundary values and all that its sources bring by this factor."""


class Guard:
    """The checks of one point of the parameters."""

    def __init__(self, forward: Evolution):
        self.forward, self.grid, self.prefix = forward, forward.grid, forward.prefix
        self.limits: Limits | None = None
        self.watch = Watch()

    def _refuse(self, field: str, problem: str, allowed: str, remedy: str) -> None:
        if not self.forward._ever:
            raise InputError(field, problem, allowed)
        raise SolverError(self.prefix, problem, remedy)

    def _refuse_step(self, problem: str | None) -> None:
        if problem:
            self._refuse("times", problem, "shorter steps, or an implicit scheme", "Take shorter steps or an implicit scheme.")

    def check_diffusivities(self, k: Mapping[str, Any]) -> None:
        """Of the unknowns, where gamma is real."""
        equation = self.forward.equation
        if not equation.complex:
            unknown = {u.name for u in self.forward.space.unknowns}
            names = diffusivities(t for o in equation.operators for t in o.terms)
            check_diffusivities(self.grid, self.prefix, [n for n in names if n in unknown], k)

    def check_steps(self, k: Mapping[str, Any], nonlinear: Sequence[Any]) -> None:
        """The longest step, for the linear terms, whose matrices are assembled."""
        forward = self.forward
        self.limits = Limits(forward.scheme, forward.part, k, nonlinear)
        self._refuse_step(self.limits.linear(float(np.diff(forward.times).max())))

    def look(self, stepper: Stepper, n: int, u: np.ndarray) -> int:
        """Checks step n from u; the step at which to look again."""
        steps = stepper.times.size - 1
        assert self.limits is not None
        if not self.limits.depends_on_state:
            return steps
        state, start = stepper.state(n, 0, u), self.watch.looks
        problem, later, share = self.limits.at(state, stepper.dt(n), steps, start, n in (0, steps - 1))
        self._refuse_step(problem and f"{problem} in {self._when(n)}")
        sizes = largest(self.grid.comm, np.array([np.abs(sample(x, start)).max(initial=0.0) for x in state.u]))
        self.watch.keep(state, sizes, stepper.dt(n), share)
        return n + later

    def check_start(self, u: np.ndarray) -> None:
        if not self._finite([u]):
            self._refuse("initial", "a state that is not finite", "finite values in all active cells", "Bound the parameters.")

    def bound(self, stepper: Stepper, start: np.ndarray) -> float:
        """Of the states of an experiment: the one given, or GROWTH times all that drives them."""
        forward = self.forward
        if forward.bound is not None:
            return forward.bound
        span = float(stepper.times[-1] - stepper.times[0]) / forward.equation.inertia
        sources = [p for g in stepper.groups for p in g.others if isinstance(p, SourceAt)]
        driving = [start, *(o for o in stepper.outside if o is not None)]
        own = max([*(float(np.abs(x).max(initial=0.0)) for x in driving), *(p.size() * span for p in sources)])
        size = largest(self.grid.comm, own)
        return GROWTH * size if 0 < size < np.inf else np.inf

    def step(self, stepper: Stepper, n: int, u: np.ndarray) -> Stages:
        """A step; what fails in it says which step it was, and whether the rates at its start are the cause."""
        try:
            return stepper.step(n, u)
        except SolverError as error:
            when = f"{error.reason} in {self._when(n)}"
            found = self._rates_not_finite(stepper, n, [u])
            raise SolverError(error.prefix, f"{when}: {found}" if found else when, error.remedy) from error

    def check_size(self, stepper: Stepper, n: int, stages: Stages, bound: float) -> bool:
        """Of the state after step n, the last of its stages. Whether it has moved, or the next step is longer, such that its
        rates have to be looked at before that."""
        u = stages[-1]
        flat = u.ravel(order="K")
        own = math.sqrt(np.vdot(flat, flat))  # one pass; the largest value where that is too much
        if not own <= bound:
            own = max(float(u.max(initial=0.0)), -float(u.min(initial=0.0)))
        watched = self.limits is not None and self.limits.depends_on_state
        moved = self.watch.moved(u) if watched else 0.0
        size, moved = largest(self.grid.comm, np.array([own, moved]))
        if size <= bound and size < np.inf:
            steps = stepper.times.size - 1
            return watched and (not moved <= 1 or n + 1 < steps and self.watch.longer(stepper.dt(n + 1)))
        problem = f"the state grew to {size:.3g} in {self._when(n)}"
        if np.isnan(size):
            problem = self._rates_not_finite(stepper, n, stages) or not_finite(self.grid, self.forward.equation.species, u)
            problem += f" in {self._when(n)}"
        raise SolverError(self.prefix, problem, "Take shorter steps, or bound the parameters.")

    def _when(self, n: int) -> str:
        return f"step {n + 1} (t = {self.forward.times[n + 1]:.6g})"

    def _rates_not_finite(self, stepper: Stepper, n: int, stages: Stages) -> str:
        """What is wrong with the rates of the first stage at which they are no numbers."""
        points = [p for g in stepper.groups for p in g.others]
        found = (rates_not_finite(self.forward.equation.species, stepper.state(n, j, u), points) for j, u in enumerate(stages))
        return next((text for text in found if text), "")

    def check_data(self, values: np.ndarray) -> None:
        if not self._finite([values]):
            raise SolverError(self.prefix, "a predicted datum is not finite",
                              "Look for an observed quantity that is not defined for the state.")

    def check_derivatives(self, values: Iterable[Any]) -> None:
        """Raises SolverError where one is not finite (of a rate like sqrt(u) at u = 0)."""
        if not self._finite(values):
            raise SolverError(self.prefix, "a derivative is not finite",
                              "Look for rates, diffusivities or observed quantities that are singular at the state.")

    def _finite(self, arrays: Iterable[Any]) -> bool:
        return everywhere(self.grid.comm, all(np.isfinite(a).all() for a in arrays))
