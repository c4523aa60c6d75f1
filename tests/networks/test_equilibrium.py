"""Equilibria: they are fixed points, the limit of many layers, with exact derivatives."""

import numpy as np
import pytest
from mpi4py import MPI
from nets import check_derivatives, drawn, figures, part

from npde_opt.errors import InputError, SolverError
from npde_opt.grids import Grid
from npde_opt.linear.accuracy import tight
from npde_opt.networks import (
    Equilibrium,
    Mixing,
    Network,
    PiecewiseLinear,
    Place,
    Softplus,
    Stencil,
    Step,
    Tanh,
    Weight,
)

COMM = MPI.COMM_WORLD


def layer(comm, activation=None):
    grid = Grid((4, 3), comm=comm)
    place = Place.on(grid, 2)
    W, U = Stencil(place, 2), Mixing(Place.on(grid, 3), 2)
    return Equilibrium(part(W, "W"), part(U, "U"), activation, Weight("b", (2,)))


def network(comm, activation=None):
    grid = Grid((4, 3), comm=comm)
    K = Stencil(Place.on(grid), 3)
    return Network(
        grid, [Step(K.source, part(K, "K"), Tanh()), layer(comm, activation)]
    )


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.fewer(3, activation=["Tanh()"])
@pytest.mark.parametrize("activation", [Tanh(), Softplus()])
def test_derivatives(activation):
    check_derivatives(network(COMM, activation), 2)


@pytest.mark.parallel([2, 3])
def test_ranks_agree():
    with tight():
        alone = figures(network(MPI.COMM_SELF))
        assert np.allclose(figures(network(COMM)), alone, rtol=1e-9)


@pytest.mark.parallel([1, 2])
def test_it_is_the_limit_of_many_layers():
    found = layer(COMM)
    rng = np.random.default_rng(0)
    k = {"W": 0.1 * rng.standard_normal((2, 2, 3, 3)), "U": rng.standard_normal((2, 3))}
    k["b"] = rng.standard_normal(2)
    u = drawn(found.source, 2, 1)
    z = found.at(k, None).step(u)[-1]
    steady = Step(
        found.target,
        found.inner,
        Tanh(),
        Weight("b", (2,)),
        driven_inner=found.driven,
        reads=0,
    )
    at, after = steady.at(k, u), np.zeros_like(z)
    for _ in range(200):
        after = at.step(after)[-1]
    assert np.allclose(z, after, atol=1e-9)


def test_where_there_is_none_is_told():
    found = layer(COMM, Softplus())
    k = {"W": np.full((2, 2, 3, 3), 2.0), "U": np.ones((2, 3)), "b": np.zeros(2)}
    with pytest.raises(SolverError, match="state_equilibrium_"):
        found.at(k, None).step(drawn(found.source, 2, 1))


def test_what_does_not_fit_is_told():
    grid = Grid((6, 5), comm=COMM)
    W, U = Stencil(Place.on(grid, 2), 2), Mixing(Place.on(grid, 2), 3)
    with pytest.raises(InputError, match="U: 3 channels"):
        Equilibrium(part(W, "W"), part(U, "U"))
    with pytest.raises(InputError, match="activation"):
        layer(COMM, PiecewiseLinear(5, 1.0))
