"""The driver identify.py in processes of its own: how it is called, stopped in the middle, and what
it leaves."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DRIVER = ROOT / "drivers" / "identify.py"
# Seconds after which a run is taken to hang, on a machine that others share.
LIMIT = 900


def environment():
    """That of a shell: a launched process must not take this one's MPI for its own."""
    env = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("OMPI_", "PMIX_", "PMI_", "ORTE_"))
    }
    return env | {
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMP_NUM_THREADS": "1",
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
        "OMPI_MCA_mpi_yield_when_idle": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def command(ranks, case, out, *options):
    launcher = ["mpirun", "-n", str(ranks)] if ranks > 1 else []
    return [
        *launcher,
        sys.executable,
        str(DRIVER),
        "--case",
        str(case),
        "--out",
        str(out),
        *map(str, options),
    ]


def identify(ranks, case, out, *options):
    run = subprocess.Popen(
        command(ranks, case, out, *options),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        output, errors = run.communicate(timeout=LIMIT)
    finally:
        end(run)
    return subprocess.CompletedProcess(run.args, run.returncode, output, errors)


def end(run):
    """Ends what still runs; a launcher that is killed at once would leave its ranks at work."""
    if run.poll() is None:
        run.terminate()
        try:
            run.wait(timeout=20)
        except subprocess.TimeoutExpired:
            run.kill()


def summary(run, out):
    assert run.returncode == 0, run.stdout + run.stderr
    return json.loads((out / "summary.json").read_text())


def rows(out):
    file = out / "history.csv"
    return list(csv.DictReader(file.open())) if file.exists() else []


def a_rank(launcher):
    """A process of those that a launcher started, through the system's own launcher perhaps."""
    first = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()[0]
    name = Path(f"/proc/{first}/comm").read_text().strip()
    return a_rank(first) if name in ("mpirun", "orterun", "prterun") else int(first)


def stop(ranks, case, out, number, *options, level="0"):
    """Starts a run and sends the signal to it (to one of its ranks) after two rows of history on a
    level."""
    run = subprocess.Popen(
        command(ranks, case, out, *options),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        until = time.monotonic() + LIMIT
        while len([r for r in rows(out) if r["level"] == level]) < 2:
            assert run.poll() is None and time.monotonic() < until
            time.sleep(0.01)
        os.kill(a_rank(run.pid) if ranks > 1 else run.pid, number)
        text = run.communicate(timeout=LIMIT)[0]
    finally:
        end(run)
    return run.returncode, text
