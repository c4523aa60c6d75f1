"""Hidden layers without a gradient: pseudoinverse autoencoders, one behind the other.

    h = tanh(x A + b)                    a random layer
    D = argmin |h D + d - x|^2 + ridge |D|^2         the decoder, by least squares
    y = tanh((x - mean) D^T S)           which transposed codes x; S sets the spread of each output

y is the next layer's x, and a readout sees the y of all layers (Guo, Lyu 2004; Kasun et al. 2013).
Layers are added until the error of samples that were held back no longer falls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from mpi4py import MPI

from npde_opt import reductions
from npde_opt.aliases import Numbers
from npde_opt.errors import InputError
from npde_opt.pseudoinverse.features import Feature, RandomLayer
from npde_opt.pseudoinverse.gram import Gram
from npde_opt.pseudoinverse.learning import HELD, Readout, parts, train
from npde_opt.pseudoinverse.rows import Rows

RIDGE = 1e-4
"""Of decoders, times the number of rows."""
SCALE, BIAS = 0.5, 0.5
"""Spreads of what goes into tanh, and of the random b."""
MOST = 8
"""Layers."""
PATIENCE = 2
"""Layers that may follow the best one before it is taken."""


@dataclass(frozen=True)
class Stack:
    """Rows of all layers' outputs beside each other, in batches.

    Args:
        first: what the first layer sees.
    """

    first: Feature
    layers: tuple[RandomLayer, ...] = ()

    @property
    def size(self) -> int:
        """Features."""
        return sum(layer.size for layer in self.layers)

    def last(self, x: np.ndarray) -> np.ndarray:
        """What the last layer makes of samples, rows."""
        x = self.first(x)
        for layer in self.layers:
            x = layer(x)
        return x

    def __call__(self, x: np.ndarray) -> np.ndarray:
        x, found = self.first(x), []
        for layer in self.layers:
            x = layer(x)
            found.append(x)
        return np.concatenate(found, axis=1)


def encoder(
    rows: Feature,
    x: np.ndarray,
    outputs: int,
    seed: int,
    comm: MPI.Intracomm = MPI.COMM_SELF,
) -> RandomLayer:
    """The layer y of the samples of all ranks. Collective.

    Args:
        rows: makes the layer's inputs of own samples x, in batches.
    """
    mean, covariance = _moments(rows, x, comm)

    def layer(A: np.ndarray, b: Numbers = 0.0) -> RandomLayer:
        spread = np.sqrt((A * (covariance @ A)).sum(axis=0))
        return RandomLayer.scaled(A, mean, spread, SCALE, b)

    rng = np.random.default_rng(seed)
    A, b = (
        rng.standard_normal((len(mean), outputs)),
        BIAS * rng.standard_normal(outputs),
    )
    random = layer(A, b)
    decoder = Gram(outputs, len(mean), True, comm)
    for part in parts(x):
        inputs = rows(part)
        decoder.add(random(inputs), inputs)
    count = reductions.total(comm, decoder.count)
    return layer(decoder.solve(ridge=RIDGE * count).W.T)


def _moments(
    rows: Feature, x: np.ndarray, comm: MPI.Intracomm
) -> tuple[np.ndarray, np.ndarray]:
    """Mean (inputs,) and covariance (inputs, inputs) of the rows of all ranks."""
    n = int(reductions.largest(comm, rows(x[:1]).shape[1] if len(x) else 0))
    if not n:
        raise InputError("autoencoder: samples", 0, "at least one")
    sums = np.zeros((1 + n, 1 + n))
    for part in parts(x):
        inputs = rows(part).astype(float)
        joined = np.concatenate([np.ones((len(inputs), 1)), inputs], axis=1)
        sums += joined.T @ joined
    total = reductions.total(comm, sums)
    total /= total[0, 0]
    mean = total[0, 1:]
    return mean, total[1:, 1:] - np.outer(mean, mean)


@dataclass(frozen=True)
class Grown:
    """A stack that was grown.

    Attributes:
        readout: of the depth with the least error.
        errors: shares of held-back samples that are misread, by depth from 1; the last ones no
            longer fell.
    """

    stack: Stack
    readout: Readout
    errors: tuple[float, ...]


def grow(
    rows: Callable[[int], Rows],
    first: Feature,
    x: np.ndarray,
    labels: np.ndarray,
    outputs: int,
    seed: int = 0,
    most: int = MOST,
    numbers: np.ndarray | None = None,
) -> Grown:
    """Adds layers until PATIENCE of them do not lower the error of samples that are held back.
    Collective.

    Autoencoders see the inputs of all samples, labels of held-back ones are seen by nobody before
    the depth and the ridge are chosen.

    Args:
        rows: makes a fit without rows of so many features.
        first: what the first layer sees of own samples x [sample, ...]. labels: (samples,).
        outputs: of each layer.
        most: layers.
        numbers: of the own samples among all, as of `train`.

    Raises:
        InputError: for numbers that are not positive.
    """
    for name, value in {"outputs": outputs, "most": most}.items():
        if value < 1:
            raise InputError(f"autoencoders: {name}", value, "a positive integer")
    stack, errors = Stack(first), list[float]()
    found: list[tuple[Stack, Readout]] = []
    while len(errors) < most and _falls(errors):
        layer = encoder(stack.last, x, outputs, (seed << 8) + len(errors), rows(1).comm)
        stack = Stack(first, (*stack.layers, layer))
        readout = train(rows(stack.size), stack, x, labels, HELD, numbers)
        errors.append(min(wrong for _, wrong in readout.tried))
        found.append((stack, readout))
    return Grown(*found[errors.index(min(errors))], tuple(errors))


def _falls(errors: list[float]) -> bool:
    """Whether one of the last errors is below all before."""
    return not errors or len(errors) - 1 - errors.index(min(errors)) < PATIENCE
