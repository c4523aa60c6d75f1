"""The examples of docs/learned-physics.md run as they stand."""

import re
from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI

import npde_opt as nd
from tests.fits import case_of, identified, reported

PAGE = Path(__file__).resolve().parents[1] / "docs" / "learned-physics.md"
TEXT = PAGE.read_text()
COMM = MPI.COMM_WORLD


@pytest.mark.parallel([1])
def test_the_case(tmp_path):
    (text,) = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    case = case_of(tmp_path, text)
    found = identified(case)
    metrics = reported(case, found)
    assert metrics["relative_error_k"] < 0.05


@pytest.mark.parallel([1, 2, 3])
def test_the_forward_map():
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    space: dict[str, object] = {}
    exec(code, space)
    forward, m = space["learned"](COMM)
    at = forward.linearize(m)
    data = at.data[0].gather()
    assert np.isfinite(data).all() and 0 < data.min() < data.max() < 1
    dm, noise = forward.space.standard_normal(2), at.data[0].layout.noise(3)
    assert nd.dot_product_test(at, dm, [noise]) < 1e-9
    misfit = nd.LeastSquares(data + 0.1, 0.1, forward.layouts[0])
    objective = nd.Objective(forward, [misfit], {})
    orders = nd.taylor_test(objective, m, dm, apart=False)
    assert orders.first > 1.8 and orders.second > 2.7
    at.destroy()
    objective.destroy()
