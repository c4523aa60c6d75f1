"""Electrodes: patches of cells, each pair of which that carries a current is an experiment."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from npde_opt.cases.domain import Domain
from npde_opt.cases.experiment_tables import ElectrodesSection
from npde_opt.cases.outline import cells_of, outline, ring_levels
from npde_opt.cases.outside import Settled
from npde_opt.cases.patches import Patch, patch
from npde_opt.cases.points import check_pairs, points_of
from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.grids.cuts import even
from npde_opt.grids.scattered import Mask


class Electrodes:
    """Those of a section [electrodes]. Making them is collective over the domain's ranks.

    Raises:
        InputError: for rings where there is no outline, and pairs of electrodes that are not there.
    """

    def __init__(self, section: ElectrodesSection, domain: Domain):
        self.section, self.domain = section, domain
        self.pairs = self._pairs()
        self._check_dropped()

    @property
    def centres(self) -> np.ndarray:
        """(n, dim): as given, or in rings around the outline of the active cells in axial planes.

        Rings are found on the finest native resolution, so that all grids share them.
        """
        return self._settled.at

    @property
    def dropped(self) -> np.ndarray:
        """Which of them do not count (bool)."""
        return self._settled.dropped

    @cached_property
    def _settled(self) -> Settled:
        e, dim = self.section, self.domain.dim
        if e.at is not None:
            at = points_of(e.at, dim, "electrodes.at")
            names = [f"electrodes[{k}]" for k in range(len(at))]
            return self.domain.settled("electrodes", at, names, "electrodes.at")
        if dim < 2:
            raise InputError(
                "electrodes.count", e.count, "electrodes.at in one dimension"
            )
        if any(self.domain.boundaries[a + "-"].kind == "periodic" for a in "xy"):
            allowed = "electrodes.at where x or y is periodic: there is no outline"
            raise InputError("electrodes.count", e.count, allowed)
        rings = self._rings()
        return Settled(rings, np.zeros(len(rings), bool))

    def _rings(self) -> np.ndarray:
        e = self.section
        assert e.count is not None
        edges, comm = self.domain.sources.edges or self.domain.edges, self.domain.comm
        mask = self.domain.active(edges, comm)
        if mask is None:
            layout = even([x.size - 1 for x in edges], comm)
            every = np.ones(layout.local_shape, bool, order="F")
            mask = Mask(comm, layout, every).counted()
        if self.domain.dim == 2:
            return outline(cells_of(mask), edges, e.count, e.radius, comm)
        rings = []
        for level in ring_levels(mask, e.rings):
            plane = cells_of(mask, level)
            ring = outline(plane, edges, e.count, e.radius, comm)
            height = (edges[2][level] + edges[2][level + 1]) / 2
            rings.append(np.column_stack([ring, np.full(len(ring), height)]))
        return np.concatenate(rings)

    @property
    def size(self) -> int:
        return len(self.centres)

    def _pairs(self) -> list[tuple[int, int]]:
        """(from, to) of every experiment's current."""
        pattern, n = self.section.pattern, self.size
        if isinstance(pattern, str):
            step = 1 if pattern == "adjacent" else n // 2
            return [(k, (k + step) % n) for k in range(n)]
        return check_pairs("electrodes.pattern", pattern, n, "electrodes")

    def _check_dropped(self) -> None:
        """Raises InputError where one that carries a current does not count."""
        for pair in self.pairs:
            for k in pair:
                if self.dropped[k]:
                    said = "electrodes that carry a current in active cells, or 'snap'"
                    raise InputError("grid.outside", f"'drop' with electrode {k}", said)

    def patches(self, grid: Grid) -> list[Patch]:
        """The cells of every electrode.

        Rings are found on the domain's finest cells, so that also on the case's own grid a point of
        them may be beside its active cells.
        """
        given = self.section.at is not None and not self.dropped.any()
        nearest = not given or not self.domain.is_own(grid)
        return [
            patch(grid, x, self.section.radius, f"electrodes[{k}]", nearest)
            for k, x in enumerate(self.centres)
        ]

    def add(self, patches: list[Patch], k: int, grid: Grid, load: np.ndarray) -> None:
        """Adds the current of experiment k to owned values."""
        source, sink = self.pairs[k]
        patches[source].add(grid, self.section.current, load)
        patches[sink].add(grid, -self.section.current, load)
