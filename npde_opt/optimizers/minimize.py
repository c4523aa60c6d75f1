"""m* = argmin J(m) by any TAO type, from any start or from the state of an earlier run."""

from __future__ import annotations

import math
import time

from petsc4py import PETSc

from npde_opt.aliases import Record
from npde_opt.errors import InputError, SolverError, collective
from npde_opt.optimizers import wording
from npde_opt.optimizers.assessment import IDLE, Assessment, assess, idle, refuse_blind_start
from npde_opt.optimizers.directions import LBFGS, NewtonCG
from npde_opt.optimizers.interface import (
    REGISTERED,
    Monitor,
    Objective,
    OptimizerState,
    Result,
    Settings,
)
from npde_opt.optimizers.own import OwnDirection
from npde_opt.optimizers.point import Point, everyone, together
from npde_opt.optimizers.solver import Solver
from npde_opt.optimizers.spectrum import Spectrum
from npde_opt.reductions import same

DIRECTIONS: dict[str, type[NewtonCG] | type[LBFGS] | type[OwnDirection]] = {
    "newton": NewtonCG,
    "gauss-newton": NewtonCG,
    "lbfgs": LBFGS,
    REGISTERED: OwnDirection,
}
Reason = PETSc.TAO.ConvergedReason
COUNTED = ("forward_solves", "adjoint_solves", "krylov_iterations")
ROUNDING = 1e-14
LOOK = 10
"""CG steps to tell how much is left to gain where a run ends before its minimum."""
REASONS = {value: name for name, value in vars(Reason).items() if isinstance(value, int)}


def minimize(
    objective: Objective,
    m0: PETSc.Vec,
    settings: Settings,
    monitor: Monitor | None = None,
    resume: OptimizerState | None = None,
    spectrum: Spectrum | None = None,
    origin: PETSc.Vec | None = None,
) -> Result:
    """Minimizes the objective from m0 (left as it is), or from the state of an earlier run.

    `monitor(row, state)` is called after every completed iteration, 0 included; it may return
    'stop:STATUS' and may raise. Collective; what any rank's callback raises is raised on every
    rank. The Newton methods take a `spectrum` learnt on a coarser grid into their preconditioner.
    From `origin` (by default m0) no log parameter may run away: see Result. A trial point at which
    the state cannot be solved for is rejected in favour of a shorter step. Raises InputError for an
    unbounded method where the parameters have bounds and where nothing depends on any unknown,
    NpdeError where the settings differ between ranks, and SolverError where the objective is not
    finite at the start or a solve fails at every trial point from there.
    """
    same(everyone(objective), settings, "what the optimizer is set to")
    same(
        everyone(objective),
        (monitor is None, resume is None),
        "whether there are a monitor and a state to resume from",
    )
    with collective(everyone(objective)):
        run = Run(objective, m0, settings, monitor, resume, spectrum, origin or m0)
    try:
        # A callback may fail on one rank only, between two agreements: the others then wait inside
        # TAO.
        with collective(everyone(objective)):
            return run.finished()
    finally:
        # All ranks are here: what follows is collective.
        run.destroy()


