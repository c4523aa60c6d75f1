"""Cost of the state solve in products with A: set-up, update for new values, solve to 1e-8;
iterations by grid size.

python benchmarks/solve_cost.py [--size 1024] [--sizes 256 512 2048] [--large]
    [--recipes geometric gamg]
"""

from __future__ import annotations

from functools import partial

import numpy as np
from common import FIELDS, Row, parser, report, seconds, unit_square
from petsc4py import PETSc

from npde_opt.linear.recipes import LinearSolver, has_package
from npde_opt.operators.stencils import StencilMatrix
from npde_opt.terms import Diffusion

TARGETS = {("smooth", "solve"): 100, ("smooth", "update"): 40, ("rough", "solve"): 280}


def fill(matrix: StencilMatrix, k: np.ndarray) -> None:
    planes = matrix.zeroed()
    Diffusion(matrix.grid, "k").at({"k": k}).add_planes(planes)
    matrix.refresh()


def measure(n: int, recipe: str, repeats: int) -> list[Row]:
    """One row a field; costs only where `repeats`."""
    grid, rows = unit_square(n), []
    fields = {name: np.exp(f(grid)) for name, f in FIELDS.items()}
    matrix = StencilMatrix(grid)
    b, x = grid.create_scalar(), grid.create_scalar()
    grid.view(b)[...] = grid.volume
    for name, k in fields.items():
        fill(matrix, k)
        made: list[LinearSolver] = []

        def set_up(made: list[LinearSolver] = made) -> None:
            made.append(LinearSolver(matrix, grid, "bench_", recipe))
            made[-1].update()

        set_up_time = seconds(set_up, 1)
        solver = made[0]
        solver.ksp.setInitialGuessNonzero(False)
        solver.solve(b, x)
        row: Row = {
            "recipe": recipe,
            "cells": f"{n}^2",
            "field": name,
            "iterations": solver.ksp.getIterationNumber(),
        }
        if repeats:
            y = b.duplicate()
            found = []
            for _ in range(repeats):
                product = seconds(partial(matrix.mat.mult, x, y), 10)
                fill(matrix, k)
                update, solve = (
                    seconds(solver.update, 1),
                    seconds(partial(solver.solve, b, x), 1),
                )
                found.append((product, update / product, solve / product))
            product, update, solve = np.median(found, axis=0)
            row |= {
                "product_ms": 1e3 * product,
                "set_up": set_up_time / product,
                "update": update,
                "solve": solve,
            }
            row |= {
                f"target_{what}": TARGETS[name, what]
                for what in ("update", "solve")
                if recipe == "geometric" and (name, what) in TARGETS
            }
            y.destroy()
        rows.append(row)
        solver.destroy()
    for owned in (b, x, matrix, grid):
        owned.destroy()
    return rows


def main() -> None:
    args = parser("solve_cost", __doc__)
    args.add_argument("--size", type=int, default=1024, help="where costs are measured")
    args.add_argument(
        "--sizes",
        type=int,
        nargs="*",
        default=[256, 512, 2048],
        help="where iterations are counted",
    )
    args.add_argument("--large", action="store_true", help="4096^2 too")
    args.add_argument(
        "--recipes", nargs="*", default=["geometric", "gamg"] + ["hypre"] * has_package("hypre")
    )
    args.add_argument("--repeats", type=int, default=5)
    given = args.parse_args()
    rows = []
    for recipe in given.recipes:
        rows += measure(given.size, recipe, given.repeats)
    for n in given.sizes + [4096] * given.large:
        rows += measure(n, "geometric", 0)
        PETSc.garbage_cleanup()
    report("solve_cost", rows, given.out)


if __name__ == "__main__":
    main()
