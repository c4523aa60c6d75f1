"""The assembled path: operators and networks are those of the fused one, to rounding."""

from dataclasses import replace

import numpy as np
import pytest
from mpi4py import MPI
from nets import drawn, objective, part

from npde_opt import terms
from npde_opt.errors import InputError
from npde_opt.forward import Equation
from npde_opt.grids import Grid
from npde_opt.networks import (
    Applied,
    Dense,
    Diffusion,
    Equilibrium,
    Mixing,
    Nested,
    Network,
    Place,
    Smoothing,
    SteadyState,
    Stencil,
    Step,
    Tanh,
    Transposed,
    Weight,
    pooling,
)
from npde_opt.networks.assembled import Assembly, Shifted, Spread
from npde_opt.terms import Reaction

COMM = MPI.COMM_WORLD
PERIODIC = {"y-": "periodic", "y+": "periodic"}


def place(shape=(7, 6), channels=2, boundaries=None):
    return Place.on(Grid(shape, boundaries=boundaries or {}, comm=COMM), channels)


OPERATORS = {
    "3x3": lambda: Stencil(place(), 3),
    "replicate": lambda: Stencil(place(), 2, (5, 3), mode="replicate"),
    "replicate, stride": lambda: Stencil(
        place((9, 7)), 2, 5, stride=2, mode="replicate"
    ),
    "stride": lambda: Stencil(place(), 3, 3, stride=(2, 3)),
    "dilation": lambda: Stencil(place(), 2, 3, dilation=2),
    "valid": lambda: Stencil(place(), 2, 4, padding=0),
    "periodic": lambda: Stencil(place(boundaries=PERIODIC), 2, (3, 5), stride=(1, 2)),
    "line": lambda: Stencil(place((9,)), 2, 5, stride=2),
    "volume": lambda: Stencil(place((4, 3, 6)), 2, (3, 3, 5), stride=(1, 2, 2)),
    "few cells": lambda: Stencil(place((3, 2)), 3, 3, stride=2),
    "transposed": lambda: Transposed(Stencil(place((8, 6)), 3, 3, stride=2)),
    "diffusion": lambda: Diffusion(place(boundaries=PERIODIC)),
    "diffusion, zero outside": lambda: Diffusion(place((3, 4, 5)), "zero"),
}


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("name", OPERATORS)
def test_products_are_those_of_loops(name):
    fused, assembly = OPERATORS[name](), Assembly()
    op = assembly(fused)
    assert type(op) is not type(fused) or isinstance(op.operator, Shifted)
    w = np.random.default_rng(0).standard_normal(op.shape)
    u, y = drawn(op.source, 2, 1), drawn(op.target, 2, 2)
    pairs = [
        (op.apply(w, u), fused.apply(w, u)),
        (op.transpose(w, y), fused.transpose(w, y)),
        (COMM.allreduce(op.weights(y, u)), COMM.allreduce(fused.weights(y, u))),
    ]
    for own, other in pairs:
        assert own.shape == other.shape
        assert np.allclose(own, other, rtol=1e-12, atol=1e-13)
    assembly.destroy()


def residual(grid):
    """Convolutions, one from both sides, then diffusion within cells."""
    at = Place.on(grid, 2)
    K, A = Stencil(at, 3, mode="replicate"), Mixing(at.with_channels(3), 2)
    first = Step(at.with_channels(1), part(Stencil(at.with_channels(1), 2), "o"))
    both = Step(
        at,
        part(K, "K"),
        Tanh(),
        Weight("b", (3,)),
        outer=part(Transposed(K), "K", None),
    )
    more = {"outer": part(A, "A"), "linear": [part(Diffusion(at), "k")], "dt": 0.2}
    inside = Step(at, part(Mixing(at, 3), "B"), Tanh(), residual=True, **more)
    return [first, replace(both, residual=True, dt=0.3), inside]


def strided(grid):
    first = Stencil(Place.on(grid), 3, stride=2)
    second = Dense(first.target, 2)
    return [
        Step(first.source, part(first, "W"), Tanh()),
        Step(second.source, part(second, "V")),
    ]


def cycle(grid):
    at = Place.on(grid)
    R = pooling(at)
    step = Step(R.target, part(Stencil(R.target, 1), "C"), Tanh(), residual=True)
    return [Nested([], R, [step]), Applied(R)]


def equilibrium(grid):
    at = Place.on(grid, 2)
    return [
        Equilibrium(part(Stencil(at, 2), "W"), part(Mixing(Place.on(grid), 2), "U"))
    ]


KINDS = {
    "residual": residual,
    "strided": strided,
    "cycle": cycle,
    "equilibrium": equilibrium,
}


def derivatives(network):
    """J, its gradient, a Gauss-Newton and a Hessian product."""
    J, m, dm = objective(network)
    at, exact, gauss = J.linearize(m), J.create_vec(), J.create_vec()
    at.hessian(dm, exact)
    at.hessian(dm, gauss, gauss_newton=True)
    found = [v.getArray().copy() for v in (at.gradient(), exact, gauss)]
    return [np.array([at.value]), *found]


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_networks_are_those_of_loops(kind):
    grid = Grid((4, 4), comm=COMM)
    assembled = Network(grid, KINDS[kind](grid), path="assembled")
    fused = Network(grid, KINDS[kind](grid))
    assert assembled.steps != fused.steps
    pairs = zip(derivatives(assembled), derivatives(fused), strict=True)
    for own, other in pairs:
        scale = COMM.allreduce(np.abs(other).max(initial=0.0), op=MPI.MAX)
        tolerance = 1e-8 if kind == "equilibrium" else 1e-12
        assert np.allclose(own, other, rtol=0, atol=tolerance * scale)
    assembled.destroy()


def test_layers_that_solve_take_the_path_too():
    grid = Grid((4, 4), comm=COMM)
    at, given = (
        Place.on(grid),
        Equation(grid, [terms.Diffusion(grid, "D"), Reaction(grid, "c")]),
    )
    known = {"D": 1.0, "c": 2.0}
    steady = SteadyState(given, {}, part(Stencil(at, 1), "W"), known=known)
    layers = [Smoothing(part(Stencil(at, 2), "T")), steady]
    assembled = Network(grid, layers, path="assembled")
    assert isinstance(assembled.steps[0].part.operator, Shifted)
    assert isinstance(assembled.steps[1].driven.operator, Shifted)
    pairs = zip(derivatives(assembled), derivatives(Network(grid, layers)), strict=True)
    for own, other in pairs:
        assert np.allclose(own, other, rtol=0, atol=1e-7 * np.abs(other).max())
    assembled.destroy()


def test_layers_that_are_alike_share_their_shifts():
    assembly = Assembly()
    ops = [assembly(Stencil(place(), c)) for c in (2, 3)]
    assert isinstance(ops[0], Shifted) and ops[0].shifts is ops[1].shifts
    assert assembly(Stencil(place(), 2, mode="replicate")).shifts is not ops[0].shifts
    spread = assembly(Diffusion(place()))
    assert isinstance(spread, Spread) and spread.laplacian.matrix.getSize() == (42, 42)
    mixing = Mixing(place(), 2)
    assert assembly(mixing) is mixing
    assembly.destroy()


def test_another_path_and_another_precision_are_told():
    grid = Grid((4, 4), comm=COMM)
    with pytest.raises(InputError, match="path: got 'quick'"):
        Network(grid, strided(grid), path="quick")
    with pytest.raises(InputError, match="precision: got float32"):
        Network(grid, strided(grid), path="assembled", dtype=np.float32)
