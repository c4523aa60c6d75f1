"""Descent directions H d = -g for TAO's line-search loop: Newton-CG and L-BFGS, resumable to the
last bit.

Each class is a TAO type written in Python: TAO calls `step` for the direction, searches along it,
and calls `postStep` where there is one. What a class remembers from one step to the next is
`memory()`.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

from petsc4py import PETSc

from npde_opt.aliases import Record
from npde_opt.errors import SolverError
from npde_opt.optimizers.conjugate_gradients import Direction, steihaug
from npde_opt.optimizers.gauss_newton import GaussNewton
from npde_opt.optimizers.initial_hessian import InitialHessian
from npde_opt.optimizers.interface import Settings
from npde_opt.optimizers.point import FARTHEST, Agreed, Point
from npde_opt.optimizers.spectrum import Spectrum

DEEP = 0.03
"""CG's relative tolerance for steps that must see every parameter."""
FAR = 0.3
"""The exact Hessian is taken from this tolerance of CG on: farther from the minimum it has negative
curvature, at which CG ends early."""
RELAXED = 3e-3
"""What an inexact product may change of CG's residual, in parts of what CG shall leave. With 1e-2
some cases took 20 % more products."""
LOOSE = (1e-8, 1e-2)
"""The least and the largest tolerance of the solves in a product."""
LEAST = 0.5
"""Products of a step, in those of the step before."""
EXACT = (1e-10, 1e-12)
"""Tolerances of states and adjoints, in place of their own and one after the other, where a
gradient does not fall as CG said."""
SEEN = 1e-7
"""Of the objective: a step that lowers it by less ends at a state of the first of EXACT. The next
one lowers it by less yet, which solves to 1e-8 would hide from the search: it then tried 3 to 10
steps, a different number on two ranks, and the last of them moved nothing."""
PROMISED, FELL, ROSE = 0.1, 0.25, 2.0
"""What CG said was left of a gradient at most, and between what and what was: more is a step that
was too long for the model."""


