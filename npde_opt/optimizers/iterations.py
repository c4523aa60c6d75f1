"""A run of a TAO type: what happens after every iteration, and how it ends."""

from __future__ import annotations

import math
import time

from petsc4py import PETSc

from npde_opt.aliases import Record
from npde_opt.errors import InputError, SolverError
from npde_opt.optimizers.adam import Adam
from npde_opt.optimizers.assessment import Assessment, refuse_blind_start
from npde_opt.optimizers.directions import LBFGS, NewtonCG
from npde_opt.optimizers.ending import Ending, Reason
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
from npde_opt.optimizers.watched import Watched
from npde_opt.reductions import same

DIRECTIONS: dict[
    str, type[NewtonCG] | type[LBFGS] | type[OwnDirection] | type[Adam]
] = {
    "newton": NewtonCG,
    "gauss-newton": NewtonCG,
    "lbfgs": LBFGS,
    "adam": Adam,
    "adamw": Adam,
    REGISTERED: OwnDirection,
}
COUNTED = ("forward_solves", "adjoint_solves", "krylov_iterations")


class Run(Ending):
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
        settings.check_patience()
        self.objective, self.settings, self.monitor = objective, settings, monitor
        self.meta: Record = {
            "method": settings.method,
            "iteration": -1,
            "seconds": 0.0,
            "counters": {},
            "evaluations": 0,
            "seen": 0,
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
        self.watched: Watched | None = None
        if settings.validation is not None:
            self.watched = Watched(settings.validation, objective)
            if resume is not None:
                self.watched.restore(resume.vectors, resume.meta["validation"])
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
        self._before = {
            "seconds": self.meta["seconds"],
            "counters": dict(self.meta["counters"]),
        }
        self._started = time.perf_counter()
        self.count_from_here()

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
            if (
                tao.getConvergedReason() != Reason.DIVERGED_LS_FAILURE
                or not self.retry()
            ):
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
        with self.point.callback():
            self.settle()

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
        return (
            Reason.DIVERGED_MAXITS
            if self.status == "max_iterations"
            else Reason.CONVERGED_USER
        )

    def lowered(self, tao: PETSc.TAO) -> bool:
        """Whether the step was one; TAO's loop around types written in Python takes a halted search
        for one."""
        if self.solver.type != "python" or tao.getIterationNumber() == 0:
            return True
        x = tao.getSolution()
        return (
            not x.equal(self.point.iterate)
            and self.point.at(x).value <= self.meta["objective"]
        )

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
                "tao_",
                f"the gradient norm is {norm}",
                "Start elsewhere or scale the parameters.",
            )
        stop = None
        self.solver.learn(tao.getIterationNumber() == 0)
        if self.again:
            self.again = False
            self.count_from_here()
        if self.known:
            self.known = False
        else:
            meta["iteration"] += 1
            meta.update(objective=value, gradient_norm=norm)
            if meta["iteration"] == 0:
                meta.update(objective_initial=value, gradient_norm_initial=norm)
            stop = self.report(self.row(tao)) or self.tired()
        if meta["iteration"] == 0 and norm == 0:
            refuse_blind_start(self.point)
        reference, target = self.reference(), self.target()
        self.judge(norm, target, stop)
        if not self.status:
            self.solver.force(
                norm, meta["gradient_norm_initial"], reference, min(target, 0.1 * norm)
            )

    def count_from_here(self) -> None:
        """What was done before counts no longer, or not again."""
        self._counted = self.objective.counters.snapshot()
        tally = self.point.tally
        tally.evaluations, tally.seen = self.meta["evaluations"], self.meta["seen"]

    def clock(self) -> None:
        """Brings what was counted, and the time, up to date."""
        meta, tally = self.meta, self.point.tally
        meta.update(
            evaluations=tally.evaluations, seen=tally.seen, counters=self.counted()
        )
        meta["seconds"] = self._before["seconds"] + time.perf_counter() - self._started

    def figures(self) -> Record:
        """Objective, misfit and regularization of a row."""
        at = self.point.here()
        return {
            "objective": at.value,
            "misfit": at.misfit,
            "regularization": at.regularization,
        }

    def step_length(self, tao: PETSc.TAO) -> float:
        return float(tao.getSolutionStatus()[4]) if self.meta["iteration"] else 0.0

    def row(self, tao: PETSc.TAO) -> Record:
        """One line of the history, with the counts of a resumed run continued."""
        meta, figures = self.meta, self.figures()
        self.clock()
        products = self.solver.products()
        inner, self.products = products - self.products, products
        row = {
            "iteration": meta["iteration"],
            "level": self.settings.level,
            **figures,
            "gradient_norm": meta["gradient_norm"],
            "step": self.step_length(tao),
            **{name: meta["counters"].get(name, 0) for name in COUNTED},
            "inner_iterations": inner,
            "evaluations": meta["evaluations"],
            "passes": self.point.tally.passes,
            "seconds": meta["seconds"],
        }
        if self.watched is not None:
            row |= self.watched.look(self.point.iterate, meta["iteration"])
        return row

    def counted(self) -> dict[str, int]:
        """What the objective counted since the start, that of the runs before included."""
        now = self.objective.counters.snapshot()
        return {
            name: self._before["counters"].get(name, 0)
            + now[name]
            - self._counted[name]
            for name in now
        }

    def report(self, row: Record) -> str | None:
        """Hands row and state to the monitor; the status that it asks to stop with."""
        self.history.append(row)
        if self.monitor is None:
            return None
        state = self.state(self.point.iterate)
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

    def state(self, m: PETSc.Vec) -> OptimizerState:
        """What continues the run from m."""
        vectors, memory = (
            self.direction.memory() if self.direction is not None else ({}, {})
        )
        meta = {**self.meta, "memory": memory}
        if self.watched is not None:
            kept, meta["validation"] = self.watched.memory()
            vectors |= kept
        return OptimizerState({"m": m, **vectors}, meta)

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
            best=self.watched.iteration if self.watched and self.watched.best else None,
            evaluations=self.point.tally.evaluations,
            passes=self.point.tally.passes,
            history=self.history,
            counters=self.counted(),
        )

    def destroy(self) -> None:
        """All but the result's m."""
        self.solver.destroy()
        if self.direction is not None:
            self.direction.release()
        if self.watched is not None:
            self.watched.release()
        comm = self.point.iterate.getComm()
        self.point.destroy()
        if not self.status:
            self.point.iterate.destroy()
        PETSc.garbage_cleanup(comm)
