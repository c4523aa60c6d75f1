"""The example of docs/pseudoinverse.md runs as it stands."""

import re
from pathlib import Path

import numpy as np
import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "pseudoinverse.md"


@pytest.mark.parallel([1, 2])
def test_the_example(capsys):
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names = {}
    exec(block, names)
    np.testing.assert_allclose(names["found"].W, names["W"], atol=0.01)
    np.testing.assert_allclose(names["found"].intercept, 3, atol=0.01)
    assert capsys.readouterr().out.startswith("6 " if names["comm"].rank == 0 else "")
