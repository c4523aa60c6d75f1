"""How a run of TAO ends: what its answer is called, and why.

gradient norm <= max(atol, rtol reference)   and   1/2 g^T H^-1 g <= decrement
"""

from __future__ import annotations

import math

from petsc4py import PETSc

from npde_opt.aliases import Record
from npde_opt.errors import SolverError
from npde_opt.optimizers import wording
from npde_opt.optimizers.adam import Adam
from npde_opt.optimizers.assessment import IDLE, Assessment, assess, idle
from npde_opt.optimizers.directions import LBFGS, NewtonCG
from npde_opt.optimizers.interface import Objective, Settings
from npde_opt.optimizers.own import OwnDirection
from npde_opt.optimizers.point import Point, everyone
from npde_opt.optimizers.solver import Solver
from npde_opt.optimizers.watched import Watched
from npde_opt.reductions import same

Reason = PETSc.TAO.ConvergedReason
ROUNDING = 1e-14
EARLY = "stopped_early"
LOOK = 10
"""CG steps to tell how much is left to gain where a run ends before its minimum."""
REASONS = {
    value: name for name, value in vars(Reason).items() if isinstance(value, int)
}


class Ending:
    """The tests of a run, which `iterations.Run` makes after every iteration.

    Attributes:
        meta: iteration, objective and gradient norm of the accepted point, and of the start.
        origin: from which no log parameter may run away.
        status, reason: empty as long as the run goes on.
        decrement: of the accepted point, NaN where it was not asked for.
    """

    objective: Objective
    settings: Settings
    meta: Record
    point: Point
    direction: NewtonCG | LBFGS | OwnDirection | Adam | None
    solver: Solver
    watched: Watched | None
    assessed: dict[tuple[float, int], Assessment]
    origin: PETSc.Vec
    status: str
    reason: str
    decrement: float

    def retry(self) -> bool:
        """Whether, after a failed line search, there is another direction that could lower the
        objective."""
        if self.direction is None or self.solver.type != "python":
            return False
        if (
            -self.direction.slope > ROUNDING * abs(self.meta["objective"])
            and self.direction.forget()
        ):
            return True
        tolerance = self.settings.decrement
        if tolerance is None:
            return False
        found = self.assess(tolerance)
        return (
            found.decrement > tolerance
            and not found.failure
            and self.direction.deepen()
        )

    def assess(self, tolerance: float, most: int | None = None) -> Assessment:
        """The accepted point, of which the decrement is kept for the result.

        The inner CG ends after `most` steps at the latest. A solve that fails in it costs the
        decrement, not the result.
        """
        key = tolerance, most or self.settings.cg_max
        if key not in self.assessed:
            try:
                self.assessed[key] = assess(self.point, self.solver.bounds, *key)
            except SolverError as error:
                self.assessed[key] = Assessment(math.inf, failure=error.reason)
        found = self.assessed[key]
        self.decrement = math.nan if found.failure else found.decrement
        return found

    def reference(self) -> float:
        """The gradient norm to which tolerances are relative."""
        return float(
            self.settings.gradient_reference or self.meta["gradient_norm_initial"]
        )

    def target(self) -> float:
        """The gradient norm at which the run ends."""
        return max(
            self.settings.gradient_atol, self.settings.gradient_rtol * self.reference()
        )

    def judge(self, norm: float, target: float, stop: str | None) -> None:
        """Sets the status where the run ends at the accepted point."""
        tolerance, first = self.settings.decrement, self.meta["iteration"] == 0
        gradient = f"gradient norm {norm:.3e} <= {target:.3e}"
        if norm <= target:
            self.status, self.reason = self.answer(gradient)
        elif (
            first
            and tolerance is not None
            and idle(self.point, self.solver.bounds, self.settings.cg_max)
        ):
            gradient = f"nothing to gain from the start on: gradient norm {norm:.3e}"
            self.status, self.reason = self.answer(gradient)
        if self.status:
            return
        ran = self.ran_away()
        if ran:
            self.status, self.reason = "undetermined", ran
        elif stop:
            self.status, self.reason = stop, self.stopped(stop)
        elif norm <= target and not self.settings.goes_on:
            self.status = "stopped_at_tolerance"
            self.reason = wording.at_tolerance(gradient, self.to_gain())
        elif self.meta["iteration"] >= self.settings.max_iterations:
            self.status, self.reason = self.exhausted(norm, target)
        elif norm <= target and self.direction is not None:
            self.direction.deepen()

    def stopped(self, status: str) -> str:
        """What a stop that was asked for is called."""
        if status == EARLY and self.watched is not None:
            return wording.early(
                self.watched.loss, self.watched.iteration, self.watched.idle()
            )
        return f"stopped by the monitor ({status})"

    def tired(self) -> str | None:
        """The status to stop with where the validation no longer gets better."""
        patience = self.settings.patience
        if patience is None or self.watched is None or self.watched.idle() < patience:
            return None
        return EARLY

    def exhausted(self, norm: float, target: float) -> tuple[str, str]:
        """Status and explanation at the last iteration: an answer all the same where nothing is
        left to gain."""
        if self.settings.decrement is not None and self.assess(IDLE).decrement <= IDLE:
            return self.answer(f"nothing to gain any more: gradient norm {norm:.3e}")
        missing = [f"gradient norm {norm:.3e} > {target:.3e}"] if norm > target else []
        if self.settings.decrement is not None:
            missing.append(self.to_gain())
        return "max_iterations", wording.at_last_iteration(
            self.settings.max_iterations, missing, self._rejections()
        )

    def _rejections(self) -> list[str]:
        """What is said of trial points that had no state, nothing where all had one."""
        if self.point.refused is None:
            return []
        return [wording.refused(self.point.refusals, self.point.refused)]

    def answer(self, gradient: str) -> tuple[str, str]:
        """'converged' or 'undetermined' where the decrement allows it, nothing where it does
        not."""
        tolerance = self.settings.decrement
        if tolerance is None:
            return "converged", gradient
        ran = self.ran_away()
        if ran:
            return "undetermined", ran
        found = self.assess(tolerance)
        if not found.decrement <= tolerance:
            return "", ""
        tests = wording.held(gradient, found.decrement, tolerance)
        if found.undetermined:
            return "undetermined", wording.unseen(found.undetermined, tests)
        return "converged", tests

    def ran_away(self) -> str:
        """What a parameter far beyond its start is called, or nothing."""
        step = self.origin.duplicate()
        step.waxpy(-1.0, self.origin, self.point.iterate)
        names = same(
            everyone(self.objective),
            self.objective.runaways(step),
            "what ran away from its start",
        )
        step.destroy()
        return wording.ran_away(names) if names else ""

    def to_gain(self) -> str:
        """What the decrement says that is still to gain."""
        tolerance = self.settings.decrement
        assert tolerance is not None
        first = self.assess(tolerance)
        if first.failure:
            return wording.unknown_gain(first.failure)
        found = first.decrement
        if found > tolerance:
            # CG stopped where it knew that: how much more there is, a few steps more tell.
            more = self.assess(max(tolerance, wording.MAY_FALL), LOOK)
            found = found if more.failure else max(found, more.decrement)
            self.decrement = found
        return wording.to_gain(found, tolerance)

    def settle(self) -> None:
        """Goes back to the best point of the validation."""
        watched = self.watched
        if watched is None or watched.best is None or watched.idle() == 0:
            return
        watched.best.copy(self.point.iterate)
        self.look_again()
        self.decrement = math.nan
        if self.status != EARLY:
            self.reason = (
                f"{self.reason}; {wording.best(watched.loss, watched.iteration)}"
            )
            self.status = EARLY if self.status == "converged" else self.status

    def look_again(self) -> None:
        """Objective and gradient norm of the point that the validation chose."""
        norm = self.point.projected_gradient_norm(self.solver.bounds)
        self.meta.update(objective=self.point.here().value, gradient_norm=norm)

    def verdict(self, reason: int) -> tuple[str, str]:
        """Status and explanation of a stop that TAO decided."""
        name, norm = REASONS.get(reason, str(reason)), self.meta["gradient_norm"]
        decides = self.settings.decrement is not None
        if reason == Reason.DIVERGED_MAXITS:
            missing = [
                f"gradient norm {norm:.3e}",
                *([self.to_gain()] if decides else []),
            ]
            return "max_iterations", wording.at_last_iteration(
                self.settings.max_iterations, missing, self._rejections()
            )
        if decides:
            gradient = (
                f"lower objectives are lost in rounding: gradient norm {norm:.3e}"
            )
            status, text = self.answer(gradient)
            if status:
                return status, text
        elif reason > 0 and reason != Reason.CONVERGED_STEPTOL:
            return "converged", f"gradient norm {norm:.3e} (TAO: {name})"
        more = [self.to_gain()] if decides else []
        more += self._rejections()
        share = norm / (self.meta["gradient_norm_initial"] or 1.0)
        return "stalled", wording.stalled(name, norm, share, more)
