"""Explicit Euler steps of M u_s' + A_s u_s = M R_s(u; theta) with diffusion and advection A_s of
each species, D(u) too, in one pass over the cells:

    step      u+ = u + dt (S(u) + s R(u; theta)),                    S u = -A u / M
    tangent   du+ = du + dt (S du + dS u + s (R_u du + R_theta dtheta))
    adjoint   lambda = the same with S^T and R_u^T,   dJ/dk += dt r_k^T lambda
    second    the derivative of the adjoint along (du, dk).

Heun's steps are made of two of these. Diffusivities are numbers or fields, one or one a direction,
or functions of the state; sides, with given values in time, and cells are any, inactive ones too.
Equal to the assembled step to rounding, without matrices: loops written for the terms at hand
(fused_loops.py) and compiled by numba. Arithmetic is in double precision, also where states are
kept in single.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence

import numpy as np

from npde_opt.aliases import Coefficients, Numbers
from npde_opt.errors import InputError
from npde_opt.forward.fused_many import ManySteps
from npde_opt.forward.layer import Stages
from npde_opt.forward.stepper import Stepper
from npde_opt.terms.advection import Advection
from npde_opt.terms.diffusion import Diffusion
from npde_opt.terms.interface import Term
from npde_opt.terms.kinetics import KineticsAt
from npde_opt.terms.nonlinear_diffusion import NonlinearDiffusionAt
from npde_opt.terms.state import Gradients

PRECISIONS = {"double": np.float64, "single": np.float32}

APPLIES = (
    "explicit-euler and heun: diffusion, D(u), advection, and one kinetics at most, which do not "
    "read t, without storage, sources, fluxes, and unknown boundary values"
)
"""Which steps are fused, in messages."""


def dtype_of(precision: str) -> np.dtype:
    """Of states. Raises InputError for another word than those of PRECISIONS."""
    if precision not in PRECISIONS:
        raise InputError("precision", repr(precision), ", ".join(PRECISIONS))
    return np.dtype(PRECISIONS[precision])


def applies(stepper: Stepper) -> bool:
    """Whether the fused step is the same as the stepper's, where no boundary value is sought."""
    linear, others = stepper.linear, stepper.groups[1].others
    operators = linear.operators if linear is not None else []
    terms = [t for o in operators for t in o.terms]
    if (
        stepper.scheme.name not in FUSED
        or stepper.solvers.part.equation.complex
        or stepper.capacity is not None
        or not (terms or others)
    ):
        return False
    kinetics = [p for p in others if type(p) is KineticsAt]
    fluxes = [p for p in others if type(p) is NonlinearDiffusionAt]
    return (
        len(kinetics) <= 1
        and len(kinetics) + len(fluxes) == len(others)
        and all(_written(p.term) for p in others)
        and all(o.diagonal for o in operators)
        and all(type(t) in (Diffusion, Advection) for t in terms)
        # Of diffusion alone, a second term is a second field of faces.
        and all(
            len(o.terms) == 1 or any(type(t) is Advection for t in o.terms)
            for o in operators
        )
    )


def _written(term: Term) -> bool:
    """Whether loops can be written for a term: they do not know the time, nor functions."""
    return not term.timed and not any(text.functions for text in term.texts)


