"""Quantities of interest q_i(m), functionals of states and coefficients, under a posterior N(m, C).

With gradients g_i at m, and s ~ N(0, C),

    first order    q_i(m),                          variance g_i^T C g_i
    second order   q_i(m) + 1/2 E s^T q_i'' s       by central second differences along samples
    sampled        E q_i(m + s)                     by pairs s and -s, in which all odd terms cancel

The rest r = q(m + s) - q(m) - g^T s is what is sampled, the linear part is known: a control
variate. Where r is small beside g^T s, few samples tell much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from petsc4py import PETSc

from npde_opt.errors import InputError
from npde_opt.forward.interface import ForwardMap
from npde_opt.observations import DataBlock
from npde_opt.observations.functionals import Functionals, matrix
from npde_opt.parameters import ParameterSpace
from npde_opt.posterior.columns import column, gram
from npde_opt.posterior.laplace import Laplace

NEAR = 0.1
"""Length of second differences, in deviations of the posterior."""
SLOPE = 1e-4
"""Length of differences that gradients are compared with, in deviations of the prior."""


class Quantities(Protocol):
    """Named functionals. All methods are collective."""

    @property
    def names(self) -> Sequence[str]: ...

    def values(self, m: PETSc.Vec) -> np.ndarray:
        """q (names,), the same on every rank. Raises SolverError where a state cannot be found."""

    def gradients(self, m: PETSc.Vec) -> tuple[np.ndarray, list[PETSc.Vec]]:
        """q and dq/dm, which are the caller's."""


class OfStates:
    """Data that a forward map predicts.

    Args:
        forward: its experiments and samplings are those of the quantities; it stays the caller's.
        places: of each quantity the experiment, and the place among that one's data.
    """

    def __init__(
        self,
        forward: ForwardMap,
        names: Sequence[str],
        places: Sequence[tuple[int, int]],
    ):
        self.forward, self.names, self.places = forward, tuple(names), list(places)

    def values(self, m: PETSc.Vec) -> np.ndarray:
        at = self.forward.linearize(m)
        found = self._values(at.data)
        at.destroy()
        return found

    def _values(self, data: Sequence[DataBlock]) -> np.ndarray:
        known = dict[int, np.ndarray]()
        for block in data:
            known |= dict(zip(block.layout.members, block.gather().T, strict=True))
        return np.array([known[e][k] for e, k in self.places])

    def gradients(self, m: PETSc.Vec) -> tuple[np.ndarray, list[PETSc.Vec]]:
        at = self.forward.linearize(m)
        values = self._values(at.data)
        found = [at.apply_adjoint(self._unit(e, k)) for e, k in self.places]
        at.destroy()
        return values, found

    def _unit(self, experiment: int, place: int) -> list[DataBlock]:
        blocks = [layout.zeros() for layout in self.forward.layouts]
        for block in blocks:
            if experiment in block.layout.members:
                block.column(experiment)[block.layout.order == place] = 1.0
        return blocks


class OfCoefficient:
    """Linear functionals of an unknown coefficient's values in cells.

    Args:
        unknown: a field, or one with a constant a region.
    """

    def __init__(
        self,
        space: ParameterSpace,
        unknown: str,
        functionals: Functionals,
        names: Sequence[str],
    ):
        self.space, self.unknown, self.names = space, unknown, tuple(names)
        self.B = matrix(space.grid, functionals)
        self._cells, self._data = self.B.createVecs()

    def values(self, m: PETSc.Vec) -> np.ndarray:
        grid = self.space.grid
        k = self.space.at(m).coefficients()[self.unknown]
        grid.view(self._cells)[...] = np.where(grid.active, k, 0.0)
        self.B.mult(self._cells, self._data)
        parts = grid.comm.allgather(np.array(self._data.getArray(readonly=True)))
        return np.concatenate(parts)

    def gradients(self, m: PETSc.Vec) -> tuple[np.ndarray, list[PETSc.Vec]]:
        return self.values(m), [self._gradient(m, i) for i in range(len(self.names))]

    def _gradient(self, m: PETSc.Vec, i: int) -> PETSc.Vec:
        first, last = self._data.getOwnershipRange()
        own = np.zeros(last - first)
        if first <= i < last:
            own[i - first] = 1.0
        self._data.setArray(own)
        self.B.multTranspose(self._data, self._cells)
        out = self.space.create_vec()
        weights = self.space.grid.view(self._cells).copy()
        self.space.at(m).pull({self.unknown: weights}, out)
        return out

    def destroy(self) -> None:
        for owned in (self.B, self._cells, self._data):
            owned.destroy()


