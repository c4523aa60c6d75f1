"""The examples of docs/pseudoinverse.md run as they stand, one after the other."""

import re
from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI

PAGE = Path(__file__).resolve().parents[2] / "docs" / "pseudoinverse.md"


@pytest.mark.parallel([1, 2])
def test_the_examples(capsys, tmp_path):
    names = {"folder": MPI.COMM_WORLD.bcast(tmp_path)}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(block, names)
    np.testing.assert_allclose(names["found"].W, names["W"], atol=0.01)
    np.testing.assert_allclose(names["found"].intercept, 3, atol=0.01)
    assert capsys.readouterr().out.startswith("6 " if names["comm"].rank == 0 else "")
    scores = names["learnt"].scores(names["pictures"])
    assert (scores.argmax(axis=1) == names["labels"]).mean() > 0.9
    J, fitted = names["J"], names["fitted"]
    assert fitted.objective < 0.5 * J.linearize(names["start"]).value
    assert names["last"].W.shape == (8, 2)
