"""Cost of the state solve to a true relative residual of 1e-8: set-up, update for new values and
solve in products with A and in processor milliseconds, in 2-D and 3-D; iterations by grid size.

All recipes take the same matrix in one process, in turn; only ratios of one run say anything. The
residual that a solve in the recipe's own norm leaves is beside (own_iterations, own_true).

python benchmarks/solve_cost.py [--size 1024] [--volume 96] [--masked 48] [--sizes 256 512 2048]
    [--large] [--recipes geometric planes gamg]
python benchmarks/solve_cost.py --hard [PROBLEM ...] [--recipes planes direct]
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
from common import FIELDS, Row, parser, report, rough, smooth, unit_square
from hard import PROBLEMS, Hard
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.errors import SolverError
from npde_opt.grids import Grid
from npde_opt.linear.direct import has_package
from npde_opt.linear.recipes import LinearSolver
from npde_opt.linear.residual import relative
from npde_opt.operators.stencils import StencilMatrix
from npde_opt.terms import Diffusion


def processor_seconds(action: Callable[[], object], comm: MPI.Intracomm) -> float:
    """Of the rank that takes longest. Collective."""
    comm.Barrier()
    start = time.process_time()
    action()
    return float(comm.allreduce(time.process_time() - start, op=MPI.MAX))


def fill(matrix: StencilMatrix, k: np.ndarray) -> None:
    planes = matrix.zeroed()
    Diffusion(matrix.grid, "k").at({"k": k}).add_planes(planes)
    matrix.refresh()


def unit_cube(n: int) -> Grid:
    """n^3 cells with zero Dirichlet values all round."""
    sides = (a + s for a in "xyz" for s in "-+")
    return Grid((n, n, n), boundaries=dict.fromkeys(sides, "dirichlet"))


def ellipsoid(n: int) -> Grid:
    """The cells of n^3 in the ball that touches all sides, without an eighth of it: 46 %."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n),) * 3, indexing="ij")
    active = (x**2 + y**2 + z**2 < 1.01) & ((x < 0) | (y < 0) | (z < 0))
    sides = (a + s for a in "xyz" for s in "-+")
    return Grid((n, n, n), active=active, boundaries=dict.fromkeys(sides, "dirichlet"))


def coefficients(grid: Grid) -> dict[str, np.ndarray]:
    """Smooth and rough ones; the smooth one of a cube is the square's in every plane."""
    if grid.dim == 2:
        return {name: np.exp(field(grid)) for name, field in FIELDS.items()}
    square = unit_square(grid.shape[0], MPI.COMM_SELF)
    plane = smooth(square)[grid.local_slice[:2]]
    square.destroy()
    whole = np.broadcast_to(plane[:, :, None], grid.local_shape)
    return {"smooth": np.exp(np.asfortranarray(whole)), "rough": np.exp(rough(grid))}


class Trial:
    """One recipe on one matrix."""

    def __init__(self, matrix: StencilMatrix, recipe: str, name: str):
        grid = matrix.grid
        self.matrix, self.grid, self.name = matrix, grid, name
        self.b, self.x, self.work = (grid.create_active() for _ in range(3))
        shape = grid.local_shape
        grid.put(np.asfortranarray(np.broadcast_to(grid.volume, shape)), self.b)
        made: list[LinearSolver] = []

        def set_up() -> None:
            made.append(
                LinearSolver(matrix, grid, "bench_", recipe, norm="unpreconditioned")
            )
            made[-1].update()

        self.set_up = processor_seconds(set_up, grid.comm)
        self.solver = made[0]
        self.found = list[tuple[float, float]]()

    def solve(self) -> None:
        self.x.set(0.0)
        self.solver.solve(self.b, self.x)

    def true_residual(self) -> float:
        return relative(self.matrix.operator, self.b, self.x, self.work)[0]

    def repeat(self) -> None:
        """Update and solve once more."""
        update = processor_seconds(self.solver.update, self.grid.comm)
        self.found.append((update, processor_seconds(self.solve, self.grid.comm)))

    def row(self) -> Row:
        self.solve()
        cells = f"{self.grid.shape[0]}^{self.grid.dim}"
        if self.grid.mask is not None:
            cells += f", {self.grid.active_size / self.grid.size:.0%}"
        return {
            "recipe": self.solver.recipe,
            "cells": cells,
            "field": self.name,
            "iterations": self.solver.ksp.getIterationNumber(),
            "true": self.true_residual(),
        }

    def own(self, recipe: str) -> Row:
        """What a solve in the recipe's own norm takes and leaves."""
        solver = LinearSolver(self.matrix, self.grid, "bench_", recipe)
        solver.update()
        self.x.set(0.0)
        solver.solve(self.b, self.x)
        iterations = solver.ksp.getIterationNumber()
        solver.destroy()
        return {"own_iterations": iterations, "own_true": self.true_residual()}

    def destroy(self) -> None:
        self.solver.destroy()
        for vec in (self.b, self.x, self.work):
            vec.destroy()


