"""Peak memory of one gradient, and whether memory grows over many.

mpirun -n 2 python benchmarks/memory.py [--size 4096] [--flat-size 512] [--gradients 50]
"""

from __future__ import annotations

import gc
from pathlib import Path

from common import Row, comm, parser, report, seconds, smooth, synthetic
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.io.results import peak_memory_mb


def resident_mb() -> float:
    """Resident memory of all ranks in MB. Collective."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return float(comm.allreduce(pages * 4096 / 1e6, op=MPI.SUM))


def main() -> None:
    args = parser("memory", __doc__)
    args.add_argument("--size", type=int, default=4096)
    args.add_argument("--flat-size", type=int, default=512)
    args.add_argument("--gradients", type=int, default=50)
    given = args.parse_args()
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
