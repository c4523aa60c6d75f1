"""An objective that is a sum over experiments, small enough for many of them."""

import numpy as np
from mpi4py import MPI

from npde_opt.forward import SCHEMES, Equation, Evolution, Experiment, Steady
from npde_opt.grids import Grid
from npde_opt.misfits import LeastSquares, SoftmaxCrossEntropy
from npde_opt.objective import Objective
from npde_opt.observations import at_points
from npde_opt.parameters import ParameterSpace, Shared, Unknown
from npde_opt.regularizers import REGULARIZERS
from npde_opt.terms import Diffusion, Kinetics

COMM = MPI.COMM_WORLD
SHAPE, COUNT = (8, 6), 6
POINTS = np.array([[0.2, 0.3], [0.7, 0.4], [0.5, 0.8]])
KINDS = {"steady": None, "fused": "explicit-euler", "implicit": "imex-euler"}


def made(kind, ensemble=None, loss="least-squares", at_once=None):
    """Six experiments, of which the first four are observed alike."""
    grid = Grid(
        SHAPE, boundaries={"x-": "dirichlet"}, comm=ensemble.space if ensemble else COMM
    )
    space = ParameterSpace(
        grid, [Unknown("D", "log"), Unknown("r", "log", block=Shared())]
    )
    own = ensemble.own(COUNT) if ensemble else range(COUNT)
    terms = [Diffusion(grid, "D"), Kinetics(grid, ("u",), {"u": "r*u*(1 - u)"})]
    times = np.linspace(0, 0.006, 4)
    when = () if kind == "steady" else times[2:]
    seen = [[at_points(grid, when, POINTS[:n])] for n in (3, 2)]
    runs = [
        Experiment(
            {"u": f"0.5 + 0.{e + 1}*x*y"},
            load=(1.0 + e) * grid.volume if kind == "steady" else None,
            samplings=seen[e >= 4],
        )
        for e in own
    ]
    equation = Equation(grid, terms[:1] if kind == "steady" else terms)
    if kind == "steady":
        space = ParameterSpace(grid, [Unknown("D", "log")])
        forward = Steady(space, equation, {}, runs)
    else:
        forward = Evolution(
            space, equation, {}, runs, seen[0], SCHEMES[KINDS[kind]], times
        )
    misfits = []
    for layout in forward.layouts:
        numbers = [own[k] for k in layout.members]
        if loss == "labels":
            labels = np.array(numbers) % 2
            misfits.append(SoftmaxCrossEntropy(labels, layout))
        else:
            y = [np.random.default_rng(e).random(layout.size) for e in numbers]
            misfits.append(LeastSquares(np.stack(y, axis=1), 0.1, layout))
    regularizers = {"D": REGULARIZERS["gradient"](grid, 0.1)}
    J = Objective(forward, misfits, regularizers, ensemble, at_once)
    values = {"D": grid.evaluate(lambda x, y: 0.5 + 0.2 * x * y), "r": 2.0}
    changes = {"D": grid.evaluate(lambda x, y: np.exp(np.sin(3 * x) * y)), "r": 1.5}
    named = [{u.name: v[u.name] for u in space.unknowns} for v in (values, changes)]
    return J, space.from_values(named[0]), space.from_values(named[1])
