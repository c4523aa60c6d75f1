"""Time left of a run: on one grid

    seconds an iteration x min(iterations to the cap, log(target / |g|) / slope of log |g|),

and on the finer grids to come as many iterations as the coarser ones took on average, each of which
takes longer as there are more cells. Further starts take as long as those before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

RECENT = 6

Left = tuple[float | None, bool]
"""Seconds, and whether they are only an upper bound (the iteration cap); None where nothing is
known."""


class Forecast:
    """Of one grid, from how fast the gradient norm fell and how long an iteration took lately."""

    def __init__(
        self,
        rtol: float = 0.0,
        atol: float = 0.0,
        max_iterations: int | None = None,
        reference: float | None = None,
    ):
        self.rtol, self.atol, self.max_iterations = rtol, atol, max_iterations
        self.reference = reference
        self.points: list[tuple[int, float, float]] = []

    def add(self, iteration: int, gradient_norm: float, now: float) -> None:
        self.reference = self.reference or gradient_norm
        self.points = [*self.points, (iteration, gradient_norm, now)][-RECENT:]

    @property
    def iteration(self) -> int:
        """The last one, 0 before any."""
        return self.points[-1][0] if self.points else 0

    def reduction(self) -> float:
        """The last gradient norm over its reference; NaN where there is none."""
        return (
            self.points[-1][1] / self.reference
            if self.points and self.reference
            else math.nan
        )

    def pace(self) -> float | None:
        """Seconds an iteration lately; None before there were two."""
        steps = self.points[-1][0] - self.points[0][0] if self.points else 0
        return (self.points[-1][2] - self.points[0][2]) / steps if steps > 0 else None

    def iterations_left(self) -> Left:
        """As `Left`, in iterations; nothing is known of fewer than 3."""
        if len(self.points) < 3:
            return None, False
        iteration, norm, _ = self.points[-1]
        cap = (
            None
            if self.max_iterations is None
            else float(max(self.max_iterations - iteration, 0))
        )
        needed = self._iterations_needed(norm)
        if needed is None or (cap is not None and cap < needed):
            return cap, cap is not None and needed is None
        return needed, False

    def seconds_left(self) -> Left:
        left, at_most = self.iterations_left()
        pace = self.pace()
        return (None, False) if left is None or pace is None else (left * pace, at_most)

    def _iterations_needed(self, norm: float) -> float | None:
        target = max(self.rtol * (self.reference or 0.0), self.atol)
        norms = [p[1] for p in self.points]
        if not target > 0 or not all(math.isfinite(n) and n > 0 for n in norms):
            return None
        if norm <= target:
            return 0.0
        slope = float(np.polyfit([p[0] for p in self.points], np.log(norms), 1)[0])
        return math.log(target / norm) / slope if slope < -1e-3 else None


class Outlook:
    """Of all grids and starts that are to come.

    cells: of all grids, coarsest first. `begin` says on which one the run is from now on.
    """

    def __init__(self) -> None:
        self.grid = Forecast()
        self._cells: Sequence[int] = (1,)
        self._level = 0
        self._iterations: list[int] = []
        self._rate: float | None = None
        self._further, self._began, self._took = 0, 0.0, list[float]()

    def begin(self, grid: Forecast, level: int, cells: Sequence[int]) -> None:
        if level == 0:
            self._iterations = []
        elif self.grid.points:
            self._iterations.append(self.grid.iteration)
        self._keep_rate()
        self.grid, self._level, self._cells = grid, level, cells

    def begin_start(self, further: int, now: float) -> None:
        """A start begins, after which so many follow."""
        if self._began:
            self._took.append(now - self._began)
        self._further, self._began = further, now

    def _keep_rate(self) -> None:
        """Seconds an iteration and cell."""
        pace = self.grid.pace()
        if pace is not None:
            self._rate = pace / self._cells[min(self._level, len(self._cells) - 1)]

    def seconds_left(self, now: float) -> Left:
        self._keep_rate()
        left, at_most = self._of_start()
        if left is None or not self._further:
            return left, at_most
        whole = (
            [*self._took, now - self._began + left] if not self._took else self._took
        )
        return left + self._further * sum(whole) / len(whole), at_most

    def _of_start(self) -> Left:
        """Seconds to the end of this start."""
        here, at_most = self.grid.iterations_left()
        before = self._iterations
        if here is None and before:
            # A grid takes as long as those before, until it says so itself.
            here = max(sum(before) / len(before) - self.grid.iteration, 0.0)
        if here is None or self._rate is None:
            return None, False
        own = here * self._rate * self._cells[self._level]
        expected = [*before, self.grid.iteration + here]
        each = sum(expected) / len(expected)
        finer = sum(self._cells[self._level + 1 :])
        return own + each * self._rate * finer, at_most
