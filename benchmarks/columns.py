"""What many small samples cost beside as many cells in one state: forward run, gradient and Hessian
product of Gray-Scott (explicit steps) and of Fisher-KPP (implicit ones).

    scripts/npde-env python benchmarks/columns.py [--samples 256] [--cells 8] [--steps 100]
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from common import comm, parser, report

from npde_opt.forward import SCHEMES, Equation, Evolution, Experiment
from npde_opt.grids import Grid
from npde_opt.misfits import LeastSquares
from npde_opt.objective import Objective
from npde_opt.observations import snapshots
from npde_opt.parameters import ParameterSpace, Shared, Unknown
from npde_opt.terms import Diffusion, Kinetics

Row = dict[str, Any]
VALUES = {
    "gray-scott": {"Du": 0.16, "Dv": 0.08, "F": 0.035, "k": 0.06},
    "fisher-kpp": {"D": 0.1, "r": 0.1},
}


def terms(model: str, grid: Grid) -> list[Any]:
    if model == "fisher-kpp":
        return [Diffusion(grid, "D"), Kinetics(grid, ("u",), model)]
    spread = [Diffusion(grid, "Du", "u"), Diffusion(grid, "Dv", "v")]
    return [*spread, Kinetics(grid, ("u", "v"), model)]


def objective(model: str, n: int, samples: int, steps: int) -> Objective:
    """Experiments with random initial states on n x n cells of size 1, whose last state is seen."""
    grid = Grid((n, n), extent=(n, n))
    species = ("u", "v") if model == "gray-scott" else ("u",)
    rng = np.random.default_rng(0)
    experiments = []
    for _ in range(samples):
        initial = {s: rng.random((n, n))[grid.local_slice] for s in species}
        experiments.append(Experiment(initial=initial))
    space = ParameterSpace(grid, [Unknown(name, block=Shared()) for name in VALUES[model]])
    scheme = "explicit-euler" if model == "gray-scott" else "imex-euler"
    forward = Evolution(
        space,
        Equation(grid, terms(model, grid), species),
        {} if model == "gray-scott" else {"K": 1.0},
        experiments,
        [snapshots(grid, [0.5 * steps], species[-1])],
        SCHEMES[scheme],
        np.linspace(0, 0.5 * steps, steps + 1),
    )
    misfits = [LeastSquares(np.zeros(o.size), 1.0, o.create_vec()) for o in forward.observers]
    return Objective(forward, misfits, {})


def processor(action: Callable[[], Any]) -> float:
    start = time.process_time()
    action()
    return time.process_time() - start


def seconds(model: str, n: int, samples: int, steps: int, repeats: int = 3) -> dict[str, float]:
    """Processor seconds on this rank, the best of some, which others on the machine disturb
    less."""
    J = objective(model, n, samples, steps)
    m = J.space.from_values(VALUES[model])
    out, found = J.create_vec(), []
    for _ in range(repeats + 1):
        at = J.linearize(m)
        forward = processor(partial(getattr, at, "value"))
        backward = processor(at.gradient)
        product = processor(partial(at.hessian, m, out))
        found.append((forward, forward + backward, product))
        at.destroy()
    J.destroy()
    best = np.min(found, axis=0)
    return dict(zip(("forward", "gradient", "product"), map(float, best), strict=True))


def rows(model: str, cells: int, samples: int, steps: int) -> list[Row]:
    whole = seconds(model, cells * round(samples**0.5), 1, steps)
    many = seconds(model, cells, samples, steps)
    said = f"{model}, {samples} samples of {cells}^2, {steps} steps"
    return [
        {
            "part": said,
            "of": key,
            "one state s": whole[key],
            "samples s": many[key],
            "ratio": many[key] / whole[key],
        }
        for key in whole
    ]


def main() -> None:
    p = parser("columns", __doc__ or "")
    p.add_argument("--models", nargs="+", default=list(VALUES))
    p.add_argument("--samples", type=int, default=256, help="a square number")
    p.add_argument("--cells", type=int, default=8, help="a side")
    p.add_argument("--steps", type=int, default=100)
    options = p.parse_args()
    assert round(options.samples**0.5) ** 2 == options.samples and comm.size == 1
    found = [
        row
        for model in options.models
        for row in rows(model, options.cells, options.samples, options.steps)
    ]
    report("columns", found, options.out)


if __name__ == "__main__":
    main()
