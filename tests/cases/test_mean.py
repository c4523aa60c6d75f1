"""The mean of a steady state whose level nothing fixes, as cases say it."""

import numpy as np
import pytest
from fits import case_of, identified
from mpi4py import MPI

from npde_opt.cases import load_case
from npde_opt.errors import InputError

CASE = """
[grid]
shape = [12, 12]
[equation]
mean = 0.0
[[unknown]]
name = "D"
initial = 1.0
truth = { expression = "where(x > 0.5, 3.0, 1.0)" }
[electrodes]
at = [[0.1, 0.5], [0.9, 0.5], [0.5, 0.1]]
pattern = [[0, 1], [0, 2]]
[[observation]]
random = 30
noise = 0.001
[simulation]
refine = 1
[[regularization]]
[optimizer]
gradient_rtol = 1e-2
"""


@pytest.mark.parallel([1, 2])
def test_a_conductivity_without_a_ground(tmp_path):
    case = case_of(tmp_path, CASE)
    found = identified(case, "gauss-newton")
    grid = found.objective.forward.grid
    lin = found.objective.forward.linearize(found.result.m)
    for u in lin.final:
        mean = grid.comm.allreduce(float(u.sum())) / grid.size
        assert mean == pytest.approx(0.0, abs=1e-10)
    lin.destroy()
    D = found.values("D")
    if MPI.COMM_WORLD.rank == 0:
        assert np.log(D[8:]).mean() > np.log(D[:4]).mean() + 0.3


def test_where_a_mean_cannot_be_given(tmp_path):
    path = tmp_path / "case.toml"
    time = "[time]\ntimes = { end = 1.0, steps = 2 }\n[electrodes]"
    path.write_text(
        CASE.replace("[electrodes]", time).replace("random", "times = [1.0]\nrandom")
    )
    with pytest.raises(
        InputError, match="equation.mean: got 0.0; allowed: no mean with"
    ):
        load_case(path, MPI.COMM_SELF)
