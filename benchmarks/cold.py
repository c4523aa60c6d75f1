"""What the first run on a machine takes, which has to compile its loops: seconds of processes with
empty folders of compiled loops, and with what these leave.

    python benchmarks/cold.py [--ranks 1 4] [--size 64]

Ten explicit steps of Gray-Scott with a gradient. Starts `mpirun` itself; --worker runs on the ranks
that it is on.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import Row, parser, report
from evolution import gradient, gray_scott


def worker(size: int) -> None:
    objective = gray_scott(size, 10)
    gradient(objective, {"Du": 0.16, "Dv": 0.08, "F": 0.035, "k": 0.06})


def processor() -> float:
    """Seconds of processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(ranks: int, size: int, folder: str) -> tuple[float, float]:
    """Seconds and processor seconds of one run."""
    kept = {"XDG_CACHE_HOME": folder, "NUMBA_CACHE_DIR": str(Path(folder) / "numba")}
    command = ["mpirun", "--oversubscribe", "-n", str(ranks), sys.executable, __file__]
    start, before = time.perf_counter(), processor()
    subprocess.run(
        [*command, "--worker", "--size", str(size)], env=os.environ | kept, check=True
    )
    return time.perf_counter() - start, processor() - before


def main() -> None:
    p = parser("cold", __doc__ or "")
    p.add_argument("--ranks", type=int, nargs="+", default=[1, 4])
    p.add_argument("--size", type=int, default=64)
    p.add_argument("--worker", action="store_true")
    given = p.parse_args()
    if given.worker:
        worker(given.size)
        return
    rows: list[Row] = []
    for ranks in given.ranks:
        with tempfile.TemporaryDirectory() as folder:
            for kept in ("nothing", "all"):
                wall, used = run(ranks, given.size, folder)
                rows.append(
                    {"ranks": ranks, "kept": kept, "s": wall, "processor s": used}
                )
    report("cold", rows, given.out)


if __name__ == "__main__":
    main()
