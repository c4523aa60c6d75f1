"""A layer that is a steady state: u' at which an equation of the house is in balance with what
comes before,

    r(u'; k) = M (W u + b),      for one   -div(D_c grad u'_c) + R_c(u') = (W u + b)_c,

with the terms, Newton's method and multigrid of steady equations (see forward/steady_newton.py),
one sample after the other. With S = r_u at u' and the volumes M of cells:

    tangent   S du' = M (W du + dW u + db) - r_k dk
    adjoint   S^T mu = lambda',   nu = M mu,   lambda = W^T nu
              dW: nu (x) u   db: sum nu   dk: -r_k^T mu
    second    S^T dmu = dlambda' - r_uu^T(mu, du') - r_uk^T(mu, dk),   dnu = M dmu
              dk: -r_k^T dmu - r_ku^T(mu, du') - r_kk^T(mu, dk).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy

import numpy as np

from npde_opt.aliases import Coefficients
from npde_opt.errors import InputError
from npde_opt.forward.equation import Equation
from npde_opt.forward.groups import Group
from npde_opt.forward.layer import Stages
from npde_opt.forward.linear_part import LinearPart, LinearPoint
from npde_opt.forward.steady_newton import SteadyNewton
from npde_opt.networks.interface import Values, Weight
from npde_opt.networks.of_equation import OfEquation
from npde_opt.networks.parts import Part, check_fit
from npde_opt.networks.place import fields
from npde_opt.networks.solved import arrays
from npde_opt.networks.strips import by_channel, over_cells
from npde_opt.networks.template import Change, Sums
from npde_opt.terms.boundary import BoundaryValues
from npde_opt.terms.state import Gradients, State

PREFIX = "state_"


class SteadyState(OfEquation):
    """Args:
    equation: its species are the channels of u'; see OfEquation for `weights` and `known`.
    driven: W, from what comes before to these channels on the same cells.
    bias: b, of shape (channels,).
    start: the value from which Newton's method starts.
    recipe: of the linear solvers.

    Raises:
        InputError: for what OfEquation refuses, an equation that is none of real steady states,
            and parts that do not fit each other.
    """

    def __init__(
        self,
        equation: Equation,
        weights: Mapping[str, Weight],
        driven: Part,
        bias: Weight | None = None,
        known: Coefficients | None = None,
        start: float = 0.0,
        recipe: str = "auto",
    ):
        super().__init__(equation, weights, known or {})
        if equation.complex or equation.capacity is not None:
            raise InputError(
                "equation", "an imaginary gamma or a storage", "a steady one"
            )
        check_fit(driven.operator.target, self.target, "W")
        if bias is not None and bias.shape != (self.target.channels,):
            told = f"{bias.name} of shape {bias.shape}"
            raise InputError(
                "weight", told, f"shape {(self.target.channels,)}, one a channel"
            )
        self.source, self.driven, self.bias = driven.operator.source, driven, bias
        self.start, self.recipe = start, recipe
        more = [bias] if bias is not None else []
        self.weights = [*self.weights, driven.weight, *more]
        self.part = LinearPart(equation, PREFIX, bounded=False)
        self.newton = SteadyNewton(self.part, PREFIX, recipe)
        self._destroyed = False

    def at(self, k: Values, x: np.ndarray | None) -> SteadyStateAt:
        return SteadyStateAt(self, k)

    def with_operators(self, change: Change) -> SteadyState:
        """The same layer of a changed W, with the same solvers."""
        found = copy(self)
        found.driven = self.driven.changed(change)
        return found

    def destroy(self) -> None:
        if not self._destroyed:
            self.newton.destroy()
            self.part.destroy()
        self._destroyed = True


class SteadyStateAt:
    """The steady states at one point; see forward/layer.py. Its stages are u, u'."""

    def __init__(self, of: SteadyState, k: Values):
        self.of, self.k = of, k
        coefficients = of.coefficients(k)
        self.linear = LinearPoint(of.part, coefficients)
        self.linear.check(PREFIX)
        terms = [term.at(coefficients) for term in of.equation.nonlinear]
        self.group = Group([], self.linear if of.equation.operators else None, terms)
        self.outside = BoundaryValues(of.grid, ()).at({}).outside(0.0, 0.0)

    def _ready(self) -> None:
        """Puts this point's operators into the matrices, where they are not there already."""
        self.of.part.assemble(self.linear.points)

    def _drive(self, u: np.ndarray, k: Values) -> np.ndarray:
        """W u + b at weights k, linear in these."""
        found = self.of.driven.apply(k, u)
        if self.of.bias is not None:
            found = found + by_channel(self.of.bias.of(k), found)
        return found

    def _weighed(self, f: np.ndarray) -> np.ndarray:
        """M f of samples [c, s, k, j, i], as columns [c, s, i, j, k]."""
        return np.asarray(self.of.part.mass * fields(f))

    def _states(self, u: np.ndarray) -> list[State]:
        """The states of all samples."""
        columns = fields(_double(u))
        return [self._state(columns[:, s]) for s in range(columns.shape[1])]

    def _state(self, u: np.ndarray) -> State:
        return State(self.of.grid, u, 0.0, self.outside)

    def step(self, u: np.ndarray) -> Stages:
        self._ready()
        driving = self._weighed(self._drive(_double(u), self.k))
        start = self._state(np.full_like(driving[:, 0], self.of.start))
        newton, count = self.of.newton, u.shape[1]
        found = [
            newton.solve(self.group, [start], driving[:, s]).u for s in range(count)
        ]
        return [u, _samples(found, u, self.of.target.shape(count))]

    def _solve(
        self, states: Sequence[State], rhs: np.ndarray, adjoint: bool
    ) -> list[np.ndarray]:
        """S^-1 of columns [c, s, i, j, k], or S^-T, each with the S of its state."""
        newton = self.of.newton
        return [
            newton.linear(self.group, state, rhs[:, s], adjoint)
            for s, state in enumerate(states)
        ]

    def tangent(
        self,
        stages: Stages,
        du: np.ndarray,
        dk: Coefficients,
        previous: np.ndarray | None,
    ) -> Stages:
        self._ready()
        of, moved, change = self.of, arrays(dk), self.of.moved(dk)
        u, states = _double(stages[0]), self._states(stages[1])
        driven = of.driven.apply(self.k, _double(du)) + self._drive(u, moved)
        rhs = self._weighed(driven)
        for s, state in enumerate(states):
            rhs[:, s] -= self.group.derivative(state, change)
        found = self._solve(states, rhs, False)
        return [du, _samples(found, du, stages[1].shape)]

    def adjoint(
        self,
        stages: Stages,
        adjoint: np.ndarray,
        out: Sums | None,
        late: Sequence[Stages],
    ) -> tuple[np.ndarray, Stages]:
        self._ready()
        self.linear.discard()
        states = self._states(stages[1])
        found = self._solve(states, fields(_double(adjoint)), True)
        mu = _samples(found, _double(adjoint), adjoint.shape)
        if out is not None:
            inner = self.of.gradients()
            for state, multiplier in zip(states, found, strict=True):
                self.group.contraction(state, State(self.of.grid, multiplier), inner)
            self._add(out, inner, self._nu(mu), stages[0])
        return self._behind(self._nu(mu), adjoint), [mu]

    def _nu(self, mu: np.ndarray) -> np.ndarray:
        """M mu, of samples [c, s, k, j, i]."""
        return np.ascontiguousarray(fields(self._weighed(mu)))

    def _behind(self, nu: np.ndarray, like: np.ndarray) -> np.ndarray:
        """W^T nu"""
        return self.of.driven.transpose(self.k, nu).astype(like.dtype, copy=False)

    def _add(self, out: Sums, inner: Gradients, nu: np.ndarray, u: np.ndarray) -> None:
        """Adds -r_k^T of what was contracted, and what nu gives to W and b."""
        of, found = self.of, self.of.gradients()
        self.linear.flush(inner)
        found.subtract(inner)
        of.add(found, out)
        of.driven.add(out, nu, _double(u))
        if of.bias is not None:
            out.add(of.bias, over_cells(nu))

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
        self._ready()
        self.linear.discard()
        of, (mu,), moved = self.of, multipliers, arrays(dk)
        change, inner = of.moved(dk), of.gradients()
        states, rhs = self._states(stages[1]), fields(_double(dadjoint)).copy()
        moves, adjoints = fields(_double(changes[1])), fields(mu)
        for s, state in enumerate(states):
            pair = (State(of.grid, adjoints[:, s]), State(of.grid, moves[:, s]))
            rhs[:, s] -= self.group.second(state, *pair, change, inner)
        found = self._solve(states, rhs, True)
        for state, multiplier in zip(states, found, strict=True):
            self.group.contraction(state, State(of.grid, multiplier), inner)
        dmu = _samples(found, mu, mu.shape)
        nu, dnu = self._nu(mu), self._nu(dmu)
        self._add(out, inner, dnu, stages[0])
        of.driven.add(out, nu, _double(changes[0]))
        behind = self._behind(dnu, dadjoint) + of.driven.transpose(moved, nu)
        return behind.astype(dadjoint.dtype, copy=False), [dmu]


def _samples(
    found: Sequence[np.ndarray], like: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """The samples [c, s, k, j, i] of fields [c, i, j, k]."""
    whole = fields(np.stack(found, axis=1))
    assert whole.shape == shape
    return np.ascontiguousarray(whole, like.dtype)


def _double(u: np.ndarray) -> np.ndarray:
    return u.astype(float, copy=False)
