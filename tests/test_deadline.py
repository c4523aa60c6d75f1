"""A process ends at its deadline with the exit code that it was given."""

import subprocess
import sys

import pytest

WAITS = """
import ctypes
from npde_opt.deadline import exit_after
exit_after(1, 75)
{waits}
"""


@pytest.mark.parametrize(
    "waits",
    [
        "ctypes.PyDLL(None).pause()",
        "import atexit; atexit.register(ctypes.PyDLL(None).pause)",
        "import time; time.sleep(600)",
    ],
)
def test_a_process_that_waits_ends_with_its_code(waits):
    """In C with the interpreter's lock, at exit and in Python."""
    ended = subprocess.run(
        [sys.executable, "-c", WAITS.format(waits=waits)], timeout=900
    )
    assert ended.returncode == 75


def test_a_process_that_ends_before_keeps_its_own_code():
    ended = subprocess.run(
        [sys.executable, "-c", WAITS.format(waits="raise SystemExit(3)")], timeout=900
    )
    assert ended.returncode == 3
