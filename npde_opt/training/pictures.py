"""Grey pictures of a folder, or of scikit-image, brightness from 0 to 1: the samples of a denoiser,
whose targets are the pictures themselves.

A rank opens those pictures only that it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from npde_opt.aliases import FilePath
from npde_opt.errors import InputError
from npde_opt.io.pictures import brightness, picture_size
from npde_opt.training.samples import Box, Source, installed

ENDS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".pgm")
SCENES = (
    "astronaut",
    "brick",
    "camera",
    "cell",
    "chelsea",
    "coffee",
    "coins",
    "grass",
    "gravel",
    "moon",
    "rocket",
)
"""Pictures of scenes and surfaces among scikit-image's data, of several sizes."""
SKIMAGE = "scikit-image's pictures"
Size = tuple[int, int]
"""Rows and columns."""


class Pictures(Source):
    """Pictures of one size.

    Args:
        files: of the pictures.
        size: of what is taken from the middle of each; None: the whole, of which all must have the
            same size.
        of_any_size: without a size, take as much from the middle as all have; `picture` gives the
            whole of each.

    Raises:
        InputError: for no files, files that are no pictures, several sizes, and pictures smaller
            than `size`.
    """

    channels = 1

    def __init__(
        self,
        name: str,
        files: Sequence[Path],
        size: Size | None = None,
        of_any_size: bool = False,
    ):
        self.name, self.files, self.count = name, list(files), len(files)
        found, self._cut = sizes(name, files), size
        if size is None:
            size = _least(found) if of_any_size else _only(name, found)
        for path, (rows, columns) in found.items():
            if rows < size[0] or columns < size[1]:
                said = f"{path.name} of {rows} x {columns} cells"
                raise InputError(
                    name, said, f"pictures of at least {size[0]} x {size[1]}"
                )
        self.shape = (1, *size)

    def _inputs(self, numbers: np.ndarray, box: Box, dtype: np.dtype) -> np.ndarray:
        empty = np.empty((1, *self.shape), np.uint8)[(slice(None), *box)]
        out = np.empty((len(numbers), *empty.shape), dtype)
        for sample, number in enumerate(numbers):
            part = middle(self.picture(number), self.shape[1:])[np.newaxis]
            out[sample] = part[box]
        return out

    def picture(self, number: int) -> np.ndarray:
        """[j, i] of one: its middle of the size that was given, else the whole."""
        grey = brightness(self.name, self.files[number])
        return grey if self._cut is None else middle(grey, self._cut)


def pictures(
    folder: FilePath, size: Size | None = None, of_any_size: bool = False
) -> Pictures:
    """The pictures of a folder, by their names. Arguments and errors as `Pictures`."""
    return Pictures(
        Path(folder).name or str(folder), picture_files(folder), size, of_any_size
    )


def by_size(folder: FilePath) -> list[Pictures]:
    """The pictures of a folder, those of each size together, the smallest first."""
    return _by_size(Path(folder).name, picture_files(folder))


def skimage_by_size(names: Sequence[str]) -> list[Pictures]:
    """Some of scikit-image's pictures, those of each size together, the smallest first."""
    return _by_size(SKIMAGE, _skimage_files(names))


def _by_size(name: str, files: Sequence[Path]) -> list[Pictures]:
    groups: dict[Size, list[Path]] = {}
    for path, size in sizes(name, files).items():
        groups.setdefault(size, []).append(path)
    return [
        Pictures(f"{name}, {rows} x {columns}", groups[rows, columns], (rows, columns))
        for rows, columns in sorted(groups)
    ]


def skimage_pictures(
    names: Sequence[str] = SCENES, size: Size | None = None, of_any_size: bool = False
) -> Pictures:
    """Pictures that scikit-image ships. Arguments and errors as `Pictures`."""
    return Pictures(SKIMAGE, _skimage_files(names), size, of_any_size)


def _skimage_files(names: Sequence[str]) -> list[Path]:
    folder = Path(installed("skimage", "data.kind skimage")) / "data"
    there = {path.stem: path for path in picture_files(folder)}
    wrong = [name for name in names if name not in there]
    if wrong:
        raise InputError("data.names", repr(wrong[0]), ", ".join(sorted(there)))
    return [there[name] for name in names]


def picture_files(folder: FilePath) -> list[Path]:
    """The pictures of a folder by their names.

    Raises:
        InputError: for what is no folder, and one without pictures.
    """
    place = Path(folder)
    allowed = f"a folder with pictures ({', '.join(ENDS)})"
    if not place.is_dir():
        raise InputError("folder of pictures", str(folder), allowed)
    found = sorted(
        p for p in place.iterdir() if p.suffix.lower() in ENDS and p.is_file()
    )
    if not found:
        raise InputError("folder of pictures", f"{folder}, which has none", allowed)
    return found


def sizes(name: str, files: Sequence[Path]) -> Mapping[Path, Size]:
    """Rows and columns of each picture, of which only the heads are read."""
    if not files:
        raise InputError(name, "no pictures", "at least one")
    return {path: picture_size(name, path) for path in files}


def _least(found: Mapping[Path, Size]) -> Size:
    """Rows and columns that all have."""
    rows, columns = zip(*found.values(), strict=True)
    return min(rows), min(columns)


def _only(name: str, found: Mapping[Path, Size]) -> Size:
    """The size of all. Raises InputError where there are several."""
    counts: dict[Size, list[Path]] = {}
    for path, size in found.items():
        counts.setdefault(size, []).append(path)
    if len(counts) > 1:
        told = ", ".join(
            f"{r} x {c} ({len(paths)})" for (r, c), paths in sorted(counts.items())
        )
        said = f"pictures of {len(counts)} sizes: {told}"
        raise InputError(
            name, said, "one size; data.size = [rows, columns] takes their middle"
        )
    return next(iter(counts))


def middle(grey: np.ndarray, size: Size) -> np.ndarray:
    """So many rows and columns around the middle."""
    first = [
        (there - wanted) // 2 for there, wanted in zip(grey.shape, size, strict=True)
    ]
    rows, columns = (slice(a, a + n) for a, n in zip(first, size, strict=True))
    return grey[rows, columns]
