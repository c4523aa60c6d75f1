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

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from npde_opt.aliases import Coefficients
from npde_opt.forward.layer import Stages
from npde_opt.networks.backward import Backward
from npde_opt.networks.form import Form
from npde_opt.networks.interface import Values, in_turn
from npde_opt.networks.passes import EVERYTHING, Beside, Hidden, taken
from npde_opt.networks.recycled import STATES
from npde_opt.networks.solved import arrays
from npde_opt.networks.strips import boxes_of, by_channel, over_cells
from npde_opt.networks.template import Change, Sums


class StepAt:
    """A layer at one point; see forward/layer.py. Its stages are u, what the activation keeps
    of v (where it is not computed again), and u'."""

    def __init__(self, step: Form, k: Values, x: np.ndarray | None):
        self.of, self.k, self.x = step, k, x
        self.theta = step.theta.of(k) if step.theta is not None else np.empty(0)

    def _v(self, u: np.ndarray, k: Values) -> np.ndarray:
        """W u + U x + b, at weights k, linear in these."""
        of = self.of
        v = of.inner.apply(k, u)
        if of.driven_inner is not None and self.x is not None:
            v += of.driven_inner.apply(k, self.x)
        if of.bias is not None:
            v += by_channel(of.bias.of(k), v)
        return v

    def _driven(self, k: Values) -> np.ndarray | float:
        """B x"""
        outer = self.of.driven_outer
        return (
            outer.apply(k, self.x) if outer is not None and self.x is not None else 0.0
        )

    def hidden(self, u: np.ndarray) -> Hidden:
        of, k = self.of, self.k
        driven = None
        if of.driven_inner is not None and self.x is not None:
            driven = of.driven_inner.apply(k, self.x)
        bias = of.bias.of(k) if of.bias is not None else None
        return Hidden(of.inner.reading(k, u), driven, bias, of.activation, self.theta)

    def _beside(self, u: np.ndarray) -> Beside:
        of, k, driven = self.of, self.k, None
        linear = [part.reading(k, u, of.dt) for part in of.linear]
        if of.driven_outer is not None and self.x is not None:
            driven = of.driven_outer.apply(k, self.x) * u.dtype.type(of.dt)
        return Beside(u if of.residual else None, linear, driven)

    def step(self, u: np.ndarray) -> Stages:
        of, hidden, beside = self.of, self.hidden(u), self._beside(u)
        place, samples = of.inner.operator.target, u.shape[1]
        plain = of.outer is None and of.dt == 1 and beside.none
        reaches = of.outer is not None and not of.outer.operator.local
        kept = None if of.recomputes else STATES.empty(place.shape(samples), u.dtype)
        h: np.ndarray | None = None
        if plain or reaches:
            same = kept is not None and of.activation.from_value
            h = kept if same else STATES.empty(place.shape(samples), u.dtype)
        out = (
            h
            if plain and h is not None
            else STATES.empty(of.target.shape(samples), u.dtype)
        )
        every = boxes_of(place, u, hidden.inner.width + place.channels)
        for box in in_turn(every, [hidden.inner, *beside.linear]):
            found = hidden.at(box, taken(kept, u, place.channels, box))
            if h is None:
                self._behind(found, out[box.index])
                beside.add(box, out[box.index])
            elif h is not kept:
                h[box.index] = found
        if reaches and h is not None:
            self._through(h, beside, out)
        return [u, kept, out] if kept is not None else [u, out]

    def _through(self, h: np.ndarray, beside: Beside, out: np.ndarray) -> None:
        """u' from h, which lies as a whole as cells read each other."""
        of = self.of
        assert of.outer is not None
        outer = of.outer.reading(self.k, h, of.dt)
        every = boxes_of(of.target, h, outer.width + of.target.channels)
        for box in in_turn(every, [outer, *beside.linear]):
            outer.product(box, out[box.index])
            beside.add(box, out[box.index])

    def _behind(self, h: np.ndarray, out: np.ndarray) -> None:
        """out = dt V h of a box, where cells do not read each other."""
        of = self.of
        if of.outer is not None:
            of.outer.reading(self.k, h, of.dt).product(EVERYTHING, out)
        else:
            np.multiply(h, h.dtype.type(of.dt), out=out)

    def kept(self, stages: Stages) -> np.ndarray:
        """What the activation keeps of v, computed again where it is not a stage."""
        if len(stages) == 3:
            return stages[1]
        hidden, place = self.hidden(stages[0]), self.of.inner.operator.target
        v = STATES.empty(place.shape(stages[0].shape[1]), stages[0].dtype)
        for box in in_turn(boxes_of(place, v, hidden.inner.width), [hidden.inner]):
            hidden.at(box, v[box.index])
        return v

    def _stepped(self, u: np.ndarray, found: np.ndarray) -> np.ndarray:
        """a u + dt found"""
        scaled = self._scaled(found)
        return u + scaled if self.of.residual else scaled

    def _scaled(self, found: np.ndarray) -> np.ndarray:
        """dt found"""
        return found if self.of.dt == 1 else found * found.dtype.type(self.of.dt)

    def tangent(
        self,
        stages: Stages,
        du: np.ndarray,
        dk: Coefficients,
        previous: np.ndarray | None,
    ) -> Stages:
        of, u, kept, k = self.of, stages[0], self.kept(stages), self.k
        moved = arrays(dk)
        dv = self._dv(u, du, moved)
        dh = of.activation.slope_of(kept, self.theta) * dv
        if of.theta is not None:
            dh += of.activation.value_of(kept, of.theta.of(moved))
        found = dh
        if of.outer is not None:
            h = of.activation.value_of(kept, self.theta)
            found = of.outer.apply(k, dh) + of.outer.apply(moved, h)
        for part in of.linear:
            found = found + part.apply(k, du) + part.apply(moved, u)
        changed = self._stepped(du, found + self._driven(moved))
        return [du, dv, changed] if len(stages) == 3 else [du, changed]

    def _dv(self, u: np.ndarray, du: np.ndarray, moved: Values) -> np.ndarray:
        return self.of.inner.apply(self.k, du) + self._v(u, moved)

    def adjoint(
        self,
        stages: Stages,
        adjoint: np.ndarray,
        out: Sums | None,
        late: Sequence[Stages],
    ) -> tuple[np.ndarray, Stages]:
        """The multipliers are lambda', eta and nu; they are kept where no sums are asked for. With
        sums, lambda may take the place of lambda' in memory."""
        return Backward(self, stages, adjoint, out).run()

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
        of, k, moved = self.of, self.k, arrays(dk)
        u, kept, du, (after, eta, nu) = (
            stages[0],
            self.kept(stages),
            changes[0],
            multipliers,
        )
        dv = changes[1] if len(changes) == 3 else self._dv(u, du, moved)
        mu, dmu = self._scaled(after), self._scaled(dadjoint)
        deta = dmu
        if of.outer is not None:
            deta = of.outer.transpose(k, dmu) + of.outer.transpose(moved, mu)
        lean = of.activation.curvature_of(kept, self.theta) * dv
        if of.theta is not None:
            lean += of.activation.slope_of(kept, of.theta.of(moved))
        slope = of.activation.slope_of(kept, self.theta)
        dnu = slope * deta + lean * eta
        found = of.inner.transpose(k, dnu) + of.inner.transpose(moved, nu)
        for part in of.linear:
            found += part.transpose(k, dmu) + part.transpose(moved, mu)
        self._add(out, u, kept, dmu, deta, dnu)
        self._add_moved(out, du, dv, slope, moved, (mu, eta, nu), kept)
        return (found + dadjoint if of.residual else found), [dadjoint, deta, dnu]

    def _add(
        self,
        out: Sums,
        u: np.ndarray,
        kept: np.ndarray,
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
            of.outer.add(out, mu, of.activation.value_of(kept, self.theta))
        if of.theta is not None:
            out.add(of.theta, of.activation.moments(kept, eta))
        if of.bias is not None:
            out.add(of.bias, over_cells(nu))
        self.add_driven(out, mu, nu)

    def add_driven(
        self, out: Sums, mu: np.ndarray, nu: np.ndarray, dt: float = 1.0
    ) -> None:
        """Of U and, dt times, of B."""
        of = self.of
        if of.driven_inner is not None and self.x is not None:
            of.driven_inner.add(out, nu, self.x)
        if of.driven_outer is not None and self.x is not None:
            of.driven_outer.add(out, mu, self.x, dt)

    def _add_moved(
        self,
        out: Sums,
        du: np.ndarray,
        dv: np.ndarray,
        slope: np.ndarray,
        moved: Values,
        multipliers: tuple[np.ndarray, np.ndarray, np.ndarray],
        kept: np.ndarray,
    ) -> None:
        """Adds what the multipliers give with the changes of states."""
        of, (mu, eta, nu) = self.of, multipliers
        of.inner.add(out, nu, du)
        for part in of.linear:
            part.add(out, mu, du)
        if of.outer is not None:
            dh = slope * dv
            if of.theta is not None:
                dh += of.activation.value_of(kept, of.theta.of(moved))
            of.outer.add(out, mu, dh)
        if of.theta is not None:
            out.add(of.theta, of.activation.moments(kept, eta * dv, 1))


class Step(Form):
    """A layer of a network; `at` gives it at one point for some samples. For arguments and errors
    see Form."""

    def at(self, k: Values, x: np.ndarray | None) -> StepAt:
        """The layer at weights k, with what it reads of the samples [c, s, k, j, i]."""
        return StepAt(self, k, x)

    def with_operators(self, change: Change) -> Step:
        """The same layer of changed operators."""
        names = ("inner", "outer", "driven_inner", "driven_outer")
        parts = {name: getattr(self, name) for name in names}
        others = {name: p.changed(change) for name, p in parts.items() if p is not None}
        return replace(self, linear=[p.changed(change) for p in self.linear], **others)

    def destroy(self) -> None:
        """Nothing to give back."""
