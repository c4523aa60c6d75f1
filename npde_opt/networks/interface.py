"""y = W * u: what operators of layers offer, linear in their weights W and in states u, from which
tangent, adjoint and second derivatives of a layer follow,

    W^T * y            the transpose in u
    y (x) u            the transpose in W:  <y, dW * u> = <dW, y (x) u>.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from petsc4py import PETSc

from npde_opt.networks.place import Place

Values = Mapping[str, np.ndarray]
"""Weights by name, all of them on every rank."""


@dataclass(frozen=True)
class Weight:
    """An array of weights by name; layers that name the same one share it.

    Args:
        name: of the unknown.
        shape: of this layer's array.
        step: which of the arrays [step, ...] of the unknown it is, where each layer has its own;
            None: the unknown is this array.
        inputs: how many products are summed with it in an output, of which the variance of what
            a layer starts from is made; 0: it starts from 0.
    """

    name: str
    shape: tuple[int, ...]
    step: int | None = None
    inputs: int = 0

    def of(self, k: Values) -> np.ndarray:
        return k[self.name] if self.step is None else k[self.name][self.step]


class Bilinear(Protocol):
    """y = W * u; states lie at `source`, results at `target`. All but `matrix` works on samples
    [c, s, k, j, i] in single or double precision, and is collective over the ranks that share the
    cells."""

    @property
    def source(self) -> Place: ...
    @property
    def target(self) -> Place: ...
    @property
    def shape(self) -> tuple[int, ...]:
        """Of W."""

    @property
    def inputs(self) -> int:
        """Products that are summed in an output."""

    def apply(self, w: np.ndarray, u: np.ndarray) -> np.ndarray: ...

    def transpose(self, w: np.ndarray, y: np.ndarray) -> np.ndarray: ...

    def weights(self, y: np.ndarray, u: np.ndarray) -> np.ndarray:
        """y (x) u, this rank's part, in double precision."""

    def matrix(self, w: np.ndarray) -> PETSc.Mat:
        """The whole operator of a sample; rows and columns go cell by cell in PETSc's order, the
        channels of a cell beside each other. The caller destroys it. Collective."""
