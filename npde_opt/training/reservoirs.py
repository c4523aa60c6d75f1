"""A run that predicts a series by reservoirs: which one is decided before the years of the test.

Every combination of the case's numbers is a reservoir, and the mean of several with other random
weights is what predicts. The last stretches before the test are held back, one after the other.
"""

import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
from mpi4py import MPI
from msgspec import Meta, field

from npde_opt import reductions
from npde_opt.cases.field_tables import Count, Index, NotNegative, Positive
from npde_opt.cases.load import raw_case
from npde_opt.cases.sources import Sources
from npde_opt.cases.typed import Table, read
from npde_opt.errors import InputError, collective
from npde_opt.figures.series import plot_series
from npde_opt.io.files import whole_file
from npde_opt.networks.normalisation import Normalisation
from npde_opt.pseudoinverse.fold import Fold
from npde_opt.pseudoinverse.reservoir import Reservoir, Stretch, held_back, predicted
from npde_opt.runs.solved_run import SolvedRun
from npde_opt.training.data import Data, Part
from npde_opt.training.samples import Source
from npde_opt.training.sections import DataSection, TitleSection
from npde_opt.training.sequences import Windows

PREDICTIONS, FIGURE = "predictions.csv", "series.png"
MOST = 1000
"""Reservoirs and ridges that are compared."""


class ReservoirSection(Table, kw_only=True):
    """What is chosen from: all combinations of the lists."""

    cells: Annotated[list[Count], Meta(min_length=1, description="of the ring")]
    diffusion: Annotated[
        list[NotNegative], Meta(min_length=1, description="cells^2 a step")
    ]
    leak: Annotated[
        list[Positive], Meta(min_length=1, description="share of u that is replaced")
    ]
    carried: Annotated[
        list[float], Meta(min_length=1, description="of the neighbour, in tanh")
    ]
    drive: Annotated[
        list[float], Meta(min_length=1, description="deviation of random weights")
    ]
    bias: Annotated[
        list[float], Meta(min_length=1, description="deviation of random constants")
    ]
    ridge: Annotated[
        list[NotNegative], Meta(min_length=1, description="times the rows")
    ]
    reservoirs: Annotated[Count, Meta(description="whose mean predicts")] = 10
    washout: Annotated[
        Index, Meta(description="first values that nothing is learnt from")
    ] = 20
    stretches: Annotated[Count, Meta(description="that are held back")] = 3
    span: Annotated[Count, Meta(description="values of each")] = 30


class ReservoirFile(Table, kw_only=True):
    """A case of reservoirs."""

    case: TitleSection = field(default_factory=TitleSection)
    variables: dict[str, str | float] = {}
    data: DataSection
    reservoir: ReservoirSection


@dataclass(frozen=True)
class Choice:
    """A reservoir and its ridge, and the error of what was held back."""

    reservoir: Reservoir
    ridge: float
    error: float


