"""How far a parameter can go before the objective says no, the others at their best:

    rise(t) = min over p_o of J(p_i + t s_i, p_o) - J(p),   s_i the standard deviation of p_i.

The model of an interval is rise = t^2 / 2. Where a parameter saturates, the data stop to tell its
values apart: the curvature d^2 J / dp_i^2 falls on the way to the end, rise(q) stays below q^2 / 2,
and the interval goes on, maybe for ever.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from petsc4py import PETSc

from npde_opt.errors import SolverError
from npde_opt.objective import ObjectiveAt
from npde_opt.parameters import ParameterSpace

FLAT = 0.2
"""What is left of the curvature at the end of an interval where the end is looked at closely."""
ENOUGH = 0.7
"""The part of the model's rise from which on the model's end is kept."""
DOUBLINGS = 12
HALVINGS = 5
STEPS = 6
"""Gauss-Newton steps at most that bring the other parameters to their best."""
NEAR = 0.05
"""Decrement at which they are there."""


class Profile:
    """J around a minimizer of small unknowns, in units of the estimated noise. All calls are
    collective.

    Args:
        at: of the objective at the minimizer m. variance: by which the misfit is divided.
    """

    def __init__(
        self, space: ParameterSpace, at: ObjectiveAt, m: PETSc.Vec, variance: float
    ):
        self.space, self.at, self.m = space, at, m
        self.variance = max(variance, 1e-300)

    def moved(self, change: np.ndarray) -> PETSc.Vec:
        """The parameters, changed by (n,)."""
        m = self.m.copy()
        for value, (_, unit, _) in zip(change, self.space.units(self.m), strict=True):
            m.axpy(float(value), unit)
            unit.destroy()
        return m

    def rise(self, there: ObjectiveAt) -> float:
        """Of J from the minimizer to a point, inf where J is not defined there."""
        try:
            misfit = there.misfit - self.at.misfit
            found = (
                misfit / self.variance + there.regularization - self.at.regularization
            )
        except SolverError:
            return math.inf
        return found if math.isfinite(found) else math.inf

    def flattens(self, i: int, change: np.ndarray) -> bool:
        """Whether the data tell values of parameter i apart far less after this change than at the
        minimizer."""
        m = self.moved(change)
        there = self.at.objective.linearize(m)
        units = [unit for _, unit, _ in self.space.units(self.m)]
        try:
            defined = math.isfinite(self.rise(there))
            return defined and there.information(units[i]) < FLAT * self.at.information(
                units[i]
            )
        except SolverError:
            return False
        finally:
            there.destroy()
            for vec in (m, *units):
                vec.destroy()

    def best_rise(self, change: np.ndarray, others: np.ndarray) -> float:
        """The least rise that the other parameters (indices) allow: their part of `change` is
        brought there."""
        m = self.moved(change)
        there = self.at.objective.linearize(m)
        best = self.rise(there)
        try:
            for _ in range(STEPS if len(others) and math.isfinite(best) else 0):
                g, H = self._model(there, m, others)
                step = -np.linalg.lstsq(H, g, rcond=1e-12)[0]
                if -0.5 * float(g @ step) < NEAR:
                    break
                found, there, m = self._lower(change, step, others, best, there, m)
                if not found < best:
                    break
                best = found
        except SolverError:
            # Without the derivatives the rise so far is all that is known.
            pass
        finally:
            there.destroy()
            m.destroy()
        return best

    def _model(
        self, there: ObjectiveAt, m: PETSc.Vec, others: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Gradient and Gauss-Newton Hessian of the scaled J in the other parameters."""
        data, prior = hessians(
            self.space, there, [unit for _, unit, _ in self.space.units(m)]
        )
        pull = m.duplicate()
        there.regularization_gradient(pull)
        whole, own = (constants(self.space, vec) for vec in (there.gradient(), pull))
        pull.destroy()
        g = (whole - own) / self.variance + own
        H = data / self.variance + prior
        return g[others], H[np.ix_(others, others)]

    def _lower(
        self,
        change: np.ndarray,
        step: np.ndarray,
        others: np.ndarray,
        best: float,
        there: ObjectiveAt,
        m: PETSc.Vec,
    ) -> tuple[float, ObjectiveAt, PETSc.Vec]:
        """A point along the step with less rise, of which `change` then tells, or the present one;
        destroys the other."""
        for shortened in (1.0, 0.25, 0.0625):
            tried = change.copy()
            tried[others] += shortened * step
            next_m = self.moved(tried)
            next_there = self.at.objective.linearize(next_m)
            found = self.rise(next_there)
            if found < best:
                there.destroy()
                m.destroy()
                change[:] = tried
                return found, next_there, next_m
            next_there.destroy()
            next_m.destroy()
        return best, there, m


def reach(rise: Callable[[float], float], q: float, farthest: float) -> float:
    """The t >= q at which J has risen by q^2 / 2, inf where it has not before `farthest` or 2^12 q.
    Collective.

    Args:
        rise: of t > 0; inf where J is not defined. q: the quantile. farthest: t from which on
            nothing is determined.
    """
    wanted = 0.5 * q**2
    if rise(q) >= ENOUGH * wanted:
        return q
    inside, outside = q, 2.0 * q
    for _ in range(DOUBLINGS):
        found = rise(outside) if outside < farthest else math.inf
        if math.isinf(found):
            return math.inf
        if found >= wanted:
            return _between(rise, wanted, inside, outside)
        inside, outside = outside, 2.0 * outside
    return math.inf


def _between(
    rise: Callable[[float], float], wanted: float, inside: float, outside: float
) -> float:
    """The t between these two at which the rise is as wanted, not below it."""
    for _ in range(HALVINGS):
        middle = 0.5 * (inside + outside)
        if rise(middle) < wanted:
            inside = middle
        else:
            outside = middle
    return outside


def constants(space: ParameterSpace, vec: PETSc.Vec) -> np.ndarray:
    """(n,) all small values of a parameter vector, in the order of the unknowns. Collective."""
    return np.concatenate([space.values(vec, u.name).ravel() for u in space.unknowns])


def hessians(
    space: ParameterSpace, at: ObjectiveAt, units: list[PETSc.Vec]
) -> tuple[np.ndarray, np.ndarray]:
    """(n, n) the data's and the priors' Gauss-Newton Hessian; destroys the unit vectors.
    Collective."""
    whole, prior = np.zeros((2, len(units), len(units)))
    image, part = space.create_vec(), space.create_vec()
    for j, unit in enumerate(units):
        at.hessian(unit, image, True)
        at.regularization_hessian(unit, part)
        for u in space.unknowns:
            if u.name not in at.objective.regularizers:
                space.zero_block(part, u.name)
        whole[:, j] = constants(space, image)
        prior[:, j] = constants(space, part)
    for vec in (image, part, *units):
        vec.destroy()
    return whole - prior, prior
