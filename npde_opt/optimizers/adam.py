"""Adam and AdamW as a TAO type in Python. With the gradient g of a step, t = 1, 2, ...,

    a <- beta_1 a + (1 - beta_1) g,    v <- beta_2 v + (1 - beta_2) g^2,
    m <- P(m - r (a / (1 - beta_1^t)) / (sqrt(v / (1 - beta_2^t)) + epsilon) - r w m),

where g is clipped to a norm, r is the rate, w the decoupled weight decay of AdamW (0 of Adam) and P
the projection onto the bounds (Kingma and Ba 2015; Loshchilov and Hutter 2019).

There is no line search, so that a step costs one gradient; TAO's own loop around types in Python
would search along each. By itself the type follows TAO's gradient, an iteration a step:

    -tao_type python -tao_python_type npde_opt.optimizers.adam.Adam -tao_adam_rate 0.01
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from petsc4py import PETSc

from npde_opt.aliases import Record
from npde_opt.errors import InputError
from npde_opt.optimizers.directions import shorten
from npde_opt.optimizers.interface import Settings
from npde_opt.optimizers.point import Point
from npde_opt.optimizers.schedules import rate
from npde_opt.optimizers.spectrum import Spectrum

Found = tuple[float, float]
"""An objective and a gradient norm."""
OPTIONS = ("rate", "epsilon", "clip", "weight_decay", "decay")
"""Numbers that PETSc's options may give as -tao_adam_NAME."""


class Adam:
    """The running means, and the loop.

    Args:
        point: of the objective that is minimized; None where TAO has callbacks of its own.

    Attributes:
        first, epoch: what finds the objective and the gradient norm at the start, and what makes
            the steps of one iteration of TAO's.
    """

    def __init__(
        self,
        point: Point | None = None,
        settings: Settings | None = None,
        spectrum: Spectrum | None = None,
    ):
        self.point = point
        self.settings = settings or Settings("adam")
        self.products, self.slope, self.ahead, self.target = 0, 0.0, 1.0, 0.0
        self.first: Callable[[PETSc.TAO], Found] = self._evaluated
        self.epoch: Callable[[PETSc.TAO], Found] = self._one_step
        self.steps = 0
        self.mean: PETSc.Vec | None = None
        self.square: PETSc.Vec | None = None
        self._step: PETSc.Vec | None = None

    def setFromOptions(self, tao: PETSc.TAO) -> None:
        """Raises InputError for numbers that cannot be."""
        with (
            self.point.callback()
            if self.point is not None
            else contextlib.nullcontext()
        ):
            self._set_from(f"{tao.getOptionsPrefix() or ''}tao_adam_")

    def _set_from(self, prefix: str) -> None:
        options = PETSc.Options(prefix)
        given = {
            name: options.getReal(name) for name in OPTIONS if options.hasName(name)
        }
        method = "adamw" if "weight_decay" in given else self.settings.method
        try:
            self.settings = replace(self.settings, method=method, **given)
        except InputError as error:
            raise InputError(
                f"-{prefix}{error.field}", error.value, error.allowed
            ) from error

    def solve(self, tao: PETSc.TAO) -> None:
        """TAO's monitors and convergence test after the start and after every epoch."""
        number, (value, norm) = 0, self.first(tao)
        while True:
            tao.setIterationNumber(number)
            tao.monitor(number, value, norm, 0.0, rate(self.settings, number))
            tao.checkConverged()
            if tao.getConvergedReason():
                return
            value, norm = self.epoch(tao)
            number += 1

    def _evaluated(self, tao: PETSc.TAO) -> Found:
        """By TAO's own callback, which leaves the gradient."""
        g, _ = tao.getGradient()
        value = tao.computeObjectiveGradient(tao.getSolution(), g)
        return value, g.norm()

    def _one_step(self, tao: PETSc.TAO) -> Found:
        g, _ = tao.getGradient()
        bounds = tao.getVariableBounds()
        given = bounds if all(bound.handle for bound in bounds) else None
        self.advance(tao.getSolution(), g, rate(self.settings, self.steps), given)
        return self._evaluated(tao)

    def advance(
        self,
        m: PETSc.Vec,
        g: PETSc.Vec,
        rate: float,
        bounds: tuple[PETSc.Vec, PETSc.Vec] | None = None,
    ) -> None:
        """One step from m along the means of the gradients so far, g among them, which is clipped
        in place. Collective."""
        mean, square, step = self._vectors(m)
        self._clip(g)
        self.steps += 1
        one, two = self.settings.betas
        own = g.getArray(readonly=True)
        a, v = mean.getArray(), square.getArray()
        a[...] = one * a + (1 - one) * own
        v[...] = two * v + (1 - two) * own**2
        unbiased = a / (1 - one**self.steps)
        size = np.sqrt(v / (1 - two**self.steps)) + self.settings.epsilon
        change = -rate * unbiased / size
        if self.settings.shrinkage:
            # What no gradient ever moved is no weight: a cell outside, a value that is held.
            weights = np.where(v > 0, m.getArray(readonly=True), 0.0)
            change -= rate * self.settings.shrinkage * weights
        step.getArray()[...] = change
        if self.point is not None:
            shorten(self.point, step)
        m.axpy(1.0, step)
        if bounds is not None:
            m.pointwiseMax(m, bounds[0])
            m.pointwiseMin(m, bounds[1])

    def _clip(self, g: PETSc.Vec) -> None:
        clip = self.settings.clip
        if clip is not None:
            norm = g.norm()
            if norm > clip:
                g.scale(clip / norm)

    def _vectors(self, m: PETSc.Vec) -> tuple[PETSc.Vec, PETSc.Vec, PETSc.Vec]:
        """The two means, 0 at first, and room for a step."""
        if self.mean is None or self.square is None:
            self.mean, self.square = zero(m), zero(m)
        if self._step is None:
            self._step = zero(m)
        return self.mean, self.square, self._step

    def memory(self) -> tuple[dict[str, PETSc.Vec], Record]:
        means = {"mean": self.mean, "square": self.square}
        return {k: v for k, v in means.items() if v is not None}, {"steps": self.steps}

    def restore(self, vectors: dict[str, PETSc.Vec], meta: Record) -> None:
        self.steps = meta["steps"]
        if self.steps:
            self.mean, self.square = vectors["mean"].copy(), vectors["square"].copy()

    def forget(self) -> bool:
        """There is no line search that could fail."""
        return False

    def deepen(self) -> bool:
        """There are no deeper steps."""
        return False

    def release(self) -> None:
        for vector in (self.mean, self.square, self._step):
            if vector is not None:
                vector.destroy()
        self.mean = self.square = self._step = None

    def destroy(self, tao: PETSc.TAO) -> None:
        """With its TAO."""
        self.release()


def zero(m: PETSc.Vec) -> PETSc.Vec:
    """A new Vec like m."""
    out = m.duplicate()
    out.set(0.0)
    return out
