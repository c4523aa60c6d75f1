"""A run that cannot go on since trial points have no state says so, and why they have none."""

import numpy as np
import pytest

from npde_opt.errors import SolverError
from npde_opt.forward import Equation, Experiment, Steady
from npde_opt.grids import Grid
from npde_opt.misfits import LeastSquares
from npde_opt.objective import Objective
from npde_opt.observations import at_points
from npde_opt.optimizers import Settings, minimize
from npde_opt.parameters import ParameterSpace, Unknown
from npde_opt.terms import Diffusion

LEAST = 0.5


class Walled(Steady):
    """Has no state for D < LEAST."""

    def linearize(self, m, columns=None):
        if m.min()[1] < np.log(LEAST):
            raise SolverError("state_", "D is too small", "Stay above.")
        return super().linearize(m, columns)


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("method", ["gauss-newton", "lbfgs"])
def test_a_stalled_run_tells_why_trial_points_were_rejected(method):
    """Data that ask for D near 0.1: the steps shrink before the wall, where the last trial point
    may have a state again."""
    grid = Grid((8,), boundaries={"x-": "dirichlet", "x+": "dirichlet"})
    space = ParameterSpace(grid, [Unknown("D", "log")])
    equation, load = Equation(grid, [Diffusion(grid, "D")]), grid.volume * 1.0
    seen = at_points(grid, (), np.linspace(0.1, 0.9, 8)[:, None])
    forward = Walled(space, equation, {}, [Experiment(load=load)], [seen])
    misfit = LeastSquares(np.ones(8), 0.1, forward.layouts[0])
    m, objective = space.create_vec(), Objective(forward, [misfit], {})
    # One that ends before, at its last iteration, says so too.
    for most, status in ((50, "stalled"), (2, "max_iterations")):
        result = minimize(objective, m, Settings(method, max_iterations=most))
        assert result.status == status
        said = " rejected, the last one as solver 'state_' failed: D is too small."
        assert said in result.reason
