"""Functions that a run found: their values where the states of the answer went, with confidence
bands, as tables (NAME.csv), figures (NAME.png) and metrics.

Elsewhere a function is what its form makes of it, which no datum has seen.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.aliases import Numbers, Record
from npde_opt.cases import Case
from npde_opt.cases.learned import function, is_function, ranges, values
from npde_opt.cases.sought_tables import UnknownSection
from npde_opt.ensemble import Ensemble
from npde_opt.forward import Steady
from npde_opt.parameters import ParameterSpace
from npde_opt.terms.state import State
from npde_opt.uncertainty.intervals import Estimates

if TYPE_CHECKING:
    from npde_opt.forward import Evolution, Linearization
    from npde_opt.forward.evolution_point import EvolutionPoint

BINS = {1: 100, 2: 30}
"""Intervals a variable in which a function counts as seen or not; of more variables FEW."""
FEW = 12
GAP = 0.1
"""Share of a range between two values of states that counts as seen."""
STATES = 100
"""Of a trajectory that are looked at, at most."""


class Seen:
    """Where a function was called: counts [bin of v_1, bin of v_2, ...] over a box."""

    def __init__(self, box: list[tuple[float, float]]):
        bins = BINS.get(len(box), FEW)
        self.edges = [np.linspace(low, high, bins + 1) for low, high in box]
        self.counts = np.zeros((bins,) * len(box))
        self.alike = [True] * len(box)
        """Whether a variable is one number in all cells, as the time is: by itself it has gaps."""

    def add(self, call: list[Numbers]) -> None:
        self.alike = [
            a and np.ndim(v) == 0 for a, v in zip(self.alike, call, strict=True)
        ]
        points = [
            x.ravel() for x in np.broadcast_arrays(*[np.asarray(v) for v in call])
        ]
        inside = [
            np.clip(x, e[0], e[-1]) for x, e in zip(points, self.edges, strict=True)
        ]
        self.counts += np.histogramdd(np.array(inside).T, self.edges)[0]

    def where(self, counts: np.ndarray) -> np.ndarray:
        """Bins with counts, and between them: within GAP of the range, and at any distance where a
        variable is alike in all cells."""
        found = counts > 0
        for d, alike in enumerate(self.alike):
            width = counts.shape[d] if alike else max(int(GAP * counts.shape[d]), 1)
            found = np.apply_along_axis(_closed, d, found, width)
        return found


def _closed(marked: np.ndarray, width: int) -> np.ndarray:
    """With the gaps between marked places of at most so many places."""
    places, found = np.flatnonzero(marked), marked.copy()
    for a, b in zip(places[:-1], places[1:], strict=True):
        if b - a - 1 <= width:
            found[a:b] = True
    return found


@dataclass
class Table:
    """Values of a function over a box.

    Args:
        lines: coordinates by variable, the middles of the bins.
        value, low, high, true: arrays over them; low and high are NaN where the data do not tell
            the function, and everywhere where there is no band; None: not known.
        seen: bool, where the states went.
        banded: whether there is a band.
    """

    unknown: UnknownSection
    lines: list[np.ndarray]
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    true: np.ndarray | None
    seen: np.ndarray
    banded: bool

    def csv(self) -> str:
        """One row a point."""
        grid = np.meshgrid(*self.lines, indexing="ij")
        columns = [*grid, self.value, self.low, self.high, self.seen.astype(float)]
        names = [*self.unknown.of, "value", "low", "high", "seen"]
        if self.true is not None:
            columns, names = [*columns, self.true], [*names, "true"]
        out = io.StringIO()
        rows = np.column_stack([c.ravel() for c in columns])
        header = ",".join(names)
        np.savetxt(out, rows, fmt="%.10g", delimiter=",", header=header, comments="")
        return out.getvalue()

    def draw(self, path: Path, axis: str) -> None:
        """A line with its band, or a map; of three variables and more nothing. On one rank."""
        from npde_opt.figures.functions import plot_function, plot_surface

        u = self.unknown
        labels = [axis if name == "t" else name for name in u.of]
        if len(self.lines) == 1:
            plot_function(
                path,
                self.lines[0],
                self.value,
                self.seen,
                (self.low, self.high) if self.banded else None,
                self.true,
                name=f"{u.name}({u.of[0]})",
                unit=u.unit,
                variable=labels[0],
            )
        elif len(self.lines) == 2:
            name = f"{u.name}({', '.join(u.of)})"
            plot_surface(
                path,
                self.lines,
                self.value,
                self.seen,
                name=name,
                unit=u.unit,
                variables=labels,
            )

    def metrics(self) -> Record:
        """Values at the ends of what is seen, and what is said of them."""
        u, on = self.unknown, self.seen
        found: Record = {}
        if self.true is not None and on.any():
            wrong = np.linalg.norm((self.value - self.true)[on])
            found[f"relative_error_{u.name}"] = float(
                wrong / np.linalg.norm(self.true[on])
            )
        found[f"{u.name}_learned"] = self._said()
        return found

    def _said(self) -> str:
        u, on = self.unknown, self.seen
        if not on.any():
            return "nowhere seen by the states"
        parts = []
        for d, (name, line) in enumerate(zip(u.of, self.lines, strict=True)):
            others = tuple(e for e in range(on.ndim) if e != d)
            there = line[on.any(axis=others)]
            parts.append(f"{name} {there[0]:.4g} ... {there[-1]:.4g}")
        ends = self.value[on]
        text = f"{ends.min():.4g} ... {ends.max():.4g} over {', '.join(parts)}"
        if on.mean() < 1:
            text += f" ({on.mean():.0%} of its range is seen)"
        return text + self._band_said()

    def _band_said(self) -> str:
        if not self.banded:
            return ", without a band"
        told = self.seen & np.isfinite(self.low)
        if not told.any():
            return ", not determined by the data"
        half = float(np.max((self.high - self.low)[told]) / 2)
        text = f", 95 % band +-{half:.3g} at most"
        left = self.seen & ~told
        if left.any():
            text += f", not determined in {left.sum() / self.seen.sum():.0%} of it"
        return text


def tables(
    case: Case,
    space: ParameterSpace,
    m: PETSc.Vec,
    forward: Steady | Evolution,
    lin: Linearization | EvolutionPoint,
    ensemble: Ensemble,
    estimates: Estimates | None,
) -> list[Table]:
    """Of all unknown functions. Collective over all groups."""
    sought = [u for u in case.table.unknown if is_function(u)]
    if not sought:
        return []
    seen = {u.name: Seen(ranges(u)) for u in sought}
    for calls in _calls(forward, lin):
        for name, called in calls.items():
            for call in called:
                seen[name].add(call)
    found = []
    for u in sought:
        counts = reductions.total(space.comm, seen[u.name].counts)
        counts = reductions.total(ensemble.across, counts)
        numbers = space.unknown(u.name).value(space.values(m, u.name))
        found.append(
            _table(
                u, seen[u.name].edges, seen[u.name].where(counts), numbers, estimates
            )
        )
    return found


def _calls(
    forward: Steady | Evolution, lin: Linearization | EvolutionPoint
) -> Iterator[dict[str, list[list[Numbers]]]]:
    """Where functions are called in the states of this group's experiments. Collective."""
    terms = [t.at(lin.k) for t in forward.equation.nonlinear]
    times = np.zeros(1) if isinstance(forward, Steady) else forward.times
    every = max(times.size // STATES, 1)
    for e in lin.members:
        for n, u in enumerate(lin.states(e)):
            if n % every == 0 or n == times.size - 1:
                state = State(forward.grid, u, float(times[n]))
                yield from (term.points(state) for term in terms)


def _table(
    u: UnknownSection,
    edges: list[np.ndarray],
    seen: np.ndarray,
    numbers: np.ndarray,
    estimates: Estimates | None,
) -> Table:
    f = function(u)
    lines = [(e[1:] + e[:-1]) / 2 for e in edges]
    grid = np.meshgrid(*lines, indexing="ij")
    s = f.at(*grid).value(numbers, (0,) * f.variables)
    value = f.link.value(s)
    low = high = np.full(value.shape, np.nan)
    if estimates is not None:
        slopes = f.at(*grid).jacobian(numbers).reshape(f.count, -1)
        spread = estimates.quantile * estimates.deviations(u.name, slopes).reshape(
            value.shape
        )
        ends = f.link.value(s - spread), f.link.value(s + spread)
        low, high = np.minimum(*ends), np.maximum(*ends)
    true = None if u.truth is None else values(u, u.truth, "truth", *grid)
    return Table(u, lines, value, low, high, true, seen, estimates is not None)
