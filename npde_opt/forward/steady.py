"""F(m) = (B_e u_e)_e with A(m) u_e = f_e + b_e(m), where A is a sum of terms, b_e its boundary data.

Write r(u, m) = A(m) u - b(m) - f = 0 for the state equation. Then
    J dm = B du,                      A du = -r_m dm                       (incremental state)
    J^T d = -r_m^T lambda,            A^T lambda = B^T d                   (adjoint)
and the second derivative of d^T F(m) in direction dm is
    -(r_mm dm)^T lambda - (A_m)^T(lambda, du) - r_m^T dlambda,  A^T dlambda = -(A_m dm)^T lambda.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from petsc4py import PETSc

from npde_opt.errors import InputError
from npde_opt.forward.interface import Counters, Weights, check_alike
from npde_opt.forward.positivity import check_diffusivities, check_known, check_reactions, diffusivities
from npde_opt.grids import AXES
from npde_opt.grids.pockets import check_fixed
from npde_opt.linear.measured import take
from npde_opt.linear.recipes import LinearSolver
from npde_opt.operators.stencils import StencilMatrix
from npde_opt.parameters import ParametersAt, ParameterSpace
from npde_opt.stages import stage
from npde_opt.terms import Reaction, Term


@dataclass(frozen=True, eq=False)
class Experiment:
    """One right-hand side.

    Args:
        source: owned values of f integrated over cells [i, j, k].
        boundary: side name to value: u on Dirichlet sides, the outer u on Robin sides, the inward flux D du/dn on
            Neumann sides (per unit of area). 0 where not given.
    """

    source: np.ndarray
    boundary: Mapping[str, float] = field(default_factory=dict)


class SteadyState:
    """The forward map of the steady equation for several experiments on one grid.

    Args:
        space: the unknowns.
        terms: the equation.
        known: owned arrays [i, j, k] or numbers of the coefficients that are not unknown.
        experiments: right-hand sides; they share matrix and multigrid set-up.
        observation: Mat (data x cells), or one an experiment.

    Raises:
        InputError: for coefficients missing, or an operator that is singular (a part of the active cells with neither a
            Dirichlet or Robin side nor a reaction), and known diffusivities that are not positive.
    """

    def __init__(self, space: ParameterSpace, terms: Sequence[Term], known: Mapping[str, np.ndarray | float],
                 experiments: Sequence[Experiment], observation: PETSc.Mat | Sequence[PETSc.Mat],
                 prefix: str = "state_", recipe: str = "auto"):
        self.space, self.grid, self.terms, self.prefix = space, space.grid, tuple(terms), prefix
        grid = self.grid
        check_alike(grid.comm, experiments)
        self.known = {k: np.asfortranarray(np.broadcast_to(np.asarray(v, float), grid.local_shape))
                      for k, v in known.items()}
        needed = {name for term in terms for name in term.coefficients}
        given = set(self.known) | {u.name for u in space.unknowns}
        if needed - given:
            raise InputError("coefficients", sorted(given), f"values or unknowns for {sorted(needed)}")
        self.diffusivities = diffusivities(terms)
        check_known(grid, [n for n in self.diffusivities if n in self.known], self.known, zero=False)
        reactions = [t.name for t in terms if isinstance(t, Reaction)]
        check_fixed(grid, sum((self.known[name] != 0 if name in self.known else np.array(True) for name in reactions),
                              start=np.array(False)))
        self.experiments = tuple(experiments)
        self.observations = [observation] * len(self.experiments) if isinstance(observation, PETSc.Mat) \
            else list(observation)
        self.symmetric = all(t.symmetric for t in terms)
        self.counters = Counters()
        with stage("setup"):
            self.matrix = StencilMatrix(grid, prefix)
            self.solver = LinearSolver(self.matrix, grid, prefix, recipe, self.symmetric)
        self.assembled: list | None = None
        self._rhs, self._x, self._cells = grid.create_active(), grid.create_active(), grid.create_scalar()
        self.outside = [self._outside(e.boundary) for e in self.experiments]
        self.loads = [self._load(e) for e in self.experiments]

    def _outside(self, values: Mapping[str, float]) -> np.ndarray:
        """Ghosted array holding the boundary values in the ghosts outside the domain, 0 inside."""
        grid = self.grid
        out = np.zeros([n + 2 for n in grid.local_shape], order="F")
        for side, value in values.items():
            if side not in grid.boundaries:
                raise InputError("experiment.boundary", side, ", ".join(grid.boundaries))
            d, end = AXES.index(side[0]), side[1] == "+"
            at_edge = grid.stop[d] == grid.shape[d] if end else grid.start[d] == 0
            if at_edge and grid.boundaries[side].kind in ("dirichlet", "robin"):
                layer: list[slice | int] = [slice(1, -1)] * grid.dim
                layer[d] = -1 if end else 0
                out[tuple(layer)] = value
        return out

    def _load(self, experiment: Experiment) -> np.ndarray:
        """Sources and Neumann fluxes integrated over cells; 0 in inactive cells."""
        grid = self.grid
        load = np.array(np.broadcast_to(experiment.source, grid.local_shape), dtype=float, order="F")
        for side, value in experiment.boundary.items():
            d, end = AXES.index(side[0]), side[1] == "+"
            at_edge = grid.stop[d] == grid.shape[d] if end else grid.start[d] == 0
            if at_edge and grid.boundaries[side].kind == "neumann" and value:
                cells: list[slice] = [slice(None)] * grid.dim
                cells[d] = slice(-1, None) if end else slice(0, 1)
                area = grid.volume[tuple(cells)] / grid.widths[d][-1 if end else 0]
                load[tuple(cells)] += value * area
        return np.where(grid.active, load, 0.0)

    def linearize(self, m: PETSc.Vec) -> Linearization:
        """Solves all states at m. Raises SolverError where a diffusivity is not positive or a solve diverges."""
        return Linearization(self, self.space.at(m))

    def solve(self, load: np.ndarray, adjoint: bool = False) -> np.ndarray:
        """Ghosted solution of A x = load (A^T for the adjoint), 0 outside the domain."""
        self.grid.put(load, self._rhs)
        before = self.solver.iterations
        with stage("adjoint" if adjoint else "forward"):
            (self.solver.solve_transpose if adjoint else self.solver.solve)(self._rhs, self._x)
        iterations = self.solver.iterations - before
        self.counters.krylov_iterations += iterations
        take("adjoint" if adjoint else "state", self.matrix.mat, self._rhs, self._x, iterations,
             adjoint and not self.symmetric)
        if adjoint:
            self.counters.adjoint_solves += 1
        else:
            self.counters.forward_solves += 1
        return self.grid.ghosted(self.grid.take(self._x))

    def asked(self) -> dict[str, str]:
        """The tolerance of the solves, with its norm, by kind (see linear/measured.py)."""
        return {"state": self.solver.tolerance.text}

    def inner(self, ghosted: np.ndarray) -> np.ndarray:
        return ghosted[(slice(1, -1),) * self.grid.dim]

    def destroy(self) -> None:
        self.solver.destroy()
        self.matrix.destroy()
        self._rhs.destroy()
        self._x.destroy()
        self._cells.destroy()


class Linearization:
    """F at one point, with its derivatives there.

    The matrix and the multigrid hierarchy are shared between linearizations of one map and refreshed when another
    point than the last one is solved at.
    """

    def __init__(self, forward: SteadyState, parameters: ParametersAt):
        self.forward, self.parameters = forward, parameters
        coefficients = {**forward.known, **parameters.coefficients()}
        names = {u.name for u in forward.space.unknowns}
        check_diffusivities(forward.grid, forward.prefix, [n for n in forward.diffusivities if n in names], coefficients)
        self.points = [term.at(coefficients) for term in forward.terms]
        check_reactions(forward.grid, forward.prefix, self.points)
        self.assemble()
        self.states: list[np.ndarray] = []
        self.data: list[PETSc.Vec] = []
        for e, outside in enumerate(forward.outside):
            load = forward.loads[e]
            for point in self.points:
                load = load + point.boundary_load(outside)
            u = forward.solve(load)
            self.data.append(self._observe(e, u))
            u += outside
            self.states.append(u)
        self._adjoints: tuple[list[np.ndarray], list[np.ndarray]] | None = None

    def assemble(self) -> None:
        """Puts this point's operator into the shared matrix, where it is not there already."""
        forward = self.forward
        if forward.assembled is self.points:
            return
        with stage("assemble"):
            values = forward.matrix.entries()
            values[...] = 0
            for point in self.points:
                point.add_stencil(values)
            forward.matrix.set_values(values)
            forward.solver.update()
        forward.assembled = self.points

    def _observe(self, e: int, u: np.ndarray) -> PETSc.Vec:
        B, grid = self.forward.observations[e], self.forward.grid
        grid.view(self.forward._cells)[...] = self.forward.inner(u)
        data = B.createVecLeft()
        B.mult(self.forward._cells, data)
        return data

    def _load(self, e: int, d: PETSc.Vec) -> np.ndarray:
        """B_e^T d as an owned array."""
        self.forward.observations[e].multTranspose(d, self.forward._cells)
        return self.forward.grid.view(self.forward._cells).copy(order="F")

    def _residual_change(self, u: np.ndarray, dk: Mapping[str, np.ndarray]) -> np.ndarray:
        total = np.zeros(self.forward.grid.local_shape, order="F")
        for point in self.points:
            total += point.derivative(u, dk)
        return np.where(self.forward.grid.active, total, 0.0)

    def _pull(self, pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
        """Sum over (lambda, u) of r_k^T lambda."""
        out: dict[str, np.ndarray] = {}
        for point in self.points:
            for name, part in point.contraction(pairs).items():
                out[name] = out[name] + part if name in out else part
        return out

    def incremental_states(self, dk: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """du for all experiments, ghosted."""
        self.assemble()
        return [self.forward.solve(-self._residual_change(u, dk)) for u in self.states]

    def apply(self, dm: PETSc.Vec) -> list[PETSc.Vec]:
        """J dm: one data Vec an experiment, which the caller destroys."""
        return [self._observe(e, du) for e, du in enumerate(self.incremental_states(self.parameters.push(dm)))]

    def adjoint_states(self, d: Sequence[PETSc.Vec]) -> list[np.ndarray]:
        """lambda for all experiments, ghosted: A^T lambda = B^T d."""
        self.assemble()
        return [self.forward.solve(self._load(e, v), adjoint=True) for e, v in enumerate(d)]

    def apply_adjoint(self, d: Sequence[PETSc.Vec], adjoints: list[np.ndarray] | None = None) -> PETSc.Vec:
        """J^T d. The caller destroys the Vec."""
        found = self.adjoint_states(d) if adjoints is None else adjoints
        out = self.forward.space.create_vec()
        pairs = list(zip(found, self.states, strict=True))
        self.parameters.pull({k: -v for k, v in self._pull(pairs).items()}, out)
        return out

    def hessian(self, dm: PETSc.Vec, weights: Sequence[Weights], out: PETSc.Vec,
                adjoints: list[np.ndarray] | None) -> None:
        """Adds J^T W J dm and, where the misfit's adjoint states are given, the second-order term, with one
        incremental state and one incremental adjoint an experiment."""
        dk = self.parameters.push(dm)
        dus = self.incremental_states(dk)
        dlambdas = []
        for e, du in enumerate(dus):
            d = self._observe(e, du)
            weights[e].apply(d)
            load = self._load(e, d)
            d.destroy()
            if adjoints is not None:
                load = load - self._adjoint_change(adjoints[e], dk)
            dlambdas.append(self.forward.solve(load, adjoint=True))
        total = self._pull(list(zip(dlambdas, self.states, strict=True)))
        if adjoints is not None:
            first = list(zip(adjoints, self.states, strict=True))
            for part in (self._pull(list(zip(adjoints, dus, strict=True))), *(
                    point.second_contraction(first, dk) for point in self.points)):
                for name, values in part.items():
                    total[name] = total[name] + values
            self.parameters.pull_second({k: -v for k, v in self._pull(first).items()}, dm, out)
        self.parameters.pull({k: -v for k, v in total.items()}, out)

    def _adjoint_change(self, adjoint: np.ndarray, dk: Mapping[str, np.ndarray]) -> np.ndarray:
        """(A_m dm)^T lambda; terms with unknown coefficients are symmetric in u."""
        return self._residual_change(adjoint, dk)

    def destroy(self) -> None:
        for vec in self.data:
            vec.destroy()
