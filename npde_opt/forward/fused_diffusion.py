"""What is between the cells of fused steps at given coefficients (see fused_spread.py): the arrays
that loops read and add to, and what these mean for the coefficients. Here diffusion by numbers a
species and by numbers a face; the others are in fused_advection.py and fused_nonlinear.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from npde_opt.aliases import Coefficients
from npde_opt.forward.fused_spread import Cells, Constant, Faces, Spread
from npde_opt.forward.linear_part import LinearPart, LinearPoint
from npde_opt.grids import Grid
from npde_opt.terms.diffusion import Diffusion, DiffusionAt
from npde_opt.terms.state import Gradients


def uniform(grid: Grid) -> bool:
    """Whether all cells have one size."""

    def find() -> bool:
        return all(np.allclose(w, w[0], rtol=1e-12, atol=0) for w in grid.widths)

    return grid.once("uniform cells", find)


@dataclass(frozen=True)
class Scale:
    """How rates are over M.

    Args:
        weighted: whether loops have 1/M as a field, as it differs from cell to cell.
        value: what rates are multiplied by where it does not; else 1.
    """

    weighted: bool
    value: float

    @classmethod
    def of(cls, part: LinearPart) -> Scale:
        # All ranks ask for the same loops.
        weighted = part.grid.radial or not uniform(part.grid)
        return cls(weighted, 1.0 if weighted else 1 / float(part.mass.flat[0]))


class Values(Protocol):
    """A spread's arrays, in the order of its names."""

    padded: bool

    def spread(self, cells: Cells) -> Spread: ...

    def values(self, samples: tuple[int, ...]) -> Sequence[np.ndarray | float]:
        """For states of as many samples, () where they have no such axis."""

    def changes(self, dk: Coefficients) -> Sequence[np.ndarray | float]: ...

    @property
    def sums(self) -> list[np.ndarray]:
        """From the first sweep back on."""

    def more_sums(self, dk: Coefficients) -> list[np.ndarray]: ...

    def clear(self) -> None:
        """Forgets what was added."""

    def flush(self, out: Gradients) -> None:
        """Adds what the sums mean to the coefficients' cotangents."""


def slowest_first(field: np.ndarray) -> np.ndarray:
    """As loops take a field [i, j, k]."""
    return np.ascontiguousarray(field.T)


def face_shape(grid: Grid, d: int) -> tuple[int, ...]:
    """Of the owned cells' faces normal to axis d."""
    return tuple(n + (d == e) for e, n in enumerate(grid.local_shape))


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
        self._operators, self._inner = linear.operators, min(grid.shape) > 2
        self.clear()

    @property
    def bounds(self) -> list[float] | None:
        """Gershgorin's of each operator, from a cell with neighbours on all sides: None where there
        may be none."""
        if not self._inner:
            return None
        found = list[float]()
        for operator in self._operators:
            ((c, _, factor),) = operator.pattern
            found.append(4 * float(self.weights.sum() * self.D[c]) / abs(factor))
        return found

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

    def values(self, samples: tuple[int, ...]) -> list[np.ndarray]:
        return [np.outer(self.D, self.weights), self.weights]

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
    """One number a face: the conductances of the terms."""

    padded = True

    def __init__(self, linear: LinearPoint, scale: Scale):
        self.linear, self.grid, self.count = linear, linear.grid, linear.count
        self.points: list[tuple[DiffusionAt, float] | None] = [None] * self.count
        for operator, (point,) in zip(linear.operators, linear.points, strict=True):
            ((c, _, factor),) = operator.pattern
            assert isinstance(point, DiffusionAt)
            self.points[c] = point, factor
        self.weighted, self.scale = scale.weighted, scale.value
        self._values = self._faces([self._conductances(p) for p in self.points])
        self._dk: Coefficients | None = None
        self._changes: list[np.ndarray] = []
        self._sums: list[np.ndarray] = []
        self._more: list[np.ndarray] = []
        self.clear()

    def spread(self, cells: Cells) -> Faces:
        return Faces(cells, self.count, self.weighted)

    def values(self, samples: tuple[int, ...]) -> list[np.ndarray]:
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
                    found.append(slowest_first(self.scale * values))
        return found

    def _shape(self, d: int) -> tuple[int, ...]:
        """Of the faces normal to axis d, the slowest axis first."""
        return face_shape(self.grid, d)[::-1]

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
