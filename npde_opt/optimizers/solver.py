"""TAO for an objective: the type of a method, its Hessian, preconditioner and initial Hessian, its
options.

-tao_type and all other options of the user win over the settings made here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.errors import InputError
from npde_opt.optimizers.adam import Adam
from npde_opt.optimizers.directions import LBFGS, NewtonCG
from npde_opt.optimizers.initial_hessian import InitialHessian
from npde_opt.optimizers.interface import EPOCHS, HEED_BOUNDS, METHODS, Settings
from npde_opt.optimizers.own import OwnDirection
from npde_opt.optimizers.point import Point, everyone
from npde_opt.petsc_options import from_options

BOUNDED = {
    "blmvm",
    "bncg",
    "bnls",
    "bntr",
    "bntl",
    "bqnls",
    "bqnkls",
    "bqnktr",
    "bqnktl",
    "tron",
}
KRYLOV = {"nls", "ntr", "ntl", "bnls", "bntr", "bntl"}
DEFAULTS = {
    "tao_ls_type": "armijo",
    "tao_bnk_init_type": "direction",
    "tao_bnk_imax": 0,
    "tao_bnk_pmax": 0,
    # Where all values count as bounded before the gradient between bounds is 0, TAO 3.26 crashes.
    "tao_bnk_as_tol": 0,
    "tao_nls_imax": 0,
    "tao_nls_pmax": 0,
    "tao_bqnk_mat_type": "lmvmbfgs",
}


class HessianAction:
    """Context of the Hessian's Mat: H(m) dm at the accepted point, and its rows and columns off the
    bounds.

    Here and below the objective gets a copy of what it multiplies: PETSc locks the original.
    """

    def __init__(self, point: Point, gauss_newton: bool):
        self.point, self.gauss_newton = point, gauss_newton
        self.products = 0
        self.inactive: PETSc.IS | None = None
        self._work = point.iterate.duplicate()

    def mult(self, mat: PETSc.Mat, dm: PETSc.Vec, out: PETSc.Vec) -> None:
        dm.copy(self._work)
        with self.point.callback():
            self.point.here().hessian(self._work, out, self.gauss_newton)
        self.products += 1

    def createSubMatrix(
        self, mat: PETSc.Mat, rows: PETSc.IS, columns: PETSc.IS, out: PETSc.Mat | None
    ) -> PETSc.Mat:
        if self.inactive is not None:
            self.inactive.destroy()
        self.inactive = rows.duplicate()
        return PETSc.Mat().createSubMatrixVirtual(mat, rows, columns)

    def release(self) -> None:
        self._work.destroy()
        if self.inactive is not None:
            self.inactive.destroy()


class RegularizationInverse:
    """Context of a PC: R^-1 r at the accepted point; between bounds, its rows and columns off
    them."""

    def __init__(self, action: HessianAction):
        self.action = action

    def apply(self, pc: PETSc.PC, r: PETSc.Vec, out: PETSc.Vec) -> None:
        point, inactive = self.action.point, self.action.inactive
        whole = r.getSize() == point.iterate.getSize() or inactive is None
        full, solved = point.iterate.duplicate(), point.iterate.duplicate()
        if whole:
            r.copy(full)
        else:
            full.set(0.0)
            copy_part(full, inactive, r, into=True)
        with point.callback():
            point.here().precondition(full, solved)
        if whole:
            solved.copy(out)
        else:
            copy_part(solved, inactive, out, into=False)
        full.destroy()
        solved.destroy()


class InitialMatrix:
    """Context of a quasi-Newton matrix's J0 = R + d M of initial_hessian.

    d changes by factors of at least 4, because the matrix then applies J0 to all its pairs again.
    With `bounds` the inverse is restricted to the entries that may move: a projected step of a full
    inverse need not descend.
    """

    def __init__(self, point: Point):
        self.point = point
        self.initial = InitialHessian(point)
        self.bounds: tuple[PETSc.Vec, PETSc.Vec] | None = None
        self.free: np.ndarray | None = None
        self._x, self._g, self._work = (point.iterate.duplicate() for _ in range(3))

    def learn(self, mat: PETSc.Mat, first: bool) -> None:
        """Takes the step to the accepted point into account; `first`: there was none."""
        at, step, change = self.point.here(), self._x, self._g
        if not first:
            step.aypx(-1.0, self.point.iterate)
            change.aypx(-1.0, at.gradient())
            shift = self.initial.data_curvature(at, step, change)
            if (
                shift > 4.0 * self.initial.shift
                or 0 < shift < 0.25 * self.initial.shift
            ):
                self.initial.shift = shift
                mat.stateIncrease()
        self.point.iterate.copy(step)
        at.gradient().copy(change)
        if self.bounds is not None:
            free = ~self.point.binding(self.bounds)
            moved = self.free is None or bool((free != self.free).any())
            if reductions.anywhere(self.point.objective.comm, moved):
                self.free = free
                mat.stateIncrease()

    def mult(self, mat: PETSc.Mat, dm: PETSc.Vec, out: PETSc.Vec) -> None:
        dm.copy(out)
        dm.copy(self._work)
        with self.point.later():
            self.initial.multiply(self.point.regularized(), self._work, out)

    def solve(self, mat: PETSc.Mat, r: PETSc.Vec, out: PETSc.Vec) -> None:
        r.copy(out)
        r.copy(self._work)
        if self.free is not None:
            self._work.getArray()[:] *= self.free
        with self.point.later():
            self.initial.solve(self.point.regularized(), self._work, out)
            if self.free is not None:
                out.getArray()[:] *= self.free

    def release(self) -> None:
        self.initial.release()
        for vector in (self._x, self._g, self._work):
            vector.destroy()


class Solver:
    """A configured TAO and the matrices that it was given; one owner, destroyed explicitly."""

    def __init__(
        self,
        point: Point,
        settings: Settings,
        direction: NewtonCG | LBFGS | OwnDirection | Adam | None,
    ):
        self.point, self.settings, self.direction = point, settings, direction
        m = point.iterate
        self.x = m.duplicate()
        self.g = m.duplicate()
        self.action = HessianAction(
            point, settings.method == "gauss-newton" or settings.gauss_newton
        )
        self.initial = InitialMatrix(point)
        self.hessian, self.h0 = (
            symmetric(m, context) for context in (self.action, self.initial)
        )
        self.tao = PETSc.TAO().create(m.getComm())
        self.tao.setType(METHODS.get(settings.method, "python"))
        if direction is not None:
            self.tao.setPythonContext(direction)
        self.tao.setSolution(self.x)
        self.tao.setTolerances(gatol=0.0, grtol=0.0, gttol=0.0)
        self.tao.setObjective(self._objective)
        self.tao.setGradient(self._gradient, self.g)
        self.tao.setObjectiveGradient(self._objective_gradient, self.g)
        self.tao.setHessian(self._hessian, self.hessian)
        self.tao.setMaximumIterations(settings.max_iterations + 1)
        with (
            default_options(DEFAULTS | {"mat_lmvm_hist_size": settings.memory}),
            from_options("tao_"),
            self.point.raising(),
        ):
            self.tao.setFromOptions()
        self.type = self.tao.getType()
        self.bounds: tuple[PETSc.Vec, PETSc.Vec] | None = None

    def set_bounds(self) -> None:
        """The parameters' bounds, of which TAO's unbounded types would silently take no notice
        (InputError)."""
        self.bounds = self.point.objective.bounds()
        if self.bounds is None:
            return
        if self.settings.method in EPOCHS:
            return
        if self.type not in BOUNDED:
            said = f"'{self.settings.method}' for parameters with bounds"
            raise InputError("method", said, HEED_BOUNDS)
        self.tao.setVariableBounds(self.bounds)

    def set_regularization(self) -> None:
        """The regularization as initial Hessian of the quasi-Newton types, as preconditioner of the
        Newton types."""
        if self.type in ("lmvm", "blmvm"):
            self.tao.setLMVMH0(self.h0)
            self.initial.bounds = self.bounds
        elif self.type.startswith("bqn"):
            self.tao.getLMVMMat().setLMVMJ0(self.h0)
        elif self.type in KRYLOV:
            ksp = self.tao.getKSP()
            ksp.setNormType(PETSc.KSP.NormType.NATURAL)
            ksp.setTolerances(max_it=self.settings.cg_max)
            ksp.getPC().setType("python")
            ksp.getPC().setPythonContext(RegularizationInverse(self.action))

    def learn(self, first: bool) -> None:
        """Fits the initial Hessian of TAO's quasi-Newton types to the step to the accepted
        point."""
        if self.type in ("lmvm", "blmvm") or self.type.startswith("bqn"):
            self.initial.learn(self.h0, first)

    def force(
        self, norm: float, norm_initial: float, reference: float, target: float
    ) -> None:
        """Sets the relative tolerance of the next inner solve (Eisenstat-Walker)."""
        if self.direction is not None:
            self.direction.target = target
            self.direction.ahead = (
                min(1.0, norm_initial / reference) if norm_initial > 0 else 1.0
            )
        if self.type in KRYLOV:
            self.tao.getKSP().setTolerances(
                rtol=min(self.settings.forcing_max, (norm / reference) ** 0.5)
            )

    def products(self) -> int:
        """Products with the Hessian so far."""
        return self.action.products + (
            self.direction.products if self.direction is not None else 0
        )

    def _objective(self, tao: PETSc.TAO, x: PETSc.Vec) -> float:
        with self.point.callback():
            return self.point.finite_value(x)

    def _gradient(self, tao: PETSc.TAO, x: PETSc.Vec, g: PETSc.Vec) -> None:
        with self.point.callback():
            self.point.gradient(x, g)

    def _objective_gradient(self, tao: PETSc.TAO, x: PETSc.Vec, g: PETSc.Vec) -> float:
        with self.point.callback():
            value = self.point.finite_value(x)
            self.point.gradient(x, g)
        return value

    def _hessian(
        self,
        tao: PETSc.TAO,
        x: PETSc.Vec,
        hessian: PETSc.Mat,
        preconditioner: PETSc.Mat,
    ) -> None:
        x.copy(self.point.iterate)
        hessian.stateIncrease()

    def destroy(self) -> None:
        # Frames of a failed callback may hold the TAO on some ranks, where destroying it would only
        # let go of it. Without our own hold PETSc's garbage keeps it until no rank holds it, and
        # all destroy it together.
        if (
            reductions.largest(everyone(self.point.objective), self.tao.getRefCount())
            == 1
        ):
            self.tao.destroy()
        del self.tao
        self.action.release()
        self.initial.release()
        for item in (self.hessian, self.h0, self.x, self.g, *(self.bounds or ())):
            item.destroy()


def copy_part(whole: PETSc.Vec, where: PETSc.IS, part: PETSc.Vec, into: bool) -> None:
    """whole[where] = part, or the other way round."""
    view = whole.getSubVector(where)
    part.copy(view) if into else view.copy(part)
    whole.restoreSubVector(where, view)
    view.destroy()


def symmetric(m: PETSc.Vec, context: object) -> PETSc.Mat:
    """A symmetric Mat of the size of m whose action is the context's."""
    mat = PETSc.Mat().createPython(
        (m.getSizes(), m.getSizes()), context, comm=m.getComm()
    )
    mat.setOption(PETSc.Mat.Option.SYMMETRIC, True)
    mat.setUp()
    return mat


@contextlib.contextmanager
def default_options(defaults: dict[str, object]) -> Iterator[None]:
    """Options that hold inside the block unless the user gave them."""
    options = PETSc.Options()
    mine = [name for name in defaults if not options.hasName(name)]
    for name in mine:
        options.setValue(name, defaults[name])
    try:
        yield
    finally:
        for name in mine:
            options.delValue(name)
