"""A task of bench.py by npde_opt, answered as peers/clock.py does.

python benchmarks/bench_ours.py TASK SIZE [--matrix FILE]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import FIELDS, log_grid, synthetic, unit_square
from evolution import fisher, gray_scott
from solve_cost import Trial, fill

from npde_opt.forward import Storage
from npde_opt.grids import Grid
from npde_opt.linear.recipes import LinearSolver
from npde_opt.nested import identify
from npde_opt.objective import Objective
from npde_opt.operators.stencils import StencilMatrix
from npde_opt.optimizers import Settings

sys.path.insert(0, str(Path(__file__).parent / "peers"))
from clock import answer  # noqa: E402

Found = dict[str, float]


def gradient_of(
    J: Objective, values: dict[str, np.ndarray | float]
) -> Callable[[], Found]:
    m = J.space.from_values(values)

    def gradient() -> Found:
        # New values, so that all is assembled and factored anew, as the peers do.
        m.scale(1 + 1e-9)
        at = J.linearize(m)
        found = {"value": at.value, "norm": at.gradient().norm()}
        at.destroy()
        return found

    return gradient


def implicit(n: int) -> Callable[[], Found]:
    J = fisher(n, 50)
    x, y = J.space.grid.coordinates()
    D = 0.01 * np.exp(np.sin(6 * x) * np.cos(5 * y))
    return gradient_of(J, {"D": D, "r": 3.0})


def explicit(n: int) -> Callable[[], Found]:
    return gradient_of(
        gray_scott(n, 100), {"Du": 0.16, "Dv": 0.08, "F": 0.035, "k": 0.06}
    )


def forward(n: int) -> Callable[[], Found]:
    # The peer keeps no states either.
    J = gray_scott(n, 100, Storage(forward_only=True))
    m = J.space.from_values({"Du": 0.16, "Dv": 0.08, "F": 0.035, "k": 0.06})

    def run() -> Found:
        at = J.linearize(m)
        found = {"value": at.value}
        at.destroy()
        return found

    return run


def solve(n: int, file: Path) -> Callable[[], Found]:
    """Update and solve for one matrix, which is exported first with its right-hand side."""
    grid = unit_square(n)
    matrix = StencilMatrix(grid)
    fill(matrix, np.exp(FIELDS["smooth"](grid)))
    rows, columns, values = matrix.mat.getValuesCSR()
    trial = Trial(matrix, "auto", "smooth")
    b = trial.b.getArray().copy()
    np.savez(file, rows=rows, columns=columns, values=values, b=b)

    def run() -> Found:
        # As the peers, which set up with every matrix.
        solver = LinearSolver(matrix, grid, "bench_", norm="unpreconditioned")
        solver.update()
        trial.x.set(0.0)
        solver.solve(trial.b, trial.x)
        found = {"residual": trial.true_residual(), "value": trial.b.dot(trial.x)}
        solver.destroy()
        return found

    return run


def identification(n: int) -> Callable[[], Found]:
    def build(grid: Grid):  # type: ignore[no-untyped-def]
        objective = synthetic(grid)
        return objective, objective.create_vec()

    def run() -> Found:
        levels = max(int(np.log2(n)) - 3, 1)
        found = identify(log_grid(n), build, Settings(method="newton"), levels)
        value = found.result.objective
        found.result.m.destroy()
        found.objective.destroy()
        return {"value": value}

    return run


STEPS = {"implicit": implicit, "explicit": explicit, "forward": forward}


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("task", choices=[*STEPS, "solve", "identify"])
    args.add_argument("size", type=int)
    args.add_argument("--matrix", type=Path, default=Path("matrix.npz"))
    given = args.parse_args()
    if given.task == "solve":
        answer(solve(given.size, given.matrix))
    elif given.task == "identify":
        answer(identification(given.size), repeats=1)
    else:
        answer(STEPS[given.task](given.size))


if __name__ == "__main__":
    main()
