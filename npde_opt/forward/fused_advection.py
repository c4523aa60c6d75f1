"""Diffusion and advection of fused steps at given coefficients, by two rates a face
(fused_flow.py): the arrays that loops read and add to, and what these mean for the coefficients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npde_opt.aliases import Coefficients
from npde_opt.forward.fused_diffusion import (
    Scale,
    face_shape,
    slowest_first,
)
from npde_opt.forward.fused_flow import Flow
from npde_opt.forward.fused_spread import Cells
from npde_opt.forward.linear_part import LinearPoint
from npde_opt.terms.advection import Advection, AdvectionAt
from npde_opt.terms.diffusion import DiffusionAt
from npde_opt.terms.faces import jump, sides
from npde_opt.terms.state import Gradients

Axes = list[np.ndarray]
"""Faces [i, j, k] by axis."""


class FlowValues:
    """Of all species."""

    padded = True

    def __init__(self, linear: LinearPoint, scale: Scale):
        self.linear, self.grid, self.count = linear, linear.grid, linear.count
        self.weighted, self.scale = scale.weighted, scale.value
        self.diffusion: list[list[tuple[DiffusionAt, float]]] = self._none()
        self.advection: list[list[tuple[AdvectionAt, float]]] = self._none()
        for operator, points in zip(linear.operators, linear.points, strict=True):
            ((c, _, factor),) = operator.pattern
            for point in points:
                if isinstance(point, AdvectionAt):
                    self.advection[c].append((point, factor))
                else:
                    assert isinstance(point, DiffusionAt)
                    self.diffusion[c].append((point, factor))
        self.owning = tuple(
            c
            for c, points in enumerate(self.advection)
            if any(point.term.conservative for point, _ in points)
        )
        self._values = self._rates(None)
        self._dk: Coefficients | None = None
        self._changes: list[np.ndarray] = []
        self._sums: list[np.ndarray] = []
        self._more: list[np.ndarray] = []

    def _none(self) -> list[list]:  # type: ignore[type-arg]
        return [[] for _ in range(self.count)]

    @staticmethod
    def apply(linear: LinearPoint) -> bool:
        """Whether there is advection."""
        return any(type(t) is Advection for o in linear.operators for t in o.terms)

    def spread(self, cells: Cells) -> Flow:
        return Flow(cells, self.count, self.owning, self.weighted)

    def values(self, samples: tuple[int, ...]) -> list[np.ndarray]:
        return self._values

    def _rates(self, cells: Coefficients | None) -> list[np.ndarray]:
        """L, U and E of all species, or their changes with those of the coefficients."""
        dim = self.grid.dim
        found: dict[str, list[np.ndarray]] = {"L": [], "U": [], "E": []}
        for c in range(self.count):
            lower = [np.zeros(face_shape(self.grid, d)) for d in range(dim)]
            upper = [np.zeros(face_shape(self.grid, d)) for d in range(dim)]
            own = np.zeros(self.grid.local_shape)
            for diffusive, factor in self.diffusion[c]:
                for d, G in enumerate(_conductances(diffusive, cells)):
                    if G is not None:
                        lower[d] += factor * G
                        upper[d] += factor * G
            for advective, factor in self.advection[c]:
                moved = advective.fluxes if cells is None else advective.moved(cells)
                for d, F in enumerate(moved):
                    if F is None:
                        continue
                    below, above, carried = advective.weights[d]
                    lower[d] += factor * above * F
                    upper[d] -= factor * below * F
                    if advective.term.conservative:
                        first, last = sides(carried * F, d)
                        own += factor * (last - first)
            for letter, rates in (("L", lower), ("U", upper)):
                found[letter] += [
                    slowest_first(self.scale * rate) for rate in rates[::-1]
                ]
            if c in self.owning:
                found["E"].append(slowest_first(self.scale * own))
        return [*found["L"], *found["U"], *found["E"]]

    def changes(self, dk: Coefficients) -> list[np.ndarray]:
        """Those of rates: the same arrays for all steps of a sweep."""
        if self._dk is not dk:
            self._dk, self._changes = dk, self._rates(self.linear.part.cells(dk))
        return self._changes

    @property
    def sums(self) -> list[np.ndarray]:
        if not self._sums:
            self._sums = [np.zeros_like(values) for values in self._values]
        return self._sums

    def more_sums(self, dk: Coefficients) -> list[np.ndarray]:
        """Products of the adjoint and the state, which second derivatives in k need."""
        if not self._more:
            self._more = [np.zeros_like(values) for values in self._values]
        return self._more

    def clear(self) -> None:
        self._sums, self._more, self._dk, self._changes = [], [], None, []

    def _found(self, sums: Sequence[np.ndarray], c: int) -> tuple[Axes, Axes, Axes]:
        """(h, l, e_below - e_above) of a species, of faces; the last one is empty where there is
        no E. Collective."""
        dim, n = self.grid.dim, self.count * self.grid.dim
        own = [sums[at + c * dim : at + (c + 1) * dim] for at in (0, n)]
        high, low = ([values.T for values in part[::-1]] for part in own)
        if c not in self.owning:
            return high, low, []
        cells = self.grid.ghosted(sums[2 * n + self.owning.index(c)].T)
        return high, low, [-jump(cells, d) for d in range(dim)]

    def flush(self, out: Gradients) -> None:
        for c in range(self.count):
            self._flush(c, self._found(self.sums, c), None, out)
            if self._more and self._dk is not None:
                change = self.linear.part.cells(self._dk)
                self._flush(c, self._found(self._more, c), change, out)

    def _flush(
        self,
        c: int,
        found: tuple[Axes, Axes, Axes],
        change: Coefficients | None,
        out: Gradients,
    ) -> None:
        """Adds a species' contractions, or their change with the coefficients: of nu = -dt factor
        lambda / M."""
        high, low, own = found
        parts = list[dict[str, np.ndarray]]()
        for diffusive, factor in self.diffusion[c]:
            by = -factor * self.scale
            jumps = [by * (h - l) for h, l in zip(high, low, strict=True)]
            if change is None:
                parts.append(diffusive.contracted(jumps))
            else:
                parts.append(diffusive.contracted_change(jumps, change))
        for advective, factor in self.advection[c]:
            by, products = -factor * self.scale, list[np.ndarray]()
            for d, (below, above, carried) in enumerate(advective.weights):
                total = above * high[d] + below * low[d]
                if advective.term.conservative:
                    total = total + carried * own[d]
                products.append(by * total)
            if change is None:
                parts.append(advective.contracted(products))
            else:
                parts.append(advective.contracted_change(products, change))
        for part in parts:
            for name, values in part.items():
                out.add(name, values)


def _conductances(
    point: DiffusionAt, cells: Coefficients | None
) -> Sequence[np.ndarray | None]:
    """By axis, or their changes."""
    if cells is None:
        return [point.conductance(d) for d in range(point.grid.dim)]
    return point.conductance_changes(cells)
