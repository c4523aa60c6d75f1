"""Steady states of equations as layers: they solve what they say, with exact derivatives."""

import numpy as np
import pytest
from mpi4py import MPI
from nets import check_derivatives, drawn, figures, part

from npde_opt.errors import InputError
from npde_opt.forward import Equation
from npde_opt.grids import Grid
from npde_opt.linear.accuracy import tight
from npde_opt.networks import Diffusion as Spreading
from npde_opt.networks import (
    Mixing,
    Network,
    Place,
    SteadyState,
    Stencil,
    Step,
    Tanh,
    Weight,
)
from npde_opt.terms import Diffusion, Kinetics

COMM = MPI.COMM_WORLD
NUMBERS = {n: Weight(n, (), start=0.3, transform="log") for n in ("D", "E", "r")}


def alone(grid):
    """-div D grad u + u + r u^3 = W x + b, with a field D."""
    terms = [Diffusion(grid, "D"), Kinetics(grid, ("u",), {"u": "-u - r*u**3"})]
    D = Weight("D", grid.shape[::-1], start=0.1, transform="log")
    W = Stencil(Place.on(grid, 2), 1)
    weights = {"D": D, "r": NUMBERS["r"]}
    return SteadyState(Equation(grid, terms), weights, part(W, "W"), Weight("b", (1,)))


def coupled(grid):
    """Two species that inhibit each other, each with a diffusivity."""
    rates = {"u": "-u - r*u*v**2", "v": "-v - u**2*v"}
    own = [Diffusion(grid, "D", species="u"), Diffusion(grid, "E", species="v")]
    terms = [*own, Kinetics(grid, ("u", "v"), rates)]
    W = Mixing(Place.on(grid, 2), 2)
    return SteadyState(Equation(grid, terms, ("u", "v")), NUMBERS, part(W, "W"))


KINDS = {"alone": alone, "coupled": coupled}


def network(kind, comm):
    grid = Grid((4, 4), comm=comm)
    K = Stencil(Place.on(grid), 2)
    return Network(grid, [Step(K.source, part(K, "K"), Tanh()), KINDS[kind](grid)])


@pytest.mark.parallel([1, 2, 3])
def test_derivatives():
    found = network("alone", COMM)
    check_derivatives(found, 1)
    found.destroy()


def test_derivatives_of_species_that_meet():
    """On several ranks test_ranks_agree has them."""
    found = network("coupled", COMM)
    check_derivatives(found, 1)
    found.destroy()


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_ranks_agree(kind):
    with tight():
        assert np.allclose(
            figures(network(kind, COMM)),
            figures(network(kind, MPI.COMM_SELF)),
            rtol=1e-8,
        )


@pytest.mark.parallel([1, 2])
def test_it_is_in_balance():
    """-D lap u / h^2 + u + r u^3 = W x + b in every cell."""
    grid = Grid((4, 4), comm=COMM)
    layer = alone(grid)
    rng = np.random.default_rng(0)
    k = {"D": np.full((4, 4), 0.05), "r": np.array(2.0), "b": np.array([0.3])}
    k["W"] = rng.standard_normal(layer.driven.operator.shape)
    x = drawn(layer.source, 2, 1)
    with tight():
        u = layer.at(k, None).step(x)[-1]
    spread = Spreading(layer.target).apply(np.array([0.05 * 16]), u)
    given = layer.driven.apply(k, x) + 0.3
    assert np.allclose(-spread + u + 2 * u**3, given, atol=1e-8)
    assert np.abs(spread).max() > 0.1
    layer.destroy()


def test_what_does_not_fit_is_told():
    grid = Grid((4, 4), comm=COMM)
    equation = Equation(grid, [Diffusion(grid, "D")])
    W = part(Mixing(Place.on(grid, 2), 1), "W")
    with pytest.raises(InputError, match="coefficients: got D"):
        SteadyState(equation, {}, W)
    with pytest.raises(InputError, match="W: 2 channels"):
        SteadyState(
            equation, {}, part(Mixing(Place.on(grid), 2), "W"), known={"D": 1.0}
        )
    with pytest.raises(InputError, match="b of shape"):
        SteadyState(equation, {}, W, Weight("b", (2,)), {"D": 1.0})
