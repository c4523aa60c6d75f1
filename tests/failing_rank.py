"""A small identification in which the last rank fails.

    python failing_rank.py WHERE WHAT WHEN [GROUPS]

WHERE: before (building the objective), value, gradient, weights (of the misfit), regularizer,
    regularizer-gradient, regularizer-hessian, forward, adjoint, norm (a callback of TAO's outside
    any block), monitor, after.
WHAT: ValueError, unpicklable, nostr, code0, exit256, exit5, exit0, exittext, KeyboardInterrupt,
    MemoryError, PETSc, SolverError, nan.
WHEN: first or later call.
"""

import sys

import petsc4py

petsc4py.init([])

import numpy as np  # noqa: E402
from mpi4py import MPI  # noqa: E402
from petsc4py import PETSc  # noqa: E402

from npde_opt import errors  # noqa: E402
from npde_opt.ensemble import Ensemble  # noqa: E402
from npde_opt.forward import Equation, Experiment, Steady  # noqa: E402
from npde_opt.grids import Grid  # noqa: E402
from npde_opt.misfits import Diagonal, LeastSquares  # noqa: E402
from npde_opt.objective import Objective  # noqa: E402
from npde_opt.observations import at_points  # noqa: E402
from npde_opt.optimizers import Settings, minimize  # noqa: E402
from npde_opt.parameters import ParameterSpace, Unknown  # noqa: E402
from npde_opt.regularizers import BiLaplacian  # noqa: E402
from npde_opt.terms import Diffusion  # noqa: E402

WORLD = MPI.COMM_WORLD
WHERE, WHAT, WHEN = sys.argv[1:4]
GROUPS = int(sys.argv[4]) if len(sys.argv) > 4 else 1
LATER = 3
calls = {"here": 0}


class Unpicklable(Exception):
    def __init__(self):
        super().__init__("it failed")
        self.kept = lambda: None


class NoText(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class SaysSuccess(Exception):
    exit_code = 0


def failures():
    return {
        "ValueError": ValueError("it failed"),
        "unpicklable": Unpicklable(),
        "nostr": NoText(),
        "code0": SaysSuccess("it failed"),
        "exit256": SystemExit(256),
        "exit5": SystemExit(5),
        "exit0": SystemExit(0),
        "exittext": SystemExit("it failed"),
        "KeyboardInterrupt": KeyboardInterrupt(),
        "MemoryError": MemoryError("it failed"),
        "PETSc": PETSc.Error(76),
        "SolverError": errors.SolverError("state_", "it failed", "Try again."),
    }


def fails(where):
    """Raises where it is asked to; whether to return NaN instead."""
    if where != WHERE or WORLD.rank != WORLD.size - 1:
        return False
    calls["here"] += 1
    if calls["here"] != (1 if WHEN == "first" else LATER):
        return False
    if WHAT == "nan":
        return True
    raise failures()[WHAT]


class Mine(LeastSquares):
    def values(self, d):
        return np.nan * super().values(d) if fails("value") else super().values(d)

    def gradient(self, d):
        g = super().gradient(d)
        if fails("gradient"):
            g.values[...] = np.nan
        return g

    def hessian_metric(self, d):
        nan = fails("weights")
        weights = super().hessian_metric(d)
        if nan:
            assert isinstance(weights, Diagonal)
            weights.weights[...] = np.nan
        return weights


class Prior(BiLaplacian):
    def value(self, p):
        nan = fails("regularizer")
        value = super().value(p)
        return np.nan if nan else value

    def gradient(self, p, out):
        nan = fails("regularizer-gradient")
        super().gradient(p, out)
        if nan:
            out.getArray()[...] = np.nan

    def hessian(self, p, x, out):
        nan = fails("regularizer-hessian")
        super().hessian(p, x, out)
        if nan:
            out.getArray()[...] = np.nan


class Map(Steady):
    def linearize(self, m, columns=None):
        nan = fails("forward")
        found = super().linearize(m, columns)
        if nan:
            found.data[0].values[...] = np.nan
        return found

    def solve(self, at, e, rhs, adjoint):
        if adjoint and fails("adjoint"):
            rhs = rhs * np.nan
        return super().solve(at, e, rhs, adjoint)


class Sum(Objective):
    def gradient_norm(self, g):
        nan = fails("norm")
        norm = super().gradient_norm(g)
        return np.nan if nan else norm


def monitor(row, state):
    return "stop:here" if fails("monitor") else None


def main():
    ensemble = Ensemble.split(WORLD, GROUPS, 2)
    grid = Grid((8, 8), boundaries={"y-": "dirichlet"}, comm=ensemble.space)
    space = ParameterSpace(grid, [Unknown("D", "log")])
    axis = np.linspace(0.1, 0.9, 4)
    points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    loads = [np.full(grid.local_shape, 0.1 * (e + 1)) for e in ensemble.own(2)]
    experiments = [Experiment(load=load) for load in loads]
    equation = Equation(grid, [Diffusion(grid, "D")])
    forward = Map(space, equation, {}, experiments, [at_points(grid, (), points)])
    fails("before")
    data = 2 + np.sin(7 * np.arange(len(points)))
    (layout,) = forward.layouts
    observed = np.stack([data * (e + 1) for e in ensemble.own(2)], axis=1)
    misfits = [Mine(observed, 0.1, layout)]
    m = space.create_vec()
    prior = Prior(grid, 1.0, space.block_vec(m, "D"), gamma=0.1, delta=1.0)
    objective = Sum(forward, misfits, {"D": prior}, ensemble)
    result = minimize(
        objective, m, Settings(method="newton", max_iterations=8), monitor
    )
    fails("after")
    total = WORLD.allreduce(1)
    if WORLD.rank == 0:
        print(f"{result.status} at {result.objective:.6g} on {total} ranks")


errors.run(main)
