"""One layer u' = L(u; k) of a chain, and the derivatives of lambda^T L.

Inside, a layer may go through stages U_0 = u, U_1 ... U_s = u', which it is given again for
derivatives; each has the multipliers mu that its adjoint found. Grid and channels may be others
behind a layer than before it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from npde_opt.aliases import Coefficients

Stages = list[np.ndarray]

Out = TypeVar("Out", contravariant=True)
"""What a layer adds L_k^T lambda to."""


class Layer(Protocol[Out]):
    """A layer at one point k of the parameters. All methods are collective where a state is
    spread over ranks."""

    def step(self, u: np.ndarray) -> Stages:
        """U_0 ... U_s from u alone: a step done again gives the same to the last bit."""

    def tangent(
        self,
        stages: Stages,
        du: np.ndarray,
        dk: Coefficients,
        previous: np.ndarray | None,
    ) -> Stages:
        """dU_0 ... dU_s.

        Args:
            previous: the increment one layer before, for iterative solves to start from.
        """

    def adjoint(
        self,
        stages: Stages,
        adjoint: np.ndarray,
        out: Out | None,
        late: Sequence[Stages],
    ) -> tuple[np.ndarray, Stages]:
        """(L_u^T lambda', mu), of which `second` needs mu where `out` was None.

        Args:
            adjoint: lambda', of the state behind the layer; with `out` a layer may write over it.
            out: what L_k^T lambda' is added to, or None.
            late: multipliers of the one or two layers behind, the nearest first, for iterative
                solves to start from.
        """

    def second(
        self,
        stages: Stages,
        changes: Stages,
        multipliers: Stages,
        dadjoint: np.ndarray,
        dk: Coefficients,
        out: Out,
        late: Sequence[Stages],
    ) -> tuple[np.ndarray, Stages]:
        """(dlambda, dmu) from dlambda': the derivative of `adjoint` along the tangent; the
        derivative of L_k^T lambda' is added to `out`."""


@runtime_checkable
class ManyTangents(Protocol):
    """A layer that takes several increments for less than one after the other."""

    def tangents(
        self,
        stages: Stages,
        dus: Sequence[np.ndarray],
        dks: Sequence[Coefficients],
        previous: Sequence[np.ndarray | None],
    ) -> list[Stages]:
        """`tangent` of each."""


def tangents(
    layer: Layer[Any],
    stages: Stages,
    dus: Sequence[np.ndarray],
    dks: Sequence[Coefficients],
    previous: Sequence[np.ndarray | None],
) -> list[Stages]:
    """`tangent` of each."""
    if isinstance(layer, ManyTangents):
        return layer.tangents(stages, dus, dks, previous)
    each = zip(dus, dks, previous, strict=True)
    return [layer.tangent(stages, *one) for one in each]


@dataclass(frozen=True)
class Free:
    """How far steps may go before a state has to be looked at.

    Args:
        until: the number of that state.
        norm: what the 2-norm of one before it may not exceed, or that one is looked at.
        looks: which the layers have on the way, or a state is looked at where they find something;
            of a kind that the layers and the visitor know.
    """

    until: int
    norm: float = math.inf
    looks: object | None = None

    def up_to(self, stop: int) -> Free:
        """No further than a state."""
        return self if self.until <= stop else replace(self, until=stop)


class Runs(ABC):
    """Layers of which many may go by in one call, one state after the other."""

    @property
    @abstractmethod
    def together(self) -> bool:
        """Whether these do."""

    @abstractmethod
    def forth(
        self, n: int, u: np.ndarray, free: Free, keep: bool
    ) -> tuple[int, list[Stages]] | None:
        """Steps from u_n on: how many, at least one, and the stages of each where they are kept,
        else of the last one; None where steps have to go one by one. States that are not kept are
        written over by the next steps."""

    @abstractmethod
    def back(
        self, n: int, kept: Sequence[Sequence[np.ndarray]], adjoint: np.ndarray
    ) -> np.ndarray | None:
        """lambda_n from lambda_{n + len(kept)}, the contractions being added up in the layers;
        None where steps have to go one by one.

        Args:
            kept: the stages of each step but for the last.
        """


class Layers(Protocol[Out]):
    """The layers 0 ... N - 1, which may be made when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, n: int, /) -> Layer[Out]: ...

    def __iter__(self) -> Iterator[Layer[Out]]: ...
