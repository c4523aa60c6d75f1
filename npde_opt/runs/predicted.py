"""predicted.csv: every datum beside what the answer predicts, with (predicted - observed) /
sigma."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from npde_opt import reductions
from npde_opt.cases import Case
from npde_opt.cases.own_data import HeldOut
from npde_opt.cases.weighing import floor
from npde_opt.grids import AXES
from npde_opt.observations import Sampling

LARGEST = 1_000_000
"""Data that rank 0 has of all: written as text, or drawn; of more the first experiments'."""


class Predicted:
    """The data of all experiments, row by row: those that are fitted, then those held out. All
    ranks share them, of all groups: a rank has the rows of its share of the data.

    Attributes:
        names: of the sets of data that rows are of; the first one is fitted.
        member: number of the set of each row, `fitted` whether that is the first one.
        noise: what replicates tell of a datum's variance, in units of sigma (NaN: nothing).
        experiment, observation, place: numbers from 0.
        time: of a datum, 0 in steady cases.
        at: coordinates (n, dim) of points and electrodes, NaN of other places.
        observed, predicted, sigma, residual: the data, in units of the case and, at last, of sigma.
        deviation: of the predictions under the posterior, None where it was not asked for.
        resolution: the part of its own prediction that a datum decides, 0 of what is not fitted.

    Collective, as all its methods are.
    """

    def __init__(
        self, case: Case, samplings: Sequence[Sampling], predicted: list[np.ndarray]
    ):
        assert case.data is not None
        self.case, data = case, case.data
        self.share = data.share
        blocks = [self._places(i, s) for i, s in enumerate(samplings)]
        place = [np.concatenate(parts) for parts in zip(*blocks, strict=True)]
        count, at = case.experiment_count, self._coordinates()
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
        self.resolution: np.ndarray | None = None

    def spread(
        self, deviations: Sequence[np.ndarray], resolution: Sequence[np.ndarray]
    ) -> None:
        """Sets, by experiment, the standard deviations of predictions, and the diagonal of the data
        resolution matrix."""
        every = [np.concatenate(deviations)] * self._times
        self.deviation = np.concatenate(every)[self._kept]
        parts = [np.concatenate(resolution)] * self._times
        found = np.concatenate(parts)[self._kept]
        self.resolution = np.where(self.fitted, found, 0.0)

    def effective(self) -> float:
        """How many numbers the data determine: the sum of their resolutions. Collective."""
        assert self.resolution is not None
        return float(self.sums(self.resolution, self.fitted)[:, 0].sum())

    @property
    def fitted(self) -> np.ndarray:
        """Whether a row's datum is fitted: neither it nor its experiment is held out."""
        aside = np.isin(self.experiment, self.case.held_out)
        return np.asarray((self.member == 0) & ~aside)

    def _places(self, i: int, s: Sampling) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Number of the observation, place and time of its data."""
        (count, own), places = self.share.shapes[i], self.share.places[i]
        times = np.repeat(np.array(s.times or (0.0,)), own)
        numbers = np.tile(np.arange(places.start, places.stop), count)
        return np.full(count * own, i), numbers, times

    def _coordinates(self) -> np.ndarray:
        """Of points and electrodes, by observation, time and place."""
        found = [np.empty((0, self.case.domain.dim))]
        for i, observed in enumerate(self.case.observations):
            count, at = self.share.sizes[i][0], observed.centres_of(self.share, i)
            found.append(np.tile(at, (count, 1)))
        return np.concatenate(found)

    def _sigma(self, given: np.ndarray) -> np.ndarray:
        """Standard deviations as the misfit takes them."""
        misfit, data = self.case.table.misfit, self.case.data
        assert data is not None
        if misfit.kind != "proportional":
            return given
        least = floor(misfit, data.observed, self.share)
        size = np.maximum(np.abs(self.predicted), least)
        scaled: np.ndarray = given * size**misfit.power
        return scaled

    def any(self, rows: np.ndarray) -> bool:
        """Whether any of all rows is one of these."""
        return reductions.anywhere(self.share.comm, bool(rows.any()))

    def everywhere(self, rows: np.ndarray) -> bool:
        """Whether all rows are."""
        return reductions.everywhere(self.share.comm, bool(rows.all()))

    def sums(self, values: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Of what is finite of the values of some rows, by experiment its sum and its number:
        (experiments, 2)."""
        there = rows & np.isfinite(values)
        of, count = self.experiment[there], self.case.experiment_count
        own = np.zeros((count, 2))
        np.add.at(own, of, np.column_stack([values[there], np.ones(of.size)]))
        return reductions.total(self.share.comm, own)

    def in_order(
        self, columns: Sequence[np.ndarray], rows: np.ndarray | None = None
    ) -> np.ndarray | None:
        """Columns (n, k) of the first LARGEST of some rows, by set, experiment, observation, time
        and place, on rank 0."""
        wanted = np.ones(self.member.size, bool) if rows is None else rows
        count = self._times * self.case.experiment_count
        kept = self._kept.reshape(count, self.share.order.size)
        row = np.cumsum(self._kept).reshape(kept.shape) - 1

        def part(experiments: slice, data: slice) -> np.ndarray:
            """The columns, and whether there is a row that is wanted."""
            there, at = kept[experiments, data], row[experiments, data]
            values = np.zeros((*there.shape, len(columns) + 1))
            for k, column in enumerate([*columns, wanted]):
                values[there, k] = column[at[there]]
            return values

        found, left = [np.empty((0, len(columns)))], LARGEST
        for run in self.share.in_order(count, part):
            if run is not None:
                rows_of_run = run[run[:, -1] > 0, :-1][:left]
                found.append(rows_of_run)
                left -= len(rows_of_run)
            left = self.share.comm.bcast(left)
            if not left:
                break
        return np.concatenate(found) if self.share.comm.rank == 0 else None

    def text(self) -> str:
        """The file, on rank 0."""
        axes = AXES[: self.case.domain.dim]
        names = ["experiment", "observation", "place", "time", *axes]
        names += ["observed", "predicted", "sigma", "residual", "held_out"]
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
            assert self.resolution is not None
            names += ["predicted_deviation", "resolution"]
            columns += [self.deviation, self.resolution]
            formats += ["%.10g"] * 2
        found = self.in_order(columns)
        if found is None:
            return ""
        out = io.StringIO()
        head = ",".join(names)
        np.savetxt(out, found, fmt=formats, delimiter=",", header=head, comments="")
        return out.getvalue()
