"""Samples have the shapes that are said, parts of them are the same cells, and wrong ones are
named."""

import numpy as np
import pytest

from npde_opt.errors import InputError
from npde_opt.training.samples import Held, Samples, installed

VALUES = np.arange(4 * 2 * 1 * 3 * 5, dtype=float).reshape(4, 2, 1, 3, 5)


def held(**more):
    return Held("some", VALUES, **more)


def test_a_rank_reads_its_cells_of_its_samples():
    source = held(labels=np.array([1, 0, 2, 1]))
    assert (source.count, source.channels, source.shape) == (4, 2, (1, 3, 5))
    assert source.classes == ("0", "1", "2")
    box = (slice(0, 1), slice(1, 3), slice(2, 4))
    part = source.samples([3, 1], box, np.float32)
    assert part.inputs.dtype == np.float32 and part.inputs.flags.c_contiguous
    np.testing.assert_array_equal(part.inputs, VALUES[[3, 1], :, :, 1:3, 2:4])
    np.testing.assert_array_equal(part.targets, [1, 0])
    assert part.labelled and not held().samples().labelled


def test_targets_are_the_inputs_or_numbers_of_their_own():
    box = (slice(None), slice(1, 2), slice(None))
    own = held().samples(box=box)
    np.testing.assert_array_equal(own.targets, own.inputs)
    outputs = VALUES[:, :1, :, :1, :1]
    other = held(targets=outputs).samples([2], box)
    np.testing.assert_array_equal(other.targets, outputs[[2]])
    np.testing.assert_array_equal(other.over([0]).inputs, VALUES[[2], :, :, 1:2])


@pytest.mark.parametrize(
    "labels, said",
    [
        (np.array([0, 1, -1, 0]), "-1 of sample 2"),
        (np.array([0, 1, 0.5, 0]), "0.5 of sample 2"),
        (np.array([0, np.nan, 0, 0]), "nan of sample 1"),
        (np.array([0, 1e9, 0, 0]), "1000000000.0 of sample 1; allowed: .* to 99999"),
        (np.array(list("abcd")), "<U1"),
        (np.array([0, 1]), "2 targets of 4 samples"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels, said):
    with pytest.raises(InputError, match=said):
        held(labels=labels)


def test_a_class_without_a_name_is_refused():
    with pytest.raises(
        InputError, match="2 of sample 1; allowed: whole numbers from 0 to 1"
    ):
        held(labels=np.array([0, 2, 1, 0]), classes=["no", "yes"])


def test_what_is_wrong_with_values_is_told_with_the_sample():
    values = VALUES.copy()
    values[2, 0, 0, 1, 1] = np.nan
    source = Held("some", values)
    source.samples([0, 1])
    with pytest.raises(InputError, match="some: got nan in the input of sample 2"):
        source.samples([1, 2])
    with pytest.raises(InputError, match="sample: got 4; allowed: 0 to 3 of some"):
        source.samples([4])


def test_what_single_precision_cannot_hold_is_told_once(recwarn):
    with pytest.raises(InputError, match="some: got inf in the input of sample 0"):
        Held("some", VALUES + 1e60).samples(dtype=np.float32)
    assert not recwarn.list


def test_shapes_are_checked():
    with pytest.raises(InputError, match="at least one sample"):
        Held("none", VALUES[:0])
    with pytest.raises(InputError, match="channel, k, j, i"):
        Samples(VALUES[0], np.zeros(2))
    with pytest.raises(InputError, match="float32 or float64"):
        Samples(VALUES.astype(int), np.zeros(4, int))
    with pytest.raises(InputError, match="3 targets; allowed: 4, one a sample"):
        Samples(VALUES, np.zeros(3, int))


def test_a_missing_package_is_named():
    with pytest.raises(
        InputError, match=r"nowhere_to_be_found is not installed.*\[learning\]"
    ):
        installed("nowhere_to_be_found", "data.kind")
