"""What has to be alike on all ranks is compared before PETSc would wait for ever for the ranks that
do something else."""

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.ensemble import Ensemble
from npde_opt.errors import NpdeError
from npde_opt.forward import Equation, Experiment, Steady
from npde_opt.grids import Grid
from npde_opt.observations import at_points
from npde_opt.parameters import ParameterSpace, Unknown
from npde_opt.terms import Diffusion

COMM = MPI.COMM_WORLD
LAST = COMM.rank == COMM.size - 1


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize(
    "shape, sides",
    [((10, 8), {}), ((8,), {}), ((8, 8), {"x-": "periodic", "x+": "periodic"})],
)
def test_another_grid_on_one_rank(shape, sides):
    with pytest.raises(NpdeError, match="the grid differs between ranks"):
        Grid(shape if LAST else (8, 8), boundaries=sides if LAST else {})
    assert Grid((8, 8)).size == 64


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize("sides", [[{}], [{}, {"x-": 1.0}], [{}, {}, {}]])
def test_other_experiments_on_one_rank(sides):
    grid = Grid((8, 8), boundaries={"x-": "dirichlet"})
    space = ParameterSpace(grid, [Unknown("D", "log")])
    source = np.ones(grid.local_shape)
    experiments = [
        Experiment(load=source, boundary=boundary)
        for boundary in (sides if LAST else [{}, {}])
    ]
    with pytest.raises(
        NpdeError, match="boundary values, one an experiment, differs between ranks"
    ):
        Steady(
            space,
            Equation(grid, [Diffusion(grid, "D")]),
            {},
            experiments,
            [at_points(grid, (), np.array([[0.5, 0.5]]))],
        )


@pytest.mark.parallel(2)
@pytest.mark.parametrize("groups, experiments", [(2, 4), (1, 5)])
def test_other_groups_on_one_rank(groups, experiments):
    with pytest.raises(NpdeError, match="differs between ranks"):
        Ensemble.split(COMM, groups if LAST else 1, experiments if LAST else 4)
