"""When the rates of a trajectory are looked at again: before the state or the step could have
brought them to their limit.

At a look the rates are the share q of what a step bears. Rates that grow like the fourth power of
the state reach the limit when the state has moved by q^(-1/4) - 1 of its size: that far it may move
in a sample of the cells, and not a step further is taken without a look. Steps that become longer
are looked at too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEAST, MOST = 0.02, 0.5
"""Of the state's size, by which it may move between two looks."""

LONGER = 1.001
"""Times the last step that was looked at: a longer one is looked at too."""


LITTLE = 1 - 1e-6
"""Of the room to move: what is near to its end is looked at closely."""


def allowed(share: float) -> float:
    """How far a state may move, in its size, whose rates are this share of the limit."""
    if not share > 0:
        return MOST
    return max(min(share**-0.25 - 1, MOST), LEAST)


@dataclass(frozen=True)
class Rules:
    """What decides of the kinetics' rates at a state (see stability.Limits.at).

    Args:
        by_species: rates of the other terms; inf where these depend on the state: a loop then ends
            where a look is due, and leaves it to others. stiffness: of these, all together.
        resolved: the share of a turn that a step may take.
        longest: steps without a look.
    """

    by_species: np.ndarray
    stiffness: float
    resolved: float
    longest: int


@dataclass
class Looks:
    """Looks at rates that a compiled loop may have by itself.

    Args:
        due: the number of the state where the next one is due.
    """

    watch: Watch
    rules: Rules
    due: int


class Watch:
    """A sample of the state whose rates were looked at last, and how far it may move."""

    def __init__(self) -> None:
        self.looks = 0
        self.kept = np.zeros((0, 0))
        self._sizes = np.zeros(0)
        self.start, self._allowed, self._dt = 0, 0.0, 0.0

    def keep(
        self, values: np.ndarray, sizes: np.ndarray, dt: float, share: float
    ) -> None:
        """After a look.

        Args:
            values: of the sample from `looks` on (see terms.state.samples).
            sizes: the largest |u| by species in the samples of all ranks.
            dt: the step that was looked at. share: of the rates in the limit.
        """
        self.kept = values
        self.start, self._sizes = self.looks, sizes
        self._allowed, self._dt = allowed(share), dt
        self.looks += 1

    def moved(self, values: np.ndarray) -> float:
        """How far this rank's sample from `start` on has moved since the last look, in units of
        what is allowed; NaN is far."""
        most = 0.0
        changes = np.abs(values - self.kept).max(axis=1, initial=0.0)
        for change, size in zip(changes.tolist(), self._sizes.tolist(), strict=True):
            if change > 0 or change != change:
                most = max(
                    most, change / size if size > 0 and change == change else np.inf
                )
        return most / self._allowed

    def room(self) -> np.ndarray:
        """By species, how far a value of the sample may move: a little less than `moved` lets."""
        return LITTLE * self._allowed * self._sizes.astype(float)

    @property
    def step(self) -> float:
        """The step that was looked at."""
        return self._dt

    def looked(
        self,
        looks: int,
        values: np.ndarray,
        sizes: np.ndarray,
        dt: float,
        allowed: float,
    ) -> None:
        """After looks that others had: `keep` of the last one, the `looks`-th of all."""
        self.kept, self._sizes, self._dt, self._allowed = values, sizes, dt, allowed
        self.start, self.looks = looks - 1, looks

    def longer(self, dt: float) -> bool:
        """Whether a step is longer than the one that was looked at."""
        return dt > LONGER * self._dt
