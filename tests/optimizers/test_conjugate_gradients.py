"""The inner solver of Newton-CG: solution, forcing, negative curvature, re-orthogonalization."""

import numpy as np
import pytest
from petsc4py import PETSc

from npde_opt.errors import SolverError
from npde_opt.optimizers.conjugate_gradients import steihaug


def diagonal(values):
    mat = PETSc.Mat().createAIJ((len(values), len(values)), nnz=1)
    for row in range(*mat.getOwnershipRange()):
        mat.setValue(row, row, values[row])
    mat.assemble()
    return mat


def solve(values, rtol=1e-12, preconditioner=None, reorthogonalize=False, least=0):
    H = diagonal(values)
    b, x = H.createVecLeft(), H.createVecLeft()
    b.setArray(1.0 + np.arange(*b.getOwnershipRange(), dtype=float))
    M = diagonal(
        np.ones(len(values))
        if preconditioner is None
        else 1.0 / np.asarray(preconditioner)
    )
    steps = steihaug(
        H.mult,
        M.mult,
        b,
        x,
        rtol=lambda norm: rtol,
        max_steps=200,
        kept=[] if reorthogonalize else None,
        least=least,
    )
    return H, b, x, steps


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("reorthogonalize", [False, True])
def test_solves_in_as_many_steps_as_eigenvalues(reorthogonalize):
    H, b, x, steps = solve(
        np.repeat([1.0, 5.0, 30.0, 100.0], 5), reorthogonalize=reorthogonalize
    )
    assert (H * x - b).norm() < 1e-10 * b.norm()
    assert steps == 4


@pytest.mark.parallel([1, 2])
def test_the_inverse_as_preconditioner_needs_one_step(diagonal_values=(1.0, 7.0, 50.0)):
    H, b, x, steps = solve(diagonal_values, preconditioner=diagonal_values)
    assert steps == 1 and (H * x - b).norm() < 1e-12 * b.norm()


@pytest.mark.parallel([1, 2])
def test_the_tolerance_is_met_and_not_exceeded_by_far():
    values = np.logspace(0, 4, 60)
    H, b, x, few = solve(values, rtol=0.1)
    assert 1e-3 * b.norm() < (H * x - b).norm() <= 0.1 * b.norm()
    assert few < solve(values, rtol=1e-8)[3]


@pytest.mark.parallel([1, 2])
def test_reorthogonalization_ends_within_the_dimension():
    values = np.logspace(0, 8, 30)
    plain, kept = solve(values, 1e-10)[3], solve(values, 1e-10, reorthogonalize=True)[3]
    assert kept <= 30 < plain


@pytest.mark.parallel([1, 2])
def test_negative_curvature_first_gives_the_preconditioned_right_hand_side():
    _, b, x, steps = solve(
        [-1.0, -2.0, -3.0, -4.0], preconditioner=[2.0, 2.0, 2.0, 2.0]
    )
    assert steps == 1 and (x - 0.5 * b).norm() == 0.0


@pytest.mark.parallel([1, 2])
def test_negative_curvature_later_gives_a_descent_direction():
    H, b, x, steps = solve([10.0, 10.0, 10.0, -0.1])
    assert 1 < steps <= 4
    assert x.dot(b) > 0 and x.dot(H * x) > 0


@pytest.mark.parallel([1, 2])
def test_an_indefinite_preconditioner_is_an_error():
    with pytest.raises(SolverError, match="not positive definite"):
        solve([1.0, 2.0], preconditioner=[-1.0, -1.0])


@pytest.mark.parallel([1, 2])
def test_as_many_products_as_are_asked_for_whatever_the_tolerance():
    values = np.logspace(0, 4, 60)
    *_, few = solve(values, rtol=0.9)
    *_, more = solve(values, rtol=0.9, least=few + 5)
    assert more == few + 5
    H, b, x, all_there = solve([2.0, 2.0, 2.0], least=5)
    assert all_there < 5 and (H * x - b).norm() < 1e-12 * b.norm()
