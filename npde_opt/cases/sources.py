"""Where a case's fields and data come from: files beside the case or in the data folder, and the
MNI152 anatomy."""

from __future__ import annotations

import glob
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from mpi4py import MPI

from npde_opt import reductions
from npde_opt.errors import InputError
from npde_opt.io.fields import open_stored
from npde_opt.io.sizes import check_file
from npde_opt.io.stored import Stored

MILLIMETRE = 1e-3
LONGEST_NAME, LONGEST_PATH = 255, 4000
TEMPLATE = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"

MANY = 1 << 20
"""Numbers that are looked at together."""

Edges = list[np.ndarray]


@dataclass(frozen=True)
class Reading:
    """What was read for one key of a case: for `check`."""

    origin: str
    shape: tuple[int, ...]
    low: float
    mean: float
    high: float
    missing: int
    box: str


@dataclass
class Log:
    """What has been read first for each key of the case."""

    readings: dict[str, Reading] = field(default_factory=dict)

    def note(
        self,
        key: str,
        origin: str,
        values: np.ndarray,
        shape: tuple[int, ...] | None = None,
        box: str = "",
        comm: MPI.Intracomm = MPI.COMM_SELF,
    ) -> None:
        """Keeps shape (default: that of the values), smallest, mean and largest value and the
        number of missing ones. Collective.

        Args:
            comm: the ranks that have parts of the values.
        """
        if key in self.readings:
            return
        ends, sums = np.full(2, -np.inf), np.zeros(4)
        for part in _slabs(values):
            missing = np.isnan(part) if part.dtype.kind == "f" else np.zeros(1, bool)
            there = part[~missing] if missing.any() else part
            low, high = there.min(initial=np.inf), there.max(initial=-np.inf)
            ends = np.maximum(ends, [-low, high])
            sums += there.sum(dtype=float), there.size, missing.sum(), part.size
        minus_low, high = reductions.largest(comm, ends)
        whole, count, lost, size = reductions.total(comm, sums)
        if not size:
            return
        three = (-minus_low, whole / count, high) if count else (np.nan,) * 3
        low, mean, high = (float(x) for x in three)
        self.readings[key] = Reading(
            origin, shape or values.shape, low, mean, high, int(lost), box
        )