@dataclass(frozen=True)
class Sampled:
    """What pairs of samples tell of quantities, (names,) each.

    Attributes:
        second: means to second order. mean: sampled, error its standard error.
        deviation: sampled; NaN of one pair.
        gain: variance of q over that of the rest that was sampled.
    """

    second: np.ndarray
    mean: np.ndarray
    error: np.ndarray
    deviation: np.ndarray
    gain: np.ndarray


def sampled(
    laplace: Laplace, quantities: Quantities, gradients: Sequence[PETSc.Vec], pairs: int
) -> Sampled:
    """Under the posterior, by so many pairs of samples. Collective.

    Raises:
        InputError: for no pairs.
        SolverError: where a state cannot be found at a sample.
    """
    if pairs < 1:
        raise InputError("pairs", pairs, "a number >= 1")
    m, G = laplace.at.m, np.hstack([column(g) for g in gradients])
    q = quantities.values(m)
    rests, slopes, curved = [], [], []
    there = m.duplicate()
    for sample in laplace.posterior_samples(pairs, laplace.settings.seed):
        sample.axpy(-1.0, m)
        slope = gram(laplace.space, G, column(sample))[:, 0]
        values = {}
        for length in (1.0, -1.0, NEAR, -NEAR):
            there.waxpy(length, sample, m)
            values[length] = quantities.values(there)
        rests.append([values[a] - q - a * slope for a in (1.0, -1.0)])
        slopes.append([slope, -slope])
        curved.append((values[NEAR] + values[-NEAR] - 2 * q) / (2 * NEAR**2))
        sample.destroy()
    there.destroy()
    r = np.array(rests)
    mean = r.mean(axis=(0, 1))
    # (g^T s)^2 has the known mean g^T C g: only what the rest adds to the variance is sampled.
    known = np.array([laplace.deviation(g) for g in gradients]) ** 2
    mixed = (np.array(slopes) * r).mean(axis=(0, 1))
    spread = ((r - mean) ** 2).sum(axis=(0, 1)) / (2 * pairs - 1)
    variance = np.maximum(known + 2 * mixed + spread, 0.0)
    halves = r.mean(axis=1)
    error = (
        halves.std(axis=0, ddof=1) / math.sqrt(pairs)
        if pairs > 1
        else np.full(len(q), math.nan)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = variance / spread
    return Sampled(
        q + np.mean(curved, axis=0), q + mean, error, np.sqrt(variance), gain
    )


def slope_errors(
    laplace: Laplace, quantities: Quantities, gradients: Sequence[PETSc.Vec]
) -> np.ndarray:
    """|g^T d - (q(m + h d) - q(m - h d)) / 2h| over the deviation of g^T d under the prior, along a
    sample d of the prior. Collective."""
    m = laplace.at.m
    direction = laplace.prior.sample(laplace.settings.seed)
    there, ends = m.duplicate(), []
    for sign in (1.0, -1.0):
        there.waxpy(sign * SLOPE, direction, m)
        ends.append(quantities.values(there))
    exact = np.array([g.dot(direction) for g in gradients])
    sizes = np.array([prior_deviation(laplace, g) for g in gradients])
    for vec in (there, direction):
        vec.destroy()
    wrong = np.abs(exact - (ends[0] - ends[1]) / (2 * SLOPE))
    return np.asarray(wrong / np.where(sizes > 0, sizes, 1.0))


def prior_deviation(laplace: Laplace, gradient: PETSc.Vec) -> float:
    """Of a functional with this gradient, under the prior."""
    image = gradient.duplicate()
    laplace.prior.solve(gradient, image)
    found = math.sqrt(max(float(gradient.dot(image)), 0.0))
    image.destroy()
    return found
