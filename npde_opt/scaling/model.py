"""Seconds of a run from what it works on, sends and sums: fitted to the runs of a study.

Of every stage, with n unknowns on a rank, W solves times iterations and P ranks,

    t = c0 + c1 W n w / bandwidth(P) + c2 R reduction(P) + c3 (E latency + M / rate + B / link)

all c >= 0, w bytes of one value, R reductions, M messages sent and received, B bytes of a rank as
PETSc counted them, and the machine's rates as they were measured with P ranks at once. The messages
of an exchange along one axis are on their way together and wait for the latency once:

    E = M axes cut / (2 neighbours)

Fitted by non-negative least squares of relative errors. Counts for other P are those of growth.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from npde_opt.errors import InputError
from npde_opt.scaling.collect import Row
from npde_opt.scaling.growth import (
    VALUE,
    Counts,
    Size,
    counts_of,
    growth,
    size_of,
    together,
)

PARTS = ("start", "memory", "reductions", "messages")
"""What the seconds of a stage are made of."""
LEAST_RUNS = 3


@dataclass(frozen=True)
class Rates:
    """Of a rank, where all ranks work at once: bytes/s, seconds, seconds, bytes/s, messages/s; 0
    where there is none."""

    bandwidth: float
    reduction: float
    latency: float
    link: float
    message_rate: float = 0.0


def features(size: Size, counts: Counts, rates: Rates) -> np.ndarray:
    """One number for each of PARTS, in seconds (of the first: 1)."""
    moved = counts.work * size.load * VALUE / rates.bandwidth
    exchanges = counts.messages / together(size)
    sent = exchanges * rates.latency
    if rates.message_rate:
        sent += counts.messages / rates.message_rate
    if rates.link:
        sent += counts.bytes / rates.link
    return np.array([1.0, moved, counts.reductions * rates.reduction, sent])


@dataclass(frozen=True)
class Model:
    """Fitted coefficients of every stage: arrays of one number for each of PARTS."""

    stages: Mapping[str, np.ndarray]

    def parts(self, size: Size, counts: Counts, rates: Rates) -> dict[str, float]:
        """Seconds of a run by PARTS, all stages together."""
        total = sum(self.stages.values()) * features(size, counts, rates)
        return dict(zip(PARTS, (float(v) for v in total), strict=True))

    def seconds(self, size: Size, counts: Counts, rates: Rates) -> float:
        """Of a run."""
        return sum(self.parts(size, counts, rates).values())


def count(rows: Sequence[Row]) -> int:
    """Of runs with a log; one that is strong and weak counts once."""
    return len({r.run.name for r in rows if r.stages})


def fit(rows: Sequence[Row], rates: Mapping[int, Rates]) -> Model:
    """Non-negative least squares of the relative errors, stage by stage.

    Args:
        rates: of the machine, by the number of ranks.

    Raises:
        InputError: with fewer than three runs with a log.
    """
    known = [r for r in rows if r.stages]
    if count(known) < LEAST_RUNS:
        there = f"at least {LEAST_RUNS} runs with PETSc's log"
        raise InputError("the model", f"{count(known)} runs", there)
    return _fit(known, rates)


def _fit(known: Sequence[Row], rates: Mapping[int, Rates]) -> Model:
    table = np.array(
        [features(size_of(r), counts_of(r), rates[r.run.ranks]) for r in known]
    )
    names = list(dict.fromkeys(n for r in known for n in r.stages))
    stages = {}
    for name in names:
        seconds = np.array(
            [r.stages[name].seconds if name in r.stages else 0 for r in known]
        )
        scale = 1 / np.maximum(seconds, 0.01 * max(seconds.max(), 1e-12))
        columns = np.maximum(table.max(0), 1e-300)
        scaled = table / columns * scale[:, None]
        stages[name] = nnls(scaled, seconds * scale)[0] / columns
    return Model(stages)


def logged(row: Row) -> float:
    """Seconds of all stages, which is what the model is fitted to."""
    return sum(s.seconds for s in row.stages.values())


@dataclass(frozen=True)
class HeldOut:
    """The largest run, predicted by a model of the others.

    Attributes:
        seconds: predicted with counts and rates that follow from the smaller runs.
    """

    name: str
    measured: float
    seconds: float

    @property
    def error(self) -> float:
        """Relative."""
        return self.seconds / self.measured - 1


def held_out(
    rows: Sequence[Row],
    rates: Mapping[int, Rates],
    extended: Callable[[Mapping[int, Rates], int], Rates],
) -> HeldOut | None:
    """None where too few runs are smaller than the largest.

    Args:
        extended: rates with so many ranks from those that were measured with others.
    """
    known = [r for r in rows if r.stages]
    if not known:
        return None

    def amount(r: Row) -> tuple[float, int]:
        return r.unknowns, r.run.ranks

    most = max(map(amount, known))
    largest = [r for r in known if amount(r) == most]
    smaller = [r for r in known if amount(r) != most]
    if count(smaller) < LEAST_RUNS:
        return None
    model, grown = fit(smaller, rates), growth(smaller)
    last = min(largest, key=logged)
    size = size_of(last)
    seen = {r.run.ranks: rates[r.run.ranks] for r in smaller}
    own = extended(seen, size.ranks)
    return HeldOut(
        last.run.name,
        logged(last),
        model.seconds(size, grown.at(size), own),
    )


def band(
    rows: Sequence[Row],
    rates: Mapping[int, Rates],
    sizes: Sequence[tuple[Size, Rates]],
    draws: int = 200,
) -> np.ndarray:
    """Seconds at every size by models of runs that were drawn anew with replacement.

    Returns:
        [draw, size].
    """
    known = [r for r in rows if r.stages]
    random = np.random.default_rng(0)
    found = []
    for _ in range(draws):
        picked = [known[i] for i in random.integers(len(known), size=len(known))]
        model, grown = _fit(picked, rates), growth(picked)
        found.append([model.seconds(s, grown.at(s), own) for s, own in sizes])
    return np.array(found)
