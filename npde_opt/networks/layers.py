"""One layer, a step of the NPDE:

    u' = a u + dt (K u + V sigma(W u + U x + b; theta) + B x)

W, V, U, K, B are linear in their weights; x is what the sample gives the layer (nothing, for most).
With v = W u + U x + b and h = sigma(v), multipliers lambda' of u' and mu = dt lambda':

    eta = V^T mu,   nu = sigma'(v) eta
    lambda = a lambda' + K^T mu + W^T nu
    dV: mu (x) h   dtheta: sum eta phi(v)   db: sum nu   dW: nu (x) u   dU: nu (x) x   dK: mu (x) u

A network is plain where a = 0 (a convolution, a dense layer), residual where a = 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from petsc4py import PETSc

from npde_opt.aliases import Coefficients
from npde_opt.errors import InputError
from npde_opt.forward.layer import Stages
from npde_opt.networks.activations import Activation, Identity
from npde_opt.networks.interface import Bilinear, Reading, Values, Weight
from npde_opt.networks.place import Place
from npde_opt.networks.template import Sums


@dataclass(frozen=True)
class Part:
    """An operator with its weights; `sign` times it, where both share theirs with another."""

    operator: Bilinear
    weight: Weight
    sign: float = 1.0

    @classmethod
    def of(cls, operator: Bilinear, name: str, step: int | None = None, sign: float = 1.0) -> Part:
        """With the weight of this name, of which a layer has its own where it gives its `step`."""
        return cls(operator, Weight(name, operator.shape, step, operator.inputs), sign)

    def __post_init__(self) -> None:
        if self.operator.shape != self.weight.shape:
            told = f"{self.weight.name} of shape {self.weight.shape}"
            raise InputError("weight", told, f"shape {self.operator.shape} of its operator")

    def apply(self, k: Values, u: np.ndarray) -> np.ndarray:
        return self._signed(self.operator.apply(self.weight.of(k), u))

    def transpose(self, k: Values, y: np.ndarray) -> np.ndarray:
        return self._signed(self.operator.transpose(self.weight.of(k), y))

    def add(self, out: Sums, y: np.ndarray, u: np.ndarray) -> None:
        out.add(self.weight, self.sign * self.operator.weights(y, u))

    def _signed(self, found: np.ndarray) -> np.ndarray:
        return found if self.sign == 1 else -found


class Transposed:
    """y = W^T * u of an operator: states lie where its results do."""

    def __init__(self, operator: Bilinear):
        self.operator, self.local = operator, operator.local
        self.source, self.target = operator.target, operator.source
        self.shape, self.inputs = operator.shape, operator.inputs

    def reading(self, w: np.ndarray, u: np.ndarray) -> Reading:
        return self.operator.back(w, u)

    def back(self, w: np.ndarray, y: np.ndarray) -> Reading:
        return self.operator.reading(w, y)

    def apply(self, w: np.ndarray, u: np.ndarray) -> np.ndarray:
        return self.operator.transpose(w, u)

    def transpose(self, w: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self.operator.apply(w, y)

    def weights(self, y: np.ndarray, u: np.ndarray) -> np.ndarray:
        return self.operator.weights(u, y)

    def matrix(self, w: np.ndarray) -> PETSc.Mat:
        return self.operator.matrix(w).transpose()


@dataclass(frozen=True)
class Step:
    """A layer of a network; `at` gives it at one point for some samples.

    Args:
        source: where u lies.
        inner: W. outer: V; None: the identity.
        driven_inner, driven_outer: U and B.
        linear: K, any number of them.
        bias: b, of shape (channels,). theta: of a trainable activation (channels, m).
        residual: whether a is 1, else 0.
        dt: the step.
        reads: number of the part of a sample that is x; None where there is none.

    Raises:
        InputError: where the parts do not fit each other.
    """

    source: Place
    inner: Part
    activation: Activation = field(default_factory=Identity)
    bias: Weight | None = None
    theta: Weight | None = None
    outer: Part | None = None
    linear: Sequence[Part] = ()
    driven_inner: Part | None = None
    driven_outer: Part | None = None
    residual: bool = False
    dt: float = 1.0
    reads: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.dt < np.inf:
            raise InputError("dt", self.dt, "a number > 0")
        if self.residual and not self._same(self.target, self.source):
            raise InputError("residual", "channels or cells that change", "those of its states")
        hidden = self.inner.operator.target
        pairs = [(self.inner.operator.source, self.source, "W")]
        pairs += [(p.operator.source, self.source, "K") for p in self.linear]
        pairs += [(p.operator.target, self.target, "K") for p in self.linear]
        if self.outer is not None:
            pairs.append((self.outer.operator.source, hidden, "V"))
        if self.driven_inner is not None:
            pairs.append((self.driven_inner.operator.target, hidden, "U"))
        if self.driven_outer is not None:
            pairs.append((self.driven_outer.operator.target, self.target, "B"))
        for found, wanted, of in pairs:
            if not self._same(found, wanted):
                told = f"{of}: {found.channels} channels on {found.layout.shape} cells"
                raise InputError("layer", told, f"{wanted.channels} on {wanted.layout.shape}")
        if (self.activation.count > 0) != (self.theta is not None):
            raise InputError("theta", self.theta, "weights of trainable activations, only")

    @staticmethod
    def _same(one: Place, other: Place) -> bool:
        return one.channels == other.channels and one.same_cells(other)

    @property
    def target(self) -> Place:
        last = self.outer if self.outer is not None else self.inner
        return last.operator.target

    @property
    def given(self) -> list[Part]:
        """U and B, where there are any."""
        return [p for p in (self.driven_inner, self.driven_outer) if p is not None]

    @property
    def weights(self) -> list[Weight]:
        """All that the layer reads; one that it reads twice is named twice."""
        parts = [self.inner, *self.linear, *self.given]
        if self.outer is not None:
            parts.append(self.outer)
        more = [w for w in (self.bias, self.theta) if w is not None]
        return [*(p.weight for p in parts), *more]

    @property
    def taken(self) -> Place | None:
        """Where x lies."""
        return self.given[0].operator.source if self.given else None

    @property
    def widest(self) -> int:
        """Values of a sample of v."""
        return self.inner.operator.target.size

    @property
    def gains(self) -> Mapping[str, float]:
        return {self.inner.weight.name: self.activation.gain}

    def at(self, k: Values, x: np.ndarray | None) -> StepAt:
        """The layer at weights k, with what it reads of the samples [c, s, k, j, i]."""
        return StepAt(self, k, x)

    def destroy(self) -> None:
        """Nothing to give back."""


class StepAt:
    """A layer at one point; see forward/layer.py. Its stages are u, v, u'."""

    def __init__(self, step: Step, k: Values, x: np.ndarray | None):
        self.of, self.k, self.x = step, k, x
        self.theta = step.theta.of(k) if step.theta is not None else np.empty(0)

    def _v(self, u: np.ndarray, k: Values) -> np.ndarray:
        """W u + U x + b, at weights k, linear in these."""
        of = self.of
        v = of.inner.apply(k, u)
        if of.driven_inner is not None and self.x is not None:
            v += of.driven_inner.apply(k, self.x)
        if of.bias is not None:
            v += _by_channel(of.bias.of(k), v)
        return v

    def _driven(self, k: Values) -> np.ndarray | float:
        """B x"""
        outer = self.of.driven_outer
        return outer.apply(k, self.x) if outer is not None and self.x is not None else 0.0

    def step(self, u: np.ndarray) -> Stages:
        of = self.of
        v = self._v(u, self.k)
        h = of.activation.value(v, self.theta)
        found = of.outer.apply(self.k, h) if of.outer is not None else h
        for part in of.linear:
            found = found + part.apply(self.k, u)
        return [u, v, self._stepped(u, found + self._driven(self.k))]

    def _stepped(self, u: np.ndarray, found: np.ndarray) -> np.ndarray:
        """a u + dt found"""
        scaled = found if self.of.dt == 1 else found * found.dtype.type(self.of.dt)
        return u + scaled if self.of.residual else scaled

    def tangent(
        self, stages: Stages, du: np.ndarray, dk: Coefficients, previous: np.ndarray | None
    ) -> Stages:
        of, (u, v, _), k = self.of, stages, self.k
        moved = _arrays(dk)
        dv = of.inner.apply(k, du) + self._v(u, moved)
        dh = of.activation.slope(v, self.theta) * dv
        if of.theta is not None:
            dh += of.activation.value(v, of.theta.of(moved))
        found = dh
        if of.outer is not None:
            h = of.activation.value(v, self.theta)
            found = of.outer.apply(k, dh) + of.outer.apply(moved, h)
        for part in of.linear:
            found = found + part.apply(k, du) + part.apply(moved, u)
        return [du, dv, self._stepped(du, found + self._driven(moved))]

    def adjoint(
        self, stages: Stages, adjoint: np.ndarray, out: Sums | None, late: Sequence[Stages]
    ) -> tuple[np.ndarray, Stages]:
        of, (u, v, _), k = self.of, stages, self.k
        mu = adjoint if of.dt == 1 else adjoint * adjoint.dtype.type(of.dt)
        eta = of.outer.transpose(k, mu) if of.outer is not None else mu
        nu = of.activation.slope(v, self.theta) * eta
        found = of.inner.transpose(k, nu)
        for part in of.linear:
            found += part.transpose(k, mu)
        if out is not None:
            self._add(out, u, v, mu, eta, nu)
        return (found + adjoint if of.residual else found), [mu, eta, nu]

    def _add(
        self,
        out: Sums,
        u: np.ndarray,
        v: np.ndarray,
        mu: np.ndarray,
        eta: np.ndarray,
        nu: np.ndarray,
    ) -> None:
        """Adds what the multipliers give to the weights."""
        of = self.of
        of.inner.add(out, nu, u)
        for part in of.linear:
            part.add(out, mu, u)
        if of.outer is not None:
            of.outer.add(out, mu, of.activation.value(v, self.theta))
        if of.theta is not None:
            out.add(of.theta, of.activation.moments(v, eta))
        self._add_driven(out, mu, nu)

    def _add_driven(self, out: Sums, mu: np.ndarray, nu: np.ndarray) -> None:
        """Of b, U and B."""
        of = self.of
        if of.bias is not None:
            out.add(of.bias, nu.reshape(nu.shape[0], -1).sum(axis=1, dtype=float))
        if of.driven_inner is not None and self.x is not None:
            of.driven_inner.add(out, nu, self.x)
        if of.driven_outer is not None and self.x is not None:
            of.driven_outer.add(out, mu, self.x)

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
        of, k, moved = self.of, self.k, _arrays(dk)
        (u, v, _), (du, dv, _), (mu, eta, nu) = stages, changes, multipliers
        dmu = dadjoint if of.dt == 1 else dadjoint * dadjoint.dtype.type(of.dt)
        deta = dmu
        if of.outer is not None:
            deta = of.outer.transpose(k, dmu) + of.outer.transpose(moved, mu)
        lean = of.activation.curvature(v, self.theta) * dv
        if of.theta is not None:
            lean += of.activation.slope(v, of.theta.of(moved))
        slope = of.activation.slope(v, self.theta)
        dnu = slope * deta + lean * eta
        found = of.inner.transpose(k, dnu) + of.inner.transpose(moved, nu)
        for part in of.linear:
            found += part.transpose(k, dmu) + part.transpose(moved, mu)
        self._add(out, u, v, dmu, deta, dnu)
        self._add_moved(out, du, dv, slope, moved, (mu, eta, nu), v)
        return (found + dadjoint if of.residual else found), [dmu, deta, dnu]

    def _add_moved(
        self,
        out: Sums,
        du: np.ndarray,
        dv: np.ndarray,
        slope: np.ndarray,
        moved: Values,
        multipliers: tuple[np.ndarray, np.ndarray, np.ndarray],
        v: np.ndarray,
    ) -> None:
        """Adds what the multipliers give with the changes of states."""
        of, (mu, eta, nu) = self.of, multipliers
        of.inner.add(out, nu, du)
        for part in of.linear:
            part.add(out, mu, du)
        if of.outer is not None:
            dh = slope * dv
            if of.theta is not None:
                dh += of.activation.value(v, of.theta.of(moved))
            of.outer.add(out, mu, dh)
        if of.theta is not None:
            out.add(of.theta, of.activation.moments(v, eta * dv, 1))


def _arrays(dk: Coefficients) -> Values:
    return {name: np.asarray(value) for name, value in dk.items()}


def _by_channel(values: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Values (c,) so that they broadcast to v."""
    return values.astype(v.dtype, copy=False).reshape(-1, *(1,) * (v.ndim - 1))
