"""The handwritten digits that scikit-learn ships: 1,797 of 8 x 8 values from 0 to 16, as brightness
from 0 to 1."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from npde_opt.errors import InputError
from npde_opt.training.samples import Held, installed

SIDE, WHITE = 8, 16.0


def digits() -> Held:
    """The digits, labelled.

    Raises:
        InputError: where scikit-learn is not installed, or its file is damaged.
    """
    folder = installed("sklearn", "data.kind digits")
    return read_digits(Path(folder) / "datasets" / "data" / "digits.csv.gz")


def read_digits(path: Path) -> Held:
    """Rows of 64 values and a label."""
    try:
        with gzip.open(path, "rt", encoding="ascii") as file:
            lines = file.read().splitlines()
        rows = np.loadtxt(lines, delimiter=",", ndmin=2) if lines else np.empty((0, 0))
    except (OSError, EOFError, ValueError, zlib.error) as error:
        said = f"{path}, which cannot be read ({str(error).splitlines()[0]})"
        raise InputError(
            "data.kind digits", said, "scikit-learn's digits.csv.gz"
        ) from error
    if rows.shape[1] != SIDE * SIDE + 1:
        raise InputError(
            "data.kind digits", f"{rows.shape[1]} columns in {path}", "65 columns"
        )
    inputs = rows[:, :-1].reshape(-1, 1, 1, SIDE, SIDE) / WHITE
    classes = list("0123456789")
    return Held(
        "scikit-learn's digits", inputs, rows[:, -1], classes=classes, files=[path]
    )
