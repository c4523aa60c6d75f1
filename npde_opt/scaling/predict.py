"""Seconds and efficiency on ranks that were not measured.

Rates of other numbers of ranks: bandwidth of a rank as it is on a full node (the least that was
measured), or as given; messages/s as measured, which are the processor's; a reduction costs log2(P)
times what it cost measured, or the given latency.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from npde_opt.errors import InputError
from npde_opt.scaling.collect import Row
from npde_opt.scaling.growth import Growth, Size, growth, size_of
from npde_opt.scaling.model import PARTS, Model, Rates, band, fit

HALF = 0.5
QUANTILES = (0.05, 0.95)


@dataclass(frozen=True)
class Network:
    """Of the machine that is predicted; None: as it was measured.

    Attributes:
        latency: seconds of a message. link: bytes/s of a rank. bandwidth: of its memory, bytes/s.
    """

    latency: float | None = None
    link: float | None = None
    bandwidth: float | None = None

    def check(self) -> None:
        """Raises InputError for a rate that cannot be."""
        for name in ("latency", "link", "bandwidth"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InputError(f"--{name}", value, "a positive number")

    def rates(self, measured: Mapping[int, Rates], ranks: int) -> Rates:
        """With so many ranks."""
        several = {p: r for p, r in measured.items() if p > 1}
        given = (self.latency, self.link, self.bandwidth)
        if ranks in measured and given == (None, None, None):
            return measured[ranks]
        steps = math.log2(max(ranks, 2))
        tree = [r.reduction / math.log2(p) for p, r in several.items()]
        latency = self.latency or max(
            (r.latency for r in several.values()), default=0.0
        )
        hop = self.latency or max(tree, default=0.0)
        alone = ranks == 1
        return Rates(
            self.bandwidth or min(r.bandwidth for r in measured.values()),
            0.0 if alone else hop * steps,
            0.0 if alone else latency,
            0.0
            if alone
            else self.link or max((r.link for r in several.values()), default=0.0),
            0.0
            if alone
            else min((r.message_rate for r in several.values()), default=0.0),
        )


@dataclass(frozen=True)
class Point:
    """One number of ranks.

    Attributes:
        seconds: predicted; low, high: of nine models in ten.
        efficiency: of the first point's.
        parts: seconds by PARTS.
    """

    size: Size
    seconds: float
    low: float
    high: float
    efficiency: float
    parts: dict[str, float]


@dataclass(frozen=True)
class Curve:
    """From few ranks to many."""

    kind: str
    points: tuple[Point, ...]

    def half(self) -> Point | None:
        """The first whose efficiency is below one half."""
        return next((p for p in self.points if p.efficiency < HALF), None)

    def cause(self) -> str:
        """What grew most against a perfect run, up to where one half is lost or to the end."""
        first, last = self.points[0], self.half() or self.points[-1]
        ideal = first.size.load / last.size.load if self.kind == "strong" else 1.0
        grown = {k: last.parts[k] - first.parts[k] / ideal for k in PARTS}
        return max(grown, key=lambda k: grown[k])

    def said(self) -> str:
        """In one line."""
        point = self.half()
        end = self.points[-1]
        if point is None:
            return (
                f"{self.kind}: {100 * end.efficiency:.0f} % at {end.size.ranks:,} ranks, "
                f"most of the loss by {self.cause()}"
            )
        return (
            f"{self.kind}: below 50 % from {point.size.ranks:,} ranks on "
            f"({point.size.load:,.0f} unknowns a rank), by {self.cause()}"
        )


def nodes(text: str) -> int:
    """Ranks of '4096x128', nodes times ranks of a node.

    Raises:
        InputError: for anything else.
    """
    found = re.fullmatch(r"(\d+)x(\d+)", text)
    ranks = int(found[1]) * int(found[2]) if found else 0
    if ranks < 1:
        raise InputError("--predict", text, "NODESxRANKS, as 4096x128")
    return ranks


def check_asked(ranks: int, groups: int, measured: Iterable[int]) -> None:
    """Raises InputError for a prediction that cannot be made.

    Args:
        measured: numbers of ranks of runs.
    """
    if max(measured, default=1) == 1:
        raise InputError(
            "--predict", "runs on one rank", "some on several, which send messages"
        )
    if ranks % groups:
        raise InputError(
            "--predict-groups", groups, f"a divisor of the {ranks:,} ranks"
        )


def curves(
    rows: Sequence[Row],
    rates: Mapping[int, Rates],
    ranks: int,
    network: Network,
    load: float | None = None,
    groups: int = 1,
) -> list[Curve]:
    """Strong scaling of the largest grid that was measured, weak scaling at its load or at a given
    one.

    Args:
        load: unknowns a rank of the weak curve.
    """
    network.check()
    check_asked(ranks, groups, (r.run.ranks for r in rows if r.stages))
    model, grown = fit(rows, rates), growth(rows)
    largest = size_of(max(rows, key=lambda r: r.unknowns))
    share = load or max(r.load for r in rows)
    steps = [groups * 2**k for k in range(int(math.log2(max(1, ranks // groups))) + 1)]
    if steps[-1] != ranks:
        steps.append(ranks)
    strong = [replace(largest, ranks=p, groups=groups) for p in steps]
    strong = [s for s in strong if s.load >= 1]
    weak = [Size(share * p / groups, largest.axes, p, groups) for p in steps]
    at = [(s, network.rates(rates, s.ranks)) for s in (*strong, *weak)]
    bands = np.quantile(band(rows, rates, at), QUANTILES, axis=0)
    first = len(strong)
    return [
        _curve("strong", at[:first], model, grown, bands[:, :first]),
        _curve("weak", at[first:], model, grown, bands[:, first:]),
    ]


def _curve(
    kind: str,
    at: Sequence[tuple[Size, Rates]],
    model: Model,
    grown: Growth,
    bands: np.ndarray,
) -> Curve:
    """Of sizes and the rates with as many ranks; bands [low or high, size]."""
    low, high = bands
    sizes = [size for size, _ in at]
    parts = [model.parts(s, grown.at(s), own) for s, own in at]
    seconds = [sum(p.values()) for p in parts]
    points = []
    for k, size in enumerate(sizes):
        ideal = seconds[0]
        if kind == "strong":
            ideal *= sizes[0].ranks / size.ranks
        points.append(
            Point(
                size,
                seconds[k],
                float(low[k]),
                float(high[k]),
                ideal / seconds[k],
                parts[k],
            )
        )
    return Curve(kind, tuple(points))
