"""Intervals by profile likelihood: of one parameter g(m) = m_i, or functional, after the other

    r(c) = +- sqrt(2 (min_{g(m) = c} J(m) - J(m*))),

which is (c - g(m*)) over its deviation where all is linear and normal. The interval of 95 % is
where |r| <= 1.96, that is, where chi^2 is higher by 3.84 at most. It needs no such form: an end may
be nearer than the other, and where r stays below however far c goes, the data do not bound it.

The minimum over the rest is sought from the last one outward, moved along the line through the two
last ones, at first along the posterior covariance. A parameter is held; a functional is pulled to c
(pulled.py), and the profile known where it then is.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass

import numpy as np
from petsc4py import PETSc

from npde_opt.errors import InputError, SolverError
from npde_opt.objective import Objective
from npde_opt.optimizers import Settings, minimize
from npde_opt.posterior.laplace import Laplace
from npde_opt.posterior.pulled import Gradient, Pulled
from npde_opt.posterior.rest import Rest

END = math.sqrt(3.841458820694124)
"""r at an end of an interval of 95 %."""
STEPS, GROWTH, MOST = 3, 3.0, 24
"""Steps from the answer to an end of a normal posterior, by how much a step may be longer than the
last one, and how many there may be."""
CLOSE, REFINED = 2e-3, 8
"""Distance of r from that of the end at which it is found, relative to it, and steps for that."""
FAR_LOG, FAR = 30.0, 1e3
"""Largest distance that is looked at: of logarithms, of others in natural sizes, and of functionals
in deviations."""
EXACT = 1e-5
"""Decrement of the minima over the rest."""
LOWER = 0.02
"""Of chi^2: where it is that much lower elsewhere, the answer is no minimum."""
UNBOUNDED, AT_BOUND, NO_STATE, NO_VALUE = (
    "not bounded by the data",
    "at its bound",
    "no state beyond",
    "takes no value beyond",
)
PULL = 0.2
"""Width of a pull, in deviations."""
STUCK = 0.05
"""Share of a step, without which a functional that is pulled takes no value beyond."""


@dataclass(frozen=True)
class End:
    """Of an interval.

    Attributes:
        c: the parameter there; of an open end the last that was looked at.
        why: '' where r comes to that of an end; else what stands against it.
    """

    c: float
    why: str = ""

    @property
    def known(self) -> bool:
        """Whether the interval ends there."""
        return self.why in ("", AT_BOUND)


@dataclass(frozen=True)
class Profile:
    """Of a parameter or functional.

    Attributes:
        label: its name. answer: c at the minimizer.
        c, r: (n,) along the profile, c increasing.
        low, high: ends of 95 %.
        deviation: of the normal approximation.
        lower: by how much chi^2 is lower elsewhere than at the answer, 0 where it is not.
    """

    label: str
    answer: float
    c: np.ndarray
    r: np.ndarray
    low: End
    high: End
    deviation: float
    lower: float = 0.0


@dataclass(frozen=True)
class Number:
    """A parameter that is profiled.

    Attributes:
        unit: 1 in its entry. size: of changes that are natural to it. log: whether it is a
            logarithm.
    """

    label: str
    unit: PETSc.Vec
    size: float
    log: bool

    def far(self, deviation: float) -> float:
        """The largest distance that is looked at."""
        return FAR_LOG if self.log else FAR * self.size

    def step(self, deviation: float) -> float:
        """The first distance."""
        return min(END * deviation / STEPS, self.size)

    def value(self, m: PETSc.Vec) -> float:
        return float(self.unit.dot(m))

    def gradient(self, m: PETSc.Vec) -> tuple[float, PETSc.Vec]:
        """The value and a gradient, which is the caller's."""
        return self.value(m), self.unit.copy()

    def room(self, objective: Objective, sign: float, answer: float) -> float:
        """How far the parameter may go."""
        bounds = objective.bounds()
        if bounds is None:
            return math.inf
        at = self.value(bounds[0] if sign < 0 else bounds[1])
        for vec in bounds:
            vec.destroy()
        return sign * (at - answer)

    def held(self, objective: Objective, c: float, deviation: float) -> Rest:
        """The objective over the rest."""
        return Rest(objective, self.unit)


