"""One Markov chain: its burn-in chooses the length of a step,

    log s += (p - target) / (k + 1)^0.6   after step k with the probability p of being taken,

up to LONGEST, and mean and variance of the parameters follow every kept step (Welford). A chain
that goes on from its checkpoint takes the same steps as one that was not stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from petsc4py import PETSc

from npde_opt.aliases import Record
from npde_opt.errors import InputError
from npde_opt.sampling.moves import Moves, Place
from npde_opt.sampling.settings import SamplingSettings

Figures = Callable[[PETSc.Vec], np.ndarray]
"""Numbers of a sample that go into the trace; collective, the same on every rank."""
Look = Callable[[int, PETSc.Vec], None]
"""Is given every sample with its number from 0; collective."""
LEAST_STEP, DECAY = 1e-4, 0.6
LONGEST = 0.8
"""Step that the burn-in does not go beyond: one of length 1 forgets where the chain is, and where
the reference is too narrow for the posterior, such chains hardly come to its tails or leave."""


@dataclass
class Progress:
    """Numbers of a chain.

    Attributes:
        done: steps. s: length of one. accepted: sum of probabilities after the burn-in.
        kept: steps in the means. failed: steps that were not taken as a solve failed.
    """

    done: int
    s: float
    accepted: float = 0.0
    kept: int = 0
    failed: int = 0


class Walk:
    """Steps, and how long they are.

    Args:
        moves: of the target.
        settings: see SamplingSettings.
        start: where it begins; a copy is taken.

    Raises:
        InputError: for a start where the objective is not finite, or outside bounds.
        SolverError: where a solve fails there.
    """

    def __init__(self, moves: Moves, settings: SamplingSettings, start: PETSc.Vec):
        self.moves, self.settings = moves, settings
        self.here = self._from(start.copy())
        self.progress = Progress(0, settings.step)

    def _from(self, m: PETSc.Vec) -> Place:
        """Where it begins or goes on; takes the Vec over."""
        place = self.moves.at(m)
        if place.error is not None:
            raise place.error
        if not math.isfinite(place.value):
            raise InputError("the start of a chain", place.value, "a finite objective")
        return place

    def goes_on(self, m: PETSc.Vec, progress: Progress) -> None:
        """From there. Takes the Vec over."""
        self.here.destroy()
        self.here, self.progress = self._from(m), progress

    def advance(self) -> float:
        """One step; the probability with which it was taken."""
        p, settings = self.progress, self.settings
        self.here, chance, failed = self.moves.step(self.here, p.s, p.done)
        p.done += 1
        p.failed += failed
        if p.done <= settings.burn_in:
            gain = (chance - settings.target) / p.done**DECAY
            p.s = min(LONGEST, max(LEAST_STEP, p.s * math.exp(gain)))
        else:
            p.accepted += chance
        return chance

    def destroy(self) -> None:
        self.here.destroy()


class Chain(Walk):
    """
    Args:
        figures: what the trace has of a sample. The others: see Walk.

    Attributes:
        rows: of the trace: J, the probability of the step, and the figures.
        look: is given each sample, too.
    """

    def __init__(
        self,
        moves: Moves,
        settings: SamplingSettings,
        start: PETSc.Vec,
        figures: Figures,
    ):
        super().__init__(moves, settings, start)
        self.figures = figures
        self.rows = list[np.ndarray]()
        self.look: Look | None = None
        self.mean, self.squares = start.duplicate(), start.duplicate()
        for vec in (self.mean, self.squares):
            vec.set(0.0)

    @property
    def total(self) -> int:
        """Steps with the burn-in."""
        return self.settings.burn_in + self.settings.steps

    @property
    def acceptance(self) -> float:
        """Mean probability of being taken, after the burn-in."""
        after = self.progress.done - self.settings.burn_in
        return self.progress.accepted / after if after > 0 else math.nan

    @property
    def swaps(self) -> tuple[float, ...]:
        """Rates of exchanges between hot copies, of chains that have some (tempering.py)."""
        return ()

    def run(self, steps: int) -> None:
        """Goes on for so many steps, or to the end. Collective."""
        for _ in range(min(steps, self.total - self.progress.done)):
            self.step()

    def step(self) -> None:
        """Goes on by one step, and keeps what is to be kept."""
        chance = self.advance()
        after = self.progress.done - self.settings.burn_in
        if after > 0 and after % self.settings.every == 0:
            self._keep(chance)

    def _keep(self, chance: float) -> None:
        p, m = self.progress, self.here.m
        p.kept += 1
        away = m.copy()
        away.axpy(-1.0, self.mean)
        self.mean.axpy(1.0 / p.kept, away)
        after = m.copy()
        after.axpy(-1.0, self.mean)
        away.pointwiseMult(away, after)
        self.squares.axpy(1.0, away)
        for vec in (away, after):
            vec.destroy()
        row = [self.here.value, chance, *np.atleast_1d(self.figures(m))]
        self.rows.append(np.array(row, float))
        if self.look is not None:
            self.look(p.kept - 1, m)

    def variance(self) -> PETSc.Vec:
        """Of the parameters, of the kept steps; the caller's."""
        found = self.squares.copy()
        found.scale(1.0 / max(self.progress.kept - 1, 1))
        return found

    # ---- checkpoints ---------------------------------------------------------------------------

    @property
    def vectors(self) -> dict[str, PETSc.Vec]:
        """What it goes on from, beside `meta`."""
        return {"m": self.here.m, "mean": self.mean, "squares": self.squares}

    @property
    def meta(self) -> Record:
        p = self.progress
        return asdict(p)

    def restore(
        self, vectors: dict[str, PETSc.Vec], meta: Record, rows: np.ndarray
    ) -> None:
        """Goes on from there. Takes the Vecs over."""
        self.goes_on(vectors["m"], Progress(**meta))
        self.mean.destroy()
        self.squares.destroy()
        self.mean, self.squares = vectors["mean"], vectors["squares"]
        self.rows = list(rows)

    def destroy(self) -> None:
        super().destroy()
        self.mean.destroy()
        self.squares.destroy()
