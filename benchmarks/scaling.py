"""Strong scaling: seconds on 1, 2, ... ranks and the ratio to one rank, of one gradient, of an
identification of the log-coefficient problem by nested iteration, of 100 explicit steps of
Gray-Scott, forward only and with a gradient, and of products with B where data are cut evenly and
where rows lie on the owner of a place.

    python benchmarks/scaling.py [--size 2048] [--identify 512] [--explicit 512] [--data 256]
                                 [--ranks 1 2]

0 leaves a part out. Starts `mpirun` itself; --worker measures on the ranks it runs on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import Row, comm, log_grid, parser, report, seconds, smooth, synthetic
from evolution import gray_scott
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.forward import Storage
from npde_opt.grids import Grid
from npde_opt.nested import identify
from npde_opt.objective import Objective
from npde_opt.observations import (
    Functionals,
    Observer,
    Sampling,
    from_functionals,
    points_at,
    voxel_means,
)
from npde_opt.optimizers import Settings

PARTS = {
    "gradient": "--size",
    "identify": "--identify",
    "explicit": "--explicit",
    "data": "--data",
}
LEVELS = 4
TIMES = 20
"""Products that are timed together."""


def worker(size: int, repeats: int) -> Row:
    objective = synthetic(size)
    m = objective.create_vec()
    objective.space.own(m, "D")[...] = 0.3 * smooth(objective.forward.grid)

    def gradient() -> None:
        m.scale(1.0001)
        at = objective.linearize(m)
        at.gradient()
        at.destroy()

    gradient()
    before = objective.counters.krylov_iterations
    elapsed = seconds(gradient, repeats)
    mean = (objective.counters.krylov_iterations - before) / repeats
    return {
        "what": "gradient",
        "cells": f"{size}^2",
        "ranks": comm.size,
        "seconds": elapsed,
        "krylov": mean,
    }


def identification(n: int) -> Row:
    """With made-up observations, from the start to the end on the finest grid. One on a coarser
    grid comes first: in it the compiled code is loaded, as long on any number of ranks."""

    def build(grid: Grid) -> tuple[Objective, PETSc.Vec]:
        objective = synthetic(grid)
        return objective, objective.create_vec()

    elapsed = 0.0
    for cells in (max(n // 4, 32), n):
        comm.Barrier()
        start = time.perf_counter()
        found = identify(log_grid(cells), build, Settings(), LEVELS)
        elapsed = comm.allreduce(time.perf_counter() - start, op=MPI.MAX)
    return {
        "what": f"identification, {found.result.status}",
        "cells": f"{n}^2",
        "ranks": comm.size,
        "seconds": elapsed,
        "solves": found.total_solves,
    }


def explicit(n: int, repeats: int) -> list[Row]:
    """100 steps: forward with no state kept, and a gradient."""
    values = {"Du": 0.16, "Dv": 0.08, "F": 0.035, "k": 0.06}
    found = list[Row]()
    for what, storage in (
        ("forward", Storage(forward_only=True)),
        ("gradient", Storage()),
    ):
        objective = gray_scott(n, 100, storage)
        m = objective.space.from_values(values)

        def run(
            objective: Objective = objective,
            m: PETSc.Vec = m,
            derives: bool = what == "gradient",
        ) -> None:
            m.scale(1 + 1e-9)
            at = objective.linearize(m)
            at.gradient() if derives else at.value  # noqa: B018
            at.destroy()

        run()
        elapsed = seconds(run, repeats)
        found.append(
            {
                "what": f"explicit steps, {what}",
                "cells": f"{n}^2",
                "ranks": comm.size,
                "seconds": elapsed,
            }
        )
    return found


def rows_on_owners(grid: Grid, seen: Functionals) -> Sampling:
    """Rows on the first rank that has entries of them, numbered rank by rank."""
    own = np.unique(seen.rows)
    owner = np.full(seen.size, comm.size - 1)
    for rank, numbers in reversed(list(enumerate(comm.allgather(own)))):
        owner[numbers] = rank
    order = np.argsort(owner, kind="stable")
    new = np.empty(seen.size, int)
    new[order] = np.arange(seen.size)
    starts = np.searchsorted(owner[order], np.arange(comm.size + 1))
    first, last = starts[comm.rank : comm.rank + 2]
    columns = (grid.layout.local_size, grid.layout.size)
    B = PETSc.Mat().createAIJ(((last - first, seen.size), columns), comm=comm)
    B.setOption(PETSc.Mat.Option.NEW_NONZERO_ALLOCATION_ERR, False)
    B.setUp()
    for row, column, weight in zip(
        new[seen.rows], seen.columns, seen.weights, strict=True
    ):
        B.setValue(int(row), int(column), float(weight), addv=True)
    B.assemble()
    return Sampling((), B, "", order[first:last])


def of_data(n: int) -> list[Row]:
    """Seconds of d += B u and of B^T d, for a row a cell, and for n^2 / 4 points."""
    grid, found = log_grid(n), []
    points = np.random.default_rng(1).uniform(0, 1, (n * n // 4, 2))
    kinds = {
        "a row a cell": voxel_means(grid, grid.edges),
        "points": points_at(grid, points),
    }
    u = np.asfortranarray(np.random.default_rng(comm.rank).random(grid.local_shape))
    for name, functionals in kinds.items():
        for where, sampling in (
            ("even", from_functionals(grid, (), functionals)),
            ("by owners", rows_on_owners(grid, functionals)),
        ):
            observer = Observer(grid, ["u"], [], [sampling])
            data, back = np.zeros((sampling.order.size, 1)), np.zeros_like(u)[None]

            def both(
                observer: Observer = observer,
                data: np.ndarray = data,
                back: np.ndarray = back,
            ) -> None:
                for _ in range(TIMES):
                    observer.observe(0, u[None], data)
                    observer.pull(0, u[None], data, back)

            both()
            share = comm.allreduce(sampling.order.size, op=MPI.MAX)
            found.append(
                {
                    "what": f"B u and B^T d, {name}, {where}",
                    "cells": f"{n}^2",
                    "ranks": comm.size,
                    "seconds": seconds(both) / TIMES,
                    "most data of a rank": share,
                }
            )
    return found


def measured(part: str, size: int, repeats: int) -> list[Row]:
    """Of a part on the ranks that this runs on."""
    if part == "identify":
        return [identification(size)]
    if part == "explicit":
        return explicit(size, repeats)
    return of_data(size) if part == "data" else [worker(size, repeats)]


def main() -> None:
    args = parser("scaling", __doc__)
    args.add_argument("--size", type=int, default=2048, help="cells of the gradient")
    args.add_argument("--identify", type=int, default=0, help="cells of this")
    args.add_argument("--explicit", type=int, default=0, help="cells of the steps")
    args.add_argument("--data", type=int, default=0, help="cells of the products")
    args.add_argument("--ranks", type=int, nargs="*", default=[1, 2])
    args.add_argument("--repeats", type=int, default=3)
    args.add_argument("--worker", choices=PARTS)
    given = args.parse_args()
    sizes = {part: getattr(given, option[2:]) for part, option in PARTS.items()}
    if given.worker:
        rows = measured(given.worker, sizes[given.worker], given.repeats)
        report("scaling", rows, given.out)
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for part, option in PARTS.items():
            if sizes[part]:
                words = ["--worker", part, option, str(sizes[part])]
                words += ["--repeats", str(given.repeats)]
                rows += started(words, given.ranks, Path(folder))
    report("scaling", rows, given.out)


def started(words: list[str], ranks: list[int], folder: Path) -> list[Row]:
    """A part on every number of ranks, and how many times faster each is than the first."""
    rows: list[Row] = []
    for n in ranks:
        out = folder / f"{n}.json"
        command = ["mpirun", "-n", str(n), sys.executable, __file__, *words]
        subprocess.run(
            [*command, "--out", str(out)],
            check=True,
            stdout=subprocess.DEVNULL,
            env=dict(os.environ),
        )  # as it was before MPI started here
        found = json.loads(out.read_text())["rows"]
        first = rows[: len(found)] or found
        for row, alone in zip(found, first, strict=True):
            rows.append({**row, "ratio": alone["seconds"] / row["seconds"]})
    return rows


if __name__ == "__main__":
    main()
