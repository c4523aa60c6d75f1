"""MPI of programs that no launcher started."""

import os
import subprocess
import sys

import pytest

from npde_opt import alone

PROGRAM = """
import os
from npde_opt import alone

before = dict(os.environ)
alone.start_mpi()
assert dict(os.environ) == before
with open("/proc/self/task/%d/children" % os.getpid()) as file:
    print("beside:", file.read().split())
"""
BY_USERS = {"OMPI_MCA_btl": "self", "OMPI_ALLOW_RUN_AS_ROOT": "1", "HOME": "/"}


def of_launcher(name):
    return name.startswith(alone.LAUNCHED) and not name.startswith(alone.OWN)


def plain():
    """The environment without what a launcher of these tests put there."""
    return {
        name: value
        for name, value in os.environ.items()
        if not of_launcher(name) and not name.startswith("OMPI_MCA_")
    }


def test_no_daemon_stands_beside_a_program_of_one_rank():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=plain(), capture_output=True, text=True
    )
    assert done.stdout == "beside: []\n", done.stderr


@pytest.mark.parametrize(
    "name", ["OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_SIZE", "OMPI_MCA_orte_hnp_uri"]
)
def test_launchers_are_seen(monkeypatch, name):
    monkeypatch.setattr(alone.os, "environ", BY_USERS)
    assert not alone.launched()
    monkeypatch.setattr(alone.os, "environ", BY_USERS | {name: "1"})
    assert alone.launched()
