"""Volumes: every kind of layer on three axes, and memory that ranks share."""

import tracemalloc

import numpy as np
import pytest
from mpi4py import MPI
from nets import Drawn, check_derivatives, figures, part

from npde_opt.grids import Grid
from npde_opt.linear.accuracy import tight
from npde_opt.networks import (
    Applied,
    Dense,
    Diffusing,
    Diffusion,
    Mixing,
    Nested,
    Network,
    Place,
    Smoothing,
    Stencil,
    Step,
    Tanh,
    Transposed,
    Weight,
    pooling,
)

COMM = MPI.COMM_WORLD
SIZES = (6, 4, 4)


def explicit(comm, path="fused"):
    """A convolution, a symmetric layer, a cycle, a strided convolution and one that is dense."""
    grid = Grid(SIZES, comm=comm)
    place = Place.on(grid, 2)
    first, K = Stencil(Place.on(grid), 2, mode="replicate"), Stencil(place, 3)
    inner, outer = part(K, "K"), part(Transposed(K), "K", sign=-1.0)
    R = pooling(place)
    below = Step(R.target, part(Stencil(R.target, 2), "C"), Tanh(), residual=True)
    third = Stencil(place, 2, 2, stride=2, padding=0)
    more = {"linear": [part(Diffusion(place), "k")], "residual": True, "dt": 0.3}
    layers = [
        Step(first.source, part(first, "W"), Tanh()),
        Step(place, inner, Tanh(), Weight("b", (3,)), outer=outer, **more),
        Nested([], R, [below]),
        Step(place, part(third, "S"), Tanh()),
        Step(third.target, part(Dense(third.target, 2), "D")),
    ]
    return Network(grid, layers, path=path)


def implicit(comm):
    """Diffusion by multigrid, a smoothing stencil, and a mean over cells."""
    grid = Grid(SIZES, comm=comm)
    place = Place.on(grid, 2)
    D = Weight("D", (2,), start=0.1, transform="log")
    first = Step(
        place.with_channels(1), part(Mixing(place.with_channels(1), 2), "M"), Tanh()
    )
    T = part(Stencil(place, 1, 2, padding=1), "T")
    return Network(
        grid, [first, Diffusing(grid, 2, D), Smoothing(T, 0.2), Applied(pooling(place))]
    )


KINDS = {"explicit": explicit, "implicit": implicit}


@pytest.mark.parametrize("kind", KINDS)
def test_derivatives(kind):
    """On several ranks test_ranks_agree has them."""
    found = KINDS[kind](COMM)
    check_derivatives(found, 1)
    found.destroy()


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_ranks_agree(kind):
    with tight():
        alone = figures(KINDS[kind](MPI.COMM_SELF), 1)
        assert np.allclose(figures(KINDS[kind](COMM), 1), alone, rtol=1e-9)


@pytest.mark.parallel([1, 2])
def test_paths_agree():
    fused, assembled = explicit(COMM), explicit(COMM, "assembled")
    assert np.allclose(figures(assembled, 1), figures(fused, 1), rtol=1e-11)
    assembled.destroy()


def peak(comm):
    """Bytes of Python's arrays in a gradient."""
    grid = Grid((24, 20, 20), comm=comm)
    place = Place.on(grid, 8)
    opening = Step(place.with_channels(1), part(Mixing(place.with_channels(1), 8), "o"))
    inner = [part(Stencil(place, 8), "K", n) for n in range(4)]
    layers = [
        opening,
        *(Step(place, own, Tanh(), residual=True, dt=0.1) for own in inner),
    ]
    forward = Network(grid, layers).over(Drawn([0]))
    m = forward.space.from_values(forward.network.initial(0))
    for _ in range(2):  # work arrays that are kept are there in the second
        tracemalloc.start()
        at = forward.linearize(m)
        at.apply_adjoint(at.data).destroy()
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        at.destroy()
    return found


@pytest.mark.parallel(2)
def test_a_volume_takes_half_of_the_memory_on_each_of_two_ranks():
    together, alone = COMM.allreduce(peak(COMM), op=MPI.MAX), peak(MPI.COMM_SELF)
    assert 0.4 * alone < together < 0.62 * alone