@dataclass(frozen=True)
class Functional:
    """A functional g of all parameters that is profiled.

    Attributes:
        functional: g(m) and g'(m), which is the caller's. Collective; raises SolverError where a
            state cannot be found.
    """

    label: str
    functional: Gradient

    def far(self, deviation: float) -> float:
        """The largest distance that is looked at."""
        return FAR * deviation

    def step(self, deviation: float) -> float:
        """The first distance."""
        return END * deviation / STEPS

    def value(self, m: PETSc.Vec) -> float:
        value, slope = self.functional(m)
        slope.destroy()
        return value

    def gradient(self, m: PETSc.Vec) -> tuple[float, PETSc.Vec]:
        return self.functional(m)

    def room(self, objective: Objective, sign: float, answer: float) -> float:
        """Not known."""
        return math.inf

    def held(self, objective: Objective, c: float, deviation: float) -> Pulled:
        """The objective with a pull to c."""
        return Pulled(objective, self.functional, c, PULL * deviation)


class Profiler:
    """Profiles of parameters and functionals of an objective. All methods are collective.

    Args:
        laplace: at the minimizer; it stays the caller's.

    Raises:
        SolverError: where no state can be found at the minimizer.
    """

    def __init__(self, laplace: Laplace):
        self.laplace, self.objective = laplace, laplace.objective
        method = "newton" if self.objective.bounds() is None else "bntr"
        self.settings = Settings(
            method, gradient_rtol=0.1, decrement=EXACT, insist=True
        )
        # As exact as the minima over the rest, or r is wrong near it.
        found = minimize(self.objective, laplace.at.m, self.settings)
        self.best, self.least = found.m, found.objective

    def of(self, number: Number | Functional) -> Profile:
        """The profile of a parameter or functional.

        Raises:
            InputError: for a functional that does not change at the minimizer, to first order.
        """
        answer, slope = number.gradient(self.best)
        tangent = slope.duplicate()
        self.laplace.apply(slope, tangent)
        variance = float(slope.dot(tangent))
        slope.destroy()
        if not variance > 0:
            allowed = "one that changes with the unknowns to first order at the answer"
            raise InputError(f"the profile of {number.label}", answer, allowed)
        tangent.scale(1.0 / variance)
        deviation = math.sqrt(variance)
        points, ends, least = {answer: 0.0}, list[End](), 0.0
        for sign in (-1.0, 1.0):
            side = Side(self, number, tangent, sign, answer, deviation)
            ends.append(side.end(number.step(deviation)))
            points |= {answer + sign * t: sign * r for t, r in side.seen}
            least = min(least, side.least)
            side.destroy()
        tangent.destroy()
        c = np.array(sorted(points))
        r = np.array([points[x] for x in c])
        lower = -least if -least > LOWER else 0.0
        return Profile(number.label, answer, c, r, ends[0], ends[1], deviation, lower)

    def destroy(self) -> None:
        self.best.destroy()


