"""Conjugate gradients on planes in two precisions, with the V-cycle of cycle.py:

    x in double; r, z = M r, p := z + beta p and q = A p in single,
    x += alpha p,   r -= alpha q,   and now and then   r = b - A x   in double.

A p is formed of differences, sum over j of A_ij (p_j - p_i) + (sum over j of A_ij) p_i: without
them single precision does not converge. The residual is formed anew where it has become FRESH times
smaller, and before a solve ends; the direction is kept. Where the levels follow the values all is
in double precision, and a new direction begins with a residual formed anew.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt import traffic
from npde_opt.lazily import loaded_lazily
from npde_opt.linear.planes.cycle import PlaneCycle
from npde_opt.linear.planes.levels import SINGLE, Planes
from npde_opt.linear.planes.runs import CHUNK
from npde_opt.linear.planes.stages import PlaneLevel, Precision
from npde_opt.linear.planes.tables import (
    BAD_CYCLE,
    BAD_MATRIX,
    CONVERGED,
    FAITHFUL,
    FRESH,
    MANY,
    NORM,
    NOT_FINITE,
    PATIENCE,
    RR,
    SMALLEST,
    STEP,
    STUCK,
    UNIT,
)
from npde_opt.linear.planes.whole_solve import WholeSolve, square
from npde_opt.linear.residual import LARGE, ROUNDING
from npde_opt.machine_code import Kept, Repeated

if TYPE_CHECKING:
    from npde_opt.linear.planes import rows
else:
    rows = loaded_lazily("npde_opt.linear.planes.rows")

LOOPS = "npde_opt.linear.planes.vectors"
DIRECTION, ADVANCE = Kept(LOOPS, "direction", float), Kept(LOOPS, "advance", float)
TRUE_RESIDUAL = Kept(LOOPS, "true_residual", float)

Reason = PETSc.KSP.ConvergedReason
NATURAL, PRECONDITIONED, UNPRECONDITIONED = (
    "natural",
    "preconditioned",
    "unpreconditioned",
)
NORMS = (NATURAL, PRECONDITIONED, UNPRECONDITIONED)
"""In the order of tables.py."""
ENDS = {
    CONVERGED: Reason.CONVERGED_RTOL,
    MANY: Reason.DIVERGED_MAX_IT,
    NOT_FINITE: Reason.DIVERGED_NANORINF,
    BAD_CYCLE: Reason.DIVERGED_INDEFINITE_PC,
    BAD_MATRIX: Reason.DIVERGED_INDEFINITE_MAT,
}
"""Of a solve in one call."""

FAILED = (
    Reason.DIVERGED_MAX_IT,
    Reason.DIVERGED_INDEFINITE_PC,
    Reason.DIVERGED_INDEFINITE_MAT,
    Reason.DIVERGED_BREAKDOWN,
)
SLOW = 30
"""Iterations from which on levels that follow the values take over."""
FRESH_IN_DOUBLE = 1e-9
HALVED = 0.25
"""Of the square of a residual formed anew in double precision, from one to the next that helps."""


@dataclass
class _State:
    """Of an iteration: r^T r, r^T z and the norm that is asked for; r^T z of the iteration before,
    infinite where a new direction begins; r^T r at the residual last formed anew; and how often
    that did not help."""

    unit: float
    target: float
    rr: float = 0.0
    rz: float = 0.0
    norm: float = 0.0
    before: float = math.inf
    last: float = math.inf
    smallest: float = math.inf
    idle: int = 0


class PlaneCG:
    """Context of a Python KSP.

    Args:
        norm: of the residual that the tolerance is for.
    """

    def __init__(self, cycle: PlaneCycle, norm: str):
        self.cycle, self.norm, self.comm = cycle, norm, cycle.grid.comm
        self.shape = cycle.levels[0].shape
        self._matrix: tuple[np.ndarray, tuple[np.ndarray, ...]]
        """The diagonal and couplings, in double precision."""
        self._sums = np.empty(2)
        self.true_residual: float | None = None
        """|b - A x| of the last solve, where it was formed at its end."""
        self._row = np.empty(self.shape.cells[0])
        self._true_residual = Repeated(TRUE_RESIDUAL)
        self._set_precision(SINGLE)

    @property
    def top(self) -> PlaneLevel:
        return self.cycle.top

    def _set_precision(self, precision: Precision) -> None:
        """Of r, z, p and q: that of the finest level."""
        self._precision = precision
        single = precision is SINGLE
        self._fresh_at = FRESH if single else FRESH_IN_DOUBLE
        self._helps = 1.0 if single else HALVED
        self._free()
        self._v = np.zeros(CHUNK, precision)
        self._direction, self._advance = Repeated(DIRECTION), Repeated(ADVANCE)

    def _free(self) -> None:
        """Drops the work of a solve."""
        for name in ("_p", "_q"):
            self.__dict__.pop(name, None)

    @cached_property
    def _x(self) -> np.ndarray:
        return self.shape.zeros(float)

    @cached_property
    def _p(self) -> np.ndarray:
        return self.shape.zeros(self._precision)

    @cached_property
    def _q(self) -> np.ndarray:
        return self.shape.zeros(self._precision)

    def update(self, planes: Planes) -> None:
        """Takes the values of the matrix, owned [k, j, i] by offset, and keeps them. Collective."""
        found = self.cycle.with_ghosts(planes)
        centre, *couplings = (found[o].reshape(-1) for o in self.shape.offsets)
        self._matrix = centre, tuple(couplings)
        self.cycle.take(found)
        self._follow()

    def _follow(self) -> None:
        if self.top.precision is not self._precision:
            self._set_precision(self.top.precision)

    def solve(self, ksp: PETSc.KSP, b: PETSc.Vec, x: PETSc.Vec) -> None:
        given, found = b.getArray(readonly=True), x.getArray()
        rtol, atol, _, most = ksp.getTolerances()
        guessed = ksp.getInitialGuessNonzero()
        if guessed:
            self.shape.put(found, 1.0, self._x)
        else:
            self._x[...] = 0
        self.true_residual = None
        plain = self.cycle.adapted is None and self.cycle.can_adapt
        few = min(most, SLOW) if plain else most
        reason, iterations, norm = self._begin(given, guessed, (rtol, atol), few)
        if plain and reason in FAILED and iterations < most:
            self._adapt(f"{iterations} iterations on plain ones")
            rest = most - iterations
            guessed = math.isfinite(norm) and iterations > 0
            if not guessed:
                self._x[...] = 0
            reason, more, norm = self._begin(given, guessed, (rtol, atol), rest)
            iterations += more
        self.shape.take(self._x, 1.0, found)
        if self.cycle.grid.size >= LARGE:
            self._free()
            # The solve in one call sends and takes parts of x: it goes with it.
            for name in ("_x", "_whole"):
                self.__dict__.pop(name, None)
            self.cycle.free()
        ksp.setIterationNumber(iterations)
        # PETSc takes no norm that is NaN.
        ksp.setResidualNorm(math.inf if math.isnan(norm) else norm)
        ksp.setConvergedReason(reason)

    def _adapt(self, reason: str) -> None:
        """Goes on with levels that follow the values. Collective."""
        centre, couplings = self._matrix
        values = (v.reshape(self.cycle.box.cells[::-1]) for v in (centre, *couplings))
        planes = dict(zip(self.shape.offsets, values, strict=True))
        self.cycle.adapt(planes, reason)
        self._follow()

    def _begin(
        self, b: np.ndarray, guessed: bool, tolerances: tuple[float, float], most: int
    ) -> tuple[int, int, float]:
        """Reason, iterations, and the last residual's norm."""
        size = self.cycle.largest(b)
        if size == 0:
            self._x[...] = 0
            return Reason.CONVERGED_ATOL, 0, 0.0
        if not size < math.inf:
            return Reason.DIVERGED_NANORINF, 0, size
        if self.cycle.in_one_call is not None:
            return self._in_one_call(b, size, guessed, tolerances, most)
        state = _State(size, math.inf)
        self.shape.put(b, 1 / size, self.top.b)
        state.rr = state.last = self._total(square(b, size))
        state.norm = math.sqrt(state.rr) * size
        if not guessed or self.norm != UNPRECONDITIONED:
            self._precondition(state)
        # The tolerance is for b, whatever the guess.
        rtol, atol = tolerances
        state.target = max(rtol * state.norm, atol)
        if guessed and not self._guessed(b, state):
            return Reason.CONVERGED_RTOL, 0, 0.0
        return self._steps(b, state, most)

    def _in_one_call(
        self,
        b: np.ndarray,
        size: float,
        guessed: bool,
        tolerances: tuple[float, float],
        most: int,
    ) -> tuple[int, int, float]:
        """As `_begin`, of a right-hand side of this largest number."""
        fields, work = (self._x, self._p, self._q), (self._v, self._row)
        given = self._matrix, b, fields, work
        end = self._whole.run(*given, size, guessed, tolerances, most)
        state, steps = self._whole.state, int(self._whole.counts[STEP])
        unit, norm = float(state[UNIT]), float(state[NORM])
        if end == CONVERGED and unit > 0:
            self.true_residual = math.sqrt(state[RR]) * unit
        if end != STUCK:
            return ENDS[end], steps, norm
        left = _State(unit, math.inf, smallest=float(state[SMALLEST]))
        return self._stuck(left), steps, norm

    @cached_property
    def _whole(self) -> WholeSolve:
        return WholeSolve(self.cycle, NORMS.index(self.norm), self._x)

    def _guessed(self, b: np.ndarray, state: _State) -> bool:
        """Begins from x, in units of what it leaves; False where that is nothing."""
        state.unit *= math.sqrt(self._fresh(b, state))
        if state.unit == 0:
            return False
        state.rr = state.last = self._fresh(b, state)
        self._precondition(state)
        return True

    def _fresh(self, b: np.ndarray, state: _State) -> float:
        """r = b - A x; r^T r, in units."""
        self.top.exchange(self._x)
        system = *self._matrix, self.cycle.before, self._x, b, 1 / state.unit
        where = self.top.b, self.shape.geometry, self._row
        return self._total(self._true_residual(*system, *where))

    def _square(self, x: np.ndarray) -> float:
        """x^T x of owned cells."""
        geometry = self.shape.geometry
        return float(rows.dots(x, x, geometry, 0, len(geometry[4]))[1])

    def _total(self, own: float) -> float:
        """The sum over all ranks. Collective."""
        return self._totals(own)[0]

    def _totals(self, *own: float) -> tuple[float, ...]:
        """Sums over all ranks in one message. Collective.

        All ranks take the same steps between the maximum at the beginning of a solve and its end:
        places are not compared here, which would take as long as the sum.
        """
        if self.comm.size == 1:
            return own
        traffic.summed()
        sums = self._sums[: len(own)]
        sums[:] = own
        self.comm.Allreduce(MPI.IN_PLACE, sums)
        return tuple(sums.tolist())

    def _precondition(self, state: _State) -> None:
        """z, with r^T z and the norm."""
        rz, zz = self.cycle.cycle()
        scale = self.cycle.scale
        both = self._totals(rz, zz)
        state.rz = rz = both[0]
        if self.norm == UNPRECONDITIONED:
            state.norm = math.sqrt(state.rr) * state.unit
        elif self.norm == NATURAL:
            state.norm = math.sqrt(abs(rz) * scale) * state.unit
        else:
            state.norm = math.sqrt(both[1]) * state.unit * scale

    def _steps(self, b: np.ndarray, state: _State, most: int) -> tuple[int, int, float]:
        geometry = self.shape.geometry
        self._p[...] = 0
        for step in range(most + 1):
            if not math.isfinite(state.norm):
                return Reason.DIVERGED_NANORINF, step, state.norm
            if state.norm <= state.target and self._holds(b, state):
                self.true_residual = math.sqrt(state.rr) * state.unit
                return Reason.CONVERGED_RTOL, step, state.norm
            if step == most:
                break
            if state.idle > PATIENCE:
                return self._stuck(state), step, state.norm
            if state.idle and self._precision is float and self._is_rounding(state):
                return Reason.CONVERGED_HAPPY_BREAKDOWN, step, state.norm
            if not state.rz > 0:
                return Reason.DIVERGED_INDEFINITE_PC, step, state.norm
            beta = state.rz / state.before
            state.before = state.rz
            moved = (
                self.top.A,
                self.cycle.sums,
                self.top.x,
                self._precision(beta),
                self._p,
                self._q,
            )
            pq = self._total(self._direction(*moved, self._v, geometry))
            if not pq > 0:
                return Reason.DIVERGED_INDEFINITE_MAT, step, state.norm
            alpha = state.rz / pq
            taken = alpha * state.unit * self.cycle.scale
            fields = (
                self._x,
                self.top.b,
                self._p,
                self._q,
                taken,
                self._precision(alpha),
            )
            state.rr = self._total(self._advance(*fields, geometry))
            if self._is_due(state) and self._renewed(b, state):
                self.true_residual = state.norm
                return Reason.CONVERGED_RTOL, step + 1, state.norm
            self._precondition(state)
        return Reason.DIVERGED_MAX_IT, most, state.norm

    def _is_due(self, state: _State) -> bool:
        """Whether the residual has to be formed anew."""
        ends = (
            self.norm == UNPRECONDITIONED
            and math.sqrt(state.rr) * state.unit <= state.target
        )
        return ends or state.rr <= self._fresh_at**2 * state.last

    def _renewed(self, b: np.ndarray, state: _State) -> bool:
        """Forms the residual anew; whether it is small enough, where this is known without z."""
        state.rr = state.last = self._fresh(b, state)
        helped = state.rr < self._helps * state.smallest
        state.idle = 0 if helped else state.idle + 1
        state.smallest = min(state.smallest, state.rr)
        if self._precision is float:
            # What rounding brought back lies along directions that were done with.
            state.before = math.inf
        if self.norm != UNPRECONDITIONED:
            return False
        state.norm = math.sqrt(state.rr) * state.unit
        return state.norm <= state.target

    def _holds(self, b: np.ndarray, state: _State) -> bool:
        """Whether the norm is small enough for the true residual, too."""
        found = state.rr
        if found == state.last or self._renewed(b, state):
            return True
        if state.rr <= FAITHFUL**2 * found and self.norm != UNPRECONDITIONED:
            return True
        self._precondition(state)
        return state.norm <= state.target

    def _stuck(self, state: _State) -> PETSc.KSP.ConvergedReason:
        """Where residuals formed anew become no smaller: no solve in double leaves less, or this
        one fails."""
        if self._is_rounding(state):
            return Reason.CONVERGED_HAPPY_BREAKDOWN
        return Reason.DIVERGED_BREAKDOWN

    def _is_rounding(self, state: _State) -> bool:
        """Whether the smallest residual formed anew is what rounding leaves. Collective."""
        left = math.sqrt(state.smallest) * state.unit
        x = math.sqrt(self._total(self._square(self._x)))
        return bool(left <= ROUNDING * x / self.cycle.scale)

    def view(self, ksp: PETSc.KSP, viewer: PETSc.Viewer) -> None:
        viewer.printfASCII(f"  conjugate gradients on planes, {self.norm} norm\n")
        self.cycle.view(ksp.getPC(), viewer)
