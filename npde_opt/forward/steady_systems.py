"""The systems of a steady equation at one point: its states, S u = b and S^T u = b.

Right-hand sides of several experiments are columns [c, s, i, j, k] where they share S. Columns of a
small system are solved for together (linear/factored.py), others one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from petsc4py import PETSc

from npde_opt.errors import InputError
from npde_opt.forward.columns import Columns
from npde_opt.forward.groups import Group
from npde_opt.forward.interface import Counters
from npde_opt.forward.jacobian import Jacobian
from npde_opt.forward.level import Level
from npde_opt.forward.linear_part import LinearPart, LinearPoint
from npde_opt.forward.steady_newton import SteadyNewton
from npde_opt.linear.accuracy import kept_solves, tolerance
from npde_opt.linear.choice import Reuse
from npde_opt.linear.factored import Factored, factors
from npde_opt.linear.measured import take
from npde_opt.linear.recipes import LinearSolver, chosen_recipe
from npde_opt.linear.residual import LARGE
from npde_opt.operators.blocks import pack, unpack
from npde_opt.stages import stage
from npde_opt.terms.state import Ghosts, State, channels


@dataclass(frozen=True, eq=False)
class Block(Columns):
    """Experiments whose states are columns of one state, at one point of the parameters.

    Args:
        linear: the linear terms.
        group: all terms, with what drives the experiments.
        outside: boundary values, or None.
    """

    linear: LinearPoint
    group: Group
    outside: Ghosts | None

    def zeros(self, species: int) -> np.ndarray:
        """A state [c, i, j, k], or columns."""
        count = len(self.members)
        return channels(self.linear.grid, species, (count,) if count > 1 else ())


Starts = Callable[[], list[np.ndarray]]
"""States from which Newton's method may start, the most promising first."""


class System(Protocol):
    """The solves at one point."""

    @property
    def solvers(self) -> Sequence[LinearSolver | Factored | Jacobian]: ...

    @property
    def asked(self) -> dict[str, str]: ...

    def state(self, block: Block, starts: Starts) -> State:
        """The steady states of a block."""

    def solve(
        self, block: Block, state: State, rhs: np.ndarray, adjoint: bool
    ) -> np.ndarray:
        """S u = rhs at the state of a block, or S^T u = rhs, shaped as rhs."""

    def destroy(self) -> None: ...


