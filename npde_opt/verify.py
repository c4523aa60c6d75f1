"""Checks of derivatives and discretisations by what their errors do; none changes what it tests.

For J with gradient g and Hessian H at m, a direction dm and steps e that fall until J is rounding:

    r1(e) = |J(m + e dm) - J - e g.dm|             order 2 for a right gradient, 1 for a wrong one
    r2(e) = |J(m + e dm) - J - e g.dm - e^2/2 dm.H dm|       order 3 for a right Hessian
    r3(e) = |g(m + e dm) - g - e H dm|                       order 2 for a right Hessian

Beside the orders, g.dm, dm.H dm and H dm are compared with central differences (see
differences.py). What neither can tell does not pass.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from petsc4py import PETSc

from npde_opt.differences import Comparison, best, compare, compare_second, noise, order
from npde_opt.errors import SolverError
from npde_opt.forward.interface import Counters
from npde_opt.linear.accuracy import tight
from npde_opt.observations import DataBlock
from npde_opt.parameters import ParameterSpace

WIDE = tuple(4e-2 * 4.0**-k for k in range(8))
"""The first steps; they go on in the same ratio until rounding."""

LIMIT = 1e-5
"""Relative difference between a derivative and central differences up to which it is right."""

FLOOR = 1e-13
"""Rounding and solver error of a value, relative to it."""

NEGLIGIBLE = 1e-6
"""Relative change of a gradient over the first step that is too small for the order of a Hessian's
row to matter."""

FEWEST, MOST = 6, 24
"""Steps."""

ORDERS = {"gradient": 1.8, "Hessian": 2.6, "Hessian's rows": 1.8}
"""Least orders of r1, r2, r3."""


class HasCounters(Protocol):
    @property
    def counters(self) -> Counters: ...


class Point(Protocol):
    """An objective at one point."""

    @property
    def value(self) -> float: ...
    def gradient(self) -> PETSc.Vec: ...
    def hessian(self, dm: PETSc.Vec, out: PETSc.Vec) -> None: ...
    def destroy(self) -> None: ...


class Checked(HasCounters, Protocol):
    """What has derivatives to look at."""

    def linearize(self, m: PETSc.Vec) -> Point: ...


class Counted(Protocol):
    """A linearization that knows its forward map."""

    @property
    def forward(self) -> HasCounters: ...
    def apply(self, dm: PETSc.Vec) -> list[DataBlock]: ...
    def apply_adjoint(self, d: Sequence[DataBlock]) -> PETSc.Vec: ...


@dataclass(frozen=True)
class TaylorOrders:
    """What a Taylor test found.

    first, second, gradient: orders of r1, r2, r3; inf where a remainder is rounding at all steps
        (the derivative is exact), NaN where a value is not finite or nothing depends on the
        direction.
    slope, curvature: g.dm and dm.H dm beside central differences of J. rows: H dm beside those of
        g, by name of an unknown ("" where the objective has no names). A gradient and a Hessian
        that are wrong by the same factor fit each other: where the gradient is 0 only the curvature
        tells.
    depends: whether J or g change along the direction at all.
    hidden: 'gradient' and the names of rows of the Hessian of which rounding of J, or of g, leaves
        nothing to be told: not by differences, and not by an order.
    """

    first: float
    second: float
    gradient: float
    slope: Comparison
    curvature: Comparison
    rows: Mapping[str, Comparison] = field(default_factory=dict)
    depends: bool = True
    hidden: tuple[str, ...] = ()

    def problems(self) -> list[str]:
        """What is wrong, in words; empty for right derivatives."""
        if not self.depends:
            return ["nothing depends on it"]
        found = []
        # Where a remainder is not yet in its first term above rounding (a total variation, whose
        # third derivative varies fast) its order is low for a right derivative too; differences
        # that are exact enough tell better.
        rows = all(
            row.resolved and row.agrees(LIMIT) for row in self.rows.values() if row.size
        )
        slope = self.slope.resolved and self.slope.agrees(LIMIT)
        curved = slope or (self.curvature.resolved and self.curvature.agrees(LIMIT))
        told = (slope, rows and curved, rows)
        reached = (self.first, self.second, self.gradient)
        for (name, least), found_order, known in zip(
            ORDERS.items(), reached, told, strict=True
        ):
            if not found_order >= least and not (known and math.isfinite(found_order)):
                found.append(f"{name} (order {found_order:.2f})")
        if not self.slope.agrees(LIMIT):
            found.append(f"gradient (differs by {self.slope.relative:.1e})")
        if not self.curvature.agrees(LIMIT):
            found.append(
                f"Hessian along the direction (differs by {self.curvature.relative:.1e})"
            )
        for name, row in self.rows.items():
            if not row.agrees(LIMIT):
                found.append(
                    f"Hessian{' row ' + name if name else ''} (differs by {row.relative:.1e})"
                )
        return found + [
            f"{name} (cannot be told: rounding or solver error hides it)"
            for name in self.hidden
        ]


def taylor_test(
    objective: Checked,
    m: PETSc.Vec,
    dm: PETSc.Vec,
    steps: Sequence[float] = WIDE,
    floor: float = FLOOR,
    apart: bool = True,
) -> TaylorOrders:
    """Taylor remainders and central differences of an objective at m in direction dm. Collective.

    Args:
        objective: `linearize(m)` gives a point with `value`, `gradient()`, `hessian(dm, out)` and
            `destroy()`.
        steps: the first and largest ones, falling; those where the objective is not defined are
            passed over, and they go on in the ratio of the last two until the values are rounding.
        floor: rounding of a value (of the gradient's norm), relative to it.
        apart: whether a direction in several unknowns is also taken unknown by unknown, for the
            worst: what one of them contributes may be too little to be seen beside the others.

    Solves are tight inside (linear/accuracy.py), unless the user gave a tolerance.
    """
    with tight(), _counters_kept(objective):
        parts = _parts(objective, dm) if apart else []
        found = [
            _along(objective, m, direction, steps, floor) for direction in (dm, *parts)
        ]
        for part in parts:
            part.destroy()
    return _worst(found)


def _along(
    objective: Checked,
    m: PETSc.Vec,
    dm: PETSc.Vec,
    steps: Sequence[float],
    floor: float,
) -> TaylorOrders:
    line = _Line(objective, m, dm)
    try:
        _walk(line, steps)
        return line.orders(floor)
    finally:
        line.destroy()


def _parts(objective: Checked, dm: PETSc.Vec) -> list[PETSc.Vec]:
    """dm in one unknown each, where it is in several."""
    space = getattr(objective, "space", None)
    if space is None or len(space.unknowns) < 2:
        return []
    found = []
    for u in space.unknowns:
        block, part = space.block_vec(dm, u.name), space.create_vec()
        space.add_block(part, u.name, block)
        if block.norm() > 0:
            found.append(part)
        else:
            part.destroy()
        block.destroy()
    return found if len(found) > 1 else []


def _worst(found: Sequence[TaylorOrders]) -> TaylorOrders:
    """NaN is worse than any order."""
    if len(found) == 1:
        return found[0]
    first, second, gradient = (
        float(np.min([getattr(o, name) for o in found]))
        for name in ("first", "second", "gradient")
    )
    slope, curvature = (
        max((getattr(o, name) for o in found), key=_wrongness)
        for name in ("slope", "curvature")
    )
    names = {name for o in found for name in o.rows}
    rows = {
        name: max((o.rows[name] for o in found if name in o.rows), key=_wrongness)
        for name in sorted(names)
    }
    hidden = dict.fromkeys(name for o in found for name in o.hidden)
    return TaylorOrders(
        first,
        second,
        gradient,
        slope,
        curvature,
        rows,
        all(o.depends for o in found),
        tuple(hidden),
    )


def _wrongness(comparison: Comparison) -> tuple[bool, bool, float]:
    return (
        not math.isfinite(comparison.size),
        not comparison.agrees(LIMIT),
        comparison.relative,
    )


def _walk(line: _Line, steps: Sequence[float]) -> None:
    """Takes the steps, and goes on until they are rounding."""
    ratio, e = (steps[-1] / steps[-2] if len(steps) > 1 else 0.25), steps[0]
    for k in range(MOST):
        e = steps[k] if k < len(steps) else e * ratio
        if line.take(e) and len(line.steps) >= FEWEST and line.exhausted():
            return


class _Line:
    """Values and gradients at m +- e dm."""

    def __init__(self, objective: Checked, m: PETSc.Vec, dm: PETSc.Vec):
        self.objective, self.m, self.dm = objective, m, dm
        here = objective.linearize(m)
        try:
            self.value, self.g = float(here.value), here.gradient().copy()
            self.h = self.g.duplicate()
            here.hessian(dm, self.h)
        finally:
            here.destroy()
        self.slope, self.curvature = self.g.dot(dm), self.h.dot(dm)
        self.steps: list[float] = []
        self.plus: list[float] = []
        self.minus: list[float] = []
        self.changes: list[float] = []
        self.rests: list[float] = []
        self.bends: list[np.ndarray] = []
        self.sizes: list[float] = []
        self._central: PETSc.Vec | None = None
        self._better: PETSc.Vec | None = None
        self.rows: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.space: ParameterSpace | None = getattr(objective, "space", None)
        self.names = (
            [u.name for u in self.space.unknowns] if self.space is not None else [""]
        )

    def norms(self, vec: PETSc.Vec) -> np.ndarray:
        """One an unknown."""
        if self.space is None:
            return np.array([vec.norm()])
        found = []
        for name in self.names:
            block = self.space.block_vec(vec, name)
            found.append(block.norm())
            block.destroy()
        return np.array(found)

    def _at(self, e: float) -> tuple[float, PETSc.Vec] | None:
        """Value and gradient, or None where they are not defined."""
        point = self.m.copy()
        point.axpy(e, self.dm)
        there = None
        try:
            there = self.objective.linearize(point)
            value = float(there.value)
            return (value, there.gradient().copy()) if math.isfinite(value) else None
        except SolverError:
            return None
        finally:
            point.destroy()
            if there is not None:
                there.destroy()

    def take(self, e: float) -> bool:
        """Both sides of m; whether J is defined on both. Below a step where it was, being undefined
        counts as NaN."""
        up = self._at(e)
        down = self._at(-e) if up is not None else None
        if up is None or down is None:
            if up is not None:
                up[1].destroy()
            if self.steps:
                self.plus[-1] = math.nan
            return False
        self.steps.append(e)
        self.plus.append(up[0])
        self.minus.append(down[0])
        self._gradients(e, up[1], down[1])
        return True

    def _gradients(self, e: float, up: PETSc.Vec, down: PETSc.Vec) -> None:
        """Remainders of gradients, and the rows of the Hessian by differences; takes over both
        Vecs."""
        self.sizes.append(max(up.norm(), down.norm(), self.g.norm()))
        central, rest = up.copy(), up.copy()
        rest.axpy(-1.0, self.g)
        self.changes.append(rest.norm())
        rest.axpy(-e, self.h)
        self.rests.append(rest.norm())
        central.axpy(-1.0, down)
        central.scale(1 / (2 * e))
        up.axpy(1.0, down)
        up.axpy(-2.0, self.g)
        self.bends.append(self.norms(up))
        for vec in (up, down, rest):
            vec.destroy()
        self._improve(central)

    def _improve(self, central: PETSc.Vec) -> None:
        """Richardson's extrapolation of the central differences so far."""
        if self._central is None:
            self._central = central
            return
        q = self.steps[-2] / self.steps[-1]
        better = central.copy()
        better.scale(1 + 1 / (q**2 - 1))
        better.axpy(-1 / (q**2 - 1), self._central)
        self._central.destroy()
        self._central = central
        if self._better is not None:
            self._better.axpy(-1.0, better)
            change = self.norms(self._better)
            self._better.destroy()
            size = np.maximum(self.norms(better), self.norms(self.h))
            off = better.copy()
            off.axpy(-1.0, self.h)
            self.rows.append((self.norms(off), size, change))
            off.destroy()
        self._better = better

    def exhausted(self) -> bool:
        """Whether the last steps change J by rounding only. The same on all ranks."""
        size = max(abs(self.value), abs(self.plus[-1]), abs(self.minus[-1]))
        even = [
            abs(u - 2 * self.value + d)
            for u, d in zip(self.plus[-3:], self.minus[-3:], strict=True)
        ]
        stuck = (
            even[2] <= 1e-9 * size and even[2] >= even[1] / 3 and even[1] >= even[0] / 3
        )
        found = bool(even[2] <= FLOOR * size or stuck)
        ensemble = getattr(self.objective, "ensemble", None)
        return found if ensemble is None else bool(ensemble.across.bcast(found, root=0))

    def orders(self, floor: float) -> TaylorOrders:
        steps, plus, minus = (np.array(x) for x in (self.steps, self.plus, self.minus))
        if len(steps) < 4 or not (
            np.isfinite(plus).all()
            and np.isfinite(minus).all()
            and math.isfinite(self.value)
            and np.isfinite([self.slope, self.curvature, *self.rests]).all()
        ):
            nothing = Comparison(math.nan, math.nan, math.nan)
            return TaylorOrders(math.nan, math.nan, math.nan, nothing, nothing)
        least = noise(steps, self.value, plus, minus) + floor * np.maximum(
            np.maximum(abs(plus), abs(minus)), abs(self.value)
        )
        least_row = self._noise() + floor * np.array(self.sizes)[:, None]
        least_all = np.linalg.norm(self._noise()) + floor * np.array(self.sizes)
        change = plus - self.value
        slope = compare(steps, self.slope, plus, minus, least)
        curvature = compare_second(
            steps, self.curvature, self.value, plus, minus, least
        )
        if not self._depends(change, least, least_all):
            return TaylorOrders(
                math.nan, math.nan, math.nan, slope, curvature, {}, False
            )
        first = np.abs(change - steps * self.slope)
        second = np.abs(change - steps * self.slope - steps**2 / 2 * self.curvature)
        found = TaylorOrders(
            order(steps, first, least),
            order(steps, second, least),
            order(steps, self.rests, least_all),
            slope,
            curvature,
            self._compared(steps, least_row),
        )
        return replace(found, hidden=self._hidden(found))

    def _hidden(self, found: TaylorOrders) -> tuple[str, ...]:
        """What neither differences nor orders tell."""
        hidden = (
            [] if found.slope.resolved or math.isfinite(found.first) else ["gradient"]
        )
        if math.isfinite(found.gradient):
            return tuple(hidden)
        # Of a row that is 0 nothing can be resolved: it is told where it is too small to matter.
        negligible = NEGLIGIBLE * max(self.sizes) / self.steps[0]
        hidden += [
            f"Hessian{' row ' + name if name else ''}"
            for name, row in found.rows.items()
            if not row.resolved and row.uncertainty > negligible
        ]
        return tuple(hidden)

    def _noise(self) -> np.ndarray:
        """Rounding of the gradient by unknown: what second differences at the smallest steps
        leave."""
        found: np.ndarray = np.minimum.reduce(self.bends[-3:])
        return found

    def _depends(
        self, change: np.ndarray, least: np.ndarray, least_gradient: np.ndarray
    ) -> bool:
        moved = (np.abs(change) > least).any() or (
            np.array(self.changes) > least_gradient
        ).any()
        claimed = (
            abs(self.slope) * self.steps[0] > least[0]
            or abs(self.curvature) * self.steps[0] ** 2 > least[0]
        )
        return bool(moved or claimed)

    def _compared(self, steps: np.ndarray, least: np.ndarray) -> dict[str, Comparison]:
        found = {}
        for i, name in enumerate(self.names):
            differences, sizes, changes = (
                np.array([row[j][i] for row in self.rows]) for j in range(3)
            )
            found[name] = best(
                differences, sizes, np.maximum(changes, least[2:, i] / steps[2:])
            )
        return found

    def destroy(self) -> None:
        for vec in (self.g, self.h, self._central, self._better):
            if vec is not None:
                vec.destroy()


def dot_product_test(
    linearization: Counted, dm: PETSc.Vec, d: Sequence[DataBlock]
) -> float:
    """|<J dm, d> - <dm, J^T d>| over the larger of the two, NaN where both are 0; `d` has
    blocks as those of the linearization's data.

    Solves are tight inside, unless the user gave a tolerance. Collective.
    """
    with tight(), _counters_kept(linearization.forward):
        images = linearization.apply(dm)
        left = sum(a.dot(b) for a, b in zip(images, d, strict=True))
        back = linearization.apply_adjoint(d)
        right = back.dot(dm)
        back.destroy()
    size = max(abs(left), abs(right))
    return abs(left - right) / size if size else math.nan


def manufactured_order(
    solve_error: Callable[[int], float], sizes: Sequence[int]
) -> float:
    """Observed order of solve_error(n), the error with n cells an axis, between the two last of
    `sizes`."""
    n, errors = sizes[-2:], [float(solve_error(n)) for n in sizes][-2:]
    if not all(math.isfinite(e) for e in errors):
        return math.nan
    if min(errors) <= 0:
        return math.inf
    return math.log(errors[0] / errors[1]) / math.log(n[1] / n[0])


@contextlib.contextmanager
def _counters_kept(counted: HasCounters) -> Iterator[None]:
    """Puts the solve counters back as they were."""
    before = counted.counters.snapshot()
    try:
        yield
    finally:
        vars(counted.counters).update(before)
