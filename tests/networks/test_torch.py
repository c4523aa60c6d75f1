"""Values and gradients are PyTorch's: of that, where it is installed, else of what it gave."""

import importlib.util

import numpy as np
import pytest
from mpi4py import MPI
from nets import Drawn

from npde_opt.grids import Grid
from npde_opt.misfits import LeastSquares
from npde_opt.networks import (
    Dense,
    Mixing,
    Network,
    Part,
    Place,
    Stencil,
    Step,
    Tanh,
    Transposed,
    Weight,
)
from npde_opt.objective import Objective

SAMPLES = 3
GRID = Grid((6, 5), comm=MPI.COMM_SELF)


def layer(operator, **more):
    bias = Weight("b", (operator.target.channels,))
    return Step(operator.source, Part.of(operator, "W"), Tanh(), bias, **more)


def convolution(**sizes):
    return [layer(Stencil(Place.on(GRID, 2), 3, 3, **sizes))]


def elman():
    place = Place.on(GRID, 2).point(4)
    recurrent, driving = Dense(place, 4), Mixing(place.with_channels(2), 4)
    given = Part.of(driving, "U")
    return [layer(recurrent, driven_inner=given, reads=n) for n in range(3)]


LAYERS = {
    "dense": lambda: [layer(Dense(Place.on(GRID, 2), 4))],
    "convolution": convolution,
    "stride": lambda: convolution(stride=2, padding=1),
    "padding": lambda: convolution(padding=2),
    "dilation": lambda: convolution(dilation=2, padding=2),
    "transposed": lambda: [
        layer(Transposed(Stencil(Place.on(GRID, 2), 3, 3, stride=2)))
    ],
    "elman": elman,
}


def in_torch(name, k, parts):
    """The outputs [s, ...], from parts of samples [s, c, j, i]."""
    import torch
    from torch.nn import functional as f

    sizes = {
        "convolution": {"padding": 1},
        "stride": {"stride": 2, "padding": 1},
        "padding": {"padding": 2},
        "dilation": {"dilation": 2, "padding": 2},
    }
    if name == "dense":
        return torch.tanh(f.linear(parts[0].flatten(1), k["W"], k["b"]))
    if name == "transposed":
        more = {"stride": 2, "padding": 1, "output_padding": (0, 1)}
        return torch.tanh(f.conv_transpose2d(parts[0], k["W"], k["b"], **more))
    if name == "elman":
        h = torch.zeros(SAMPLES, 4, dtype=torch.float64)
        for x in parts:
            h = torch.tanh(f.linear(h, k["W"]) + f.linear(x.flatten(1), k["U"], k["b"]))
        return h
    return torch.tanh(f.conv2d(parts[0], k["W"], k["b"], **sizes[name]))


RECORDED = {
    "dense": [
        4.752254392526779,
        -3.141090613068509,
        5.2356182787869034,
        -1.0315413509801474,
        -0.9286674349629684,
    ],
    "convolution": [
        177.314971912349,
        26.825208878253274,
        -29.61439665140655,
        -33.68942618910912,
        -11.864468660359645,
    ],
    "stride": [
        42.26764629737728,
        22.952268381549747,
        -14.028875873822061,
        0.8463662200046954,
        6.678453285763733,
    ],
    "padding": [
        318.0232996296818,
        51.22427831009883,
        -18.93069751326819,
        -52.77686945559959,
        9.770521353889874,
    ],
    "dilation": [
        168.8887656167139,
        19.815966283453832,
        -16.880934953255974,
        -19.66864187663973,
        4.075125887041618,
    ],
    "transposed": [
        82.09476865349853,
        -0.13079719757852937,
        -16.431552268191663,
        -19.208570406509732,
        -12.65669624481629,
    ],
    "elman": [
        4.610595192502732,
        -0.27176212546407896,
        -2.9855511660811658,
        -0.9064155389160802,
        3.477120967851146,
        1.8552300115932832,
        3.182456613321432,
    ],
}


def summary(value, gradient):
    """The loss, and for each weight products of its gradient with two directions."""
    found = [value]
    for g in (gradient[name] for name in sorted(gradient)):
        directions = np.random.default_rng(8).standard_normal((2, g.size))
        found += list(directions @ g.ravel())
    return np.array(found)


def theirs(name, k, parts, y):
    import torch

    given = {n: torch.tensor(w, requires_grad=True) for n, w in k.items()}
    out = in_torch(name, given, [torch.tensor(p) for p in parts])
    loss = 0.5 * ((out.flatten(1) - torch.tensor(y.T.copy())) ** 2).sum()
    loss.backward()
    return summary(loss.item(), {n: w.grad.numpy() for n, w in given.items()})


@pytest.mark.parametrize("name", LAYERS)
def test_values_and_gradients_are_those_of_pytorch(name):
    steps, samples = LAYERS[name](), Drawn(range(SAMPLES))
    network = Network(GRID, steps, start=None if name == "elman" else 0)
    forward = network.over(samples)
    layout = forward.layouts[0]
    y = np.random.default_rng(7).standard_normal((layout.size, SAMPLES))
    J = Objective(forward, [LeastSquares(y, 1.0, layout)], {})
    rng = np.random.default_rng(5)
    k = {n: 0.4 * rng.standard_normal(shape) for n, shape in network.shapes.items()}
    at = J.linearize(J.space.from_values(k))
    g = {n: np.asarray(v) for n, v in J.space.at(at.gradient()).coefficients().items()}
    found = summary(at.value, g)
    if importlib.util.find_spec("torch") is None:
        expected = np.array(RECORDED[name])
    else:
        place = steps[0].taken or steps[0].source
        every = range(SAMPLES)
        numbers = range(3) if name == "elman" else [0]
        parts = [samples.part(n, every, place).swapaxes(0, 1).copy() for n in numbers]
        expected = theirs(name, k, parts, y)
    assert np.allclose(found, expected, rtol=1e-12, atol=1e-12 * abs(expected).max())
