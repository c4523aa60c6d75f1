"""Cycles as layers: derivatives at two depths, ranks, pooling, and a linear cycle as its matrix."""

import numpy as np
import pytest
from mpi4py import MPI
from nets import check_derivatives, drawn, figures, part, total

from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.networks import (
    Adjoint,
    Diffusing,
    Mixing,
    Nested,
    Network,
    Place,
    Stencil,
    Step,
    Tanh,
    Weight,
    pooling,
)
from npde_opt.networks.matrices import as_vec, from_vec

COMM = MPI.COMM_WORLD


def residual(place, name):
    W = Stencil(place, place.channels)
    return Step(
        place,
        part(W, name),
        Tanh(),
        Weight(f"b{name}", (place.channels,)),
        residual=True,
    )


def cycle(comm, depth=2):
    """pre, R, a cycle below, R^T, post; a layer before that makes two channels."""
    grid = Grid((8, 12), comm=comm)
    first = Mixing(Place.on(grid), 2)
    places = [first.target]
    for _ in range(depth):
        places.append(pooling(places[-1]).target)
    below = [residual(places[-1], f"C{depth}")]
    for level in range(depth - 1, -1, -1):
        R = pooling(places[level])
        pre, post = (
            residual(places[level], f"A{level}"),
            residual(places[level], f"B{level}"),
        )
        below = [Nested([pre], R, below, [post])]
    return Network(grid, [Step(first.source, part(first, "M")), *below])


@pytest.mark.parallel([1, 2, 3])
def test_derivatives():
    check_derivatives(cycle(COMM))


@pytest.mark.parallel([2, 3])
def test_ranks_agree():
    assert np.allclose(figures(cycle(COMM)), figures(cycle(MPI.COMM_SELF)), rtol=1e-11)


def test_chains_may_be_empty_and_hold_solves():
    grid = Grid((6, 8), comm=COMM)
    R = pooling(Place.on(grid, 1))
    mean = Diffusing(
        Grid((3, 4), comm=COMM), 1, Weight("D", (1,), start=0.5, transform="log")
    )
    check_derivatives(Network(grid, [Nested([], R, [mean])]))


@pytest.mark.parallel([1, 2, 3])
def test_pooling_and_its_transpose():
    place = Place.on(Grid((6, 9), comm=COMM), 2)
    R = pooling(place, 3)
    u, y = drawn(R.source, 2, 1), drawn(R.target, 2, 2)
    assert np.allclose(R.apply(R.transpose(y)), y, atol=1e-14)
    assert np.isclose(
        total(np.vdot(R.apply(u), y)), total(np.vdot(u, R.transpose(y))), rtol=1e-12
    )
    one = R.apply(np.ones_like(u))
    assert np.allclose(one, 3.0)
    P = Adjoint(R)
    A, x = P.matrix(), as_vec(P.source, y[:, 1])
    out = as_vec(P.target, u[:, 1])
    A.mult(x, out)
    assert np.allclose(from_vec(P.target, out), P.apply(y)[:, 1], atol=1e-14)


def test_what_does_not_fit_is_told():
    place = Place.on(Grid((6, 8), comm=COMM), 2)
    R = pooling(place)
    with pytest.raises(InputError, match=r"coarse\[0\]"):
        Nested([], R, [residual(place, "A")])
    with pytest.raises(InputError, match="pooling"):
        pooling(place, 4)
