"""Features: what each step does to pictures, against its definition."""

import numpy as np
import pytest
from mpi4py import MPI
from scipy.linalg import expm

from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.networks import Dense, Network, Part, Place, Stencil, Step, Tanh
from npde_opt.pseudoinverse.features import (
    Chained,
    Features,
    Oriented,
    RandomLayer,
    deskewed,
    receptive,
)
from npde_opt.training.given import Given


def moments(u):
    """Mean of y and x, and the slant of x on y, about the middle."""
    y, x = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in u.shape), indexing="ij")
    mass = u.sum()
    my, mx = (u * y).sum() / mass, (u * x).sum() / mass
    return my, mx, (u * (y - my) * (x - mx)).sum() / (u * (y - my) ** 2).sum()


def test_deskewed_pictures_stand_upright_in_the_middle():
    y, x = np.meshgrid(np.arange(28.0), np.arange(28.0), indexing="ij")
    leaning = [
        np.exp(-((x - 12 - s * (y - 15)) ** 2) / 6 - (y - 15) ** 2 / 20)
        for s in (0.5, -0.3)
    ]
    found = deskewed(np.array(leaning))
    for before, after in zip(leaning, found, strict=True):
        np.testing.assert_allclose(moments(after), 0, atol=0.05)
        assert abs(moments(before)[2]) > 0.2
        np.testing.assert_allclose(after.sum(), before.sum(), rtol=0.01)
    assert not deskewed(np.zeros((1, 9, 9))).any()


def test_oriented_features_are_rectified_slopes_diffused_and_coarsened():
    rng = np.random.default_rng(0)
    u = rng.random((3, 8, 10))
    found = Oriented((8, 10), 4, 0.7, 2)(u).reshape(3, 2, 2, 4)
    padded = np.pad(u, ((0, 0), (1, 1), (1, 1)))
    slope_x = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) / 2
    slope_y = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) / 2

    def heat(n):
        lap = -2.0 * np.eye(n) + np.eye(n, k=1) + np.eye(n, k=-1)
        lap[0, 0] = lap[-1, -1] = -1
        return expm(0.7 * lap)

    wanted = np.empty((3, 2, 2, 4))
    for k, (cos, sin) in enumerate([(1, 0), (0, 1), (-1, 0), (0, -1)]):
        v = np.maximum(cos * slope_x + sin * slope_y, 0)
        v = np.einsum("ab,sbc,dc->sad", heat(8), v, heat(10))
        wanted[..., k] = v.reshape(3, 2, 4, 2, 5).mean(axis=(2, 4))
    wanted /= np.linalg.norm(wanted.reshape(3, -1), axis=1).reshape(3, 1, 1, 1)
    np.testing.assert_allclose(found, np.sqrt(wanted), atol=2e-4)
    with pytest.raises(InputError, match="9 samples"):
        Oriented((8, 10), 4, 0.7, 9)


def test_random_layers_have_the_spread_that_is_asked_for():
    rng = np.random.default_rng(1)
    x = 3 + rng.random((500, 20)) * np.linspace(0.1, 5, 20)
    mask = receptive((4, 5), 300, 2, seed=0)
    for own in (None, mask):
        layer = RandomLayer.of_rows(x, 300, 0.2, 0, 0.0, own)
        inside = np.arctanh(layer(x).astype(float))
        np.testing.assert_allclose(inside.std(axis=0), 0.2, rtol=1e-3)
        np.testing.assert_allclose(inside.mean(axis=0), 0, atol=1e-4)
    assert not layer.A[~mask].any()
    rows = mask.reshape(4, 5, 300).any(axis=1).sum(axis=0)
    columns = mask.reshape(4, 5, 300).any(axis=0).sum(axis=0)
    np.testing.assert_array_equal(mask.sum(axis=0), rows * columns)
    assert min(rows.min(), columns.min()) == 2
    assert Features([layer])(x).shape == (500, 300)


def test_any_network_makes_features():
    grid = Grid((5, 4), comm=MPI.COMM_SELF)
    first = Stencil(Place.on(grid, 2), 3)
    last = Dense(first.target, 6)
    steps = [
        Step(first.source, Part.of(first, "W"), Tanh()),
        Step(last.source, Part.of(last, "V")),
    ]
    network = Network(grid, steps)
    u, weights = (
        np.random.default_rng(0).standard_normal((7, 2, 4, 5)),
        network.initial(1),
    )
    forward = network.over(Given(u[:, :, None]))
    at = forward.linearize(forward.space.from_values(weights))
    np.testing.assert_allclose(
        Chained(network, weights)(u), at.data[0].values.T, rtol=1e-12
    )
    with pytest.raises(InputError, match="weights"):
        Chained(network, {"W": weights["W"]})