class NewtonCG:
    """H d = -g by CG with the regularization as preconditioner, to an Eisenstat-Walker tolerance.

    H is the exact Hessian at the point, or that of Gauss-Newton: where the method is so named, and
    where the tolerance is above FAR. CG stops at a direction of negative curvature. Its relative
    tolerance is min(forcing_max, sqrt(n(g) / n(g_0))) in the norm n(g) = sqrt(g^T R^-1 g): a step
    then lowers n(g) as far as CG did. What a long step leaves, as J is not quadratic, is rough: CG
    would halve that in a product or two, and the step with its new state would be wasted. It takes
    at least LEAST of the products of the step before. It also stops where its residual,
    the next gradient by the model, has half the `target` norm at which the iteration converges.
    Where a `spectrum` was learnt on a coarser grid, it adds to the preconditioner. After a failed
    line search the next direction is that of the preconditioner alone. `slope` is g^T d.

    Solves in a product are the less exact the farther CG is on its way, as the products that remain
    change little: half the iterations of solves that are all to their own tolerance.

    Where CG promised that no more than PROMISED of the gradient's norm would be left and FELL is,
    near the minimum, what is left is the error of the solves: from then on they are more exact. So
    are they where the objective falls by less than SEEN of it.

    Where H has negative curvature along CG's first direction, the step is that of the Gauss-Newton
    Hessian. Once `deepen` was called it always is, with the small unknowns scaled by their own
    block of it: CG then sees parameters of which the gradient is small because they are far from
    where the data want them.
    """

    def __init__(
        self, point: Point, settings: Settings, spectrum: Spectrum | None = None
    ):
        self.point, self.settings, self.spectrum = point, settings, spectrum
        self.gauss_newton = settings.method == "gauss-newton"
        self.products = 0
        self.slope = 0.0
        self.ahead, self.target = 1.0, 0.0
        self._reference = self._square = 0.0
        self._wanted: float | None = None  # n(r) that CG shall leave
        self._before = 0  # products of the last step
        self._near = False
        # The gradient's norm before the last step, and what CG would leave of it.
        self._norm = self._left = 0.0
        self._plain = self._next_plain = False
        self.deep = False

    def step(self, tao: PETSc.TAO, x: PETSc.Vec, g: PETSc.Vec, s: PETSc.Vec) -> None:
        self._plain, self._next_plain = self._next_plain, False
        with self.point.callback():
            self._watch(self.point.objective.gradient_norm(g))
            at = self.point.at(x)
            if self._plain:
                at.precondition(g, s)
            elif self.deep:
                self._solve_deep(at, x, g, s)
            else:
                first = self._reference == 0.0
                far = self._is_far(at, g) or self.gauss_newton
                if not self._solve(at, g, s, far, first):
                    self._solve(at, g, s, True, first)
        s.scale(-1.0)
        shorten(self.point, s)
        self.slope = g.dot(s)
        self._foresee(at.value)

    def _foresee(self, value: float) -> None:
        """Makes the states to come more exact where the step, by the model, hardly lowers J."""
        lowered = -0.5 * self.slope
        if 0 <= lowered <= SEEN * abs(value):
            self.point.tighten(EXACT[0])

    def _watch(self, norm: float) -> None:
        """Makes solves more exact where the gradient's norm did not fall as it should have."""
        promised = self._near and self._left <= PROMISED * self._norm
        if promised and FELL * self._norm < norm < ROSE * self._norm:
            now = self.point.rtol or 1.0
            self.point.tighten(next((x for x in EXACT if x < now), now))
        self._norm, self._left = norm, math.inf

    def _is_far(self, at: Agreed, g: PETSc.Vec) -> bool:
        """Whether CG's tolerance was above FAR so far."""
        if not self._near:
            z = g.duplicate()
            at.precondition(g, z)
            norm = math.sqrt(max(g.dot(z), 0.0))
            z.destroy()
            self._near = self.forcing(norm) <= FAR
        return not self._near

    def _solve_deep(self, at: Agreed, x: PETSc.Vec, g: PETSc.Vec, s: PETSc.Vec) -> None:
        model = GaussNewton(self.point.objective, at, x, None)
        model.step(g, s, DEEP, self.settings.cg_max)
        self.products += model.products
        model.destroy()

    def _solve(
        self,
        at: Agreed,
        g: PETSc.Vec,
        s: PETSc.Vec,
        gauss_newton: bool,
        first_step: bool,
    ) -> bool:
        """Whether H had positive curvature along the first direction."""
        if self.spectrum is not None and not self.spectrum.fitted:
            self.spectrum.fit(at, self.gauss_newton)
            self.products += 1
        kept: list[Direction] | None = [] if self.settings.reorthogonalize else None
        curvatures: list[float] = []
        self._wanted = None

        def hessian(dm: PETSc.Vec, out: PETSc.Vec) -> None:
            try:
                at.hessian(dm, out, gauss_newton, self._relaxed())
            except SolverError:
                if first_step:
                    raise
                # Near parameters that cannot be, solves for changes fail before those for states
                # do: as at a direction without curvature, CG ends with what it has, and the search
                # decides.
                out.set(0.0)
            if not curvatures:
                curvatures.append(dm.dot(out))

        self._before = steihaug(
            hessian,
            lambda r, z: self._precondition(at, r, z),
            g,
            s,
            rtol=self.forcing,
            max_steps=self.settings.cg_max,
            kept=kept,
            norm=lambda r, rz: math.sqrt(max(self._square, 0.0)),
            enough=self._is_enough,
            least=int(LEAST * self._before),
        )
        self.products += self._before
        for direction in kept or []:
            direction.destroy()
        return gauss_newton or not curvatures or curvatures[0] > 0

    def _relaxed(self) -> float:
        """The tolerance of the solves in CG's next product.

        A product that is wrong by a part e changes the residual that CG believes in by at most
        about e times its norm before and after the step (compare Simoncini, Szyld 2003).
        """
        norm = math.sqrt(max(self._square, 0.0))
        if self._wanted is None:
            self._wanted = self.forcing(norm) * norm
        least, most = LOOSE
        return min(max(least, RELAXED * self._wanted / norm), most) if norm else least

    def _is_enough(self, r: PETSc.Vec) -> bool:
        self._left = self.point.objective.gradient_norm(r)
        return self._left <= 0.5 * self.target

    def _precondition(self, at: Agreed, r: PETSc.Vec, z: PETSc.Vec) -> None:
        at.precondition(r, z)
        self._square = r.dot(z)
        if self.spectrum is not None:
            lost = self.spectrum.refine(r, z)
            if not lost < self._square and lost != 0.0:
                self.spectrum.drop()
                at.precondition(r, z)

    def forcing(self, norm: float) -> float:
        """CG's relative tolerance at n(g) = norm. `ahead` is how far the start was on its way
        already."""
        self._reference = self._reference or norm / self.ahead
        return (
            min(self.settings.forcing_max, math.sqrt(norm / self._reference))
            if norm > 0
            else 0.0
        )

    def memory(self) -> tuple[dict[str, PETSc.Vec], Record]:
        spectrum = None if self.spectrum is None else self.spectrum.state
        return {}, {
            "reference": self._reference,
            "before": self._before,
            "near": self._near,
            "fell": [self._norm, self._left],
            "rtol": self.point.rtol,
            "attains": self.point.attains,
            "deep": self.deep,
            "spectrum": spectrum,
        }

    def restore(self, vectors: dict[str, PETSc.Vec], meta: Record) -> None:
        self._reference, self.deep = meta["reference"], meta["deep"]
        self._before, self._near = meta.get("before", 0), meta.get("near", False)
        self._norm, self._left = meta.get("fell", (0.0, math.inf))
        self.point.rtol = meta.get("rtol")
        self.point.attains = meta.get("attains", True)
        if self.spectrum is not None and meta["spectrum"] is not None:
            self.spectrum.restore(meta["spectrum"])

    def forget(self) -> bool:
        """Whether there is another direction to try after a failed line search."""
        self._next_plain = not self._plain
        return self._next_plain

    def deepen(self) -> bool:
        """Goes over to the Gauss-Newton steps that see every parameter, for the rest of the run;
        False where it had, and where no unknown is small: the preconditioner scales fields."""
        before, self.deep = self.deep, self.point.has_small()
        return self.deep and not before

    def release(self) -> None:
        """Nothing to destroy."""


