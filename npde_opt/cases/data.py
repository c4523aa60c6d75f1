"""A case's data: measured values by experiment, observation, time and place, or simulated ones with
noise. A rank holds its share of the places of every observation (see observations/shares.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from mpi4py import MPI

from npde_opt import reductions
from npde_opt.aliases import Plain
from npde_opt.cases.added_noise import Noise
from npde_opt.cases.field_tables import File
from npde_opt.cases.mapped import Maps, Unmapped, strange
from npde_opt.cases.measured import by_experiment, by_time, deviation, positive, some
from npde_opt.cases.observed import Observed
from npde_opt.cases.replicates import Repeated, columns_of, only
from npde_opt.cases.sections import CaseFile
from npde_opt.cases.sources import Sources
from npde_opt.cases.tables import is_table, read_values
from npde_opt.cases.weighing import floor
from npde_opt.errors import InputError, collective
from npde_opt.observations.shares import Share, Size

Get = Callable[[str, Plain], np.ndarray]
"""The array of a key and its table."""
NOISE = 0.01
"""Relative noise of simulated data where a case says nothing."""


@dataclass(frozen=True)
class HeldOut:
    """Data that are not fitted.

    Attributes:
        name: what they are, in words.
        observed, noise: as those of `Data`, NaN for what they do not hold.
    """

    name: str
    observed: list[np.ndarray]
    noise: list[np.ndarray]


@dataclass(frozen=True)
class Data:
    """What is known of all experiments, of which each rank has its share.

    Attributes:
        share: which data are this rank's.
        observed: by experiment, own values by observation, time and place (NaN: not observed).
        sigma: their standard deviations, as the misfit takes them.
        origin: where they come from, in words.
        noise: variances that the spread of replicates tells, by experiment (NaN: not known).
        held_out: what was measured and is not fitted.
    """

    share: Share
    observed: list[np.ndarray]
    sigma: list[np.ndarray]
    origin: str
    noise: list[np.ndarray]
    held_out: list[HeldOut]

    def moved(self, comm: MPI.Intracomm) -> Data:
        """The same on a part of the ranks, which has all of them. Collective on all ranks."""
        share = Share(comm, self.share.sizes)

        def there(values: list[np.ndarray]) -> list[np.ndarray]:
            return self.share.moved(values, share)

        held_out = [
            replace(h, observed=there(h.observed), noise=there(h.noise))
            for h in self.held_out
        ]
        return replace(
            self,
            share=share,
            observed=there(self.observed),
            sigma=there(self.sigma),
            noise=there(self.noise),
            held_out=held_out,
        )


class Measurements:
    """Reads what a case measured, and adds noise to what it simulates. All values are this rank's
    own; all methods are collective.

    Args:
        share: of the data.
    """

    def __init__(
        self,
        table: CaseFile,
        observations: Sequence[Observed],
        sources: Sources,
        experiments: int,
        share: Share,
    ):
        self.table, self.observations, self.sources = table, observations, sources
        self.experiments, self.share, self.comm = experiments, share, share.comm
        self.repeated: dict[int, Repeated] = {}
        """By observation."""

    # ---- files -----------------------------------------------------------------------------------

    def measured(self) -> list[list[np.ndarray | None]]:
        """Values of every experiment by observation, flat; None where they are simulated.

        Raises:
            InputError: for files that are wrong, or of another number than experiments.
        """
        found: list[list[np.ndarray | None]] = [[] for _ in range(self.experiments)]
        for i in range(len(self.observations)):
            for e, part in enumerate(self._measured(i)):
                found[e].append(part)
        return found

    def _measured(self, i: int) -> Sequence[np.ndarray | None]:
        """Values of an observation by experiment: of replicates their mean."""
        observed = self.observations[i]
        spec, field = observed.section.data, f"{observed.where}.data"
        if spec is None:
            return [None] * self.experiments
        columns = columns_of(field, spec)
        if not columns:
            return self._counted(field, spec, i)
        values = {str(c): self._counted(field, only(spec, c), i) for c in columns}
        self.repeated[i] = Repeated(values, self.sources.replicate)
        return self.repeated[i].means()

    def _counted(self, field: str, spec: Plain, i: int) -> list[np.ndarray]:
        """As `_read`, NaN where a value does not count."""
        found, places = [], self.share.places[i]
        for e, part in enumerate(self._read(field, spec, i)):
            folded = part.reshape(self.share.shapes[i])
            self.observations[i].drop_driven(e, folded, places)
            self.observations[i].drop_lost(folded, self.share, i)
            found.append(folded.ravel())
        return found

    def _read(self, field: str, spec: Plain, i: int) -> list[np.ndarray]:
        """The values of all experiments, flat by time and place, from one file or one each: by
        memory map, where they can be had so; else rank 0 reads, and hands out."""
        if (own := self._mapped(field, spec, i)) is not None:
            return own
        found = []
        whole: list[np.ndarray] = []
        with collective(self.comm):
            if self.comm.rank == 0:
                whole = self._runs(field, spec, i, self._values, slice(None))
        for e in range(self.experiments):
            values = whole[e] if self.comm.rank == 0 else None
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
        return maps.scaled(field, spec, parts, self.comm)

    def _runs(
        self, field: str, spec: Plain, i: int, get: Get, own: slice
    ) -> list[np.ndarray]:
        """Values (times, places) of a run of places, by experiment, of arrays that `get` gives."""
        size, shape = self.share.sizes[i], self.observations[i].shape()
        if isinstance(spec, list):
            if len(spec) != self.experiments:
                said = f"{self.experiments}, one an experiment"
                raise InputError(field, f"{len(spec)} files", said)
            return [
                by_time(
                    f"{field}[{e}]",
                    get(f"{field}[{e}]", s),
                    *size,
                    shape,
                    own,
                )
                for e, s in enumerate(spec)
            ]
        values = get(field, spec)
        if self.experiments == 1:
            return [by_time(field, values, *size, shape, own)]
        if self.table.time is None:
            columns = is_table(Path(spec.file))
            rows = by_experiment(field, values, self.experiments, size[1], columns)
            return [row[None, own] for row in rows]
        if values.ndim == 0 or values.shape[0] != self.experiments:
            said = f"[experiment, time, place] of {self.experiments} experiments, or a file each"
            raise InputError(field, f"an array of shape {values.shape}", said)
        return [by_time(field, v, *size, shape, own) for v in values]

    # ---- deviations ------------------------------------------------------------------------------

    def sigma(self, i: int, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Standard deviations of an observation's data by experiment.

        A number, a file (for all experiments, or one each), or relative: to the root mean square
        of the data, with [time] of each experiment's own.

        Args:
            values: of every experiment.
        """
        observed = self.observations[i]
        o, field = observed.section, f"{observed.where}.sigma"
        if o.sigma is None and o.noise is None and i in self.repeated:
            return self._spread(i, values)
        if o.sigma is None:
            return self._relative(observed, values)
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
        self, observed: Observed, values: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        misfit = self.table.misfit
        noise = observed.section.noise or NOISE
        together = self.table.time is None
        groups = [np.concatenate(values)] if together else values
        found = []
        for group in groups:
            s = deviation(observed.where, noise, group, self.share)
            rms = s / noise
            if misfit.kind == "proportional" and rms > 0:
                s = s * rms**-misfit.power
            found.append(s)
        each = found * len(values) if together else found
        return [np.full(v.size, s) for v, s in zip(values, each, strict=True)]

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
        """Noise goes to simulated data, and to measured ones on request.

        Args:
            simulated: noise-free values of every experiment by observation, where some are.
        """
        count = len(self.observations)
        clean = [
            [
                _first(measured[e][i], simulated and simulated[e][i])
                for i in range(count)
            ]
            for e in range(self.experiments)
        ]
        parts = list(zip(self.observations, self.share.places, strict=True))
        for values in clean:
            for i, observed in enumerate(self.observations):
                folded = values[i].reshape(self.share.shapes[i])
                observed.drop_lost(folded, self.share, i)
        sigma = [self.sigma(i, [values[i] for values in clean]) for i in range(count)]
        noise = Noise(seed, self.share, self.share.total * self.experiments)
        for e, values in enumerate(clean):
            for i, (observed, places) in enumerate(parts):
                if measured[e][i] is None or observed.section.add_noise:
                    spread = self.spread(sigma[i][e], values[i])
                    values[i] = values[i] + spread * noise.next(e, i).ravel()
                if measured[e][i] is None:
                    part = values[i].reshape(self.share.shapes[i])
                    observed.drop_driven(e, part, places)
        found = [np.concatenate(self._only(values, held_out=False)) for values in clean]
        some("observation.data", found, self.comm)
        deviations = [
            np.concatenate([s[e] for s in sigma]) for e in range(self.experiments)
        ]
        told = self._by_datum(lambda r, e: r.variances(of_all=True)[e] / r.counts()[e])
        origin = self._origin(origin)
        return Data(self.share, found, deviations, origin, told, self._held_out(clean))

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
                lambda r, e: r.values[name][e] if name in r.values else None
            )
            noise = self._by_datum(lambda r, e: r.variances(of_all=True)[e])
            found.append(HeldOut(f"replicate {name}", own, noise))
        return found

    def _by_datum(
        self, of: Callable[[Repeated, int], np.ndarray | None]
    ) -> list[np.ndarray]:
        """What replicates tell of every datum, by experiment; NaN of other observations."""
        found = []
        for e in range(self.experiments):
            parts = []
            for i, (times, own) in enumerate(self.share.shapes):
                part = of(self.repeated[i], e) if i in self.repeated else None
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
