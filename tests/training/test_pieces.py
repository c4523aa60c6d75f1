"""Pieces of pictures: a function of the seed and of their numbers."""

import numpy as np
import pytest

from npde_opt.errors import InputError
from npde_opt.training.pictures import Pictures
from npde_opt.training.pieces import Pieces

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def pieces(tmp_path):
    """Of pictures whose every cell has another value; the second picture is not used."""

    def made(size=(3, 3), versions=4, seed=0, wide=0):
        files = [tmp_path / f"{n}.png" for n in range(3)]
        for n, file in enumerate(files):
            grey = np.arange(30 * n, 30 * n + 30, dtype=np.uint8).reshape(6, 5)
            Image.fromarray(np.pad(grey, ((0, 0), (0, wide * n)))).save(file)
        source = Pictures("pictures", files, of_any_size=True)
        return Pieces(source, np.array([0, 2]), size, versions, [seed, 3])

    return made


def test_a_piece_is_what_its_number_says(pieces):
    found = pieces()
    assert found.count == 8
    values = 255 * found.samples().inputs
    assert values.shape == (8, 1, 1, 3, 3)
    # Alone, in another order and on part of the cells it is the same.
    some = found.samples([5, 2], (slice(0, 1), slice(1, 3), slice(0, 2))).inputs
    np.testing.assert_allclose(255 * some, values[[5, 2], :, :, 1:3, 0:2])
    # Of the right picture, all cells of a square of it.
    for number, (piece,) in enumerate(values[:, 0]):
        cells = np.sort(piece.ravel()).round() - 30 * (0, 2)[number % 2]
        first = int(cells[0])
        assert np.array_equal(
            cells, [first + 5 * j + i for j in range(3) for i in range(3)]
        )
    corners = {int(piece.min()) % 30 for piece in values}
    turned = {
        tuple(np.sign(np.diff(piece[0, 0, :2, :2].ravel()[[0, 1, 0, 2]])))
        for piece in values
    }
    assert len(corners) > 2 and len(turned) > 1
    assert not np.array_equal(255 * pieces(seed=1).samples().inputs, values)


def test_pieces_that_are_no_squares_are_not_turned_by_a_quarter(pieces):
    for piece in pieces((2, 4)).samples().inputs[:, 0, 0]:
        assert set(np.abs(255 * np.diff(piece, axis=1)).round().ravel()) == {1}


def test_too_large_pieces_are_told(pieces):
    with pytest.raises(InputError, match=r"data.crop: got \[7, 3\]; .* at most 6 x 5"):
        pieces((7, 3))


def test_pictures_of_several_sizes_are_used_whole(pieces):
    """The second has 8 more columns, of 0."""
    found = pieces(versions=40, wide=4)
    assert found.of.shape == (1, 6, 5)
    black = (found.samples().inputs[1::2] == 0).all(axis=(1, 2, 3, 4))
    assert 0.2 < black.mean() < 0.9