def measure(grid: Grid, recipes: list[str], repeats: int) -> list[Row]:
    """A row a field and recipe; costs only where `repeats`."""
    rows, matrix = list[Row](), StencilMatrix(grid)
    for name, k in coefficients(grid).items():
        fill(matrix, k)
        trials = {recipe: Trial(matrix, recipe, name) for recipe in recipes}
        found = {recipe: trial.row() for recipe, trial in trials.items()}
        products = []
        for _ in range(repeats):
            x, y = next(iter(trials.values())).x, next(iter(trials.values())).work
            mult = partial(matrix.mat.mult, x, y)
            products += [processor_seconds(mult, grid.comm) for _ in range(5)]
            for trial in trials.values():
                fill(matrix, k)
                trial.repeat()
        if repeats:
            first = np.min(trials[recipes[0]].found, axis=0)
            for recipe, trial in trials.items():
                costs = np.min(trial.found, axis=0)
                found[recipe] |= _costs(costs, first, min(products), trial.set_up)
                found[recipe] |= trial.own(recipe)
        rows += found.values()
        for trial in trials.values():
            trial.destroy()
    matrix.destroy()
    grid.destroy()
    return rows


def _costs(costs: np.ndarray, first: np.ndarray, product: float, set_up: float) -> Row:
    """In products, in milliseconds, and how many times less than the first recipe."""
    (update, solve), (update_ratio, solve_ratio) = costs, first / costs
    return {
        "product_ms": 1e3 * product,
        "set_up": set_up / product,
        "update": update / product,
        "solve": solve / product,
        "update_ms": 1e3 * update,
        "solve_ms": 1e3 * solve,
        "update_ratio": update_ratio,
        "solve_ratio": solve_ratio,
    }


def hard_row(problem: Hard, name: str, recipe: str) -> Row:
    """Iterations to a true 1e-8 from a random right-hand side, and costs of new values and of a
    solve, the second with them."""
    grid, matrix = problem.system(MPI.COMM_WORLD)
    solver = LinearSolver(matrix, grid, "bench_", recipe, norm="unpreconditioned")
    b, x, work = (grid.create_active() for _ in range(3))
    f = np.random.default_rng(2).standard_normal(grid.shape)[grid.local_slice]
    grid.put(np.asfortranarray(f), b)
    row: Row = {"problem": name, "cells": "x".join(map(str, grid.shape))}

    def solve() -> None:
        x.set(0.0)
        solver.solve(b, x)

    solver.update()
    try:
        # The first one finds out which levels hold, and loads loops.
        solve()
        row["first"] = solver.ksp.getIterationNumber()
        problem.fill(matrix)
        update = processor_seconds(solver.update, grid.comm)
        solved = processor_seconds(solve, grid.comm)
        row |= {
            "recipe": solver.recipe,
            "iterations": solver.ksp.getIterationNumber(),
            "true": relative(matrix.operator, b, x, work)[0],
            "update_ms": 1e3 * update,
            "solve_ms": 1e3 * solved,
            "levels": solver.planes.reason if solver.planes else "",
        }
    except SolverError as error:
        row |= {"recipe": recipe, "levels": str(error)[:60]}
    solver.destroy()
    matrix.destroy()
    grid.destroy()
    return row


def main() -> None:
    args = parser("solve_cost", __doc__)
    args.add_argument("--size", type=int, default=1024, help="of the square; 0: none")
    args.add_argument("--volume", type=int, default=96, help="of the cube; 0: none")
    args.add_argument(
        "--masked", type=int, default=0, help="cube of an ellipsoid; 0: none"
    )
    args.add_argument(
        "--sizes",
        type=int,
        nargs="*",
        default=[256, 512, 2048],
        help="where iterations are counted",
    )
    args.add_argument("--large", action="store_true", help="4096^2 too")
    known = ["geometric", "planes", "gamg"]
    args.add_argument(
        "--recipes", nargs="*", default=known + ["hypre"] * has_package("hypre")
    )
    args.add_argument("--repeats", type=int, default=5)
    args.add_argument(
        "--hard", nargs="*", choices=list(PROBLEMS), help="these alone; all by default"
    )
    given = args.parse_args()
    rows = list[Row]()
    if given.hard is not None:
        for name in given.hard or PROBLEMS:
            problem = PROBLEMS[name]()
            rows += [hard_row(problem, name, recipe) for recipe in given.recipes]
        report("solve_cost_hard", rows, given.out.with_stem("solve_cost_hard"))
        return
    if given.size:
        rows += measure(unit_square(given.size), given.recipes, given.repeats)
    if given.volume:
        rows += measure(unit_cube(given.volume), given.recipes, given.repeats)
    if given.masked:
        rows += measure(ellipsoid(given.masked), given.recipes, given.repeats)
    for n in given.sizes + [4096] * given.large:
        rows += measure(unit_square(n), given.recipes[:2], 0)
        PETSc.garbage_cleanup()
    report("solve_cost", rows, given.out)


if __name__ == "__main__":
    main()
