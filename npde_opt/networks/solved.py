"""u' = S(w)^-1 u with an operator S that weights are in: the implicit half of a step.

With S_w the derivative of S in its weights,

    tangent   S du' = du - (S_w dw) u'
    adjoint   S^T lambda = lambda',   dw: -lambda^T S_w u'
    second    S^T dlambda = dlambda' - (S_w dw)^T lambda,
              dw: -(dlambda^T S_w u' + lambda^T S_w du' + lambda^T (S_ww dw) u').

Behind a residual step u + dt sigma(W u + b) that is (S = I - dt div D grad)

    (I - dt div D grad) u' = u + dt sigma(W u + b).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from npde_opt.aliases import Coefficients
from npde_opt.forward.layer import Stages
from npde_opt.networks.interface import Values, Weight
from npde_opt.networks.place import Place
from npde_opt.networks.template import Plain, Sums


class OperatorAt(Protocol):
    """S at one point. States are [c, s, k, j, i] in double precision; all is collective."""

    def solve(
        self, b: np.ndarray, guess: np.ndarray, adjoint: bool = False
    ) -> np.ndarray:
        """S^-1 b, or S^-T b. Raises SolverError where it is not found."""

    def derivative(
        self, u: np.ndarray, dk: Values, adjoint: bool = False
    ) -> np.ndarray:
        """(S_w dw) u, or (S_w dw)^T u"""

    def add(self, out: Sums, y: np.ndarray, u: np.ndarray) -> None:
        """Adds -y^T S_w u."""

    def add_second(self, out: Sums, y: np.ndarray, u: np.ndarray, dk: Values) -> None:
        """Adds -y^T (S_ww dw) u."""


class Solved(Plain):
    """A layer of this kind; S is that of `_operator`."""

    def __init__(self, source: Place, weights: Sequence[Weight]):
        self.source = self.target = source
        self.weights = list(weights)

    def _operator(self, k: Values) -> OperatorAt:
        raise NotImplementedError

    def at(self, k: Values, x: np.ndarray | None) -> SolvedAt:
        return SolvedAt(self._operator(k))


class SolvedAt:
    """A layer at one point; see forward/layer.py. Its stages are u, u'."""

    def __init__(self, operator: OperatorAt):
        self.operator = operator

    def _solved(
        self, b: np.ndarray, guess: np.ndarray, adjoint: bool = False
    ) -> np.ndarray:
        """In double precision."""
        return self.operator.solve(
            b.astype(float, copy=False), guess.astype(float), adjoint
        )

    def step(self, u: np.ndarray) -> Stages:
        return [u, self._solved(u, u).astype(u.dtype, copy=False)]

    def tangent(
        self,
        stages: Stages,
        du: np.ndarray,
        dk: Coefficients,
        previous: np.ndarray | None,
    ) -> Stages:
        rhs = du - self.operator.derivative(_double(stages[1]), arrays(dk))
        return [du, self._solved(rhs, du).astype(du.dtype, copy=False)]

    def adjoint(
        self,
        stages: Stages,
        adjoint: np.ndarray,
        out: Sums | None,
        late: Sequence[Stages],
    ) -> tuple[np.ndarray, Stages]:
        mu = self._solved(adjoint, adjoint, True)
        if out is not None:
            self.operator.add(out, mu, _double(stages[1]))
        return mu.astype(adjoint.dtype, copy=False), [mu]

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
        operator, moved, mu = self.operator, arrays(dk), multipliers[0]
        u, du = _double(stages[1]), _double(changes[1])
        dmu = self._solved(
            dadjoint - operator.derivative(mu, moved, True), dadjoint, True
        )
        operator.add(out, dmu, u)
        operator.add(out, mu, du)
        operator.add_second(out, mu, u, moved)
        return dmu.astype(dadjoint.dtype, copy=False), [dmu]


def arrays(dk: Coefficients) -> Values:
    return {name: np.asarray(value) for name, value in dk.items()}


def _double(u: np.ndarray) -> np.ndarray:
    return u.astype(float, copy=False)
