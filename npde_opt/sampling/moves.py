"""Steps that leave exp(-J) as it is, on grids of any size.

With a reference N(c, Q^-1) and I(m) = J(m) - 1/2 (m - c)^T Q (m - c), a step of length s is

    m' = c + rho (m - c) + s v,   rho = sqrt(1 - s^2),   v ~ N(0, Q^-1)              pCN
                                                         v ~ N(-a Q^-1 g, Q^-1)      MALA

with g = dI/dm at m, a = sqrt(h) / 2 and h = 4 (1 - rho) / (1 + rho). It is accepted with the
probability exp(L(m', m) - L(m, m')) where that is below 1,

    L(m, m') = -I(m) - a g^T v(m, m') - a^2 / 2 g^T Q^-1 g,   v(m, m') = (m' - c - rho (m - c)) / s

(Cotter, Roberts, Stuart and White, Statistical Science 28 (2013); Beskos et al., Journal of
Computational Physics 335 (2017).) Without the terms in g it is that of pCN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from petsc4py import PETSc

from npde_opt.objective import Objective
from npde_opt.parameters.draws import child
from npde_opt.sampling.reference import Reference


@dataclass
class Place:
    """Where a chain is.

    Attributes:
        value: J. rest: I. slope: g, None without drift. image: Q^-1 g.
    """

    m: PETSc.Vec
    value: float
    rest: float
    slope: PETSc.Vec | None = None
    image: PETSc.Vec | None = None

    @property
    def length(self) -> float:
        """g^T Q^-1 g."""
        if self.slope is None or self.image is None:
            return 0.0
        return float(self.slope.dot(self.image))

    def destroy(self) -> None:
        for vec in (self.m, self.slope, self.image):
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
    """

    def __init__(
        self, objective: Objective, reference: Reference, drift: bool, seed: int
    ):
        self.objective, self.reference = objective, reference
        self.drift, self.seed = drift, seed
        self.center = reference.center()

    def at(self, m: PETSc.Vec) -> Place:
        """What the chain has to know of a point, whose Vec it takes over."""
        here = self.objective.linearize(m)
        away, pull = m.duplicate(), m.duplicate()
        away.waxpy(-1.0, self.center, m)
        self.reference.precision(away, pull)
        value = here.value
        place = Place(m, value, value - 0.5 * float(away.dot(pull)))
        if self.drift and math.isfinite(value):
            place.slope = here.gradient().copy()
            place.slope.axpy(-1.0, pull)
            place.image = m.duplicate()
            self.reference.apply(place.slope, place.image)
        for vec in (away, pull):
            vec.destroy()
        here.destroy()
        return place

    def step(self, here: Place, s: float, number: int) -> tuple[Place, float]:
        """(where the chain goes, the probability with which it was taken). `here` is destroyed
        where it is left.

        Args:
            number: of the step, which decides what is drawn.
        """
        lengths, seed = Lengths(s), child(self.seed, 1 + number)
        there = self.at(self._proposed(here, lengths, seed))
        chance = self._chance(here, there, lengths)
        # The same number on every rank.
        if np.random.default_rng([seed, 1]).random() < chance:
            here.destroy()
            return there, chance
        there.destroy()
        return here, chance

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
