"""How chains are run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from npde_opt.errors import InputError

METHODS = {
    "pcn": "preconditioned Crank-Nicolson around the prior",
    "gpcn": "the same around the Laplace posterior",
    "mala": "Langevin steps around the Laplace posterior",
    "hmc": "Hamiltonian trajectories around the Laplace posterior",
}
TARGETS = {"pcn": 0.3, "gpcn": 0.4, "mala": 0.6, "hmc": 0.7}
"""Shares of accepted steps that the burn-in aims at."""


MOST = 200
"""Temperatures of a chain at most."""
RISING = (
    f"a number from 1 to {MOST}, or so many rising temperatures, the first of them 1"
)


@dataclass(frozen=True)
class SamplingSettings:
    """
    Args:
        method: pcn, gpcn, mala or hmc.
        steps: of every chain after its burn-in.
        burn_in: steps that choose the length of a step and are not kept.
        chains: that begin at samples of their own.
        step: length of a step at the beginning, 0 < step <= 1; 1 forgets where the chain is.
        every: a step in so many is a row of the trace and counts for means; at most `steps`.
        checkpoint: steps between two checkpoints.
        seed: of all that is drawn.
        leaps: of a trajectory of hmc at most.
        temperatures: of every chain's copies, which it exchanges its place with (tempering.py):
            how many, itself included, or these, rising from 1.

    Raises:
        InputError: for a number outside its range.
    """

    method: str = "gpcn"
    steps: int = 1000
    burn_in: int = 200
    chains: int = 4
    step: float = 0.5
    every: int = 1
    checkpoint: int = 100
    seed: int = 0
    leaps: int = 5
    temperatures: int | tuple[float, ...] = 1

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError("sampling.method", self.method, ", ".join(METHODS))
        for name in ("steps", "chains", "every", "checkpoint", "leaps"):
            self._check(name, getattr(self, name) >= 1, "a number >= 1")
        for name in ("burn_in", "seed"):
            self._check(name, getattr(self, name) >= 0, "a number >= 0")
        self._check(
            "every", self.every <= self.steps, f"at most {self.steps}, the steps"
        )
        self._check("step", 0 < self.step <= 1, "a number > 0 and <= 1")
        self._check("temperatures", self._rise(), RISING)

    def _rise(self) -> bool:
        """Whether temperatures are such."""
        asked = self.temperatures
        if isinstance(asked, int):
            return 1 <= asked <= MOST
        try:
            found = np.array(asked, float)
        except (TypeError, ValueError):
            return False
        whole = found.ndim == 1 and 1 <= found.size <= MOST
        whole = whole and bool(np.isfinite(found).all())
        return whole and found[0] == 1 and bool((np.diff(found) > 0).all())

    def _check(self, name: str, good: bool, allowed: str) -> None:
        if not good:
            raise InputError(f"sampling.{name}", getattr(self, name), allowed)

    @property
    def tempered(self) -> bool:
        """Whether chains have hot copies."""
        asked = self.temperatures
        return (asked if isinstance(asked, int) else len(asked)) > 1

    @property
    def target(self) -> float:
        """The share of accepted steps that the burn-in aims at."""
        return TARGETS[self.method]
