"""A cell field as a .npy file, which all ranks write at once: the bytes of `numpy.save`."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
from petsc4py import PETSc

from npde_opt.aliases import FilePath
from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.io.together import whole_shared_file


def write_npy(path: FilePath, grid: Grid, values: PETSc.Vec | np.ndarray) -> Path:
    """Writes a cell field, whole or not at all; `numpy.load` reads it, also window by window with
    `mmap_mode="r"`. Collective.

    Args:
        path: `.npy` is added where it has another suffix.
        values: a Vec of the grid, or owned values [i, j, k] or [c, i, j, k].

    Returns:
        The path that was written.

    Raises:
        InputError: for another shape, and a place that is not writable.
    """
    target = Path(path)
    if target.suffix != ".npy":
        target = target.with_name(target.name + ".npy")
    owned = grid.view(values) if isinstance(values, PETSc.Vec) else np.asarray(values)
    lead = owned.shape[: max(owned.ndim - grid.dim, 0)]
    if owned.shape != (*lead, *grid.local_shape):
        allowed = f"the owned cells {grid.local_shape} of the grid as the last axes"
        raise InputError("values", f"shape {owned.shape}", allowed)
    head = _head((*lead, *grid.shape), owned.dtype)
    size = len(head) + math.prod(lead) * grid.size * owned.itemsize
    try:
        with whole_shared_file(target, grid.comm, size) as file:
            file.bytes(0, head)
            file.boxes(len(head), grid, owned)
    except OSError as error:
        said, allowed = (
            error.strerror or str(error),
            "a place where files can be written",
        )
        raise InputError(str(target), said, allowed) from error
    return target


def _head(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    """Of an array whose first axis is fastest, as numpy writes it."""
    vector = len(shape) == 1
    order = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": not vector}
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, order | {"shape": shape})
    return head.getvalue()
