"""Problems for the loops on planes."""

import numpy as np

from npde_opt.grids import Grid
from npde_opt.operators.stencils import StencilMatrix
from npde_opt.terms import Diffusion

PREFIX = "ranktest_"
WALLS = dict.fromkeys(("x-", "x+", "y-", "y+"), "dirichlet")
ALONG_X = {"x-": "periodic", "x+": "periodic"}
ALONG_Y = {"y-": "periodic", "y+": "periodic"}
ALONG_Z = {"z-": "periodic", "z+": "periodic"}
STRETCHED = [np.cumsum(np.r_[0, 1.1 ** np.arange(24)]), np.linspace(0, 30, 22) ** 1.2]
LONG = [np.linspace(0, 4, 17), np.linspace(0, 1, 121)]
GRIDS = {
    "walls": ((70, 49), WALLS, None),
    "periodic along x": ((50, 37), ALONG_X | {"y-": "dirichlet"}, None),
    "periodic along x, odd and not cut": ((37, 52), ALONG_X, None),
    "periodic along y": ((37, 52), ALONG_Y, None),
    "periodic": ((48, 40), ALONG_X | ALONG_Y, None),
    "stretched": ((24, 21), WALLS, STRETCHED),
    "long cells, two axes apart": ((16, 120), WALLS, LONG),
    "volume": ((12, 13, 15), {}, None),
    "volume, periodic": ((12, 13, 14), ALONG_X | ALONG_Z, None),
}


def diffusion(grid, mass):
    """Of a random field, the same on any ranks, and a mass in every cell."""
    drawn = np.random.default_rng(0).standard_normal(grid.shape)
    k = np.asfortranarray(np.exp(drawn)[grid.local_slice])
    matrix = StencilMatrix(grid)
    planes = matrix.zeroed()
    Diffusion(grid, "k").at({"k": k}).add_planes(planes)
    planes[matrix.offsets[0]] += mass * grid.volume
    matrix.refresh()
    return matrix


def problem(name, comm, active=None):
    shape, boundaries, edges = GRIDS[name]
    grid = Grid(shape, boundaries=boundaries, edges=edges, active=active, comm=comm)
    return grid, diffusion(grid, 0.3)
