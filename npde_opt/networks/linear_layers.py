"""Layers u' = L u without weights: pooling, prolongation, propagation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from petsc4py import PETSc

from npde_opt.aliases import Coefficients
from npde_opt.errors import InputError
from npde_opt.forward.layer import Stages
from npde_opt.networks.interface import Bilinear, Values
from npde_opt.networks.matrices import on_channels
from npde_opt.networks.place import Place
from npde_opt.networks.stencil import Stencil
from npde_opt.networks.template import Change, Linear, Plain, Sums


class EachChannel:
    """One operator between fields of one channel, on every channel.

    Args:
        operator: with one channel before and behind it. w: its weights.
        channels: of the states.
    """

    def __init__(self, operator: Bilinear, w: np.ndarray, channels: int):
        self.operator, self.w = operator, w
        self.source = operator.source.with_channels(channels)
        self.target = operator.target.with_channels(channels)

    @staticmethod
    def _samples(u: np.ndarray) -> np.ndarray:
        """Channels as samples of one channel; a rank may have no cell of a coarse grid."""
        return u.reshape(1, u.shape[0] * u.shape[1], *u.shape[2:])

    def apply(self, u: np.ndarray) -> np.ndarray:
        found = self.operator.apply(self.w, self._samples(u))
        return found.reshape(*u.shape[:2], *found.shape[2:])

    def transpose(self, y: np.ndarray) -> np.ndarray:
        found = self.operator.transpose(self.w, self._samples(y))
        return found.reshape(*y.shape[:2], *found.shape[2:])

    def matrix(self) -> PETSc.Mat:
        A = self.operator.matrix(self.w)
        found = on_channels(A, np.eye(self.source.channels))
        A.destroy()
        return found


def pooling(source: Place, factor: int = 2) -> EachChannel:
    """The mean of `factor` cells an axis, times the square root of their number: so that the
    transpose, which gives each of them an equal share, is its right inverse, and a norm is kept.

    Raises:
        InputError: where an axis is no multiple of the factor.
    """
    shape = source.layout.shape
    if factor < 2 or any(n % factor for n in shape):
        raise InputError(
            "pooling", factor, f"an integer >= 2 that divides {shape} cells"
        )
    operator = Stencil(source.with_channels(1), 1, factor, stride=factor, padding=0)
    w = np.full(operator.shape, factor ** (-source.dim / 2))
    return EachChannel(operator, w, source.channels)


class Adjoint:
    """L^T: states lie where L's results do."""

    def __init__(self, linear: Linear):
        self.linear, self.source, self.target = linear, linear.target, linear.source

    def apply(self, u: np.ndarray) -> np.ndarray:
        return self.linear.transpose(u)

    def transpose(self, y: np.ndarray) -> np.ndarray:
        return self.linear.apply(y)

    def matrix(self) -> PETSc.Mat:
        return self.linear.matrix().transpose()


def changed(linear: Linear, change: Change) -> Linear:
    """With another operator, where it is made of one."""
    if isinstance(linear, EachChannel):
        return EachChannel(change(linear.operator), linear.w, linear.source.channels)
    if isinstance(linear, Adjoint):
        return Adjoint(changed(linear.linear, change))
    return linear


class Applied(Plain):
    """The layer of an operator."""

    def __init__(self, linear: Linear):
        self.linear, self.source, self.target = linear, linear.source, linear.target

    def at(self, k: Values, x: np.ndarray | None) -> AppliedAt:
        return AppliedAt(self.linear)

    def with_operators(self, change: Change) -> Applied:
        """The layer of a changed operator."""
        return Applied(changed(self.linear, change))

    def matrix(self) -> PETSc.Mat:
        """The operator. The caller destroys it."""
        return self.linear.matrix()


class AppliedAt:
    """See forward/layer.py. Its stages are u, u'."""

    def __init__(self, linear: Linear):
        self.linear = linear

    def step(self, u: np.ndarray) -> Stages:
        return [u, self.linear.apply(u)]

    def tangent(
        self,
        stages: Stages,
        du: np.ndarray,
        dk: Coefficients,
        previous: np.ndarray | None,
    ) -> Stages:
        return [du, self.linear.apply(du)]

    def adjoint(
        self,
        stages: Stages,
        adjoint: np.ndarray,
        out: Sums | None,
        late: Sequence[Stages],
    ) -> tuple[np.ndarray, Stages]:
        return self.linear.transpose(adjoint), []

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
        return self.linear.transpose(dadjoint), []
