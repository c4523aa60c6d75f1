"""Fields, trajectories and samples in Zarr's format, of which every rank writes its shards.

    with ZarrStore("states.zarr", grid, {"t": times}) as store:
        for n, u in enumerate(states):
            store.put("u", u, (n,))

`xarray.open_zarr` and zarr-python read it, and cases as a field's file. A rank's shard is its box
in the most even cut, so that all shards but the last ones are alike; cells that other ranks own
come from them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from petsc4py import PETSc

from npde_opt.aliases import FilePath, Record
from npde_opt.errors import InputError, collective
from npde_opt.grids import Grid
from npde_opt.grids.layout import Layout
from npde_opt.grids.scattered import Scattered
from npde_opt.io.files import beside, cause, sync_folder, whole_file
from npde_opt.io.zarr_layout import META, TYPES, Array, group, text, whole_chunks

CHUNKS = {1: 1 << 16, 2: 256, 3: 64}
"""Cells of a chunk along each axis, by the number of axes."""
WRITABLE = "a place where files can be written"


class Shards:
    """A folder into which every rank writes its shards. Methods are collective.

    Args:
        path: `.zarr` is added where it has another suffix.
        leading: of axes in front of the grid's, by name their coordinates: {"t": times}.
        packed: by gzip; fields of full precision hardly become smaller.

    Raises:
        InputError: for a place that is not writable, or holds something else.
    """

    fill = 0.0
    """What was not written is read as."""

    def __init__(
        self,
        path: FilePath,
        grid: Grid,
        leading: Mapping[str, np.ndarray] | None = None,
        *,
        packed: bool = False,
        length_unit: str = "",
    ):
        self.target = Path(path)
        if self.target.suffix != ".zarr":
            self.target = self.target.with_name(self.target.name + ".zarr")
        self.grid, self.packed, self.unit = grid, packed, length_unit
        self.leading = {k: np.asarray(v) for k, v in (leading or {}).items()}
        self.arrays: dict[str, Array] = {}
        sizes = [
            whole_chunks(n, p, CHUNKS[grid.dim])
            for n, p in zip(grid.shape, grid.layout.processes, strict=True)
        ]
        self.chunk, self.shard = (tuple(s) for s in zip(*sizes, strict=True))
        self._own = self._shards()
        self.folder = self._place()
        self._attempt(self._begin)

    def _place(self) -> Path:
        """The folder that is written to."""
        return self.target

    def _begin(self) -> None:
        """On rank 0, makes it."""
        self._check_target()
        self.folder.mkdir(parents=True, exist_ok=True)

    def _shards(self) -> Layout:
        """Which cells lie in the shard of which rank."""
        counts = []
        for n, s, p in zip(
            self.grid.shape, self.shard, self.grid.layout.processes, strict=True
        ):
            ends = np.minimum(np.arange(p + 1) * s, n)
            counts.append(tuple(np.diff(ends).tolist()))
        return Layout(tuple(counts), self.grid.layout.rank)

    def _check_target(self) -> None:
        old = self.target
        if old.exists() and not (old / META).is_file():
            raise InputError(str(old), "something that is no store", "a new name")

    def _attempt(self, work: object, every: bool = False) -> None:
        """Something on rank 0, or on every rank, whose failure is told by all."""
        assert callable(work)
        with collective(self.grid.comm):
            if every or self.grid.comm.rank == 0:
                try:
                    work()
                except OSError as error:
                    said = cause(error)
                    raise InputError(str(self.target), said, WRITABLE) from error

    def put(
        self, name: str, values: PETSc.Vec | np.ndarray, at: tuple[int, ...] = ()
    ) -> None:
        """Writes the field `name` at indices of the leading axes.

        Args:
            values: a Vec of the grid, or owned values [i, j, k] or [c, i, j, k].

        Raises:
            InputError: for another shape or type than a field of the grid has, or than `name` had
                before.
        """
        grid = self.grid
        owned = grid.view(values) if isinstance(values, PETSc.Vec) else values
        with collective(grid.comm):
            self.arrays[name] = array = self._declared(name, np.asarray(owned), at)
        lead = owned.shape[: owned.ndim - grid.dim]
        parts = [
            Scattered(grid.comm, grid.layout, np.asfortranarray(part)).at(
                self._own.owned()
            )
            for part in owned.reshape(-1, *grid.local_shape)
        ]
        there = np.array(parts).reshape(*lead, *self._own.local_shape)
        self._attempt(lambda: self._write(name, array, there, at), every=True)

    def _declared(self, name: str, owned: np.ndarray, at: tuple[int, ...]) -> Array:
        grid = self.grid
        lead = owned.shape[: max(owned.ndim - grid.dim, 0)]
        if owned.shape != (*lead, *grid.local_shape) or len(lead) > 1:
            allowed = f"the owned cells {grid.local_shape}, or components of them"
            raise InputError(f"field {name}", f"shape {owned.shape}", allowed)
        if owned.dtype.name not in TYPES:
            raise InputError(f"field {name}", f"type {owned.dtype}", ", ".join(TYPES))
        counts = tuple(v.size for v in self.leading.values())
        within = zip(at, counts, strict=False)
        if len(at) != len(counts) or any(not 0 <= i < n for i, n in within):
            allowed = f"one for each of {dict(zip(self.leading, counts, strict=True))}"
            raise InputError(f"field {name}, indices", at, allowed)
        ones, axes = (1,) * len(counts), grid.axis_names
        found = Array(
            shape=(*counts, *lead, *grid.shape),
            chunk=(*ones, *(1 for _ in lead), *self.chunk),
            shard=(*ones, *lead, *self.shard),
            dtype=owned.dtype,
            axes=(*self.leading, *(["component"] if lead else []), *axes[: grid.dim]),
            packed=self.packed,
        )
        known = self.arrays.get(name, found)
        if known != found:
            was = f"{known.dtype} {known.shape}, as before"
            raise InputError(f"field {name}", f"{found.dtype} {found.shape}", was)
        return found

    def _write(
        self, name: str, array: Array, values: np.ndarray, at: tuple[int, ...]
    ) -> None:
        """The shard of this rank."""
        if not values.size:
            return
        lead = values.ndim - self.grid.dim
        index = (*at, *[0] * lead, *self._own.position)
        path = self.folder / name / array.key(index)
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            file.writelines(array.shards(values.reshape(*[1] * len(at), *values.shape)))
            file.flush()
            os.fsync(file.fileno())

    def _describe(self) -> None:
        """Coordinates, and what says how all of it lies."""
        records: dict[str, Record] = {}
        for name, values in self._coordinates().items():
            axis = name.replace("_edges", "_edge")
            own = Array(values.shape, values.shape, values.shape, values.dtype, (axis,))
            records[name] = own.record()
            of_space = name.split("_")[0] in self.grid.axis_names
            if self.unit and of_space:
                records[name]["attributes"] = {"units": self.unit}
            path = self.folder / name / own.key((0,))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(own.encoded(values))
        for name, array in self.arrays.items():
            records[name] = replace(array, fill=self.fill).record()
        for name, record in records.items():
            (self.folder / name / META).write_text(text(record))
        told = {"cells": list(self.grid.shape)}
        with whole_file(self.folder / META) as file:
            file.write(group(records, told).encode())

    def _coordinates(self) -> dict[str, np.ndarray]:
        found = dict(self.leading)
        for name, edges in zip(self.grid.axis_names, self.grid.edges, strict=False):
            found[name] = (edges[1:] + edges[:-1]) / 2
            found[f"{name}_edges"] = np.asarray(edges)
        return found


class ZarrStore(Shards):
    """A folder that appears whole when the block ends, or not at all; a store that is there is
    replaced. Arguments and errors as of `Shards`. One that grows over runs: zarr_growing.py."""

    def _place(self) -> Path:
        own = os.fspath(beside(self.target))
        return Path(self.grid.comm.bcast(own, root=0))

    def _begin(self) -> None:
        self._check_target()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()

    def _end(self) -> None:
        self._describe()
        if self.target.exists():
            shutil.rmtree(self.target)
        os.replace(self.folder, self.target)
        sync_folder(self.target.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._attempt(self._end)
        finally:
            if self.grid.comm.rank == 0:
                shutil.rmtree(self.folder, ignore_errors=True)


def write_zarr(
    path: FilePath,
    grid: Grid,
    fields: Mapping[str, PETSc.Vec | np.ndarray],
    *,
    packed: bool = False,
    length_unit: str = "",
) -> Path:
    """Writes named cell fields to one store, with `active` where the grid has a mask. Collective;
    arguments and errors as `ZarrStore`, and its `put`.

    Returns:
        The folder that was written.
    """
    with ZarrStore(path, grid, packed=packed, length_unit=length_unit) as store:
        for name, values in fields.items():
            store.put(name, values)
        if grid.mask is not None and "active" not in fields:
            store.put("active", grid.active)
    return store.target
