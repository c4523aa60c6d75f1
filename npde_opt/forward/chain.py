"""u_{n+1} = L_n(u_n; k), n = 0 ... N - 1, over any list of layers, and its exact derivatives.

For a functional J(u_0 ... u_N) and multipliers lambda_n of the states,

    tangent   du_{n+1} = L_n,u du_n + L_n,k dk
    adjoint   lambda_N = J_N,  lambda_n = J_n + L_n,u^T lambda_{n+1},
              dJ/dk = sum_n L_n,k^T lambda_{n+1},  dJ/du_0 = lambda_0      (J_n: dJ/du_n)
    second    the derivative of the adjoint along (du_0, dk).

What is looked at is not known here: visitors are called once at every state, forward to observe it,
and backward to add J_n to lambda_n.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np

from npde_opt.aliases import Coefficients
from npde_opt.forward.layer import Free, Layers, Out, Runs, Stages, tangents
from npde_opt.forward.storage import Advance, Arrays, Plans, Several, Sweep
from npde_opt.stages import stage

After = Callable[[int, Stages], None]
"""(n, the stages that led to u_n, which is the last of them), for n = 0 ... N."""

At = TypeVar("At", contravariant=True)
"""What states are told apart by: their number n; or all come at once (see line_trajectory.py)."""

AfterChange = Callable[[At, np.ndarray, np.ndarray], None]
"""(n, u_n, du_n), for n = 0 ... N."""

Before = Callable[[At, np.ndarray, np.ndarray], None]
"""(n, u_n, lambda_n): adds J_n to lambda_n, for n = N ... 0."""

BeforeChange = Callable[[At, np.ndarray, np.ndarray, np.ndarray], None]
"""(n, u_n, du_n, dlambda_n): adds the derivative of J_n along du to dlambda_n, for n = N ... 0."""


class Rare(ABC):
    """A visitor After that need not be called at every state."""

    @abstractmethod
    def __call__(self, n: int, stages: Stages, /) -> None: ...

    @abstractmethod
    def free(self, n: int) -> Free:
        """Once it was called at u_n: how far the next steps may go."""


class Seldom(ABC):
    """A visitor Before that does nothing at most states."""

    @abstractmethod
    def __call__(self, n: int, u: np.ndarray, adjoint: np.ndarray, /) -> None: ...

    @abstractmethod
    def below(self, n: int) -> int:
        """The last state before u_n at which it does something; 0 where there is none."""


class Counted(Protocol):
    """What counts steps done so far, and those that had to be done again."""

    steps: int
    recomputed: int


@dataclass
class StepCounts:
    """Steps done so far, and those that had to be done again."""

    steps: int = 0
    recomputed: int = 0


@dataclass(frozen=True)
class Visitors(Generic[At]):
    """Those of a second-order sweep.

    Args:
        after: of the tangent. turn: called between the tangent and the way back.
        before: of the adjoint, where that has to be done again. before_change: of its derivative.
    """

    after: AfterChange[At]
    turn: Callable[[], None]
    before: Before[At]
    before_change: BeforeChange[At]


@dataclass(frozen=True)
class Adjoint:
    """lambda_0, and the multipliers of all layers where they are kept."""

    first: np.ndarray
    multipliers: list[Stages] | None


class Chain(Generic[Out]):
    """Layers at one point k of the parameters.

    Args:
        layers: one after the other; they may change grid and channels.
        plans: how trajectories are stored; None keeps all.
        counts: counts steps for all who share it.
        columns: as how many steps a layer counts.
    """

    def __init__(
        self,
        layers: Layers[Out],
        plans: Plans | None = None,
        counts: Counted | None = None,
        columns: int = 1,
    ):
        self.layers, self.columns = layers, columns
        self.plans = plans or Plans.all(len(layers))
        self.counts: Counted = counts if counts is not None else StepCounts()

    def __len__(self) -> int:
        return len(self.layers)

    def run(self, u: np.ndarray, after: After | None = None) -> Trajectory[Out]:
        """The trajectory from u_0. What a layer or the visitor raises ends it, with nothing left on
        disk."""
        return Trajectory(self, u, after)


class Trajectory(Generic[Out]):
    """u_0 ... u_N of a chain, stored as planned, with the derivatives there.

    `first` and `last` are u_0 and u_N; `recomputation` is the steps that the last reverse sweep
    took, its forward sweep included, over N.
    """

    def __init__(self, chain: Chain[Out], u: np.ndarray, after: After | None):
        self.chain, self.layers, self.plans = chain, chain.layers, chain.plans
        self.first = u
        self.recomputation = 1.0
        self._seen = -1  # the last layer that was done
        self._sweep = self._swept(after)
        (self.last,) = filled(self._sweep.last)

    def _swept(self, after: After | None) -> Sweep:
        """A sweep that can be reversed."""
        sweep = Sweep(
            self.plans.states,
            self._advance(after),
            (self.first,),
            self._several(after),
        )
        if after is not None:
            after(0, [self.first])
        with stage("forward"):
            self._forward(sweep)
        return sweep

    def _forward(self, sweep: Sweep) -> None:
        try:
            sweep.forward()
        except BaseException:
            sweep.destroy()
            raise

    def _count(self, steps: int, again: int) -> None:
        self.chain.counts.steps += steps * self.chain.columns
        self.chain.counts.recomputed += again * self.chain.columns

    def _advance(self, after: After | None) -> Advance:
        def advance(n: int, restart: Arrays) -> tuple[Arrays, Arrays]:
            (u,) = filled(restart)
            stages = self.layers[n].step(u)
            new = n > self._seen
            self._seen = max(n, self._seen)
            self._count(1, 0 if new else 1)
            if new and after is not None:
                after(n + 1, stages)
            return (stages[-1],), tuple(stages[:-1])

        return advance

    def _several(self, after: After | None) -> Several | None:
        """Steps that go by in one call, up to the next state that the visitor looks at."""
        layers = self.layers
        rare = after if isinstance(after, Rare) else None
        called = after is not None and rare is None
        if called or not isinstance(layers, Runs) or not layers.together:
            return None

        def several(
            n: int, stop: int, restart: Arrays, keep: bool
        ) -> tuple[int, Arrays, list[Arrays]] | None:
            (u,) = filled(restart)
            new = n > self._seen
            looks = rare if new else None
            free = Free(stop) if looks is None else looks.free(n)
            # Steps are either new or done again.
            last = stop if new else min(stop, self._seen + 1)
            found = layers.forth(n, u, free.up_to(last), keep)
            if found is None:
                return None
            done, stages = found
            self._seen = max(n + done - 1, self._seen)
            self._count(done, 0 if new else done)
            if looks is not None:
                looks(n + done, stages[-1])
            needed: list[Arrays] = [tuple(own[:-1]) for own in stages]
            return done, (stages[-1][-1],), needed

        return several

    def _reversible(self) -> Sweep:
        """The sweep, run again where it was reversed and not all is kept."""
        if self._sweep.exhausted:
            self._sweep = self._swept(None)
        return self._sweep

    def states(self) -> Iterator[np.ndarray]:
        """u_0 ... u_N, computed again where they were not kept, so that no more than one is held
        here. Collective in every step."""
        u = self.first
        yield u
        for n in range(len(self.layers)):
            u = self._stages(n, u)[-1]
            yield u

    def every(self) -> Iterator[Stages]:
        """The stages of all steps, computed again where they were not kept."""
        u = self.first
        for n in range(len(self.layers)):
            stages = self._stages(n, u)
            u = stages[-1]
            yield stages

    def _stages(self, n: int, u: np.ndarray) -> Stages:
        """Of layer n, kept or computed again from u_n."""
        if not self.plans.states.keeps_all:
            return self.layers[n].step(u)
        behind = self._sweep.kept(n + 1)[0] if n + 1 < len(self.layers) else self.last
        return [*filled(self._sweep.kept(n)), *filled((behind,))]

    def tangent(
        self,
        du: np.ndarray,
        dk: Coefficients,
        after: AfterChange[int],
        kept: list[Stages] | None = None,
    ) -> np.ndarray:
        """du_N from du_0, beside the states, which are computed again where they were not kept; the
        increments of all stages go into `kept`."""
        found = None if kept is None else [kept]
        (last,) = self.tangents([du], [dk], [after], found)
        return last

    def tangents(
        self,
        dus: Sequence[np.ndarray],
        dks: Sequence[Coefficients],
        afters: Sequence[AfterChange[int]],
        kept: Sequence[list[Stages]] | None = None,
    ) -> list[np.ndarray]:
        """`tangent` of each du, dk: all go through a layer before the next."""
        u, dus = self.first, list(dus)
        previous: list[np.ndarray | None] = [None] * len(dus)
        for after, du in zip(afters, dus, strict=True):
            after(0, u, du)
        with stage("forward"):
            for n in range(len(self.layers)):
                stages = self._stages(n, u)
                found = tangents(self.layers[n], stages, dus, dks, previous)
                u, previous, dus = stages[-1], [*dus], [c[-1] for c in found]
                for after, du in zip(afters, dus, strict=True):
                    after(n + 1, u, du)
                for own, changes in zip(kept or (), found, strict=bool(kept)):
                    own.append(changes)
        again = 0 if self.plans.states.keeps_all else len(self.layers)
        self._count(again, again)
        return dus

    def adjoint(
        self, before: Before[int], out: Out | None, keep: bool = False
    ) -> Adjoint:
        """lambda_0; adds L_n,k^T lambda_{n+1} of all layers to `out`, which may be None. `keep`
        also keeps all multipliers, and needs None."""
        sweep = self._reversible()
        back = Back(self.layers, self.last, before)
        kept: list[Stages] | None = (
            [[] for _ in range(len(self.layers))] if keep else None
        )

        def visit(n: int, needed: Arrays) -> None:
            multipliers = back.visit(n, [*filled(needed), back.u], out)
            if kept is not None:
                kept[n] = multipliers

        layers = self.layers
        together = isinstance(layers, Runs) and layers.together
        with stage("adjoint"):
            if (
                together
                and isinstance(before, Seldom)
                and self.plans.states.keeps_all
                and out is not None
            ):
                self._back_by_runs(back, out)
            else:
                sweep.reverse(visit)
        self.recomputation = sweep.steps_done / max(sweep.plan.steps, 1)
        before(0, back.u, back.adjoint)
        return Adjoint(back.adjoint, kept)

    def _back_by_runs(self, back: Back[Out], out: Out) -> None:
        """All the way back, many steps in one call where that goes."""
        n = len(self.layers)
        while n > 0:
            back.look(n)
            first = back.below(n)
            kept = [filled(self._sweep.kept(i)) for i in range(first, n)]
            if not back.run(first, kept):
                for i in range(n - 1, first - 1, -1):
                    back.move(i, [*kept[i - first], back.u], out)
            n = first

    def second(
        self,
        du: np.ndarray,
        dk: Coefficients,
        visitors: Visitors[int],
        out: Out,
        adjoint: Adjoint | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """(dlambda_0, lambda_0); adds the derivative of the adjoint's L_k^T lambda to `out`.

        Args:
            adjoint: of the same functional, whose kept multipliers save doing it again.
        """
        known = adjoint.multipliers if adjoint is not None else None
        back = BackChange(self.layers, self.last, dk, visitors, out, known)
        if self.plans.states.keeps_all and known is not None:
            self._second_kept(du, dk, visitors, back)
        else:
            self._second_swept(du, dk, visitors, back)
        visitors.before_change(0, self.first, du, back.dadjoint)
        if known is not None:
            assert adjoint is not None
            return back.dadjoint, adjoint.first
        visitors.before(0, self.first, back.beside.adjoint)
        return back.dadjoint, back.beside.adjoint

    def _second_kept(
        self,
        du: np.ndarray,
        dk: Coefficients,
        visitors: Visitors[int],
        back: BackChange[Out],
    ) -> None:
        """With all states, and the increments of all stages."""
        changes: list[Stages] = []
        self.tangent(du, dk, visitors.after, changes)
        visitors.turn()
        with stage("adjoint"):
            for n in range(len(changes) - 1, -1, -1):
                back.visit(n, self._stages(n, self.first), changes[n])

    def _second_swept(
        self,
        du: np.ndarray,
        dk: Coefficients,
        visitors: Visitors[int],
        back: BackChange[Out],
    ) -> None:
        """With a sweep of states and increments together."""
        visitors.after(0, self.first, du)
        start = (self.first, du, None)
        sweep = Sweep(self.plans.both, self._advance_both(dk, visitors.after), start)
        with stage("forward"):
            self._forward(sweep)
        u, change = filled(sweep.last[:2])

        def visit(n: int, needed: Arrays) -> None:
            nonlocal u, change
            parts = filled(needed)
            half = len(parts) // 2
            stages, changes = [*parts[:half], u], [*parts[half:], change]
            back.visit(n, stages, changes)
            u, change = stages[0], changes[0]

        try:
            visitors.turn()
            with stage("adjoint"):
                sweep.reverse(visit)
        finally:
            sweep.destroy()

    def _advance_both(self, dk: Coefficients, after: AfterChange[int]) -> Advance:
        seen = -1

        def advance(n: int, restart: Arrays) -> tuple[Arrays, Arrays]:
            nonlocal seen
            u, du = filled(restart[:2])
            stages = self.layers[n].step(u)
            changes = self.layers[n].tangent(stages, du, dk, restart[2])
            self._count(1, 1)
            if n > seen:
                seen = n
                after(n + 1, stages[-1], changes[-1])
            return (stages[-1], changes[-1], du), (*stages[:-1], *changes[:-1])

        return advance

    def destroy(self) -> None:
        """Frees what is stored, on disk too, and all states."""
        self._sweep.destroy()
        self.first = self.last = np.empty(0)


class Back(Generic[Out]):
    """An adjoint on its way back: u_n, lambda_n before J_n is added, and the last multipliers."""

    def __init__(self, layers: Layers[Out], last: np.ndarray, before: Before[int]):
        self.layers, self.before = layers, before
        self.u, self.adjoint = last, np.zeros_like(last)
        self._late: list[Stages] = []

    def visit(self, n: int, stages: Stages, out: Out | None) -> Stages:
        """Takes lambda_{n+1} to lambda_n; the layer's multipliers."""
        self.look(n + 1)
        return self.move(n, stages, out)

    def look(self, n: int) -> None:
        """Adds J_n to lambda_n."""
        self.before(n, self.u, self.adjoint)

    def move(self, n: int, stages: Stages, out: Out | None) -> Stages:
        """`visit` where J_{n+1} is added."""
        self.adjoint, multipliers = self.layers[n].adjoint(
            stages, self.adjoint, out, self._late
        )
        self._late = [multipliers, *self._late[:1]]
        self.u = stages[0]
        return multipliers

    def below(self, n: int) -> int:
        """The last state before u_n at which something is added to the adjoint."""
        return self.before.below(n) if isinstance(self.before, Seldom) else n - 1

    def run(self, n: int, kept: Sequence[Stages]) -> bool:
        """Takes lambda to lambda_n by as many steps as there are stages `kept`, where that goes in
        one call; whether it did."""
        assert isinstance(self.layers, Runs)
        found = self.layers.back(n, kept, self.adjoint)
        if found is None:
            return False
        self.adjoint, self.u = found, kept[0][0]
        return True


