"""A case's data: measured values by experiment, observation, time and place, or simulated ones with
noise. A group of ranks reads those of its own experiments.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from npde_opt import reductions
from npde_opt.aliases import Plain
from npde_opt.cases.added_noise import Noise
from npde_opt.cases.field_tables import File
from npde_opt.cases.mapped import Maps, Unmapped, strange
from npde_opt.cases.measured import by_experiment, by_time, deviation, positive, some
from npde_opt.cases.observed import Observed
from npde_opt.cases.own_data import Data, HeldOut
from npde_opt.cases.replicates import Repeated, columns_of, only
from npde_opt.cases.sections import CaseFile
from npde_opt.cases.sources import Sources
from npde_opt.cases.tables import is_table, read_values
from npde_opt.cases.weighing import floor
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError, collective
from npde_opt.observations.shares import Share, Size

Get = Callable[[str, Plain], np.ndarray]
"""The array of a key and its table."""
NOISE = 0.01
"""Relative noise of simulated data where a case says nothing."""


class Measurements:
    """Reads what a case measured, and adds noise to what it simulates. All values are this rank's
    own, of its group's experiments; all methods are collective over the group.

    Args:
        share: of the data.
        ensemble: the groups; None: one has all experiments.
    """

    def __init__(
        self,
        table: CaseFile,
        observations: Sequence[Observed],
        sources: Sources,
        experiments: int,
        share: Share,
        ensemble: Ensemble | None = None,
    ):
        self.table, self.observations, self.sources = table, observations, sources
        self.experiments, self.share, self.comm = experiments, share, share.comm
        self.ensemble = Ensemble.whole(share.comm) if ensemble is None else ensemble
        self.own = self.ensemble.own(experiments)
        """Numbers of the group's experiments."""
        self.repeated: dict[int, Repeated] = {}
        """By observation."""

    # ---- files -----------------------------------------------------------------------------------

    def measured(self) -> list[list[np.ndarray | None]]:
        """Values of every own experiment by observation, flat; None where they are simulated.

        Raises:
            InputError: for files that are wrong, or of another number than experiments.
        """
        # All groups come together here at first, before one of them may find something wrong.
        for i, observed in enumerate(self.observations):
            observed.note_lost(self.share, i)
        found: list[list[np.ndarray | None]] = [[] for _ in self.own]
        for i in range(len(self.observations)):
            for k, part in enumerate(self._measured(i)):
                found[k].append(part)
        return found

    def _measured(self, i: int) -> Sequence[np.ndarray | None]:
        """Values of an observation by experiment: of replicates their mean."""
        observed = self.observations[i]
        spec, field = observed.section.data, f"{observed.where}.data"
        if spec is None:
            return [None] * len(self.own)
        columns = columns_of(field, spec)
        if not columns:
            return self._counted(field, spec, i)
        values = {str(c): self._counted(field, only(spec, c), i) for c in columns}
        self.repeated[i] = Repeated(values, self.sources.replicate)
        return self.repeated[i].means()

    def _counted(self, field: str, spec: Plain, i: int) -> list[np.ndarray]:
        """As `_read`, NaN where a value does not count."""
        found, places = [], self.share.places[i]
        for e, part in zip(self.own, self._read(field, spec, i), strict=True):
            folded = part.reshape(self.share.shapes[i])
            self.observations[i].drop_driven(e, folded, places)
            self.observations[i].drop_lost(folded, self.share, i)
            found.append(folded.ravel())
        return found

    def _read(self, field: str, spec: Plain, i: int) -> list[np.ndarray]:
        """The values of the own experiments, flat by time and place, from one file or one each: by
        memory map, where they can be had so; else rank 0 of the group reads, and hands out."""
        if (own := self._mapped(field, spec, i)) is not None:
            return own
        found = []
        whole: list[np.ndarray] = []
        with collective(self.comm):
            if self.comm.rank == 0:
                whole = self._runs(field, spec, i, self._values, slice(None))
        for k in range(len(self.own)):
            values = whole[k] if self.comm.rank == 0 else None
            found.append(self.share.scattered(i, values).ravel())
        return found

    def _values(self, field: str, spec: Plain) -> np.ndarray:
        return read_values(field, spec, self.sources)

    def _mapped(self, field: str, spec: Plain, i: int) -> list[np.ndarray] | None:
        """The own values by memory map; None where they cannot be had so, or may stand for missing
        ones, which only all of them tell. Collective."""
        maps = Maps(self.sources)
        if not maps.can(spec):
            return None
        parts: list[np.ndarray] | None = None
        with collective(self.comm), contextlib.suppress(Unmapped):
            own = self.share.places[i]
            parts = self._runs(field, spec, i, maps.view, own)
        fits = parts is not None and not any(strange(p) for p in parts)
        if reductions.anywhere(self.comm, not fits):
            return None
        assert parts is not None
        return maps.scaled(field, spec, parts, self.own, self.comm)

    def _runs(
        self, field: str, spec: Plain, i: int, get: Get, own: slice
    ) -> list[np.ndarray]:
        """Values (times, places) of a run of places, by own experiment, of arrays that `get`
        gives."""
        size, shape = self.share.sizes[i], self.observations[i].shape()
        if isinstance(spec, list):
            if len(spec) != self.experiments:
                said = f"{self.experiments}, one an experiment"
                raise InputError(field, f"{len(spec)} files", said)
            return [
                by_time(
                    f"{field}[{e}]",
                    get(f"{field}[{e}]", spec[e]),
                    *size,
                    shape,
                    own,
                )
                for e in self.own
            ]
        values = get(field, spec)
        if self.experiments == 1:
            return [by_time(field, values, *size, shape, own)]
        if self.table.time is None:
            columns = is_table(Path(spec.file))
            rows = by_experiment(field, values, self.experiments, size[1], columns)
            return [rows[e][None, own] for e in self.own]
        if values.ndim == 0 or values.shape[0] != self.experiments:
            said = f"[experiment, time, place] of {self.experiments} experiments, or a file each"
            raise InputError(field, f"an array of shape {values.shape}", said)
        return [by_time(field, values[e], *size, shape, own) for e in self.own]

    # ---- deviations ------------------------------------------------------------------------------

    def sigma(
        self, i: int, values: Sequence[np.ndarray], square: np.ndarray | None = None
    ) -> list[np.ndarray]:
        """Standard deviations of an observation's data by experiment.

        A number, a file (for all experiments, or one each), or relative: to the root mean square
        of the data, with [time] of each experiment's own.

        Args:
            values: of every own experiment.
            square: `_squares` of all groups; None: of this one, which is all.
        """
        observed = self.observations[i]
        o, field = observed.section, f"{observed.where}.sigma"
        if o.sigma is None and o.noise is None and i in self.repeated:
            return self._spread(i, values)
        if o.sigma is None:
            return self._relative(observed, values, square)
        if isinstance(o.sigma, int | float):
            return [np.full(v.size, float(o.sigma)) for v in values]
        if (
            isinstance(o.sigma, File)
            and self.table.time is not None
            and self.experiments > 1
        ):
            found = self._read(field, [o.sigma] * self.experiments, i)
        else:
            found = self._read(field, o.sigma, i)
        pairs = zip(found, values, strict=True)
        return [positive(field, s, v, self.comm) for s, v in pairs]

    def _spread(self, i: int, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Of the means of replicates: one number an experiment."""
        repeated, found = self.repeated[i], []
        variances = zip(
            repeated.variances(of_all=False), repeated.counts(), values, strict=True
        )
        for variance, count, own in variances:
            square = variance / count / self.spread(np.ones(own.size), own) ** 2
            square = np.where(np.isfinite(square), square, np.nan)
            ((total, there),) = self.share.sums(square)
            s = np.full(own.size, np.sqrt(total / there) if there else np.nan)
            field = f"{self.observations[i].where}.sigma"
            found.append(positive(field, s, own, self.comm))
        return found

    def _relative(
        self,
        observed: Observed,
        values: Sequence[np.ndarray],
        square: np.ndarray | None,
    ) -> list[np.ndarray]:
        misfit = self.table.misfit
        noise = observed.section.noise or NOISE
        together = self.table.time is None
        if not together:
            squares = [self.share.sums(v**2)[0] for v in values]
        elif square is None:
            squares = [reductions.total(self.comm, self._squares(values))]
        else:
            squares = [square]
        found = []
        for total, count in squares:
            s = deviation(observed.where, noise, total, count)
            rms = s / noise
            if misfit.kind == "proportional" and rms > 0:
                s = s * rms**-misfit.power
            found.append(s)
        each = found * len(values) if together else found
        return [np.full(v.size, s) for v, s in zip(values, each, strict=True)]

    def _squares(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """Sum of the squares of this rank's own values that are there, and how many they are."""
        listed = np.concatenate(values)
        there = listed[~np.isnan(listed)] ** 2
        return np.array([there.sum(), there.size], float)

    def spread(self, deviations: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Standard deviations of noise, as the misfit takes it to be."""
        misfit = self.table.misfit
        if misfit.kind != "proportional":
            return deviations
        size = np.maximum(np.abs(values), floor(misfit, [values], self.share))
        return deviations * size**misfit.power

    # ---- together --------------------------------------------------------------------------------

    def data(
        self,
        measured: Sequence[Sequence[np.ndarray | None]],
        simulated: Sequence[Sequence[np.ndarray]] | None,
        seed: int,
        origin: str,
    ) -> Data:
        """Noise goes to simulated data, and to measured ones on request. Collective over all
        groups.

        Args:
            simulated: noise-free values of every own experiment by observation, where some are.
        """
        count, ensemble = len(self.observations), self.ensemble
        with ensemble.together():
            clean = self._clean(measured, simulated)
            columns = [[values[i] for values in clean] for i in range(count)]
            own = np.array([self._squares(values) for values in columns])
        squares = reductions.total(ensemble.world, own)
        with ensemble.together():
            sigma = [self.sigma(i, columns[i], squares[i]) for i in range(count)]
            self._disturb(clean, measured, sigma, seed)
            found = [np.concatenate(self._only(own, held_out=False)) for own in clean]
        some("observation.data", found, ensemble.world)
        deviations = [np.concatenate(own) for own in zip(*sigma, strict=True)]
        told = self._by_datum(lambda r, k: r.variances(of_all=True)[k] / r.counts()[k])
        origin = self._origin(origin)
        return Data(
            self.own,
            self.share,
            found,
            deviations,
            origin,
            told,
            self._held_out(clean),
        )

    def _clean(
        self,
        measured: Sequence[Sequence[np.ndarray | None]],
        simulated: Sequence[Sequence[np.ndarray]] | None,
    ) -> list[list[np.ndarray]]:
        """By own experiment and observation, without noise of ours; NaN of places that do not
        count."""
        clean = [
            [
                _first(measured[k][i], simulated and simulated[k][i])
                for i in range(len(self.observations))
            ]
            for k in range(len(self.own))
        ]
        for values in clean:
            for i, observed in enumerate(self.observations):
                folded = values[i].reshape(self.share.shapes[i])
                observed.drop_lost(folded, self.share, i)
        return clean

    def _disturb(
        self,
        clean: Sequence[list[np.ndarray]],
        measured: Sequence[Sequence[np.ndarray | None]],
        sigma: Sequence[Sequence[np.ndarray]],
        seed: int,
    ) -> None:
        """Adds noise."""
        noise = Noise(seed, self.share, self.share.total * self.experiments)
        made = [part is None for part in measured[0]]
        for e in range(self.experiments):
            k = self.own.index(e) if e in self.own else None
            for i, observed in enumerate(self.observations):
                drawn = made[i] or observed.section.add_noise
                if k is None:
                    if drawn:
                        noise.skip(i)
                    continue
                values = clean[k]
                if drawn:
                    spread = self.spread(sigma[i][k], values[i])
                    values[i] = values[i] + spread * noise.next(e, i).ravel()
                if made[i]:
                    part = values[i].reshape(self.share.shapes[i])
                    observed.drop_driven(e, part, self.share.places[i])

    def _only(self, values: Sequence[np.ndarray], held_out: bool) -> list[np.ndarray]:
        """By observation, NaN of those that are (not) held out."""
        return [
            v if o.section.held_out == held_out else np.full(v.size, np.nan)
            for o, v in zip(self.observations, values, strict=True)
        ]

    def _held_out(self, values: Sequence[Sequence[np.ndarray]]) -> list[HeldOut]:
        """What is not fitted: whole observations, and replicates."""
        found = []
        if any(o.section.held_out for o in self.observations):
            numbers = [i for i, o in enumerate(self.observations) if o.section.held_out]
            name = f"observation {', '.join(map(str, numbers))}"
            whole = [np.concatenate(self._only(own, held_out=True)) for own in values]
            found.append(HeldOut(name, whole, [np.full(v.size, np.nan) for v in whole]))
        if self.sources.replicate:
            name = self.sources.replicate
            own = self._by_datum(
                lambda r, k: r.values[name][k] if name in r.values else None
            )
            noise = self._by_datum(lambda r, k: r.variances(of_all=True)[k])
            found.append(HeldOut(f"replicate {name}", own, noise))
        return found

    def _by_datum(
        self, of: Callable[[Repeated, int], np.ndarray | None]
    ) -> list[np.ndarray]:
        """What replicates tell of every datum, by experiment; NaN of other observations."""
        found = []
        for k in range(len(self.own)):
            parts = []
            for i, (times, own) in enumerate(self.share.shapes):
                part = of(self.repeated[i], k) if i in self.repeated else None
                parts.append(np.full(times * own, np.nan) if part is None else part)
            found.append(np.concatenate(parts))
        return found

    def _origin(self, simulated: str) -> str:
        files = []
        for observed in self.observations:
            spec = observed.section.data
            if spec is not None:
                files.append((spec[0] if isinstance(spec, list) else spec).file)
        if not files:
            return simulated
        added = any(o.section.add_noise for o in self.observations)
        return f"data from {', '.join(files)}" + (", noise added" if added else "")


def _first(measured: np.ndarray | None, simulated: Plain) -> np.ndarray:
    return simulated if measured is None else measured


def counts(
    measured: Sequence[Sequence[np.ndarray | None]], sizes: Sequence[Size]
) -> np.ndarray:
    """Whether data are missing, experiment by experiment; simulated ones are not. On one rank."""
    found = [
        np.isnan(values) if values is not None else np.zeros(times * places, bool)
        for own in measured
        for values, (times, places) in zip(own, sizes, strict=True)
    ]
    return np.concatenate(found)
