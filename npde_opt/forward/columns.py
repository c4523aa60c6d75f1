"""Experiments that share every step, as columns of one state: [c, s, i, j, k], samples fastest in
memory.

Fields of cells broadcast over the samples, as these stand before the axes of the grid.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from npde_opt.forward.stepper import Stepper


@dataclass(frozen=True)
class Batch:
    """Experiments that one stepper runs together.

    Args:
        members: numbers of the experiments; a single one has states [c, i, j, k] of its own.
        instants: the n at which something is seen of any of them.
    """

    members: tuple[int, ...]
    stepper: Stepper
    instants: frozenset[int]

    @classmethod
    def of(cls, members: Sequence[int], stepper: Stepper, observers: Sequence[Any]) -> Batch:
        instants = frozenset(n for e in members for n in observers[e].instants)
        return cls(tuple(members), stepper, instants)

    def join(self, states: Sequence[np.ndarray]) -> np.ndarray:
        """The members' states as one."""
        if len(self.members) == 1:
            return states[0]
        count, *cells = states[0].shape
        out = np.empty((count, *cells[::-1], len(states)))
        whole = out.transpose(0, *range(out.ndim - 1, 0, -1))
        for s, state in enumerate(states):
            whole[:, s] = state
        return whole

    def part(self, u: np.ndarray, at: int) -> np.ndarray:
        """A member's column, as a view."""
        return u if len(self.members) == 1 else u[:, at]

    def each(self, *arrays: np.ndarray) -> Iterator[tuple[Any, ...]]:
        """(experiment, its columns of the arrays) of all members."""
        for at, e in enumerate(self.members):
            yield e, *(self.part(u, at) for u in arrays)

    def seen(self, n: int, *arrays: np.ndarray) -> Iterator[tuple[Any, ...]]:
        """The same where something is seen at t_n."""
        return self.each(*arrays) if n in self.instants else iter(())
