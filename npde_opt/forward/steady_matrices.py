"""Derivatives of a linear steady equation as matrices, so that a product with the Hessian is a few
calls: of few cells, calls are most of what the terms' own derivatives take.

Of r(u; k) = A(k) u - b(k) with a symmetric A, at a state u and its adjoint lambda, by coefficient
k, one value a cell,

    B = r_k(u),    C = (A u)_k(lambda),    D = d2(lambda^T r) / dk2,

r_uk^T(lambda, dk) is C dk, and the product of steady_point.py becomes

    A du = -B dk,    A dlambda = what is seen of du - C dk,    -(B^T dlambda + C^T du + D dk).

Gauss-Newton's has B alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from petsc4py import PETSc

from npde_opt.aliases import Coefficients
from npde_opt.forward.equation import Equation
from npde_opt.forward.experiment import Driving
from npde_opt.forward.interface import Counters
from npde_opt.forward.steady_systems import Block, LinearSystem
from npde_opt.grids import Grid
from npde_opt.observations import DataBlock, Metric, Observations
from npde_opt.operators.stencils import PLANES, StencilMatrix
from npde_opt.terms.state import Gradients, State

FIRST, CROSSED, SECOND = "B", "C", "D"


Observe = Callable[[PETSc.Vec, PETSc.Vec], None]
"""From du to a right-hand side, both in active cells."""


@dataclass(frozen=True)
class Seen:
    """What is observed at a point.

    Args:
        metrics: W, one a block of data.
        multipliers: of the data, where the second-order term is wanted.
        images: zero data, to which those of du are added.
    """

    observed: Observations
    metrics: Sequence[Metric]
    multipliers: Sequence[DataBlock] | None
    images: Sequence[DataBlock]


class Matrices:
    """B, C and D of a block; their values belong to the states that were taken last.

    Args:
        names: of the unknowns that the linear terms read.

    Attributes:
        changes: dk of a product, by name, in active cells.
    """

    def __init__(self, grid: Grid, names: Sequence[str], system: LinearSystem):
        self.grid, self.names, self.system = grid, tuple(names), system
        self._made: dict[tuple[str, str], StencilMatrix] = {}
        self._rhs, self._du, self._dual, self._work = (
            grid.create_active() for _ in range(4)
        )
        self.changes = {name: grid.create_active() for name in names}
        # The state of B, and the adjoint state of C and D.
        self._state: State | None = None
        self._adjoint: State | None = None

    def take(self, block: Block, state: State, adjoint: State | None) -> bool:
        """Takes B at a state, and with its adjoint state C and D; False where a term does not say
        them. Collective."""
        if self._state is not state:
            self._state = self._adjoint = None
            if not self._fill(FIRST, block, state):
                return False
            self._state = state
        if adjoint is not None and self._adjoint is not adjoint:
            self._adjoint = None
            if not self._fill(CROSSED, block, adjoint):
                return False
            if not self._fill(SECOND, block, state, adjoint):
                return False
            self._adjoint = adjoint
        return True

    def _fill(
        self, kind: str, block: Block, state: State, adjoint: State | None = None
    ) -> bool:
        """B of a state, C of an adjoint state in its place, or D of both."""
        matrices = {name: self._matrix(kind, name) for name in self.names}
        planes = {name: matrix.zeroed() for name, matrix in matrices.items()}
        (points,), u = block.linear.points, state.ghosted(0)
        if adjoint is None:
            known = [point.add_slopes(u, planes) for point in points]
        else:
            nu = adjoint.ghosted(0)
            known = [point.add_bends(nu, u, planes) for point in points]
        for matrix in matrices.values():
            matrix.refresh()
        return all(known)

    def _matrix(self, kind: str, name: str) -> StencilMatrix:
        if (kind, name) not in self._made:
            self._made[kind, name] = StencilMatrix(self.grid)
        return self._made[kind, name]

    def _changed(self, kind: str, out: PETSc.Vec) -> PETSc.Vec:
        """out = the sum over the coefficients of matrix times dk."""
        first, *others = self.names
        self._matrix(kind, first).mat.mult(self.changes[first], out)
        for name in others:
            self._matrix(kind, name).mat.multAdd(self.changes[name], out, out)
        return out

    def product(
        self,
        block: Block,
        dk: Coefficients,
        seen: Seen,
        counters: Counters,
        out: Gradients,
    ) -> None:
        """Adds B^T dlambda, and with multipliers of the data C^T du + D dk, to `out`, at what was
        taken last. Collective."""
        state, members, of = self._state, block.members, seen.observed
        assert state is not None
        for name, values in block.linear.part.cells(dk).items():
            self.grid.put(values, self.changes[name])

        def observe(du: PETSc.Vec, rhs: PETSc.Vec) -> None:
            change, pulled = self.grid.take(du)[None], state.zeros()
            of.push(members, 0, state.u, change, seen.images)
            of.weigh(members, seen.metrics, seen.images)
            of.pull(members, 0, state.u, seen.images, pulled)
            if seen.multipliers is not None:
                of.second(members, 0, state.u, change, seen.multipliers, pulled)
            self.grid.put(pulled[0], rhs)

        exact = seen.multipliers is not None
        self.solve(block, observe, exact, counters)
        for name in self.names:
            found = np.empty(self.grid.local_shape, order="F")
            out.add(name, self.grid.take(self.found(name, exact), found))

    def solve(
        self, block: Block, observe: Observe, exact: bool, counters: Counters
    ) -> None:
        """Solves for du and dlambda along `changes`, at what was taken last. Collective.

        Args:
            observe: what is seen of du, weighted, as a right-hand side.
            exact: with C; else Gauss-Newton's.
        """
        rhs = self._rhs
        self._changed(FIRST, rhs).scale(-1.0)
        counters.forward_solves += 1
        self.system.solve_vec(block, rhs, self._du, False)
        observe(self._du, rhs)
        if exact:
            rhs.axpy(-1.0, self._changed(CROSSED, self._work))
        counters.adjoint_solves += 1
        self.system.solve_vec(block, rhs, self._dual, True)

    def found(self, name: str, exact: bool) -> PETSc.Vec:
        """B^T dlambda of a coefficient, and where it is `exact` C^T du + D dk, after `solve`; the
        next call overwrites it. Collective."""
        out = self._rhs
        self._matrix(FIRST, name).mat.multTranspose(self._dual, out)
        if exact:
            self._matrix(CROSSED, name).mat.multTransposeAdd(self._du, out, out)
            self._matrix(SECOND, name).mat.multAdd(self.changes[name], out, out)
        return out

    def contraction(self, adjoint: State, out: Gradients) -> None:
        """Adds B^T lambda of an adjoint state to `out`, at the state that was taken last."""
        self.grid.put(adjoint.u[0], self._dual)
        for name in self.names:
            self._matrix(FIRST, name).mat.multTranspose(self._dual, self._work)
            found = np.empty(self.grid.local_shape, order="F")
            out.add(name, self.grid.take(self._work, found))

    def destroy(self) -> None:
        for matrix in self._made.values():
            matrix.destroy()
        own = self._rhs, self._du, self._dual, self._work
        for vec in (*own, *self.changes.values()):
            vec.destroy()


def sought_by_matrices(
    grid: Grid, equation: Equation, driving: Sequence[Driving], unknown: Sequence[str]
) -> list[str]:
    """The unknowns of which derivatives may be matrices: all that an equation reads, where its
    linear terms alone do; none else, and on grids whose loops are compiled."""
    linear = equation.cell_coefficients
    others = [*equation.nonlinear, *(t for d in driving for t in d.terms)]
    read = {n for t in others for n in t.coefficients}
    read |= {n for d in driving for n in d.boundary.coefficients}
    found = [name for name in unknown if name in linear]
    plain = equation.symmetric and [o.pattern for o in equation.operators] == [
        ((0, 0, 1.0),)
    ]
    if grid.size >= PLANES or not plain or read.intersection(unknown):
        return []
    return found
