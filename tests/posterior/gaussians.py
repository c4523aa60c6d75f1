"""Fields from a few points, small enough for dense matrices of everything."""

import numpy as np
from mpi4py import MPI

from npde_opt.forward import Equation, Experiment, Steady
from npde_opt.grids import Grid
from npde_opt.misfits import LeastSquares
from npde_opt.objective import Objective
from npde_opt.observations import at_points
from npde_opt.parameters import Field, ParameterSpace, Shared, Unknown
from npde_opt.regularizers import REGULARIZERS, Ridge, SmallPrior
from npde_opt.terms import Diffusion, Reaction

COMM = MPI.COMM_WORLD
PRIORS = {
    "bilaplacian": {"gamma": 0.1, "delta": 0.5},
    "bilaplacian by length": {"correlation_length": 0.3, "variance": 0.5},
    "gradient": {"mass_weight": 1.0},
    "total-variation": {"epsilon": 0.3},
}


def log_field(x, y):
    return np.exp(np.sin(3 * x) * np.cos(2 * y))


def field(
    kind="bilaplacian", n=16, ensemble=None, masked=False, fixed=False, small=False
):
    """(J, m): the logarithm of a field D from 16 values in each of two experiments; with `small`
    also the logarithm of a reaction's rate, 'flat': without a prior, 'field': of a field of it."""
    active = np.ones((n, n), bool)
    if masked:
        active[: n // 3, : n // 3] = False
    comm = ensemble.space if ensemble else COMM
    grid = Grid((n, n), boundaries={"y-": "dirichlet", "y+": "dirichlet"}, comm=comm)
    grid = grid.with_(active=active) if masked else grid
    known = np.full((n, n), np.nan)
    known[-2:] = 1.0
    block = Field(fixed=known if fixed else None)
    unknowns = [Unknown("D", "log", block=block)]
    if small:
        rate = Field() if small == "field" else Shared()
        unknowns.append(Unknown("k", "log", block=rate))
    space = ParameterSpace(grid, unknowns)
    places = np.linspace(0.4, 0.95, 4)
    points = np.array([[x, y] for x in places for y in places])
    own = ensemble.own(2) if ensemble else range(2)
    runs = [
        Experiment(
            boundary={"y+": 1.0 + e},
            load=(1.0 - e) * grid.volume,
            samplings=[at_points(grid, (), points)],
        )
        for e in own
    ]
    terms = [Diffusion(grid, "D"), Reaction(grid, "k")]
    forward = Steady(space, Equation(grid, terms), {} if small else {"k": 0.3}, runs)
    regularizer = (
        Ridge(space.blocks["D"], 2.0)
        if kind == "ridge"
        else REGULARIZERS[kind.split()[0]](grid, 1.0, **PRIORS[kind])
    )
    regularizers = {"D": regularizer}
    if small is True:
        regularizers["k"] = SmallPrior(grid.comm, 1, deviation=0.5)
    if small == "field":
        regularizers["k"] = REGULARIZERS["gradient"](grid, 3.0, mass_weight=2.0)
    rates = grid.evaluate(lambda x, y: 0.3 + 0 * x)
    values = {
        "D": grid.evaluate(log_field),
        "k": rates if small == "field" else 0.3,
    }
    m = space.from_values({u.name: values[u.name] for u in unknowns})
    misfits = []
    for layout in forward.layouts:
        rng = np.random.default_rng(1)
        y = rng.random((layout.size, len(layout.members)))
        misfits.append(LeastSquares(y, 0.01, layout))
    return Objective(forward, misfits, regularizers, ensemble), m


def whole(own):
    """Rows of all ranks."""
    return np.concatenate(COMM.allgather(np.asarray(own)))


def free(space):
    """Which rows of `whole` are unknown."""
    vec = space.create_vec()
    for name in space.blocks:
        space.own(vec, name)[...] = space.free(name)
    found = whole(vec.getArray()) > 0
    vec.destroy()
    return found


def dense(space, action):
    """The matrix of an action, rows and columns of what is unknown."""
    vec, out = space.create_vec(), space.create_vec()
    first, last = vec.getOwnershipRange()
    on, columns = np.flatnonzero(free(space)), []
    for j in on:
        vec.set(0.0)
        if first <= j < last:
            vec.getArray()[j - first] = 1.0
        else:
            vec.getArray()
        action(vec, out)
        columns.append(whole(out.getArray())[on])
    vec.destroy()
    out.destroy()
    return np.array(columns).T
