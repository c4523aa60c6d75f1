"""Two parameters from starts over six decades: every run reaches the minimum, or says that it did
not.

    python benchmarks/far_starts.py [--problems diffusion pumping assay] [--methods newton ncg]
        [--decades 3]

Data are simulated on the grid of the fit, with noise. A run is *right* where it is 'converged' and
its objective is that of the best run, *honest* where it has another status, and *wrong* where it is
'converged' elsewhere.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from pathlib import Path

from common import Row, comm, parser, report

from npde_opt import nested
from npde_opt.cases import load_case
from npde_opt.ensemble import Ensemble
from npde_opt.errors import SolverError
from npde_opt.optimizers import METHODS

REACHED = 0.02
"""Objectives within this of the best are the same minimum: twice the decrement of a converged
run."""

UNKNOWNS = """
[[unknown]]
name = "{first}"
kind = "scalar"
initial = {a}
truth = {true_a}
[[unknown]]
name = "{second}"
kind = "scalar"
initial = {b}
truth = {true_b}
[simulation]
refine = 1
steps = 1
"""

DIFFUSION = """
[grid]
shape = [32]
extent = [32.0]
[boundaries]
"x+" = "dirichlet"
[equation]
terms = [{ diffusion = "D" }]
known = { well = { expression = "where(x<1, 1.0, 0.0)" } }
[time]
scheme = "backward-euler"
times = { end = 10.0, steps = 40 }
[[experiment]]
sources = [{ shape = "w*well" }]
[[observation]]
times = { start = 0.5, end = 10.0, count = 20 }
points = [[2.5], [8.5]]
noise = 0.01
"""

PUMPING = """
[grid]
edges = [
    { first = 1.0, equal = 2, growth = 1.7, count = 16 },
    { first = 1.0, equal = 2, growth = 1.7, count = 16 },
]
[boundaries]
"x+" = "dirichlet"
"y+" = "dirichlet"
[equation]
terms = [{ diffusion = "D" }]
known = { Q = 0.0195, well = { expression = "where((x<1)*(y<1), 1.0, 0.0)" } }
recipe = "direct"
[time]
scheme = "backward-euler"
times = { end = 850.0, first = 0.02, repeats = 4 }
[[experiment]]
sources = [{ shape = "-w*Q*well" }]
[[observation]]
times = [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 240.0, 480.0, 850.0]
points = [[24.8, 16.9], [74.3, 50.8]]
noise = 0.03
"""

ASSAY = """
[grid]
shape = [37]
extent = [1.85]
[equation]
terms = [{ diffusion = "D" }, { kinetics = "fisher-kpp" }]
known = { K = 1700.0 }
[time]
scheme = "crank-nicolson"
times = { end = 2.0, steps = 32 }
[[experiment]]
initial = { u = "where(abs(x - 0.92) < 0.3, 0.0, 300.0)" }
[[observation]]
times = [0.5, 1.0, 1.5, 2.0]
noise = 0.05
"""

PROBLEMS = {
    "diffusion": (DIFFUSION, ("D", 10.0), ("w", 1.0)),
    "pumping": (PUMPING, ("D", 360.0), ("w", 39000.0)),
    "assay": (ASSAY, ("D", 0.008), ("r", 1.04)),
}
"""Text, and name and truth of the two parameters: a source at one end; a pumped well; cells that
grow into a scratch."""


def run(folder: Path, problem: str, method: str, factors: tuple[float, float]) -> Row:
    """One identification from the truth times the factors."""
    text, (first, true_a), (second, true_b) = PROBLEMS[problem]
    path = folder / f"{problem}.toml"
    if comm.rank == 0:
        path.write_text(
            text
            + UNKNOWNS.format(
                first=first,
                second=second,
                a=true_a * factors[0],
                b=true_b * factors[1],
                true_a=true_a,
                true_b=true_b,
            )
        )
    comm.barrier()
    case = load_case(path, comm)
    ensemble = Ensemble.split(comm, 1, 1)
    case.prepare(ensemble)
    row: Row = {"problem": problem, "method": method, "factors": list(factors)}
    try:
        found = nested.identify(
            case.grid(comm), lambda g: case.build(g, ensemble), case.settings(method), 1
        )
    except SolverError as error:
        return row | {
            "status": "solver error",
            "objective": float("inf"),
            "iterations": 0,
            "reason": str(error),
        }
    result = found.result
    found.objective.destroy()
    if comm.rank == 0:
        print(
            problem,
            method,
            factors,
            result.status,
            result.iterations,
            f"{result.objective:.8g}",
            flush=True,
        )
    return row | {
        "status": result.status,
        "objective": result.objective,
        "iterations": result.iterations,
        "reason": result.reason,
    }


def judged(rows: list[Row]) -> list[Row]:
    """The rows of one problem with `reached` and `verdict`, against the best of them."""
    best = min(row["objective"] for row in rows)
    for row in rows:
        row["reached"] = row["objective"] <= best + REACHED
        row["verdict"] = (
            "honest"
            if row["status"] != "converged"
            else "right"
            if row["reached"]
            else "wrong"
        )
    return rows


def counted(rows: list[Row]) -> list[Row]:
    """A line a problem and method: how many starts, how they ended, and the median iterations of
    the right ones."""
    lines = []
    for (problem, method), some in itertools.groupby(
        rows, lambda row: (row["problem"], row["method"])
    ):
        group = list(some)
        count = {
            v: sum(row["verdict"] == v for row in group)
            for v in ("right", "honest", "wrong")
        }
        steps = sorted(row["iterations"] for row in group if row["verdict"] == "right")
        lines.append(
            {
                "problem": problem,
                "method": method,
                "starts": len(group),
                **count,
                "iterations": steps[len(steps) // 2] if steps else "-",
            }
        )
    return lines


def main() -> int:
    options = parser("far_starts", __doc__ or "")
    options.add_argument(
        "--problems", nargs="+", default=list(PROBLEMS), choices=list(PROBLEMS)
    )
    options.add_argument(
        "--methods", nargs="+", default=list(METHODS), choices=list(METHODS)
    )
    options.add_argument(
        "--decades", type=float, default=3.0, help="how far either way from the truth"
    )
    given = options.parse_args()
    factors = [10.0**-given.decades, 1.0, 10.0**given.decades]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as own:
        folder = comm.bcast(Path(own), root=0)
        for problem in given.problems:
            starts = list(itertools.product(factors, factors))
            rows += judged(
                [
                    run(folder, problem, method, start)
                    for method in given.methods
                    for start in starts
                ]
            )
        comm.barrier()
    if comm.rank == 0:
        for row in rows:
            if row["verdict"] != "right":
                print(
                    f"{row['problem']} {row['method']} x{row['factors']}: {row['status']}, "
                    f"objective {row['objective']:.6g}"
                    f"{' (reached)' if row['reached'] else ''}: {row['reason'][:150]}"
                )
    report("far_starts", counted(rows), given.out)
    return int(any(row["verdict"] == "wrong" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
