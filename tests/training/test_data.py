"""Samples of a case, in parts that do not overlap."""

import numpy as np
import pytest

from npde_opt.errors import InputError
from npde_opt.training.case import TrainingCase
from npde_opt.training.rules import validated

RNG = np.random.default_rng(0)
INPUTS, LABELS = RNG.random((40, 3, 2)), np.arange(40) % 4


def parts(home, number=0, **keys):
    """The parts of a case with these keys in [data]."""
    raw = {"data": keys, "layer": {"kind": "dense", "channels": 4}}
    return TrainingCase(validated(raw), home / "case.toml", home, 0).data.parts(number)


@pytest.fixture
def folder(tmp_path):
    np.savez(tmp_path / "a.npz", inputs=INPUTS, labels=LABELS)
    np.savez(tmp_path / "b.npz", inputs=INPUTS[:8], labels=LABELS[:8])
    text = "year,value\n" + "".join(f"{1900 + n},{n}\n" for n in range(20))
    (tmp_path / "s.csv").write_text(text)
    return tmp_path


def test_shares_of_the_samples(folder):
    found = parts(folder, kind="arrays", file="a.npz", test=0.3, validation=0.25)
    assert [(p.name, p.count) for p in found.all] == [
        ("training", 21),
        ("validation", 7),
        ("test", 12),
    ]
    together = np.concatenate([p.numbers for p in found.all])
    np.testing.assert_array_equal(np.sort(together), np.arange(40))
    assert np.bincount(LABELS[found.tests[0].numbers]).tolist() == [3, 3, 3, 3]
    again, other = (
        parts(folder, n, kind="arrays", file="a.npz", test=0.3) for n in (0, 1)
    )
    np.testing.assert_array_equal(again.tests[0].numbers, found.tests[0].numbers)
    assert (other.tests[0].numbers != found.tests[0].numbers).any()


def test_a_test_of_its_own_and_a_few_samples(folder):
    found = parts(folder, kind="arrays", file="a.npz", test="b.npz", train=10)
    assert found.train.count == 10 and found.tests[0].count == 8
    np.testing.assert_array_equal(
        found.tests[0].source.samples([1]).inputs[0, 0, 0], INPUTS[1]
    )
    with pytest.raises(InputError, match="data.train: got 41; allowed: at most 40"):
        parts(folder, kind="arrays", file="a.npz", train=41)


def test_windows_by_time(folder):
    keys = {"kind": "series", "file": "s.csv", "time": "year", "length": 4}
    found = parts(folder, **keys, until=[1910, 1914])
    assert [(p.name, p.count) for p in found.all] == [
        ("training", 7),
        ("1911 to 1914", 4),
        ("1915 to 1919", 5),
    ]
    with pytest.raises(InputError, match=r"data.until: got \[1900.0\]"):
        parts(folder, **keys, until=[1900.0])


def test_tests_that_are_of_another_kind_are_refused(folder):
    np.savez(folder / "c.npz", inputs=INPUTS[:, :2], labels=LABELS)
    with pytest.raises(
        InputError, match=r"cells of c.npz: got \(1, 2, 2\); allowed: \(1, 3, 2\)"
    ):
        parts(folder, kind="arrays", file="a.npz", test="c.npz")
    np.savez(folder / "c.npz", inputs=INPUTS, labels=LABELS + 1)
    with pytest.raises(InputError, match="labels of c.npz: got 4 of sample 3"):
        parts(folder, kind="arrays", file="a.npz", test="c.npz")
    with pytest.raises(InputError, match="data.splits: got 5"):
        parts(folder, kind="arrays", file="a.npz", test="b.npz", splits=5)


def test_tests_without_some_of_the_classes_have_the_numbers_of_the_training(tmp_path):
    inputs = np.zeros((6, 1, 1, 2, 2))
    np.savez(tmp_path / "a.npz", inputs=inputs, labels=[0, 1, 2, 0, 1, 2])
    np.savez(tmp_path / "b.npz", inputs=inputs[:2], labels=[1, 0])
    np.savez(tmp_path / "c.npz", inputs=inputs[:1], labels=[3])
    (tmp_path / "a.csv").write_text("v,k\n1,red\n2,blue\n3,green\n")
    (tmp_path / "b.csv").write_text("v,k\n1,red\n2,green\n")
    (tmp_path / "c.csv").write_text("v,k\n1,grey\n")

    def test_of(**section):
        return parts(tmp_path, **section).tests[0]

    arrays = {"kind": "arrays", "file": "a.npz"}
    found = test_of(**arrays, test="b.npz").source
    assert (found.classes, [*found.labels]) == (("0", "1", "2"), [1, 0])
    table = {"kind": "table", "file": "a.csv", "label": "k"}
    found = test_of(**table, test="b.csv").source
    assert (found.classes, [*found.labels]) == (("blue", "green", "red"), [2, 1])
    with pytest.raises(InputError, match="labels of c.npz: got 3 of sample 0"):
        test_of(**arrays, test="c.npz")
    with pytest.raises(InputError, match="labels of c.csv: got 'grey'"):
        test_of(**table, test="c.csv")


def test_files_and_arrays_that_are_missing_are_told(folder):
    with pytest.raises(
        InputError, match="data.file: got none.npz; allowed: an existing file"
    ):
        parts(folder, kind="arrays", file="none.npz")
    with pytest.raises(
        InputError, match="data.folder: got 'none'; allowed: an existing folder"
    ):
        parts(folder, kind="pictures", folder="none")
    np.savez(folder / "c.npz", values=INPUTS)
    with pytest.raises(
        InputError, match="got values; allowed: inputs, and labels or targets"
    ):
        parts(folder, kind="arrays", file="c.npz")
    (folder / "c.npz").write_bytes(b"none")
    with pytest.raises(InputError, match=r"c.npz: got a file that cannot be read"):
        parts(folder, kind="arrays", file="c.npz")
    np.savez(folder / "c.npz", inputs=np.array(["a", "b"]), labels=LABELS[:2])
    with pytest.raises(InputError, match="inputs of .*c.npz"):
        parts(folder, kind="arrays", file="c.npz")
