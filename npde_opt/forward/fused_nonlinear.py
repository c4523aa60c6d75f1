"""D(u) of fused steps at given coefficients (fused_fluxes.py): the arrays that loops read and add
to, and what these mean for the coefficients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npde_opt.aliases import Coefficients, Numbers
from npde_opt.forward.fused_diffusion import Scale, face_shape, slowest_first
from npde_opt.forward.fused_fluxes import Flux, Fluxes
from npde_opt.forward.fused_spread import Cells
from npde_opt.terms.nonlinear_diffusion import NonlinearDiffusion, NonlinearDiffusionAt
from npde_opt.terms.state import Gradients


class FluxValues:
    """Of some terms."""

    padded = True

    def __init__(self, points: Sequence[NonlinearDiffusionAt], scale: Scale):
        self.points, self.grid = list(points), points[0].grid
        self.weighted, self.scale = scale.weighted, scale.value
        self.fields = [_fields(point) for point in self.points]
        self._geometry = self._found_geometry(points[0].term)
        self._parameters = self._joined([p.parameters for p in self.points])
        self._work: dict[tuple[int, ...], list[np.ndarray]] = {}
        self._dk: Coefficients | None = None
        self._changes: list[np.ndarray | float] = []
        self._sums: list[np.ndarray] = []

    def spread(self, cells: Cells) -> Fluxes:
        terms = tuple(
            Flux(p.term.flux, p.term.diffusivity, tuple(p.term.channels), floor, own)
            for p, floor, own in zip(
                self.points, self._floors, self.fields, strict=True
            )
        )
        return Fluxes(cells, terms, self.weighted)

    @property
    def _floors(self) -> list[float | None]:
        floors = [p.term.floor for p in self.points]
        return [None if floor is None else float(floor) for floor in floors]

    @property
    def _axes(self) -> range:
        """The slowest one in memory first."""
        return range(self.grid.dim - 1, -1, -1)

    def _found_geometry(self, term: NonlinearDiffusion) -> list[np.ndarray]:
        """A, B and O by axis (see fused_fluxes.py)."""
        areas = [slowest_first(self.scale * term.areas[d]) for d in self._axes]
        distances = [1 / np.ravel(term.distances[d]) for d in self._axes]
        shares = [np.array(np.ravel(term.shares[d])) for d in self._axes]
        return [*areas, *distances, *shares]

    def _joined(
        self, by_term: Sequence[Sequence[Sequence[Numbers]]]
    ) -> list[np.ndarray | float]:
        """Parameters [term][axis][number] as loops take them."""
        found = list[np.ndarray | float]()
        for own, fields in zip(by_term, self.fields, strict=True):
            for i, field in enumerate(fields):
                if not field:
                    found.append(float(own[0][i]))
                    continue
                for d in self._axes:
                    whole = np.broadcast_to(own[d][i], face_shape(self.grid, d))
                    found.append(slowest_first(whole))
        return found

    def values(self, samples: tuple[int, ...]) -> list[np.ndarray | float]:
        if samples not in self._work:
            work = list[np.ndarray]()
            for point in self.points:
                each = 1 + len(point.term.channels)
                for d in self._axes:
                    shape = (*face_shape(self.grid, d)[::-1], *samples)
                    work += [np.empty(shape) for _ in range(each)]
            self._work = {samples: work}
        return [*self._geometry, *self._parameters, *self._work[samples]]

    def changes(self, dk: Coefficients) -> list[np.ndarray | float]:
        """The same arrays for all steps of a sweep. Collective."""
        if self._dk is not dk:
            moved = [
                [p.at_faces(p.own(dk), d) for d in range(self.grid.dim)]
                for p in self.points
            ]
            self._dk, self._changes = dk, self._joined(moved)
        return self._changes

    @property
    def sums(self) -> list[np.ndarray]:
        if not self._sums:
            for fields in self.fields:
                self._sums.append(np.zeros(len(fields)))
                for field in fields:
                    for d in self._axes if field else ():
                        shape = face_shape(self.grid, d)[::-1]
                        self._sums.append(np.zeros(shape))
        return self._sums

    def more_sums(self, dk: Coefficients) -> list[np.ndarray]:
        return []

    def clear(self) -> None:
        self._sums, self._dk, self._changes = [], None, []

    def flush(self, out: Gradients) -> None:
        sums = iter(self.sums)
        for point, fields in zip(self.points, self.fields, strict=True):
            numbers = next(sums)
            names = point.term.flux.parameters
            for i, (name, field) in enumerate(zip(names, fields, strict=True)):
                if not field:
                    out.add(name, float(numbers[i]))
                    continue
                for d in self._axes:
                    part = next(sums).T
                    out.add(name, point.collected(part, part.shape, d))


def _fields(point: NonlinearDiffusionAt) -> tuple[bool, ...]:
    """Which of a term's parameters are faces."""
    return tuple(np.ndim(value) > 0 for value in point.parameters[0])