def _slabs(values: np.ndarray) -> Iterator[np.ndarray]:
    """Runs of an array's first axis, of MANY numbers or one index each."""
    rows = np.atleast_1d(values)
    step = max(MANY // max(rows[:1].size, 1), 1)
    return (rows[first : first + step] for first in range(0, len(rows), step))


@dataclass(frozen=True)
class Sources:
    """Where a case's fields come from: files beside the case or in the data folder, and anatomy.

    Attributes:
        anatomy: ('volume' or 'slice', index of the slice), (None, ...) for none.
        crop: takes the smallest box around the anatomy's active voxels.
        unit: the case's unit of length, for files that name theirs.
        replicate: the one of repeated measurements that is not fitted, '' for none.
        homes: edges of the case's own grids, whose shape an array without a place must have.
        log: keeps what is read, for `check`.
    """

    folder: Path
    data_folder: Path | None
    anatomy: tuple[str | None, int]
    crop: bool = False
    unit: str = ""
    replicate: str = ""
    homes: tuple[Edges, ...] = ()
    log: Log = field(default_factory=Log, compare=False)

    def find(self, field: str, name: str) -> Path:
        """The path of a regular file. Raises InputError where there is none."""
        if not name or "\0" in name:
            raise InputError(field, repr(name), "the name of a file")
        if (
            len(name) > LONGEST_PATH
            or max(len(part.encode(errors="replace")) for part in name.split("/"))
            > LONGEST_NAME
        ):
            allowed = f"a name of at most {LONGEST_NAME}"
            raise InputError(
                field, f"{name[:60]}... ({len(name):,} characters)", allowed
            )
        path = self._search(field, name)
        check_file(field, path)
        return path

    def _search(self, field: str, name: str) -> Path:
        places = [
            self.folder / name,
            *([self.data_folder / name] if self.data_folder else []),
        ]
        for place in places:
            if place.exists():
                return place
        if self.data_folder and Path(name).name == name and name != "..":
            below = sorted(
                p for p in self.data_folder.rglob(glob.escape(name)) if p.is_file()
            )
            if len(below) > 1:
                raise InputError(
                    field,
                    f"{name}, of which there are {len(below)}: {', '.join(map(str, below[:4]))}",
                    "a path below --data that names one of them",
                )
            if below:
                return below[0]
        hint = (
            ""
            if self.data_folder
            else "; give the folder that holds it by --data DIR or NPDE_DATA"
        )
        allowed = f"an existing file (looked in {', '.join(str(p.parent) for p in places)}){hint}"
        raise InputError(field, name, allowed)

    @cached_property
    def anatomy_box(self) -> tuple[slice, ...]:
        """The part of the anatomy's file that is the domain."""
        kind, index = self.anatomy
        assert kind is not None
        found = occupied(kind, index)
        return found if self.crop else whole_box(kind)

    def voxels(self, name: str, window: tuple[slice, ...] | None = None) -> np.ndarray:
        """Fractions of a tissue ('grey' or 'white') of the anatomy, or its mask ('mask', 0 or 1).

        Args:
            window: the voxels; by default all.
        """
        kind, index = self.anatomy
        assert kind is not None
        box = self.anatomy_box
        cells = window or tuple(slice(0, s.stop - s.start) for s in box)
        own = [
            (b.start + s.start, b.start + s.stop)
            for b, s in zip(box, cells, strict=True)
        ]
        raw = mni152(kind, index, name, tuple(own))
        return (raw > 0).astype(float) if name == "mask" else raw / 255

    @cached_property
    def edges(self) -> Edges:
        """Edges of the anatomy's voxels in m; empty without one."""
        if self.anatomy[0] is None:
            return []
        return [np.arange(s.start, s.stop + 1) * MILLIMETRE for s in self.anatomy_box]


def _template(name: str) -> Path:
    """A file of the template in nilearn."""
    found = importlib.util.find_spec("nilearn")
    if found is None or found.submodule_search_locations is None:
        allowed = "pip install 'npde_opt[examples]'"
        raise InputError("domain.mni152", "nilearn is not installed", allowed)
    return (
        Path(found.submodule_search_locations[0])
        / "datasets"
        / "data"
        / TEMPLATE.format(name)
    )


FILES = {"grey": "gm", "white": "wm", "mask": "t1"}
SLAB = 32
"""Planes of a volume that are looked at together."""


@lru_cache(maxsize=8)
def mni152(
    kind: str, index: int, name: str, ranges: tuple[tuple[int, int], ...]
) -> np.ndarray:
    """Bytes of grey or white matter (255: nothing else), or of the T1 image ('mask', 0 outside of
    the brain), of ranges of 1 mm voxels [x, y, z] or of one axial slice [x, y]."""
    cells = tuple(slice(a, b) for a, b in ranges)
    if any(a >= b for a, b in ranges):
        return np.empty([b - a for a, b in ranges])
    if kind == "volume":
        return _stored(name).window(_stored(name).shape, cells)
    return _plane(name, index)[cells]


@lru_cache(maxsize=3)
def _stored(name: str) -> Stored:
    found = open_stored(_template(FILES[name]))
    assert found is not None
    return found


def _plane(name: str, index: int) -> np.ndarray:
    nx, ny, nz = _stored(name).shape
    at = range(nz)[index]
    cells = (slice(0, nx), slice(0, ny), slice(at, at + 1))
    return _stored(name).window((nx, ny, nz), cells)[..., 0]


def whole_box(kind: str) -> tuple[slice, ...]:
    """All voxels of the anatomy."""
    shape = _stored("mask").shape
    return tuple(slice(0, n) for n in (shape if kind == "volume" else shape[:2]))


@lru_cache(maxsize=2)
def occupied(kind: str, index: int) -> tuple[slice, ...]:
    """The smallest box of voxels that holds the brain, or one axial slice of it.

    Raises:
        InputError: where there is none.
    """
    on = [np.zeros(s.stop, bool) for s in whole_box(kind)]
    if kind == "slice":
        there = _plane("mask", index) > 0
        on[0] |= there.any(axis=1)
        on[1] |= there.any(axis=0)
    else:
        nx, ny, nz = (line.size for line in on)
        for first in range(0, nz, SLAB):
            ranges = ((0, nx), (0, ny), (first, min(first + SLAB, nz)))
            there = mni152.__wrapped__(kind, index, "mask", ranges) > 0
            on[0] |= there.any(axis=(1, 2))
            on[1] |= there.any(axis=(0, 2))
            on[2][first : first + SLAB] = there.any(axis=(0, 1))
    if not on[0].any():
        allowed = "the index of an axial slice through the brain, about 10 to 150"
        raise InputError("domain.slice", index, allowed)
    found = [np.flatnonzero(line) for line in on]
    return tuple(slice(int(i[0]), int(i[-1]) + 1) for i in found)


@lru_cache(maxsize=1)
def mni152_corner() -> tuple[float, ...]:
    """MNI coordinates in mm of the corner of the template's voxels, which is 0 in a case's
    coordinates."""
    edges = _stored("grey").edges
    assert edges is not None
    return tuple(float(e[0]) for e in edges)
