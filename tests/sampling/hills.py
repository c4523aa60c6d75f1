"""A number with two hills of its posterior, known by quadrature: f(p) = p^2 from one value of it,
beside the prior N(CENTER, 1). A map of the user's own."""

import numpy as np
from mpi4py import MPI

from npde_opt.forward.interface import Counters
from npde_opt.grids import Grid
from npde_opt.misfits import LeastSquares
from npde_opt.objective import Objective
from npde_opt.observations import DataBlock, DataLayout
from npde_opt.parameters import ParameterSpace, Shared, Unknown
from npde_opt.posterior import Laplace, PosteriorSettings
from npde_opt.regularizers import SmallPrior

VALUE, SIGMA, CENTER = 1.0, 0.2, 0.15


class Squares:
    def __init__(self, comm):
        self.grid = Grid((4, 3), comm=comm)
        unknown = Unknown("p", "identity", block=Shared(1))
        self.space = ParameterSpace(self.grid, [unknown])
        self.counters, self.experiments = Counters(), [None]
        # The first rank has the datum.
        own = np.arange(1 if comm.rank == 0 else 0)
        self.layouts = [DataLayout(comm, 1, own, (0,))]

    def linearize(self, m, columns=None):
        return At(self, m)

    def destroy(self):
        pass


class At:
    def __init__(self, forward, m):
        self.forward, self.m = forward, m
        self.p = forward.space.values(m, "p")[0]
        self.data = [self.block(self.p**2)]

    def block(self, value):
        layout = self.forward.layouts[0]
        count = 1 if layout.comm.rank == 0 else 0
        return DataBlock(layout, np.full((count, 1), value))

    def apply(self, dm):
        return [self.block(2 * self.p * self.forward.space.values(dm, "p")[0])]

    def adjoint_states(self, d):
        total = self.forward.grid.comm.allreduce(float(d[0].values.sum()))
        return 2 * self.p * total

    def apply_adjoint(self, d, adjoints=None):
        found = self.adjoint_states(d) if adjoints is None else adjoints
        out = self.m.duplicate()
        out.set(found)
        return out

    def hessian(self, dm, metrics, out, adjoints):
        seen = self.apply(dm)[0]
        metrics[0].apply(seen)
        found = self.apply_adjoint([seen])
        out.axpy(1.0, found)
        found.destroy()

    def destroy(self):
        pass


def hills(comm=MPI.COMM_WORLD):
    """The Laplace posterior at the higher hill."""
    forward = Squares(comm)
    misfit = LeastSquares(np.array([[VALUE]]), SIGMA, forward.layouts[0])
    prior = SmallPrior(comm, 1, reference=CENTER, deviation=1.0)
    J = Objective(forward, [misfit], {"p": prior})
    p = 1.0
    for _ in range(50):
        slope = 2 * p * (p**2 - VALUE) / SIGMA**2 + p - CENTER
        p -= slope / ((6 * p**2 - 2 * VALUE) / SIGMA**2 + 1)
    m = J.space.from_values({"p": p})
    settings = PosteriorSettings(cut=1e-6, rtol=1e-8, prior_rtol=1e-12)
    return Laplace(J.linearize(m), settings)


def log_density(p, temperature=1.0):
    misfit = 0.5 * ((p**2 - VALUE) / SIGMA) ** 2
    return -misfit / temperature - 0.5 * (p - CENTER) ** 2


def share():
    """Of the hill around 1."""
    p = np.linspace(-6, 6, 60_001)
    weights = np.exp(log_density(p))
    return weights[p > 0].sum() / weights.sum()
