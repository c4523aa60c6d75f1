"""Steps of equations as layers: unitary ones, reaction-diffusion, and the house's own evolution."""

import numpy as np
import pytest
from mpi4py import MPI
from nets import check_derivatives, drawn, figures, part, total

from npde_opt.errors import InputError
from npde_opt.forward import Equation
from npde_opt.grids import Grid
from npde_opt.linear.accuracy import tight
from npde_opt.networks import (
    Evolved,
    Network,
    Place,
    Smoothing,
    Stencil,
    Step,
    Weight,
    unitary,
)
from npde_opt.networks.matrices import as_vec, from_vec
from npde_opt.terms import Diffusion, Kinetics

COMM = MPI.COMM_WORLD
CELLS = (5, 6)


def schroedinger(comm):
    """Two unitary layers: potentials of their own, one coupling."""
    grid = Grid((6, 5), comm=comm)
    coupling = Weight("D", CELLS, start=0.1, transform="log")
    return Network(
        grid,
        [
            unitary(grid, 0.7, Weight("V", CELLS, n, start=1.0), coupling)
            for n in range(2)
        ],
    )


def reacting(comm):
    """u' = D lap u + r u (1 - u), implicit in u where it is linear."""
    grid = Grid((6, 5), comm=comm)
    terms = [Diffusion(grid, "D"), Kinetics(grid, ("u",), {"u": "r*u*(1 - u)"})]
    weights = {"D": Weight("D", (), start=0.1), "r": Weight("r", (), start=0.5)}
    layer = Evolved(Equation(grid, terms), weights, {}, "imex-euler", 0.3)
    return Network(grid, [layer, layer])


def smoothed(comm):
    """(I + T^T T)^-1 of a stencil from two channels to three."""
    grid = Grid((6, 5), comm=comm)
    T = Stencil(Place.on(grid, 2), 3)
    W = Stencil(Place.on(grid, 2), 2)
    return Network(grid, [Step(W.source, part(W, "W")), Smoothing(part(T, "T"), 0.8)])


KINDS = {"schroedinger": schroedinger, "reacting": reacting, "smoothed": smoothed}


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_derivatives(kind):
    network = KINDS[kind](COMM)
    check_derivatives(network)
    network.destroy()


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_ranks_agree(kind):
    with tight():
        alone = figures(KINDS[kind](MPI.COMM_SELF))
        assert np.allclose(figures(KINDS[kind](COMM)), alone, rtol=1e-9)


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("recipe", ["auto", "direct"])
@pytest.mark.parametrize("samples", [1, 4])
def test_norms_are_kept(samples, recipe):
    grid = Grid((12, 10), comm=COMM)
    layer = unitary(grid, 0.4, Weight("V", (10, 12)), recipe=recipe)
    V = 3 * np.random.default_rng(0).standard_normal((10, 12))
    u = drawn(layer.source, samples, 1)
    with tight():
        after = layer.at({"V": V}, None).step(u)[-1]
    assert abs(total(np.vdot(after, after)) / total(np.vdot(u, u)) - 1) < 1e-12
    assert total(np.abs(after - u).sum()) > 1


@pytest.mark.parallel([1, 2])
def test_a_unitary_layer_is_crank_nicolson_with_its_matrix():
    grid = Grid((6, 5), comm=COMM)
    layer = unitary(grid, 0.4, Weight("V", CELLS))
    k = {"V": np.random.default_rng(0).standard_normal(CELLS)}
    u = drawn(layer.source, 1, 1)
    with tight():
        after = layer.at(k, None).step(u)[-1]
    A = layer.matrix(k)
    mean, moved = (
        as_vec(layer.source, (after + u)[:, 0]),
        as_vec(layer.source, (after - u)[:, 0]),
    )
    rate = mean.duplicate()
    A.mult(mean, rate)
    assert np.allclose(
        from_vec(layer.source, moved), -0.2 * from_vec(layer.source, rate), atol=1e-10
    )


@pytest.mark.parallel([1, 2])
def test_smoothing_is_the_inverse_of_its_matrix():
    (_, layer) = smoothed(COMM).steps
    k = {"T": np.random.default_rng(0).standard_normal((3, 2, 3, 3))}
    u = drawn(layer.source, 2, 1)
    with tight():
        after = layer.at(k, None).step(u)[-1]
    A = layer.matrix(k)
    x, out = as_vec(layer.source, after[:, 1]), as_vec(layer.source, u[:, 1])
    A.mult(x, out)
    assert np.allclose(from_vec(layer.source, out), u[:, 1], atol=1e-9)
    assert A.isSymmetric(1e-12)


def test_what_cannot_be_a_layer_is_told():
    grid = Grid((6, 5), comm=COMM)
    terms = [Diffusion(grid, "D"), Kinetics(grid, ("u",), {"u": "r*u*(1 - u)"})]
    equation = Equation(grid, terms)
    with pytest.raises(InputError, match="scheme"):
        Evolved(equation, {}, {"D": 1.0, "r": 1.0}, "crank-nicolson", 1.0)
    with pytest.raises(InputError, match="coefficients: got r"):
        Evolved(equation, {}, {"D": 1.0}, "imex-euler", 1.0)
    with pytest.raises(InputError, match="weight of D"):
        Evolved(equation, {"D": Weight("D", (6, 5))}, {"r": 1.0}, "imex-euler", 1.0)
