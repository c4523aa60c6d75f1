"""Cell fields as VTK XML for ParaView: one .vti (uniform) or .vtr (stretched) file, appended raw
binary.

The same bytes on any number of ranks, which write their boxes side by side. Inactive cells are
hidden by VTK's own blanking array (vtkGhostType).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from petsc4py import PETSc

from npde_opt.aliases import FilePath
from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.io.together import whole_shared_file

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
ENTITIES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"}
)
"""Of XML, for characters that have a meaning there."""
TAIL = b"\n  </AppendedData>\n</VTKFile>\n"


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
    if grid.mask is not None:
        hidden = np.where(grid.active, 0, HIDDEN_CELL)
        owned["active"] = grid.active.astype("u1")
        owned["vtkGhostType"] = hidden.astype("u1")
    try:
        _write(target, grid, owned)
    except OSError as error:
        said, allowed = (
            error.strerror or str(error),
            "a place where files can be written",
        )
        raise InputError(str(target), said, allowed) from error
    return target


def uniform(grid: Grid) -> bool:
    """True where all cells are alike (to 1e-9 of their width)."""
    return all(np.allclose(w, w[0], rtol=1e-9, atol=0) for w in grid.widths)


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


def _write(target: Path, grid: Grid, blocks: dict[str, np.ndarray]) -> None:
    """One array after the other, each a count of bytes and its values. Collective."""
    sizes = [grid.size * _components(b, grid) * b.itemsize for b in blocks.values()]
    edges = _coordinates(target, grid)
    offsets = np.cumsum([0, *(8 + n for n in (*sizes, *(e.nbytes for e in edges)))])
    head = _head(target, grid, blocks, offsets.tolist()).encode()
    places = (len(head) + offsets).tolist()
    with whole_shared_file(target, grid.comm, places[-1] + len(TAIL)) as file:
        file.bytes(0, head)
        for at, size, block in zip(places, sizes, blocks.values(), strict=False):
            file.bytes(at, _count(size))
            file.boxes(at + 8, grid, block)
        for at, edge in zip(places[len(sizes) :], edges, strict=False):
            file.bytes(at, _count(edge.nbytes) + edge.tobytes())
        file.bytes(places[-1], TAIL)


def _components(block: np.ndarray, grid: Grid) -> int:
    return block.shape[0] if block.ndim > grid.dim else 1


def _count(size: int) -> bytes:
    return np.array(size, "<u8").tobytes()


def _all_edges(grid: Grid) -> list[np.ndarray]:
    """Along three axes; a grid of fewer lies at 0 of the others."""
    return [*grid.edges, *[np.zeros(1)] * (3 - grid.dim)]


def _coordinates(target: Path, grid: Grid) -> list[np.ndarray]:
    """The edges that a file holds as arrays."""
    return [] if target.suffix == ".vti" else _all_edges(grid)


def _head(
    target: Path, grid: Grid, blocks: Mapping[str, np.ndarray], offsets: list[int]
) -> str:
    """All before the arrays; `offsets` are those of the blocks, then of the coordinates."""
    declared = [
        f'        <DataArray type="{TYPES[block.dtype.str[1:]]}" Name="{name.translate(ENTITIES)}" '
        f'NumberOfComponents="{_components(block, grid)}" format="appended" offset="{offset}"/>\n'
        for (name, block), offset in zip(blocks.items(), offsets, strict=False)
    ]
    image = target.suffix == ".vti"
    kind = "ImageData" if image else "RectilinearGrid"
    cells = (*grid.shape, 0, 0)[:3]
    extent = " ".join(f"0 {n}" for n in cells)
    whole, coordinates = f'WholeExtent="{extent}"', ""
    if image:
        whole += _image_place(grid)
    else:
        lines = [
            f'        <DataArray type="Float64" Name="{axis}" format="appended" '
            f'offset="{offset}"/>\n'
            for axis, offset in zip("xyz", offsets[len(blocks) :], strict=False)
        ]
        coordinates = f"      <Coordinates>\n{''.join(lines)}      </Coordinates>\n"
    shown = next((n for n in blocks if n != "vtkGhostType"), "")
    return (
        f'<?xml version="1.0"?>\n<VTKFile type="{kind}" version="1.0" byte_order="LittleEndian" '
        f'header_type="UInt64">\n  <{kind} {whole}>\n    <Piece Extent="{extent}">\n'
        f'      <CellData Scalars="{shown.translate(ENTITIES)}">\n{"".join(declared)}      '
        f"</CellData>\n{coordinates}"
        f'    </Piece>\n  </{kind}>\n  <AppendedData encoding="raw">\n_'
    )


def _image_place(grid: Grid) -> str:
    edges = _all_edges(grid)
    origin = " ".join(repr(float(e[0])) for e in edges)
    spacing = " ".join(
        repr(float((e[-1] - e[0]) / (e.size - 1))) if e.size > 1 else "1.0"
        for e in edges
    )
    return f' Origin="{origin}" Spacing="{spacing}"'
