"""Measured values of .npy files by memory map: a rank reads its share, and nothing is sent.

What may stand for a missing value, or is infinite, is judged among all values: where a share has
some, the file is read as others are (see `tables.read_values`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from mpi4py import MPI

from npde_opt.aliases import Plain
from npde_opt.cases.field_tables import File
from npde_opt.cases.sources import Sources
from npde_opt.cases.tables import given
from npde_opt.cases.typed import as_dict
from npde_opt.io.missing import may_be_missing, rounding_of

KEYS = {"file", "scale", "shape", "rows"}
"""Of a table that says nothing about what single values mean."""


class Unmapped(Exception):
    """No plain array of real numbers: another reader says what is wrong with it, if anything."""


@dataclass(frozen=True)
class Maps:
    """Arrays of files as views.

    Attributes:
        shapes: of those that were looked at, by key.
    """

    sources: Sources
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def can(self, spec: Plain) -> bool:
        """Whether all of its files may be read so."""
        listed = spec if isinstance(spec, list) else [spec]
        return bool(listed) and all(
            isinstance(s, File)
            and Path(s.file).suffix.lower() == ".npy"
            and given(as_dict(s)).keys() <= KEYS
            for s in listed
        )

    def view(self, key: str, spec: Plain) -> np.ndarray:
        """Raises Unmapped, and InputError where there is no such file."""
        table, path = given(as_dict(spec)), self.sources.find(key, spec.file)
        try:
            found = np.load(path, mmap_mode="r", allow_pickle=False)
            if found.dtype.kind not in "fiu" or found.dtype.itemsize > 8:
                raise Unmapped
            if "rows" in table:
                first, last, step = table["rows"]
                if not first <= last < len(found):
                    raise Unmapped
                found = found[first : last + 1 : step]
            found = np.asarray(found.reshape(table.get("shape", found.shape)))
        except (OSError, ValueError, EOFError, TypeError) as error:
            raise Unmapped from error
        self.shapes[key] = found.shape
        return found

    def scaled(
        self,
        key: str,
        spec: Plain,
        parts: Sequence[np.ndarray],
        numbers: Sequence[int],
        comm: MPI.Intracomm,
    ) -> list[np.ndarray]:
        """The own values of experiments of these numbers, flat, as double precision in memory of
        their own. Collective."""
        several = isinstance(spec, list)
        listed = [spec[e] if several else spec for e in numbers]
        found = []
        for part, own in zip(parts, listed, strict=True):
            scale = given(as_dict(own)).get("scale", 1.0)
            found.append(np.array(part, float).ravel() * scale)
        named = {key: (spec, found)}
        if several:
            each = zip(numbers, listed, found, strict=True)
            named = {f"{key}[{e}]": (s, [v]) for e, s, v in each}
        for name, (own, values) in named.items():
            shape, whole = self.shapes[name], np.concatenate(values)
            self.sources.log.note(name, own.file, whole, shape, comm=comm)
        return found


def strange(values: np.ndarray) -> bool:
    """Whether some are infinite, or such that they may stand for missing ones."""
    odd = np.isinf(values) | may_be_missing(values, rounding_of(values.dtype))
    return bool(odd.any())
