"""A linear problem with normal errors, whose posterior is known: -lap u + r u = f on a box without
flux, f from u in every cell.

Cosines are eigenvectors of all that takes part. With mu of -lap and the volume h of a cell,

    prior's precision   p = h (delta + gamma mu)^2
    data's Hessian      d = 1 / (sigma (mu + r))^2
    posterior           N(sum_k phi_k (y_k / (sigma^2 (mu_k + r))) / (p_k + d_k), 1 / (p + d)).
"""

from types import SimpleNamespace

import numpy as np
import pytest
from gaussians import COMM, whole

from npde_opt.forward import Equation, Experiment, Steady
from npde_opt.grids import Grid
from npde_opt.linear.accuracy import tight
from npde_opt.misfits import LeastSquares
from npde_opt.objective import Objective
from npde_opt.observations import voxels
from npde_opt.optimizers import Settings, minimize
from npde_opt.parameters import ParameterSpace, Unknown
from npde_opt.posterior import Laplace, PosteriorSettings
from npde_opt.regularizers import BiLaplacian
from npde_opt.terms import Diffusion, Reaction, Source

SHAPE, RATE, SIGMA, GAMMA, DELTA = (8, 6), 0.7, 0.05, 0.02, 0.8


def cosines(n):
    """(k, i) orthonormal, and eigenvalues of the negative second difference on n cells of 1 / n."""
    k, i = np.arange(n)[:, None], np.arange(n)[None, :]
    phi = np.cos(np.pi * k * (i + 0.5) / n) * np.sqrt(np.where(k, 2, 1) / n)
    return phi, (2 * n * np.sin(np.pi * np.arange(n) / (2 * n))) ** 2


def known():
    """The posterior in closed form."""
    (a, mu), (b, nu) = (cosines(n) for n in SHAPE)
    phi = np.einsum("ki,lj->lkji", a, b).reshape(a.size // SHAPE[0] * b.shape[0], -1)
    total = (nu[:, None] + mu[None, :]).ravel()
    y = np.random.default_rng(3).standard_normal(phi.shape[1])
    p = (DELTA + GAMMA * total) ** 2 / phi.shape[1]
    d = 1 / (SIGMA * (total + RATE)) ** 2
    seen = phi @ y / (SIGMA**2 * (total + RATE))
    mean, C = phi.T @ (seen / (p + d)), (phi.T / (p + d)) @ phi
    kl = 0.5 * (np.log1p(d / p) - d / (p + d) + p * (seen / (p + d)) ** 2).sum()
    values = np.sort(d / p)[::-1]
    return SimpleNamespace(y=y, mean=mean, C=C, kl=kl, values=values)


@pytest.mark.parallel([1, 2, 3])
def test_all_of_a_linear_problem_is_its_closed_form():
    exact = known()
    grid = Grid(SHAPE, comm=COMM)
    space = ParameterSpace(grid, [Unknown("f", "identity")])
    seen = [voxels(grid, (), grid.edges)]
    terms = [
        Diffusion(grid, "D"),
        Reaction(grid, "r"),
        Source(grid, ["u"], "u", "f"),
    ]
    known_values = {"D": 1.0, "r": RATE}
    runs = [Experiment(samplings=seen)]
    forward = Steady(space, Equation(grid, terms), known_values, runs)
    misfit = LeastSquares(exact.y[:, None], SIGMA, forward.layouts[0])
    J = Objective(forward, [misfit], {"f": BiLaplacian(grid, 1.0, None, GAMMA, DELTA)})
    with tight():
        m = minimize(J, space.create_vec(), Settings(gradient_rtol=1e-12)).m
        at = J.linearize(m)
        found = Laplace(at, PosteriorSettings(cut=1e-9, rtol=1e-8, prior_rtol=1e-12))

    def near(given, wanted):
        np.testing.assert_allclose(given, wanted, atol=1e-6 * np.abs(wanted).max())

    near(natural(grid, m), exact.mean)
    near(found.values, exact.values)
    vec = space.create_vec()
    vec.setArray(found.variance)
    near(natural(grid, vec), np.diag(exact.C))
    units = []
    for place in (0, 17):
        unit = space.create_vec()
        own = space.own(unit, "f")
        own[...] = grid_numbers(grid) == place
        units.append(unit)
    near(found.covariance(units), exact.C[np.ix_([0, 17], [0, 17])])
    assert found.divergence == pytest.approx(exact.kl, rel=1e-6)


def grid_numbers(grid):
    """Of the own cells, x fastest."""
    numbers = np.arange(grid.size).reshape(grid.shape, order="F")
    return numbers[grid.local_slice]


def natural(grid, vec):
    """Values of all cells, x fastest, on every rank."""
    numbers = whole(grid_numbers(grid).ravel(order="F"))
    out = np.empty(grid.size)
    out[numbers] = whole(vec.getArray())
    return out
