"""Many fused steps in one call of a compiled loop, with boundary values that do not change in time.

A trajectory that is kept lies in one array [n, c, k, j, i], stage by stage; of one that goes
forward only, and of adjoints, two states alternate (three of Heun's steps, and where several steps
go in one sweep over memory, see fused_waves.py).
"""

from __future__ import annotations

import math
import sys
import weakref
from collections.abc import Sequence

import numpy as np

from npde_opt.forward import fused_waves
from npde_opt.forward.fused_base import Checks, FusedBase
from npde_opt.forward.fused_waves import Waves
from npde_opt.forward.halo import can
from npde_opt.forward.layer import Free, Runs, Stages
from npde_opt.forward.watch import Looks
from npde_opt.terms.state import distance

VALUES = 1 << 27
"""Of the states of one call: they take a tenth of a second or two, within which nobody can end a
run."""
Rows = tuple[np.ndarray, list[np.ndarray]]
"""An array and its rows as states (see ghosted.Store.rows)."""


class ManySteps(FusedBase, Runs):
    """The stepper, with many steps in one call."""

    _trajectory: Rows | None = None
    """Of the trajectory that is under way."""
    _turns: Rows | None = None
    """States that alternate."""
    _sweeps: Waves | None = None
    """Of these, where several steps go in one."""
    _turns_back: Rows | None = None
    """Adjoints that do."""

    @property
    def together(self) -> bool:
        constant = self.boundary.constant
        return constant and (not self.several or can(self.grid))

    def forth(
        self, n: int, u: np.ndarray, free: Free, keep: bool
    ) -> tuple[int, list[Stages]] | None:
        return self._kept(n, u, free) if keep else self._passing(n, u, free)

    def _most(self, u: np.ndarray) -> int:
        """Steps of one call, the same on all ranks."""
        each = math.prod(u.shape[: u.ndim - self.grid.dim])
        cells = math.prod(max(counts) for counts in self.grid.layout.counts)
        return max(VALUES // (each * cells), 1)

    def _run(
        self,
        n: int,
        u: np.ndarray,
        rows: np.ndarray,
        first: int,
        free: Free,
        waves: Waves | None = None,
    ) -> int:
        """Steps from u_n into rows: their number.

        Args:
            waves: where steps go in sweeps.
        """
        stages = self.scheme.stages
        until, looks = min(free.until, n + self._most(u)), free.looks
        if (
            self.several
            and isinstance(looks, Looks)
            and looks.rules.stiffness == math.inf
        ):
            # The loop would end there, and what it wrote over would be made again.
            until = max(min(until, looks.due), n + 1)
        dts = self._dts[n * stages : until * stages]
        whole = self._whole(n, 0, u)
        # A little less: what is near to it is looked at as well.
        most = min(0.999999 * free.norm * free.norm, sys.float_info.max)
        checks = Checks.none(whole, most)
        if looks is not None:
            assert isinstance(looks, Looks)
            checks = self._checks(n, u, rows, most, looks)
        if waves is None:
            done = self._done(whole, rows, dts, first, checks)
        else:
            done = self._swept(whole, rows, dts, first - 1, checks, waves)
        if looks is None:
            return done // stages
        self._looked(n, checks, looks, done // stages if done < dts.size else None)
        return done // stages

    def _done(
        self,
        whole: np.ndarray,
        rows: np.ndarray,
        dts: np.ndarray,
        first: int,
        checks: Checks,
    ) -> int:
        """Steps of Euler's from a state with its ghosts. Several ranks may have gone further than
        to the state at which they stop: what was written over is made again."""
        stages = self.scheme.stages
        halves, turn = stages > 1, first + dts.size > len(rows)
        further = self.several and dts.size > stages
        kept = whole.copy() if further and turn else None
        done = self._forth(whole, rows, dts, first, halves, checks)
        if self.several and done < dts.size:
            # Of a later state.
            self._squares[0] = math.nan
            if kept is not None:
                whole[...] = kept
                self._forth(whole, rows, dts[:done], first, halves)
        return done

    def _checks(
        self, n: int, u: np.ndarray, rows: np.ndarray, most: float, looks: Looks
    ) -> Checks:
        """With the looks at rates from u_n on, at states in `rows`."""
        watch, rules, every = looks.watch, looks.rules, distance(u[0].size)
        seen, room = watch.kept.shape[1], u[0].size // every + 1
        places, kept = np.empty(room, np.int64), np.empty((len(u), room), u.dtype)
        places[:seen] = self._sampled(u, rows[0], watch.start)
        kept[:, :seen] = watch.kept
        due = (looks.due - n) * self.scheme.stages
        given = rules.by_species.max(), rules.stiffness, 2 / rules.resolved
        return Checks(
            most,
            places,
            kept,
            watch.room(),
            np.zeros(len(u)),
            np.array([watch.start, watch.looks, due, seen]),
            np.array([watch.step, 0.0]),
            np.array([*given, rules.longest]),
            rules.by_species,
            every,
        )

    def _looked(self, n: int, checks: Checks, looks: Looks, ended: int | None) -> None:
        """Tells who watches of the looks on the way from u_n, on which the loop `ended` early after
        so many steps."""
        _, count, due, seen = checks.turns.tolist()
        if count == looks.watch.looks:
            return
        looks.due = n + due // self.scheme.stages
        if ended is not None:
            # The sample may be of the state that the loop did not take, and does not tell it.
            looks.due = min(looks.due, n + ended)
        step, allowed = checks.last.tolist()
        kept = checks.kept[:, :seen]
        looks.watch.looked(count, kept, checks.sizes, step, allowed)

    def _kept(
        self, n: int, u: np.ndarray, free: Free
    ) -> tuple[int, list[Stages]] | None:
        """Into the array of the trajectory, in which u_n is."""
        stages = self.scheme.stages
        if n == 0:
            rows, states = self._rows(u, len(self) * stages + 1, kept=True)
            states[0][...] = u
            self._trajectory, u = (rows, states), states[0]
        if self._trajectory is None:
            return None
        rows, states = self._trajectory
        at = n * stages
        if states[at] is not u:
            return None
        done = self._run(n, u, rows, at + 1, free)
        if n + done == len(self):
            self._trajectory = None
        ends = range(at, at + done * stages, stages)
        self._know(states[at + done * stages])
        return done, [states[i : i + stages + 1] for i in ends]

    def _passing(self, n: int, u: np.ndarray, free: Free) -> tuple[int, list[Stages]]:
        """Into states that alternate."""
        stages, at = self.scheme.stages, place(u, self._turns)
        if at is None or self._turns is None:
            at, self._sweeps = -1, self._waves(u)
            count = stages + 1 if self._sweeps is None else fused_waves.BUFFERS
            self._turns = self._rows(u, count)
        (rows, states), waves = self._turns, self._sweeps
        done = self._run(n, u, rows, at + 1, free, waves)
        last = at + done * stages
        ends = range(last - stages, last + 1) if waves is None else waves.last
        found = [states[i % len(states)] for i in ends]
        if done == 1:
            found[0] = u
        self._know(found[-1])
        return done, [found]

    def _waves(self, u: np.ndarray) -> Waves | None:
        """How steps from a state go in sweeps, or None."""
        if self.scheme.stages > 1 or self._kernels(u).wave is None:
            return None
        fields = [p for p in (*self.parameters, self.rate) if np.ndim(p) > 0]
        fields += [v for v in self.spreads.values(()) if np.ndim(v) == self.grid.dim]
        beside = sum(np.asarray(field).nbytes for field in fields)
        depth = fused_waves.depth(u.nbytes, beside, u.shape[-1])
        return Waves.of(depth, u.shape[:0:-1]) if depth > 1 else None

    def _swept(
        self,
        whole: np.ndarray,
        rows: np.ndarray,
        dts: np.ndarray,
        at: int,
        checks: Checks,
        waves: Waves,
    ) -> int:
        """Steps on one rank from a state with its ghosts, `at` its number in rows: their number."""
        wave = self._kernels(whole).wave
        assert wave is not None
        given = self._cells(whole), whole, rows, at, dts.size, *self.parameters
        last = self.store.copies, False, *checks, *waves, self._squares
        return wave(*given, *self._sizes(dts, whole), *last)

    def _rows(self, u: np.ndarray, count: int, kept: bool = False) -> Rows:
        """States like u, of which the ghosts that do not change are filled."""
        rows, states = self.store.rows(u, count, kept)
        self.store.fill_constants(rows)
        outside = self.state(0, 0, u).outside if self.boundary.any else None
        if outside is not None:
            ghosted = self.store.ghosted(rows, u.ndim > self.grid.dim + 1)
            for c in range(len(u)):
                of_species = ghosted[:, c]
                order = 0, *range(of_species.ndim - 1, 0, -1)
                outside.put(c, of_species.transpose(order))
        return rows, states

    def _know(self, u: np.ndarray) -> None:
        """Keeps the norm of the state that the last step led to; NaN where it is not known."""
        self._last = weakref.ref(u), math.sqrt(self._squares[0])

    def back(
        self, n: int, kept: Sequence[Sequence[np.ndarray]], adjoint: np.ndarray
    ) -> np.ndarray | None:
        states = self._one_after_the_other([u for stages in kept for u in stages])
        if states is None:
            return None
        stages, most = self.scheme.stages, self._most(adjoint)
        for stop in range(len(kept), 0, -most):
            start = max(stop - most, 0)
            own = states[start * stages : stop * stages]
            adjoint = self._down(n + start, own, adjoint)
        return adjoint

    def _down(self, n: int, states: np.ndarray, adjoint: np.ndarray) -> np.ndarray:
        """lambda_n from the adjoint behind steps with these stages."""
        stages = self.scheme.stages
        at = place(adjoint, self._turns_back)
        if at is None or self._turns_back is None:
            at, self._turns_back = -1, self.store.rows(adjoint, stages + 1)
            self.store.fill_constants(self._turns_back[0])
        rows, adjoints = self._turns_back
        # Of Heun's, the last array has halves, and the first one the results.
        first = at + 1 if stages == 1 else 1
        dts = self._dts[n * stages : n * stages + len(states)]
        self._back(states, self.store.filled(adjoint), rows, dts, first, stages > 1)
        return adjoints[(first + len(states) - 1) % 2]

    def _one_after_the_other(self, states: Sequence[np.ndarray]) -> np.ndarray | None:
        """The array of states that lie one after the other in memory, else None. Their ghosts are
        those that the steps from them have seen."""
        known = [self.store.row(u) for u in states]
        if known[0] is None:
            return None
        rows, at = known[0]
        for i, own in enumerate(known):
            if own is None or own[0] is not rows or own[1] != at + i:
                return None
        return rows[at : at + len(states)]

    def forget(self) -> None:
        super().forget()
        self._trajectory = self._turns = self._turns_back = self._sweeps = None


def place(u: np.ndarray, turns: Rows | None) -> int | None:
    """Of a state among those that alternate, or None."""
    states = turns[1] if turns is not None else []
    return next((i for i, state in enumerate(states) if state is u), None)
