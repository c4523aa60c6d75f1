"""A run of Adam or AdamW: an iteration is an epoch, in which every experiment is seen once.

The row of an epoch has the means over its batches of objective, misfit and regularization, each of
which was taken before the batch's step, and the gradient norm of the last batch. The row of the
start has those of the first batch. J as a whole is evaluated once, at the end; its gradient is not,
so that a run by minibatches never says that it found a minimum.

With one batch of all experiments these are J and its gradient, which are found at the end, too.
"""

from __future__ import annotations

import math
from typing import cast

from petsc4py import PETSc

from npde_opt.aliases import Record
from npde_opt.errors import InputError, SolverError
from npde_opt.optimizers.adam import Adam
from npde_opt.optimizers.assessment import refuse_blind_start
from npde_opt.optimizers.batches import Batch, Batches, Divisible
from npde_opt.optimizers.ending import Reason
from npde_opt.optimizers.interface import Monitor, Objective, OptimizerState, Settings
from npde_opt.optimizers.iterations import Run
from npde_opt.optimizers.point import Agreed, everyone, together
from npde_opt.optimizers.schedules import rate
from npde_opt.optimizers.spectrum import Spectrum
from npde_opt.reductions import same

RISEN = 2.0
"""Times the objective of the first batch at the end, from which on a run says that it rose. Batches
differ, by less than that."""


