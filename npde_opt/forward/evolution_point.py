"""The trajectories of an evolution equation at one point, and their exact discrete derivatives.

With the steps of stepper.py, observations d_n = B g(u_n) and multipliers d of the data, backward from n = N:
    lambda := lambda + g'(u_n)^T B^T d_n,  then the adjoint of step n - 1,   ... and dg/dk^T lambda at the initial state.
Second derivatives run the derivative of that sweep along (du, dk).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from petsc4py import PETSc

from npde_opt.forward.equation import LinearPoint
from npde_opt.forward.fused import FusedEuler, applies
from npde_opt.forward.guard import Guard
from npde_opt.forward.interface import Weights
from npde_opt.forward.positivity import check_reactions
from npde_opt.forward.stepper import Group, Stages, Stepper
from npde_opt.forward.trajectory import Arrays, Sweep
from npde_opt.parameters import ParametersAt
from npde_opt.stages import stage
from npde_opt.terms.state import Gradients, channels

if TYPE_CHECKING:
    from npde_opt.forward.evolution import Evolution

@dataclass
class Adjoints:
    """An adjoint sweep: its data multipliers, dJ/dk, and the multipliers of all steps, once they are kept."""

    data: list[PETSc.Vec]
    gradient: Gradients
    multipliers: list[dict[int, Stages]] | None


class EvolutionPoint:
    """F at one point, with its derivatives there: a Linearization."""

    def __init__(self, forward: Evolution, parameters: ParametersAt):
        self.forward, self.parameters, self.grid = forward, parameters, forward.grid
        self.k: dict[str, Any] = {**forward.known, **parameters.coefficients()}
        self.data: list[PETSc.Vec] = []
        self.final: list[np.ndarray] = []
        self._sweeps: list[Sweep] = []
        self._held: list[Adjoints] = []
        self.guard = Guard(forward)
        self.guard.check_diffusivities(self.k)
        self.linear = LinearPoint(forward.part, self.k, ())
        check_reactions(self.grid, forward.prefix, [p for operator in self.linear.points for p in operator])
        self.nonlinear = [t.at(self.k) for t in forward.equation.nonlinear]
        self.assemble()
        self.guard.check_steps(self.k, self.nonlinear)
        self.steppers = [self._stepper(e) for e in range(len(forward.experiments))]
        try:
            for e, observer in enumerate(forward.observers):
                self.data.append(observer.create_vec())
                self._sweeps.append(self._run(e, self.data[e]))
                self.guard.check_data(self.data[e].getArray(readonly=True))
                forward.counters.forward_solves += 1
        except Exception:
            self.destroy()
            raise
        finally:
            forward.count_krylov()
        forward._ever = True

    def assemble(self) -> None:
        """Puts this point's operators into the shared matrices, where they are not there already."""
        with stage("assemble"):
            self.forward.part.assemble(self.linear.points)

    def _stepper(self, e: int) -> Stepper:
        forward, scheme = self.forward, self.forward.scheme
        sources = [s.at(self.k) for s in forward.experiments[e].sources]
        own_sources = [p for p in self.nonlinear if getattr(p, "stateless", False)]
        reactions = [p for p in self.nonlinear if p not in own_sources]
        linear = self.linear if forward.equation.operators else None
        if not scheme.linear_implicit:
            groups = Group(scheme.implicit, None, []), Group(scheme.explicit, linear, reactions + own_sources + sources)
        elif scheme.nonlinear_implicit:
            groups = Group(scheme.implicit, linear, reactions + own_sources + sources), Group(scheme.explicit, None, [])
        else:
            groups = Group(scheme.implicit, linear, own_sources + sources), Group(scheme.explicit, None, reactions)
        outside = forward.outsides[e]
        found = Stepper(self.grid, scheme, groups, forward.times, outside, self.linear.load(outside), forward.solvers,
                        forward.newton)
        return FusedEuler(found, self.k) if forward.fused and applies(found, self.k) else found

    def _start(self, e: int) -> Arrays:
        return (self.forward.initials[e].value(self.k),)

    def _run(self, e: int, data: PETSc.Vec | None) -> Sweep:
        """A forward sweep; observes into `data`."""
        start = self._start(e)
        assert start[0] is not None
        self.guard.check_start(start[0])
        bound = self.guard.bound(self.steppers[e], start[0])
        sweep = Sweep(self.forward.storage, self._advance(e, data, bound), start)
        if data is not None:
            self.forward.observers[e].observe(0, start[0], data)
        last = self.forward.times.size - 2
        with stage("forward"):
            sweep.forward()
        assert sweep.last[0] is not None
        self.guard.look(self.steppers[e], last, sweep.last[0])
        return sweep

    def _advance(self, e: int, data: PETSc.Vec | None, bound: float):
        forward, guard, stepper = self.forward, self.guard, self.steppers[e]
        seen, last, look = -1, forward.times.size - 2, 0

        def advance(n: int, restart: Arrays) -> tuple[Arrays, Arrays]:
            nonlocal seen, look
            (u,) = restart
            assert u is not None
            if n > seen and n >= look:
                look = guard.look(stepper, n, u)
            stages = guard.step(stepper, n, u)
            if guard.check_size(stepper, n, stages, bound) and n > seen:
                look = n + 1
            forward.counters.steps += 1
            if n > seen:
                seen = n
                if data is not None:
                    forward.observers[e].observe(n + 1, stages[-1], data)
                    if n == last:
                        self.final.append(stages[-1])
            else:
                forward.counters.recomputed += 1
            return (stages[-1],), tuple(stages[:-1])

        return advance

    def _sweep(self, e: int) -> Sweep:
        """A sweep that can be reversed."""
        if self._sweeps[e].exhausted:
            self._sweeps[e] = self._run(e, None)
            self.forward.counters.recomputed += self.forward.times.size - 1
        return self._sweeps[e]

    def states(self, e: int) -> Iterator[np.ndarray]:
        """u_0 ... u_N of an experiment [c, i, j, k], one after the other; computed again where they were not kept, so
        that no more than one is held here. Collective in every step."""
        (u,) = self._start(e)
        assert u is not None
        self.assemble()
        yield u
        for n in range(self.forward.times.size - 1):
            u = self._stages(e, n, u)[-1]
            yield u

    def _stages(self, e: int, n: int, u: np.ndarray) -> Stages:
        """Of step n, kept or computed again from u_n."""
        if not self.forward.storage.keeps_all:
            return self.steppers[e].step(n, u)
        sweep = self._sweeps[e]
        after = sweep.kept(n + 1) if n + 1 < sweep.plan.steps else sweep.last
        return [*sweep.kept(n), after[0]]  # type: ignore[list-item]

    def apply(self, dm: PETSc.Vec) -> list[PETSc.Vec]:
        """J dm: one data Vec an experiment, which the caller destroys."""
        self.assemble()
        dk = self.parameters.push(dm)
        out = [self._tangent(e, dk, None) for e in range(len(self.data))]
        self.forward.count_krylov()
        return out

    def _tangent(self, e: int, dk: Mapping[str, Any], kept: list[Stages] | None) -> PETSc.Vec:
        """J dk of one experiment, beside the kept stages or computing them again; the increments go into `kept`."""
        forward, stepper, observer = self.forward, self.steppers[e], self.forward.observers[e]
        keeps = forward.storage.keeps_all
        (u,), du = self._start(e), forward.initials[e].push(self.k, dk)
        data, dprevious = observer.create_vec(), None
        assert u is not None
        observer.push(0, u, du, data)
        with stage("forward"):
            for n in range(forward.times.size - 1):
                stages = self._stages(e, n, u)
                changes = stepper.tangent(n, stages, du, dk, dprevious)
                u, du, dprevious = stages[-1], changes[-1], du
                observer.push(n + 1, stages[-1], du, data)
                if kept is not None:
                    kept.append(changes)
        again = 0 if keeps else forward.times.size - 1
        forward.counters.steps += again
        forward.counters.recomputed += again
        forward.counters.forward_solves += 1
        return data

    def adjoint_states(self, d: Sequence[PETSc.Vec]) -> Adjoints:
        """The adjoint sweeps with data multipliers d."""
        self.assemble()
        forward = self.forward
        found = Adjoints([v.copy() for v in d], self._gradients(), None)
        self._held.append(found)
        inner = self._gradients()
        for e, vec in enumerate(d):
            adjoint = self._adjoint(e, vec, inner, None)
            forward.initials[e].pull(self.k, adjoint, found.gradient)
            forward.counters.adjoint_solves += 1
        found.gradient.subtract(inner)
        forward.count_krylov()
        self.guard.check_derivatives(found.gradient.values.values())
        return found

    def _gradients(self) -> Gradients:
        return Gradients(self.grid, {u.name: u.length for u in self.forward.space.unknowns})

    def _keep_multipliers(self, adjoints: Adjoints) -> None:
        """Runs the adjoint sweeps once more for the multipliers of all steps, which Hessian products need."""
        if not self.forward.keeps_multipliers or adjoints.multipliers is not None:
            return
        adjoints.multipliers = [{} for _ in adjoints.data]
        for e, d in enumerate(adjoints.data):
            self._adjoint(e, d, None, adjoints.multipliers[e])
            self.forward.counters.adjoint_solves += 1

    def _adjoint(self, e: int, d: PETSc.Vec, out: Gradients | None, kept: dict[int, Stages] | None) -> np.ndarray:
        """lambda_0 of one experiment."""
        stepper, observer = self.steppers[e], self.forward.observers[e]
        stepper.discard()
        work: dict[str, Any] = {"adjoint": channels(self.grid, len(self.forward.equation.species)), "late": []}

        def visit(n: int, needed: Any) -> None:
            stages = [*needed, work["after"]]
            work["after"] = stages[0]
            observer.pull(n + 1, stages[-1], d, work["adjoint"])
            work["adjoint"], mu = stepper.adjoint(n, stages, work["adjoint"], out, extrapolated(work["late"]))
            work["late"] = [mu, *work["late"][:1]]
            if kept is not None:
                kept[n] = mu

        sweep = self._sweep(e)
        (work["after"],) = sweep.last
        with stage("adjoint"):
            sweep.reverse(visit)
            if out is not None:
                stepper.flush(out)
        self.forward.recomputation = sweep.steps_done / sweep.plan.steps
        start = self._start(e)[0]
        assert start is not None
        observer.pull(0, start, d, work["adjoint"])
        return work["adjoint"]

    def apply_adjoint(self, d: Sequence[PETSc.Vec], adjoints: Adjoints | None = None) -> PETSc.Vec:
        """J^T d. The caller destroys the Vec."""
        found = self.adjoint_states(d) if adjoints is None else adjoints
        out = self.forward.space.create_vec()
        self.parameters.pull(found.gradient.values, out)
        if adjoints is None:
            self._held.pop()
            release(found)
        return out

    def hessian(self, dm: PETSc.Vec, weights: Sequence[Weights], out: PETSc.Vec, adjoints: Adjoints | None) -> None:
        """Adds J^T W J dm and, where the misfit's adjoint states are given, the second-order term."""
        if adjoints is None:
            images = self.apply(dm)
            for w, image in zip(weights, images, strict=True):
                w.apply(image)
            product = self.apply_adjoint(images)
            out.axpy(1.0, product)
            for vec in (*images, product):
                vec.destroy()
            return
        self.assemble()
        self._keep_multipliers(adjoints)
        dk = self.parameters.push(dm)
        total, inner = self._gradients(), self._gradients()
        for e, w in enumerate(weights):
            self._second(e, w, dk, adjoints, inner, total)
        total.subtract(inner)
        self.guard.check_derivatives(total.values.values())
        self.parameters.pull_second(adjoints.gradient.values, dm, out)
        self.parameters.pull(total.values, out)
        self.forward.count_krylov()

    def _second(self, e: int, w: Weights, dk: Mapping[str, Any], adjoints: Adjoints, inner: Gradients,
                total: Gradients) -> None:
        """Adds one experiment's part of the Hessian product."""
        forward, stepper, observer = self.forward, self.steppers[e], self.forward.observers[e]
        stepper.discard()
        d, species = adjoints.data[e], len(forward.equation.species)
        multipliers = adjoints.multipliers[e] if adjoints.multipliers is not None else None
        work: dict[str, Any] = {"adjoint": channels(self.grid, species), "dadjoint": channels(self.grid, species),
                                "late": [], "dlate": []}

        def visit(n: int, stages: Any, changes: Any, image: PETSc.Vec) -> None:
            observer.pull(n + 1, stages[-1], image, work["dadjoint"])
            observer.second(n + 1, stages[-1], changes[-1], d, work["dadjoint"])
            if multipliers is None:
                observer.pull(n + 1, stages[-1], d, work["adjoint"])
                work["adjoint"], mu = stepper.adjoint(n, stages, work["adjoint"], None, extrapolated(work["late"]))
                work["late"] = [mu, *work["late"][:1]]
            else:
                mu = multipliers[n]
            work["dadjoint"], dmu = stepper.second(n, stages, changes, mu, work["dadjoint"], dk, inner,
                                                   extrapolated(work["dlate"]))
            work["dlate"] = [dmu, *work["dlate"][:1]]

        u0, du0 = self._start(e)[0], forward.initials[e].push(self.k, dk)
        assert u0 is not None
        if forward.storage.keeps_all and multipliers is not None:
            changes: list[Stages] = []
            image = self._tangent(e, dk, changes)
            w.apply(image)
            with stage("adjoint"):
                for n in range(len(changes) - 1, -1, -1):
                    visit(n, self._stages(e, n, u0), changes[n], image)
        else:
            image = observer.create_vec()
            observer.push(0, u0, du0, image)
            sweep = Sweep(forward.storage_second, self._advance_both(e, dk, image), (u0, du0, None))
            sweep.forward()
            forward.counters.forward_solves += 1
            w.apply(image)
            half = forward.scheme.stages
            after, dafter, _ = sweep.last

            def visit_both(n: int, needed: Any) -> None:
                nonlocal after, dafter
                visit(n, [*needed[:half], after], [*needed[half:], dafter], image)
                after, dafter = needed[0], needed[half]

            with stage("adjoint"):
                sweep.reverse(visit_both)
            sweep.destroy()
        stepper.flush(inner)
        forward.counters.adjoint_solves += 1
        observer.pull(0, u0, image, work["dadjoint"])
        observer.second(0, u0, du0, d, work["dadjoint"])
        if multipliers is None:
            observer.pull(0, u0, d, work["adjoint"])
        forward.initials[e].pull(self.k, work["dadjoint"], total)
        first = work["adjoint"] if multipliers is None else self._initial_adjoint(e, d, u0, multipliers)
        forward.initials[e].second(self.k, first, dk, total)
        image.destroy()

    def _initial_adjoint(self, e: int, d: PETSc.Vec, u0: np.ndarray, multipliers: dict[int, Stages]) -> np.ndarray:
        """lambda_0 from the multipliers of step 0."""
        out = self.steppers[e].first_adjoint(u0, multipliers[0])
        self.forward.observers[e].pull(0, u0, d, out)
        return out

    def _advance_both(self, e: int, dk: Mapping[str, Any], image: PETSc.Vec):
        """Steps and increments together."""
        forward, stepper, seen = self.forward, self.steppers[e], [-1]

        def advance(n: int, restart: Arrays) -> tuple[Arrays, Arrays]:
            u, du, dprevious = restart
            assert u is not None and du is not None
            stages = stepper.step(n, u)
            changes = stepper.tangent(n, stages, du, dk, dprevious)
            forward.counters.steps += 1
            if n > seen[0]:
                seen[0] = n
                forward.observers[e].push(n + 1, stages[-1], changes[-1], image)
            return (stages[-1], changes[-1], du), (*stages[:-1], *changes[:-1])

        return advance

    def destroy(self) -> None:
        for vec in self.data:
            vec.destroy()
        for sweep in self._sweeps:
            sweep.destroy()
        for adjoints in self._held:
            release(adjoints)
        self.data, self._sweeps, self._held = [], [], []


def extrapolated(late: list[Stages]) -> Stages | None:
    """A guess of the next multipliers from those of the one or two steps before."""
    if len(late) < 2:
        return late[0] if late else None
    return [2 * a - b for a, b in zip(late[0], late[1], strict=True)]


def release(adjoints: Adjoints) -> None:
    for vec in adjoints.data:
        vec.destroy()
