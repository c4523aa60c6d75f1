"""R(p) of blocks of many numbers: of matrices and whatever else

    Ridge   alpha/2 (p - q)^T M (p - q),   M the mass matrix of the block;

of fields p_i in channels or steps of time, with one quadratic R_1 for all of them,

    Parts   sum_i R_1(p_i - q_i)  +  beta/2 sum_n int (p_{n+1} - p_n)^2 / (t_{n+1} - t_n).

The Hessian of the latter is I x H + beta T x M, where T is the chain of the steps. In the basis of
T's eigenvectors that is one field a mode, H + beta l_i M. CG solves with it, preconditioned by
solves with modes whose l_i is rounded to a power of 4, so that a few hierarchies serve all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.errors import InputError
from npde_opt.grids import along
from npde_opt.linear.accuracy import tolerance
from npde_opt.parameters.draws import child
from npde_opt.parameters.field import PlacedField
from npde_opt.parameters.interface import Placed
from npde_opt.parameters.per_step import PlacedSteps
from npde_opt.regularizers.quadratic import Quadratic, Shifted

RTOL = 1e-6
"""Of CG, on the energy of the error."""
MOST = 200
CLASS = 4.0
"""Factor between the modes' multiples of M that are solved with."""

Action = Callable[[PETSc.Vec, PETSc.Vec], None]


class Ridge:
    """alpha/2 (p - q)^T M (p - q) of any block; the weight decay of a matrix, whose M is 1.

    Args:
        block: of the unknown, `space.blocks[name]`.
        alpha: 1 / s^2 for a normal prior of standard deviation s.
        reference: q as a Vec of the block, which then belongs to the regularizer; None: 0.
    """

    def __init__(self, block: Placed, alpha: float, reference: PETSc.Vec | None = None):
        self.alpha = _weight("regularization.weight", alpha)
        self.block = block
        self.reference, self.mass = reference, block.create_vec()
        block.view(self.mass.getArray())[...] = block.mass()

    def value(self, p: PETSc.Vec) -> float:
        gradient = p.duplicate()
        self.gradient(p, gradient)
        away = _minus(p, self.reference)
        value = 0.5 * away.dot(gradient)
        away.destroy()
        gradient.destroy()
        return float(value)

    def gradient(self, p: PETSc.Vec, out: PETSc.Vec) -> None:
        away = _minus(p, self.reference)
        self.hessian(p, away, out)
        away.destroy()

    def hessian(self, p: PETSc.Vec, dp: PETSc.Vec, out: PETSc.Vec) -> None:
        out.pointwiseMult(dp, self.mass)
        out.scale(self.alpha)

    def precondition(self, p: PETSc.Vec, r: PETSc.Vec, out: PETSc.Vec) -> None:
        out.pointwiseDivide(r, self.mass)
        out.scale(1 / self.alpha if self.alpha else 1.0)

    @property
    def improper(self) -> str:
        return "" if self.alpha > 0 else "its weight is 0"

    def precision(self, p: PETSc.Vec, dp: PETSc.Vec, out: PETSc.Vec) -> None:
        self.hessian(p, dp, out)

    def noise(self, p: PETSc.Vec, seed: int, out: PETSc.Vec) -> None:
        scale = np.sqrt(self.alpha * self.block.mass())
        self.block.view(out.getArray())[...] = scale * self.block.noise(seed)

    def variance(self, p: PETSc.Vec) -> np.ndarray:
        return 1.0 / (self.alpha * self.mass.getArray(readonly=True))

    def destroy(self) -> None:
        _destroy(self.mass, self.reference)


