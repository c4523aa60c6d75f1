"""predicted.csv: every datum beside what the answer predicts, with (predicted - observed) /
sigma."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from npde_opt.cases import Case
from npde_opt.cases.weighing import floor
from npde_opt.grids import AXES
from npde_opt.observations import Sampling

LARGEST = 1_000_000
"""Data that are written as text; of more the first experiments'."""


class Predicted:
    """The data of all experiments, row by row.

    Attributes:
        experiment, observation, place: numbers from 0.
        time: of a datum, 0 in steady cases.
        at: coordinates (n, dim) of points and electrodes, NaN of other places.
        observed, predicted, sigma, residual: the data, in units of the case and, at last, of sigma.
    """

    def __init__(self, case: Case, samplings: Sequence[Sampling], predicted: list[np.ndarray]):
        assert case.data is not None
        self.case = case
        count = case.experiment_count
        blocks = [self._places(i, s) for i, s in enumerate(samplings)]
        observation, place, time = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
        self.experiment = np.repeat(np.arange(count), observation.size)
        self.observation, self.place = np.tile(observation, count), np.tile(place, count)
        self.time = np.tile(time, count)
        self.at = np.tile(self._coordinates(samplings), (count, 1))
        self.observed, self.predicted = (
            np.concatenate(case.data.observed),
            np.concatenate(predicted),
        )
        self.sigma = self._sigma(np.concatenate(case.data.sigma))
        self.residual = (self.predicted - self.observed) / self.sigma

    def _places(self, i: int, s: Sampling) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Number of the observation, place and time of its data."""
        times = np.array(s.times or (0.0,))
        number = np.full(s.count * s.size, i)
        return number, np.tile(np.arange(s.size), s.count), np.repeat(times, s.size)

    def _coordinates(self, samplings: Sequence[Sampling]) -> np.ndarray:
        """Of points and electrodes, by observation, time and place."""
        found = []
        for observed, s in zip(self.case.observations, samplings, strict=True):
            at = observed.centres
            if len(at) != s.size:
                at = np.full((s.size, self.case.domain.dim), np.nan)
            found.append(np.tile(at, (s.count, 1)))
        return np.concatenate(found)

    def _sigma(self, given: np.ndarray) -> np.ndarray:
        """Standard deviations as the misfit takes them."""
        misfit, data = self.case.table.misfit, self.case.data
        assert data is not None
        if misfit.kind != "proportional":
            return given
        size = np.maximum(np.abs(self.predicted), floor(misfit, data.observed))
        scaled: np.ndarray = given * size**misfit.power
        return scaled

    def text(self) -> str:
        """The file."""
        axes = AXES[: self.case.domain.dim]
        names = ["experiment", "observation", "place", "time", *axes]
        names += ["observed", "predicted", "sigma", "residual"]
        n = min(self.observed.size, LARGEST)
        columns = [self.experiment, self.observation, self.place, self.time, *self.at.T]
        columns += [self.observed, self.predicted, self.sigma, self.residual]
        formats = ["%d"] * 3 + ["%.10g"] * (len(columns) - 3)
        out = io.StringIO()
        np.savetxt(
            out,
            np.column_stack([c[:n] for c in columns]),
            fmt=formats,
            delimiter=",",
            header=",".join(names),
            comments="",
        )
        return out.getvalue()
