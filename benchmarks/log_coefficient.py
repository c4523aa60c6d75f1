"""The log-coefficient benchmark: Newton and CG counts, objective, solves and seconds by grid and
ranks.

    [mpirun -n 2] python benchmarks/log_coefficient.py --data DIR [--sizes 128 256 512] [--levels 4]

DIR (or NPDE_DATA) has log_coefficient/observations.npz or observations.npz itself. With --levels,
nested iteration over that many grids. A reference code with linear elements ends at 153.1589,
152.9999, 152.9548 on 128^2, 256^2, 512^2.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
from common import Row, comm, log_coefficient, log_grid, parser, report
from petsc4py import PETSc

from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.nested import identify
from npde_opt.objective import Objective
from npde_opt.optimizers import Settings, minimize


def observations(folder: str | None) -> tuple[np.ndarray, np.ndarray]:
    if not folder:
        raise InputError(
            "--data",
            "nothing",
            "the folder with log_coefficient/observations.npz (or set NPDE_DATA)",
        )
    places = [
        Path(folder) / "log_coefficient" / "observations.npz",
        Path(folder) / "observations.npz",
    ]
    found = next((p for p in places if p.exists()), None)
    if found is None:
        raise InputError(
            "--data", folder, "a folder with log_coefficient/observations.npz"
        )
    with np.load(found) as file:
        return file["xy"], file["data"]


def run(
    n: int, levels: int, xy: np.ndarray, data: np.ndarray, settings: Settings
) -> Row:
    row: Row = {"cells": f"{n}^2", "ranks": comm.size, "levels": levels}
    grid = log_grid(n)
    comm.Barrier()
    start = time.perf_counter()
    if levels > 1:

        def build(g: Grid) -> tuple[Objective, PETSc.Vec]:
            objective = log_coefficient(g, xy, data)
            return objective, objective.create_vec()

        nested = identify(grid, build, settings, levels)
        result, objective = nested.result, nested.objective
        reference = nested.history[0]["gradient_norm"]
        solves = {"solves": nested.finest_solves, "all_solves": nested.total_solves}
    else:
        objective = log_coefficient(grid, xy, data)
        m = objective.create_vec()
        result = minimize(objective, m, settings)
        m.destroy()
        reference = result.gradient_norm_initial
        count = objective.counters
        solves = {"solves": count.forward_solves + count.adjoint_solves}
    elapsed = time.perf_counter() - start
    products = sum(
        int(r["inner_iterations"]) for r in result.history
    )  # of the finest grid
    row |= {
        "newton": result.iterations,
        "cg": products,
        "objective": f"{result.objective:.4f}",
        "gradient": result.gradient_norm / reference,
        **solves,
        "seconds": elapsed,
        "status": result.status,
    }
    result.m.destroy()
    objective.destroy()
    return row


def main() -> None:
    args = parser("log_coefficient", __doc__)
    args.add_argument("--data", default=os.environ.get("NPDE_DATA"))
    args.add_argument("--sizes", type=int, nargs="*", default=[128, 256, 512])
    args.add_argument(
        "--levels", type=int, nargs="*", default=[1], help="1: a single grid"
    )
    args.add_argument("--method", default="newton")
    args.add_argument(
        "--plain-cg", action="store_true", help="without re-orthogonalization"
    )
    given = args.parse_args()
    xy, data = observations(given.data)
    settings = Settings(method=given.method, reorthogonalize=not given.plain_cg)
    rows = []
    for n in given.sizes:
        for levels in given.levels:
            rows.append(run(n, levels, xy, data, settings))
            if comm.rank == 0:
                print(rows[-1], flush=True)
    report("log_coefficient", rows, given.out)


if __name__ == "__main__":
    main()
