"""Shifted copies are pictures whose cells moved, the same wherever they are read."""

import numpy as np
import pytest

from npde_opt.errors import InputError
from npde_opt.training.samples import Held
from npde_opt.training.shifted import Shifted, moved, turned
from npde_opt.training.warped import Bumps, between

VALUES = np.random.default_rng(0).random((5, 2, 1, 6, 7))
SOURCE = Held("some", VALUES, np.array([0, 1, 2, 1, 0]))


def one_moved(values, shift):
    return moved(values[None], np.array([shift]))[0]


def test_values_move_and_nothing_comes_in():
    found = one_moved(VALUES[0], (0, 2, -1))
    np.testing.assert_array_equal(found[:, :, 2:, :-1], VALUES[0][:, :, :-2, 1:])
    assert not found[:, :, :2].any() and not found[..., -1].any()


def test_each_of_several_moves_by_its_own():
    shifts = np.array([[0, 1, 0], [0, 0, 0], [0, -9, 0], [0, 0, 2], [0, -1, -3]])
    expected = [one_moved(v, s) for v, s in zip(VALUES, shifts, strict=True)]
    np.testing.assert_array_equal(moved(VALUES, shifts), expected)
    np.testing.assert_array_equal(expected[1], VALUES[1])
    assert not expected[2].any()


def test_copies_are_numbered_sample_by_sample():
    source = Shifted(SOURCE, 3, 1)
    assert source.count == 15 and source.target_size == 3
    numbers = source.of(np.array([1, 4]))
    np.testing.assert_array_equal(numbers, [3, 4, 5, 12, 13, 14])
    found = source.samples(numbers)
    np.testing.assert_array_equal(found.targets, [1, 1, 1, 0, 0, 0])
    np.testing.assert_array_equal(found.inputs[[0, 3]], VALUES[[1, 4]])
    shifts = [(j, i) for j in (-1, 0, 1) for i in (-1, 0, 1)]
    for copy in found.inputs[1:3]:
        assert any(
            np.array_equal(copy, one_moved(VALUES[1], (0, j, i))) for j, i in shifts
        )
    assert any(
        (c != v).any()
        for c, v in zip(found.inputs, VALUES[[1, 1, 1, 4, 4, 4]], strict=True)
    )


def test_a_part_is_the_same_as_of_the_whole():
    source, box = Shifted(SOURCE, 4, 2, seed=3), (slice(None), slice(2, 5), slice(1, 6))
    whole = source.samples().inputs
    part = source.samples([17, 2, 9], box, np.float32).inputs
    np.testing.assert_array_equal(
        part, whole[[17, 2, 9], :, :, 2:5, 1:6].astype(np.float32)
    )


def test_a_bent_part_is_the_same_as_of_the_whole():
    source = Shifted(SOURCE, 4, 1, seed=3, turn=20.0, bend=0.7)
    box = slice(None), slice(2, 5), slice(1, 6)
    whole = source.samples().inputs
    np.testing.assert_array_equal(whole[::4], VALUES)
    part = source.samples([17, 2, 9], box).inputs
    np.testing.assert_array_equal(part, whole[[17, 2, 9], :, :, 2:5, 1:6])


def test_a_quarter_turn_and_whole_cells_are_exact():
    square = VALUES[:1, ..., :6]
    y, x = turned((6, 6), np.pi / 2)
    np.testing.assert_allclose(
        between(square, y[None], x[None]), np.rot90(square, axes=(3, 4)), atol=1e-13
    )
    j, i = np.mgrid[:6, :7].astype(float)[:, None]
    np.testing.assert_array_equal(
        between(VALUES[:1], j - 2, i + 1)[0], one_moved(VALUES[0], (0, 2, -1))
    )


def test_bumps_have_the_deviation_that_is_asked_for():
    found, rng = Bumps((12, 28)), np.random.default_rng(0)
    drawn = np.array([found.field(rng) for _ in range(400)])
    assert abs(drawn.std() - 1) < 0.05


def test_sequences_are_not_turned():
    row = Held("some", VALUES[:, :, :, :1], np.array([0, 1, 2, 1, 0]))
    with pytest.raises(InputError, match="data.turn: got 5.0"):
        Shifted(row, 2, 1, turn=5.0)


def test_numbers_have_no_copies():
    with pytest.raises(InputError, match="data.copies: got 2"):
        Shifted(Held("some", VALUES), 2, 1)
