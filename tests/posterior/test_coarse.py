"""Directions from a coarser grid begin the search, and change no pair."""

import numpy as np
import pytest
from gaussians import COMM, log_field

from npde_opt import nested
from npde_opt.forward import Equation, Experiment, Steady
from npde_opt.grids import Grid
from npde_opt.misfits import LeastSquares
from npde_opt.objective import Objective
from npde_opt.observations import at_points
from npde_opt.parameters import ParameterSpace, Unknown
from npde_opt.posterior import Laplace, PosteriorSettings, coarse
from npde_opt.regularizers import BiLaplacian
from npde_opt.terms import Diffusion

SETTINGS = PosteriorSettings(cut=0.5, rtol=1e-3)
PLACES = np.array([[x, y] for x in (0.3, 0.7) for y in (0.2, 0.5, 0.8)])


def build(grid):
    space = ParameterSpace(grid, [Unknown("D", "log")])
    seen = [at_points(grid, (), PLACES, nearest=True)]
    runs = [Experiment(boundary={"y+": 1.0}, load=grid.volume, samplings=seen)]
    forward = Steady(space, Equation(grid, [Diffusion(grid, "D")]), {}, runs)
    misfit = LeastSquares(PLACES[:, 1:], 0.02, forward.layouts[0])
    prior = BiLaplacian(grid, 1.0, correlation_length=0.3, variance=0.5)
    m = space.from_values({"D": grid.evaluate(log_field)})
    return Objective(forward, [misfit], {"D": prior}), m


@pytest.mark.parallel([1, 2, 3])
def test_pairs_are_those_of_random_directions(monkeypatch):
    monkeypatch.setattr(coarse, "FEWEST", 100)
    grid = Grid((64, 64), boundaries={"y-": "dirichlet", "y+": "dirichlet"}, comm=COMM)
    J, m = build(grid)
    at = J.linearize(m)
    start = nested.directions(at, build, SETTINGS)
    assert start.shape == (J.space.local_size, start.shape[1])
    found = Laplace(at, SETTINGS, start, sure=True)
    whole = Laplace(at, SETTINGS)
    assert found.pairs.complete and found.pairs.products < whole.pairs.products
    np.testing.assert_allclose(found.values, whole.values, rtol=2e-3)
    np.testing.assert_allclose(found.variance, whole.variance, rtol=1e-3)


def test_a_grid_that_resolves_nothing_gives_none():
    grid = Grid((16, 16), boundaries={"y-": "dirichlet", "y+": "dirichlet"}, comm=COMM)
    J, m = build(grid)
    assert nested.directions(J.linearize(m), build, SETTINGS) is None