class FusedEuler(ManySteps):
    """The stepper with its step and all derivatives replaced."""

    def _seen(self, n: int, j: int, u: np.ndarray) -> np.ndarray:
        """A state as backward loops take it."""
        return self._whole(n, j, u) if self.spreads.padded else self.store.around(u)

    def _step(self, n: int, j: int, u: np.ndarray) -> np.ndarray:
        """A step of Euler's from U_j, as all that follow."""
        out, around = self.store.state(u), self.store.around
        self._forth(self._whole(n, j, u), around(out)[None], self._dt(n))
        return out

    def step(self, n: int, u: np.ndarray) -> Stages:
        out = self._step(n, 0, u)
        self._last = weakref.ref(out), math.sqrt(self._squares[0])
        return [u, out]

    def _directions(self, dk: Coefficients) -> list[Numbers]:
        """Increments of the kinetics' parameters."""
        cells, found = self.grid.local_shape[::-1], list[Numbers]()
        for name, field in zip(self.kinetics.names, self.fields, strict=True):
            change = dk.get(name, 0.0)
            if field:
                found.append(
                    np.ascontiguousarray(np.broadcast_to(np.transpose(change), cells))
                )
            else:
                found.append(float(change))
        return found

    def _push(
        self, n: int, j: int, u: np.ndarray, du: np.ndarray, dk: Coefficients
    ) -> np.ndarray:
        """Its tangent."""
        out, around = self.store.state(du), self.store.around
        states = self._whole(n, j, u), self.store.filled(du), around(out)
        changes = *self._directions(dk), *self.spreads.changes(dk)
        loops, sizes = self._kernels(du), self._sizes(self.dt(n), states[0])
        cells = self._cells(states[0])
        loops.push(cells, *states, *self.parameters, *changes, *sizes)
        return out

    def _pull(
        self, n: int, j: int, u: np.ndarray, adjoint: np.ndarray, adds: bool
    ) -> np.ndarray:
        """Its adjoint, which adds up what `flush` gives."""
        result = self.store.state(adjoint)
        states = self._seen(n, j, u)[None], self.store.filled(adjoint)
        rows = self.store.around(result)[None]
        self._back(*states, rows, self._dt(n), adds=adds)
        return result

    def _twice(
        self,
        n: int,
        j: int,
        pair: tuple[np.ndarray, np.ndarray],
        adjoints: tuple[np.ndarray, np.ndarray],
        dk: Coefficients,
    ) -> np.ndarray:
        """The derivative of that, of a state and an adjoint with their changes."""
        (u, du), (multiplier, dadjoint) = pair, adjoints
        result, filled = self.store.state(dadjoint), self.store.filled
        moved = filled(du) if self.spreads.padded else self.store.around(du)
        states = self._seen(n, j, u), moved, filled(multiplier), filled(dadjoint)
        own = *self.spreads.sums, *self.spreads.more_sums(dk)
        sums = *self._sums, *own, self._scalars
        sizes = *self.spreads.changes(dk), *self._sizes(self.dt(n), states[0])
        given = *self.parameters, *self._directions(dk), *sums, *sizes
        loops = self._kernels(dadjoint)
        cells = self._cells(states[0])
        loops.twice(cells, *states, self.store.around(result), *given)
        return result

    def tangent(
        self,
        n: int,
        stages: Stages,
        du: np.ndarray,
        dk: Coefficients,
        previous: np.ndarray | None = None,
    ) -> Stages:
        return [du, self._push(n, 0, stages[0], du, dk)]

    def tangents(
        self,
        n: int,
        stages: Stages,
        dus: Sequence[np.ndarray],
        dks: Sequence[Coefficients],
        previous: Sequence[np.ndarray | None],
    ) -> list[Stages]:
        each = zip(dus, dks, strict=True)
        return [self.tangent(n, stages, du, dk) for du, dk in each]

    def adjoint(
        self,
        n: int,
        stages: Stages,
        adjoint: np.ndarray,
        out: Gradients | None,
        late: Sequence[Stages] = (),
    ) -> tuple[np.ndarray, Stages]:
        result = self._pull(n, 0, stages[0], adjoint, out is not None)
        return result, [np.empty(0), adjoint] if out is None else []

    def second(
        self,
        n: int,
        stages: Stages,
        changes: Stages,
        multipliers: Stages,
        dadjoint: np.ndarray,
        dk: Coefficients,
        out: Gradients,
        late: Sequence[Stages] = (),
    ) -> tuple[np.ndarray, Stages]:
        adjoints = multipliers[1], dadjoint
        return self._twice(n, 0, (stages[0], changes[0]), adjoints, dk), []


class FusedHeun(FusedEuler):
    """u+ = (u + E(E(u))) / 2 of steps E of Euler's."""

    def _half(self, u: np.ndarray) -> np.ndarray:
        return np.multiply(u, 0.5, out=self.store.state(u))

    def _mean(self, u: np.ndarray, moved: np.ndarray) -> np.ndarray:
        """Of both, in place of the second."""
        moved += u
        moved *= 0.5
        return moved

    def step(self, n: int, u: np.ndarray) -> Stages:
        first = self._step(n, 0, u)
        return [u, first, self._mean(u, self._step(n, 1, first))]

    def tangent(
        self,
        n: int,
        stages: Stages,
        du: np.ndarray,
        dk: Coefficients,
        previous: np.ndarray | None = None,
    ) -> Stages:
        first = self._push(n, 0, stages[0], du, dk)
        second = self._push(n, 1, stages[1], first, dk)
        return [du, first, self._mean(du, second)]

    def adjoint(
        self,
        n: int,
        stages: Stages,
        adjoint: np.ndarray,
        out: Gradients | None,
        late: Sequence[Stages] = (),
    ) -> tuple[np.ndarray, Stages]:
        half, adds = self._half(adjoint), out is not None
        first = self._pull(n, 1, stages[1], half, adds)
        result = self._pull(n, 0, stages[0], first, adds)
        result += half
        return result, [] if adds else [np.empty(0), first, half]

    def second(
        self,
        n: int,
        stages: Stages,
        changes: Stages,
        multipliers: Stages,
        dadjoint: np.ndarray,
        dk: Coefficients,
        out: Gradients,
        late: Sequence[Stages] = (),
    ) -> tuple[np.ndarray, Stages]:
        (_, first, half), dhalf = multipliers, self._half(dadjoint)
        pairs = list(zip(stages, changes, strict=True))
        dfirst = self._twice(n, 1, pairs[1], (half, dhalf), dk)
        result = self._twice(n, 0, pairs[0], (first, dfirst), dk)
        result += dhalf
        return result, []


FUSED = {"explicit-euler": FusedEuler, "heun": FusedHeun}


def fused(stepper: Stepper, coefficients: Coefficients) -> Stepper:
    """The stepper with fused steps, or as it is where there are none."""
    kind = FUSED[stepper.scheme.name] if applies(stepper) else None
    return kind(stepper, coefficients) if kind is not None else stepper
