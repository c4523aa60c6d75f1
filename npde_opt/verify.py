"""Checks of derivatives and discretisations by what their errors do; none changes what it tests."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from petsc4py import PETSc

from npde_opt.errors import SolverError


@dataclass(frozen=True)
class TaylorOrders:
    """Observed orders in the step e, inf where a remainder is rounding only.

    first: |J(m + e dm) - J - e g.dm|, 2 for a right gradient; second: with e^2/2 dm.H dm subtracted too, 3 for a
    right Hessian; gradient: |g(m + e dm) - g - e H dm|, 2 for a right Hessian.
    """

    first: float
    second: float
    gradient: float


WIDE = tuple(4e-2 * 4.0**-k for k in range(8))
"""Steps for a problem whose scales are not known."""


def taylor_test(objective: Any, m: PETSc.Vec, dm: PETSc.Vec, steps: Sequence[float] = (4e-2, 2e-2, 1e-2, 5e-3),
                floor: float = 1e-12) -> TaylorOrders:
    """Taylor remainders of an objective's value and gradient at m in direction dm. Collective.

    Remainders below `floor` times the value (the norm of the gradient) are taken for rounding. With the steps WIDE, those
    where the objective is not defined are passed over, and the orders are those of the smallest steps before rounding.
    """
    wide, done = steps is WIDE, []
    firsts, seconds, gradients = [], [], []
    with _counters_kept(objective):
        here = objective.linearize(m)
        value, g, h = here.value, here.gradient(), objective.create_vec()
        here.hessian(dm, h)
        slope, curvature = g.dot(dm), h.dot(dm)
        size = abs(value)
        for e in steps:
            point = m.copy()
            point.axpy(e, dm)
            there = objective.linearize(point)
            try:
                reached, rest = there.value, there.gradient().copy()
            except SolverError:
                if not wide:
                    raise
                reached, rest = math.inf, None
            if rest is None or (wide and not math.isfinite(reached)):
                for owned in (there, point, *([rest] if rest is not None else [])):
                    owned.destroy()
                continue
            done.append(e)
            change = reached - value
            size = max(size, abs(reached))
            firsts.append(abs(change - e * slope))
            seconds.append(abs(change - e * slope - e**2 / 2 * curvature))
            rest.axpy(-1, g)
            rest.axpy(-e, h)
            gradients.append(rest.norm())
            for owned in (rest, there, point):
                owned.destroy()
        norm = g.norm()
        here.destroy()
        h.destroy()
    remainders = ((firsts, floor * size, 2.0), (seconds, floor * size, 3.0), (gradients, floor * norm, 2.0))
    if wide:
        return TaylorOrders(*[_settled(done, errors, least, expected) for errors, least, expected in remainders])
    return TaylorOrders(*[_order(done, errors, least) for errors, least, _ in remainders])


def dot_product_test(linearization: Any, dm: PETSc.Vec, d: Sequence[PETSc.Vec]) -> float:
    """|<J dm, d> - <dm, J^T d>| over the larger of the two; `d` has one data Vec an experiment. Collective."""
    with _counters_kept(linearization.forward):
        images = linearization.apply(dm)
        left = sum(a.dot(b) for a, b in zip(images, d, strict=True))
        back = linearization.apply_adjoint(d)
        right = back.dot(dm)
        for vec in (*images, back):
            vec.destroy()
    return abs(left - right) / max(abs(left), abs(right), 1e-300)


def manufactured_order(solve_error: Callable[[int], float], sizes: Sequence[int]) -> float:
    """Observed order of solve_error(n), the error with n cells an axis, between the two last of `sizes`."""
    errors = [float(solve_error(n)) for n in sizes]
    return _order([1 / n for n in sizes], errors, 0.0)


def _order(steps: Sequence[float], errors: Sequence[float], floor: float) -> float:
    """Order between the last two errors above the floor; inf where fewer than two are. NaN stays NaN."""
    if not all(math.isfinite(e) for e in errors):
        return math.nan
    good = [(s, e) for s, e in zip(steps, errors, strict=True) if e > floor]
    if len(good) < 2:
        return math.inf
    (s0, e0), (s1, e1) = good[-2:]
    return math.log(e0 / e1) / math.log(s0 / s1)


def _settled(steps: Sequence[float], errors: Sequence[float], floor: float, expected: float) -> float:
    """Of the last three orders between neighbouring steps before errors no longer fall, the one nearest to `expected`: a wrong
    derivative shows a lower order in all three. inf where the errors are rounding from the start, NaN where one is or where
    there are fewer than two."""
    if len(steps) < 2 or not all(math.isfinite(e) for e in errors):
        return math.nan
    good = [(s, e) for s, e in zip(steps, errors, strict=True) if e > floor]
    if len(good) < 2:
        return math.inf
    orders: list[float] = []
    for (s0, e0), (s1, e1) in itertools.pairwise(good):
        orders.append(math.log(e0 / e1) / math.log(s0 / s1))
        if orders[-1] < 0.5 and len(orders) > 1:
            orders.pop()
            break
    return min(orders[-3:], key=lambda order: abs(order - expected))


@contextlib.contextmanager
def _counters_kept(counted: Any) -> Iterator[None]:
    """Puts the solve counters back as they were."""
    before = counted.counters.snapshot()
    try:
        yield
    finally:
        vars(counted.counters).update(before)
