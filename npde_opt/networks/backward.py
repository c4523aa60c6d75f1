"""The adjoint of one layer, u' = a u + dt (K u + V sigma(W u + U x + b; theta) + B x): from the
multipliers lambda' of u', with mu = dt lambda',

    eta = V^T mu,   nu = sigma'(v) eta,   lambda = a lambda' + K^T mu + W^T nu,

and what they give to the weights, box after box (for both see layers.py).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from npde_opt.forward.layer import Stages
from npde_opt.networks.diffusion import Diffusion
from npde_opt.networks.form import Form
from npde_opt.networks.interface import Bilinear, Reading, Values, in_turn
from npde_opt.networks.passes import EVERYTHING, Beside, Hidden, Replaced
from npde_opt.networks.recycled import STATES
from npde_opt.networks.strips import WORK, Box, boxes_of, over_cells
from npde_opt.networks.template import Sums


class AtPoint(Protocol):
    """A layer at weights k, with what it reads of the samples; theta of its activation."""

    of: Form
    k: Values
    x: np.ndarray | None
    theta: np.ndarray

    def hidden(self, u: np.ndarray) -> Hidden:
        """v and h from u."""

    def kept(self, stages: Stages) -> np.ndarray:
        """What the activation keeps of v."""

    def add_driven(
        self, out: Sums, mu: np.ndarray, nu: np.ndarray, dt: float = 1.0
    ) -> None:
        """What the multipliers give to U and, dt times, to B."""


class Backward:
    """The adjoint of a layer: eta and nu box after box, then lambda."""

    def __init__(
        self, at: AtPoint, stages: Stages, adjoint: np.ndarray, out: Sums | None
    ):
        self.at, self.of, self.k, self.out = at, at.of, at.k, out
        self.u, self.y, self.stages = stages[0], adjoint, stages
        of, k, dt = at.of, at.k, at.of.dt
        self.place = of.inner.operator.target
        self.outer = of.outer.back(k, adjoint, dt) if of.outer is not None else None
        linear = [part.back(k, adjoint, dt) for part in of.linear]
        self.beside = Beside(adjoint if of.residual else None, linear)
        # Where cells do not read each other all is done box by box, and nothing but lambda is kept.
        self.local = (
            of.inner.operator.local and out is not None and of.driven_inner is None
        )
        # Where nobody asks for lambda.
        self.ends = of.first and not of.linear and out is not None and not self.local
        reach = self._reach()
        self.replaced = Replaced(adjoint, reach) if reach is not None else None
        self.found = adjoint
        if self.replaced is None:
            made = STATES.zeros if self.ends else STATES.empty
            self.found = made(self.u.shape, self.u.dtype)
        self.bias = np.zeros(self.place.channels)
        self.moments = np.zeros((self.place.channels, of.activation.count))

    def _reach(self) -> int | None:
        """How far boxes read the multipliers that lambda takes the place of; None: it lies beside
        them, as they are asked for later, or read from afar."""
        of = self.of
        if (
            self.out is None
            or self.ends
            or self.y.shape != self.u.shape
            or of.driven_outer
        ):
            return None
        if not all(
            r.gathers for r in (self.outer, *self.beside.linear) if r is not None
        ):
            return None
        reading = [part.operator for part in of.linear]
        if self.local and of.outer is not None:
            reading.append(of.outer.operator)
        reaches = [reach_of(operator) for operator in reading]
        known = [r for r in reaches if r is not None]
        return max(known, default=0) if len(known) == len(reaches) else None

    def run(self) -> tuple[np.ndarray, Stages]:
        of = self.of
        nu, eta = self._whole(not self.local), self._whole(self.out is None)
        hidden = self.at.hidden(self.u) if len(self.stages) == 2 else None
        width = self.outer.width if self.outer is not None else self.place.channels
        every = boxes_of(self.place, self.u, width + 3 * self.place.channels)
        reading = [self.outer, *self.beside.linear]
        for box in in_turn(every, reading, free=not self.local):
            self._inside(box, hidden, nu, eta)
        if not self.local:
            assert nu is not None
            if self.ends and self.out is not None:
                of.inner.add(self.out, nu, self.u)
            else:
                self._through(nu)
        if self.replaced is not None:
            self.replaced.finish()
        if self.out is not None:
            self._collect(nu, self.out)
            return self.found, []
        assert nu is not None and eta is not None
        return self.found, [self.y, eta, nu]

    def _whole(self, wanted: bool) -> np.ndarray | None:
        shape = self.place.shape(self.u.shape[1])
        return STATES.empty(shape, self.u.dtype) if wanted else None

    def _inside(
        self,
        box: Box,
        hidden: Hidden | None,
        nu: np.ndarray | None,
        eta: np.ndarray | None,
    ) -> None:
        """eta and nu of a box."""
        of, theta = self.of, self.at.theta
        if hidden is None:
            kept = self.stages[1][box.index]
        else:
            kept = WORK.take("kept", self._box_shape(box), self.u.dtype)
            hidden.at(box, kept)
        here = (
            nu[box.index]
            if nu is not None
            else WORK.take("hidden", self._box_shape(box), self.u.dtype)
        )
        self._eta(box, kept, here)
        if eta is not None:
            eta[box.index] = here
        moments = (
            self.moments if self.out is not None and of.theta is not None else None
        )
        of.activation.pull(kept, here, theta, moments)
        if self.out is not None and of.bias is not None:
            self.bias += over_cells(here)
        if self.local:
            self._back(box, of.inner.back(self.k, here), here)

    def _box_shape(self, box: Box) -> tuple[int, ...]:
        return (self.place.channels, *self.u[box.index].shape[1:])

    def _eta(self, box: Box, kept: np.ndarray, out: np.ndarray) -> None:
        """dt V^T lambda', and dV."""
        if self.outer is None:
            np.multiply(self.y[box.index], out.dtype.type(self.of.dt), out=out)
            return
        self.outer.product(box, out)
        if self.out is not None and self.outer.gathers:
            self.outer.gather(box, self.of.activation.value_of(kept, self.at.theta))

    def _back(self, box: Box, inner: Reading, nu: np.ndarray) -> None:
        """lambda of a box, and dW, where cells do not read each other."""
        u, out = self.u[box.index], self._place(box)
        inner.product(EVERYTHING, out)
        inner.gather(EVERYTHING, u)
        if self.out is not None:
            self.of.inner.collect(self.out, inner, nu, u)
        self._beside(box, out)

    def _place(self, box: Box) -> np.ndarray:
        """Where lambda of a box is put."""
        return (
            self.found[box.index] if self.replaced is None else self.replaced.take(box)
        )

    def _beside(self, box: Box, out: np.ndarray) -> None:
        """What the linear parts give, and dK."""
        other = self.u[box.index] if self.out is not None else None
        self.beside.add(box, out, other)

    def _through(self, nu: np.ndarray) -> None:
        """lambda from nu, which lies as a whole."""
        inner = self.of.inner.back(self.k, nu)
        source = self.of.source
        every = boxes_of(source, self.u, inner.width + source.channels)
        # Where new multipliers take the place of those that later boxes read, in order.
        free = self.replaced is None or not self.replaced.reach
        for box in in_turn(every, [inner, *self.beside.linear], free):
            out = self._place(box)
            inner.product(box, out)
            if self.out is not None and inner.gathers:
                inner.gather(box, self.u[box.index])
            self._beside(box, out)
        if self.out is not None:
            self.of.inner.collect(self.out, inner, nu, self.u)

    def _collect(self, nu: np.ndarray | None, out: Sums) -> None:
        """The cotangents of all weights but those of W."""
        of, dt = self.of, self.of.dt
        if of.outer is not None and self.outer is not None:
            h = self.y  # is not looked at where it was gathered
            if not self.outer.gathers:
                h = of.activation.value_of(self.at.kept(self.stages), self.at.theta)
            of.outer.collect(out, self.outer, self.y, h, dt)
        for part, reading in zip(of.linear, self.beside.linear, strict=True):
            part.collect(out, reading, self.y, self.u, dt)
        if of.theta is not None:
            out.add(of.theta, self.moments)
        if of.bias is not None:
            out.add(of.bias, self.bias)
        if nu is not None:
            self.at.add_driven(out, self.y, nu, dt)
        elif of.driven_outer is not None and self.at.x is not None:
            of.driven_outer.add(out, self.y, self.at.x, dt)


def reach_of(operator: Bilinear) -> int | None:
    """How many rows beside a box its product reads; None: not known."""
    if operator.local:
        return 0
    return 1 if isinstance(operator, Diffusion) else None
