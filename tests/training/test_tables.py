"""Rows of tables as samples: inputs, targets and classes by their columns."""

import numpy as np
import pytest

from npde_opt.errors import InputError
from npde_opt.training.tables import rows

TEXT = "width,length,kind,weight\n1,2,b,5\n3,4,a,6\n5,6,b,7\n"


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "flowers.csv"
    file.write_text(TEXT)
    return file


def test_classes_are_numbered_by_their_words(path):
    source = rows(path, label="kind")
    found = source.samples()
    assert source.classes == ("a", "b") and source.shape == (1, 1, 1)
    np.testing.assert_array_equal(found.targets, [1, 0, 1])
    np.testing.assert_array_equal(
        found.inputs[:, :, 0, 0, 0], [[1, 2, 5], [3, 4, 6], [5, 6, 7]]
    )


def test_numbers_that_are_sought(path):
    found = rows(path, targets=["weight", 0], inputs=["length"]).samples()
    np.testing.assert_array_equal(
        found.targets[:, :, 0, 0, 0], [[5, 1], [6, 3], [7, 5]]
    )
    np.testing.assert_array_equal(found.inputs.ravel(), [2, 4, 6])


def test_numbers_as_classes_go_by_size(tmp_path):
    (tmp_path / "t.csv").write_text("x,y\n1,10\n2,9\n3,10\n")
    assert rows(tmp_path / "t.csv", label="y").classes == ("9", "10")


@pytest.mark.parametrize(
    "keys, said",
    [
        ({}, "neither targets nor a label"),
        ({"label": "kind", "targets": ["weight"]}, "targets and a label"),
        (
            {"label": "king"},
            "data.label: got 'king'; allowed: width, length, kind, weight",
        ),
        ({"targets": ["weight"]}, "line 2: got 'b'"),
        (
            {"targets": ["weight"], "inputs": ["weight"]},
            "column weight, which is sought",
        ),
    ],
)
def test_columns_that_cannot_be(path, keys, said):
    with pytest.raises(InputError, match=said):
        rows(path, **keys)


def test_missing_values_are_told(tmp_path):
    (tmp_path / "t.csv").write_text("x,y\n1,0\n,1\n")
    with pytest.raises(
        InputError, match="1 missing values, the first in line 3, column x"
    ):
        rows(tmp_path / "t.csv", label="y")
