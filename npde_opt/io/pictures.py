"""Grey pictures of files, by pillow: brightness from 0 (black) to 1 (white)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from npde_opt.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

WHITE = {"1": 1.0, "I;16": 65535.0, "I;16B": 65535.0, "I;16L": 65535.0, "I": 65535.0}
"""Values of white by the mode of a picture, where it is not 255."""
ORIENTATION, LYING = 0x0112, (5, 6, 7, 8)
"""The number of the note by which cameras say which side is up, and what it says of pictures whose
rows are columns."""


def brightness(field: str, path: Path) -> np.ndarray:
    """[row, column], the first row on top.

    Raises:
        InputError: naming `field`, where there is no pillow, and for what is no picture.
    """
    with _opened(field, path) as image:
        from PIL import ImageOps

        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode == "F":
            raise ValueError("its values are floats, of which white is not known")
        grey = np.asarray(image if image.mode in WHITE else image.convert("L"), float)
        return grey / WHITE.get(image.mode, 255.0)


def picture_size(field: str, path: Path) -> tuple[int, int]:
    """Rows and columns, of which the file's head alone is read. Errors as `brightness`."""
    with _opened(field, path) as image:
        columns, rows = image.size
        lying = image.getexif().get(ORIENTATION) in LYING
        return (columns, rows) if lying else (rows, columns)


@contextlib.contextmanager
def _opened(field: str, path: Path) -> Iterator[Image]:
    """A picture; whatever fails inside is told with the file."""
    try:
        from PIL import Image
    except ImportError as error:
        allowed = "pip install 'npde_opt[plot]'"
        raise InputError(field, "a picture without pillow", allowed) from error
    try:
        with Image.open(path) as image:
            yield image
    except Exception as error:
        said = f"{path}, which cannot be read ({(str(error) or repr(error)).splitlines()[0]})"
        raise InputError(field, said, "an undamaged picture") from error
