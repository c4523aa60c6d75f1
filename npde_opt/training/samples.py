"""Samples of a network: inputs x_s [sample, channel, k, j, i], x last, and a target y_s each.

A `Source` knows how many samples there are and what they look like; their values are read as far as
somebody asks for them. So a rank reads the samples of its group, and of these the cells that it
owns, and never holds the others.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from npde_opt.errors import InputError

Box = tuple[slice, slice, slice]
"""Cells [k, j, i] of a grid."""
WHOLE: Box = (slice(None), slice(None), slice(None))
Shape = tuple[int, int, int]
"""Numbers of cells [k, j, i]; 1 along axes that a grid does not have."""
MOST_CLASSES = 100_000
"""A larger label is taken for a mistake."""
DTYPES = (np.dtype("float32"), np.dtype("float64"))


@dataclass(frozen=True, eq=False)
class Samples:
    """Some samples, or a rank's part of their cells.

    Attributes:
        inputs: [sample, channel, k, j, i].
        targets: labels from 0 [sample], or numbers [sample, channel, k, j, i].
    """

    inputs: np.ndarray
    targets: np.ndarray

    def __post_init__(self) -> None:
        if self.inputs.ndim != 5:
            shape = f"an array of shape {self.inputs.shape}"
            raise InputError("inputs", shape, "[sample, channel, k, j, i]")
        if self.inputs.dtype not in DTYPES:
            raise InputError(
                "inputs", f"numbers of type {self.inputs.dtype}", "float32 or float64"
            )
        if len(self.targets) != len(self.inputs):
            allowed = f"{len(self.inputs)}, one a sample"
            raise InputError("targets", f"{len(self.targets)} targets", allowed)

    @property
    def count(self) -> int:
        return len(self.inputs)

    @property
    def labelled(self) -> bool:
        """Whether the targets are classes."""
        return self.targets.ndim == 1

    def over(self, numbers: Sequence[int] | np.ndarray) -> Samples:
        """Some of them, as copies."""
        return Samples(self.inputs[numbers], self.targets[numbers])


class Source(ABC):
    """Where samples come from.

    Attributes:
        name: in words, for messages and headlines.
        count: of all samples.
        channels: of an input.
        shape: its cells.
        labels: the class of each sample from 0 (count,); None where targets are numbers.
        classes: names of the classes, by number.
        files: that they are read from.
    """

    name: str
    count: int
    channels: int
    shape: Shape
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    files: Sequence[Path] = ()

    def samples(
        self,
        numbers: Sequence[int] | np.ndarray | None = None,
        box: Box = WHOLE,
        dtype: type[np.floating] = np.float64,
    ) -> Samples:
        """Reads samples.

        Args:
            numbers: of the samples, in any order; None: all.
            box: the cells of each that are kept.
            dtype: of inputs, and of targets that are no labels.

        Raises:
            InputError: for numbers of no sample, files that are damaged, and values that are NaN or
                infinite.
        """
        chosen = self._numbers(numbers)
        inputs = self._inputs(chosen, box, np.dtype(dtype))
        self._check_finite(inputs, chosen, "input")
        if self.labels is not None:
            return Samples(inputs, self.labels[chosen])
        targets = self._targets(chosen, box, np.dtype(dtype))
        self._check_finite(targets, chosen, "target")
        return Samples(inputs, targets)

    @property
    def target_size(self) -> int:
        """Numbers that a network has to give for a sample; the classes, where there are labels."""
        if self.labels is not None:
            return len(self.classes)
        k, j, i = self.shape
        return self.channels * k * j * i

    @abstractmethod
    def _inputs(self, numbers: np.ndarray, box: Box, dtype: np.dtype) -> np.ndarray:
        """[sample, channel, k, j, i], contiguous."""

    def _targets(self, numbers: np.ndarray, box: Box, dtype: np.dtype) -> np.ndarray:
        """Targets of a source without labels: the inputs themselves, unless it has others."""
        return self._inputs(numbers, box, dtype)

    def _numbers(self, given: Sequence[int] | np.ndarray | None) -> np.ndarray:
        if given is None:
            return np.arange(self.count)
        numbers = np.asarray(given, np.int64)
        outside = numbers[(numbers < 0) | (numbers >= self.count)]
        if outside.size:
            raise InputError(
                "sample", int(outside[0]), f"0 to {self.count - 1} of {self.name}"
            )
        return numbers

    def _check_finite(self, values: np.ndarray, numbers: np.ndarray, what: str) -> None:
        wrong = ~np.isfinite(values)
        if wrong.any():
            first = np.argwhere(wrong)[0]
            said = f"{values[tuple(first)]} in the {what} of sample {numbers[first[0]]}"
            raise InputError(self.name, said, "finite numbers")


class Held(Source):
    """Samples that are in memory already.

    Args:
        inputs: [sample, channel, k, j, i].
        labels: the class of each sample, whole numbers from 0; None: there are `targets`.
        targets: [sample, channel, k, j, i]; None: the inputs.
        classes: names of the classes; by default their numbers.
        files: that they were read from.

    Raises:
        InputError: for no samples, other numbers of targets, and labels that are no classes.
    """

    def __init__(
        self,
        name: str,
        inputs: np.ndarray,
        labels: np.ndarray | None = None,
        targets: np.ndarray | None = None,
        classes: Sequence[str] | None = None,
        files: Sequence[Path] = (),
    ):
        if inputs.ndim != 5 or not inputs.size:
            said = f"an array of shape {inputs.shape}"
            raise InputError(
                name, said, "[sample, channel, k, j, i], at least one sample"
            )
        self.name, self._values, self._others, self.files = name, inputs, targets, files
        self.count, self.channels = inputs.shape[:2]
        k, j, i = inputs.shape[2:]
        self.shape = (k, j, i)
        for found in (labels, targets):
            if found is not None and len(found) != self.count:
                said = f"{len(found)} targets of {self.count} samples"
                raise InputError(name, said, "one target a sample")
        if labels is not None:
            self.labels = whole_labels(name, labels, len(classes) if classes else None)
            self.classes = tuple(classes or map(str, range(int(self.labels.max()) + 1)))

    @property
    def target_size(self) -> int:
        if self._others is None:
            return super().target_size
        return int(np.prod(self._others.shape[1:]))

    def _inputs(self, numbers: np.ndarray, box: Box, dtype: np.dtype) -> np.ndarray:
        return cells_of(self._values, numbers, box, dtype)

    def _targets(self, numbers: np.ndarray, box: Box, dtype: np.dtype) -> np.ndarray:
        if self._others is None:
            return self._inputs(numbers, box, dtype)
        # Targets on another grid than the inputs are whole on every rank.
        own = box if self._others.shape[2:] == self.shape else WHOLE
        return cells_of(self._others, numbers, own, dtype)


def cells_of(
    values: np.ndarray, numbers: np.ndarray, box: Box, dtype: np.dtype
) -> np.ndarray:
    """A contiguous copy of some cells of some samples."""
    # What is too large for single precision becomes infinite, which is told where it is looked at.
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(
            values[(slice(None), slice(None), *box)][numbers], dtype
        )


def whole_labels(
    name: str, labels: np.ndarray, classes: int | None = None
) -> np.ndarray:
    """Labels as integers.

    Raises:
        InputError: for labels that are no whole numbers from 0, or too large.
    """
    allowed = f"whole numbers from 0 to {(classes or MOST_CLASSES) - 1}"
    found = np.asarray(labels)
    if found.ndim != 1 or found.dtype.kind not in "iuf":
        raise InputError(
            f"labels of {name}", f"{found.dtype} of shape {found.shape}", allowed
        )
    wrong = ~np.isfinite(found) | (found < 0) | (found != np.floor(found))
    wrong |= found >= (classes or MOST_CLASSES)
    if wrong.any():
        first = int(np.argmax(wrong))
        raise InputError(
            f"labels of {name}", f"{found[first]} of sample {first}", allowed
        )
    return found.astype(np.int64)


@functools.cache
def installed(package: str, field: str) -> str:
    """The folder of an installed package of which data are read.

    Raises:
        InputError: naming `field` and what to install, where it is missing.
    """
    import importlib.util

    known = {"sklearn": "scikit-learn"}
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        said = f"{known.get(package, package)} is not installed"
        raise InputError(field, said, "pip install 'npde_opt[learning]'")
    return str(found.submodule_search_locations[0])
