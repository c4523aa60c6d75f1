"""Strong scaling of one gradient: seconds on 1, 2, ... ranks and the ratio to one rank.

    python benchmarks/scaling.py [--size 2048] [--ranks 1 2]

Starts `mpirun` itself; --worker measures on the ranks it runs on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from common import Row, comm, parser, report, seconds, smooth, synthetic


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
        "cells": f"{size}^2",
        "ranks": comm.size,
        "seconds": elapsed,
        "krylov": mean,
    }


def main() -> None:
    args = parser("scaling", __doc__)
    args.add_argument("--size", type=int, default=2048)
    args.add_argument("--ranks", type=int, nargs="*", default=[1, 2])
    args.add_argument("--repeats", type=int, default=3)
    args.add_argument("--worker", action="store_true")
    given = args.parse_args()
    if given.worker:
        report("scaling", [worker(given.size, given.repeats)], given.out)
        return
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for n in given.ranks:
            out = Path(folder) / f"{n}.json"
            subprocess.run(
                [
                    "mpirun",
                    "-n",
                    str(n),
                    sys.executable,
                    __file__,
                    "--worker",
                    "--size",
                    str(given.size),
                    "--repeats",
                    str(given.repeats),
                    "--out",
                    str(out),
                ],
                check=True,
                stdout=subprocess.DEVNULL,
                env=dict(os.environ),
            )  # as it was before MPI started here
            row = json.loads(out.read_text())["rows"][0]
            rows.append(
                {**row, "ratio": rows[0]["seconds"] / row["seconds"] if rows else 1.0}
            )
    report("scaling", rows, given.out)


if __name__ == "__main__":
    main()
