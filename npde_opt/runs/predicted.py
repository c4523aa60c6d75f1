"""predicted.csv: every datum beside what the answer predicts, with (predicted - observed) /
sigma."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from npde_opt.cases import Case
from npde_opt.cases.data import HeldOut
from npde_opt.cases.weighing import floor
from npde_opt.grids import AXES
from npde_opt.observations import Sampling

LARGEST = 1_000_000
"""Data that are written as text; of more the first experiments'."""


class Predicted:
    """The data of all experiments, row by row: those that are fitted, then those held out.

    Attributes:
        names: of the sets of data that rows are of; the first one is fitted.
        member: number of the set of each row, `fitted` whether that is the first one.
        noise: what replicates tell of a datum's variance, in units of sigma (NaN: nothing).
        experiment, observation, place: numbers from 0.
        time: of a datum, 0 in steady cases.
        at: coordinates (n, dim) of points and electrodes, NaN of other places.
        observed, predicted, sigma, residual: the data, in units of the case and, at last, of sigma.
        deviation: of the predictions under the posterior, None where it was not asked for.
    """

    def __init__(
        self, case: Case, samplings: Sequence[Sampling], predicted: list[np.ndarray]
    ):
        assert case.data is not None
        self.case, data = case, case.data
        blocks = [self._places(i, s) for i, s in enumerate(samplings)]
        place = [np.concatenate(parts) for parts in zip(*blocks, strict=True)]
        count, at = case.experiment_count, self._coordinates(samplings)
        size = place[0].size
        sets = [HeldOut("", data.observed, data.noise), *data.held_out]
        observed = np.concatenate([y for part in sets for y in part.observed])
        member = np.repeat(np.arange(len(sets)), count * size)
        kept = (member == 0) | np.isfinite(observed)

        def listed(values: np.ndarray, times: int) -> np.ndarray:
            """Rows of all sets, of what is the same so many times."""
            return np.asarray(np.concatenate([values] * times)[kept])

        self.names = [part.name for part in sets]
        self.member, self.observed = member[kept], observed[kept]
        self.experiment = listed(np.repeat(np.arange(count), size), len(sets))
        self.observation, self.place, self.time = (
            listed(v, count * len(sets)) for v in place
        )
        self.at = listed(at, count * len(sets))
        self.predicted = listed(np.concatenate(predicted), len(sets))
        self.sigma = self._sigma(listed(np.concatenate(data.sigma), len(sets)))
        self.residual = (self.predicted - self.observed) / self.sigma
        variances = np.concatenate([v for part in sets for v in part.noise])
        self.noise = variances[kept] / self.sigma**2
        self._kept, self._times = kept, len(sets)
        self.deviation: np.ndarray | None = None

    def spread(self, deviations: Sequence[np.ndarray]) -> None:
        """Sets the standard deviations of predictions, by experiment."""
        every = [np.concatenate(deviations)] * self._times
        self.deviation = np.concatenate(every)[self._kept]

    @property
    def fitted(self) -> np.ndarray:
        """Whether a row's datum is fitted: neither it nor its experiment is held out."""
        aside = np.isin(self.experiment, self.case.held_out)
        return np.asarray((self.member == 0) & ~aside)

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
        names += ["observed", "predicted", "sigma", "residual", "held_out"]
        n = min(self.observed.size, LARGEST)
        columns = [self.experiment, self.observation, self.place, self.time, *self.at.T]
        columns += [
            self.observed,
            self.predicted,
            self.sigma,
            self.residual,
            ~self.fitted,
        ]
        formats = ["%d"] * 3 + ["%.10g"] * (len(columns) - 4) + ["%d"]
        if self.deviation is not None:
            names.append("predicted_deviation")
            columns.append(self.deviation)
            formats.append("%.10g")
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
