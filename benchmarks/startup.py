"""What a run costs before it does anything: processor seconds of processes that only load.

    python benchmarks/startup.py [--rounds 15]

The processes of all rows are started in turn, one at a time, with the user's and the system's time
of each. A row has all that those above it load, so that differences say what a part costs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
MPI = "from npde_opt import alone; alone.start_mpi()"
PETSC = f"{MPI}; import petsc4py; petsc4py.init(); from petsc4py import PETSc"
# As `npde_opt.runs.entry.start` loads it, in the order of a run.
RUN = """
from npde_opt import alone, signals
from npde_opt.lazily import loading
with loading():
    alone.start_mpi()
    from npde_opt.runs.options import PARSERS, read_options
    import sys; sys.argv[1:] = ["--case", "none", "--out", "none"]
    read_options(PARSERS["identification"]("about"))
    from npde_opt import errors
    import npde_opt.runs.run
"""
ROWS = {
    "interpreter": ["-c", "pass"],
    "numpy": ["-c", "import numpy"],
    "MPI and PETSc": ["-c", f"import numpy; {PETSC}"],
    "imports of a run": ["-c", RUN],
    "32 x 32, an iteration": [
        str(HERE.parent / "drivers" / "identify.py"),
        "--case",
        str(HERE / "cases" / "startup.toml"),
        "--overwrite",
        "--out",
        "run",
    ],
}
"""What Python is started with, by what is measured."""


def processor_seconds(arguments: list[str], folder: str) -> float:
    """Of one process, its own and the system's."""
    # Bytecode counts as given: it is written by the first round, which is not counted.
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env=kept,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    # An identification that was stopped after an iteration says so by its code.
    if process.returncode not in (0, 4):
        raise RuntimeError(f"{arguments}: {process.returncode}\n{said.decode()}")
    return used.ru_utime + used.ru_stime


def main() -> None:
    p = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    p.add_argument("--rounds", type=int, default=15)
    p.add_argument("--out", type=Path, default=HERE / "results" / "startup.json")
    given = p.parse_args()
    found: dict[str, list[float]] = {name: [] for name in ROWS}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(given.rounds + 1):
            for name, arguments in ROWS.items():
                spent = processor_seconds(arguments, folder)
                if number:
                    found[name].append(spent)
    print(f"{'processor seconds':>24}  median   least    most")
    for name, every in found.items():
        numbers = (statistics.median(every), min(every), max(every))
        print(f"{name:>24}  " + "   ".join(f"{n:.3f}" for n in numbers))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
