"""Tangents within a time step, and what they know where it ends: the next step begins there.

Of the implicit group, whose systems S = M + alpha r'(U_s) are solved by factors,

    S dU_s = b,    so that    r'(U_s) dU_s = (b - M dU_s) / alpha.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from npde_opt.aliases import Coefficients
from npde_opt.forward.groups import Group
from npde_opt.terms.capacity import CapacityAt
from npde_opt.terms.state import State


@dataclass(frozen=True, eq=False)
class System:
    """What all steps of a stepper share.

    Args:
        groups: (implicit, explicit).
        mass: M.
    """

    stages: int
    groups: tuple[Group, Group]
    mass: np.ndarray
    capacity: CapacityAt | None


class Increments:
    """One tangent: dU_0 ... and the right-hand sides of the stages' systems.

    Args:
        dt: of the step. states: U_0 ... U_s.
    """

    def __init__(
        self,
        system: System,
        dt: float,
        states: Sequence[State],
        du: np.ndarray,
        dk: Coefficients,
    ):
        self.system, self.dt, self.states, self.dk = system, dt, states, dk
        self.changes = [State(states[0].grid, du)]
        capacity = system.capacity
        self._dmass = capacity.push(dk) if capacity is not None else None
        # r_k(U_j) dk, which several stages need, and r'(U_j) dU_j, by group and stage.
        self.direct: dict[tuple[int, int], np.ndarray | float] = {}
        self.rates: dict[tuple[int, int], np.ndarray] = {}

    def side(self, i: int) -> np.ndarray:
        """Of the system of stage i, the stages before it being there."""
        states, first = self.states, self.changes[0].u
        rhs = self.system.mass * first
        if self._dmass is not None:
            rhs -= self._dmass * (states[i].u - states[0].u)
        for j in range(i + 1):
            for k, group in enumerate(self.system.groups):
                w = self.dt * group.weight(i, j)
                if not w:
                    continue
                change = self._derivative(k, j)
                if j < i:
                    change = change + self._rate(k, j)
                rhs -= w * change
        return rhs

    def _rate(self, k: int, j: int) -> np.ndarray:
        """r'(U_j) dU_j of group k."""
        if (k, j) not in self.rates:
            group = self.system.groups[k]
            self.rates[k, j] = group.jacobian(self.states[j], self.changes[j])
        return self.rates[k, j]

    def _derivative(self, k: int, j: int) -> np.ndarray | float:
        """r_k(U_j) dk of group k."""
        if (k, j) not in self.direct:
            group = self.system.groups[k]
            self.direct[k, j] = group.derivative(self.states[j], self.dk)
        return self.direct[k, j]


class Behind:
    """What tangents know at the end of a step.

    Args:
        sides: b of the last stage's systems. alpha: of these.
    """

    def __init__(
        self, found: Sequence[Increments], sides: Sequence[np.ndarray], alpha: float
    ):
        self.found, self.sides, self.alpha = found, sides, alpha

    def go_on(self, begun: Sequence[Increments]) -> None:
        """Tells it those that go on with the same increments from the same state."""
        if len(begun) != len(self.found):
            return
        for one, other, side in zip(self.found, begun, self.sides, strict=True):
            system, last = one.system, one.changes[-1].u
            group, s = system.groups[0], system.stages
            same = other.dk is one.dk and other.changes[0].u is last
            if not (same and group.alike(one.states[-1], other.states[0])):
                continue
            if (0, s) in one.direct:
                other.direct[0, 0] = one.direct[0, s]
            other.rates[0, 0] = (side - system.mass * last) / self.alpha
