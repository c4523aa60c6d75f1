"""Cell fields as VTK XML for ParaView: one .vti (uniform) or .vtr (stretched) file, appended raw
binary.

The same bytes on any number of ranks: rank 0 receives each rank's box in turn. Inactive cells are
hidden by VTK's own blanking array (vtkGhostType).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO
from xml.sax.saxutils import quoteattr

import numpy as np
from petsc4py import PETSc

from npde_opt.aliases import FilePath
from npde_opt.errors import InputError, collective
from npde_opt.grids import Grid
from npde_opt.io.files import whole_file

TYPES = {
    "f8": "Float64",
    "f4": "Float32",
    "i8": "Int64",
    "i4": "Int32",
    "i2": "Int16",
    "i1": "Int8",
    "u1": "UInt8",
}
HIDDEN_CELL = 32


def write_vtk(
    path: FilePath, grid: Grid, fields: Mapping[str, PETSc.Vec | np.ndarray]
) -> Path:
    """Writes named cell fields to one file, whole or not at all. Collective.

    Args:
        path: with the suffix .vti or .vtr, or none: the right one for the grid is added.
        fields: name to a Vec of the grid, or to the owned values [i, j, k] or [c, i, j, k] of any
            number type (booleans become UInt8).

    Returns:
        The path that was written.

    Raises:
        InputError: for a suffix that does not fit the grid, wrong shapes or types, and a place that
            is not writable.
    """
    target = _target(Path(path), grid)
    owned = {
        str(name): _owned(str(name), values, grid) for name, values in fields.items()
    }
    shape = (*grid.shape, 1, 1)[:3]
    blocks: dict[str, np.ndarray | None] = {
        name: to_root(grid, values) for name, values in owned.items()
    }
    with collective(grid.comm):
        if grid.comm.rank == 0:
            if grid.active_global is not None:
                blocks["active"] = grid.active_global.astype("u1")
                blocks["vtkGhostType"] = np.where(
                    grid.active_global, 0, HIDDEN_CELL
                ).astype("u1")
            _write(
                target, grid, {n: b for n, b in blocks.items() if b is not None}, shape
            )
    return target


def uniform(grid: Grid) -> bool:
    """True where all cells are alike (to 1e-9 of their width)."""
    return all(np.allclose(w, w[0], rtol=1e-9, atol=0) for w in grid.widths)


def to_root(grid: Grid, values: np.ndarray) -> np.ndarray | None:
    """The global array of owned values [i, j, k] or [c, i, j, k] on rank 0, None elsewhere.
    Collective."""
    comm, values = grid.comm, np.asfortranarray(values)
    boxes = comm.gather(grid.local_slice, root=0)
    if boxes is None:
        comm.Send(values.ravel(order="F").view("u1"), dest=0, tag=17)
        return None
    lead = values.shape[: values.ndim - grid.dim]
    full = np.empty((*lead, *grid.shape), values.dtype, order="F")
    full[(..., *boxes[0])] = values
    for rank, box in list(enumerate(boxes))[1:]:
        piece = np.empty(
            (*lead, *(s.stop - s.start for s in box)), values.dtype, order="F"
        )
        comm.Recv(piece.ravel(order="K").view("u1"), source=rank, tag=17)
        full[(..., *box)] = piece
    return full


def _target(path: Path, grid: Grid) -> Path:
    suffix = ".vti" if uniform(grid) else ".vtr"
    if path.suffix not in (".vti", ".vtr"):
        return path.with_name(path.name + suffix)
    if path.suffix == ".vti" and suffix == ".vtr":
        raise InputError(
            str(path), "suffix .vti for a stretched grid", ".vtr, or no suffix"
        )
    return path


def _owned(name: str, values: PETSc.Vec | np.ndarray, grid: Grid) -> np.ndarray:
    array = grid.view(values) if isinstance(values, PETSc.Vec) else np.asarray(values)
    if (
        array.shape[max(array.ndim - grid.dim, 0) :] != grid.local_shape
        or array.ndim > grid.dim + 1
    ):
        raise InputError(
            f"field {name}",
            f"shape {array.shape}",
            f"the owned cells {grid.local_shape} of the grid, with or without components in front",
        )
    array = array.astype("u1") if array.dtype == bool else array
    if array.dtype.str[1:] not in TYPES:
        raise InputError(
            f"field {name}",
            f"type {array.dtype}",
            ", ".join(np.dtype(t).name for t in TYPES),
        )
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def _write(
    target: Path, grid: Grid, blocks: dict[str, np.ndarray], shape: tuple[int, ...]
) -> None:
    offset, declared = 0, []
    for name, block in blocks.items():
        components = block.size // grid.size
        declared.append(
            f'        <DataArray type="{TYPES[block.dtype.str[1:]]}" Name={quoteattr(name)} '
            f'NumberOfComponents="{components}" format="appended" offset="{offset}"/>\n'
        )
        offset += 8 + block.nbytes
    image = target.suffix == ".vti"
    kind = "ImageData" if image else "RectilinearGrid"
    extent = " ".join(f"0 {n if d < grid.dim else 0}" for d, n in enumerate(shape))
    edges = [*grid.edges, *[np.zeros(1)] * (3 - grid.dim)]
    whole = f'WholeExtent="{extent}"'
    coordinates = ""
    if image:
        origin = " ".join(repr(float(e[0])) for e in edges)
        spacing = " ".join(
            repr(float((e[-1] - e[0]) / (e.size - 1))) if e.size > 1 else "1.0"
            for e in edges
        )
        whole += f' Origin="{origin}" Spacing="{spacing}"'
    else:
        lines = []
        for axis, e in zip("xyz", edges, strict=True):
            lines.append(
                f'        <DataArray type="Float64" Name="{axis}" format="appended" '
                f'offset="{offset}"/>\n'
            )
            offset += 8 + e.nbytes
        coordinates = f"      <Coordinates>\n{''.join(lines)}      </Coordinates>\n"
    shown = next((n for n in blocks if n != "vtkGhostType"), "")
    head = (
        f'<?xml version="1.0"?>\n<VTKFile type="{kind}" version="1.0" byte_order="LittleEndian" '
        f'header_type="UInt64">\n  <{kind} {whole}>\n    <Piece Extent="{extent}">\n'
        f"      <CellData Scalars={quoteattr(shown)}>\n{''.join(declared)}      "
        f"</CellData>\n{coordinates}"
        f'    </Piece>\n  </{kind}>\n  <AppendedData encoding="raw">\n_'
    )
    try:
        with whole_file(target) as file:
            file.write(head.encode())
            for block in [*blocks.values(), *([] if image else edges)]:
                _append(file, block)
            file.write(b"\n  </AppendedData>\n</VTKFile>\n")
    except OSError as error:
        raise InputError(
            str(target),
            error.strerror or str(error),
            "a place where files can be written",
        ) from error


def _append(file: BinaryIO, block: np.ndarray) -> None:
    file.write(np.array(block.nbytes, "<u8").tobytes())
    file.write(np.ascontiguousarray(block.ravel(order="F")).data)