class Run:
    """One run of a TAO: after every iteration the row, the state, the monitor and the convergence
    test."""

    def __init__(
        self,
        objective: Objective,
        m0: PETSc.Vec,
        settings: Settings,
        monitor: Monitor | None,
        resume: OptimizerState | None,
        spectrum: Spectrum | None,
        origin: PETSc.Vec,
    ):
        self.objective, self.settings, self.monitor = objective, settings, monitor
        self.meta: Record = {
            "method": settings.method,
            "iteration": -1,
            "seconds": 0.0,
            "counters": {},
        }
        if resume is not None:
            if resume.meta["method"] != settings.method:
                raise InputError(
                    "method",
                    repr(settings.method),
                    f"'{resume.meta['method']}', as in the resumed run",
                )
            self.meta = dict(resume.meta)
        self.point = Point(objective, resume.vectors["m"] if resume else m0)
        kind = DIRECTIONS.get(settings.method)
        self.direction = kind(self.point, settings, spectrum) if kind else None
        if resume is not None and self.direction is not None:
            self.direction.restore(resume.vectors, resume.meta["memory"])
        # A resumed run stands at its last point again before it goes on: `known` it is, and not
        # counted twice.
        self.known = self.again = resume is not None
        self.history: list[Record] = []
        self.status = self.reason = ""
        self.decrement = math.nan
        self.assessed: dict[tuple[float, int], Assessment] = {}
        self.origin = origin
        self.products = 0
        self.solver = Solver(self.point, settings, self.direction)
        self._before = {"seconds": self.meta["seconds"], "counters": dict(self.meta["counters"])}
        self._started, self._counted = time.perf_counter(), objective.counters.snapshot()

    def finished(self) -> Result:
        """Runs to the end; raises what a callback raised, which PETSc turns into an error of its
        own."""
        try:
            self.solve()
        except PETSc.Error:
            self.raise_failure()
            raise
        self.raise_failure()
        return self.result()

    def raise_failure(self) -> None:
        """Raises what a callback raised, if any did."""
        failure, self.point.failure = self.point.failure, None
        try:
            if failure is not None:
                raise failure from None
        finally:
            # The frame must not hold the error that holds the frame.
            del failure

    def solve(self) -> None:
        """Runs TAO until it stops; where the line search fails, again with a simpler direction."""
        self.solver.set_bounds()
        self.solver.set_regularization()
        tao = self.solver.tao
        tao.setConvergenceTest(self.converged)
        while True:
            self.point.iterate.copy(self.solver.x)
            tao.solve()
            if tao.getConvergedReason() != Reason.DIVERGED_LS_FAILURE or not self.retry():
                break
            self.known = True
        if not self.status:
            if (
                self.point.rejected is not None
                and self.meta["objective"] >= self.meta["objective_initial"]
            ):
                raise self.point.rejected
            with self.point.callback():
                self.status, self.reason = self.verdict(tao.getConvergedReason())

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
        return found.decrement > tolerance and not found.failure and self.direction.deepen()

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

    def converged(self, tao: PETSc.TAO) -> int | None:
        """TAO's convergence test: completes the iteration. None leaves TAO's own verdict."""
        if tao.getConvergedReason() == Reason.DIVERGED_LS_FAILURE:
            return None
        with self.point.callback():
            if not self.lowered(tao):
                return Reason.DIVERGED_LS_FAILURE
            self.complete(tao)
        PETSc.garbage_cleanup(self.point.iterate.getComm())
        if not self.status:
            return None
        return Reason.DIVERGED_MAXITS if self.status == "max_iterations" else Reason.CONVERGED_USER

    def lowered(self, tao: PETSc.TAO) -> bool:
        """Whether the step was one; TAO's loop around types written in Python takes a halted search
        for one."""
        if self.solver.type != "python" or tao.getIterationNumber() == 0:
            return True
        x = tao.getSolution()
        return not x.equal(self.point.iterate) and self.point.at(x).value <= self.meta["objective"]

    def complete(self, tao: PETSc.TAO) -> None:
        """Accepts TAO's solution: row, monitor, and whether to stop."""
        meta = self.meta
        tao.getSolution().copy(self.point.iterate)
        self.assessed.clear()
        value = self.point.accepted = self.point.here().value
        norm = same(
            everyone(self.objective),
            self.point.projected_gradient_norm(self.solver.bounds),
            "the gradient norm",
        )
        if not math.isfinite(norm):
            raise SolverError(
                "tao_", f"the gradient norm is {norm}", "Start elsewhere or scale the parameters."
            )
        stop = None
        self.solver.learn(tao.getIterationNumber() == 0)
        if self.again:
            self.again = False
            self._counted = self.objective.counters.snapshot()
        if self.known:
            self.known = False
        else:
            meta["iteration"] += 1
            meta.update(objective=value, gradient_norm=norm)
            if meta["iteration"] == 0:
                meta.update(objective_initial=value, gradient_norm_initial=norm)
            stop = self.report(self.row(tao))
        if meta["iteration"] == 0 and norm == 0:
            refuse_blind_start(self.point)
        reference = self.settings.gradient_reference or meta["gradient_norm_initial"]
        target = max(self.settings.gradient_atol, self.settings.gradient_rtol * reference)
        self.judge(norm, target, stop)
        if not self.status:
            self.solver.force(
                norm, meta["gradient_norm_initial"], reference, min(target, 0.1 * norm)
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
            self.status, self.reason = stop, f"stopped by the monitor ({stop})"
        elif norm <= target and not self.settings.goes_on:
            self.status = "stopped_at_tolerance"
            self.reason = wording.at_tolerance(gradient, self.to_gain())
        elif self.meta["iteration"] >= self.settings.max_iterations:
            self.status, self.reason = self.exhausted(norm, target)
        elif norm <= target and self.direction is not None:
            self.direction.deepen()

    def exhausted(self, norm: float, target: float) -> tuple[str, str]:
        """Status and explanation at the last iteration: an answer all the same where nothing is
        left to gain."""
        if self.settings.decrement is not None and self.assess(IDLE).decrement <= IDLE:
            return self.answer(f"nothing to gain any more: gradient norm {norm:.3e}")
        missing = [f"gradient norm {norm:.3e} > {target:.3e}"] if norm > target else []
        if self.settings.decrement is not None:
            missing.append(self.to_gain())
        return "max_iterations", wording.at_last_iteration(self.settings.max_iterations, missing)

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
            everyone(self.objective), self.objective.runaways(step), "what ran away from its start"
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

    def row(self, tao: PETSc.TAO) -> Record:
        """One line of the history, with the counts of a resumed run continued."""
        meta, at = self.meta, self.point.here()
        meta["counters"] = self.counted()
        meta["seconds"] = self._before["seconds"] + time.perf_counter() - self._started
        products = self.solver.products()
        inner, self.products = products - self.products, products
        return {
            "iteration": meta["iteration"],
            "level": self.settings.level,
            "objective": at.value,
            "misfit": at.misfit,
            "regularization": at.regularization,
            "gradient_norm": meta["gradient_norm"],
            "step": tao.getSolutionStatus()[4] if meta["iteration"] else 0.0,
            **{name: meta["counters"].get(name, 0) for name in COUNTED},
            "inner_iterations": inner,
            "seconds": meta["seconds"],
        }

    def counted(self) -> dict[str, int]:
        """What the objective counted since the start, that of the runs before included."""
        now = self.objective.counters.snapshot()
        return {
            name: self._before["counters"].get(name, 0) + now[name] - self._counted[name]
            for name in now
        }

    def report(self, row: Record) -> str | None:
        """Hands row and state to the monitor; the status that it asks to stop with."""
        self.history.append(row)
        if self.monitor is None:
            return None
        vectors, memory = self.direction.memory() if self.direction is not None else ({}, {})
        state = OptimizerState(
            {"m": self.point.iterate, **vectors}, {**self.meta, "memory": memory}
        )
        with together(self.objective):
            answer = self.monitor(dict(row), state)
        answer = same(everyone(self.objective), answer, "the monitor's answer")
        if answer is None:
            return None
        if not (
            isinstance(answer, str)
            and answer.startswith("stop:")
            and answer not in ("stop:", "stop:converged")
        ):
            raise InputError(
                "monitor",
                repr(answer),
                "None or 'stop:STATUS' (not converged: that the optimizer finds itself)",
            )
        return answer.removeprefix("stop:")

    def verdict(self, reason: int) -> tuple[str, str]:
        """Status and explanation of a stop that TAO decided."""
        name, norm = REASONS.get(reason, str(reason)), self.meta["gradient_norm"]
        decides = self.settings.decrement is not None
        if reason == Reason.DIVERGED_MAXITS:
            missing = [f"gradient norm {norm:.3e}", *([self.to_gain()] if decides else [])]
            return "max_iterations", wording.at_last_iteration(
                self.settings.max_iterations, missing
            )
        if decides:
            gradient = f"lower objectives are lost in rounding: gradient norm {norm:.3e}"
            status, text = self.answer(gradient)
            if status:
                return status, text
        elif reason > 0 and reason != Reason.CONVERGED_STEPTOL:
            return "converged", f"gradient norm {norm:.3e} (TAO: {name})"
        more = [self.to_gain()] if decides else []
        if self.point.rejected is not None:
            more.append(f"the last trial point was rejected ({self.point.rejected})")
        share = norm / (self.meta["gradient_norm_initial"] or 1.0)
        return "stalled", wording.stalled(name, norm, share, more)

    def result(self) -> Result:
        meta = self.meta
        return Result(
            m=self.point.iterate,
            status=self.status,
            reason=self.reason,
            iterations=meta["iteration"],
            objective=meta["objective"],
            objective_initial=meta["objective_initial"],
            gradient_norm=meta["gradient_norm"],
            gradient_norm_initial=meta["gradient_norm_initial"],
            decrement=self.decrement,
            history=self.history,
            counters=self.counted(),
        )

    def destroy(self) -> None:
        """All but the result's m."""
        self.solver.destroy()
        if self.direction is not None:
            self.direction.release()
        comm = self.point.iterate.getComm()
        self.point.destroy()
        if not self.status:
            self.point.iterate.destroy()
        PETSc.garbage_cleanup(comm)
