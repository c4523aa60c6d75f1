"""Steps that leave exp(-J) as it is, on grids of any size.

With a reference N(c, Q^-1) and I(m) = J(m) - 1/2 (m - c)^T Q (m - c), a step of length s is

    m' = c + rho (m - c) + s v,   rho = sqrt(1 - s^2),   v ~ N(0, Q^-1)              pCN
                                                         v ~ N(-a Q^-1 g, Q^-1)      MALA

with g = dI/dm at m, a = sqrt(h) / 2 and h = 4 (1 - rho) / (1 + rho). It is accepted with the
probability exp(L(m', m) - L(m, m')) where that is below 1,

    L(m, m') = -I(m) - a g^T v(m, m') - a^2 / 2 g^T Q^-1 g,   v(m, m') = (m' - c - rho (m - c)) / s

(Cotter, Roberts, Stuart and White, Statistical Science 28 (2013); Beskos et al., Journal of
Computational Physics 335 (2017).) Without the terms in g it is that of pCN. Outside the bounds of
the parameters, and where a solve fails, J is infinite: no step leads there.

At a temperature T of the misfit, J is misfit / T + regularization (tempering.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.errors import SolverError, collective, without_frames
from npde_opt.objective import Objective, ObjectiveAt
from npde_opt.parameters.draws import child
from npde_opt.sampling.reference import Reference


@dataclass
class Place:
    """Where a chain is.

    Attributes:
        value: J. rest: I. slope: g, None without drift. image: Q^-1 g.
        error: of a solve that failed here; J is then infinite.
        cold, misfit, gradient: J and the misfit at temperature 1, and dJ/dm there, None without
            drift: from these the place is known at any other.
    """

    m: PETSc.Vec
    value: float = math.inf
    rest: float = math.inf
    slope: PETSc.Vec | None = None
    image: PETSc.Vec | None = None
    error: SolverError | None = None
    cold: float = math.inf
    misfit: float = math.inf
    gradient: PETSc.Vec | None = None

    @property
    def length(self) -> float:
        """g^T Q^-1 g."""
        if self.slope is None or self.image is None:
            return 0.0
        return float(self.slope.dot(self.image))

    def forget(self) -> None:
        """Gives back what is of its temperature only; another place has the rest."""
        for vec in (self.slope, self.image):
            if vec is not None:
                vec.destroy()

    def destroy(self) -> None:
        self.forget()
        for vec in (self.m, self.gradient):
            if vec is not None:
                vec.destroy()


@dataclass(frozen=True)
class Lengths:
    """Of a step s."""

    s: float

    @property
    def rho(self) -> float:
        """What stays of m - c."""
        return math.sqrt(1 - self.s**2)

    @property
    def a(self) -> float:
        """Of the drift."""
        return math.sqrt((1 - self.rho) / (1 + self.rho))


class Moves:
    """Steps of one kind. Collective.

    Args:
        drift: whether they go along the gradient (MALA).
        seed: of all that is drawn.
        temperature: of the misfit, at least 1.
    """

    def __init__(
        self,
        objective: Objective,
        reference: Reference,
        drift: bool,
        seed: int,
        temperature: float = 1.0,
    ):
        self.objective, self.reference = objective, reference
        self.drift, self.seed, self.temperature = drift, seed, temperature
        self.center = reference.center()
        self._box = _box(objective)

    def at(self, m: PETSc.Vec) -> Place:
        """What the chain has to know of a point, whose Vec it takes over."""
        if not self._inside(m):
            return Place(m)
        here = self.objective.linearize(m)
        try:
            with collective(self.objective.everyone):
                return self._place(m, here)
        except SolverError as error:
            without_frames(error)
            return Place(m, error=error)
        finally:
            here.destroy()

    def _inside(self, m: PETSc.Vec) -> bool:
        """Whether all parameters are within their bounds."""
        if self._box is None:
            return True
        low, high = self._box
        own = m.getArray(readonly=True)
        inside = bool(((own >= low) & (own <= high)).all())
        return reductions.everywhere(self.objective.everyone, inside)

    def cut(self, m: PETSc.Vec) -> None:
        """Moves parameters outside their bounds onto them."""
        if self._box is not None:
            m.setArray(np.clip(m.getArray(readonly=True), *self._box))

    def _place(self, m: PETSc.Vec, here: ObjectiveAt) -> Place:
        value = here.value
        if not math.isfinite(value):
            return Place(m, value)
        gradient = here.gradient().copy() if self.drift else None
        return self.adopted(Place(m, cold=value, misfit=here.misfit, gradient=gradient))

    def adopted(self, place: Place) -> Place:
        """The place as these moves see it, at their temperature, of one that other moves were at.
        It shares the point and its gradient; nothing is solved for but Q^-1 g."""
        m, gone = place.m, 1 - 1 / self.temperature
        value = place.cold - gone * place.misfit
        away, pull = m.duplicate(), m.duplicate()
        away.waxpy(-1.0, self.center, m)
        self.reference.precision(away, pull)
        rest = value - 0.5 * float(away.dot(pull))
        found = replace(place, value=value, rest=rest, slope=None, image=None)
        if self.drift:
            found.slope = self._gradient(place)
            found.slope.axpy(-1.0, pull)
            # Far away a gradient may overflow where the value does not: no step leads there either.
            if math.isfinite(found.slope.norm()):
                found.image = m.duplicate()
                self.reference.apply(found.slope, found.image)
            else:
                found.value = found.rest = math.inf
        for vec in (away, pull):
            vec.destroy()
        return found

    def _gradient(self, place: Place) -> PETSc.Vec:
        """dJ/dm at the temperature; the caller's."""
        assert place.gradient is not None
        found = place.gradient.copy()
        if self.temperature != 1:
            penalty, here = found.duplicate(), self.objective.linearize(place.m)
            here.regularization_gradient(penalty)
            here.destroy()
            found.scale(1 / self.temperature)
            found.axpy(1 - 1 / self.temperature, penalty)
            penalty.destroy()
        return found

    def step(self, here: Place, s: float, number: int) -> tuple[Place, float, bool]:
        """(where the chain goes, the probability with which the step was taken, whether a solve
        failed). `here` is destroyed where it is left.

        Args:
            number: of the step, which decides what is drawn.
        """
        seed = child(self.seed, 1 + number)
        there, chance = self.tried(here, Lengths(s), seed)
        # The same on every rank; [seed, count] are the numbers of the noise of `count` unknowns.
        if np.random.default_rng([seed, 1, 1]).random() < chance:
            here.destroy()
            return there, chance, False
        there.destroy()
        return here, chance, there.error is not None

    def tried(self, here: Place, lengths: Lengths, seed: int) -> tuple[Place, float]:
        """Where a step may go, and the probability with which it is taken."""
        there = self.at(self._proposed(here, lengths, seed))
        return there, self._chance(here, there, lengths)

    def _proposed(self, here: Place, lengths: Lengths, seed: int) -> PETSc.Vec:
        change = self.reference.change(seed)
        if here.image is not None:
            change.axpy(-lengths.a, here.image)
        proposed = here.m.duplicate()
        proposed.waxpy(-1.0, self.center, here.m)
        proposed.scale(lengths.rho)
        proposed.axpy(1.0, self.center)
        proposed.axpy(lengths.s, change)
        change.destroy()
        return proposed

    def _chance(self, here: Place, there: Place, lengths: Lengths) -> float:
        if not math.isfinite(there.rest):
            return 0.0
        back, on = (
            self._weight(there, here, lengths),
            self._weight(here, there, lengths),
        )
        return math.exp(min(0.0, back - on))

    def _weight(self, start: Place, end: Place, lengths: Lengths) -> float:
        """L(start, end)."""
        if start.slope is None:
            return -start.rest
        v, away = end.m.duplicate(), start.m.duplicate()
        v.waxpy(-1.0, self.center, end.m)
        away.waxpy(-1.0, self.center, start.m)
        v.axpy(-lengths.rho, away)
        along = float(start.slope.dot(v)) / lengths.s
        for vec in (v, away):
            vec.destroy()
        return -start.rest - lengths.a * along - 0.5 * lengths.a**2 * start.length

    def destroy(self) -> None:
        self.center.destroy()


def _box(objective: Objective) -> tuple[np.ndarray, np.ndarray] | None:
    """Bounds of the own parameters, infinite where they are known; None where there are none."""
    bounds, space, ends = objective.bounds(), objective.space, []
    if bounds is None:
        return None
    for vec, far in zip(bounds, (-math.inf, math.inf), strict=True):
        for name in space.blocks:
            space.own(vec, name)[~space.free(name)] = far
        ends.append(vec.getArray(readonly=True).copy())
        vec.destroy()
    return ends[0], ends[1]
