"""PETSc's log tells of messages that mpi4py sends."""

import subprocess
import sys

import pytest
from calling import environment

SCRIPT = """
import sys
import petsc4py
petsc4py.init([sys.argv[0], *sys.argv[1:]])
import numpy as np
from mpi4py import MPI
from petsc4py import PETSc
from npde_opt import reductions, traffic
event = PETSc.Log.Event("own")
with event:
    traffic.sent(np.zeros(5))
    traffic.taken(np.zeros(2))
    traffic.summed()
told = event.getPerfInfo()
print(told["numMessages"], told["messageLength"], told["numReductions"])
"""


@pytest.mark.parametrize(
    ("options", "said"),
    [(["-log_view", ":/dev/null"], "2.0 56.0 1.0"), ([], "0.0 0.0 0.0")],
)
def test_messages_are_counted_where_petsc_keeps_a_log(options, said):
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT, *options],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    assert found.stdout.splitlines()[:1] == [said], found.stderr
