"""Implicit steps of a small scalar reaction-diffusion equation on one rank, many in one compiled
call, forward and back (see implicit_text.py); what they do not take goes step by step, and so do
tangents and second derivatives.

A trajectory lies in one array, stage by stage [n, cell], x fastest. The matrix of all steps is one,
in factors of linear/dissection; whether its solves are good is looked at here, too, and where they
are not, or its values not positive definite, steps one by one say what is wrong.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import numpy as np

from npde_opt.forward.implicit_text import Loops, loops
from npde_opt.forward.layer import Free, Runs, Stages
from npde_opt.forward.step_solvers import Decoupled
from npde_opt.forward.stepper import Stepper
from npde_opt.forward.watch import Looks
from npde_opt.linear.dissection.factors import BoxFactors, box_plan
from npde_opt.linear.guess import STEPS_CHECKED
from npde_opt.linear.measured import measuring
from npde_opt.linear.residual import DIRECT
from npde_opt.terms.diffusion import Diffusion
from npde_opt.terms.kinetics import KineticsAt
from npde_opt.terms.state import Gradients, distance

FEWEST = 8
"""Steps from which on the loops pay for their loading."""
VALUES = 1 << 21
"""Of the states of one call: they take some 50 ms, within which nobody can end a run."""
NEVER = np.iinfo(np.int64).max


def applies(stepper: Stepper) -> bool:
    """Whether many steps may go in one call: of one species on one rank, all cells active, by
    implicit diffusion and at most one explicit reaction, which reads no time, with steps of one
    size and nothing outside that is given; on grids that have factors of our own."""
    linear, (implicit, explicit) = stepper.linear, stepper.groups
    if not stepper.scheme.diagonal or linear is None or linear.part.equation.complex:
        return False
    if (
        stepper.boundary.any
        or stepper.capacity is not None
        or stepper.newton is not None
    ):
        return False
    grid, operators = stepper.grid, linear.operators
    if grid.comm.size > 1 or grid.mask is not None or len(stepper) < FEWEST:
        return False
    if len(linear.part.equation.species) > 1 or len(operators) > 1 or implicit.others:
        return False
    one = all(o.pattern == ((0, 0, 1.0),) and len(o.terms) == 1 for o in operators)
    if not (one and type(operators[0].terms[0]) is Diffusion):
        return False
    for kinetics in explicit.others:
        if not isinstance(kinetics, KineticsAt) or len(explicit.others) > 1:
            return False
        if kinetics.expressions.functions or kinetics.term.timed:
            return False
    sizes = {f"{dt:.{stepper.solvers.digits}g}" for dt in np.diff(stepper.times)}
    return len(sizes) == 1 and box_plan(grid, linear.part.matrices[0]) is not None


class ImplicitRuns(Stepper, Runs):
    """The stepper, with many steps in one call."""

    def __init__(self, stepper: Stepper):
        steps = stepper.grid, stepper.scheme, stepper.groups, stepper.times
        super().__init__(*steps, stepper.boundary, stepper.solvers)
        assert self.linear is not None
        others = self.groups[1].others
        reactions = [point for point in others if isinstance(point, KineticsAt)]
        self.kinetics = reactions[0] if reactions else None
        given = self.kinetics.parameters if self.kinetics is not None else []
        self._fields = tuple(np.ndim(p) > 0 for p in given)
        self._parameters = [np.array(np.ravel(p, order="F"), float) for p in given]
        inertia = self.linear.part.equation.inertia
        self._scale = np.array([1 / inertia], float)
        self._mass = np.ravel(self.mass, order="F")
        self._dts = np.diff(self.times)
        self._one = np.array([self.dt(0) * self.scheme.diagonal])
        """The steps' alpha."""
        periodic = [self.grid.periodic(d) for d in range(self.grid.dim)]
        sizes = zip(self.grid.shape[::-1], periodic[::-1], strict=True)
        self._axes = np.array([[n, int(wraps)] for n, wraps in sizes], np.int64)
        self._rows = np.empty((0, 0))
        self._states: list[np.ndarray] = []
        # Solves with these factors.
        self._box: BoxFactors | None = None
        self._call: tuple[np.ndarray, ...] = ()
        self._checked = np.array([0, STEPS_CHECKED])
        self._clear()

    @property
    def _loops(self) -> Loops:
        expressions = self.kinetics.expressions if self.kinetics is not None else None
        stages = range(1, self.scheme.stages + 1)
        implicit, explicit = (
            tuple(tuple(g.weight(i, j) for j in range(i + 1)) for i in stages)
            for g in self.groups
        )
        return loops(implicit, explicit, expressions, self._fields)

    @property
    def together(self) -> bool:
        return not measuring()

    def _clear(self) -> None:
        """Forgets what sweeps back have added up."""
        faces = sum(self.grid.size // n * (n + 1) for n in self.grid.shape)
        self._faces = np.zeros(faces)
        self._sums = [np.zeros(p.size) for p in self._parameters]
        self._found = False

    def _factors(self) -> BoxFactors | None:
        """Of the steps' matrix, with its present values."""
        solver = self.solvers.at(float(self._one[0]))
        if not isinstance(solver, Decoupled):
            return None
        found = solver.solvers[0].present_factors
        call = found.call if found is not None else None
        if found is None or call is None:
            return None
        if found is not self._box:
            self._box, self._checked[0], self._call = found, 0, call
        return found

    def _count(self, steps: int) -> None:
        """Direct solves have one iteration each."""
        stages = range(1, self.scheme.stages + 1)
        solves = steps * sum(self.groups[0].weight(i, i) != 0 for i in stages)
        solver = self.solvers.at(float(self._one[0]))
        assert isinstance(solver, Decoupled)
        solver.iterations += solves

    def forth(
        self, n: int, u: np.ndarray, free: Free, keep: bool
    ) -> tuple[int, list[Stages]] | None:
        box = self._factors()
        if not keep or box is None or u.dtype.itemsize < 8:
            return None
        if n == 0:
            self._begin(u)
        stages, states = self.scheme.stages, self._states
        at = n * stages
        if n and (at >= len(states) or u is not states[at]):
            return None
        done = self._run(n, free, box)
        if not done:
            return None
        self._count(done)
        begins = range(at, at + done * stages, stages)
        return done, [states[i : i + stages + 1] for i in begins]

    def _begin(self, u: np.ndarray) -> None:
        """Room for a trajectory, with u_0."""
        self._rows = np.empty((len(self) * self.scheme.stages + 1, u.size))
        whole = (-1, 1, *u.shape[:0:-1])
        states = self._rows.reshape(whole)
        self._states = list(states.transpose(0, 1, *range(u.ndim, 1, -1)))
        self._states[0][...] = u

    def _run(self, n: int, free: Free, box: BoxFactors) -> int:
        """Steps from u_n on: their number; 0 where a solve was no good."""
        until = min(free.until, n + max(VALUES // self._mass.size, 1))
        rows, size, looks = self._stages(n, until), self._mass.size, free.looks
        # A little less: what is near to it is looked at as well.
        most = min(0.999999 * free.norm * free.norm, sys.float_info.max)
        b, r, left = np.empty(size), np.empty(size), np.zeros(2)
        A, f = np.empty((2, self.scheme.stages + 1, size))
        given = rows, b, r, A, f, self._mass, self._dts[n:until], self._scale, self._one
        checks = box.values, self._axes, self._checked, left, np.array([most])
        watched = self._watched(n, looks if isinstance(looks, Looks) else None, size)
        every = *given, *self._parameters, *checks, *watched
        done = self._loops.forth(*self._call, *every)
        if not left[0] <= DIRECT:
            return 0
        if isinstance(looks, Looks):
            self._looked(n, looks, watched, done if done < until - n else None)
        return done

    def _stages(self, n: int, stop: int) -> np.ndarray:
        """Those of steps n ... stop - 1, from u_n on."""
        stages = self.scheme.stages
        return self._rows[n * stages : stop * stages + 1]

    def _watched(self, n: int, looks: Looks | None, size: int) -> list[np.ndarray]:
        """Arguments of looks on the way from u_n."""
        if looks is None:
            never = np.array([0, 0, NEVER, 0]), np.full(2, np.inf)
            none = np.empty(0, np.int64), np.empty(0), np.empty(0), np.empty(0)
            return [*none, *never, np.empty(4), np.ones(1, np.int64)]
        watch, rules, every = looks.watch, looks.rules, distance(size)
        seen, room = watch.kept.shape[1], size // every + 1
        places, kept = np.empty(room, np.int64), np.empty(room)
        places[:seen] = np.arange(watch.start % every, size, every)
        kept[:seen] = watch.kept[0]
        turns = np.array([watch.start, watch.looks, looks.due - n, seen])
        bounds = rules.by_species.max(), rules.stiffness, 2 / rules.resolved
        return [
            places,
            kept,
            watch.room(),
            np.zeros(1),
            turns,
            np.array([watch.step, 0.0]),
            np.array([*bounds, rules.longest]),
            np.array([every]),
        ]

    def _looked(
        self, n: int, looks: Looks, watched: Sequence[np.ndarray], ended: int | None
    ) -> None:
        """Tells who watches of the looks on the way from u_n, on which the loop `ended` early after
        so many steps."""
        _, kept, _, sizes, turns, last, _, _ = watched
        _, count, due, seen = turns.tolist()
        if count > looks.watch.looks:
            # The sample may be of the state that the loop did not take, and does not tell it.
            looks.due = n + due if ended is None else min(n + due, n + ended)
            looks.watch.looked(count, kept[None, :seen], sizes, *last.tolist())

    def back(
        self, n: int, kept: Sequence[Sequence[np.ndarray]], adjoint: np.ndarray
    ) -> np.ndarray | None:
        box, stop = self._factors(), n + len(kept)
        at = n * self.scheme.stages
        own = len(self._states) > at and kept[0][0] is self._states[at]
        if box is None or not own or measuring():
            return None
        found = np.array(np.ravel(adjoint, order="F"))
        before = [part.copy() for part in (*self._sums, self._faces)]
        most = max(VALUES // found.size, 1)
        for last in range(stop, n, -most):
            if not self._down(box, max(last - most, n), last, found):
                for part, kept_part in zip(
                    (*self._sums, self._faces), before, strict=True
                ):
                    part[...] = kept_part
                return None
        self._found = True
        return found.reshape(adjoint.shape, order="F")

    def _down(self, box: BoxFactors, n: int, stop: int, adjoint: np.ndarray) -> bool:
        """Takes the adjoint of u_stop to that of u_n; whether its solves were good."""
        left, size = np.zeros(1), adjoint.size
        b, r, nu = np.empty((3, size))
        mu, A = np.empty((self.scheme.stages + 1, size)), np.empty((1, size))
        given = self._stages(n, stop), adjoint, b, r, mu, nu, A
        steps = self._mass, self._dts[n:stop], self._scale, self._one
        sums = *self._parameters, *self._sums, self._faces
        checks = box.values, self._axes, self._checked, left
        self._loops.back(*self._call, *given, *steps, *sums, *checks)
        self._count(stop - n)
        return bool(left[0] <= DIRECT)

    def fastest(
        self,
        u: np.ndarray,
        start: int | None,
        stiffness: np.ndarray,
        resolved: float,
        share: float,
    ) -> float | None:
        if u.ndim > self.grid.dim + 1 or u.dtype.itemsize < 8 or not self.kinetics:
            return None
        every = 1 if start is None else distance(u.size)
        where = np.array([0 if start is None else start % every]), np.array([every])
        found, here = np.zeros(1), np.ravel(u, order="F")
        given = here, self._scale, np.array(stiffness, float)
        self._loops.rates(*given, *self._parameters, *where, found)
        return float(found[0])

    def forget(self) -> None:
        super().forget()
        self._rows, self._states = np.empty((0, 0)), []

    def discard(self) -> None:
        super().discard()
        self._clear()

    def flush(self, out: Gradients) -> None:
        super().flush(out)
        if not self._found:
            return
        assert self.linear is not None
        names = self.kinetics.names if self.kinetics is not None else ()
        for name, values, field in zip(names, self._sums, self._fields, strict=True):
            shape = self.grid.local_shape
            out.add(
                name, values.reshape(shape, order="F") if field else float(values[0])
            )
        point = self.linear.points[0][0]
        for name, cotangent in point.contracted(self._products()).items():  # type: ignore[attr-defined]
            out.add(name, cotangent)
        self._clear()

    def _products(self) -> list[np.ndarray]:
        """Those of the jumps at the faces, by axis."""
        shape, found, begin = self.grid.shape, list[np.ndarray](), 0
        for d in range(self.grid.dim - 1, -1, -1):
            faces = [n + (d == e) for e, n in enumerate(shape)]
            end = begin + math.prod(faces)
            found.append(self._faces[begin:end].reshape(faces, order="F"))
            begin = end
        return found[::-1]


def in_runs(stepper: Stepper, columns: int) -> Stepper:
    """The stepper with many steps in one call, or as it is where there are none."""
    return ImplicitRuns(stepper) if columns == 1 and applies(stepper) else stepper
