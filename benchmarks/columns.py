"""What many small samples cost beside as many cells in one state: forward run, gradient and Hessian
product of Gray-Scott (fused explicit steps), of Fisher-KPP (IMEX), of heat (backward Euler), of
assembled explicit steps, and of steady states.

    scripts/npde-env python benchmarks/columns.py [--samples 256] [--cells 8] [--steps 100]
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from common import comm, parser, report

from npde_opt.forward import SCHEMES, Equation, Evolution, Experiment, Steady
from npde_opt.grids import Grid
from npde_opt.misfits import LeastSquares
from npde_opt.objective import Objective
from npde_opt.observations import snapshots
from npde_opt.parameters import Field, ParameterSpace, Shared, Unknown
from npde_opt.terms import Advection, Diffusion, Kinetics, Reaction
from npde_opt.terms.interface import Term

Row = dict[str, Any]


@dataclass(frozen=True)
class Model:
    """Samples differ by their random initial states, or loads.

    Args:
        values: of the unknowns, scalars or fields.
        fields: those that are fields of cells.
        scheme: of the steps; None: steady states.
    """

    terms: Callable[[Grid], list[Term]]
    values: dict[str, float]
    scheme: str | None
    fields: tuple[str, ...] = ()
    species: tuple[str, ...] = ("u",)


def gray_scott(grid: Grid) -> list[Term]:
    spread = [Diffusion(grid, "Du", "u"), Diffusion(grid, "Dv", "v")]
    return [*spread, Kinetics(grid, ("u", "v"), "gray-scott")]


def fisher(grid: Grid) -> list[Term]:
    return [Diffusion(grid, "D"), Kinetics(grid, ("u",), {"u": "r*u*(1 - u)"})]


def heat(grid: Grid) -> list[Term]:
    return [Diffusion(grid, "D"), Reaction(grid, "c")]


def carried(grid: Grid) -> list[Term]:
    return [*fisher(grid), Advection(grid, (0.1, 0.2))]


MODELS = {
    "gray-scott": Model(
        gray_scott,
        {"Du": 0.16, "Dv": 0.08, "F": 0.035, "k": 0.06},
        "explicit-euler",
        species=("u", "v"),
    ),
    "carried": Model(carried, {"D": 0.1, "r": 0.1}, "heun", ("D",)),
    "fisher-kpp": Model(fisher, {"D": 0.1, "r": 0.1}, "imex-euler"),
    "heat": Model(heat, {"D": 0.1, "c": 0.1}, "backward-euler", ("D", "c")),
    "steady": Model(heat, {"D": 0.1, "c": 0.1}, None, ("D", "c")),
}


def objective(model: Model, n: int, samples: int, steps: int) -> Objective:
    """Experiments on n x n cells of size 1, whose last state is seen."""
    grid = Grid((n, n), extent=(n, n))
    rng = np.random.default_rng(0)
    draws = [
        {s: rng.random((n, n))[grid.local_slice] for s in model.species}
        for _ in range(samples)
    ]
    blocks = {
        name: Field() if name in model.fields else Shared() for name in model.values
    }
    space = ParameterSpace(
        grid, [Unknown(name, block=block) for name, block in blocks.items()]
    )
    equation = Equation(grid, model.terms(grid), model.species)
    forward: Steady | Evolution
    if model.scheme is None:
        loads = [Experiment(load=draw) for draw in draws]
        forward = Steady(space, equation, {}, loads, [snapshots(grid, [])])
    else:
        starts = [Experiment(initial=draw) for draw in draws]
        times = np.linspace(0, 0.5 * steps, steps + 1)
        seen = [snapshots(grid, [times[-1]], model.species[-1])]
        forward = Evolution(
            space, equation, {}, starts, seen, SCHEMES[model.scheme], times
        )
    (layout,) = forward.layouts
    zeros = np.zeros((layout.size, layout.columns))
    return Objective(forward, [LeastSquares(zeros, 1.0, layout)], {})


def processor(action: Callable[[], Any]) -> float:
    start = time.process_time()
    action()
    return time.process_time() - start


def seconds(
    model: Model, n: int, samples: int, steps: int, repeats: int = 3
) -> dict[str, float]:
    """Processor seconds on this rank, the best of some, which others on the machine disturb
    less."""
    J = objective(model, n, samples, steps)
    m = J.space.from_values(model.values)
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


def rows(name: str, cells: int, samples: int, steps: int) -> list[Row]:
    model = MODELS[name]
    whole = seconds(model, cells * round(samples**0.5), 1, steps)
    many = seconds(model, cells, samples, steps)
    said = f"{name}, {samples} samples of {cells}^2, {steps} steps"
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
    p.add_argument("--models", nargs="+", default=list(MODELS))
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