class Side:
    """Minima over the rest at distances t from the answer, to one side.

    Args:
        tangent: change of all parameters with this one, by the normal approximation.
        answer, deviation: at the minimizer.

    Attributes:
        t, r, where: distances in increasing order, the moduli of r, and the minima.
        least: of 2 (J - J(m*)).
    """

    def __init__(
        self,
        profiler: Profiler,
        number: Number | Functional,
        tangent: PETSc.Vec,
        sign: float,
        answer: float,
        deviation: float,
    ):
        self.profiler, self.number, self.sign = profiler, number, sign
        self.answer, self.deviation = answer, deviation
        self.tangent, self.least = tangent, 0.0
        self.t, self.r = [0.0], [0.0]
        self.where = [profiler.best.copy()]

    @property
    def seen(self) -> list[tuple[float, float]]:
        return list(zip(self.t, self.r, strict=True))

    def end(self, step: float) -> End:
        """Goes outward to where r is END, from a first step on. Collective."""
        bound = self.number.room(self.profiler.objective, self.sign, self.answer)
        far = self.number.far(self.deviation)
        limit = min(far, bound)
        if limit <= CLOSE * step:
            return self._open(AT_BOUND)
        for _ in range(MOST):
            last = self.t[-1]
            t = min(last + step, limit)
            at, r = self._at(t)
            if math.isinf(r):
                step = (t - last) / 2
                if step < CLOSE * (t or 1.0):
                    return self._open(NO_STATE)
                continue
            if r >= END * (1 - CLOSE):
                return End(self.answer + self.sign * self._crossing())
            if at - last < STUCK * (t - last):
                return self._open(NO_VALUE)
            if at >= limit * (1 - CLOSE):
                return self._open(AT_BOUND if bound <= far else UNBOUNDED)
            step = self._next(r)
        return self._open(UNBOUNDED)

    def _next(self, r: float) -> float:
        """The next step: a third of the way to the end by the slope of r, or the rest of it."""
        last = self.t[-1] - self.t[-2]
        slope = (r - self.r[-2]) / last
        missing, third = END - r, END / STEPS
        if slope * GROWTH * last < third:
            return GROWTH * last
        return (third if missing > 1.5 * third else 1.01 * missing) / slope

    def _open(self, why: str) -> End:
        return End(self.answer + self.sign * self.t[-1], why)

    def _crossing(self) -> float:
        """t where r is END, between the two points around it."""
        for _ in range(REFINED):
            b = next((k for k, r in enumerate(self.r) if r >= END), len(self.r) - 1)
            if abs(self.r[b] - END) <= CLOSE * END:
                return self.t[b]
            share = (END - self.r[b - 1]) / (self.r[b] - self.r[b - 1])
            t = self.t[b - 1] + share * (self.t[b] - self.t[b - 1])
            t, r = self._at(t)
            if math.isinf(r) or abs(r - END) <= CLOSE * END:
                return t
        return t

    def _at(self, t: float) -> tuple[float, float]:
        """A distance that is t or, of a functional, near it, and r there, kept where it is
        finite."""
        start, found = self._start(t), math.inf
        try:
            value, m = self._minimum(start, self.answer + self.sign * self._aim(t))
            at = self.sign * (self.number.value(m) - self.answer)
            # Of parameters to the last digit.
            t = t if isinstance(self.number, Number) else at
        except SolverError:
            value, m = math.inf, start.copy()
        start.destroy()
        if math.isfinite(value):
            above = 2 * (value - self.profiler.least)
            self.least = min(self.least, above)
            found = math.sqrt(max(above, 0.0))
            k = bisect.bisect(self.t, t)
            self.t.insert(k, t)
            self.r.insert(k, found)
            self.where.insert(k, m)
        else:
            m.destroy()
        return t, found

    def _aim(self, t: float) -> float:
        """Where a pull goes to that comes to rest at t: J' = r r' there is its force."""
        if isinstance(self.number, Number):
            return t
        b = min(max(bisect.bisect(self.t, t), 1), len(self.t) - 1)
        slope = 1 / self.deviation
        if b:
            slope = (self.r[b] - self.r[b - 1]) / (self.t[b] - self.t[b - 1])
        r = self.r[b] + slope * (t - self.t[b])
        return t + (PULL * self.deviation) ** 2 * max(r * slope, 0.0)

    def _start(self, t: float) -> PETSc.Vec:
        """Along the line through two minima, at first along the tangent."""
        k = bisect.bisect(self.t, t)
        if len(self.t) == 1:
            start = self.where[0].copy()
            start.axpy(self.sign * t, self.tangent)
            return start
        b = min(max(k, 1), len(self.t) - 1)
        share = (t - self.t[b - 1]) / (self.t[b] - self.t[b - 1])
        start = self.where[b].copy()
        start.scale(share)
        start.axpy(1 - share, self.where[b - 1])
        return start

    def _minimum(self, start: PETSc.Vec, c: float) -> tuple[float, PETSc.Vec]:
        """J and m where it is least."""
        objective = self.profiler.objective
        rest = self.number.held(objective, c, self.deviation)
        m = start.copy()
        if not (isinstance(rest, Rest) and rest.alone):
            m.destroy()
            m = minimize(rest, start, self.profiler.settings).m
        at = objective.linearize(m)
        value = at.value
        at.destroy()
        return value, m

    def destroy(self) -> None:
        for vec in self.where:
            vec.destroy()
