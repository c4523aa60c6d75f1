"""How arrays lie in a folder of Zarr's format, version 3: what the files zarr.json say.

A group has arrays; an array has chunks of equal shape, cut off at its ends, and a file of each that
was written:

    FOLDER/zarr.json            the group; what all of its arrays' files say is there too
    FOLDER/NAME/zarr.json       type, shape, chunks and names of the axes of an array
    FOLDER/NAME/c/0/1/...       its chunks, by their indices

A chunk is its values, the last index fastest, perhaps packed; or a shard, a file of smaller chunks
with an index of 8-byte numbers (begin, bytes) at its end:

    chunk 0 0, chunk 0 1, ..., begin of 0 0, bytes of 0 0, begin of 0 1, ...

Specification: https://zarr-specs.readthedocs.io/en/latest/v3/core/index.html
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from npde_opt.aliases import Record
from npde_opt.packages import gzip

META = "zarr.json"
TYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float32", "float64", "complex64", "complex128"),
)
ABSENT = 2**64 - 1
"""Begin and bytes of a chunk that a shard does not have."""
INDEX = np.dtype("<u8")
LEVEL = 1
"""Of gzip: fields of full precision hardly become smaller by more."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Array:
    """What the zarr.json of an array says.

    Attributes:
        shape: of the array. chunk: of what is packed and read at once. shard: of one file, whole
            chunks; equal to the chunk's where each has a file of its own.
        order: '<' or '>', of the bytes of a value.
        packed: by gzip.
        axes: names of the axes, '' for none.
        turned: of the indices of a chunk, in the order that they lie in the file.
    """

    shape: Shape
    chunk: Shape
    shard: Shape
    dtype: np.dtype
    axes: tuple[str, ...] = ()
    packed: bool = False
    order: Literal["<", ">"] = "<"
    turned: tuple[int, ...] | None = None
    checked: int = 0
    """Bytes of a checksum behind the index."""
    first: bool = False
    """Whether the index lies in front of the chunks."""
    fill: float = 0.0
    separator: str = "/"
    prefix: str = "c"

    @property
    def sharded(self) -> bool:
        return self.shard != self.chunk

    @property
    def parts(self) -> Shape:
        """Chunks of a shard along the axes."""
        return tuple(s // c for s, c in zip(self.shard, self.chunk, strict=True))

    def key(self, shard: Sequence[int]) -> str:
        """The path of a shard below the array's folder."""
        words = [self.prefix] if self.prefix else []
        return self.separator.join([*words, *map(str, shard)]) or "0"

    def record(self) -> Record:
        """zarr.json; of the arrays that are written here."""
        inner: list[Record] = [_codec("bytes", endian="little")]
        if self.packed:
            inner.append(_codec("gzip", level=LEVEL))
        codecs = inner
        if self.sharded:
            index = [_codec("bytes", endian="little")]
            shard = {"codecs": inner, "index_codecs": index, "index_location": "end"}
            codecs = [_codec("sharding_indexed", chunk_shape=list(self.chunk), **shard)]
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(self.shape),
            "data_type": self.dtype.name,
            "chunk_grid": {
                "name": "regular",
                "configuration": {"chunk_shape": list(self.shard)},
            },
            "chunk_key_encoding": {
                "name": "default",
                "configuration": {"separator": "/"},
            },
            "fill_value": _fill(self.dtype, self.fill),
            "codecs": codecs,
            "attributes": {},
            "dimension_names": list(self.axes) or None,
        }

    def encoded(self, values: np.ndarray) -> bytes:
        """A chunk of full shape."""
        plain = np.ascontiguousarray(values.astype(self.dtype.newbyteorder("<")))
        content = plain.tobytes()
        return gzip.compress(content, LEVEL, mtime=0) if self.packed else content

    def decoded(self, content: bytes) -> np.ndarray:
        """Of a chunk's bytes. Raises ValueError for another number of them."""
        content = gzip.decompress(content) if self.packed else content
        found = np.frombuffer(content, self.dtype.newbyteorder(self.order))
        if self.turned is None:
            return found.reshape(self.chunk)
        lying = [self.chunk[d] for d in self.turned]
        return found.reshape(lying).transpose(np.argsort(self.turned))

    def shards(self, values: np.ndarray) -> Iterator[bytes]:
        """The content of one shard, piece by piece, of values that reach over an end of the array
        less far than a whole shard does."""
        if not self.sharded:
            yield self.encoded(_filled(values, self.shard))
            return
        places, at = [], 0
        for part in np.ndindex(*self.parts):
            cells = tuple(
                slice(p * c, (p + 1) * c) for p, c in zip(part, self.chunk, strict=True)
            )
            piece = values[cells]
            if not piece.size:
                places.append((ABSENT, ABSENT))
                continue
            content = self.encoded(_filled(piece, self.chunk))
            places.append((at, len(content)))
            at += len(content)
            yield content
        yield np.array(places, INDEX).tobytes()


def _codec(name: str, **configuration: object) -> Record:
    return {"name": name, "configuration": configuration}


def _fill(dtype: np.dtype, value: float) -> object:
    if dtype.kind == "f" and math.isnan(value):
        return "NaN"
    if dtype.kind == "b":
        return False
    return [0.0, 0.0] if dtype.kind == "c" else dtype.type(0).item()


def _filled(values: np.ndarray, shape: Shape) -> np.ndarray:
    """With zeros up to a shape."""
    if values.shape == shape:
        return values
    out = np.zeros(shape, values.dtype)
    out[tuple(slice(0, n) for n in values.shape)] = values
    return out


def group(arrays: Mapping[str, Record], told: Mapping[str, object]) -> str:
    """zarr.json of a group with its arrays' own, so that a reader opens one file."""
    inline = {"kind": "inline", "must_understand": False, "metadata": arrays}
    record = {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": dict(told),
        "consolidated_metadata": inline,
    }
    return json.dumps(record, indent=1) + "\n"


def whole_chunks(cells: int, ranks: int, chunk: int) -> tuple[int, int]:
    """Cells of a chunk and of a shard along an axis that so many ranks share: a shard is a whole
    number of chunks, and there are at most as many shards as ranks."""
    share = math.ceil(cells / ranks)
    own = min(chunk, share)
    return own, own * math.ceil(share / own)


def text(record: Record) -> str:
    """zarr.json of an array."""
    return json.dumps(record, indent=1) + "\n"
