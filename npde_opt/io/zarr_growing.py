"""Stores of Zarr's format that grow while a run goes on, over several starts of it.

    store = GrowingStore("chain-0.zarr", grid, {"sample": numbers of all samples there will be})
    store.append({"D": values}, (k,))

Its arrays have their whole shape from the beginning, and NaN where nothing was written yet: a
sample adds files, and no other file changes. A run that goes on on other numbers of ranks, whose
shards are others, cuts what there is anew.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from petsc4py import PETSc

from npde_opt.aliases import FilePath
from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.io.zarr_layout import META
from npde_opt.io.zarr_reader import window_of
from npde_opt.io.zarr_writer import Shards, ZarrStore

Index = tuple[int, ...]


class GrowingStore(Shards):
    """Arguments and errors as of `Shards`; what is there goes on.

    Raises:
        InputError: too, where a store is there whose cells or leading coordinates are others.
            There may be more of these than before.
    """

    fill = math.nan

    def __init__(
        self,
        path: FilePath,
        grid: Grid,
        leading: Mapping[str, np.ndarray],
        *,
        length_unit: str = "",
    ):
        self._before: dict[str, list[Index]] = {}
        self._cut: Index | None = None
        super().__init__(path, grid, leading, length_unit=length_unit)
        before, cut = grid.comm.bcast((self._before, self._cut), root=0)
        if cut is not None and cut != self.shard:
            self._cut_anew(before)

    def append(self, fields: Mapping[str, PETSc.Vec | np.ndarray], at: Index) -> None:
        """Writes all fields at indices of the leading axes; those that are there are replaced."""
        new = fields.keys() - self.arrays.keys()
        for name, values in fields.items():
            self.put(name, values, at)
        if new:  # behind what they tell of
            self._attempt(self._describe)

    def _begin(self) -> None:
        super()._begin()
        if (self.folder / META).is_file():
            self._look()

    def _look(self) -> None:
        """Finds what every field has, and how it is cut. On rank 0."""
        record = json.loads((self.folder / META).read_text())
        self._check_cells(tuple(record["attributes"]["cells"]))
        arrays = record["consolidated_metadata"]["metadata"]
        for name in arrays.keys() - self._coordinates().keys():
            whole = arrays[name]["chunk_grid"]["configuration"]["chunk_shape"]
            self._cut = tuple(whole[-self.grid.dim :])
            self._before[name] = self._written(self.folder / name / "c")

    def _check_cells(self, cells: Index) -> None:
        if cells != self.grid.shape:
            self._refuse("cells", cells, self.grid.shape)
        for name, now in self.leading.items():
            content = (self.folder / name / "c" / "0").read_bytes()
            was = np.frombuffer(content, now.dtype)
            if not np.array_equal(now[: was.size], was):
                self._refuse(name, now[:4].tolist(), was[:4].tolist())

    def _refuse(self, what: str, got: object, was: object) -> None:
        allowed = f"{was}, as in {self.target}, or another folder"
        raise InputError(f"{self.target.name}: {what}", got, allowed)

    def _written(self, folder: Path) -> list[Index]:
        """The indices of the leading axes that have a shard."""
        found: list[tuple[Path, Index]] = [(folder, ())]
        for _ in self.leading:
            found = [
                (inner, (*at, int(inner.name)))
                for outer, at in found
                for inner in outer.iterdir()
            ]
        return sorted(at for _, at in found)

    def _cut_anew(self, before: Mapping[str, list[Index]]) -> None:
        """Replaces the store by one with the shards of these ranks."""
        with _Anew(self.target, self.grid, self.leading, length_unit=self.unit) as new:
            for name, written in before.items():
                for at in written:
                    front = tuple(slice(i, i + 1) for i in at)
                    cells = (*front, *self.grid.local_slice)
                    part = window_of(self.target / name, cells)
                    new.put(name, part.reshape(self.grid.local_shape), at)


class _Anew(ZarrStore):
    fill = math.nan
