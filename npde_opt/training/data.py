"""The samples of a training case, parted into those for training, for validation and for tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from npde_opt.cases.sources import Sources
from npde_opt.errors import InputError
from npde_opt.training.arrays import arrays
from npde_opt.training.digits import digits
from npde_opt.training.idx import mnist
from npde_opt.training.pictures import (
    SCENES,
    Pictures,
    by_size,
    pictures,
    skimage_by_size,
    skimage_pictures,
)
from npde_opt.training.pieces import Pieces
from npde_opt.training.samples import Source
from npde_opt.training.sections import DataSection
from npde_opt.training.sequences import Windows, archived, sequences, sunspots, windows
from npde_opt.training.shifted import Shifted
from npde_opt.training.splits import split
from npde_opt.training.tables import rows

WINDOW = 9
"""Values of a window, where nothing is said."""


@dataclass(frozen=True)
class Part:
    """Some samples of a source.

    Attributes:
        name: in reports: training, validation, test, or the times of a test.
    """

    name: str
    source: Source
    numbers: np.ndarray

    @property
    def count(self) -> int:
        return len(self.numbers)


@dataclass(frozen=True)
class Parts:
    """The parts of one split."""

    train: Part
    validation: Part | None
    tests: Sequence[Part]

    @property
    def all(self) -> list[Part]:
        return [
            self.train,
            *([self.validation] if self.validation else []),
            *self.tests,
        ]


class Data:
    """Reads what [data] names, as far as it says what there is.

    Args:
        sources: the case's folder and that of --data.
        seed: of the splits.

    Raises:
        InputError: naming the key or the file that is wrong.
    """

    def __init__(self, section: DataSection, sources: Sources, seed: int):
        self.section, self.sources, self.seed = section, sources, seed
        self._known: dict[int, Parts] = {}
        self.source = self._source(section.kind)
        self.others = self._others()
        for other in self.others:
            _check_alike(self.source, other, section.crop is not None)
        drawn = isinstance(section.test, float) or section.validation is not None
        if section.splits > 1 and not drawn:
            allowed = "1, or a share as data.test or data.validation"
            raise InputError("data.splits", section.splits, allowed)

    # ---- sources ---------------------------------------------------------------------------------

    def _source(self, kind: str) -> Source:
        """The samples for training, or all."""
        s = self.section
        if kind == "digits":
            return digits()
        if kind == "mnist":
            return mnist(self.sources.data_folder, "train")
        if kind == "skimage":
            return skimage_pictures(s.names or SCENES, s.size, s.crop is not None)
        if kind == "pictures":
            return pictures(
                self._folder("data.folder", s.folder), s.size, s.crop is not None
            )
        if kind == "sunspots":
            return sunspots(s.length or WINDOW)
        if kind == "archive":
            return sequences(archived(s.name or "", "TRAIN"), s.length)
        return self._of_file(self._file("data.file", s.file))

    def _of_file(self, path: Path, classes: Sequence[str] | None = None) -> Source:
        """Args: classes: of a test, those of the training samples."""
        s = self.section
        if s.kind == "table":
            return rows(path, s.targets or (), s.label, s.inputs, known=classes)
        if s.kind == "series":
            return windows(path, s.length or WINDOW, s.inputs, s.time)
        if s.kind == "sequences":
            return sequences(path, s.length)
        return arrays(path, classes)

    def _others(self) -> list[Source]:
        """Samples for the test that are no share of the others; pictures by their sizes."""
        s = self.section
        if s.kind in ("mnist", "archive"):
            if s.test is not None:
                raise InputError(
                    "data.test", s.test, f"nothing: {s.kind} has samples for the test"
                )
            if s.kind == "mnist":
                return [mnist(self.sources.data_folder, "test")]
            path = archived(s.name or "", "TEST")
            return [sequences(path, self.source.shape[2], self.source.classes)]
        if isinstance(s.test, list):
            return (
                [*skimage_by_size(s.test)]
                if s.crop
                else [skimage_pictures(s.test, s.size)]
            )
        return (
            []
            if s.test is None or isinstance(s.test, float)
            else self._named_test(s.test)
        )

    def _named_test(self, given: str) -> list[Source]:
        s = self.section
        if s.kind == "pictures":
            folder = self._folder("data.test", given)
            return [*by_size(folder)] if s.crop else [pictures(folder, s.size)]
        if s.kind == "sequences":
            path = self._file("data.test", given)
            return [sequences(path, self.source.shape[2], self.source.classes)]
        if s.kind in ("table", "arrays"):
            path = self._file("data.test", given)
            return [self._of_file(path, self.source.classes or None)]
        raise InputError("data.test", repr(given), f"a share of the {s.kind}")

    def _file(self, field: str, name: str | None) -> Path:
        if name is None:
            raise InputError(
                field, "nothing", f"a file of data of the kind {self.section.kind}"
            )
        return self.sources.find(field, name)

    def _folder(self, field: str, name: str | None) -> Path:
        if name is None:
            raise InputError(field, "nothing", "a folder of pictures")
        places = [self.sources.folder / name]
        if self.sources.data_folder is not None:
            places += [self.sources.data_folder / name]
        for place in places:
            if place.is_dir():
                return place
        looked = ", ".join(str(place.parent) for place in places)
        hint = (
            ""
            if self.sources.data_folder
            else "; --data DIR or NPDE_DATA gives another place"
        )
        raise InputError(
            field, repr(name), f"an existing folder (looked in {looked}){hint}"
        )

    # ---- parts -----------------------------------------------------------------------------------

    def parts(self, number: int = 0) -> Parts:
        """The parts of a split, the same on any number of ranks.

        Args:
            number: of the split, from 0.
        """
        if number not in self._known:
            self._known[number] = self._parted(number)
        return self._known[number]

    def _parted(self, number: int) -> Parts:
        s, seed = self.section, [self.seed, number]
        everything = Part("training", self.source, np.arange(self.source.count))
        tests = [
            _whole(name, other)
            for name, other in zip(self._names(), self.others, strict=True)
        ]
        if s.until is not None:
            everything, tests = self._by_time(s.until)
        elif isinstance(s.test, float):
            everything, test = _shared(everything, s.test, [*seed, 0], "test")
            tests = [test]
        validation = None
        if s.validation is not None:
            everything, validation = _shared(
                everything, s.validation, [*seed, 1], "validation"
            )
        if s.train is not None:
            everything = _drawn(everything, s.train, [*seed, 2])
        if s.copies > 1:
            bent = s.turn, s.bend
            more = Shifted(everything.source, s.copies, s.shift, self.seed, *bent)
            everything = Part(everything.name, more, more.of(everything.numbers))
        if s.crop is not None:
            source, numbers = everything.source, everything.numbers
            assert isinstance(source, Pictures)
            pieces = Pieces(source, numbers, s.crop, s.versions, [*seed, 3])
            everything = _whole(everything.name, pieces)
        return Parts(everything, validation, tests)

    def _names(self) -> list[str]:
        """Of the tests: with their cells, where these differ."""
        if len(self.others) == 1:
            return ["test"]
        return [f"test {other.shape[1]} x {other.shape[2]}" for other in self.others]

    def _by_time(self, until: Sequence[float]) -> tuple[Part, list[Part]]:
        """Windows up to the first time, and after it by the others."""
        assert isinstance(self.source, Windows)
        times = self.source.times
        if list(until) != sorted(set(until)) or not times[0] <= until[0]:
            allowed = f"increasing times from {times[0]:g} on"
            raise InputError("data.until", until, allowed)
        ends = [t for t in until if t < times[-1]]
        place = np.searchsorted(ends, times, side="left")
        parts = []
        for number in range(len(ends) + 1):
            numbers = np.flatnonzero(place == number)
            name = (
                f"{times[numbers[0]]:g} to {times[numbers[-1]]:g}"
                if numbers.size
                else ""
            )
            parts.append(Part(name, self.source, numbers))
        first, *rest = [part for part in parts if part.count]
        return Part("training", self.source, first.numbers), rest


def _whole(name: str, source: Source) -> Part:
    return Part(name, source, np.arange(source.count))


def _shared(
    part: Part, share: float, seed: Sequence[int], name: str
) -> tuple[Part, Part]:
    """What is left of a part, and a share of it."""
    labels = part.source.labels
    known = part.count if labels is None else labels[part.numbers]
    kept, given = split(known, [1 - share, share], seed)
    return (
        Part(part.name, part.source, part.numbers[kept]),
        Part(name, part.source, part.numbers[given]),
    )


def _drawn(part: Part, count: int, seed: Sequence[int]) -> Part:
    """So many samples of a part."""
    if count > part.count:
        raise InputError(
            "data.train", count, f"at most {part.count:,}, as many as there are"
        )
    if count == part.count:
        return part
    rest, drawn = _shared(part, count / part.count, seed, part.name)
    # A share may round to one less or more.
    both = np.concatenate([drawn.numbers, rest.numbers])
    return Part(part.name, part.source, np.sort(both[:count]))


def _check_alike(source: Source, other: Source, of_any_size: bool) -> None:
    """Raises InputError for tests that are not of the kind of the training samples."""
    for what, there, wanted in (
        ("channels", other.channels, source.channels),
        ("cells", other.shape, source.shape),
        ("classes", other.classes, source.classes),
    ):
        if there != wanted and not (of_any_size and what == "cells"):
            raise InputError(
                f"data.test: {what} of {other.name}", there, f"{wanted}, as before"
            )
