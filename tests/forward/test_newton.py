"""Newton's method of implicit stages."""

import numpy as np
import pytest

from npde_opt.forward import SCHEMES, Equation, Evolution, Experiment
from npde_opt.grids import Grid
from npde_opt.observations import at_points
from npde_opt.parameters import ParameterSpace, Unknown
from npde_opt.terms import NonlinearDiffusion


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("storage", [1e-5, 1e-7, 1e-8])
def test_a_state_that_is_all_but_steady_is_found(storage):
    """(D (1 + u) u')' = 0 after the first step, (1 + u)^2 = 1 + 3 x: what is stored is less than
    the rounding of fluxes."""
    grid = Grid((12,), boundaries={"x-": "dirichlet", "x+": "dirichlet"})
    term = NonlinearDiffusion(grid, ("u",), "u", "D*(1 + u)")
    equation = Equation(grid, [term], storage="S")
    space = ParameterSpace(grid, [Unknown("D", "log")])
    run = Experiment(initial={"u": "x"}, boundary={"x+": 1.0})
    seen, times = [at_points(grid, (1.0,), [[0.5]])], np.linspace(0.0, 1.0, 11)
    known = {"S": storage}
    forward = Evolution(space, equation, known, [run], seen, SCHEMES["backward-euler"], times)
    lin = forward.linearize(space.create_vec())
    u = grid.comm.bcast(grid.to_natural(lin.final[0][0]), root=0)
    np.testing.assert_allclose((1 + u) ** 2, 1 + 3 * grid.centers[0], rtol=3e-3)
    lin.destroy()
    forward.destroy()
