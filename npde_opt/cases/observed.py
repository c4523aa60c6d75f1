"""One [[observation]] of a case: where, when and what is seen of every experiment."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from npde_opt.capacity import fits
from npde_opt.cases.domain import Domain
from npde_opt.cases.electrodes import Electrodes
from npde_opt.cases.experiment_tables import CountedTimes, ObservationSection, SidePart
from npde_opt.cases.field_tables import File
from npde_opt.cases.fields import evaluate_part
from npde_opt.cases.outside import Settled
from npde_opt.cases.parts import Part
from npde_opt.cases.placing import cells
from npde_opt.cases.points import check_pairs, points_of, read_points
from npde_opt.cases.random_points import random_points
from npde_opt.cases.regions import numbers
from npde_opt.cases.tables import read_values
from npde_opt.grids import Grid
from npde_opt.observations import Sampling, from_functionals
from npde_opt.observations.functionals import Functionals, difference, together, without
from npde_opt.observations.places import (
    ball_mean,
    box_mean,
    cell_sum,
    integral,
    points_at,
    region_means,
    side_mean,
    voxel_means,
)

POINT_BYTES = 500
"""At least, of an observed point: coordinates, its row of the operator, its data."""
MOST_ALIKE = 4
"""Pairs that are named in a line."""
TIME_BYTES = 10_000
"""At least, of a time at which an experiment is observed: data of some places, and where they
are."""


class Observed:
    """An observation on any grid.

    On the case's own grid each place must have an active cell; on others (coarser ones of nested
    iteration, the finer one that data are simulated on) what has none goes to the nearest.

    Args:
        where: the observation's key in messages.
        electrodes: of the case.
        seed: of random points.
        experiments: how many there are.
    """

    def __init__(
        self,
        where: str,
        section: ObservationSection,
        domain: Domain,
        electrodes: Electrodes | None,
        seed: int,
        experiments: int,
    ):
        self.where, self.section, self.domain = where, section, domain
        self.electrodes, self.seed, self.experiments = electrodes, seed, experiments

    @property
    def points(self) -> np.ndarray:
        """Observation points (n, dim), possibly none."""
        return self._settled.at

    @property
    def dropped(self) -> np.ndarray:
        """Which points or electrodes do not count (bool)."""
        if self.section.electrodes and self.electrodes is not None:
            return self.electrodes.dropped
        return self._settled.dropped

    @cached_property
    def _settled(self) -> Settled:
        where = f"{self.where}.points"
        return self.domain.settled("points", self._given(), where, where)

    def _given(self) -> np.ndarray:
        """Points as the case says them."""
        o, dim = self.section, self.domain.dim
        if isinstance(o.points, File):
            return read_points(
                f"{self.where}.points", o.points, self.domain.sources, dim
            )
        if o.points is not None:
            return points_of(o.points, dim, f"{self.where}.points")
        if o.random is not None:
            return self._random(o.random)
        return np.empty((0, dim))

    def _random(self, count: int) -> np.ndarray:
        """Points (count, dim) drawn uniformly over where all grids that see them are active.

        These are the case's own and the one that data are simulated on: coarser ones of nested
        iteration are active wherever the case's own is. Collective over the domain's ranks.
        """
        field = f"{self.where}.random"
        fits(field, count, POINT_BYTES, "points")
        grids = [self.domain.edges]
        if self.section.data is None:
            grids.append(self.domain.data_edges())
        masks = [
            (edges, mask)
            for edges in grids
            if (mask := self.domain.active(edges, self.domain.comm)) is not None
        ]
        rng = np.random.default_rng([self.seed, 1])
        return random_points(rng, count, self.domain.edges, masks, field)

    @property
    def centres(self) -> np.ndarray:
        """Of the places (n, dim), where they are points or electrodes; else none."""
        if self.section.differences is not None:
            return np.empty((0, self.domain.dim))
        if self.section.electrodes and self.electrodes is not None:
            return self.electrodes.centres
        return self.points

    @cached_property
    def times(self) -> tuple[float, ...]:
        """When; none of a steady state."""
        spec = self.section.times
        if spec is None:
            return ()
        if isinstance(spec, CountedTimes):
            total = spec.count * self.experiments
            fits(
                f"{self.where}.times.count",
                total,
                TIME_BYTES,
                "times, all experiments together",
            )
            return tuple(np.linspace(spec.start, spec.end, spec.count).tolist())
        if isinstance(spec, File):
            found = read_values(
                f"{self.where}.times", spec, self.domain.sources, allow_nan=False
            )
            return tuple(found.ravel().tolist())
        return tuple(spec)

    @property
    def everywhere(self) -> bool:
        """Whether every cell of the case's grid is seen."""
        o = self.section
        placed = (o.points, o.random, o.regions)
        listed = (
            o.electrodes
            or o.sides
            or o.boxes
            or o.balls
            or o.integrals
            or o.differences
        )
        return not listed and all(p is None for p in placed)

    def shape(self) -> tuple[int, ...] | None:
        """Of the data of a time, where every cell is seen."""
        return cells(self.domain.edges) if self.everywhere else None

    def sampling(self, grid: Grid) -> Sampling:
        """The observation on a grid. Collective; belongs to the caller."""
        quantity, seen = self.section.quantity or "", self.functionals(grid)
        found = from_functionals(grid, self.times, seen, quantity, self.where)
        if self.section.differences is not None and self.domain.is_own(grid):
            self._note_alike(np.setdiff1d(found.unseen(), seen.unseen))
        return found

    def _note_alike(self, numbers: np.ndarray) -> None:
        """Says which differences are of places that see the same cells, and hence are 0."""
        pairs, field = self.section.differences, f"{self.where}.differences"
        if pairs is None or not numbers.size:
            return
        first = ", ".join(
            f"[{a}, {b}]" for a, b in (pairs[i] for i in numbers[:MOST_ALIKE])
        )
        more = ", ..." if numbers.size > MOST_ALIKE else ""
        self.domain.notes[field] = (
            f"{field}: {numbers.size:,} of {len(pairs):,} see the same cells twice on this grid "
            f"and do not count: {first}{more}"
        )

    def functionals(self, grid: Grid) -> Functionals:
        """What is seen of the quantity, as sums over cells. Collective."""
        found = self._places(grid)
        pairs = self.section.differences
        if pairs is None:
            return found
        field = f"{self.where}.differences"
        check_pairs(field, pairs, found.size, "places")
        first, second = np.array(pairs).T
        return difference(found[first], found[second], field)

    def _places(self, grid: Grid) -> Functionals:
        o = self.section
        own = self.domain.is_own(grid)
        if o.electrodes:
            assert self.electrodes is not None
            patches = self.electrodes.patches(grid)
            seen = [cell_sum(grid, p.cells, p.weights) for p in patches]
            return without(together(seen), self.dropped)
        if len(self.points):
            key = "points" if o.random is None else "random"
            nearest = not own or bool(self.dropped.any())
            points = points_at(grid, self.points, f"{self.where}.{key}", nearest)
            return without(points, self.dropped)
        if o.regions is not None:
            return self._regions(grid)
        if listed := self._listed(grid, not own):
            return together(listed)
        return voxel_means(grid, self.domain.edges)

    def _regions(self, grid: Grid) -> Functionals:
        field = f"{self.where}.regions"
        found, count = numbers(field, self.section.regions, self.domain, grid, least=-1)
        coarser = grid.size < np.prod(cells(self.domain.edges))
        return region_means(grid, found, count, field, bool(coarser))

    def _listed(self, grid: Grid, nearest: bool) -> list[Functionals]:
        """Sides, boxes, balls and integrals: one functional each."""
        o, where = self.section, self.where
        found = []
        for k, part in enumerate(o.sides):
            side = part if isinstance(part, SidePart) else SidePart(side=part)
            corners = side.lower, side.upper
            found.append(
                side_mean(grid, side.side, *corners, f"{where}.sides[{k}]", nearest)
            )
        for k, box in enumerate(o.boxes):
            found.append(
                box_mean(grid, box.lower, box.upper, f"{where}.boxes[{k}]", nearest)
            )
        for k, ball in enumerate(o.balls):
            found.append(
                ball_mean(grid, ball.at, ball.radius, f"{where}.balls[{k}]", nearest)
            )
        for k, spec in enumerate(o.integrals):
            field = f"{where}.integrals[{k}]"
            density = evaluate_part(field, spec, Part.of(grid), self.domain.sources)
            found.append(integral(grid, density))
        return found

    def drop_lost(self, values: np.ndarray, places: slice) -> None:
        """NaN of places that do not count.

        Args:
            values: of one experiment, by time and place, of these places.
        """
        if self.dropped.any():
            pairs = self.section.differences
            seen = (
                np.arange(len(self.dropped))[:, None]
                if pairs is None
                else np.array(pairs)
            )
            values[..., self.dropped[seen[places]].any(axis=1)] = np.nan

    def drop_driven(self, experiment: int, values: np.ndarray, places: slice) -> None:
        """NaN where an electrode carries current (four-terminal measurement).

        Args:
            values: of one experiment, by time and place, of these places.
        """
        if self.section.electrodes and self.electrodes is not None:
            driven = self.electrodes.pairs[experiment]
            values[..., self._seeing(driven)[places]] = np.nan

    def _seeing(self, driven: Sequence[int]) -> np.ndarray:
        """Data of a time that see one of these electrodes."""
        assert self.electrodes is not None
        pairs = self.section.differences
        seen = (
            np.arange(self.electrodes.size)[:, None]
            if pairs is None
            else np.array(pairs)
        )
        return np.asarray(np.isin(seen, driven).any(axis=1))
