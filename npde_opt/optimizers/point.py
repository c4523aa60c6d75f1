"""J, its gradient and its Hessian at one point at a time: TAO's callbacks at equal points share one
solve."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.errors import SolverError, collective, without_frames
from npde_opt.linear.accuracy import solved_to
from npde_opt.optimizers.conjugate_gradients import dots
from npde_opt.optimizers.interface import Objective, ObjectiveAt
from npde_opt.parameters import FEW

FARTHEST = 3.0
"""Largest change of a parameter with a log or bounded transform in one step: a factor of 20."""


def everyone(objective: Objective) -> MPI.Intracomm:
    """All ranks that minimize this objective together."""
    return getattr(objective, "everyone", objective.comm)


def together(objective: Objective) -> collective:
    """A block in which each group of ranks does its own; it raises on all ranks what one raised."""
    world = everyone(objective)
    return collective(
        world, objective.comm if objective.comm.size < world.size else None, above=1
    )


@dataclass
class Tally:
    """What methods are compared by: evaluations of J at a point, with or without its gradient, and
    passes over the data, of which a product with the Hessian is one, too.

    Args:
        count: of all experiments; 1 where the objective is no sum over them.
        seen: experiments in all evaluations and products.
    """

    count: int = 1
    evaluations: int = 0
    seen: int = 0

    @property
    def passes(self) -> float:
        return self.seen / self.count


def to_tolerance(rtol: float | None) -> contextlib.AbstractContextManager[None]:
    """Solves inside are made to `rtol`; None: to their own tolerances."""
    return contextlib.nullcontext() if rtol is None else solved_to(rtol)


class Agreed:
    """An ObjectiveAt of which every operation raises on all ranks what it raises on any.

    Args:
        experiments: that it is a sum over.
        rtol: of the states and their adjoints; None: their own.
    """

    def __init__(
        self,
        objective: Objective,
        m: PETSc.Vec,
        tally: Tally,
        experiments: int,
        rtol: float | None = None,
    ):
        self._rtol = rtol
        self._comm = everyone(objective)
        self._tally, self._experiments, self._counted = tally, experiments, False
        # Unit vectors of values and their products with the Gauss-Newton Hessian, by name.
        self._images: dict[str, tuple[PETSc.Vec, PETSc.Vec]] = {}
        self._size = m.getSize()
        self.error: SolverError | None = None
        with collective(self._comm):
            self._at: ObjectiveAt = objective.linearize(m)
        # Right after an agreement of all ranks another one tells nothing: a product with the
        # Hessian would have three.
        self._ends_together = bool(getattr(self._at, "ends_together", False))

    def _together(self) -> contextlib.AbstractContextManager[object]:
        """A block that raises on all ranks what one raised; nothing around operations that end
        with one themselves."""
        if self._ends_together:
            return contextlib.nullcontext()
        return collective(self._comm, above=1)

    def _exactly(self) -> contextlib.AbstractContextManager[None]:
        return to_tolerance(self._rtol)

    @functools.cached_property
    def value(self) -> float:
        """J(m); inf, with the `error`, where the state's solver failed."""
        self._count()
        try:
            with collective(self._comm), self._exactly():
                value = self._at.value
        except SolverError as error:
            without_frames(error)
            self.error = error
            return math.inf
        return reductions.same(self._comm, value, "the objective")

    @property
    def misfit(self) -> float:
        return self._at.misfit

    @property
    def regularization(self) -> float:
        return self._at.regularization

    def _count(self) -> None:
        """One evaluation, whatever is asked of it."""
        if not self._counted:
            self._counted = True
            self._tally.evaluations += 1
            self._tally.seen += self._experiments

    def gradient(self) -> PETSc.Vec:
        self._count()
        with self._together(), self._exactly():
            return self._at.gradient()

    def hessian(
        self,
        dm: PETSc.Vec,
        out: PETSc.Vec,
        gauss_newton: bool,
        rtol: float | None = None,
    ) -> None:
        """out = H dm by solves to `rtol`; None: to their own tolerances."""
        if gauss_newton and self.known:
            self._combine(dm, out)
            return
        self._tally.seen += self._experiments
        # What few parameters keep is not of one product.
        wanted = self._rtol if gauss_newton and self._size <= FEW else rtol
        with self._together(), to_tolerance(wanted):
            self._at.hessian(dm, out, gauss_newton)

    @property
    def known(self) -> bool:
        """Whether products with the Gauss-Newton Hessian are sums of those that are kept, as there
        is one for every parameter."""
        return len(self._images) == self._size

    def image(self, name: str, unit: PETSc.Vec) -> tuple[PETSc.Vec, int]:
        """The product of the Gauss-Newton Hessian with the unit vector of a value, which is kept
        and this object's, and the number of products that it took, 0 or 1."""
        if name in self._images:
            return self._images[name][1], 0
        image = unit.duplicate()
        self.hessian(unit, image, True)
        self._images[name] = unit.copy(), image
        return image, 1

    def _combine(self, dm: PETSc.Vec, out: PETSc.Vec) -> None:
        """out = sum_i dm_i H e_i"""
        units, images = zip(*self._images.values(), strict=True)
        parts = [float(part) for part in dots(dm, list(units))]
        out.set(0.0)
        out.maxpy(parts, list(images))

    def precondition(self, r: PETSc.Vec, out: PETSc.Vec) -> None:
        with self._together():
            self._at.precondition(r, out)

    def regularization_hessian(self, dm: PETSc.Vec, out: PETSc.Vec) -> None:
        with self._together():
            self._at.regularization_hessian(dm, out)

    def regularization_products(self, rows: np.ndarray, found: np.ndarray) -> None:
        with collective(self._comm):
            self._at.regularization_products(rows, found)

    def unseen(self) -> list[str]:
        with collective(self._comm):
            return self._at.unseen()

    def destroy(self) -> None:
        for pair in self._images.values():
            for vec in pair:
                vec.destroy()
        self._images.clear()
        self._at.destroy()


