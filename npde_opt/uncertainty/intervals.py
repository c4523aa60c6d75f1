"""Confidence intervals of small unknowns and of figures derived from them, where no field is
unknown:

    Cov = (H_data / s^2 + H_prior)^-1,   p_i +- q sqrt(Cov_ii),   f +- q sqrt(f'^T Cov f'),

with the Gauss-Newton Hessian at the minimizer. s^2 = 2 misfit / (n - k), for n data and k values,
is how far the standard deviations of the data were off; q is then the quantile of Student's t with
n - k degrees of freedom. Where s^2 cannot be told (n <= k) or a robust misfit already allows for
outliers, s = 1 and q is the normal quantile.

Intervals are symmetric in the parameter and carried through its transform, those of a product of
powers in its logarithm. Where the data tell a parameter's values apart far less at an end than at
the minimizer, the end is that of the profile likelihood, or open (None): see `profile`. A figure
derived from such a parameter has no interval. What no datum sees has none: see `information`. At a
bound the interval is that in which J rises by q^2 / 2, g d + 1/2 h d^2, h the curvature with the
other parameters at their best.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
from petsc4py import PETSc

from npde_opt.aliases import Record
from npde_opt.misfits import Huber, StudentT
from npde_opt.objective import ObjectiveAt
from npde_opt.optimizers.information import Information
from npde_opt.packages import statistics
from npde_opt.parameters import GAIN, ParameterSpace, Unknown
from npde_opt.uncertainty.profile import Profile, hessians, reach
from npde_opt.uncertainty.quantiles import t_quantile

LEVEL = 0.95
BROAD = 10.0
"""Standard deviation of a logarithm, eight decades either way at 95 %, from which on nothing is
determined."""
FAR = 1e300
"""In place of an infinite reach."""

Interval = tuple[float | None, float | None] | None
"""Both ends; None for an end that is open, and where nothing is determined."""


@dataclass(frozen=True)
class Entry:
    """One value of a small unknown: p its parameter, g = dJ/dp."""

    name: str
    unknown: Unknown
    p: float
    g: float
    held: bool


class Estimates:
    """Values, intervals and what is not determined, at a point of an objective without unknown
    fields. Collective.

    Args:
        apart: unknowns whose values mean nothing one by one, as the numbers of functions, and have
            no intervals.
    """

    def __init__(
        self,
        space: ParameterSpace,
        at: ObjectiveAt,
        m: PETSc.Vec,
        apart: Collection[str] = (),
    ):
        self.apart = frozenset(apart)
        units = space.units(m)
        sizes = np.array([size for _, _, size in units])
        data, prior = hessians(space, at, [unit for _, unit, _ in units])
        # What the data tell from the end of its range is not held there, however near it is in that
        # range.
        self.entries = _entries(space, at, m, np.diag(data + prior) > GAIN)
        self.freedom = at.objective.data_count - len(self.entries)
        robust = any(
            isinstance(misfit, Huber | StudentT) for misfit in at.objective.misfits
        )
        self.scaled = self.freedom > 0 and not robust
        self.variance = 2 * at.misfit / self.freedom if self.scaled else 1.0
        tail = (1 + LEVEL) / 2
        self.quantile = float(
            t_quantile(self.freedom, tail)
            if self.scaled
            else statistics.NormalDist().inv_cdf(tail)
        )

        # data that are fitted exactly leave no error to estimate
        self.H = data / max(self.variance, 1e-300) + prior
        self.free = np.array([not e.held for e in self.entries])
        on = np.flatnonzero(self.free)
        self.information = Information(self.H[np.ix_(on, on)], sizes[on])
        self._profile = Profile(space, at, m, self.variance)
        self._found: dict[int, Interval] = {}

    @property
    def method(self) -> str:
        """How the intervals were found, in words."""
        if self.scaled:
            return (
                f"{LEVEL:.0%}, Gauss-Newton Hessian, t quantile with {int(self.freedom)} degrees "
                "of freedom, sigma scaled "
                f"by {np.sqrt(self.variance):.3g}"
            )
        return f"{LEVEL:.0%}, Gauss-Newton Hessian, normal quantile, sigma as given"

    def interval(self, i: int) -> Interval:
        """Of the coefficient's value of entry i; None where it is not determined. Collective."""
        if i not in self._found:
            self._found[i] = (
                self._one_sided(i) if self.entries[i].held else self._two_sided(i)
            )
        return self._found[i]

    def _two_sided(self, i: int) -> Interval:
        unknown, p = self.entries[i].unknown, self.entries[i].p
        deviation = self._own_deviation(i)
        if deviation is None:
            return None
        logarithmic = unknown.transform.exponential
        farthest = (
            self.quantile * BROAD / deviation
            if logarithmic and deviation > 0
            else math.inf
        )
        down, up = (self._reach(i, sign, farthest) for sign in (-1.0, 1.0))
        if math.isinf(down) and math.isinf(up):
            return None
        ends = unknown.value(p + deviation * np.array([-min(down, FAR), min(up, FAR)]))
        low, high = np.clip(ends, *unknown.range)
        # An end that is open is that of the range, where there is one.
        low, high = (
            unknown.range[0] if math.isinf(down) else low,
            unknown.range[1] if math.isinf(up) else high,
        )
        return None if math.isinf(low) else float(low), None if math.isinf(
            high
        ) else float(high)

    def _own_deviation(self, i: int) -> float | None:
        """Of the parameter of entry i; None where the data do not determine it."""
        gradient = np.zeros(len(self.entries))
        gradient[i] = 1.0
        deviation = self._deviation(gradient)
        logarithmic = self.entries[i].unknown.transform.exponential
        broad = deviation is None or (logarithmic and deviation > BROAD)
        return None if broad else deviation

    def _reach(self, i: int, sign: float, farthest: float) -> float:
        """How many deviations parameter i can go down (sign -1) or up. Collective."""
        on = np.flatnonzero(self.free)
        column = np.zeros(len(self.entries))
        column[on] = self.information.inverse[:, np.flatnonzero(on == i)[0]]
        if not column[i] > 0:
            return self.quantile
        step = sign * column / math.sqrt(column[i])
        if not self._profile.flattens(i, self.quantile * step):
            return self.quantile
        others = on[on != i]
        change = np.zeros(len(self.entries))

        def rise(t: float) -> float:
            # The other parameters start from where they were best before.
            change[i] = t * step[i]
            return self._profile.best_rise(change, others)

        return reach(rise, self.quantile, farthest)

    def _deviation(self, gradient: np.ndarray) -> float | None:
        return self.information.deviation(gradient[self.free])

    def _one_sided(self, i: int) -> Interval:
        """From the bound into the range: the d of g d + 1/2 h d^2 = q^2 / 2."""
        entry, on = self.entries[i], np.flatnonzero(self.free)
        row = self.H[i, on]
        h = max(float(self.H[i, i] - row @ self.information.inverse @ row), 0.0)
        g, place = abs(entry.g) / max(self.variance, 1e-300), entry.p
        if entry.unknown.transform.saturates:
            # the transform is flat at the ends of its range: in the coefficient itself the
            # objective is not
            place = float(entry.unknown.value(np.array([entry.p]))[0])
            slope = float(np.asarray(entry.unknown.slope(np.array([place])))[0])
            g, h = g / slope, h / slope**2
        root = g + np.sqrt(g**2 + h * self.quantile**2)
        far = place - np.sign(-entry.g) * (
            self.quantile**2 / root if root > 0 else np.inf
        )
        ends = np.array(sorted((place, far)))
        if not entry.unknown.transform.saturates:
            ends = entry.unknown.value(ends)
        low, high = np.clip(ends, *entry.unknown.range)
        return float(low), float(high)

    def deviations(self, name: str, slopes: np.ndarray) -> np.ndarray:
        """Standard deviations of functions of the values of one unknown, by the delta method; NaN
        where the data do not determine one. Held parameters count as known.

        Args:
            slopes: of the functions in the values (count, functions).
        """
        own = [i for i, e in enumerate(self.entries) if e.unknown.name == name]
        scales = np.array([_slope(self.entries[i]) for i in own])
        found = np.full(slopes.shape[1], np.nan)
        gradient = np.zeros(len(self.entries))
        for n, column in enumerate((scales[:, None] * slopes).T):
            gradient[own] = column
            deviation = self._deviation(gradient)
            found[n] = np.nan if deviation is None else deviation
        return found

    def derived(
        self, f: Callable[[Mapping[str, float]], float], slopes: Mapping[str, float]
    ) -> Interval:
        """Of f(k), k by entry, with the given df/dk; None where it is not determined. Held
        parameters count as known."""
        gradient = np.array([slopes.get(e.name, 0.0) * _slope(e) for e in self.entries])
        deviation, value = self._deviation(gradient), f(self._values(0.0))
        if deviation is None:
            return None
        if any(g and self._is_open(i) for i, g in enumerate(gradient)):
            return None
        if not self._is_product(f, value, gradient):
            return value - self.quantile * deviation, value + self.quantile * deviation
        relative = deviation / abs(value)
        if relative > BROAD:
            return None
        ends = sorted(value * np.exp(self.quantile * relative * np.array([-1.0, 1.0])))
        return float(ends[0]), float(ends[1])

    def _is_open(self, i: int) -> bool:
        """Whether the data tell an end of entry i, but not the other one."""
        found = self.interval(i)
        return found is not None and None in found

    def _values(self, change: np.ndarray | float) -> dict[str, float]:
        """The coefficients' values where the parameters are changed."""
        changes = np.broadcast_to(change, len(self.entries))
        return {
            e.name: float(e.unknown.value(np.array([e.p + c]))[0])
            for e, c in zip(self.entries, changes, strict=True)
        }

    def _is_product(
        self,
        f: Callable[[Mapping[str, float]], float],
        value: float,
        gradient: np.ndarray,
    ) -> bool:
        """Whether f is a product of powers of log parameters: its logarithm is linear, also far
        away."""
        logs = all(
            g == 0 or e.unknown.transform.multiplicative
            for g, e in zip(gradient, self.entries, strict=True)
        )
        if value == 0 or not logs:
            return False
        change = 1.0 + 0.1 * np.arange(len(self.entries)) * (-1.0) ** np.arange(
            len(self.entries)
        )
        ratio = f(self._values(change)) / value
        return ratio > 0 and abs(
            np.log(ratio) - float(gradient @ change) / value
        ) < 1e-9 * (1 + abs(np.log(ratio)))

    def undetermined(self) -> list[str]:
        """Parameters that the data do not determine, alone or in combinations, as text."""
        names = [e.name for e in self.entries]
        free = [name for name, on in zip(names, self.free, strict=True) if on]
        found = self.information.combinations(free)
        seen = {
            name
            for name, blind in zip(free, self.information.undetermined, strict=True)
            if not blind
        }
        return found + [
            name
            for i, name in enumerate(names)
            if name in seen and not self._is_determined(i)
        ]

    def _is_determined(self, i: int) -> bool:
        if self.entries[i].unknown.name in self.apart:
            return self.entries[i].held or self._own_deviation(i) is not None
        return self.interval(i) is not None

    def metrics(self) -> Record:
        """Intervals by unknown (None where not determined), with their method, for summary.json."""
        out: Record = {"intervals": self.method}
        if self.scaled:
            out["sigma_estimated_over_given"] = float(np.sqrt(self.variance))
        by_unknown: dict[str, list[list[float | None] | None]] = {}
        for i, entry in enumerate(self.entries):
            if entry.unknown.name in self.apart:
                continue
            found = self.interval(i)
            by_unknown.setdefault(entry.unknown.name, []).append(
                None if found is None else list(found)
            )
        out |= {
            f"{name}_interval": found[0] if len(found) == 1 else found
            for name, found in by_unknown.items()
        }
        undetermined = self.undetermined()
        return out | ({"undetermined": undetermined} if undetermined else {})


