"""Directions from a coarser grid begin the search, and change no pair."""

import numpy as np
import pytest
from gaussians import COMM, field, log_field

from npde_opt import nested
from npde_opt.forward import Equation, Experiment, Steady, greens
from npde_opt.grids import Grid
from npde_opt.misfits import LeastSquares
from npde_opt.objective import Objective
from npde_opt.observations import at_points
from npde_opt.parameters import ParameterSpace, Unknown
from npde_opt.posterior import Laplace, PosteriorSettings, coarse
from npde_opt.posterior.columns import column, gram, mapped
from npde_opt.posterior.ritz import DRAWS
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
    # Of six places Green's functions would be formed, after which nothing is solved for.
    monkeypatch.setattr(greens, "MOST", 0)
    grid = Grid((64, 64), boundaries={"y-": "dirichlet", "y+": "dirichlet"}, comm=COMM)
    J, m = build(grid)
    at = J.linearize(m)
    start = nested.directions(at, build, SETTINGS)
    assert start.shape == (J.space.local_size, start.shape[1])
    found = Laplace(at, SETTINGS, start.copy(), sure=True)
    whole = Laplace(at, SETTINGS)
    assert found.pairs.complete and found.pairs.products < whole.pairs.products
    np.testing.assert_allclose(found.values, whole.values, rtol=2e-3)
    np.testing.assert_allclose(found.variance, whole.variance, rtol=1e-3)
    by_states(J, at, start, whole)


def by_states(J, at, start, whole):
    """Near enough for a looser tolerance they cost a state each, and an adjoint a draw."""
    wanted = whole.values[:-1]
    cut = float(np.sqrt(wanted[-1] * whole.values[-1]))
    before = J.counters.snapshot()
    found = Laplace(at, PosteriorSettings(cut=cut, rtol=0.4), start, sure=True)
    after = J.counters.snapshot()
    assert found.pairs.complete
    assert after["adjoint_solves"] - before["adjoint_solves"] == DRAWS
    assert found.pairs.products == start.shape[1] + DRAWS
    np.testing.assert_allclose(found.values, wanted, rtol=5e-2)
    dual = mapped(J.space, found.prior.precision, found.vectors)
    np.testing.assert_allclose(found.dual, dual, atol=1e-9 * np.abs(dual).max())
    one = gram(J.space, found.vectors, dual)
    np.testing.assert_allclose(one, np.eye(len(one)), atol=1e-9)
    along = gram(J.space, column(J.space.standard_normal(0)), found.vectors)
    assert (along > 0).all()


def test_directions_that_are_no_pairs_are_left_to_the_search():
    J, m = field("bilaplacian", n=6)
    at, settings = J.linearize(m), PosteriorSettings(cut=0.5)
    whole = Laplace(at, settings)
    count, mixed = len(whole.values), np.random.default_rng(1)
    given = mapped(J.space, whole.prior.precision, whole.vectors)
    twice = np.hstack([whole.vectors, whole.vectors[:, :1]])
    rough = given @ mixed.standard_normal((count, count + 1))
    for start in (twice, rough, whole.vectors.copy(order="F")):
        found = Laplace(at, settings, np.asfortranarray(start), sure=True)
        assert found.pairs.complete
        # Rayleigh and Ritz alone take fewer.
        assert found.pairs.products >= start.shape[1] + settings.block
        np.testing.assert_allclose(found.values, whole.values, rtol=2e-2)


def test_the_coarsest_grid_that_has_enough_values_begins(monkeypatch):
    monkeypatch.setattr(coarse, "FEWEST", 500)
    grid = Grid((64, 64), boundaries={"y-": "dirichlet", "y+": "dirichlet"}, comm=COMM)
    J, m = build(grid)
    shapes = []

    def told(grid):
        shapes.append(grid.shape)
        return build(grid)

    start = nested.directions(J.linearize(m), told, SETTINGS)
    assert start is not None and shapes == [(32, 32)]


def test_a_grid_that_resolves_nothing_gives_none():
    grid = Grid((16, 16), boundaries={"y-": "dirichlet", "y+": "dirichlet"}, comm=COMM)
    J, m = build(grid)
    assert nested.directions(J.linearize(m), build, SETTINGS) is None
