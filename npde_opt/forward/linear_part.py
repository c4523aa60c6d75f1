"""The linear terms of an equation together: their matrices, and the derivatives of A u - b in u and
in the coefficients.

See equation.py for the formulas.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.aliases import Coefficients
from npde_opt.forward.equation import Equation, joined
from npde_opt.grids.sides import Side
from npde_opt.operators.blocks import BlockProduct
from npde_opt.operators.stencils import StencilMatrix
from npde_opt.terms.interface import LinearAt
from npde_opt.terms.state import Ghosts, Gradients, State, channels

PAIRS = 8
Points = list[list[LinearAt]]
"""The linear terms at given coefficients, by operator."""


class LinearPart:
    """The linear terms' matrices, one an operator; values belong to the point that was assembled
    last.

    Args:
        prefix: options prefix of the matrices.
        bounded: whether `stiffness` is asked for.

    Attributes:
        points: those of the values.
    """

    def __init__(
        self, equation: Equation, prefix: str | None = None, bounded: bool = True
    ):
        self.equation, self.grid = equation, equation.grid
        self.matrices = [
            StencilMatrix(self.grid, prefix, joined(self.grid, o.terms))
            for o in equation.operators
        ]
        self.points: Points | None = None
        # The coefficients that terms were last made at, and the terms there.
        self._last: tuple[dict[str, np.ndarray], Points] | None = None
        self._bounded = bounded
        self._cells: tuple[Coefficients, dict[str, np.ndarray]] | None = None
        self._x, self._y = self.grid.create_active(), self.grid.create_active()
        self._blocks: dict[int, BlockProduct] = {}
        self.bounds = [0.0] * len(self.matrices)

    @cached_property
    def mass(self) -> np.ndarray:
        """gamma S M (S M where gamma is imaginary), owned [i, j, k], with the S of `points`."""
        found: np.ndarray = self.equation.inertia * self.grid.volume
        return found

    @cached_property
    def mass_vec(self) -> PETSc.Vec:
        """The mass of active cells. Collective when first asked for."""
        found = self.grid.create_active()
        self.grid.put(self.mass, found)
        return found

    @property
    def unit(self) -> np.ndarray | float:
        """gamma S: the mass over the volume."""
        equation = self.equation
        return (
            equation.inertia
            if equation.capacity is None
            else self.mass / self.grid.volume
        )

    def points_at(self, coefficients: Coefficients) -> Points:
        """The terms at coefficients: where these and the mass's are the last ones again, those made
        then, so that nothing is assembled once more for them. Collective."""
        capacity = self.equation.capacity
        stored = capacity.coefficients if capacity is not None else ()
        names = sorted({*self.equation.cell_coefficients, *stored})
        given = {n: np.asarray(coefficients[n], float) for n in names}
        if self._last is not None:
            last, points = self._last
            equal = all(np.array_equal(given[n], last[n]) for n in names)
            if reductions.everywhere(self.grid.comm, equal):
                return points
        # In the order of memory that it has: all fields go through the same loops.
        own = {n: values.copy(order="K") for n, values in given.items()}
        cells = self.cells(own)
        made = [[t.at(cells) for t in o.terms] for o in self.equation.operators]
        self._last = own, made
        return made

    def cells(self, dk: Coefficients) -> dict[str, np.ndarray]:
        """As owned arrays [i, j, k], or [c, i, j, k] of fields of several channels."""
        if self._cells is not None and self._cells[0] is dk:
            return self._cells[1]
        own, shape = self.equation.cell_coefficients, self.grid.local_shape
        given = {n: np.asarray(dk[n], float) for n in own if n in dk}
        found = {
            n: v if v.shape[-len(shape) :] == shape else np.broadcast_to(v, shape)
            for n, v in given.items()
        }
        # Of the same object again: as long as it is kept here, no other one has its place.
        self._cells = (dk, found) if self.grid.small else None
        return found

    def assemble(self, points: Points, mass: np.ndarray | None = None) -> bool:
        """Puts the operators of `points` into the matrices; False where they are there already.

        Args:
            mass: that goes with them; None: it is always the same.
        """
        if self.points is points:
            return False
        if mass is not None:
            self.mass[...] = mass
            self.grid.put(self.mass, self.mass_vec)
        for k, (matrix, at) in enumerate(zip(self.matrices, points, strict=True)):
            planes = matrix.zeroed()
            for point in at:
                point.add_planes(planes)
            if self._bounded:
                self.bounds[k] = self._gershgorin(list(planes.values()))
            matrix.refresh()
        self.points = points
        return True

    def bounded_by(self, bounds: Sequence[float]) -> None:
        """Takes the bounds of operators whose values nobody asks for: the matrices have none then.

        Args:
            bounds: of the eigenvalues of M^-1 A on this rank, by operator.
        """
        self.points, self.bounds = None, list(bounds)

    def _gershgorin(self, planes: Sequence[np.ndarray]) -> float:
        """A bound of the eigenvalues of M^-1 A on this rank."""
        rows = np.abs(planes[0])
        for plane in planes[1:]:
            rows += np.abs(plane)
        rows /= self.mass
        return float(
            (rows if self.grid.mask is None else rows[self.grid.active]).max(
                initial=0.0
            )
        )

    def mult(self, k: int, x: np.ndarray, transposed: bool = False) -> np.ndarray:
        """A_k x of an owned field [i, j, k], or of all columns [s, i, j, k]; it may be a view that
        the next call overwrites."""
        transposed = transposed and not self.equation.operators[k].symmetric
        if x.ndim > self.grid.dim:
            if k not in self._blocks:
                self._blocks[k] = BlockProduct(self.matrices[k])
            return self._blocks[k](x, transposed)
        self.grid.put(x, self._x)
        self.matrices[k].product(self._x, self._y, transposed)
        return self.grid.take(self._y)

    def stiffness(self, species: int | None = None, own: bool = False) -> float:
        """A bound of the eigenvalues of M^-1 A over all ranks, in 1/time: of one species' rows, or
        all; `own`: of its block with itself alone."""
        rows = [0.0] * len(self.equation.species)
        for bound, operator in zip(self.bounds, self.equation.operators, strict=True):
            for row, column, factor in operator.pattern:
                rows[row] += bound * abs(factor) if row == column or not own else 0.0
        found = max(rows) if species is None else rows[species]
        return reductions.largest(self.grid.comm, found)

    def mean_stiffness(self) -> float:
        """The largest sum of 2 |A_ii| over that of M of all cells, of the operators, in 1/time:
        their `stiffness` on average. Collective."""
        if self.points is None:
            return self.stiffness()  # of numbers, which are the same everywhere
        found = 0.0
        for matrix in self.matrices:
            matrix.diagonal(self._x)
            found = max(found, 2 * self._x.norm(PETSc.NormType.NORM_1))
        return found / self.mass_vec.sum()

    def destroy(self) -> None:
        for product in self._blocks.values():
            product.destroy()
        for matrix in self.matrices:
            matrix.destroy()
        if "mass_vec" in self.__dict__:
            self.mass_vec.destroy()
        self._x.destroy()
        self._y.destroy()


class LinearPoint:
    """All linear terms of an equation together, at given coefficients: what a `TermAt` is.

    Contractions are collected and taken PAIRS at a time; `flush` completes them.
    """

    def __init__(self, part: LinearPart, coefficients: Coefficients):
        self.part, self.grid = part, part.grid
        self.operators = part.equation.operators
        self._coefficients = coefficients
        self.count = len(part.equation.species)
        self._pairs: list[list[tuple[np.ndarray, np.ndarray]]] = [
            [] for _ in self.operators
        ]
        self.active = self.grid.active
        self._load: tuple[Ghosts, np.ndarray] | None = None

    @cached_property
    def points(self) -> Points:
        """The terms, by operator. Collective when first asked for."""
        return self.part.points_at(self._coefficients)

    def check(self, prefix: str) -> None:
        """Raises SolverError on all ranks where a term's values are not finite. Collective."""
        for at in self.points:
            for point in at:
                point.check(prefix)

    def load(self, outside: Ghosts | None) -> np.ndarray | None:
        """b of r = A u - b from values outside, of one state or of columns. That of the last ones
        is kept."""
        if outside is None:
            return None
        if self._load is None or self._load[0] is not outside:
            self._load = outside, self._loaded(outside)
        return self._load[1]

    def _loaded(self, outside: Ghosts) -> np.ndarray:
        fields = [outside.field(c) for c in range(self.count)]
        columns = next((f.shape[: -self.grid.dim] for f in fields if f is not None), ())
        out = channels(self.grid, self.count, columns)
        for operator, points in zip(self.operators, self.points, strict=True):
            for row, column, factor in operator.pattern:
                values = fields[column]
                if values is not None:
                    for point in points:
                        out[row] += factor * point.boundary_load(values)
        return self._inside(out)

    def outer(
        self, adjoint: State, out: Gradients, dk: Coefficients | None = None
    ) -> None:
        """Adds r_g^T lambda, of the values g outside, to `out.outer`; with `dk` its derivative
        along a change of the coefficients."""
        sought = out.outer
        if not sought:
            return
        cells = None if dk is None else self.part.cells(dk)
        for operator, points in zip(self.operators, self.points, strict=True):
            for row, column, factor in operator.pattern:
                nu = factor * adjoint.ghosted(row)
                for side in [
                    side for (c, _), (side, _) in sought.items() if c == column
                ]:
                    out.add_outer(
                        column, side.name, -self._seen(points, side, nu, cells)
                    )

    def _seen(
        self,
        points: Sequence[LinearAt],
        side: Side,
        nu: np.ndarray,
        cells: Coefficients | None,
    ) -> np.ndarray | float:
        """b_g^T nu of the values outside a side, or its change."""
        if cells is None:
            return sum(point.boundary_transpose(side, nu) for point in points)
        if not cells:
            return 0.0
        return sum(point.boundary_transpose_change(side, nu, cells) for point in points)

    def product(self, u: np.ndarray, transposed: bool = False) -> np.ndarray:
        """A u, or A^T u, for all species."""
        out = np.zeros_like(u)
        for k, operator in enumerate(self.operators):
            for row, column, factor in operator.pattern:
                a, b = (column, row) if transposed else (row, column)
                y = self.part.mult(k, u[b], transposed)
                out[a] += y if factor == 1 else factor * y
        return out

    def derivative(self, state: State, dk: Coefficients) -> np.ndarray | float:
        change = self.part.cells(dk)
        if not change:
            return 0.0
        out = state.zeros()
        for operator, points in zip(self.operators, self.points, strict=True):
            for row, column, factor in operator.pattern:
                for point in points:
                    found = point.derivative(state.ghosted(column), change)
                    out[row] += found if factor == 1 else factor * found
        return self._inside(out)

    def _inside(self, values: np.ndarray) -> np.ndarray:
        """0 in inactive cells."""
        whole = self.grid.mask is None
        return values if whole else np.where(self.active, values, 0.0)

    def contraction(self, state: State, adjoint: State, out: Gradients) -> None:
        for operator, pairs in zip(self.operators, self._pairs, strict=True):
            for row, column, factor in operator.pattern:
                weighted = (
                    adjoint.ghosted(row)
                    if factor == 1
                    else factor * adjoint.ghosted(row)
                )
                pairs.append((weighted, state.ghosted(column)))
        self.outer(adjoint, out)
        if self._pairs and len(self._pairs[0]) >= PAIRS:
            self.flush(out)

    def discard(self) -> None:
        for pairs in self._pairs:
            pairs.clear()

    def flush(self, out: Gradients) -> None:
        """Adds the collected contractions to `out`."""
        if not any(self._pairs):
            return
        for points, pairs in zip(self.points, self._pairs, strict=True):
            for point in points if pairs else ():
                for name, values in point.contraction(pairs).items():
                    out.add(name, values)
            pairs.clear()

    def second(
        self,
        state: State,
        adjoint: State,
        change: State,
        dk: Coefficients,
        out: Gradients,
    ) -> np.ndarray:
        """(A_k dk)^T lambda; adds r_ku^T(lambda, du) + r_kk^T(lambda, dk)."""
        cells, result = self.part.cells(dk), adjoint.zeros()
        self.outer(adjoint, out, dk)
        for operator, points in zip(self.operators, self.points, strict=True):
            for row, column, factor in operator.pattern:
                nu = (
                    adjoint.ghosted(row)
                    if factor == 1
                    else factor * adjoint.ghosted(row)
                )
                for point in points:
                    result[column] += (
                        point.derivative_transpose(nu, cells) if cells else 0.0
                    )
                    parts = [point.contraction([(nu, change.ghosted(column))])]
                    parts += (
                        [point.second_contraction([(nu, state.ghosted(column))], cells)]
                        if cells
                        else []
                    )
                    for found in parts:
                        for name, values in found.items():
                            out.add(name, values)
        return self._inside(result)
