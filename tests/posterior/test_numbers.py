"""Few numbers of which each is an unknown of its own: all their directions are found, by a product
each."""

import numpy as np
import pytest
from gaussians import COMM, dense

from npde_opt.forward import Equation, Experiment, Steady
from npde_opt.grids import Grid
from npde_opt.linear.accuracy import tight
from npde_opt.misfits import LeastSquares
from npde_opt.objective import Objective
from npde_opt.observations import voxels
from npde_opt.parameters import ParameterSpace, Shared, Unknown
from npde_opt.posterior import Laplace, PosteriorSettings
from npde_opt.terms import Diffusion, Reaction, Source

NAMES = ("D", "r", "f")


@pytest.mark.parallel([1, 2])
def test_three_numbers_have_three_directions():
    grid = Grid((6, 4), boundaries={"y-": "dirichlet"}, comm=COMM)
    unknowns = [Unknown(name, "log", block=Shared()) for name in NAMES]
    space = ParameterSpace(grid, unknowns)
    terms = [Diffusion(grid, "D"), Reaction(grid, "r"), Source(grid, ["u"], "u", "f")]
    load = grid.evaluate(lambda x, y: 1 + y - x) * grid.volume
    runs = [Experiment(load=load, samplings=[voxels(grid, (), grid.edges)])]
    forward = Steady(space, Equation(grid, terms), {}, runs)
    y = np.random.default_rng(3).standard_normal((grid.size, 1))
    J = Objective(forward, [LeastSquares(y, 0.05, forward.layouts[0])], {})
    m = space.from_values({"D": 0.5, "r": 2.0, "f": 3.0})
    with tight():
        at = J.linearize(m)
        found = Laplace(at, PosteriorSettings(rtol=1e-8, prior_rtol=1e-12))
        H = dense(space, lambda x, z: at.data_hessian(x, z, True))
        P = dense(space, found.prior.precision)
    assert len(found.values) == 3 and found.pairs.complete
    assert found.pairs.products == 3
    np.testing.assert_allclose(
        found.covariance([u for _, u, _ in J.units(m)]), np.linalg.inv(H + P), rtol=1e-5
    )


def test_noise_of_unknowns_is_independent():
    space = ParameterSpace(
        Grid((4, 4), comm=COMM), [Unknown(n, "log", block=Shared()) for n in NAMES]
    )
    drawn = space.standard_normal(3)
    assert len(set(drawn.getArray())) == drawn.getLocalSize()
    drawn.destroy()
