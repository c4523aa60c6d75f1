"""Windows of arrays in Zarr's format (version 3): only chunks that hold some of them are read.

What is written here, and by zarr-python with the codecs `bytes`, `transpose`, `gzip`, `crc32c` and
`sharding_indexed`, is read without a package, other codecs (`zstd`, `blosc`) by zarr-python where
it is installed.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from npde_opt.aliases import Record
from npde_opt.errors import InputError
from npde_opt.io.gridded import Gridded
from npde_opt.io.sizes import check_size
from npde_opt.io.stored import Stored, Window, shared_cells
from npde_opt.io.zarr_layout import ABSENT, INDEX, META, TYPES, Array

SPACE = ("x", "y", "z", "r")
CHECKSUM = 4
"""Bytes of crc32c."""
MOST_NAMES = 10_000
PACKAGE = "codecs bytes, transpose, gzip, crc32c, sharding_indexed; or pip install 'npde_opt[zarr]'"


@dataclass(frozen=True, eq=False)
class Chunked(Stored):
    """An array, or its part at indices of leading axes.

    Attributes:
        read: values of ranges of the axes that the file has for space.
        turned: for each of x, y, z, the axis in the file.
    """

    read: Callable[[Window], np.ndarray]
    turned: tuple[int, ...]

    def window(self, shape: Sequence[int], cells: Window) -> np.ndarray:
        out = [s.stop - s.start for s in cells]
        if [n for n in shape if n > 1] != [n for n in self.shape if n > 1]:  # a list
            whole = self.read(tuple(slice(0, n) for n in self.shape))
            return np.array(whole.reshape(tuple(shape), order="F")[cells])
        ranges = iter([s for s, n in zip(cells, shape, strict=True) if n > 1])
        own = [next(ranges) if n > 1 else slice(0, 1) for n in self.shape]
        there = tuple(own[d] for d in np.argsort(self.turned))
        return self.read(there).transpose(self.turned).reshape(out, order="F")


def stored_zarr(path: Path) -> dict[str, Callable[[], Stored | None]]:
    """The arrays of a group, coordinates left out, or an array that lies alone; those with axes in
    front of the ones of space by their indices: `u[3]`."""
    record = _record(path)
    if record["node_type"] == "array":
        return _parts(path, path.stem, record, None)
    folders = sorted(p.parent for p in path.glob(f"*/{META}"))
    records = {p.name: _record(p) for p in folders}
    found: dict[str, Callable[[], Stored | None]] = {}
    for name, own in records.items():
        alone = own["node_type"] == "array" and [name] != own.get("dimension_names")
        if alone and not name.endswith("_edges"):
            found |= _parts(path / name, name, own, path)
    return found


def open_zarr(path: Path) -> dict[str, Callable[[], Gridded]]:
    """They as wholes."""
    return {name: partial(_whole, path, get) for name, get in stored_zarr(path).items()}


def _whole(path: Path, get: Callable[[], Stored | None]) -> Gridded:
    found = get()
    assert found is not None
    size = int(np.prod(found.shape, dtype=float)) * found.dtype.itemsize
    check_size(str(path), "unpacked", size)
    values = found.window(found.shape, tuple(slice(0, n) for n in found.shape))
    return Gridded(values, found.edges, found.kind, found.unit)


def window_of(folder: Path, cells: Window) -> np.ndarray:
    """Values of ranges of all axes of the array in a folder."""
    return _reader(folder, _record(folder))(cells)


def _record(folder: Path) -> Record:
    found: Record = json.loads((folder / META).read_text())
    if found.get("zarr_format") != 3:
        raise ValueError(f"Zarr of format {found.get('zarr_format')}; 3 can be read")
    return found


def _parts(
    folder: Path, name: str, record: Record, group: Path | None
) -> dict[str, Callable[[], Stored | None]]:
    axes = record.get("dimension_names") or ()
    shape = record["shape"]
    lead = next((d for d, a in enumerate(axes) if a in SPACE), 0)
    whole = partial(_stored, folder, record, group, lead)
    if not lead:
        return {name: partial(whole, ())}
    indices = itertools.islice(np.ndindex(*shape[:lead]), MOST_NAMES)
    return {f"{name}[{', '.join(map(str, at))}]": partial(whole, at) for at in indices}


def _stored(
    folder: Path, record: Record, group: Path | None, lead: int, at: tuple[int, ...]
) -> Stored:
    shape = tuple(record["shape"])
    axes = tuple(record.get("dimension_names") or ())[lead:]
    turned = tuple(range(len(shape) - lead))
    named = all(a in SPACE for a in axes) and len(set(axes)) == len(axes) == len(turned)
    if named:
        turned = tuple(sorted(turned, key=lambda d: axes[d]))
    upright = [axes[d] for d in turned] if named else []
    edges = _edges(group, upright) if group and upright else None
    inside = _reader(folder, record)
    front = tuple(slice(i, i + 1) for i in at)

    def read(cells: Window) -> np.ndarray:
        return inside((*front, *cells)).reshape([s.stop - s.start for s in cells])

    unit = "" if edges is None else _unit(group, upright[0])
    own = tuple(shape[lead:][d] for d in turned)
    dtype = np.dtype(record["data_type"])
    return Chunked(own, dtype, edges, "cells", unit, None, read, turned)


def _edges(group: Path | None, axes: Sequence[str]) -> tuple[np.ndarray, ...] | None:
    """Of the cells along the axes, where the group has them."""
    assert group is not None
    folders = [group / f"{axis}_edges" for axis in axes]
    if not all((f / META).is_file() for f in folders):
        return None
    found = []
    for folder in folders:
        record = _record(folder)
        read = _reader(folder, record)
        found.append(read((slice(0, record["shape"][0]),)).astype(float))
    return tuple(found)


def _unit(group: Path | None, axis: str) -> str:
    assert group is not None
    return str(_record(group / axis).get("attributes", {}).get("units", ""))


def _reader(folder: Path, record: Record) -> Callable[[Window], np.ndarray]:
    """What gives values of ranges of an array's axes."""
    array = _array(record)
    if array is not None:
        return partial(_read, folder, array)
    try:
        import zarr
    except ImportError:
        said = f"codecs {[c['name'] for c in record['codecs']]}"
        raise InputError(str(folder), said, PACKAGE) from None
    opened: Any = zarr.open_array(str(folder), mode="r")
    return lambda cells: np.asarray(opened[cells])


