"""Pictures of a folder: brightness by rows, cells as asked for, sizes told or grouped."""

import importlib.util

import numpy as np
import pytest

from npde_opt.errors import InputError
from npde_opt.training.pictures import by_size, pictures, skimage_pictures

Image = pytest.importorskip("PIL.Image")
RNG = np.random.default_rng(0)
FIRST, SECOND, LARGE = (
    RNG.integers(0, 256, size, dtype=np.uint8) for size in ((6, 5), (6, 5), (9, 8))
)


@pytest.fixture
def folder(tmp_path):
    for name, values in (("b.png", SECOND), ("a.png", FIRST)):
        Image.fromarray(values).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def test_pictures_by_name_and_rows(folder):
    source = pictures(folder)
    assert (source.count, source.channels, source.shape) == (2, 1, (1, 6, 5))
    box = (slice(None), slice(2, 6), slice(1, 3))
    found = source.samples([1, 0], box)
    expected = np.stack([SECOND, FIRST])[:, None, None, 2:6, 1:3] / 255
    np.testing.assert_array_equal(found.inputs, expected)
    np.testing.assert_array_equal(found.targets, expected)


def test_mixed_sizes_are_refused_cut_or_grouped(folder):
    Image.fromarray(LARGE).save(folder / "c.png")
    with pytest.raises(
        InputError, match=r"2 sizes: 6 x 5 \(2\), 9 x 8 \(1\).*data\.size"
    ):
        pictures(folder)
    small, large = by_size(folder)
    assert (small.shape, small.count, large.shape) == ((1, 6, 5), 2, (1, 9, 8))
    cut = pictures(folder, (4, 3)).samples().inputs
    np.testing.assert_array_equal(cut[2, 0, 0], LARGE[2:6, 2:5] / 255)
    np.testing.assert_array_equal(cut[0, 0, 0], FIRST[1:5, 1:4] / 255)
    with pytest.raises(
        InputError, match="a.png of 6 x 5 cells; allowed: .* at least 7 x 3"
    ):
        pictures(folder, (7, 3))


def test_colours_become_grey_and_deep_pictures_keep_their_white(tmp_path):
    Image.fromarray(np.full((3, 3, 3), 51, np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(np.full((3, 3), 13107, np.uint16)).save(tmp_path / "b.png")
    np.testing.assert_allclose(pictures(tmp_path).samples().inputs, 0.2)


def test_what_is_no_picture_is_told(folder, tmp_path):
    (folder / "c.png").write_bytes(b"none")
    with pytest.raises(InputError, match="c.png, which cannot be read"):
        pictures(folder)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="empty, which has none; allowed: .*png"):
        pictures(empty)
    with pytest.raises(InputError, match="folder of pictures: got .*nowhere"):
        pictures(tmp_path / "nowhere")


@pytest.mark.skipif(
    importlib.util.find_spec("skimage") is None, reason="no scikit-image"
)
def test_pictures_of_scikit_image():
    found = skimage_pictures(["camera", "coins"], (40, 50)).samples([0])
    assert found.inputs.shape == (1, 1, 1, 40, 50) and 0 < found.inputs.mean() < 1
    with pytest.raises(InputError, match="data.names: got 'kodak'"):
        skimage_pictures(["kodak"])
