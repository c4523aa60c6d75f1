"""Peak memory of one gradient, and whether memory grows over many; with --case that of the rank
with the most, over what imports take, after a case was read and after one gradient.

mpirun -n 2 python benchmarks/memory.py [--size 4096] [--flat-size 512] [--gradients 50]
mpirun -n 2 python benchmarks/memory.py --case meshes/brain.toml --grid 73 91 78

Data of the case are not simulated: 0 is fitted, which takes the same memory.
"""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
from common import Row, comm, parser, report, seconds, smooth, synthetic
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.cases import load_case
from npde_opt.ensemble import Ensemble
from npde_opt.io.results import peak_memory_mb, peak_memory_mb_of_a_rank
from npde_opt.misfits import LeastSquares
from npde_opt.objective import Objective


def resident_mb() -> float:
    """Resident memory of all ranks in MB. Collective."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return float(comm.allreduce(pages * 4096 / 1e6, op=MPI.SUM))


def of_case(
    path: Path, cells: list[int] | None, data: Path | None, imports: float | None = None
) -> list[Row]:
    """Of reading a case and of one gradient. Collective.

    Args:
        imports: MB of a rank before all; None: as it is now.
    """
    rows: list[Row] = []
    imports = peak_memory_mb_of_a_rank(comm) if imports is None else imports

    def step(name: str, active: int, largest: int, box: int) -> None:
        most = peak_memory_mb_of_a_rank(comm) - imports
        rows.append(
            {
                "ranks": comm.size,
                "what": name,
                "MB of a rank over imports": most,
                "active cells": active,
                "of a rank": largest,
                "of its box": box,
            }
        )

    case = load_case(path, comm, cells=cells, data=data)
    ensemble = Ensemble.split(comm, 1, case.experiment_count)
    grid = case.grid(ensemble.space)
    active = int(np.count_nonzero(grid.active))
    most = [comm.allreduce(k, op=MPI.MAX) for k in (active, grid.active.size)]
    sizes = grid.active_size, most[0], most[1]
    on = case.on(grid)
    forward = on.forward(range(case.experiment_count), case.times(), case.storage(grid))
    m = on.start()
    misfits = [
        LeastSquares(np.zeros((w.order.size, w.columns)), 1.0, w, owned=True)
        for w in forward.layouts
    ]
    objective = Objective(forward, misfits, {}, ensemble)
    step("read", *sizes)
    at = objective.linearize(m)
    at.gradient()
    step("one gradient", *sizes)
    return rows


def main() -> None:
    args = parser("memory", __doc__)
    args.add_argument("--size", type=int, default=4096)
    args.add_argument("--flat-size", type=int, default=512)
    args.add_argument("--gradients", type=int, default=50)
    args.add_argument("--case", type=Path)
    args.add_argument("--grid", type=int, nargs="+", metavar="N")
    args.add_argument("--data", type=Path, metavar="DIR")
    given = args.parse_args()
    if given.case is not None:
        report("memory", of_case(given.case, given.grid, given.data), given.out)
        return
    rows: list[Row] = []

    objective = synthetic(given.flat_size)
    m = objective.create_vec()
    objective.space.own(m, "D")[...] = 0.3 * smooth(objective.forward.grid)
    resident = []
    for _ in range(given.gradients):
        m.scale(1.001)
        at = objective.linearize(m)
        at.gradient()
        at.destroy()
        PETSc.garbage_cleanup(comm)
        resident.append(resident_mb())
    growth = resident[-1] - resident[min(4, len(resident) - 1)]
    rows.append(
        {
            "what": f"growth, gradients 5 to {given.gradients}",
            "cells": f"{given.flat_size}^2",
            "MB": growth,
            "resident": resident[-1],
        }
    )
    objective.destroy()
    m.destroy()
    del objective, at
    gc.collect()
    PETSc.garbage_cleanup(comm)
    if given.size:
        steps = []

        def step(name: str) -> None:
            steps.append(
                {
                    "what": name,
                    "cells": f"{given.size}^2",
                    "MB": peak_memory_mb(comm),
                    "resident": resident_mb(),
                }
            )

        objective = synthetic(given.size)
        step("peak after set-up")
        m = objective.create_vec()
        objective.space.own(m, "D")[...] = 0.3 * smooth(objective.forward.grid)
        step("peak with the start")
        at = objective.linearize(m)
        at.value  # noqa: B018
        step("peak after the state")
        elapsed = seconds(at.gradient, 1)
        step("peak after the gradient")
        rows += [
            *steps,
            {
                "what": "adjoint and gradient, s",
                "cells": f"{given.size}^2",
                "MB": elapsed,
            },
        ]
    report("memory", rows, given.out)


if __name__ == "__main__":
    main()
