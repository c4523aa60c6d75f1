"""Every optimizer on every small problem, and what `minimize` promises of its Result."""

import numpy as np
import pytest
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.errors import InputError, Interrupted, SolverError
from npde_opt.optimizers import METHODS, Settings, minimize

BOUNDED = ["bounded-lbfgs", "bqnkls", "bntr", "ncg"]
RTOL = 1e-7


def gathered(m):
    return np.concatenate(MPI.COMM_WORLD.allgather(m.getArray().copy()))


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["quadratic", "bounded", "exponential", "rosenbrock"])
def test_every_optimizer_on_every_problem(problem, name, method):
    objective = problem(name)
    settings = Settings(method=method, gradient_rtol=RTOL, max_iterations=400)
    if name == "bounded" and method not in BOUNDED:
        with pytest.raises(InputError, match=f"method: got '{method}'"):
            minimize(objective, objective.start(), settings)
        return
    result = minimize(objective, objective.start(), settings)
    assert result.status == "converged", (result.status, result.reason, result.iterations)
    assert result.gradient_norm <= RTOL * result.gradient_norm_initial
    assert result.objective < result.objective_initial
    assert objective.alive == 0
    if name != "exponential":
        assert (result.m - objective.solution).norm() < 2e-5
