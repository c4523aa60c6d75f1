"""A few numbers whose posterior is not normal, and known by quadrature."""

import numpy as np
from mpi4py import MPI

from npde_opt.forward import Equation, Experiment, Steady
from npde_opt.grids import Grid
from npde_opt.misfits import LeastSquares
from npde_opt.objective import Objective
from npde_opt.observations import at_points
from npde_opt.parameters import ParameterSpace, Shared, Unknown
from npde_opt.posterior import Laplace, PosteriorSettings
from npde_opt.regularizers import SmallPrior
from npde_opt.terms import Diffusion, Reaction

COMM = MPI.COMM_WORLD
DEVIATION = 0.7


def rate(y=1.6, sigma=0.4, bounds=(None, None), comm=COMM):
    """(J, m): log k of -lap u + k u = 1 without flux, u = 1 / k, from one value of it; m near the
    minimum."""
    grid = Grid((4, 3), comm=comm)
    space = ParameterSpace(grid, [Unknown("k", "log", bounds, block=Shared())])
    sampling = at_points(grid, (), np.array([[0.4, 0.6]]))
    experiment = Experiment(load=grid.volume, samplings=[sampling])
    equation = Equation(grid, [Diffusion(grid, "D"), Reaction(grid, "k")])
    forward = Steady(space, equation, {"D": 1.0}, [experiment])
    misfit = LeastSquares(np.array([[y]]), sigma, forward.layouts[0])
    prior = SmallPrior(comm, 1, deviation=DEVIATION)
    J = Objective(forward, [misfit], {"k": prior})
    p, step = 0.0, 1.0
    for _ in range(50):
        u = np.exp(-p)
        slope = -(u - y) * u / sigma**2 + p / DEVIATION**2
        step = slope / (u * u / sigma**2 + 1 / DEVIATION**2)
        p -= step
    return J, space.from_values({"k": float(np.exp(p))})


def moments(y=1.6, sigma=0.4):
    """Mean and deviation of log k."""
    p = np.linspace(-4, 4, 4001)
    log = -0.5 * ((np.exp(-p) - y) / sigma) ** 2 - 0.5 * (p / DEVIATION) ** 2
    w = np.exp(log - log.max())
    mean = (w * p).sum() / w.sum()
    return mean, np.sqrt((w * (p - mean) ** 2).sum() / w.sum())


def laplace(J, m):
    at = J.linearize(m)
    return Laplace(at, PosteriorSettings(cut=1e-6, rtol=1e-8, prior_rtol=1e-12))


def log_rate(J):
    """The figure of a chain."""
    return lambda m: J.space.values(m, "k")
