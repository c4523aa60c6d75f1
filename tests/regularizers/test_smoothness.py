"""The prior of a history: its value, gradient and Hessian belong together."""

import numpy as np
import pytest
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.regularizers.small import SmallPrior

comm = MPI.COMM_WORLD


@pytest.mark.parallel([1, 2, 3])
def test_derivatives_of_the_prior():
    """Around a reference whose values differ."""
    reference = np.array([1.0, 3.0, 4.0, 2.0])
    prior = SmallPrior(comm, 4, 0.7, reference, 0.5, 2.5, [0.0, 1.0, 1.5, 4.0])
    own = (4 if comm.rank == 0 else 0, 4)
    p, d, g, h = (PETSc.Vec().createMPI(own, comm=comm) for _ in range(4))
    rng = np.random.default_rng(1)
    if comm.rank == 0:
        p.setArray(rng.standard_normal(4))
        d.setArray(rng.standard_normal(4))
    prior.gradient(p, g)
    prior.hessian(p, d, h)
    values = []
    for step in (-1.0, 0.0, 1.0):
        moved = p.copy()
        moved.axpy(step, d)
        values.append(prior.value(moved))
    assert (values[2] - values[0]) / 2 == pytest.approx(g.dot(d), rel=1e-12)
    assert values[2] - 2 * values[1] + values[0] == pytest.approx(d.dot(h), rel=1e-11)
    prior.hessian(p, p, g)
    assert g.dot(d) == pytest.approx(h.dot(p), rel=1e-12)
