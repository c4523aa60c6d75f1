"""Evolution equations: Gray-Scott by explicit steps, the cost of a gradient with and without
checkpoints, products with A a diffusion step, PRESB's iterations by grid, step and potential, and
(on demand) a gradient of the brain tumour at 1 mm.

    scripts/npde-env python benchmarks/evolution.py [--parts gray-scott gradient diffusion presb]
        [--sizes 128 256]
    scripts/npde-env mpirun -n 2 python benchmarks/evolution.py --parts brain
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import comm, parser, report
from mpi4py import MPI

from npde_opt.cases import load_case
from npde_opt.cases.equation_tables import EqualSteps
from npde_opt.ensemble import Ensemble
from npde_opt.forward import SCHEMES, Equation, Evolution, Experiment, Storage
from npde_opt.grids import Grid
from npde_opt.io.results import peak_memory_mb
from npde_opt.misfits import LeastSquares
from npde_opt.objective import Objective
from npde_opt.observations import snapshots
from npde_opt.parameters import ParameterSpace, Shared, Unknown
from npde_opt.terms import Diffusion, Kinetics, Reaction

Row = dict[str, Any]
SIDES = ("x-", "x+", "y-", "y+")


def gray_scott(
    n: int, steps: int, storage: Storage | None = None, fused: bool = True
) -> Objective:
    """Du, Dv scalars, F and k fields, the last v observed."""
    grid = Grid((n, n), extent=(n, n), boundaries=dict.fromkeys(SIDES, "periodic"))
    rng = np.random.default_rng(0)
    u, v = (
        (1 - 0.5 * (rng.random((n, n)) < 0.3))[grid.local_slice],
        (0.25 * (rng.random((n, n)) < 0.3))[grid.local_slice],
    )
    space = ParameterSpace(
        grid,
        [
            Unknown("Du", block=Shared()),
            Unknown("Dv", block=Shared()),
            Unknown("F"),
            Unknown("k"),
        ],
    )
    terms = [
        Diffusion(grid, "Du", "u"),
        Diffusion(grid, "Dv", "v"),
        Kinetics(grid, ("u", "v"), "gray-scott"),
    ]
    forward = Evolution(
        space,
        Equation(grid, terms, ("u", "v")),
        {},
        [Experiment({"u": u, "v": v})],
        [snapshots(grid, [float(steps)], "v")],
        SCHEMES["explicit-euler"],
        np.linspace(0, steps, steps + 1),
        storage,
        fused=fused,
    )
    (layout,) = forward.layouts
    return Objective(forward, [LeastSquares(np.zeros(layout.size), 1.0, layout)], {})


def fisher(n: int, steps: int, storage: Storage | None = None) -> Objective:
    """Fisher-KPP with a field D by imex-euler."""
    grid = Grid((n, n))
    space = ParameterSpace(
        grid, [Unknown("D", "log"), Unknown("r", "log", block=Shared())]
    )
    forward = Evolution(
        space,
        Equation(grid, [Diffusion(grid, "D"), Kinetics(grid, ("u",), "fisher-kpp")]),
        {"K": 1.0},
        [Experiment({"u": "0.8*exp(-60*((x - 0.4)**2 + (y - 0.5)**2))"})],
        [snapshots(grid, [1.0])],
        SCHEMES["imex-euler"],
        np.linspace(0, 1, steps + 1),
        storage,
    )
    (layout,) = forward.layouts
    return Objective(forward, [LeastSquares(np.zeros(layout.size), 1.0, layout)], {})


def timed(action: Callable[[], Any]) -> tuple[float, Any]:
    comm.Barrier()
    start = time.perf_counter()
    found = action()
    return comm.allreduce(time.perf_counter() - start, op=MPI.MAX), found


def gradient(
    objective: Objective, values: dict[str, float], repeats: int = 2
) -> tuple[float, float]:
    """Seconds of the forward run and of forward run and gradient together, the best of some."""
    m, found = objective.space.from_values(values), []
    for _ in range(repeats):
        forward, at = timed(lambda: value_of(objective.linearize(m)))
        backward, _ = timed(at.gradient)
        found.append((forward, forward + backward))
        at.destroy()
    return min(f for f, _ in found), min(t for _, t in found)


def value_of(at: Any) -> Any:
    """The point, after its trajectories ran."""
    assert np.isfinite(at.value)
    return at


def gray_scott_rows() -> list[Row]:
    rows = []
    for fused in (True, False):
        J = gray_scott(512, 100, fused=fused)
        forward, both = gradient(J, {"Du": 0.16, "Dv": 0.08, "F": 0.035, "k": 0.06})
        rows.append(
            {
                "part": "Gray-Scott 512^2, 100 explicit steps",
                "path": "fused" if fused else "assembled",
                "forward s": forward,
                "gradient s": both,
                "peak MB": peak_memory_mb(comm),
            }
        )
        J.destroy()
    return rows


def gradient_rows() -> list[Row]:
    """The cost of a gradient in forward runs, all kept and at a tenth of the memory."""
    rows, steps, n = [], 100, 128
    cells = n * n * 8
    for name, make, values, size in (
        (
            "Gray-Scott",
            gray_scott,
            {"Du": 0.16, "Dv": 0.08, "F": 0.035, "k": 0.06},
            2 * cells,
        ),
        ("Fisher-KPP implicit", fisher, {"D": 0.01, "r": 3.0}, cells),
    ):
        reference = None
        for share in (None, 0.1):
            J = make(
                n,
                steps,
                Storage(None if share is None else share * steps * size / comm.size),
            )
            forward, both = gradient(J, values)
            reference = reference or forward
            assert isinstance(J.forward, Evolution)
            plan = J.forward.storage
            rows.append(
                {
                    "part": f"{name} {n}^2, {steps} steps",
                    "memory": "all" if share is None else share,
                    "gradient / forward": both / reference,
                    "recomputation predicted": plan.predicted,
                }
            )
            J.destroy()
    return rows


def diffusion_rows(n: int) -> list[Row]:
    """Implicit steps from a bell: Krylov iterations, and the time of a step in products with A, all
    that a step does counted, the shortest of three runs after the first, which sets up."""
    rows, steps = [], 50
    grid = Grid((n, n))
    for number in (1.0, 10.0, 100.0, 1000.0):
        dt = number / n**2
        space = ParameterSpace(grid, [Unknown("D", block=Shared())])
        forward = Evolution(
            space,
            Equation(grid, [Diffusion(grid, "D")]),
            {},
            [Experiment({"u": "exp(-60*((x - 0.4)**2 + (y - 0.5)**2))"})],
            [snapshots(grid, [steps * dt])],
            SCHEMES["backward-euler"],
            np.linspace(0, steps * dt, steps + 1),
            Storage(forward_only=True),
        )
        m, runs, products, counts = space.from_values({"D": 1.0}), [], [], []
        for _ in range(4):
            before = forward.counters.krylov_iterations
            seconds, lin = timed(partial(forward.linearize, m))
            runs.append(seconds / steps)
            products.append(product_seconds(forward.part.matrices[0].mat, grid))
            counts.append((forward.counters.krylov_iterations - before) / steps)
            lin.destroy()
        step, product = min(runs[1:]), min(products)
        rows.append(
            {
                "part": f"diffusion step {n}^2",
                "dt D/h^2": number,
                "iterations": counts[-1],
                "seconds a step": step,
                "products with A": step / product,
            }
        )
        forward.destroy()
    return rows


def product_seconds(A: Any, grid: Grid, repeats: int = 50) -> float:
    """Of one product with A."""
    x, y = grid.create_scalar(), grid.create_scalar()
    x.set(1.0)
    A.mult(x, y)
    seconds, _ = timed(lambda: [A.mult(x, y) for _ in range(repeats)])
    x.destroy()
    y.destroy()
    return seconds / repeats


def presb_rows(sizes: list[int]) -> list[Row]:
    rows = []
    for n in sizes:
        grid = Grid((n, n), boundaries=dict.fromkeys(SIDES, "dirichlet"))
        space = ParameterSpace(grid, [Unknown("D", block=Shared())])
        for dt in (1e-4, 1e-3, 1e-2, 1e-1):
            for strength in (0.0, 1e4):
                x, y = grid.coordinates()
                V = strength * ((x - 0.5) ** 2 + (y - 0.5) ** 2)
                bell = "exp(-200*((x - 0.4)**2 + (y - 0.5)**2))"
                packet = Experiment(
                    {"re": f"{bell}*cos(40*x)", "im": f"{bell}*sin(40*x)"}
                )
                equation = Equation(
                    grid, [Diffusion(grid, "D"), Reaction(grid, "V")], ("re", "im"), 1j
                )
                forward = Evolution(
                    space,
                    equation,
                    {"V": V},
                    [packet],
                    [snapshots(grid, [3 * dt], "re")],
                    SCHEMES["crank-nicolson"],
                    np.linspace(0, 3 * dt, 4),
                )
                lin = forward.linearize(space.from_values({"D": 0.5}))
                rows.append(
                    {
                        "part": f"PRESB {n}^2",
                        "dt": dt,
                        "V": strength,
                        "iterations": forward.counters.krylov_iterations / 3,
                    }
                )
                lin.destroy()
                forward.destroy()
    return rows


def brain_rows(cells: list[int], steps: int = 50) -> list[Row]:
    """The case meshes/brain_tumour.toml, with data of the same grid: forward run and gradient, and
    the memory of both."""
    case = load_case(
        Path(__file__).parents[1] / "meshes/brain_tumour.toml", comm, cells=cells
    )
    times = case.table.time and case.table.time.times
    assert isinstance(times, EqualSteps)
    times.steps = steps
    case.table.simulation.refine = 1
    case.set_petsc_options()
    ensemble = Ensemble.split(comm, 1, case.experiment_count)
    grid = case.grid(comm)
    case.prepare(ensemble)
    J, m = case.build(grid, ensemble)
    forward, at = timed(lambda: value_of(J.linearize(m)))
    backward, _ = timed(at.gradient)
    return [
        {
            "part": f"brain tumour {' x '.join(map(str, grid.shape))}, {grid.active_size:,} "
            f"active, {steps} steps",
            "forward s": forward,
            "gradient s": forward + backward,
            "peak MB": peak_memory_mb(comm),
        }
    ]


def main() -> None:
    p = parser("evolution", __doc__ or "")
    p.add_argument(
        "--parts",
        nargs="+",
        default=["gray-scott", "gradient", "diffusion", "presb"],
        help="of gray-scott, gradient, diffusion, presb, brain",
    )
    p.add_argument(
        "--brain", nargs=3, type=int, default=[197, 233, 189], help="cells of the brain"
    )
    p.add_argument(
        "--sizes",
        nargs="+",
        type=int,
        default=[128, 256, 512, 1024],
        help="of PRESB's grids; diffusion takes the last",
    )
    options = p.parse_args()
    rows: list[Row] = []
    if "gray-scott" in options.parts:
        rows += gray_scott_rows()
    if "gradient" in options.parts:
        rows += gradient_rows()
    if "diffusion" in options.parts:
        rows += diffusion_rows(options.sizes[-1])
    if "presb" in options.parts:
        rows += presb_rows(options.sizes)
    if "brain" in options.parts:
        rows += brain_rows(options.brain)
    report("evolution", rows, options.out)


if __name__ == "__main__":
    main()
