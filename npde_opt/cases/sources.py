"""Where a case's fields and data come from: files beside the case or in the data folder, and the
MNI152 anatomy."""

from __future__ import annotations

import glob
import importlib.util
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from npde_opt.errors import InputError
from npde_opt.io.fields import check_file, read_field, read_gridded
from npde_opt.io.gridded import Gridded

MILLIMETRE = 1e-3
LONGEST_NAME, LONGEST_PATH = 255, 4000
TEMPLATE = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"

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
    ) -> None:
        """Keeps shape (default: that of the values), smallest, mean and largest value and the
        number of missing ones."""
        if key in self.readings or not values.size:
            return
        missing = np.isnan(values) if values.dtype.kind == "f" else np.zeros(1, bool)
        there = values[~missing] if missing.any() else values
        low, mean, high = (
            float(f(there)) if there.size else np.nan for f in (np.min, np.mean, np.max)
        )
        self.readings[key] = Reading(
            origin, shape or values.shape, low, mean, high, int(missing.sum()), box
        )


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
    def _box(self) -> tuple[slice, ...]:
        """The part of the anatomy's file that is the domain."""
        mask = self._whole["mask"]
        if not self.crop:
            return tuple(slice(0, n) for n in mask.shape)
        on = [
            np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != d)))
            for d in range(mask.ndim)
        ]
        return tuple(slice(int(i[0]), int(i[-1]) + 1) for i in on)

    @property
    def _whole(self) -> dict[str, np.ndarray]:
        kind, index = self.anatomy
        assert kind is not None
        return mni152(kind, index)

    @cached_property
    def voxels(self) -> dict[str, np.ndarray]:
        """Tissue fractions and mask of the anatomy."""
        return {name: values[self._box] for name, values in self._whole.items()}

    @cached_property
    def edges(self) -> Edges:
        """Edges of the anatomy's voxels in m; empty without one."""
        if self.anatomy[0] is None:
            return []
        return [np.arange(s.start, s.stop + 1) * MILLIMETRE for s in self._box]


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


@lru_cache(maxsize=2)
def mni152(kind: str, index: int) -> dict[str, np.ndarray]:
    """Fractions of grey and white matter and the brain's mask, 1 mm voxels [x, y, z] or one axial
    slice [x, y]."""
    part = (slice(None), slice(None), index) if kind == "slice" else slice(None)
    grey, white, t1 = (read_field(_template(name))[part] for name in ("gm", "wm", "t1"))
    if not np.any(t1 > 0):
        allowed = "the index of an axial slice through the brain, about 10 to 150"
        raise InputError("domain.slice", index, allowed)
    return {"grey": grey / 255, "white": white / 255, "mask": (t1 > 0).astype(float)}


@lru_cache(maxsize=1)
def mni152_corner() -> tuple[float, ...]:
    """MNI coordinates in mm of the corner of the template's voxels, which is 0 in a case's
    coordinates."""
    found: Gridded = read_gridded(_template("gm"))
    assert found.edges is not None
    return tuple(float(e[0]) for e in found.edges)