def parameter_metrics(
    space: ParameterSpace, at: ObjectiveAt, m: PETSc.Vec, apart: Collection[str] = ()
) -> tuple[Record, Estimates | None]:
    """Values of the small unknowns, and their intervals or why there are none; none of those of
    `apart`. Collective."""
    small = [u for u in space.unknowns if u.block.listed]
    values = {u.name: u.value(space.values(m, u.name)) for u in small}
    out: Record = {
        name: v.tolist() if v.size > 1 else float(v.flat[0])
        for name, v in values.items()
    }
    if not small:
        return out, None
    if len(small) < len(space.unknowns):
        return out | {
            "intervals": "not given: what the unknown fields leave open is not accounted for"
        }, None
    units = space.units(m)
    for _, unit, _ in units:
        unit.destroy()
    if not units:
        return out | {"intervals": "not given: too many values"}, None
    found = Estimates(space, at, m, apart)
    return out | found.metrics(), found


def _slope(entry: Entry) -> float:
    """dk/dp."""
    value = entry.unknown.value(np.array([entry.p]))
    return float(np.broadcast_to(np.asarray(entry.unknown.slope(value)), 1)[0])


def _entries(
    space: ParameterSpace, at: ObjectiveAt, m: PETSc.Vec, told: np.ndarray
) -> list[Entry]:
    """All values in the order of the unknowns; `told` (bool, one a value): the data tell it from
    the ends of its range."""
    gradient, bounds = at.gradient(), space.bounds()
    saturated = space.saturated(m, gradient).astype(float)
    bound = np.zeros_like(saturated)
    if bounds is not None:
        lower, upper, p, g = (
            vec.getArray(readonly=True) for vec in (*bounds, m, gradient)
        )
        bound[:] = ((p <= lower) & (g > 0)) | ((p >= upper) & (g < 0))
        for vec in bounds:
            vec.destroy()
    marks = []
    for values in (saturated, bound):
        marks.append(space.create_vec())
        marks[-1].setArray(values)
    found: list[Entry] = []
    for u in space.unknowns:
        parts = [space.values(vec, u.name).ravel() for vec in (m, gradient, *marks)]
        for i, (p, g, near, on) in enumerate(zip(*parts, strict=True)):
            held = bool(on) or (bool(near) and not told[len(found)])
            found.append(Entry(u.label(i), u, float(p), float(g), held))
    for mark in marks:
        mark.destroy()
    return found
