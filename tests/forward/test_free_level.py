"""The mean of a state that nothing holds: kept by implicit steps, or they are refused where
rounding would move it."""

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt import reductions
from npde_opt.errors import InputError, SolverError
from npde_opt.forward import SCHEMES, Equation, Evolution, Experiment
from npde_opt.grids import Grid
from npde_opt.observations import snapshots
from npde_opt.parameters import ParameterSpace, Shared, Unknown
from npde_opt.terms import Diffusion, Reaction

IMPLICIT = ["backward-euler", "crank-nicolson", "imex-euler"]
TIMES = np.linspace(0.0, 1.0, 6)
START = "1 + 0.3*sin(6*x)"
HELD = {"x-": "dirichlet"}


def forward(scheme, shape, sides=None, decay=False, shared=False):
    grid = Grid(shape, boundaries=sides or {}, comm=MPI.COMM_WORLD)
    D = Unknown("D", "log", block=Shared()) if shared else Unknown("D", "log")
    terms = [Diffusion(grid, "D"), *([Reaction(grid, "c")] if decay else [])]
    return Evolution(
        ParameterSpace(grid, [D]),
        Equation(grid, terms),
        {"c": 1.0} if decay else {},
        [Experiment({"u": START}, boundary={"x-": 1.0} if sides else {})],
        [snapshots(grid, TIMES[-1:], "u")],
        SCHEMES[scheme],
        TIMES,
    )


def mean(F, D, conductor=False):
    """Of the last state and of the first one, with this diffusivity; 1e11 in a layer of cells where
    that is a conductor."""
    m = F.space.create_vec()
    m.set(np.log(D))
    if conductor:
        layer = np.broadcast_to(F.grid.coordinates()[0] < 0.04, F.grid.local_shape)
        F.space.own(m, "D")[layer] = np.log(1e11)
    at = F.linearize(m)
    grid, volume = F.grid, F.grid.volume
    total = reductions.total(grid.comm, float((at.final[0][0] * volume).sum()))
    start = reductions.total(
        grid.comm, float(((1 + 0.3 * np.sin(6 * grid.coordinates()[0])) * volume).sum())
    )
    at.destroy()
    return total, start


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("scheme", IMPLICIT)
@pytest.mark.parametrize("shape", [(64,), (24, 20)])
@pytest.mark.parametrize("shared", [False, True])
def test_a_mean_is_kept_or_refused(scheme, shape, shared):
    """First as wrong input, later as a step too far; and steps from there on are the old ones."""
    F = forward(scheme, shape, shared=shared)
    with pytest.raises(InputError, match="moves the mean of the states"):
        mean(F, 1e13)
    found, start = mean(F, 1e9) if shared else mean(F, 1.0, conductor=True)
    assert found == pytest.approx(start, rel=2e-3)
    with pytest.raises(SolverError, match="moves the mean of the states"):
        mean(F, 1e13)
    F.destroy()


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("held", [{"sides": HELD}, {"decay": True}])
def test_what_is_held_is_not_refused(held):
    F = forward("backward-euler", (24, 20), **held)
    found, start = mean(F, 1e10)
    expected = start if "decay" not in held else start / 1.2**5
    assert "sides" in held or found == pytest.approx(expected, rel=0.01)
    F.destroy()
