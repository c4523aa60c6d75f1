"""What the layers of a network are before and when their weights are known: any object with the
methods of `Template`, whose `at` gives a layer of a chain (see forward/layer.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from petsc4py import PETSc

from npde_opt.forward.layer import Layer
from npde_opt.networks.interface import Bilinear, Values, Weight
from npde_opt.networks.place import Place

Change = Callable[[Bilinear], Bilinear]
"""Another operator with the same products."""


class Linear(Protocol):
    """y = L u without weights, on samples [c, s, k, j, i]. Collective over the ranks that share
    the cells."""

    @property
    def source(self) -> Place: ...
    @property
    def target(self) -> Place: ...
    def apply(self, u: np.ndarray) -> np.ndarray: ...
    def transpose(self, y: np.ndarray) -> np.ndarray: ...
    def matrix(self) -> PETSc.Mat:
        """As that of Bilinear."""


class Sums:
    """Cotangents of weights by name, added up in double precision.

    Args:
        shapes: of the unknowns.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]):
        self.values = {name: np.zeros(shape) for name, shape in shapes.items()}

    def of(self, weight: Weight) -> np.ndarray:
        """Those of a layer's array, to be added to."""
        whole = self.values[weight.name]
        return whole if weight.step is None else whole[weight.step]

    def add(self, weight: Weight, part: np.ndarray) -> None:
        own = self.of(weight)
        own += part


class Template(Protocol):
    """A layer before its weights are known."""

    @property
    def source(self) -> Place: ...
    @property
    def target(self) -> Place: ...
    @property
    def weights(self) -> Sequence[Weight]:
        """All that the layer reads; one that it reads twice is named twice."""

    @property
    def reads(self) -> int | None:
        """Number of the part of a sample that it reads; None where there is none."""

    @property
    def taken(self) -> Place | None:
        """Where that part lies."""

    @property
    def widest(self) -> int:
        """Values of a sample of its largest stage, of all ranks."""

    @property
    def gains(self) -> Mapping[str, float]:
        """By the names of weights in front of activations, those of these."""

    def at(self, k: Values, x: np.ndarray | None) -> Layer[Sums]:
        """The layer at weights k, with what it reads of the samples [c, s, k, j, i]."""

    def with_operators(self, change: Change) -> Template:
        """The same layer of changed operators."""

    def destroy(self) -> None:
        """Frees what it holds of PETSc's. Collective."""


class Plain:
    """What layers have in common that read nothing of the samples, and hold nothing of PETSc's."""

    source: Place
    target: Place
    weights: Sequence[Weight] = ()
    reads: int | None = None
    taken: Place | None = None
    gains: Mapping[str, float] = {}

    def at(self, k: Values, x: np.ndarray | None) -> Layer[Sums]:
        raise NotImplementedError

    @property
    def widest(self) -> int:
        return max(self.source.size, self.target.size)

    def with_operators(self, change: Change) -> Template:
        """Itself, as of a layer without operators that can be changed."""
        return self

    def destroy(self) -> None:
        """Nothing to give back."""
