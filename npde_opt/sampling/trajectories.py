"""Hamiltonian trajectories that leave exp(-J) as it is, on grids of any size.

Around a reference N(c, Q^-1), with x = m - c and a velocity v ~ N(0, Q^-1), a leap of length s is

    v -= a Q^-1 g(m),   (x, v) -> (rho x + s v, rho v - s x),   v -= a Q^-1 g(m),

g, rho and a as in moves.py. The turn keeps x^T Q x + v^T Q v, and a kick adds to 1/2 v^T Q v

    -a g^T v + a^2 / 2 g^T Q^-1 g,

so that the change dH of I + 1/2 x^T Q x + 1/2 v^T Q v is known without Q v, which is large and
rough on fine grids. The end is taken with the probability exp(-dH) where that is below 1. A
trajectory has 1 to `leaps` leaps, drawn before it begins: one of them is a step of MALA, and
several come to places that such steps would come to by a random walk.

(Beskos, Pinski, Sanz-Serna and Stuart, Stochastic Processes and their Applications 121 (2011);
Beskos et al., Journal of Computational Physics 335 (2017).)
"""

from __future__ import annotations

import math

import numpy as np
from petsc4py import PETSc

from npde_opt.objective import Objective
from npde_opt.sampling.moves import Lengths, Moves, Place
from npde_opt.sampling.reference import Reference


class Trajectories(Moves):
    """
    Args:
        leaps: of a trajectory at most.
    """

    def __init__(
        self,
        objective: Objective,
        reference: Reference,
        leaps: int,
        seed: int,
        temperature: float = 1.0,
    ):
        super().__init__(objective, reference, True, seed, temperature)
        self.leaps = leaps

    def tried(self, here: Place, lengths: Lengths, seed: int) -> tuple[Place, float]:
        v, place, gained = self.reference.change(seed), here, 0.0
        for _ in range(self._count(seed)):
            gained += _kick(place, v, lengths.a)
            there = self.at(self._turned(place, v, lengths))
            if place is not here:
                place.destroy()
            place = there
            if not math.isfinite(place.rest):
                v.destroy()
                return place, 0.0
            gained += _kick(place, v, lengths.a)
        v.destroy()
        return place, math.exp(min(0.0, here.rest - place.rest - gained))

    def _count(self, seed: int) -> int:
        """Leaps of a trajectory, the same on every rank."""
        return 1 + int(np.random.default_rng([seed, 1, 2]).integers(self.leaps))

    def _turned(self, place: Place, v: PETSc.Vec, lengths: Lengths) -> PETSc.Vec:
        """m after the turn, which changes v too."""
        away, m = place.m.duplicate(), place.m.duplicate()
        away.waxpy(-1.0, self.center, place.m)
        m.waxpy(lengths.rho, away, self.center)
        m.axpy(lengths.s, v)
        v.scale(lengths.rho)
        v.axpy(-lengths.s, away)
        away.destroy()
        return m


def _kick(place: Place, v: PETSc.Vec, a: float) -> float:
    """Changes v; what that adds to 1/2 v^T Q v."""
    assert place.slope is not None and place.image is not None
    along = float(place.slope.dot(v))
    v.axpy(-a, place.image)
    return -a * along + 0.5 * a**2 * place.length