class Point:
    """Keeps the ObjectiveAt of the point that was asked for last, and destroys those that it
    replaces.

    Collective. `iterate` is the last accepted point; `accepted` its value, from which the
    substitute for infinite values is made; `rtol` that of states and adjoints at new points, None
    for their own; `attains` whether they can be made to another one, until one of them failed. A
    trial point farther than FARTHEST from `iterate` gets that substitute too.
    `rejected` is why the last trial point has no state, None where it has one; `refusals` counts
    all that had none, `refused` is why the last of these had none.
    """

    def __init__(self, objective: Objective, m: PETSc.Vec):
        self.objective = objective
        self.iterate = m.duplicate()
        m.copy(self.iterate)
        self.accepted: float | None = None
        self.failure: BaseException | None = None
        self.rejected: SolverError | None = None
        self.refused: SolverError | None = None
        self.refusals = 0
        self.rtol: float | None = None
        self.attains = True
        numbers = getattr(objective, "numbers", None)
        self.tally = Tally(1 if numbers is None else len(numbers))
        self._m = m.duplicate()
        self._at: Agreed | None = None

    @contextlib.contextmanager
    def callback(self) -> Iterator[None]:
        """Around a callback of PETSc's: keeps what it raises, because PETSc raises something
        else."""
        try:
            if self.failure is not None:
                raise self.failure
            yield
        except BaseException as error:
            self.failure = error
            raise

    @contextlib.contextmanager
    def raising(self) -> Iterator[None]:
        """Around a call of PETSc's: raises what a callback in it raised."""
        try:
            yield
        except PETSc.Error:
            failure, self.failure = self.failure, None
            if failure is None:
                raise
            raise failure from None

    @contextlib.contextmanager
    def later(self) -> Iterator[None]:
        """Like `callback`, but the next callback raises: inside its matrices TAO cannot be left in
        good order."""
        with contextlib.suppress(BaseException), self.callback():
            yield

    def at(self, m: PETSc.Vec) -> Agreed:
        """The objective at m, the kept one where m has the same values."""
        if self._at is None or not self._m.equal(m):
            self.drop()
            m.copy(self._m)
            count = self.tally.count
            self._at = Agreed(self.objective, self._m, self.tally, count, self.rtol)
        return self._at

    def here(self) -> Agreed:
        """The objective at the last accepted point."""
        return self.at(self.iterate)

    def regularized(self) -> Agreed:
        """The objective of which to take the regularization's inverse: the kept one, spared a new
        state.

        TAO's quasi-Newton types ask for it between the search's last evaluation and the convergence
        test.
        """
        if self._at is not None and math.isfinite(self._at.value):
            return self._at
        return self.here()

    def finite_value(self, m: PETSc.Vec) -> float:
        """J(m), or a value that any search rejects in favour of a shorter step where J(m) is not
        finite.

        TAO's trust regions and More-Thuente search stop at infinity; they recover from a value that
        is ten objectives above the last accepted one. A failed solve at a trial point is such a
        value too; it is kept as `rejected` until the next.
        """
        if self.accepted is not None and self.too_far(m):
            self.rejected = None
            return self.accepted + 10.0 * (abs(self.accepted) or 1.0)
        at = self._evaluated(m)
        value, self.rejected = at.value, at.error
        if at.error is not None:
            self.refused, self.refusals = at.error, self.refusals + 1
        if math.isfinite(value):
            return value
        if self.accepted is None:
            raise at.error or SolverError(
                "tao_",
                f"the objective is {value} at the initial parameters",
                "Start elsewhere, and look at the units of the data and of sigma.",
            )
        return self.accepted + 10.0 * (abs(self.accepted) or 1.0)

    def _evaluated(self, m: PETSc.Vec) -> Agreed:
        """The objective at m, to the solvers' own tolerances for good where one fails at `rtol` and
        does not at its own."""
        at = self.at(m)
        if math.isfinite(at.value) or at.error is None or self.rtol is None:
            return at
        tight, self.rtol = self.rtol, None
        self.drop()
        at = self.at(m)
        if math.isfinite(at.value):
            self.attains = False
        else:
            self.rtol = tight
        return at

    def too_far(self, m: PETSc.Vec) -> bool:
        """Whether a trial point changes a logarithm by more than FARTHEST: it is rejected without a
        solve."""
        step = self.iterate.duplicate()
        step.waxpy(-1.0, self.iterate, m)
        stretch = reductions.same(
            everyone(self.objective),
            self.objective.stretch(step),
            "the largest change of a parameter",
        )
        step.destroy()
        return stretch > FARTHEST * (1.0 + 1e-6)

    def gradient(self, m: PETSc.Vec, out: PETSc.Vec) -> None:
        """grad J(m); zero where J(m) is not finite or m too far away."""
        if self.accepted is not None and self.too_far(m):
            out.set(0.0)
            return
        at = self.at(m)
        if math.isfinite(at.value):
            at.gradient().copy(out)
            if not math.isfinite(out.norm()):
                raise SolverError(
                    "tao_",
                    "the gradient is not finite",
                    "Look for derivatives of the misfit or of regularizers "
                    "that are not finite where their values are.",
                )
        else:
            out.set(0.0)

    def projected_gradient_norm(
        self, bounds: tuple[PETSc.Vec, PETSc.Vec] | None
    ) -> float:
        """Norm of the gradient at the accepted point without what pushes against active bounds."""
        gradient = self.here().gradient()
        if bounds is None:
            return self.objective.gradient_norm(gradient)
        projected = gradient.duplicate()
        projected.getArray()[:] = np.where(
            self.binding(bounds), 0.0, gradient.getArray(readonly=True)
        )
        norm = self.objective.gradient_norm(projected)
        projected.destroy()
        return norm

    def has_small(self) -> bool:
        """Whether some unknowns are small enough for their own block of the Hessian."""
        units = self.objective.units(self.iterate)
        for _, unit, _ in units:
            unit.destroy()
        return bool(units)

    def held(self, bounds: tuple[PETSc.Vec, PETSc.Vec] | None) -> np.ndarray:
        """Where (own entries) the descent direction leads out of the bounds or out of a bounded
        transform's range."""
        saturated = self.objective.saturated(self.iterate, self.here().gradient())
        return saturated if bounds is None else saturated | self.binding(bounds)

    def binding(self, bounds: tuple[PETSc.Vec, PETSc.Vec]) -> np.ndarray:
        """Where (own entries) the accepted point is at a bound and the descent direction leads
        out."""
        vectors = (*bounds, self.iterate, self.here().gradient())
        lower, upper, m, g = (vector.getArray(readonly=True) for vector in vectors)
        return ((m <= lower) & (g > 0)) | ((m >= upper) & (g < 0))

    def tighten(self, rtol: float) -> None:
        """States at points to come are made to this tolerance, where they can be."""
        if self.attains:
            self.rtol = min(self.rtol or 1.0, rtol)

    def drop(self) -> None:
        if self._at is not None:
            self._at.destroy()
            self._at = None

    def destroy(self) -> None:
        """Everything but `iterate`, which becomes the result."""
        self.drop()
        self._m.destroy()
