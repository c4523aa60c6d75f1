"""Pieces of pictures: a function of the seed and of their numbers."""

import numpy as np
import pytest

from npde_opt.errors import InputError
from npde_opt.training.pieces import Pieces
from npde_opt.training.samples import Held


def pieces(size=(3, 3), versions=4, seed=0):
    """Of pictures whose every cell has another value; the second picture is not used."""
    pictures = np.arange(3 * 6 * 5, dtype=float).reshape(3, 1, 1, 6, 5)
    return Pieces(Held("pictures", pictures), np.array([0, 2]), size, versions, [seed, 3])


def test_a_piece_is_what_its_number_says():
    found = pieces()
    assert found.count == 8
    values = found.samples().inputs
    assert values.shape == (8, 1, 1, 3, 3)
    # Alone, in another order and on part of the cells it is the same.
    some = found.samples([5, 2], (slice(0, 1), slice(1, 3), slice(0, 2))).inputs
    np.testing.assert_array_equal(some, values[[5, 2], :, :, 1:3, 0:2])
    # Of the right picture, all cells of a square of it.
    for number, (piece,) in enumerate(values[:, 0]):
        cells = np.sort(piece.ravel()) - 30 * (0, 2)[number % 2]
        first = int(cells[0])
        assert np.array_equal(cells, [first + 5 * j + i for j in range(3) for i in range(3)])
    corners = {int(piece.min()) % 30 for piece in values}
    turned = {
        tuple(np.sign(np.diff(piece[0, 0, :2, :2].ravel()[[0, 1, 0, 2]]))) for piece in values
    }
    assert len(corners) > 2 and len(turned) > 1
    assert not np.array_equal(pieces(seed=1).samples().inputs, values)


def test_pieces_that_are_no_squares_are_not_turned_by_a_quarter():
    for piece in pieces((2, 4)).samples().inputs[:, 0, 0]:
        assert set(np.abs(np.diff(piece, axis=1)).ravel()) == {1}


def test_too_large_pieces_are_told():
    with pytest.raises(InputError, match=r"data.crop: got \[7, 3\]; .* at most 6 x 5"):
        pieces((7, 3))
    labelled = Held("digits", np.zeros((2, 1, 1, 4, 4)), np.array([0, 1]))
    with pytest.raises(InputError, match="pictures that are their own target"):
        Pieces(labelled, np.arange(2), (2, 2), 1, [0])
