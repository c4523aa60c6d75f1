"""A reservoir: reaction and diffusion on a ring of cells that nobody trains, driven by a series z,

    u' = u + leak (tanh(carried S u + B (z_t, 1)) - u) + diffusion lap u,    S: to the next cell

of which a readout of least squares predicts what follows. Steps are layers of a chain. Which of
several reservoirs and ridges is taken is decided by stretches of the series that each is fitted up
to the beginning of, and none later; the rows between two of them are added to the fit before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from mpi4py import MPI

from npde_opt.errors import InputError
from npde_opt.forward.chain import Chain
from npde_opt.forward.layer import Stages
from npde_opt.grids import Grid
from npde_opt.networks import (
    Dense,
    Diffusion,
    Mixing,
    Part,
    Place,
    Stencil,
    Step,
    Tanh,
    Transposed,
)
from npde_opt.networks.template import Sums
from npde_opt.pseudoinverse.fold import Fold
from npde_opt.pseudoinverse.solution import Solution

STABLE = 0.5
"""Of the diffusion, in cells^2 a step."""


@dataclass(frozen=True)
class Reservoir:
    """Args:
        cells: of the ring.
        diffusion: cells^2 a step. leak: share of u that a step replaces.
        carried: of the neighbour's u, inside tanh.
        drive, bias: deviations of the random B of the series and of the constant.

    Raises:
        InputError: for a step that is not stable, and numbers out of range.
    """

    cells: int
    diffusion: float
    leak: float
    carried: float
    drive: float
    bias: float = 0.5

    def __post_init__(self) -> None:
        if self.cells < 3:
            raise InputError("reservoir.cells", self.cells, "at least 3")
        if not 0 <= self.diffusion < STABLE:
            raise InputError(
                "reservoir.diffusion", self.diffusion, f"0 to below {STABLE}"
            )
        if not 0 < self.leak <= 1:
            raise InputError("reservoir.leak", self.leak, "above 0, at most 1")
        for name in ("carried", "drive", "bias"):
            if not np.isfinite(getattr(self, name)):
                raise InputError(
                    f"reservoir.{name}", getattr(self, name), "a finite number"
                )

    def states(self, series: np.ndarray, seeds: Sequence[int]) -> np.ndarray:
        """u after each value of a series [time, channel], from u = 0: (seeds, times, cells).

        Args:
            seeds: of B, one a reservoir; they go through the layers together.
        """
        times, count = len(series), len(seeds)
        if not count:
            return np.empty((0, times, self.cells))
        step, weights = self._step(series.shape[1], seeds)
        given = np.concatenate([series, np.ones((times, 1))], axis=1)
        # Each reservoir is a sample, which gives the series to its own part of B.
        own = np.eye(count)[:, None, :, None] * given.T[:, None, :]
        layers = [
            step.at(weights, own[..., n].reshape(-1, count, 1)) for n in range(times)
        ]
        found = np.empty((count, times, self.cells))

        def after(n: int, stages: Stages) -> None:
            if n:
                found[:, n - 1] = stages[-1][0]

        Chain[Sums](layers).run(np.zeros((1, count, self.cells)), after).destroy()
        return found

    def _step(
        self, channels: int, seeds: Sequence[int]
    ) -> tuple[Step, dict[str, np.ndarray]]:
        """The layer, and its weights."""
        sides = dict.fromkeys(("x-", "x+"), "periodic")
        place = Place.on(Grid((self.cells,), boundaries=sides, comm=MPI.COMM_SELF))
        beside, spread = Stencil(place, 1, 3), Diffusion(place)
        numbers = len(seeds) * (channels + 1)
        gone, given = Mixing(place, 1), Transposed(Dense(place, numbers))
        step = Step(
            place,
            Part.of(beside, "S"),
            Tanh(),
            linear=[Part.of(spread, "D"), Part.of(gone, "G")],
            driven_inner=Part.of(given, "B"),
            residual=True,
            dt=self.leak,
        )
        sizes = np.array([self.drive] * channels + [self.bias])[:, None]
        parts = [sizes * _normal(seed, (channels + 1, self.cells)) for seed in seeds]
        carried = np.reshape([self.carried, 0.0, 0.0], beside.shape)
        spreads = np.array([self.diffusion / self.leak])
        return step, {
            "S": carried,
            "D": spreads,
            "G": -np.ones((1, 1)),
            "B": np.concatenate(parts),
        }


def _normal(seed: int, shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@dataclass(frozen=True)
class Stretch:
    """Rows that are predicted by a fit of all rows before the first of them."""

    first: int
    last: int


def held_back(
    states: np.ndarray,
    targets: np.ndarray,
    stretches: Sequence[Stretch],
    ridges: Sequence[float],
    washout: int,
) -> list[list[np.ndarray]]:
    """Predictions of each stretch (rows, k), by ridge.

    Args:
        states: (rows, n). targets: (rows, k). stretches: one after the other.
        ridges: relative to the number of rows.
        washout: first rows, which still remember the start and are left out.
    """
    fit, done = Fold(states.shape[1], targets.shape[1], True), washout
    found: list[list[np.ndarray]] = [[] for _ in ridges]
    for stretch in stretches:
        fit.add(states[done : stretch.first], targets[done : stretch.first])
        done = stretch.first
        for ridge, own in zip(ridges, found, strict=True):
            solution = fit.solve(ridge=ridge * fit.count)
            own.append(predicted(solution, states[stretch.first : stretch.last]))
    return found


def predicted(solution: Solution, states: np.ndarray) -> np.ndarray:
    """(rows, k)"""
    found: np.ndarray = states @ solution.W + solution.intercept
    return found
