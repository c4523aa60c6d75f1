"""Samples from arrays of an .npz file: `inputs` with `labels` or `targets`."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from npde_opt.errors import InputError
from npde_opt.training.samples import Held

NAMES = ("inputs", "labels", "targets")


def arrays(path: Path, classes: Sequence[str] | None = None) -> Held:
    """The samples of a file; without labels and targets the targets are the inputs.

    Args:
        classes: their names, as a file that was read before has them; None: as many as the largest
            label says.

    Raises:
        InputError: for what is no .npz file, arrays that are missing, not known or no numbers, and
            labels beside targets.
    """
    found = contents(path)
    unknown = sorted(set(found) - set(NAMES))
    if unknown or "inputs" not in found or len(found) > 2:
        allowed = "inputs, and labels or targets"
        raise InputError(
            f"arrays of {path}", ", ".join(sorted(found)) or "none", allowed
        )
    inputs = five_axes(f"inputs of {path}", found["inputs"])
    targets = found.get("targets")
    if targets is not None:
        targets = five_axes(f"targets of {path}", targets)
    labels = found.get("labels")
    return Held(path.name, inputs, labels, targets, classes, files=[path])


def contents(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, or that of an .npy file as `inputs`."""
    try:
        with open(path, "rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"inputs": loaded}
            return {name: loaded[name] for name in loaded.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
        said = f"a file that cannot be read ({(str(error) or repr(error)).splitlines()[0]})"
        raise InputError(str(path), said, "an .npz or .npy file of numbers") from error


def five_axes(where: str, values: np.ndarray) -> np.ndarray:
    """[sample, channel, k, j, i] of [sample, i], [sample, j, i], [sample, k, j, i], or itself.

    Raises:
        InputError: for other numbers of axes, and values that are no numbers.
    """
    if values.dtype.kind not in "biuf" or not 2 <= values.ndim <= 5:
        said = f"an array of {values.dtype} of shape {values.shape}"
        raise InputError(
            where, said, "numbers [sample, channel, z, y, x], [sample, y, x], ..."
        )
    missing = 5 - values.ndim
    return values.reshape(values.shape[0], *(1,) * missing, *values.shape[1:]).astype(
        float
    )
