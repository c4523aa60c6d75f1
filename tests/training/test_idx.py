"""idx files: values, cells and samples as asked for; each damage has its message."""

import gzip

import numpy as np
import pytest

from npde_opt.errors import InputError
from npde_opt.training import idx

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (7, 3, 4), dtype=np.uint8)
LABELS = np.array([3, 1, 4, 1, 5, 9, 2], np.uint8)


def packed(values, axes=None):
    magic = 0x0800 + (values.ndim if axes is None else axes)
    return np.array([magic, *values.shape], ">u4").tobytes() + values.tobytes()


def written(folder, pictures=None, labels=None, compress=False, stem="train"):
    """A folder with MNIST's names."""
    folder.mkdir(exist_ok=True)
    for name, content in (
        (
            f"{stem}-images-idx3-ubyte",
            packed(PICTURES) if pictures is None else pictures,
        ),
        (f"{stem}-labels-idx1-ubyte", packed(LABELS) if labels is None else labels),
    ):
        path = folder / (name + ".gz" if compress else name)
        path.write_bytes(gzip.compress(content) if compress else content)
    return folder


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("at_once", [1, 24, 1 << 20])
def test_pictures_and_labels(tmp_path, compress, at_once, monkeypatch):
    monkeypatch.setattr(idx, "AT_ONCE", at_once)
    source = idx.mnist(written(tmp_path, compress=compress))
    assert (source.count, source.channels, source.shape) == (7, 1, (1, 3, 4))
    numbers, box = [5, 0, 6], (slice(None), slice(1, 3), slice(0, 2))
    found = source.samples(numbers, box, np.float32)
    expected = PICTURES[numbers, None, None, 1:3, :2] / 255
    np.testing.assert_allclose(found.inputs, expected, rtol=1e-6)
    np.testing.assert_array_equal(found.targets, LABELS[numbers])


def test_the_folder_mnist_inside_is_found(tmp_path):
    written(tmp_path / "mnist", stem="t10k")
    assert idx.mnist(tmp_path, "test").count == 7
    with pytest.raises(InputError, match=r"--data: got .*train-images-idx3-ubyte\.gz"):
        idx.mnist(tmp_path)
    with pytest.raises(InputError, match="--data: got nothing.*NPDE_DATA"):
        idx.mnist(None)
    with pytest.raises(InputError, match="part of MNIST: got 'all'"):
        idx.mnist(tmp_path, "all")


@pytest.mark.parametrize(
    "pictures, labels, said",
    [
        (
            packed(PICTURES, axes=1),
            None,
            "magic number 0x00000801; allowed: 0x00000803",
        ),
        (b"", None, "cut: 0 bytes"),
        (packed(PICTURES)[:-5], None, "cut: 79 bytes where 84 more"),
        (packed(PICTURES) + b"0", None, "more bytes than its header says"),
        (packed(PICTURES[:0]), None, "no values: sizes 0 x 3 x 4"),
        (None, packed(LABELS[:6]), "6 labels in .*; allowed: 7, as the pictures"),
        (None, packed(LABELS)[:-1], "cut: 6 bytes where 7"),
        (None, packed(LABELS) + b"00", "more bytes"),
        (
            None,
            packed(np.full(7, 10, np.uint8)),
            "10 of sample 0; allowed: .* from 0 to 9",
        ),
    ],
)
@pytest.mark.parametrize("compress", [False, True])
def test_damaged_files_are_told(tmp_path, pictures, labels, said, compress):
    folder = written(tmp_path, pictures, labels, compress)
    with pytest.raises(InputError, match=said):
        idx.mnist(folder).samples([0])


def test_a_compressed_file_that_is_cut_is_told(tmp_path):
    folder = written(tmp_path, compress=True)
    file = folder / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(InputError, match="train-images.* cannot be read"):
        idx.mnist(folder).samples()
