"""Who looks at the states of experiments that run together, and when: at few of them, as a rule
(chain.Rare, chain.Seldom)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np

from npde_opt.forward.chain import Rare, Seldom
from npde_opt.forward.guard import Lookout
from npde_opt.forward.layer import Free, Stages
from npde_opt.observations import DataBlock, Observations, When


class Watched(Rare):
    """Checks the states of a trajectory and observes them.

    Args:
        members: the experiments.
        data: get what is seen.
    """

    def __init__(
        self,
        lookout: Lookout,
        observed: Observations,
        members: Sequence[int],
        data: Sequence[DataBlock],
    ):
        self.lookout, self.observed, self.members = lookout, observed, members
        self.data, self._instants = data, observed.instants(members)

    def __call__(self, n: int, stages: Stages) -> None:
        self.lookout(n, stages)
        self.observed.observe(self.members, n, stages[-1], self.data)

    def free(self, n: int) -> Free:
        free, later = self.lookout.free(n), bisect_right(self._instants, n)
        seen = self._instants[later : later + 1]
        return free.up_to(seen[0]) if seen else free


class Pulled(Seldom):
    """Adds what data multipliers d do to an adjoint.

    Args:
        members: the experiments.
    """

    def __init__(
        self, observed: Observations, members: Sequence[int], d: Sequence[DataBlock]
    ):
        self.observed, self.members, self.d = observed, members, d
        self._instants = observed.instants(members)

    def __call__(self, n: When, u: np.ndarray, adjoint: np.ndarray) -> None:
        self.observed.pull(self.members, n, u, self.d, adjoint)

    def below(self, n: int) -> int:
        earlier = bisect_left(self._instants, n)
        return self._instants[earlier - 1] if earlier else 0