def _array(record: Record) -> Array | None:
    """How an array lies; None where only zarr-python can tell."""
    named = record["data_type"] in TYPES and record["chunk_grid"]["name"] == "regular"
    keys = record["chunk_key_encoding"]
    if not named or record.get("storage_transformers"):
        return None
    if keys["name"] not in ("default", "v2"):
        return None
    default = keys["name"] == "default"
    shape = tuple(record["shape"])
    shard = tuple(record["chunk_grid"]["configuration"]["chunk_shape"])
    found = Array(
        shape,
        shard,
        shard,
        np.dtype(record["data_type"]),
        fill=_number(record["fill_value"]),
        separator=keys.get("configuration", {}).get(
            "separator", "/" if default else "."
        ),
        prefix="c" if default else "",
    )
    codecs = record["codecs"]
    if [c["name"] for c in codecs] != ["sharding_indexed"]:
        return _coded(found, codecs)
    own = codecs[0]["configuration"]
    index = [c["name"] for c in own["index_codecs"]]
    if (
        index not in (["bytes"], ["bytes", "crc32c"])
        or _order(own["index_codecs"]) == ">"
    ):
        return None
    sharded = replace(
        found,
        chunk=tuple(own["chunk_shape"]),
        checked=CHECKSUM * (len(index) - 1),
        first=own.get("index_location", "end") == "start",
    )
    return _coded(sharded, own["codecs"], indexed=True)


def _coded(
    array: Array, codecs: Sequence[Record], indexed: bool = False
) -> Array | None:
    """With the codecs of a chunk; None for others than these."""
    names = [c["name"] for c in codecs]
    if names and names[0] == "transpose":
        array = replace(array, turned=tuple(codecs[0]["configuration"]["order"]))
        names = names[1:]
    if names not in (["bytes"], ["bytes", "gzip"]):
        return None
    # A shard of one chunk is a shard too.
    alone = indexed and array.shard == array.chunk
    return (
        None if alone else replace(array, order=_order(codecs), packed=len(names) > 1)
    )


def _order(codecs: Sequence[Record]) -> Literal["<", ">"]:
    own = next(c for c in codecs if c["name"] == "bytes")
    return ">" if own.get("configuration", {}).get("endian") == "big" else "<"


def _number(value: Any) -> Any:
    if isinstance(value, list):
        return complex(float(value[0]), float(value[1]))
    return float(value) if isinstance(value, str) else value


def _read(folder: Path, array: Array, cells: Window) -> np.ndarray:
    out = np.full([s.stop - s.start for s in cells], array.fill, array.dtype)
    for shard, there in _over(cells, array.shard):
        path = folder / array.key(shard)
        if path.is_file():
            for where, values in _chunks(path, array, there, cells):
                common = shared_cells(where, cells)
                assert common is not None
                out[_moved(common, cells)] = values[_moved(common, where)]
    return out


def _over(
    cells: Window, sizes: Sequence[int]
) -> Iterator[tuple[tuple[int, ...], Window]]:
    """The boxes of these sizes that hold some of the cells: by their indices."""
    ends = [
        range(c.start // n, -(-c.stop // n) if c.stop > c.start else c.start // n)
        for c, n in zip(cells, sizes, strict=True)
    ]
    for index in itertools.product(*ends):
        yield (
            index,
            tuple(slice(i * n, (i + 1) * n) for i, n in zip(index, sizes, strict=True)),
        )


def _chunks(
    path: Path, array: Array, shard: Window, cells: Window
) -> Iterator[tuple[Window, np.ndarray]]:
    """Where they lie in the array, and values, of the chunks of a shard that are wanted."""
    if not array.sharded:
        yield shard, array.decoded(path.read_bytes())
        return
    wanted = shared_cells(shard, cells)
    assert wanted is not None
    with open(path, "rb") as file:
        size = int(np.prod(array.parts)) * 2 * INDEX.itemsize
        if not array.first:
            file.seek(-(size + array.checked), 2)
        places = np.frombuffer(file.read(size), INDEX).reshape(*array.parts, 2)
        for index, there in _over(_moved(wanted, shard), array.chunk):
            begin, count = (int(n) for n in places[index])
            if begin == ABSENT:
                continue
            file.seek(begin)
            origin = [s.start for s in shard]
            where = tuple(
                slice(s.start + o, s.stop + o)
                for s, o in zip(there, origin, strict=True)
            )
            yield where, array.decoded(file.read(count))


def _moved(cells: Window, origin: Window) -> Window:
    """As counted from the begin of others."""
    return tuple(
        slice(c.start - o.start, c.stop - o.start)
        for c, o in zip(cells, origin, strict=True)
    )
