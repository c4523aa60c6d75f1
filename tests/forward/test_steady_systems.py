"""Steady experiments that are columns of one state are those that are solved for by themselves."""

import numpy as np
import pytest
from forward.test_columns import compare, mask, results
from forward.test_evolution_derivatives import SHAPE, check, tight, vector  # noqa: F401
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.errors import SolverError
from npde_opt.forward import Equation, Experiment, Steady
from npde_opt.forward import columns as together
from npde_opt.grids import Boundary, Grid
from npde_opt.linear import factored
from npde_opt.misfits import LeastSquares
from npde_opt.objective import Objective
from npde_opt.observations import snapshots
from npde_opt.parameters import ParameterSpace, Shared, Unknown
from npde_opt.terms import Advection, Diffusion, Reaction, Source

UNKNOWNS = [Unknown("D", "log"), Unknown("c"), Unknown("w", block=Shared())]


def steady(symmetric):
    sides = {"x-": "dirichlet", "y+": Boundary("robin", 0.7)}
    grid = Grid(SHAPE, boundaries=sides, active=mask())
    terms = [
        Diffusion(grid, "D"),
        Reaction(grid, "c"),
        Source(grid, ("u",), "u", "w*y"),
    ]
    if not symmetric:
        terms.append(Advection(grid, (0.5, 1.0)))
    experiments = [
        Experiment(sources=[Source(grid, ("u",), "u", "w**2*x")]),
        Experiment(boundary={"x-": 1.0, "y-": 0.5, "y+": 0.2}),
        Experiment(load=np.full(grid.local_shape, 0.1)),
        Experiment(
            boundary={"x-": "0.3*y", "y-": "w*x"}, samplings=[snapshots(grid, [], "u")]
        ),
    ]
    space = ParameterSpace(grid, UNKNOWNS)
    seen = [snapshots(grid, [], "u**2")]
    forward = Steady(space, Equation(grid, terms), {}, experiments, seen)
    misfits = [
        LeastSquares(np.ones((o.size, o.columns)), 0.5, o) for o in forward.layouts
    ]
    return Objective(forward, misfits, {}), vector(space, 1, 0.7), vector(space, 2, 0.5)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize(
    "symmetric, small", [(True, False), (False, True), (False, False)]
)
def test_columns_are_experiments(symmetric, small, monkeypatch):
    """Driven by all that there is; solved for together, or one by one."""
    monkeypatch.setattr(factored, "SHARE", 256 if small else 0)
    found = []
    for cells in (together.CELLS, 0):
        monkeypatch.setattr(together, "CELLS", cells)
        J, m, dm = steady(symmetric)
        expected = [(0, 1, 2, 3)] if cells else [(0,), (1,), (2,), (3,)]
        found.append(results(J, m, dm))
        assert J.forward.blocks == expected
        counts = J.forward.counters
        assert (counts.forward_solves, counts.adjoint_solves) == (12, 12)
        assert 0 < J.forward.true_residual < 1e-9
        check(J, m, dm) if cells else J.destroy()
    compare(*found, rtol=1e-10)


@pytest.mark.parallel([1, 2])
def test_a_matrix_that_is_singular_ends_the_run():
    J, m, _ = steady(True)
    J.forward.system.factored.update = fails = Singular(J.forward.system.factored)
    with pytest.raises(
        SolverError, match="solver 'state_' failed: the factorization failed"
    ):
        J.linearize(m).gradient()
    assert fails.called


class Singular:
    """Takes a matrix of zeros in place of the one given."""

    def __init__(self, solver):
        self.update, self.called = solver.update, False

    def __call__(self, rows):
        self.called = True
        starts, columns, values = rows
        self.update((starts, columns, 0 * values))


@pytest.mark.parametrize("option", ["state_ksp_type", "state_recipe"])
def test_a_solver_that_is_asked_for_is_taken(option):
    options = PETSc.Options()
    options[option] = "gmres" if option.endswith("ksp_type") else "gamg"
    try:
        J, m, _ = steady(True)
        assert np.isfinite(J.linearize(m).value)
        assert J.forward.asked()["state"] != "direct"
        J.destroy()
    finally:
        options.delValue(option)


def test_which_systems_are_factored():
    def factors(dim, unknowns, columns, recipe="auto"):
        return factored.factors("state_", recipe, dim, unknowns, columns)

    assert factors(2, 4096, 16) and factors(2, 512, 2)
    assert (
        not factors(2, 4096, 15)
        and not factors(2, 513, 2)
        and not factors(2, 4097, 256)
    )
    assert not factors(2, 64, 1) and not factors(3, 1025, 256)
    assert not factors(2, 64, 256, "geometric")


@pytest.mark.parallel([1, 2, 3])
def test_a_block_of_right_hand_sides():
    """More ranks than columns too."""
    comm = MPI.COMM_WORLD
    rng = np.random.default_rng(0)
    A = rng.random((7, 7)) + 4 * np.eye(7)
    own = slice(7 * comm.rank // comm.size, 7 * (comm.rank + 1) // comm.size)
    rows = A[own]
    starts = 7 * np.arange(len(rows) + 1)
    solver = factored.Factored(comm, "x_")
    solver.update((starts, np.tile(np.arange(7), len(rows)), rows.ravel()))
    for columns in (1, 2, 5):
        B = rng.random((7, columns))
        B[:, 0] = 0.0
        for transposed, matrix in ((False, A), (True, A.T)):
            X = solver.solve(B[own], transposed)
            np.testing.assert_allclose(X, np.linalg.solve(matrix, B)[own], atol=1e-13)
    assert solver.iterations == 16 and solver.true_residual < 1e-13
