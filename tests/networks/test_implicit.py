"""Implicit diffusion: its matrix, many explicit layers, derivatives and ranks."""

import numpy as np
import pytest
from mpi4py import MPI
from nets import check_derivatives, drawn, figures, part

from npde_opt.errors import InputError, SolverError
from npde_opt.grids import Grid
from npde_opt.linear.accuracy import tight
from npde_opt.networks import Diffusing, Network, Place, Stencil, Step, Tanh, Weight
from npde_opt.networks.matrices import as_vec, from_vec

COMM = MPI.COMM_WORLD
PERIODIC = {"y-": "periodic", "y+": "periodic"}
STRETCHED = [np.cumsum([0, 1, 2, 1, 3, 1, 1]), np.arange(6.0)]
GRIDS = {
    "no flux": lambda comm: Grid((6, 5), comm=comm),
    "periodic": lambda comm: Grid((6, 5), boundaries=PERIODIC, comm=comm),
    "stretched": lambda comm: Grid((6, 5), edges=STRETCHED, comm=comm),
}
D = Weight("D", (2,), start=0.4, transform="log")


def network(comm, kind="no flux"):
    """Two implicit steps (I - dt div D grad) u' = u + dt tanh(W u + b) with one D."""
    grid = GRIDS[kind](comm)
    place, steps = Place.on(grid, 2), []
    for n in range(2):
        W = Stencil(place, 2)
        explicit = {"bias": Weight("b", (2,), n), "residual": True, "dt": 0.5}
        steps += [Step(place, part(W, "W", n), Tanh(), **explicit)]
        steps += [Diffusing(grid, 2, D, 0.5)]
    return Network(grid, steps)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("kind", GRIDS)
def test_derivatives(kind):
    check_derivatives(network(COMM, kind))


@pytest.mark.parallel([2, 3])
def test_ranks_agree():
    with tight():
        alone = figures(network(MPI.COMM_SELF))
        assert np.allclose(figures(network(COMM)), alone, rtol=1e-9)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("kind", ["no flux", "stretched"])
def test_it_is_the_inverse_of_its_matrix(kind, samples):
    layer = Diffusing(GRIDS[kind](COMM), 2, D, 0.7)
    k = {"D": np.array([0.3, 2.0])}
    u = drawn(layer.source, samples, 1)
    with tight():
        after = layer.at(k, None).step(u)[-1]
    A = layer.matrix(k)
    for s in range(samples):
        x, y = as_vec(layer.source, after[:, s]), as_vec(layer.source, u[:, s])
        out = y.duplicate()
        A.mult(x, out)
        assert np.allclose(from_vec(layer.source, out), u[:, s], atol=1e-10)


@pytest.mark.parallel([1, 2])
def test_many_samples_by_multigrid():
    """Cells that are too many for a factorization."""
    layer = Diffusing(Grid((72, 64), comm=COMM), 1, Weight("D", (1,)), 1.0)
    u = drawn(layer.source, 2, 1)
    at = layer.at({"D": np.array([1e-3])}, None)
    after = at.step(u)[-1]
    alone = [at.step(u[:, [s]])[-1] for s in range(2)]
    assert np.allclose(after, np.concatenate(alone, axis=1), atol=1e-7)
    system = layer.matrix({"D": np.array([1e-3])})
    x, b = as_vec(layer.source, after[:, 0]), as_vec(layer.source, u[:, 0])
    out = b.duplicate()
    system.mult(x, out)
    out.axpy(-1, b)
    assert out.norm() < 1e-6 * b.norm()


def test_many_explicit_layers_come_near():
    """N layers u + dt/N (D lap u), N = 50, 100, 200, against N implicit ones of the same step."""
    grid = Grid((16, 16), extent=(16.0, 16.0), comm=COMM)
    place = Place.on(grid, 1)
    u = drawn(place, 1, 2)
    K = Stencil(place, 1, mode="replicate")
    laplacian = np.zeros(K.shape)
    laplacian[0, 0] = [[0, 1, 0], [1, -4, 1], [0, 1, 0]]
    found = []
    for count in (50, 100, 200):
        one = Diffusing(grid, 1, Weight("D", (1,)), 8.0 / count)
        explicit = Step(place, part(K, "K"), residual=True, dt=8.0 / count)
        ends = []
        for layer in (one, explicit):
            v, at = u, layer.at({"D": np.array([1.0]), "K": laplacian}, None)
            for _ in range(count):
                v = at.step(v)[-1]
            ends.append(v)
        found.append(np.abs(ends[0] - ends[1]).max())
    assert found[2] < 3e-3
    assert np.allclose(np.divide(found[:2], found[1:]), 2.0, rtol=0.1), found


def test_an_unconverged_solve_is_an_error():
    from petsc4py import PETSc

    options = PETSc.Options()
    options["state_ksp_max_it"] = 1
    try:
        layer = Diffusing(Grid((72, 64), comm=COMM), 1, Weight("D", (1,)))
        with pytest.raises(SolverError, match="state_"):
            layer.at({"D": np.array([1.0])}, None).step(drawn(layer.source, 1, 1))
    finally:
        options.delValue("state_ksp_max_it")


def test_wrong_weights_are_told():
    grid = GRIDS["no flux"](COMM)
    with pytest.raises(InputError, match="shape"):
        Diffusing(grid, 3, D)
    with pytest.raises(InputError, match="dt"):
        Diffusing(grid, 2, D, 0.0)
    with pytest.raises(SolverError, match="log"):
        Diffusing(grid, 2, D).at({"D": np.array([1.0, -1.0])}, None)
