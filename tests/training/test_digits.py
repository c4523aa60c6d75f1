"""scikit-learn's digits, where it is installed; and what is said of a file that is not theirs."""

import gzip
import importlib.util

import numpy as np
import pytest

from npde_opt.errors import InputError
from npde_opt.training.digits import digits, read_digits


@pytest.mark.skipif(
    importlib.util.find_spec("sklearn") is None, reason="no scikit-learn"
)
def test_the_digits():
    found = digits().samples()
    assert found.inputs.shape == (1797, 1, 1, 8, 8)
    assert found.inputs.min() == 0 and found.inputs.max() == 1
    np.testing.assert_array_equal(np.bincount(found.targets)[:3], [178, 182, 177])
    # The first picture is a 0: its rows are read from top to bottom.
    np.testing.assert_array_equal(
        16 * found.inputs[0, 0, 0, 0], [0, 0, 5, 13, 9, 1, 0, 0]
    )


@pytest.mark.parametrize("content", [b"", b"1,2,3\n", b"1,x\n", None])
def test_a_damaged_file_is_told(tmp_path, content):
    path = tmp_path / "digits.csv.gz"
    if content is None:
        path.write_bytes(b"no gzip")
    else:
        path.write_bytes(gzip.compress(content))
    with pytest.raises(InputError, match=r"digits\.csv\.gz"):
        read_digits(path)