class Parts:
    """Each channel of a field and each step of time by itself, and neighbouring steps alike.

    Args:
        block: of the unknown, `space.blocks[name]`: a Field of channels, or PerStep of a Field.
        one: R_1 without a reference; belongs to the regularizer from now on.
        smoothness: beta.
        times: t, one a step; None: 0, 1, ...
        reference: q as a Vec of the block, which then belongs to the regularizer; None: 0.

    Raises:
        InputError: for a block of another kind, and a smoothness without steps, or of a weight 0.
    """

    def __init__(
        self,
        block: Placed,
        one: Quadratic,
        smoothness: float = 0.0,
        times: Sequence[float] | np.ndarray | None = None,
        reference: PETSc.Vec | None = None,
    ):
        inner = block.one if isinstance(block, PlacedSteps) else block
        if not isinstance(inner, PlacedField):
            raise InputError(
                "Parts: block", type(inner).__name__, "Field, or PerStep of a Field"
            )
        self.block, self.one, self.grid = block, one, one.grid
        self.alpha, self.reference = one.alpha, reference
        self.beta = _weight("Parts: smoothness", smoothness)
        steps = block.steps if isinstance(block, PlacedSteps) else 1
        if self.beta and (steps < 2 or not self.alpha):
            given = f"{smoothness:g} with {steps} steps and weight {self.alpha:g}"
            raise InputError(
                "Parts: smoothness", given, "0, or two steps and a positive weight"
            )
        t = np.arange(steps, dtype=float) if times is None else np.asarray(times, float)
        if t.size != steps or np.any(np.diff(t) <= 0):
            raise InputError(
                "Parts: times", f"{t.size} values", f"{steps} increasing times"
            )
        self.stiffness = self.beta / np.diff(t)
        self._x, self._y = self.grid.create_scalar(), self.grid.create_scalar()
        self._shifted: dict[float, Shifted] = {}

    # ---- what it is --------------------------------------------------------------------------

    def value(self, p: PETSc.Vec) -> float:
        away = _minus(p, self.reference)
        image = p.duplicate()
        self._each(self._scaled_product, away, image)
        value = 0.5 * away.dot(image)
        _destroy(away, image)
        return float(value) + self._roughness(self._own(p))

    def gradient(self, p: PETSc.Vec, out: PETSc.Vec) -> None:
        away = _minus(p, self.reference)
        self._each(self._scaled_product, away, out)
        away.destroy()
        self._add_chain(p, out)

    def hessian(self, p: PETSc.Vec, dp: PETSc.Vec, out: PETSc.Vec) -> None:
        self._each(self._scaled_product, dp, out)
        self._add_chain(dp, out)

    def precondition(self, p: PETSc.Vec, r: PETSc.Vec, out: PETSc.Vec) -> None:
        if self.beta:
            self._solve(r, out)
        else:
            self._each(lambda x, y: self.one.precondition(x, x, y), r, out)

    @property
    def improper(self) -> str:
        return self.one.improper

    def precision(self, p: PETSc.Vec, dp: PETSc.Vec, out: PETSc.Vec) -> None:
        self.hessian(p, dp, out)

    def noise(self, p: PETSc.Vec, seed: int, out: PETSc.Vec) -> None:
        found = self._own(out, True)
        fields = found.shape[: found.ndim - self.grid.dim]
        for number, index in enumerate(np.ndindex(fields)):
            self.one.noise(self._x, child(seed, number), self._y)
            found[index] = self.grid.view(self._y)
        if self.beta:
            drawn = self.block.noise(child(seed, len(found) + 1))[:-1]
            pull = np.sqrt(along(self.stiffness, 0, found.ndim) * self._volume) * drawn
            found[:-1] -= pull
            found[1:] += pull

    def variance(self, p: PETSc.Vec) -> np.ndarray | None:
        own = None if self.beta else self.one.variance(p)
        if own is None:
            return None
        found = p.duplicate()
        whole, cells = self._own(found, True), self.grid.local_shape
        whole[...] = own.reshape(cells, order="F")
        values = found.getArray().copy()
        found.destroy()
        return values

    def _scaled_product(self, x: PETSc.Vec, y: PETSc.Vec) -> None:
        self.one.hessian(x, x, y)

    # ---- fields and steps --------------------------------------------------------------------

    def _own(self, vec: PETSc.Vec, write: bool = False) -> np.ndarray:
        """Own numbers, [step or channel, ..., i, j, k]."""
        return self.block.view(vec.getArray(readonly=not write))

    def _each(self, action: Action, given: PETSc.Vec, out: PETSc.Vec) -> None:
        """out_i = action(given_i), field by field."""
        fields, found = self._own(given), self._own(out, True)
        self._each_field(lambda number: action, fields, found)

    def _each_field(
        self, action: Callable[[int], Action], given: np.ndarray, out: np.ndarray
    ) -> None:
        """As `_each`, of own arrays, with the action of each number of the first axis."""
        for index in np.ndindex(given.shape[: given.ndim - self.grid.dim]):
            self.grid.view(self._x)[...] = given[index]
            action(index[0] if index else 0)(self._x, self._y)
            out[index] = self.grid.view(self._y)

    @cached_property
    def _volume(self) -> np.ndarray:
        return np.where(self.grid.active, self.grid.volume, 0.0)

    def _roughness(self, own: np.ndarray) -> float:
        """The part of the differences between steps."""
        if not self.beta:
            return 0.0
        squares = np.diff(own, axis=0) ** 2 * self._volume
        sums = squares.reshape(self.stiffness.size, -1).sum(axis=1)
        return 0.5 * reductions.total(self.grid.comm, float(self.stiffness @ sums))

    def _add_chain(self, x: PETSc.Vec, out: PETSc.Vec) -> None:
        """out += beta T x M x."""
        if not self.beta:
            return
        own, found = self._own(x), self._own(out, True)
        pull = along(self.stiffness, 0, own.ndim) * np.diff(own, axis=0) * self._volume
        found[:-1] -= pull
        found[1:] += pull

    # ---- solves ------------------------------------------------------------------------------

    def _solve(self, r: PETSc.Vec, out: PETSc.Vec) -> None:
        """CG for I x H + beta T x M."""
        residual, z, image = r.copy(), r.duplicate(), r.duplicate()
        out.set(0.0)
        self._by_modes(residual, z)
        direction, energy = z.copy(), residual.dot(z)
        least = tolerance(RTOL) ** 2 * energy
        for _ in range(MOST):
            if not energy > least:
                break
            self.hessian(r, direction, image)
            step = energy / direction.dot(image)
            out.axpy(step, direction)
            residual.axpy(-step, image)
            self._by_modes(residual, z)
            before, energy = energy, residual.dot(z)
            direction.aypx(energy / before, z)
        _destroy(residual, z, image, direction)

    @cached_property
    def _modes(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues, rounded to classes, and eigenvectors of beta T."""
        steps = self.stiffness.size + 1
        differences = np.diff(np.eye(steps), axis=0)
        chain = differences.T @ (self.stiffness[:, None] * differences)
        values, vectors = np.linalg.eigh(chain)
        nothing = values <= 1e-12 * values[-1]
        powers = np.round(np.log(np.where(nothing, 1.0, values)) / np.log(CLASS))
        return np.where(nothing, 0.0, CLASS**powers), vectors

    def _by_modes(self, r: PETSc.Vec, out: PETSc.Vec) -> None:
        """About the inverse: a solve a mode and channel."""
        values, vectors = self._modes
        given = np.tensordot(vectors.T, self._own(r), axes=1)
        found = np.empty_like(given)
        self._each_field(lambda mode: self._inverse(values[mode]), given, found)
        self._own(out, True)[...] = np.tensordot(vectors, found, axes=1)

    def _inverse(self, multiple: float) -> Action:
        """(alpha H + multiple M)^-1, about."""
        if multiple not in self._shifted:
            self._shifted[multiple] = self.one.shifted(multiple / self.alpha)
        made = self._shifted[multiple]

        def solve(x: PETSc.Vec, y: PETSc.Vec) -> None:
            made.solve(x, y)
            y.scale(1 / self.alpha)

        return solve

    def destroy(self) -> None:
        for made in self._shifted.values():
            made.destroy()
        self.one.destroy()
        _destroy(self._x, self._y, self.reference)


def _weight(field: str, given: float) -> float:
    if not (np.isfinite(given) and given >= 0):
        raise InputError(field, given, "a number >= 0")
    return float(given)


def _minus(p: PETSc.Vec, reference: PETSc.Vec | None) -> PETSc.Vec:
    """p - q, a new Vec."""
    away = p.copy()
    if reference is not None:
        away.axpy(-1.0, reference)
    return away


def _destroy(*vecs: PETSc.Vec | None) -> None:
    for vec in vecs:
        if vec is not None:
            vec.destroy()