class Reservoirs(SolvedRun):
    """A run that predicts the next value of a series from all before."""

    def check(self) -> None:
        path, data = Path(self.options.case), self.options.data
        raw = raw_case(path, {})
        self.name = path.stem
        self.table = read("", raw, ReservoirFile)
        if (
            self.table.data.kind not in ("sunspots", "series")
            or self.table.data.until is None
        ):
            told = f"{self.table.data.kind}, until {self.table.data.until}"
            raise InputError(
                "data.kind, data.until", told, "sunspots or series, and times"
            )
        sources = Sources(path.parent, Path(data) if data else None, (None, 0))
        self.data = Data(self.table.data, sources, self.options.seed)
        if self.table.data.length != 1:
            raise InputError(
                "data.length", self.table.data.length, "1: states remember the rest"
            )
        self.parts = self.data.parts(0)
        s, rows = self.table.reservoir, self.parts.train.count
        if s.washout + 2 > rows - s.stretches * s.span:
            told = f"{s.stretches} stretches of {s.span} after {s.washout}"
            raise InputError(
                "reservoir", told, f"fewer than the {rows} values to learn from"
            )
        self.candidates = [
            Reservoir(*numbers)
            for numbers in itertools.product(
                s.cells, s.diffusion, s.leak, s.carried, s.drive, s.bias
            )
        ]
        count = len(self.candidates) * len(s.ridge)
        if count > MOST:
            raise InputError("reservoir", f"{count} combinations", f"at most {MOST}")

    def prepare(self) -> None:
        source = self.parts.train.source
        assert isinstance(source, Windows)
        self.out.claim([PREDICTIONS, *([FIGURE] if self.options.plot else ())])
        samples, train = source.samples(), self.parts.train.numbers
        self.times, self.wanted = source.times, samples.targets[:, :, 0, 0, 0]
        self.last = samples.inputs[:, :, 0, 0, 0]
        roots = self.table.data.normalisation == "roots"
        if self.table.data.normalisation == "none":
            self.scale = Normalisation.none(source.channels)
        else:
            self.scale = Normalisation.standard(
                MPI.COMM_SELF, samples.inputs[train], roots
            )
        self.z, self.next = (self._scaled(v) for v in (samples.inputs, samples.targets))
        self.say(
            f"{source.name}: {len(train)} values to learn from, {len(self.candidates)} reservoirs, "
            f"{self.world.size} ranks"
        )
        self.ready = time.monotonic()

    def _scaled(self, values: np.ndarray) -> np.ndarray:
        """[sample, channel]"""
        return self.scale.apply(values)[:, :, 0, 0, 0]

    def _unscaled(self, values: np.ndarray) -> np.ndarray:
        return self.scale.undo(values[:, :, None, None, None])[:, :, 0, 0, 0]

    @cached_property
    def _stretches(self) -> list[Stretch]:
        s, rows = self.table.reservoir, self.parts.train.count
        starts = range(rows - s.stretches * s.span, rows, s.span)
        return [Stretch(start, start + s.span) for start in starts]

    def _seeds(self, number: int) -> range:
        """Of a reservoir's random weights, those that this rank does."""
        first = (self.options.seed << 20) + number * self.table.reservoir.reservoirs
        whole = range(first, first + self.table.reservoir.reservoirs)
        return whole[self.world.rank :: self.world.size]

    def train(self) -> None:
        """Chooses, then learns from all values before the test."""
        tried = [c for n, r in enumerate(self.candidates) for c in self._tried(n, r)]
        self.chosen = min(tried, key=lambda choice: choice.error)
        self.say(f"held back: RMSE {self.chosen.error:.2f} by {self.chosen.reservoir}")
        own = self._predictions(self.candidates.index(self.chosen.reservoir))
        mean = reductions.total(self.world, own) / self.table.reservoir.reservoirs
        self.found = self._unscaled(mean)

    def _tried(self, number: int, reservoir: Reservoir) -> list[Choice]:
        """One reservoir with all ridges."""
        s, first = self.table.reservoir, self._stretches[0].first
        last = self._stretches[-1].last
        sums = np.zeros((len(s.ridge), last - first, self.next.shape[1]))
        for states in reservoir.states(self.z[:last], self._seeds(number)):
            found = held_back(
                states, self.next[:last], self._stretches, s.ridge, s.washout
            )
            sums += np.array([np.concatenate(own) for own in found])
        means = reductions.total(self.world, sums) / s.reservoirs
        wanted = self.wanted[first:last]
        errors = [_rmse(self._unscaled(mean), wanted) for mean in means]
        return [Choice(reservoir, r, e) for r, e in zip(s.ridge, errors, strict=True)]

    def _predictions(self, number: int) -> np.ndarray:
        """The sum of those of this rank's seeds (times, channels)."""
        washout, rows = self.table.reservoir.washout, self.parts.train.count
        total = np.zeros_like(self.next)
        for states in self.chosen.reservoir.states(self.z, self._seeds(number)):
            fit = Fold(states.shape[1], total.shape[1], True)
            fit.add(states[washout:rows], self.next[washout:rows])
            total += predicted(fit.solve(ridge=self.chosen.ridge * fit.count), states)
        return total

    def report(self) -> None:
        self.solved = time.monotonic()
        for part in self.parts.tests:
            persistence = _rmse(self.last[part.numbers], self.wanted[part.numbers])
            self.say(
                f"{part.name}: RMSE {self._error(part):.2f} (persistence {persistence:.2f})"
            )
        with collective(self.world):
            if self.world.rank == 0:
                self._write()
                if self.options.plot:
                    begin = float(self.times[self.parts.train.count])
                    path = self.out.file(FIGURE)
                    plot_series(path, self.times, self.wanted, self.found, begin)
        self._summarize()

    def _error(self, part: Part) -> float:
        return _rmse(self.found[part.numbers], self.wanted[part.numbers])

    def _write(self) -> None:
        columns = [
            f"{kind}_{c}"
            for kind in ("wanted", "predicted")
            for c in range(self.z.shape[1])
        ]
        rows = np.column_stack([self.times, self.wanted, self.found])
        lines = [
            ",".join(["time", *columns]),
            *(",".join(f"{v:.9g}" for v in r) for r in rows),
        ]
        with self.out.writing(), whole_file(self.out.file(PREDICTIONS)) as file:
            file.write(("\n".join(lines) + "\n").encode())

    def _summarize(self) -> None:
        source: Source = self.parts.train.source
        chosen, channels = self.chosen.reservoir, self.next.shape[1]
        self.write_summary(
            self.name,
            grid=(chosen.cells,),
            unknowns=source.count,
            parameters=(chosen.cells + 1) * channels * self.table.reservoir.reservoirs,
            objective=self.chosen.error,
            objective_initial=_rmse(self.last, self.wanted),
            metrics=self._metrics(),
        )

    def _metrics(self) -> Mapping[str, object]:
        return {
            "reservoir": vars(self.chosen.reservoir),
            "ridge": self.chosen.ridge,
            "rmse_held_back": self.chosen.error,
            "rmse": {part.name: self._error(part) for part in self.parts.tests},
            "meanings": {
                "objective": "root mean square of predicted - wanted over what was held back",
                "rmse": "the same over the tests, in the unit of the data",
            },
        }


def _rmse(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.sqrt(((found - wanted) ** 2).mean()))
