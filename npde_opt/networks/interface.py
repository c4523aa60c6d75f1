"""y = W * u: what operators of layers offer, linear in their weights W and in states u, from which
tangent, adjoint and second derivatives of a layer follow,

    W^T * y            the transpose in u
    y (x) u            the transpose in W:  <y, dW * u> = <dW, y (x) u>.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from petsc4py import PETSc

from npde_opt.grids.exchange import attend
from npde_opt.networks.place import Place
from npde_opt.networks.recycled import STATES
from npde_opt.networks.strips import Box, boxes_of

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
            a layer starts from is made; 0: it starts from `start`.
        start: see `inputs`.
        transform: of the unknown that it is made of (see parameters/transforms.py).
    """

    name: str
    shape: tuple[int, ...]
    step: int | None = None
    inputs: int = 0
    start: float = 0.0
    transform: str = "identity"

    def of(self, k: Values) -> np.ndarray:
        return k[self.name] if self.step is None else k[self.name][self.step]


class Reading(Protocol):
    """The loops of an operator at one state, box after box (see strips.py), of what the result
    of the operator is made of. Making one is collective; they are not."""

    width: int
    """Values held of a cell of the result while a box is worked on."""
    gathers: bool
    """Whether `gather` is offered, as it costs less here than in a loop of its own; the same on all
    ranks."""

    adds: bool = False
    """Whether adding a product to what is there costs no more than to write it."""

    shared: bool = False
    """Whether boxes read what other ranks bring; see `late`."""

    def late(self, box: Box) -> bool:
        """Whether a box reads what other ranks bring, so that others are better done before."""
        return False

    def product(self, box: Box, out: np.ndarray, add: bool = False) -> None:
        """out [c, s, k, j, i] of a box = or += the operator times the state."""

    def gather(self, box: Box, other: np.ndarray) -> None:
        """Adds to `weights` what a box gives of the product with the state in the weights; `other`
        is of the box."""

    def both(self, box: Box, out: np.ndarray, other: np.ndarray) -> None:
        """`product`, added to `out`, and `gather`."""
        self.product(box, out, add=True)
        self.gather(box, other)

    @property
    def weights(self) -> np.ndarray:
        """What was gathered, of the shape of W, in double precision."""


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

    @property
    def local(self) -> bool:
        """Whether cells do not read each other, so that a box of states can be worked on alone."""

    def reading(self, w: np.ndarray, u: np.ndarray) -> Reading:
        """The loops of W * u at boxes of the target, and of y (x) u, which gathers y there."""

    def back(self, w: np.ndarray, y: np.ndarray) -> Reading:
        """The loops of W^T * y at boxes of the source, and of y (x) u, which gathers u there."""

    def apply(self, w: np.ndarray, u: np.ndarray) -> np.ndarray: ...

    def transpose(self, w: np.ndarray, y: np.ndarray) -> np.ndarray: ...

    def weights(self, y: np.ndarray, u: np.ndarray) -> np.ndarray:
        """y (x) u, this rank's part, in double precision."""

    def matrix(self, w: np.ndarray) -> PETSc.Mat:
        """The whole operator of a sample; rows and columns go cell by cell in PETSc's order, the
        channels of a cell beside each other. The caller destroys it. Collective."""


class Loops:
    """What follows from the loops of an operator: its products over all boxes."""

    source: Place
    target: Place
    shape: tuple[int, ...]
    local = False

    def reading(self, w: np.ndarray, u: np.ndarray) -> Reading:
        raise NotImplementedError

    def back(self, w: np.ndarray, y: np.ndarray) -> Reading:
        raise NotImplementedError

    def apply(self, w: np.ndarray, u: np.ndarray) -> np.ndarray:
        return _swept(self.reading(w, u), self.target, u)

    def transpose(self, w: np.ndarray, y: np.ndarray) -> np.ndarray:
        return _swept(self.back(w, y), self.source, y)

    def weights(self, y: np.ndarray, u: np.ndarray) -> np.ndarray:
        reading = self.reading(np.zeros(self.shape), u)
        for box in boxes_of(self.target, y, reading.width):
            reading.gather(box, y[box.index])
        return reading.weights


def in_turn(
    found: Sequence[Box], readings: Sequence[Reading | None], free: bool = True
) -> Iterable[Box]:
    """Boxes to be worked on while messages of these readings are under way; where their order is
    free, those that read what other ranks bring come last."""
    shared = [r for r in readings if r is not None and r.shared]
    if not shared:
        return found
    if free:
        found = sorted(found, key=lambda box: any(r.late(box) for r in shared))
    return _attending(found)


def _attending(found: Sequence[Box]) -> Iterator[Box]:
    for box in found:
        attend()
        yield box


def _swept(reading: Reading, place: Place, u: np.ndarray) -> np.ndarray:
    out = STATES.empty(place.shape(u.shape[1]), u.dtype)
    for box in in_turn(boxes_of(place, out, reading.width), [reading]):
        reading.product(box, out[box.index])
    return out