class BackChange(Generic[Out]):
    """The derivative of an adjoint on its way back, with the adjoint `beside` it where its
    multipliers are not known."""

    def __init__(
        self,
        layers: Layers[Out],
        last: np.ndarray,
        dk: Coefficients,
        visitors: Visitors[int],
        out: Out,
        known: list[Stages] | None,
    ):
        self.layers, self.dk, self.out, self.known = layers, dk, out, known
        self.before_change = visitors.before_change
        self.beside = Back(layers, last, visitors.before)
        self.dadjoint = np.zeros_like(last)
        self._late: list[Stages] = []

    def visit(self, n: int, stages: Stages, changes: Stages) -> None:
        """Takes dlambda_{n+1} to dlambda_n."""
        self.before_change(n + 1, stages[-1], changes[-1], self.dadjoint)
        known = self.known
        multipliers = self.beside.visit(n, stages, None) if known is None else known[n]
        layer, late = self.layers[n], self._late
        self.dadjoint, found = layer.second(
            stages, changes, multipliers, self.dadjoint, self.dk, self.out, late
        )
        self._late = [found, *self._late[:1]]


def filled(arrays: Arrays) -> list[np.ndarray]:
    """Arrays none of which is missing."""
    found = [a for a in arrays if a is not None]
    assert len(found) == len(arrays)
    return found
