"""mpirun of the project's environment: our message of a run that fails is the last one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

MPIRUN = Path(__file__).resolve().parents[1] / "scripts" / "bin" / "mpirun"
PROGRAM = """
import os, signal, sys, time
from mpi4py import MPI
from npde_opt import errors

def main():
    {does}
    MPI.COMM_WORLD.barrier()

errors.run(main)
"""
ALONE = "if MPI.COMM_WORLD.rank == 1: "
WRONG = "raise errors.InputError('key', 1, '2')"
WAITS = """
    MPI.COMM_WORLD.barrier()
    MPI.COMM_WORLD.rank or print("here", flush=True)
    time.sleep(600)
"""
SAID = "error: key: got 1; allowed: 2"


def started(does):
    ours = ("OMPI_COMM", "PMIX_", "PMI_", "ORTE_")
    env = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    program = [sys.executable, "-c", PROGRAM.format(does=does)]
    command = [
        str(MPIRUN),
        "--allow-run-as-root",
        "--oversubscribe",
        "-n",
        "2",
        *program,
    ]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=env, stdout=pipe, stderr=pipe, text=True)


@pytest.mark.parametrize(
    ("does", "code", "said"),
    [
        (WRONG, 2, SAID),
        (ALONE + WRONG + "\n    return", 2, SAID),
        (
            ALONE + "os.kill(os.getpid(), signal.SIGKILL)",
            137,
            "error: a rank was killed by signal 9 (KILL)",
        ),
        ("sys.exit(0)", 0, ""),
    ],
)
def test_the_message_is_the_last_thing_and_the_exit_code_stays(does, code, said):
    run = started(does)
    _, text = run.communicate(timeout=120)
    # Where there is no /sys, Open MPI begins with a word on it.
    lines = [
        line for line in text.splitlines() if line and not line.startswith("[hwloc")
    ]
    assert (run.returncode, "\n".join(lines)) == (code, said)


def test_a_lost_host_is_told_and_asked_after_within_half_a_minute(tmp_path):
    launcher = tmp_path / "mpirun"
    asked = "$OMPI_MCA_oob_tcp_keepalive_time + $OMPI_MCA_oob_tcp_keepalive_intvl"
    asked += " * $OMPI_MCA_oob_tcp_keepalive_probes"
    launcher.write_text(f"#!/bin/sh\necho $(({asked}))\nexit 205\n")
    launcher.chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    run = subprocess.run(
        [str(MPIRUN)], env=env, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 205 and run.stdout == "30\n"
    assert run.stderr.startswith("error: lost contact with a host")


def test_signals_reach_the_ranks():
    run = started(WAITS)
    assert run.stdout.readline() == "here\n"
    run.send_signal(signal.SIGUSR1)
    _, text = run.communicate(timeout=300)
    assert run.returncode == 75 and "stopped by SIGUSR1" in text.splitlines()[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_mpirun_is_told_and_is_an_interruption(number):
    # As in a long iteration, no rank comes to say anything.
    run = started("signal.signal(signal.SIGTERM, signal.SIG_IGN)" + WAITS)
    assert run.stdout.readline() == "here\n"
    run.send_signal(number)
    _, text = run.communicate(timeout=300)
    said = [line for line in text.splitlines() if line.startswith("error: ")]
    assert run.returncode == 75 and len(said) == 1
    assert number.name in said[0] and "--resume" in said[0]
