"""The diffusion of fused steps at given coefficients, in one of the two forms of fused_spread.py:
the arrays that loops read and add to, and what these mean for the coefficients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npde_opt.aliases import Coefficients
from npde_opt.forward.fused_spread import Cells, Constant, Faces
from npde_opt.forward.linear_part import LinearPoint
from npde_opt.grids import Grid
from npde_opt.terms.diffusion import Diffusion, DiffusionAt
from npde_opt.terms.state import Gradients


def uniform(grid: Grid) -> bool:
    """Whether all cells have one size."""

    def find() -> bool:
        return all(np.allclose(w, w[0], rtol=1e-12, atol=0) for w in grid.widths)

    return grid.once("uniform cells", find)


class ConstantValues:
    """One number a species: D of uniform cells between Neumann and periodic sides."""

    padded = False

    def __init__(self, linear: LinearPoint, coefficients: Coefficients):
        grid, self.count = linear.grid, linear.count
        self.names: list[str | None] = [None] * self.count
        self.D = np.zeros(self.count)
        self.scale = 1 / linear.part.equation.inertia
        for operator in linear.operators:
            ((c, _, factor),) = operator.pattern
            name = operator.terms[0].coefficients[0]
            self.names[c] = name
            self.D[c] = factor * float(coefficients[name]) * self.scale
        self.weights = np.array([1 / float(w[0]) ** 2 for w in grid.widths[::-1]])
        self.clear()

    @staticmethod
    def apply(linear: LinearPoint, coefficients: Coefficients) -> bool:
        """Whether they say it all."""
        grid = linear.grid
        names = [
            t.names
            for o in linear.operators
            for t in o.terms
            if isinstance(t, Diffusion)
        ]
        return (
            grid.mask is None
            and not grid.radial
            and all(b.kind in ("neumann", "periodic") for b in grid.boundaries.values())
            and uniform(grid)
            and all(
                len(set(n)) == 1 and np.ndim(coefficients[n[0]]) == 0 for n in names
            )
        )

    def spread(self, cells: Cells) -> Constant:
        return Constant(cells, self.count)

    @property
    def values(self) -> list[np.ndarray]:
        return [self.D, self.weights]

    def changes(self, dk: Coefficients) -> list[np.ndarray]:
        found = [
            float(dk.get(name, 0.0)) if name is not None else 0.0 for name in self.names
        ]
        return [self.scale * np.array(found)]

    @property
    def sums(self) -> list[np.ndarray]:
        return [self.slopes]

    def more_sums(self, dk: Coefficients) -> list[np.ndarray]:
        return []

    def clear(self) -> None:
        self.slopes = np.zeros(self.count)

    def flush(self, out: Gradients) -> None:
        for name, slope in zip(self.names, self.slopes, strict=True):
            if name is not None:
                out.add(name, float(slope))


class FaceValues:
    """One number a face: the conductances of the terms.

    Where all cells have the same volume, these are over M; else 1/M is a field of its own.
    """

    padded = True

    def __init__(self, linear: LinearPoint, coefficients: Coefficients):
        self.linear, self.grid, self.count = linear, linear.grid, linear.count
        self.points: list[tuple[DiffusionAt, float] | None] = [None] * self.count
        for operator, (point,) in zip(linear.operators, linear.points, strict=True):
            ((c, _, factor),) = operator.pattern
            assert isinstance(point, DiffusionAt)
            self.points[c] = point, factor
        mass = linear.part.mass
        # All ranks ask for the same loops.
        self.weighted = self.grid.radial or not uniform(self.grid)
        self.scale = 1.0 if self.weighted else 1 / float(mass.flat[0])
        self._values = self._faces([self._conductances(p) for p in self.points])
        if self.weighted:
            around = self.grid.ghosted(np.asfortranarray(1 / mass), 0.0)
            self._values.append(np.ascontiguousarray(around.T))
        self._dk: Coefficients | None = None
        self._changes: list[np.ndarray] = []
        self._sums: list[np.ndarray] = []
        self._more: list[np.ndarray] = []
        self.clear()

    def spread(self, cells: Cells) -> Faces:
        return Faces(cells, self.count, self.weighted)

    @property
    def values(self) -> list[np.ndarray]:
        return self._values

    def _conductances(
        self, at: tuple[DiffusionAt, float] | None
    ) -> list[np.ndarray | None]:
        """By axis, of a species."""
        if at is None:
            return [None] * self.grid.dim
        point, factor = at
        return [factor * point.conductance(d) for d in range(self.grid.dim)]

    def _faces(
        self, by_species: Sequence[Sequence[np.ndarray | None]]
    ) -> list[np.ndarray]:
        """As loops take them, the slowest axis first."""
        found = []
        for axes in by_species:
            for d in reversed(range(self.grid.dim)):
                values = axes[d]
                if values is None:
                    found.append(np.zeros(self._shape(d)))
                else:
                    found.append(np.ascontiguousarray((self.scale * values).T))
        return found

    def _shape(self, d: int) -> tuple[int, ...]:
        """Of the faces normal to axis d, the slowest axis first."""
        return tuple(n + (d == e) for e, n in enumerate(self.grid.local_shape))[::-1]

    def changes(self, dk: Coefficients) -> list[np.ndarray]:
        """Those of conductances: the same arrays for all steps of a sweep."""
        if self._dk is not dk:
            cells = self.linear.part.cells(dk)
            moved: list[list[np.ndarray | None]] = []
            for at in self.points:
                found: list[np.ndarray | None] = [None] * self.grid.dim
                if at is not None:
                    point, factor = at
                    changed = point.conductance_changes(cells)
                    found = [None if g is None else factor * g for g in changed]
                moved.append(found)
            self._dk, self._changes = dk, self._faces(moved)
        return self._changes

    def more_sums(self, dk: Coefficients) -> list[np.ndarray]:
        """Products of the adjoint and the state, which second derivatives in k need."""
        if not self._more:
            self._more = [np.zeros_like(s) for s in self.sums]
        return self._more

    @property
    def sums(self) -> list[np.ndarray]:
        """Of faces, from the first sweep back on."""
        if not self._sums:
            shapes = [self._shape(d) for d in reversed(range(self.grid.dim))]
            every = (shape for _ in range(self.count) for shape in shapes)
            self._sums = [np.zeros(shape) for shape in every]
        return self._sums

    def clear(self) -> None:
        self._sums = []
        self._more, self._dk, self._changes = [], None, []

    def _by_axis(
        self, sums: Sequence[np.ndarray], c: int, factor: float
    ) -> list[np.ndarray]:
        """sum_n of the products of jumps of (nu, u), nu = -dt factor lambda / M."""
        dim = self.grid.dim
        own = sums[c * dim : (c + 1) * dim]
        return [-factor * self.scale * own[dim - 1 - d].T for d in range(dim)]

    def flush(self, out: Gradients) -> None:
        for c, at in enumerate(self.points):
            if at is None:
                continue
            point, factor = at
            parts = [point.contracted(self._by_axis(self.sums, c, factor))]
            if self._more and self._dk is not None:
                cells = self.linear.part.cells(self._dk)
                products = self._by_axis(self._more, c, factor)
                parts.append(point.contracted_change(products, cells))
            for found in parts:
                for name, values in found.items():
                    out.add(name, values)
