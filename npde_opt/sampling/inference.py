"""The traces of chains as arviz and xarray read them: a folder of Zarr's format, version 3, with
the groups of InferenceData (https://python.arviz.org/en/stable/schema/schema.html),

    posterior/NAME[chain, draw]                        the figures
    sample_stats/lp, acceptance_rate[chain, draw]      log density without its constant

each group with its coordinates chain and draw. A slash in a name is written as a fraction slash, as
a file's name cannot have one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from npde_opt.aliases import FilePath, Record
from npde_opt.errors import InputError
from npde_opt.io.files import beside, disk, sync_folder
from npde_opt.io.zarr_layout import META, Array, group, text
from npde_opt.sampling.run import Sampled

AXES = ("chain", "draw")
SLASH = "\N{FRACTION SLASH}"


def write_inference(path: FilePath, found: Sampled) -> Path:
    """Writes the traces of all chains; the folder appears whole, and takes the place of one from
    before. On one rank.

    Raises:
        InputError: where another folder is there, or the disk refuses.
    """
    target = Path(path)
    if target.exists() and not (target / META).is_file():
        raise InputError("chains", str(target), "a new folder, or one of Zarr's format")
    of_samples = {
        name.replace("/", SLASH): found.traces[:, :, 2 + k]
        for k, name in enumerate(found.names)
    }
    of_steps = {
        "lp": -found.traces[:, :, 0],
        "acceptance_rate": found.traces[:, :, 1],
    }
    folder = beside(target)
    with disk("the samples", target):
        shutil.rmtree(folder, ignore_errors=True)
        try:
            every = {"posterior": of_samples, "sample_stats": of_steps}
            told: dict[str, Record] = {}
            for name, arrays in every.items():
                told |= _group(folder / name, arrays, name)
            (folder / META).write_text(group(told, {"creation_library": "npde_opt"}))
            shutil.rmtree(target, ignore_errors=True)
            os.replace(folder, target)
            sync_folder(target.parent)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return target


def _group(
    folder: Path, arrays: Mapping[str, np.ndarray], name: str
) -> dict[str, Record]:
    """Writes one; what its files and its arrays' say, by their paths below the folder of all."""
    shape = next(iter(arrays.values())).shape if arrays else (0, 0)
    coordinates = {a: np.arange(n) for a, n in zip(AXES, shape, strict=True)}
    told = {a: _array(folder / a, v, (a,)) for a, v in coordinates.items()}
    for key, values in arrays.items():
        told[key] = _array(folder / key, values, AXES)
    (folder / META).write_text(group(told, {}))
    plain: Record = {"zarr_format": 3, "node_type": "group", "attributes": {}}
    return {name: plain} | {f"{name}/{key}": record for key, record in told.items()}


def _array(folder: Path, values: np.ndarray, axes: tuple[str, ...]) -> Record:
    """Writes one, in one chunk; what its file says."""
    chunk = tuple(max(n, 1) for n in values.shape)
    array = Array(values.shape, chunk, chunk, values.dtype, axes)
    path = folder / array.key([0] * values.ndim)
    path.parent.mkdir(parents=True)
    path.write_bytes(array.encoded(values))
    (folder / META).write_text(text(array.record()))
    return array.record()
