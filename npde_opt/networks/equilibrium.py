"""A layer without end: the state z at which another layer of the same weights changes nothing,

    z = sigma(v),   v = W z + U u + b.

It is found by Newton's method, its systems with J = I - S W, S = diag sigma'(v), by GMRES, all
samples together; what led there does not matter for derivatives (implicit function theorem):

    tangent   J dz = S q,   q = dW z + U du + dU u + db
    adjoint   J^T mu = lambda',   nu = S mu,   lambda = U^T nu
              dW: nu (x) z   dU: nu (x) u   db: sum nu
    second    J^T dmu = dlambda' + (dW^T S + W^T dS) mu,   dnu = S dmu + dS mu
              with dS = diag sigma''(v) dv,   dv = W dz + q.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.aliases import Coefficients
from npde_opt.errors import InputError, SolverError
from npde_opt.forward.layer import Stages
from npde_opt.linear.accuracy import TIGHT, Tolerance, given, is_tight
from npde_opt.networks.activations import Activation, Tanh
from npde_opt.networks.interface import Values, Weight
from npde_opt.networks.parts import Part
from npde_opt.networks.solved import arrays
from npde_opt.networks.template import Change, Plain, Sums
from npde_opt.petsc_options import from_options

PREFIX = "state_equilibrium_"
MOST, SHORTEST, DECREASE = 50, 2.0**-12, 1e-4
"""Newton's iterations, and the shortest step of its line search, which has to lower the residual by
DECREASE of its length."""
STALLED = 1e-12
"""A residual that falls no more is at rounding below this."""

Product = Callable[[np.ndarray], np.ndarray]
REMEDY = (
    "Start from smaller weights, or bound them: a norm of W below 1 is always enough."
)


class Equilibrium(Plain):
    """Args:
    inner: W, from the states to themselves. driven: U, from what comes before.
    activation: sigma, one without weights. bias: b, of shape (channels,).

    The option -state_equilibrium_newton_rtol (1e-10) is for |z - sigma(v)| over |z|.

    Raises:
        InputError: where the parts do not fit each other.
    """

    def __init__(
        self,
        inner: Part,
        driven: Part,
        activation: Activation | None = None,
        bias: Weight | None = None,
    ):
        self.inner, self.driven, self.bias = inner, driven, bias
        self.activation = activation or Tanh()
        self.source, self.target = driven.operator.source, inner.operator.target
        for name, place in (
            ("W", inner.operator.source),
            ("U", driven.operator.target),
        ):
            if place.channels != self.target.channels or not place.same_cells(
                self.target
            ):
                told = (
                    f"{name}: {place.channels} channels on {place.layout.shape} cells"
                )
                allowed = f"{self.target.channels} on {self.target.layout.shape}"
                raise InputError("equilibrium", told, allowed)
        if self.activation.count:
            raise InputError(
                "activation", "one that is learnt", "tanh, relu, softplus, identity"
            )
        more = [bias] if bias is not None else []
        self.weights = [inner.weight, driven.weight, *more]

    @property
    def gains(self) -> Mapping[str, float]:  # type: ignore[override]
        """States have to be found at the start: W begins at half of what keeps their size."""
        own = self.activation.gain
        return {self.inner.weight.name: 0.25 * own, self.driven.weight.name: own}

    def at(self, k: Values, x: np.ndarray | None) -> EquilibriumAt:
        return EquilibriumAt(self, k)

    def with_operators(self, change: Change) -> Equilibrium:
        """The same layer of changed operators."""
        parts = self.inner.changed(change), self.driven.changed(change)
        return Equilibrium(*parts, self.activation, self.bias)


class EquilibriumAt:
    """An equilibrium at one point; see forward/layer.py. Its stages are u, z."""

    def __init__(self, of: Equilibrium, k: Values):
        self.of, self.k = of, k
        self.place, self.none = of.target, np.empty(0)

    # ---- the state -------------------------------------------------------------------------------

    def _drive(self, u: np.ndarray, k: Values) -> np.ndarray:
        """U u + b at weights k, linear in these."""
        of = self.of
        found = of.driven.apply(k, u)
        if of.bias is not None:
            found = found + of.bias.of(k).reshape(-1, *(1,) * (u.ndim - 1))
        return found

    def _v(self, u: np.ndarray, z: np.ndarray) -> np.ndarray:
        return self.of.inner.apply(self.k, z) + self._drive(u, self.k)

    def _slope(self, v: np.ndarray) -> np.ndarray:
        return self.of.activation.slope(v, self.none)

    def step(self, u: np.ndarray) -> Stages:
        drive = self._drive(u.astype(float, copy=False), self.k)
        z = self._newton(drive)
        return [u, z.astype(u.dtype, copy=False)]

    def _newton(self, drive: np.ndarray) -> np.ndarray:
        activation, inner = self.of.activation, self.of.inner
        z, last = np.zeros_like(drive), np.inf
        residual = self._residual(z, drive)
        for _ in range(MOST):
            size = self._norm(residual)
            scale = max(self._norm(z), self._norm(activation.value(drive, self.none)))
            stalled = size <= STALLED * scale and size > 0.5 * last
            if size <= _rtol() * scale or stalled:
                return z
            if not np.isfinite(size):
                raise SolverError(PREFIX, "a residual is not finite", REMEDY)
            slope = self._slope(inner.apply(self.k, z) + drive)
            change = self._linear(slope, -residual)
            z, residual, last = *self._along(z, change, drive, size), size
        raise SolverError(PREFIX, f"no equilibrium after {MOST} iterations", REMEDY)

    def _along(
        self, z: np.ndarray, change: np.ndarray, drive: np.ndarray, size: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """The next state and its residual, by a line search."""
        t, rounding = 1.0, STALLED * self._norm(z + change)
        while t >= SHORTEST:
            moved = z + t * change
            residual = self._residual(moved, drive)
            if self._norm(residual) <= max((1 - DECREASE * t) * size, rounding):
                return moved, residual
            t /= 2
        reason = f"no step along Newton's direction lowers a residual of {size:.3g}"
        raise SolverError(PREFIX, reason, REMEDY)

    def _residual(self, z: np.ndarray, drive: np.ndarray) -> np.ndarray:
        v = self.of.inner.apply(self.k, z) + drive
        return z - self.of.activation.value(v, self.none)

    def _norm(self, x: np.ndarray) -> float:
        return float(np.sqrt(reductions.total(self.place.comm, float(np.vdot(x, x)))))

    def _linear(self, slope: np.ndarray, b: np.ndarray) -> np.ndarray:
        """J^-1 b"""
        inner = self.of.inner
        return solved(self.place.comm, lambda x: x - slope * inner.apply(self.k, x), b)

    # ---- derivatives -----------------------------------------------------------------------------

    def _forced(
        self, stages: Stages, du: np.ndarray, moved: Values
    ) -> tuple[np.ndarray, np.ndarray]:
        """(v, q)"""
        u, z = (x.astype(float, copy=False) for x in stages)
        of = self.of
        q = (
            of.inner.apply(moved, z)
            + self._drive(u, moved)
            + of.driven.apply(self.k, du)
        )
        return self._v(u, z), q

    def tangent(
        self,
        stages: Stages,
        du: np.ndarray,
        dk: Coefficients,
        previous: np.ndarray | None,
    ) -> Stages:
        v, q = self._forced(stages, du.astype(float, copy=False), arrays(dk))
        slope = self._slope(v)
        dz = self._linear(slope, slope * q)
        return [du, dz.astype(du.dtype, copy=False)]

    def _transposed(self, slope: np.ndarray, b: np.ndarray) -> np.ndarray:
        """J^-T b"""
        inner = self.of.inner
        return solved(
            self.place.comm, lambda y: y - inner.transpose(self.k, slope * y), b
        )

    def adjoint(
        self,
        stages: Stages,
        adjoint: np.ndarray,
        out: Sums | None,
        late: Sequence[Stages],
    ) -> tuple[np.ndarray, Stages]:
        u, z = (x.astype(float, copy=False) for x in stages)
        slope = self._slope(self._v(u, z))
        mu = self._transposed(slope, adjoint.astype(float, copy=False))
        nu = slope * mu
        if out is not None:
            self._add(out, nu, u, z)
        return self.of.driven.transpose(self.k, nu).astype(adjoint.dtype, copy=False), [
            mu
        ]

    def _add(self, out: Sums, nu: np.ndarray, u: np.ndarray, z: np.ndarray) -> None:
        of = self.of
        of.inner.add(out, nu, z)
        of.driven.add(out, nu, u)
        if of.bias is not None:
            out.add(of.bias, nu.reshape(nu.shape[0], -1).sum(axis=1))

    def second(
        self,
        stages: Stages,
        changes: Stages,
        multipliers: Stages,
        dadjoint: np.ndarray,
        dk: Coefficients,
        out: Sums,
        late: Sequence[Stages],
    ) -> tuple[np.ndarray, Stages]:
        of, moved, (mu,) = self.of, arrays(dk), multipliers
        (u, z), (du, dz) = (
            [x.astype(float, copy=False) for x in pair] for pair in (stages, changes)
        )
        v, q = self._forced([u, z], du, moved)
        slope = self._slope(v)
        bent = (
            of.activation.curvature(v, self.none)
            * (of.inner.apply(self.k, dz) + q)
            * mu
        )
        rhs = (
            dadjoint
            + of.inner.transpose(moved, slope * mu)
            + of.inner.transpose(self.k, bent)
        )
        dmu = self._transposed(slope, rhs)
        dnu = slope * dmu + bent
        self._add(out, dnu, u, z)
        of.inner.add(out, slope * mu, dz)
        of.driven.add(out, slope * mu, du)
        found = of.driven.transpose(self.k, dnu) + of.driven.transpose(
            moved, slope * mu
        )
        return found.astype(dadjoint.dtype, copy=False), [dmu]


def _rtol() -> float:
    own = PETSc.Options().getReal(PREFIX + "newton_rtol", 1e-10)
    tightened = is_tight() and not given(PREFIX + "newton_rtol")
    return min(TIGHT, own) if tightened else own


class _Context:
    """Of a matrix that is a product."""

    def __init__(self, product: Product, shape: tuple[int, ...]):
        self.product, self.shape = product, shape

    def mult(self, mat: PETSc.Mat, x: PETSc.Vec, y: PETSc.Vec) -> None:
        values = x.getArray(readonly=True).reshape(self.shape)
        y.getArray()[...] = self.product(values).ravel()


def solved(comm: MPI.Intracomm, product: Product, b: np.ndarray) -> np.ndarray:
    """x of product(x) = b, by GMRES. Raises SolverError where it does not converge. Collective."""
    context = _Context(product, b.shape)
    rhs = PETSc.Vec().createMPI((b.size, None), comm=comm)
    rhs.getArray()[...] = b.ravel()
    x = rhs.duplicate()
    size = (b.size, rhs.getSize())
    matrix = PETSc.Mat().createPython((size, size), context, comm=comm)
    matrix.setUp()
    ksp = PETSc.KSP().create(comm)
    ksp.setOptionsPrefix(PREFIX)
    ksp.setOperators(matrix)
    ksp.setType(PETSc.KSP.Type.GMRES)
    ksp.getPC().setType(PETSc.PC.Type.NONE)
    ksp.setTolerances(rtol=1e-9, atol=1e-300, max_it=500)
    try:
        with from_options(PREFIX):
            ksp.setFromOptions()
        Tolerance(ksp).use()
        ksp.solve(rhs, x)
        if ksp.getConvergedReason() < 0:
            reason = f"GMRES stopped after {ksp.getIterationNumber()} iterations"
            raise SolverError(PREFIX, reason, REMEDY)
        return np.array(x.getArray(readonly=True)).reshape(b.shape)
    finally:
        for item in (ksp, matrix, rhs, x):
            item.destroy()
