"""Sequences: samples whose cells along x are steps of time, the channels what is seen at each.

    windows of a series y_t:   x_s = (y_{t-L}, ..., y_{t-1}),  target y_t

or sequences with a class each, from files in the ts format of the UEA and UCR archive.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from npde_opt.errors import InputError
from npde_opt.io.encodings import decoded
from npde_opt.io.tables import Layout, read_table
from npde_opt.training.samples import Held, installed
from npde_opt.training.tables import Column, classes_of, numbers, one_cell

Labelled = tuple[list[np.ndarray], list[str]]
"""Sequences [channel, step], and the word that says the class of each."""


class Windows(Held):
    """Windows of a series, each with the value that follows.

    Args:
        series: [time, channel].
        times: of its values, increasing (years, for example).
        length: values in a window.

    Attributes:
        times: of the targets; a split by time goes by them.

    Raises:
        InputError: for a series that has no more values than a window, and times that do not
            increase.
    """

    def __init__(
        self,
        name: str,
        series: np.ndarray,
        times: np.ndarray,
        length: int,
        files: Sequence[Path] = (),
    ):
        if len(series) <= length:
            said = f"{length}, of {len(series)} values"
            raise InputError("data.length", said, f"at most {len(series) - 1}")
        if not (np.diff(times) > 0).all():
            first = int(np.argmin(np.diff(times) > 0))
            said = f"{times[first + 1]:g} after {times[first]:g}"
            raise InputError(f"times of {name}", said, "times that increase")
        views = np.lib.stride_tricks.sliding_window_view(series, length, axis=0)
        # [window, channel, step]; the last window has nothing that follows.
        inputs = views[:-1, :, None, None, :]
        super().__init__(name, inputs, targets=one_cell(series[length:]), files=files)
        self.times = np.asarray(times[length:], float)


def windows(
    path: Path,
    length: int,
    columns: Sequence[Column] | None = None,
    time: Column | None = None,
    layout: Layout | None = None,
) -> Windows:
    """Windows of a series in a text table.

    Args:
        length: values in a window.
        columns: of the series; None: all others.
        time: the column of times; None: the rows are numbered.

    Raises:
        InputError: as `Windows`, and for columns that are not there.
    """
    table = read_table(path, layout or Layout())
    clock = None if time is None else table.index("data.time", time)
    if columns is None:
        chosen = [c for c in range(len(table.rows[0])) if c != clock]
    else:
        chosen = [table.index("data.inputs", c) for c in columns]
    times = np.arange(len(table.rows), dtype=float)
    if clock is not None:
        times = numbers(table, [clock])[:, 0]
    return Windows(path.name, numbers(table, chosen), times, length, [path])


def sunspots(length: int) -> Windows:
    """Yearly sunspots 1700 to 2008, which statsmodels ships."""
    folder = Path(installed("statsmodels", "data.kind sunspots"))
    path = folder / "datasets" / "sunspots" / "sunspots.csv"
    return windows(path, length, time="YEAR")


def archived(name: str, part: str) -> Path:
    """The file of a set of sequences that aeon ships, such as JapaneseVowels; `part` TRAIN or
    TEST."""
    data = Path(installed("aeon", "data.kind sequences")) / "datasets" / "data"
    path = data / name / f"{name}_{part}.ts"
    if not path.is_file():
        there = ", ".join(sorted(p.name for p in data.iterdir() if p.is_dir()))
        raise InputError("data.name", repr(name), there)
    return path


def sequences(
    path: Path, length: int | None = None, classes: Sequence[str] | None = None
) -> Held:
    """Labelled sequences of a ts file, on `length` steps: shorter ones begin with their first value
    again and again, longer ones lose their first values.

    Args:
        length: steps; None: those of the longest.
        classes: their names, where a file that was read before has numbered them; None: as the file
            says.

    Raises:
        InputError: for what is no ts file, and classes that are not known.
    """
    found, words = _read_ts(path)
    labels, names = classes_of(words, path, classes)
    steps = length or max(values.shape[1] for values in found)
    inputs = np.stack([_to_length(values, steps) for values in found])
    values = inputs[:, :, None, None, :]
    return Held(path.name, values, labels, classes=names, files=[path])


def read_sequences(path: Path, steps: int) -> np.ndarray:
    """The sequences of a ts file on so many steps (see `sequences`), whatever their labels
    [sample, channel, 1, 1, step]."""
    found = np.stack([_to_length(values, steps) for values in _read_ts(path)[0]])
    return found[:, :, None, None, :]


def _to_length(values: np.ndarray, steps: int) -> np.ndarray:
    """The last steps of [channel, step], with the first value before where there are too few."""
    missing = max(steps - values.shape[1], 0)
    return np.pad(values[:, -steps:], ((0, 0), (missing, 0)), mode="edge")


def _read_ts(path: Path) -> Labelled:
    """Lines `v,v,...:v,v,...:class`, a channel between colons, after a line @data."""
    lines = decoded(path, None).splitlines()
    marks = [n for n, line in enumerate(lines) if line.strip().lower() == "@data"]
    if not marks:
        raise InputError(str(path), "no line @data", "a file in the ts format")
    found: list[np.ndarray] = []
    words: list[str] = []
    for n, line in enumerate(lines[marks[0] + 1 :], marks[0] + 2):
        if line.strip():
            *channels, word = line.strip().split(":")
            found.append(_channels(f"{path}, line {n}", channels))
            words.append(word)
    if not found:
        raise InputError(str(path), "no sequences", "at least one")
    counts = sorted({len(values) for values in found})
    if len(counts) > 1:
        raise InputError(
            str(path), f"sequences of {counts} channels", "as many in each"
        )
    return found, words


def _channels(where: str, texts: Sequence[str]) -> np.ndarray:
    """[channel, step] of one line."""
    try:
        found = np.array([[float(word) for word in text.split(",")] for text in texts])
    except ValueError:  # a word that is no number, or channels of several lengths
        found = np.empty(0)
    if found.ndim != 2:
        allowed = "channels of as many numbers each, none missing, between colons, and a class"
        raise InputError(where, "other values", allowed)
    return found
