"""Memory that arrays leave is there for the next ones."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from npde_opt.freed_memory import CHOSEN

SCRIPT = """
import resource
import numpy as np
from npde_opt.grids import Grid

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

Grid((8, 8))
u = np.ones(1 << 19)
for _ in range(3):
    (u + 1) * (u - 1)
before = faults()
for _ in range(100):
    (u + 1) * (u - 1)
print(faults() - before)
"""


@pytest.mark.skipif(
    not hasattr(os, "confstr")
    or "glibc" not in (os.confstr("CS_GNU_LIBC_VERSION") or ""),
    reason="thresholds of glibc",
)
def test_whole_field_expressions_touch_no_new_pages():
    own = {k: v for k, v in os.environ.items() if k not in CHOSEN}
    found = []
    # 1 MB: what is freed at the heap's end goes back, as without a choice of ours.
    for chosen in ({}, {"MALLOC_TRIM_THRESHOLD_": "1000000"}):
        run = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**own, **chosen},
            capture_output=True,
            text=True,
            check=True,
        )
        found.append(int(run.stdout))
    # A field is 1,024 pages.
    assert found[0] < 1024
    assert found[1] > 10 * 1024