class Pair(NamedTuple):
    """s = m+ - m, y = g+ - g, s^T y, and the shift of the initial Hessian that fits them."""

    step: PETSc.Vec
    change: PETSc.Vec
    curvature: float
    shift: float


class LBFGS:
    """Two-loop recursion over pairs s = m+ - m, y = g+ - g from H_0 = R + d M of
    initial_hessian."""

    def __init__(
        self, point: Point, settings: Settings, spectrum: Spectrum | None = None
    ):
        self.point = point
        self.pairs: deque[Pair] = deque()
        self.room = settings.memory
        self.products, self.slope, self.ahead, self.target = 0, 0.0, 1.0, 0.0
        self.initial = InitialHessian(point)
        self._x, self._g, self._work = (point.iterate.duplicate() for _ in range(3))

    def step(self, tao: PETSc.TAO, x: PETSc.Vec, g: PETSc.Vec, s: PETSc.Vec) -> None:
        x.copy(self._x)
        g.copy(self._g)
        with self.point.callback():
            self._two_loops(self.point.at(x), g, s)
        s.scale(-1.0)
        shorten(self.point, s)
        self.slope = g.dot(s)

    def _two_loops(self, at: Agreed, g: PETSc.Vec, s: PETSc.Vec) -> None:
        q, weights = self._work, []
        g.copy(q)
        for pair in reversed(self.pairs):
            weights.append(pair.step.dot(q) / pair.curvature)
            q.axpy(-weights[-1], pair.change)
        self.initial.shift = self.pairs[-1].shift if self.pairs else 0.0
        self.initial.solve(at, q, s)
        for pair, weight in zip(self.pairs, reversed(weights), strict=True):
            s.axpy(weight - pair.change.dot(s) / pair.curvature, pair.step)

    def postStep(self, tao: PETSc.TAO) -> None:
        """Remembers the pair of an accepted step; one without positive curvature is left out."""
        x = tao.getSolution()
        if x.equal(self._x):
            return
        with self.point.callback():
            self._remember(x, self.point.at(x))

    def _remember(self, x: PETSc.Vec, at: Agreed) -> None:
        step, change = x.duplicate(), x.duplicate()
        step.waxpy(-1.0, self._x, x)
        change.waxpy(-1.0, self._g, at.gradient())
        curvature = step.dot(change)
        if curvature <= 1e-12 * math.sqrt(step.dot(step) * change.dot(change)):
            step.destroy()
            change.destroy()
            return
        if len(self.pairs) == self.room:
            drop(self.pairs.popleft())
        self.pairs.append(
            Pair(step, change, curvature, self.initial.data_curvature(at, step, change))
        )

    def memory(self) -> tuple[dict[str, PETSc.Vec], Record]:
        vectors = {}
        for i, pair in enumerate(self.pairs):
            vectors[f"step_{i:02d}"], vectors[f"change_{i:02d}"] = (
                pair.step,
                pair.change,
            )
        return vectors, {"shifts": [pair.shift for pair in self.pairs]}

    def restore(self, vectors: dict[str, PETSc.Vec], meta: Record) -> None:
        for i, shift in enumerate(meta["shifts"]):
            step, change = (
                vectors[f"{name}_{i:02d}"].copy() for name in ("step", "change")
            )
            self.pairs.append(Pair(step, change, step.dot(change), shift))

    def forget(self) -> bool:
        """Drops the pairs; whether there were any."""
        had_pairs = bool(self.pairs)
        while self.pairs:
            drop(self.pairs.pop())
        return had_pairs

    def deepen(self) -> bool:
        """There are no deeper steps."""
        return False

    def release(self) -> None:
        self.forget()
        self.initial.release()
        for vector in (self._x, self._g, self._work):
            vector.destroy()


def shorten(point: Point, s: PETSc.Vec) -> None:
    """Scales a step to FARTHEST where it changes the logarithm of a coefficient by more."""
    stretch = point.objective.stretch(s)
    if stretch > FARTHEST:
        s.scale(FARTHEST / stretch)


def drop(pair: Pair) -> None:
    pair.step.destroy()
    pair.change.destroy()
