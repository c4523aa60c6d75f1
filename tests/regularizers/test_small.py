"""The prior of small arrays against its dense formula, on one rank and spread over all."""

import numpy as np
import pytest
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.parameters import Line, arrays
from npde_opt.regularizers import SmallPrior

comm = MPI.COMM_WORLD


def vector(values):
    """A Vec of values (n,) given on every rank."""
    line = Line(comm, values.size)
    vec = PETSc.Vec().createMPI((line.last - line.first, values.size), comm=comm)
    vec.setArray(values[line.first : line.last])
    return vec


def whole(vec):
    return Line(comm, vec.getSize()).gathered(vec.getArray())


def matrix(weight, deviation, smoothness, times):
    G = np.diff(np.eye(times.size), axis=0) / np.sqrt(np.diff(times))[:, None]
    return weight / deviation**2 * np.eye(times.size) + smoothness * G.T @ G


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("many", [0, 4096])
@pytest.mark.parametrize("count", [1, 2, 5, 40])
@pytest.mark.parametrize(("weight", "smoothness"), [(1.0, 0.0), (0.7, 2.5), (0.0, 3.0)])
def test_it_is_its_dense_formula(monkeypatch, many, count, weight, smoothness):
    monkeypatch.setattr(arrays, "MANY", many)
    rng = np.random.default_rng(count)
    times = np.cumsum(0.1 + rng.random(count))
    q, p, d = rng.standard_normal((3, count))
    prior = SmallPrior(comm, count, weight, q, 0.5, smoothness, times)
    H, pull = matrix(weight, 0.5, smoothness, times), weight / 0.5**2
    out = vector(p)
    expected = 0.5 * pull * (p - q) @ (p - q) + 0.5 * p @ (H - pull * np.eye(count)) @ p
    assert prior.value(vector(p)) == pytest.approx(expected, rel=1e-12, abs=1e-14)
    close = {"rtol": 1e-10, "atol": 1e-12}
    prior.gradient(vector(p), out)
    np.testing.assert_allclose(whole(out), H @ p - pull * q, **close)
    prior.hessian(vector(p), vector(d), out)
    np.testing.assert_allclose(whole(out), H @ d, **close)
    prior.precondition(vector(p), vector(d), out)
    np.testing.assert_allclose(whole(out), np.linalg.pinv(H, rcond=1e-13) @ d, **close)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("weight", [0.0, 1e-3])
def test_many_numbers_take_no_dense_matrix(weight):
    """10^5 of them: a dense matrix would take 80 GB."""
    count = 100_000
    prior = SmallPrior(comm, count, weight, 0.0, 1.0, 1.0)
    d = np.sin(np.arange(count) / 1e3)
    d -= d.mean()
    image, back = vector(d), vector(d)
    prior.hessian(back, vector(d), image)
    prior.precondition(back, image, back)
    np.testing.assert_allclose(whole(back), d, atol=1e-6)
