"""Parts of samples: disjoint, complete, alike in their classes, and the same for a seed."""

import numpy as np
import pytest

from npde_opt.errors import InputError
from npde_opt.training.splits import split

LABELS = np.repeat([0, 1, 2], [50, 31, 9])


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_each_part_has_its_share_of_each_class(seed):
    parts = split(LABELS, [0.6, 0.1, 0.3], seed)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(90))
    assert [len(p) for p in parts] == [54, 9, 27]
    for numbers, share in zip(parts, [0.6, 0.1, 0.3], strict=True):
        counts = np.bincount(LABELS[numbers], minlength=3)
        assert (abs(counts - share * np.array([50, 31, 9])) < 1.5).all()


def test_the_seed_alone_decides():
    first, again, other = (split(LABELS, [0.7, 0.3], seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[1] != other[1]).any()
    shuffled = split(100, [0.5, 0.5], 3)[0]
    assert len(shuffled) == 50 and (np.diff(shuffled) > 1).any()


@pytest.mark.parametrize("shares", [[0.5, 0.6], [1.5, -0.5], [0.999, 0.001]])
def test_shares_that_cannot_be_are_refused(shares):
    with pytest.raises(InputError, match="split"):
        split(LABELS, shares)
