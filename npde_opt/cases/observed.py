"""One [[observation]] of a case: where, when and what is seen of every experiment."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from npde_opt import reductions
from npde_opt.capacity import fits
from npde_opt.cases.domain import Domain
from npde_opt.cases.electrodes import Electrodes
from npde_opt.cases.experiment_tables import CountedTimes, ObservationSection, SidePart
from npde_opt.cases.field_tables import File
from npde_opt.cases.fields import evaluate_part
from npde_opt.cases.own_points import SHOWN, OwnPoints, own_run
from npde_opt.cases.parts import Part
from npde_opt.cases.placing import cells
from npde_opt.cases.points import check_pairs, points_of, read_points
from npde_opt.cases.random_points import random_points
from npde_opt.cases.regions import numbers
from npde_opt.cases.tables import read_values
from npde_opt.errors import collective
from npde_opt.grids import Grid
from npde_opt.observations import Sampling, from_functionals
from npde_opt.observations.functionals import Functionals, difference, together, without
from npde_opt.observations.places import (
    ball_mean,
    box_mean,
    cell_sum,
    integral,
    points_of_ranks,
    region_means,
    side_mean,
    voxel_means,
)
from npde_opt.observations.shares import Share

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
        self._shown = np.empty((0, domain.dim)), np.zeros(0, bool)

    @cached_property
    def own_points(self) -> OwnPoints:
        """Observation points, possibly none, where `grid.outside` takes them to be. Collective over
        the domain's ranks."""
        where, comm = f"{self.where}.points", self.domain.comm
        count, at = self._given()
        if not count:
            return OwnPoints(comm, 0, at, np.zeros(0, bool))
        first = own_run(count, comm).start
        found = self.domain.settled_points(at, lambda k: f"{where}[{first + k}]", where)
        points = OwnPoints(comm, count, found.at, found.dropped)
        # One rank alone may ask for these later, to draw them.
        self._shown = points.first(SHOWN)
        return points

    @property
    def points(self) -> np.ndarray:
        """The first SHOWN observation points (n, dim), possibly none. Collective at first."""
        return self._shown[0] if self.own_points.count else self.own_points.at

    @property
    def dropped(self) -> np.ndarray:
        """Which of `points`, or of the electrodes, do not count (bool)."""
        if self.section.electrodes and self.electrodes is not None:
            return self.electrodes.dropped
        points = self.own_points
        return self._shown[1] if points.count else points.dropped

    def _given(self) -> tuple[int, np.ndarray]:
        """How many points the case says, and this rank's run of them."""
        o, dim, comm = self.section, self.domain.dim, self.domain.comm
        if isinstance(o.points, File):
            return self._from_file(o.points)
        if o.points is not None:
            every = points_of(o.points, dim, f"{self.where}.points")
            return len(every), every[own_run(len(every), comm)]
        if o.random is not None:
            return o.random, self._random(o.random)
        return 0, np.empty((0, dim))

    def _from_file(self, spec: File) -> tuple[int, np.ndarray]:
        """Those of a file, which rank 0 reads and hands out. Collective."""
        sources, dim, comm = self.domain.sources, self.domain.dim, self.domain.comm
        every = np.empty((0, dim))
        with collective(comm):
            if comm.rank == 0:
                every = read_points(f"{self.where}.points", spec, sources, dim)
        count = comm.bcast(len(every))
        # Of axis by axis: the points are the places of one observation.
        share = Share(comm, ((dim, count),))
        whole = every.T if comm.rank == 0 else None
        return count, np.ascontiguousarray(share.scattered(0, whole).T)

    def _random(self, count: int) -> np.ndarray:
        """Own points (n, dim) of `count` drawn uniformly over where all grids that see them are
        active.

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
        comm = self.domain.comm
        return random_points(rng, count, self.domain.edges, masks, field, comm)

    @property
    def centres(self) -> np.ndarray:
        """Of the places (n, dim), where they are points or electrodes; else none."""
        if self.section.differences is not None:
            return np.empty((0, self.domain.dim))
        if self.section.electrodes and self.electrodes is not None:
            return self.electrodes.centres
        return self.points

    def centres_of(self, share: Share, i: int) -> np.ndarray:
        """Of the own places (n, dim) of a share, in which this is observation i; NaN where they are
        no points or electrodes. Collective at first."""
        (_, own), places = share.shapes[i], share.places[i]
        none = np.full((own, self.domain.dim), np.nan)
        if self.section.differences is not None:
            return none
        if self.section.electrodes and self.electrodes is not None:
            return self.electrodes.centres[places]
        return self.own_points.over(share.comm).at if self.own_points.count else none

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
            self._note_alike(np.setdiff1d(found.unseen(), seen.every_unseen()))
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
        if self.own_points.count:
            return self._at_points(grid, nearest=not own)
        if o.regions is not None:
            return self._regions(grid)
        if listed := self._listed(grid, not own):
            return together(listed)
        return voxel_means(grid, self.domain.edges)

    def _at_points(self, grid: Grid, nearest: bool) -> Functionals:
        key = "points" if self.section.random is None else "random"
        field, points = f"{self.where}.{key}", self.own_points.over(grid.comm)
        kept, numbers = ~points.dropped, points.numbers
        return points_of_ranks(
            grid,
            points.at[kept],
            numbers[kept],
            points.count,
            field,
            nearest,
            numbers[points.dropped],
        )

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

    def note_lost(self, share: Share, i: int) -> None:
        """Finds what `drop_lost` asks for, so that it says nothing to other ranks. Collective over
        the domain's ranks."""
        self._lost_of(share, i)

    def drop_lost(self, values: np.ndarray, share: Share, i: int) -> None:
        """NaN of places that do not count. Collective at first.

        Args:
            values: of one experiment, by time and own place of the share, in which this is
                observation i.
        """
        away = self._lost_of(share, i)
        if away is not None:
            values[..., away] = np.nan

    def _lost_of(self, share: Share, i: int) -> np.ndarray | None:
        """Which of the own places do not count; None where all do."""
        if not self._any_dropped:
            return None
        if self.section.differences is not None:
            seen = np.array(self.section.differences)[share.places[i]]
            return np.asarray(self._all_dropped[seen].any(axis=1))
        if self.section.electrodes:
            return self._all_dropped[share.places[i]]
        return self.own_points.over(share.comm).dropped

    @cached_property
    def _any_dropped(self) -> bool:
        if self.section.electrodes:
            return bool(self.dropped.any())
        comm, own = self.domain.comm, self.own_points.dropped
        return reductions.anywhere(comm, bool(own.any()))

    @cached_property
    def _all_dropped(self) -> np.ndarray:
        """Of all electrodes or points, on every rank."""
        if self.section.electrodes:
            return self.dropped
        return self.own_points.first(self.own_points.count)[1]

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
