"""A solve on planes in one compiled call against the same steps one by one."""

import numpy as np
import pytest
from mpi4py import MPI
from on_planes import GRIDS, PREFIX, problem
from petsc4py import PETSc

from npde_opt.linear import LinearSolver
from npde_opt.linear.planes import gathering, gradients
from npde_opt.linear.planes.cycle import PlaneCycle
from npde_opt.linear.planes.gradients import NORMS

Reason = PETSc.KSP.ConvergedReason
WORLD = MPI.COMM_WORLD


@pytest.fixture
def ways(monkeypatch):
    """Solves in one call; on rank 0 only; step by step."""
    whole = PlaneCycle.in_one_call

    def choose(ranks):
        there = property(lambda c: whole.fget(c) if WORLD.rank in ranks else None)
        monkeypatch.setattr(PlaneCycle, "in_one_call", there)

    return [lambda n=n: choose(range(n)) for n in (WORLD.size, 1, 0)]


def solve(name, norm, tolerances=(1e-10, 0.0, 500), change=None, guess=False):
    """What PETSc is told, the true residual, and the solution."""
    shape = GRIDS[name][0]
    x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    active = sum(a**2 for a in x) < 1.4 if name in ("walls", "volume") else None
    grid, matrix = problem(name, WORLD, active)
    if change is not None:
        change(grid, matrix)
    solver = LinearSolver(matrix, grid, PREFIX, "planes", norm=norm)
    solver.update()
    b, x = grid.create_active(), grid.create_active()
    f = np.random.default_rng(2).standard_normal(grid.shape)[grid.local_slice]
    grid.put(np.asfortranarray(f), b)
    rtol, atol, most = tolerances
    solver.ksp.setTolerances(rtol=rtol, atol=atol, max_it=most)
    if guess:
        grid.put(np.asfortranarray(3 * f), x)
        solver.ksp.setInitialGuessNonzero(True)
    solver.ksp.solve(b, x)
    told = solver.ksp.getConvergedReason(), solver.ksp.getIterationNumber()
    found = x.getArray().copy(), solver.ksp.getResidualNorm()
    left = solver._gradients.true_residual
    solver.destroy()
    return told, left, *found


def agree(ways, *given, **more):
    """That all ways tell and find the same, and what they tell."""
    found = []
    for way in ways:
        way()
        found.append(solve(*given, **more))
    told, left, x, norm = found[0]
    for other in found[1:]:
        assert other[0] == told
        np.testing.assert_allclose(other[2], x, rtol=0, atol=1e-9 * np.abs(x).max())
        assert other[3] == pytest.approx(norm, rel=1e-4)
        assert (other[1] is None) == (left is None)
        if left is not None:
            assert other[1] == pytest.approx(left, rel=1e-4)
    return told


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("guess", [False, True])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", GRIDS)
def test_the_same_steps(ways, monkeypatch, name, norm, guess):
    monkeypatch.setattr(gathering, "SPREAD", 40)
    reason, count = agree(ways, name, norm, guess=guess)
    assert reason == Reason.CONVERGED_RTOL and count > 3


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("norm", NORMS)
def test_the_same_ends(ways, norm):
    """At the limit of iterations, at what rounding leaves, and at what is not positive definite."""
    few = agree(ways, "walls", norm, (1e-10, 0.0, 3))
    assert few == (Reason.DIVERGED_MAX_IT, 3)
    # No solve in double precision leaves as little.
    least, count = agree(ways, "stretched", norm, (1e-30, 0.0, 500))
    assert least == Reason.CONVERGED_HAPPY_BREAKDOWN and count < 60
    many, _ = agree(ways, "walls", norm, (0.0, 1e3, 500))
    assert many == Reason.CONVERGED_RTOL

    def negative(grid, matrix):
        planes = matrix.zeroed()
        planes[matrix.offsets[0]] -= grid.volume
        matrix.refresh()

    bad, _ = agree(ways, "walls", norm, change=negative)
    assert bad in (Reason.DIVERGED_INDEFINITE_PC, Reason.DIVERGED_INDEFINITE_MAT)


@pytest.mark.parallel([1, 2])
def test_a_guess_that_is_the_solution_is_kept(ways):
    for way in ways:
        way()
        grid, matrix = problem("walls", WORLD)
        solver = LinearSolver(matrix, grid, PREFIX, "planes")
        solver.update()
        b, x = grid.create_active(), grid.create_active()
        x.set(0.0)
        b.set(1.0)
        matrix.product(x, b)
        solver.ksp.setInitialGuessNonzero(True)
        solver.ksp.solve(b, x)
        assert x.norm() == 0 and solver.ksp.getIterationNumber() == 0
        x.set(2.0)
        matrix.product(x, b)
        solver.ksp.solve(b, x)
        assert solver.ksp.getConvergedReason() > 0
        assert np.abs(x.getArray() - 2.0).max(initial=0.0) < 1e-7
        solver.destroy()


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("norm", NORMS)
def test_a_guess_that_is_no_number_is_no_solution(ways, norm):
    """Of one cell, on one rank."""
    grid, matrix = problem("walls", WORLD)
    for way in ways:
        way()
        solver = LinearSolver(matrix, grid, PREFIX, "planes", norm=norm)
        solver.update()
        b, x = grid.create_active(), grid.create_active()
        b.set(1.0)
        x.setArray(np.full(x.getLocalSize(), 0.5))
        if WORLD.rank == WORLD.size - 1:
            x.getArray()[3] = np.nan
        solver.ksp.setInitialGuessNonzero(True)
        solver.ksp.solve(b, x)
        assert solver.ksp.getConvergedReason() == Reason.DIVERGED_NANORINF
        solver.destroy()


@pytest.mark.parallel([2, 3])
def test_solves_whose_fields_are_made_anew(monkeypatch):
    """As those of large grids are: each solve sends and takes its own x."""
    monkeypatch.setattr(gradients, "LARGE", 1)
    grid, matrix = problem("walls", WORLD)
    solver = LinearSolver(matrix, grid, PREFIX, "planes", norm="unpreconditioned")
    solver.update()
    b, x = grid.create_active(), grid.create_active()
    counts = list[int]()
    for seed in range(3):
        f = np.random.default_rng(seed).standard_normal(grid.shape)[grid.local_slice]
        grid.put(np.asfortranarray(f), b)
        solver.solve(b, x)
        counts.append(solver.ksp.getIterationNumber())
    # Residuals without others' cells of x become no smaller.
    assert max(counts) <= min(counts) + 1
    solver.destroy()


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("broken", ["ghosts", "cycle"])
@pytest.mark.parametrize("guessed", [False, True])
def test_what_mpi_says_is_raised(norm, broken, guessed):
    """Whatever the numbers say that follow a message that failed."""
    grid, matrix = problem("walls", WORLD)
    solver = LinearSolver(matrix, grid, PREFIX, "planes", norm=norm)
    solver.update()
    cg, b = solver._gradients, np.ones(grid.layout.local_size)
    phases = cg._whole._ghosts[0]
    if broken == "cycle":
        phases = cg.cycle.in_one_call._phases
    # No request has such a number.
    phases[:, 1] = -1
    cg._x[...] = float(guessed)
    with pytest.raises(MPI.Exception):
        cg._begin(b, guessed, (1e-6, 0.0), 50)
