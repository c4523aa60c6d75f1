"""What ends a trajectory: coefficients and steps that cannot be, states that blow up or are no
numbers.

At the first point a wrong value is wrong input, later a rejected step of the line search. All
checks are collective: they raise on all ranks of the grid.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from npde_opt.aliases import Coefficients, Numbers
from npde_opt.errors import InputError, SolverError
from npde_opt.forward.experiment import looked_at
from npde_opt.forward.layer import Free, Stages
from npde_opt.forward.linear_part import LinearPart
from npde_opt.forward.positivity import check_diffusivities, not_finite, wrong_cells
from npde_opt.forward.schemes import Scheme
from npde_opt.forward.stability import Limits
from npde_opt.forward.stepper import Stepper
from npde_opt.forward.watch import Looks, Watch
from npde_opt.reductions import everywhere, largest
from npde_opt.terms.capacity import CapacityAt
from npde_opt.terms.interface import TermAt
from npde_opt.terms.state import State

DRIFT, ROW = 0.01, 0.1
"""Of the mean of states at most, and the share of eps |A| by which rows are off, of one sign: on 64
to 128^2 cells 0.03 to 0.16 were measured."""
GROWTH = 1e30
"""A state is a blow-up when it exceeds its start, its boundary values and all that its sources
bring by this factor."""


@dataclass(frozen=True)
class Refusal:
    """How a problem is raised: at the first point of a run as wrong input, later as a SolverError
    of `prefix`."""

    prefix: str
    first: bool

    def __call__(self, field: str, problem: str, allowed: str, remedy: str) -> None:
        if self.first:
            raise InputError(field, problem, allowed)
        raise SolverError(self.prefix, problem, remedy)

    def step(self, problem: str | None) -> None:
        """Of a step that is too long, where there is a problem."""
        if problem:
            shorter = "shorter steps, or an implicit scheme"
            self("times", problem, shorter, "Take shorter steps or an implicit scheme.")


class Guard:
    """The checks of one point k of the parameters.

    Args:
        part: the linear terms, which hold the operators of this point in `check_steps` and later.
        unknown: names of the unknown coefficients.
        bound: of the states; None: GROWTH times all that drives them.
    """

    def __init__(
        self,
        part: LinearPart,
        scheme: Scheme,
        unknown: Iterable[str],
        refuse: Refusal,
        bound: float | None,
    ):
        self.part, self.equation, self.grid = part, part.equation, part.grid
        self.scheme, self.unknown = scheme, set(unknown)
        self.refuse, self.prefix, self.bound = refuse, refuse.prefix, bound
        self.limits: Limits | None = None
        self.watch = Watch()

    def check_diffusivities(self, k: Coefficients) -> None:
        """Of the unknowns, where gamma is real."""
        if self.equation.complex:
            return
        unknown = [n for n in self.equation.positive if n in self.unknown]
        check_diffusivities(self.grid, self.prefix, unknown, k)

    def check_capacity(self, capacity: CapacityAt | None) -> None:
        """Raises where S is not positive, or no number, in an active cell."""
        if capacity is None:
            return
        wrong, least = wrong_cells(self.grid, capacity.S, zero=False)
        if wrong:
            what, key = capacity.capacity.said, capacity.capacity.key
            problem = f"{key} {what!r} is {least:.4g} in {wrong} cells"
            remedy = "Use the transform 'log', or bounds."
            self.refuse(key, problem.removeprefix(f"{key} "), "positive values", remedy)

    def check_steps(self, times: np.ndarray, nonlinear: Sequence[TermAt]) -> None:
        """The longest step, for the linear terms, whose matrices are assembled."""
        self.limits = Limits(self.scheme, self.part, nonlinear)
        self.refuse.step(self.limits.linear(float(np.diff(times).max())))
        if self.scheme.diagonal > 0 and self._is_free():
            self._check_level(float(times[-1] - times[0]))

    def _is_free(self) -> bool:
        """Whether nothing holds the level of a state: no side, and diffusion alone."""
        equation, sides = self.equation, self.grid.boundaries.values()
        held = any(side.kind in ("dirichlet", "robin") for side in sides)
        linear = all(term.stateless for term in equation.nonlinear)
        flows = all(
            term.symmetric and not term.pointwise and not term.holding
            for operator in equation.operators
            for term in operator.terms
        )
        return flows and linear and not held and not equation.complex

    def _check_level(self, span: float) -> None:
        """How far rounding may move the mean of a state that nothing holds: rows of M + alpha A add
        up to M but for eps |A|, so that a step changes it by some eps alpha |A| / M."""
        rounding = ROW * np.finfo(float).eps * span
        if rounding * self.part.stiffness() <= DRIFT:
            return
        drift = rounding * self.part.mean_stiffness()
        if drift > DRIFT:
            problem = (
                f"a diffusion so fast that rounding moves the mean of the states, which nothing "
                f"holds, by about {min(drift, 1.0):.0%}"
            )
            allowed = (
                f"at most {DRIFT:.0%}: a shorter time, a smaller diffusivity or coarser cells, a "
                "Dirichlet or Robin side, or a reaction"
            )
            remedy = "Bound the diffusivity, or hold a side."
            self.refuse("times", problem, allowed, remedy)

    def watches(self) -> bool:
        """Whether the limits depend on the state."""
        return self.limits is not None and self.limits.depends_on_state

    def look(self, stepper: Stepper, n: int, u: np.ndarray) -> int:
        """Checks step n from u; the step at which to look again."""
        steps = len(stepper)
        assert self.limits is not None
        if not self.limits.depends_on_state:
            return steps
        state, start, whole = (
            stepper.state(n, 0, u),
            self.watch.looks,
            n in (0, steps - 1),
        )
        known = stepper.fastest, stepper.moving(n, u)
        problem, later, share = self.limits.at(
            state, stepper.dt(n), steps, start, whole, *known
        )
        self.refuse.step(problem and f"{problem} in {stepper.when(n)}")
        values = stepper.samples(u, start)
        sizes = largest(self.grid.comm, np.abs(values).max(axis=1, initial=0.0))
        self.watch.keep(values, sizes, stepper.dt(n), share)
        return n + later

    def bears(self, state: State) -> bool:
        """Whether the limits of implicit steps allow a state, or all its columns."""
        return self.limits is None or not self.limits.wrong(state)

    def check_start(self, u: np.ndarray) -> None:
        if not self._finite([u]):
            cells = not_finite(self.grid, self.equation.species, u)
            allowed = "finite values in all active cells"
            problem = f"a state that is not finite ({cells})"
            self.refuse("initial", problem, allowed, "Bound the parameters.")

    def bound_from(self, stepper: Stepper, start: np.ndarray) -> float:
        """Of the states of an experiment: the one given, or GROWTH times all that drives them."""
        if self.bound is not None:
            return self.bound
        span = float(stepper.times[-1] - stepper.times[0]) / self.equation.inertia
        sources = [p for g in stepper.groups for p in g.others if p.term.stateless]
        beside = 0.0
        if stepper.boundary.any:
            beside = stepper.boundary.size(looked_at(stepper.times))
        extremes = float(start.max(initial=0.0)), -float(start.min(initial=0.0))
        values = [*extremes, beside]
        size = largest(
            self.grid.comm, max([*values, *(p.size() * span for p in sources)])
        )
        return GROWTH * size if 0 < size < np.inf else np.inf

    def check_size(
        self, stepper: Stepper, n: int, stages: Stages, bound: float
    ) -> bool:
        """Of the state after step n, the last of its stages. Whether it has moved, or the next step
        is longer, such that its rates have to be looked at before that."""
        u = stages[-1]
        own = stepper.norm(
            u
        )  # one pass at most; the largest value where that is too much
        if not own <= bound:
            own = max(float(u.max(initial=0.0)), -float(u.min(initial=0.0)))
        watched = self.watches()
        moved = 0.0
        if watched:
            moved = self.watch.moved(stepper.samples(u, self.watch.start))
        size, moved = largest(self.grid.comm, np.array([own, moved]))
        if size <= bound and size < np.inf:
            longer = n + 1 < len(stepper) and self.watch.longer(stepper.dt(n + 1))
            return watched and (not moved <= 1 or longer)
        problem = f"the state grew to {size:.3g} in {stepper.when(n)}"
        if np.isnan(size):
            problem = stepper.rates_not_finite(n, stages)
            problem = problem or not_finite(self.grid, self.equation.species, u)
            problem += f" in {stepper.when(n)}"
        raise SolverError(
            self.prefix, problem, "Take shorter steps, or bound the parameters."
        )

    def check_data(self, values: Iterable[np.ndarray]) -> None:
        """Of several experiments."""
        if not self._finite(values):
            remedy = "Look for an observed quantity that is not defined for the state."
            raise SolverError(self.prefix, "a predicted datum is not finite", remedy)

    def check_derivatives(self, values: Iterable[Numbers]) -> None:
        """Raises SolverError where one is not finite (of a rate like sqrt(u) at u = 0)."""
        if not self._finite(values):
            remedy = (
                "Look for rates, diffusivities or observed quantities that are singular at the "
                "state."
            )
            raise SolverError(self.prefix, "a derivative is not finite", remedy)

    def _finite(self, arrays: Iterable[Numbers]) -> bool:
        return everywhere(self.grid.comm, all(np.isfinite(a).all() for a in arrays))


class Lookout:
    """The checks of one trajectory: a visitor of its states (see chain.After)."""

    def __init__(self, guard: Guard, stepper: Stepper):
        self.guard, self.stepper = guard, stepper
        self._bound, self._due = np.inf, 0
        self._looks: Looks | None = None

    def __call__(self, n: int, stages: Stages) -> None:
        """Looks at u_n, and at the rates of the step from there where that is due; those of the
        last state are looked at as well."""
        guard, stepper, u = self.guard, self.stepper, stages[-1]
        if self._looks is not None:
            self._due, self._looks = self._looks.due, None
        if n == 0:
            guard.check_start(u)
            self._bound = guard.bound_from(stepper, u)
        elif guard.check_size(stepper, n - 1, stages, self._bound):
            self._due = n
        last = len(stepper)
        if n >= self._due or n == last:
            self._due = guard.look(stepper, min(n, last - 1), u)

    def free(self, n: int) -> Free:
        """How far steps may go from u_n, once that was looked at: to the last state, but for what
        the checks may find."""
        guard, last = self.guard, len(self.stepper)
        if not guard.watches():
            return Free(last, self._bound)
        assert guard.limits is not None
        rules = guard.limits.rules(last)
        if rules is None:
            return Free(n + 1, self._bound)
        self._looks = Looks(guard.watch, rules, self._due)
        return Free(last, self._bound, self._looks)

    def whole(
        self, norms: np.ndarray, states: Iterable[np.ndarray], all_states: State
    ) -> None:
        """Looks at all states of a trajectory of implicit steps, after the first.

        Args:
            norms: 2-norms of u_0 ... u_N. all_states: they as columns.
        """
        sound = bool((np.isfinite(norms) & (norms <= self._bound)).all())
        if sound and self.guard.bears(all_states):
            return
        for n, u in enumerate(states):
            if n > 0:
                self(n, [u])