class Epochs(Run):
    """Stands inside an epoch, too, where it is resumed: `meta["within"]` says how many of its
    batches are done, their sums, and the gradient norm of the last one."""

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
        super().__init__(objective, m0, settings, monitor, resume, spectrum, origin)
        assert isinstance(self.direction, Adam)
        self.adam = self.direction
        self.adam.first, self.adam.epoch = self.begin, self.epoch
        if self.solver.type != "python":
            allowed = f"python, as method is {settings.method!r}"
            raise InputError("-tao_type", self.solver.type, allowed)
        self.batches = Batches(objective, settings.batch, settings.seed)
        self.meta["within"] = dict(self.meta.get("within", fresh()))
        self.at: Agreed | None = None
        self._g = self.point.iterate.duplicate()

    @property
    def number(self) -> int:
        """Of the epoch that is begun, the first of which is 0."""
        return int(self.meta["iteration"])

    @property
    def parted(self) -> bool:
        """Whether a step sees a part of the data only."""
        return self.batches.count > 1

    def rate(self, place: int) -> float:
        """Of a step of the epoch."""
        part = 1 / self.batches.count
        return rate(self.adam.settings, self.number + place * part, part)

    def begin(self, tao: PETSc.TAO) -> tuple[float, float]:
        """Objective and gradient norm of the first batch; where the run is resumed, what is known
        of them."""
        with self.point.callback():
            if self.known:
                self.point.accepted = self.meta["objective"]
                return self.meta["objective"], self.meta["gradient_norm"]
            x, within = tao.getSolution(), self.meta["within"]
            if self.parted:
                first = self.batches.of(0)[0]
                objective, _, count = part(self.of_epoch(0), first)
                self.evaluate(x, objective, 1.0, count, within)
                self.forget()
            else:
                self.point.finite_value(x)
                within.update(
                    sums=list(super().figures().values()), norm=self.whole_norm()
                )
            return within["sums"][0], within["norm"]

    def epoch(self, tao: PETSc.TAO) -> tuple[float, float]:
        """The steps of an epoch, or of what is left of one; the mean objective and the gradient
        norm of the last batch."""
        within, x = self.meta["within"], tao.getSolution()
        batches = self.batches.of(self.number)
        with self.point.callback():
            objective = self.of_epoch(self.number)
            for place in range(within["batch"], len(batches)):
                self.evaluate(x, *part(objective, batches[place]), within)
                self.adam.advance(x, self._g, self.rate(place), self.solver.bounds)
                self.forget()
                within["batch"] = place + 1
                if within["batch"] < len(batches):
                    self.between(x)
        return within["sums"][0], within["norm"]

    def of_epoch(self, epoch: int) -> Objective:
        """With what is drawn anew for an epoch."""
        if isinstance(self.objective, Divisible):
            return cast(Objective, self.objective.of_epoch(epoch))
        return self.objective

    def evaluate(
        self,
        x: PETSc.Vec,
        objective: Objective,
        weight: float,
        count: int,
        within: Record,
    ) -> None:
        """The gradient of a batch, which adds to the sums of its epoch: its objective, its share of
        the data, and its number of experiments."""
        # What fails stays where `destroy` finds it, when all ranks know of it.
        self.at = at = Agreed(
            objective, x, self.point.tally, count or self.point.tally.count
        )
        if not math.isfinite(at.value):
            raise self.lost(f"the objective is {at.value}", at.error)
        at.gradient().copy(self._g)
        norm = self.objective.gradient_norm(self._g)
        if not math.isfinite(norm):
            raise self.lost(f"the gradient norm is {norm}")
        found = (at.value, at.misfit, at.regularization)
        within["sums"] = [
            s + weight * f for s, f in zip(within["sums"], found, strict=True)
        ]
        within["norm"] = same(everyone(self.objective), norm, "the gradient norm")

    def forget(self) -> None:
        """Lets go of the batch."""
        if self.at is not None:
            self.at.destroy()
            self.at = None

    def lost(self, what: str, error: SolverError | None = None) -> SolverError:
        """Of a step that went too far, beyond which there is no shorter one."""
        steps = self.adam.steps
        if steps == 0:
            return error or SolverError(
                "tao_", f"{what} at the start", "Start elsewhere."
            )
        after = f"after {steps} steps of {self.settings.method}"
        remedy = "Lower `rate`, or set `clip`."
        if error is None:
            return SolverError("tao_", f"{what} {after}", remedy)
        return SolverError(
            error.prefix, f"{error.reason} {after}", f"{remedy} {error.remedy}"
        )

    def state(self, m: PETSc.Vec) -> OptimizerState:
        found = super().state(m)
        found.meta["within"] = dict(self.meta["within"])
        return found

    def between(self, x: PETSc.Vec) -> None:
        """Lets the monitor look for signals, and keep what a resumed run needs."""
        look = getattr(self.monitor, "between", None)
        if look is None:
            return
        self.clock()
        state = self.state(x)
        with together(self.objective):
            look(state)

    def complete(self, tao: PETSc.TAO) -> None:
        """Accepts the point after an epoch: row, monitor, and whether to stop."""
        tao.getSolution().copy(self.point.iterate)
        self.assessed.clear()
        if self.known:
            # Nothing was evaluated to stand here again.
            self.known = self.again = False
            self.decide(None)
            return
        self.meta["iteration"] += 1
        within = self.meta["within"]
        value, norm = within["sums"][0], within["norm"]
        self.meta.update(objective=value, gradient_norm=norm)
        if self.number == 0:
            self.point.accepted = value
            self.meta.update(objective_initial=value, gradient_norm_initial=norm)
            if norm == 0:
                refuse_blind_start(self.point)
        row = self.row(tao)
        self.meta["within"] = fresh()
        self.decide(self.report(row) or self.tired())

    def decide(self, stop: str | None) -> None:
        """Whether to stop, and then what of: the gradient as a whole is looked at once only, or
        where a batch of all of them says that it is worth it."""
        target, last = self.target(), self.number >= self.settings.max_iterations
        if self.parted:
            if last or stop:
                self.status, self.reason = stop or "max_iterations", self.through(stop)
            return
        if not (last or stop or self.meta["gradient_norm"] <= target):
            return
        norm = self.whole_norm()
        if norm <= target:
            self.status, self.reason = self.answer(
                f"gradient norm {norm:.3e} <= {target:.3e}"
            )
        if not self.status and (last or stop):
            self.status, self.reason = self.unfinished(norm, target, stop)
        if self.status:
            self.meta.update(objective=self.point.here().value, gradient_norm=norm)

    def through(self, stop: str | None) -> str:
        """Why a run by minibatches ended."""
        if stop:
            return self.stopped(stop)
        epochs, steps = self.settings.max_iterations, self.adam.steps
        return f"after {epochs} epochs, {steps:,} steps; to go on raise max_iterations"

    def look_again(self) -> None:
        """Of minibatches `settle` does it."""
        if not self.parted:
            super().look_again()

    def settle(self) -> None:
        """Of minibatches nobody knows J as a whole before the end."""
        super().settle()
        if not self.parted:
            return
        value, first = self.point.here().value, self.meta["objective_initial"]
        self.meta["objective"] = value
        if value > RISEN * first > 0:
            risen = f"the objective rose from {first:.3g} to {value:.3g}"
            self.reason = f"{self.reason}; {risen}: lower `rate`, or set `clip`"

    def unfinished(
        self, norm: float, target: float, stop: str | None
    ) -> tuple[str, str]:
        """Status and explanation of a run that is no answer."""
        if stop:
            return stop, self.stopped(stop)
        limit = self.settings.max_iterations
        sign = "<=" if norm <= target else ">"
        gradient = f"gradient norm {norm:.3e} {sign} {target:.3e}"
        if norm <= target and self.settings.decrement is not None:
            gradient = f"{gradient}, but {self.to_gain()}"
        more = (
            f"after {limit} epochs {gradient}; to go on raise max_iterations, or finish"
        )
        return "max_iterations", f"{more} with another method"

    def converged(self, tao: PETSc.TAO) -> int | None:
        """TAO's own tests, of which a batch knows nothing, do not count."""
        found = super().converged(tao)
        return Reason.CONTINUE_ITERATING if found is None else found

    def lowered(self, tao: PETSc.TAO) -> bool:
        """There is no line search: every step is one."""
        return True

    def whole_norm(self) -> float:
        """Of the gradient of all data at the accepted point."""
        norm = self.point.projected_gradient_norm(self.solver.bounds)
        return same(everyone(self.objective), norm, "the gradient norm")

    def figures(self) -> Record:
        names = ("objective", "misfit", "regularization")
        return dict(zip(names, self.meta["within"]["sums"], strict=True))

    def step_length(self, tao: PETSc.TAO) -> float:
        """The rate of the epoch's last step."""
        if self.number == 0:
            return 0.0
        part = 1 / self.batches.count
        return rate(self.adam.settings, self.number - part, part)

    def destroy(self) -> None:
        self.forget()
        self._g.destroy()
        super().destroy()


def fresh() -> Record:
    """Before the first batch of an epoch."""
    return {"batch": 0, "sums": [0.0, 0.0, 0.0], "norm": 0.0}


def part(objective: Objective, batch: Batch) -> tuple[Objective, float, int]:
    """A batch's objective, its share of the data and its number of experiments (0: all)."""
    if batch is None:
        return objective, 1.0, 0
    whole = cast(Divisible, objective)
    found = whole.over(batch)
    return cast(Objective, found), found.data_count / whole.data_count, batch.size
