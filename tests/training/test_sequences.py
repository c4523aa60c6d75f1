"""Windows of series with what follows, and labelled sequences of ts files."""

import importlib.util

import numpy as np
import pytest

from npde_opt.errors import InputError
from npde_opt.training.sequences import Windows, archived, sequences, sunspots, windows

SERIES = np.arange(12.0).reshape(6, 2)


def test_a_window_ends_before_its_target():
    source = Windows("w", SERIES, np.arange(2000, 2006), 3)
    found = source.samples()
    assert (source.count, source.channels, source.shape) == (3, 2, (1, 1, 3))
    np.testing.assert_array_equal(found.inputs[1, :, 0, 0], SERIES[1:4].T)
    np.testing.assert_array_equal(found.targets[:, :, 0, 0, 0], SERIES[3:])
    np.testing.assert_array_equal(source.times, [2003, 2004, 2005])


def test_series_of_a_table(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text("year,a,b\n1,5,6\n2,7,8\n4,9,1\n")
    found = windows(path, 1, ["b"], time="year")
    np.testing.assert_array_equal(found.samples().inputs.ravel(), [6, 8])
    np.testing.assert_array_equal(found.times, [2, 4])
    np.testing.assert_array_equal(windows(path, 2).times, [2])
    with pytest.raises(
        InputError, match="data.length: got 3, of 3 values; allowed: at most 2"
    ):
        windows(path, 3)
    path.write_text("year,a\n1,5\n3,7\n2,9\n")
    with pytest.raises(InputError, match="2 after 3; allowed: times that increase"):
        windows(path, 1, time="year")


@pytest.mark.skipif(
    importlib.util.find_spec("statsmodels") is None, reason="no statsmodels"
)
def test_sunspots():
    found = sunspots(9)
    assert found.count == 300 and found.times[0] == 1709
    assert (
        found.samples([0]).inputs.ravel()[0] == 5
        and found.samples([211]).targets == 37.6
    )


HEAD = "# comment\n@problemName p\n@classLabel true u v\n@data\n"


def test_labelled_sequences_of_several_lengths(tmp_path):
    path = tmp_path / "p_TRAIN.ts"
    path.write_text(HEAD + "1,2,3:4,5,6:v\n7:8:u\n")
    source = sequences(path)
    np.testing.assert_array_equal(source.samples().targets, [1, 0])
    np.testing.assert_array_equal(
        source.samples().inputs[:, :, 0, 0],
        [[[1, 2, 3], [4, 5, 6]], [[7] * 3, [8] * 3]],
    )
    assert sequences(path, 2).samples([0]).inputs[0, 0, 0, 0].tolist() == [2, 3]
    other = tmp_path / "p_TEST.ts"
    other.write_text(HEAD + "1,2:3,4:v\n")
    np.testing.assert_array_equal(
        sequences(other, 3, source.classes).samples().targets, [1]
    )
    with pytest.raises(
        InputError, match=r"labels of p_TEST.ts: got 'v'; allowed: u, w"
    ):
        sequences(other, 3, ["u", "w"])


@pytest.mark.parametrize(
    "text, said",
    [
        ("1,2:a\n", "no line @data"),
        (HEAD, "no sequences"),
        (HEAD + "1,x:a\n", "line 5"),
        (HEAD + "1,2:3:a\n", "line 5"),
        (HEAD + "1:2:a\n3:a\n", "channels"),
    ],
)
def test_damaged_sequences_are_told(tmp_path, text, said):
    path = tmp_path / "p.ts"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        sequences(path)


@pytest.mark.skipif(importlib.util.find_spec("aeon") is None, reason="no aeon")
def test_sequences_of_the_archive():
    train = sequences(archived("JapaneseVowels", "TRAIN"))
    assert (train.count, train.channels, len(train.classes)) == (270, 12, 9)
    with pytest.raises(
        InputError, match="data.name: got 'Vowels'; allowed: .*JapaneseVowels"
    ):
        archived("Vowels", "TRAIN")
