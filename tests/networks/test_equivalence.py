"""Networks and evolutions are one thing: a residual network with one shared stencil is an explicit
run, and layers of ever shorter steps come to the solution of the equation."""

import numpy as np
import pytest
from mpi4py import MPI
from nets import drawn, part

from npde_opt.forward import Equation, Evolution, Experiment
from npde_opt.forward.schemes import scheme
from npde_opt.grids import Grid
from npde_opt.networks import Diffusion as Spreading
from npde_opt.networks import (
    Evolved,
    Mixing,
    Network,
    Place,
    Stencil,
    Step,
    Tanh,
    Weight,
)
from npde_opt.parameters import ParameterSpace, Shared, Unknown
from npde_opt.terms import Convolution, Diffusion, Kinetics

COMM = MPI.COMM_WORLD
SIZES = (6, 5)
OFFSETS = {(i - 1, j - 1): f"w{j}{i}" for j in range(3) for i in range(3)}
LAYERS = 6
DT = 0.125
"""All sums of it are exact."""


class Sample:
    """One state as a sample."""

    def __init__(self, u):
        self.u = u

    def __len__(self):
        return self.u.shape[1]

    def part(self, number, samples, place):
        return self.u[:, list(samples)]


def outputs(network, u, weights):
    """(the forward map at weights, u_N of the samples [c, s, k, j, i])."""
    forward = network.over(Sample(u))
    at = forward.linearize(forward.space.from_values(weights))
    return at, at.trajectory.last


def convolved(grid):
    return Equation(grid, [Convolution(grid, OFFSETS)])


def evolution(grid, equation, start, dt, layers, name="explicit-euler", **named):
    """A run from a state [c, k, j, i], all of whose numbers are known."""
    fields = {s: v.T for s, v in zip(equation.species, start, strict=True)}
    space = named.pop("space", None) or ParameterSpace(grid, [])
    times = dt * np.arange(layers + 1)
    experiments = [Experiment(initial=fields)]
    return Evolution(space, equation, named, experiments, [], scheme(name), times)


@pytest.mark.parallel([1, 2, 3])
def test_a_residual_network_of_one_stencil_is_an_explicit_run_to_the_bit():
    """The same steps in the same chain."""
    grid = Grid(SIZES, edges=[np.arange(n + 1.0) for n in SIZES], comm=COMM)
    w = {n: 0.3 * v for n, v in zip(OFFSETS.values(), drawn_weights(), strict=True)}
    start = drawn(Place.on(grid), 1, 1)
    space = ParameterSpace(grid, [Unknown(n, block=Shared(())) for n in w])
    run = evolution(grid, convolved(grid), start[:, 0], DT, LAYERS, space=space)
    final = run.linearize(space.from_values(w)).final[0]
    shared = {n: Weight(n, ()) for n in w}
    layer = Evolved(convolved(grid), shared, {}, "explicit-euler", DT)
    _, found = outputs(Network(grid, [layer] * LAYERS), start, w)
    assert (final[0] == found[0, 0].T).all()
    assert np.abs(final - start[0, 0].T).max(initial=1.0) > 0.1
    for item in (run, layer):
        item.destroy()


def drawn_weights():
    return np.random.default_rng(0).standard_normal(9)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("path", ["fused", "assembled"])
def test_stencil_layers_are_that_run_too(path):
    """u' = u - dt W u by the products of networks: other sums of the same numbers, the same bits
    where the numbers are short, and the same derivatives."""
    grid = Grid(SIZES, edges=[np.arange(n + 1.0) for n in SIZES], comm=COMM)
    place = Place.on(grid)
    W = Stencil(place, 1)
    step = Step(place, part(W, "W", sign=-1.0), residual=True, dt=DT)
    network = Network(grid, [step] * LAYERS, path=path)
    rough, short = drawn(place, 1, 1), np.rint(8 * drawn(place, 1, 1))
    numbers = drawn_weights()
    for u, w, same in (
        (short, np.rint(2 * numbers) / 4, 0.0),
        (rough, numbers / 4, 1e-13),
    ):
        known = dict(zip(OFFSETS.values(), w, strict=True))
        run = evolution(grid, convolved(grid), u[:, 0], DT, LAYERS, **known)
        final = run.linearize(run.space.create_vec()).final[0][0]
        _, found = outputs(network, u, {"W": w.reshape(W.shape)})
        scale = COMM.allreduce(np.abs(final).max(initial=0.0), op=MPI.MAX)
        assert scale > 0.5
        assert np.abs(found[0, 0].T - final).max(initial=0.0) <= same * scale
        run.destroy()
    network.destroy()


def reacting(grid, numbers):
    """u' = D lap u + A tanh(B u + b) as an equation."""
    names, (A, B, b) = ("u", "v"), numbers
    h = [f"tanh({B[d, 0]}*u + {B[d, 1]}*v + {b[d]})" for d in range(2)]
    rates = {n: f"{A[c, 0]}*{h[0]} + {A[c, 1]}*{h[1]}" for c, n in enumerate(names)}
    own = [Diffusion(grid, "D", species=n) for n in names]
    return Equation(grid, [*own, Kinetics(grid, names, rates)], names)


@pytest.mark.parallel([1, 2])
def test_layers_of_ever_shorter_steps_come_to_the_evolution():
    """Residual layers at the first order, layers of Heun's scheme at the second."""
    grid = Grid((4, 3), extent=(4, 3), comm=COMM)
    place, rng = Place.on(grid, 2), np.random.default_rng(0)
    A, B, b = (
        rng.standard_normal((2, 2)),
        rng.standard_normal((2, 2)),
        np.array([0.1, -0.2]),
    )
    equation, start, D = reacting(grid, (A, B, b)), drawn(place, 1, 1), 0.3
    run = evolution(grid, equation, start[:, 0], 1 / 256, 256, "ars222", D=D)
    exact = run.linearize(run.space.create_vec()).final[0]
    V, W, K = (Mixing(place, 2), Mixing(place, 2), Spreading(place))
    beside = {"outer": part(V, "V"), "linear": [part(K, "k")], "residual": True}

    def error(layers, scheme_name):
        if scheme_name == "layers":
            one = Step(
                place, part(W, "W"), Tanh(), Weight("b", (2,)), dt=1 / layers, **beside
            )
            weights = {"V": A, "W": B, "b": b, "k": np.full(2, D)}
        else:
            one = Evolved(equation, {"D": Weight("D", ())}, {}, scheme_name, 1 / layers)
            weights = {"D": D}
        _, found = outputs(Network(grid, [one] * layers), start, weights)
        worst = np.abs(found[:, 0].transpose(0, 2, 1) - exact).max(initial=0.0)
        one.destroy()
        return COMM.allreduce(worst, op=MPI.MAX)

    for name, order in (("layers", 1), ("heun", 2)):
        errors = [error(n, name) for n in (8, 16, 32)]
        ratios = np.divide(errors[:-1], errors[1:])
        assert np.allclose(np.log2(ratios), order, atol=0.15), (name, errors)
    run.destroy()