class LinearSystem:
    """A u = b of one species: A is shared by all experiments, and refreshed when another point than
    the last one is solved at.

    Args:
        once: for the states of one point, of which no derivatives are asked for.
    """

    def __init__(
        self,
        part: LinearPart,
        prefix: str,
        recipe: str,
        counters: Counters,
        experiments: int = 1,
        once: bool = False,
    ):
        self.part, self.grid, self.counters = part, part.grid, counters
        self.prefix, self.recipe = prefix, chosen_recipe(prefix, recipe)
        if not part.matrices:
            raise InputError("terms", "none that depends on the state", "at least one")
        (self.matrix,) = part.matrices
        self.symmetric = part.equation.symmetric
        # A gradient takes two solves of an experiment, a step of Newton's method some ten.
        reuse = Reuse(updates=10, solves=6 * max(experiments, 1))
        self.solver = LinearSolver(
            self.matrix,
            self.grid,
            prefix,
            recipe,
            self.symmetric,
            reuse=reuse,
            brief=experiments if once else 0,
        )
        self.factored = Factored(self.grid.comm, prefix)
        self.solvers: list[LinearSolver | Factored] = [self.solver, self.factored]
        self._ready: dict[LinearSolver | Factored, object] = {}
        self._kept: list[PETSc.Vec] | None = None
        self._small: dict[int, bool] = {}
        self.level: Level | None = None
        """The mean of states where nothing else says their level."""

    @property
    def asked(self) -> dict[str, str]:
        direct = self.solver not in self._ready
        return {"state": self.factored.asked if direct else self.solver.asked}

    @property
    def exactness(self) -> float:
        """The tolerance of solves that are kept, here and now."""
        with kept_solves():
            return tolerance(self.solver.tolerance.own)

    def _is_new(self, block: Block, solver: LinearSolver | Factored) -> bool:
        """Whether a solver has to take the block's matrix, which is assembled."""
        points = block.linear.points
        self.part.assemble(points)
        new = self._ready.get(solver) is not points
        self._ready[solver] = points
        return new

    def state(self, block: Block, starts: Starts) -> State:
        rhs = self.driving(block)
        if self.level is not None:
            self.level.check(rhs)
        u = self.solve(block, State(self.grid, rhs, 0.0, block.outside), rhs, False)
        if self.level is not None:
            u = self.level.levelled(u, self.level.mean)
        return State(self.grid, u, 0.0, block.outside)

    def driving(self, block: Block) -> np.ndarray:
        """b of a block."""
        rhs = block.zeros(1)
        zero = State(self.grid, rhs, 0.0, block.outside)
        for point in block.group.others:
            rhs -= point.residual(zero)
        load = block.group.load(zero)
        if load is not None:
            rhs += load
        return rhs

    def solve(
        self, block: Block, state: State, rhs: np.ndarray, adjoint: bool
    ) -> np.ndarray:
        if self.level is not None:
            rhs = self.level.balanced(rhs)
        small = self._is_small(len(block.members))
        with stage("assemble"):
            if small and self._is_new(block, self.factored):
                self.factored.update(self.matrix.mat.getValuesCSR())
            elif not small and self._is_new(block, self.solver):
                self.solver.update()
        out = np.empty_like(rhs)
        with stage("adjoint" if adjoint else "forward"):
            if small:
                self._together(rhs[0], out[0], adjoint)
            else:
                for _, own, found in block.each(rhs, out):
                    self._one(own[0], found[0], adjoint)
        return out if self.level is None else self.level.levelled(out)

    def _is_small(self, columns: int) -> bool:
        """Whether so many columns are solved for by factors, all together."""
        if columns not in self._small:
            size = self.grid.active_size
            given = self.prefix, self.recipe, self.grid.dim, size, columns
            self._small[columns] = factors(*given)
        return self._small[columns]

    def _together(self, rhs: np.ndarray, out: np.ndarray, adjoint: bool) -> None:
        """All columns [s, i, j, k]."""
        kind = "adjoint" if adjoint else "state"
        found = self.factored.solve(
            pack(self.grid, rhs), adjoint and not self.symmetric, kind
        )
        out[...] = unpack(self.grid, found)
        self.counters.krylov_iterations += len(rhs)

    def _one(self, rhs: np.ndarray, out: np.ndarray, adjoint: bool) -> None:
        """One state [i, j, k]."""
        b, x = self._kept or [self.grid.create_active() for _ in range(2)]
        self._kept = [b, x]
        self.grid.put(rhs, b)
        self._solved(b, x, adjoint)
        self.grid.take(x, out[None])
        if self.grid.size >= LARGE:
            self._free()

    def solve_vec(
        self, block: Block, b: PETSc.Vec, x: PETSc.Vec, adjoint: bool
    ) -> None:
        """A x = b of one state, or A^T x = b, where no mean says the level: Vecs of active
        cells."""
        if self._ready.get(self.solver) is not block.linear.points:
            with stage("assemble"):
                self._is_new(block, self.solver)
                self.solver.update()
        with stage("adjoint" if adjoint else "forward"):
            self._solved(b, x, adjoint)

    def _solved(self, b: PETSc.Vec, x: PETSc.Vec, adjoint: bool) -> None:
        before = self.solver.iterations
        (self.solver.solve_transpose if adjoint else self.solver.solve)(b, x)
        iterations = self.solver.iterations - before
        self.counters.krylov_iterations += iterations
        take(
            "adjoint" if adjoint else "state",
            self.matrix.operator,
            b,
            x,
            iterations,
            adjoint and not self.symmetric,
        )

    def _free(self) -> None:
        for vec in self._kept or []:
            vec.destroy()
        self._kept = None

    def destroy(self) -> None:
        self.solver.destroy()
        self._free()


class NonlinearSystem:
    """r(u) = 0 by Newton's method; the Jacobian belongs to one experiment's state at a time, and
    blocks are of single experiments."""

    def __init__(self, part: LinearPart, prefix: str, recipe: str, counters: Counters):
        self.part, self.grid, self.counters = part, part.grid, counters
        self.newton = SteadyNewton(part, prefix, recipe)
        self.solvers: list[LinearSolver | Factored | Jacobian] = [self.newton.jacobian]

    @property
    def asked(self) -> dict[str, str]:
        return self.newton.asked

    def state(self, block: Block, starts: Starts) -> State:
        with stage("assemble"):
            self.part.assemble(block.linear.points)
        states = [State(self.grid, u, 0.0, block.outside) for u in starts()]
        with stage("forward"):
            found = self.newton.solve(block.group, states)
        self._count()
        return found

    def solve(
        self, block: Block, state: State, rhs: np.ndarray, adjoint: bool
    ) -> np.ndarray:
        with stage("adjoint" if adjoint else "forward"):
            found = self.newton.linear(block.group, state, rhs, adjoint)
        self._count()
        return found

    def _count(self) -> None:
        self.counters.krylov_iterations = self.newton.jacobian.iterations

    def destroy(self) -> None:
        self.newton.destroy()
