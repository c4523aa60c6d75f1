"""Fields of a case at any resolution: numbers, expressions, files, anatomy, random benchmark fields.

Arrays with cells of their own are resampled by volume: the mean over a grid cell of the array's cells.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from npde_opt.errors import InputError
from npde_opt.functions.text import evaluate_text
from npde_opt.grids import along
from npde_opt.io.fields import read_field

MODES = 16
MILLIMETRE = 1e-3


@dataclass(frozen=True)
class Sources:
    """Where a case's fields come from: files beside the case or in the data folder, and anatomy.

    `anatomy` is ('volume' or 'slice', index of the slice), (None, ...) for none; `crop` takes the smallest box
    around its active voxels.
    """

    folder: Path
    data_folder: Path | None
    anatomy: tuple[str | None, int]
    crop: bool = False

    def find(self, field: str, name: str) -> Path:
        """The path of a file. Raises InputError where there is none."""
        places = [self.folder / name, *([self.data_folder / name] if self.data_folder else [])]
        for place in places:
            if place.exists():
                return place
        if self.data_folder and Path(name).name == name:
            below = sorted(p for p in self.data_folder.rglob(name) if p.is_file())
            if len(below) > 1:
                raise InputError(field, f"{name}, of which there are {len(below)}: {', '.join(map(str, below[:4]))}",
                                 "a path below --data that names one of them")
            if below:
                return below[0]
        hint = "" if self.data_folder else "; give the folder that holds it by --data DIR or NPDE_DATA"
        raise InputError(field, name, f"an existing file (looked in {', '.join(str(p.parent) for p in places)}){hint}")

    @cached_property
    def _box(self) -> tuple[slice, ...]:
        """The part of the anatomy's file that is the domain."""
        mask = self._whole["mask"]
        if not self.crop:
            return tuple(slice(0, n) for n in mask.shape)
        on = [np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != d))) for d in range(mask.ndim)]
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
    def edges(self) -> list[np.ndarray]:
        """Edges of the anatomy's voxels in m; empty without one."""
        if self.anatomy[0] is None:
            return []
        return [np.arange(s.start, s.stop + 1) * MILLIMETRE for s in self._box]


def overlap(source: np.ndarray, target: np.ndarray) -> scipy.sparse.csr_matrix:
    """Fractions (target cells x source cells) of each target cell covered by the source cells, both given by edges."""
    lower = np.maximum(source[None, :-1], target[:-1, None])
    upper = np.minimum(source[None, 1:], target[1:, None])
    lengths = np.clip(upper - lower, 0, None)
    total = lengths.sum(axis=1, keepdims=True)
    return scipy.sparse.csr_matrix(np.divide(lengths, total, out=np.zeros_like(lengths), where=total > 0))


def resample(values: np.ndarray, source: list[np.ndarray], target: list[np.ndarray]) -> np.ndarray:
    """Volume means of `values` over the cells of `target` edges."""
    out = np.asarray(values, float)
    for d, (a, b) in enumerate(zip(source, target, strict=True)):
        moved = np.moveaxis(out, d, 0)
        flat = overlap(a, b) @ moved.reshape(moved.shape[0], -1)
        out = np.moveaxis(flat.reshape(-1, *moved.shape[1:]), 0, d)
    return np.asfortranarray(out)


@lru_cache(maxsize=2)
def mni152(kind: str, index: int) -> dict[str, np.ndarray]:
    """Fractions of grey and white matter and the brain's mask, 1 mm voxels [x, y, z] or one axial slice [x, y]."""
    found = importlib.util.find_spec("nilearn")
    if found is None or found.submodule_search_locations is None:
        raise InputError("domain.mni152", "nilearn is not installed", "pip install 'npde_opt[examples]'")
    folder = Path(found.submodule_search_locations[0]) / "datasets" / "data"
    part = (slice(None), slice(None), index) if kind == "slice" else slice(None)
    grey, white, t1 = (read_field(folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz")[part]
                       for name in ("gm", "wm", "t1"))
    if not np.any(t1 > 0):
        raise InputError("domain.slice", index, "the index of an axial slice through the brain, about 10 to 150")
    return {"grey": grey / 255, "white": white / 255, "mask": (t1 > 0).astype(float)}


def tissue(fractions: dict[str, np.ndarray], values: dict[str, float]) -> np.ndarray:
    """Mixture by volume; what is neither grey nor white matter is fluid."""
    for name in ("grey", "white", "csf"):
        if not isinstance(values.get(name), int | float):
            raise InputError(f"mni152.{name}", values.get(name), "a number for each of grey, white, csf")
    total = np.maximum(fractions["grey"] + fractions["white"], 1.0)
    grey, white = fractions["grey"] / total, fractions["white"] / total
    return grey * values["grey"] + white * values["white"] + (1 - grey - white) * values["csf"]


def lognormal(centers: list[np.ndarray], lengths: list[float], contrast: float, seed: int) -> np.ndarray:
    """exp(g) with g = sum_ij a_ij cos(pi i x) cos(pi j y) / (1 + i^2 + j^2), scaled to max / min = contrast."""
    dim = len(centers)
    a = np.random.default_rng(seed).standard_normal((MODES,) * dim)
    modes = np.arange(MODES)
    out = a / (1 + sum(along(modes, d, dim) ** 2 for d in range(dim)))
    for d, (c, length) in enumerate(zip(centers, lengths, strict=True)):
        basis = np.cos(np.pi * np.outer((c - c[0]) / length, modes))
        out = np.moveaxis(np.tensordot(basis, out, axes=(1, d)), 0, d)
    return np.exp(out * np.log(contrast) / (out.max() - out.min()))


def nearest_values(values: np.ndarray, source: list[np.ndarray], target: list[np.ndarray]) -> np.ndarray:
    """What `values` hold at the middles of the cells of `target` edges."""
    picks = [np.clip(np.searchsorted(a, (b[1:] + b[:-1]) / 2, side="right") - 1, 0, a.size - 2)
             for a, b in zip(source, target, strict=True)]
    return np.asarray(values, float)[np.ix_(*picks)]


def evaluate(field: str, spec: Any, edges: list[np.ndarray], sources: Sources, nearest: bool = False) -> np.ndarray:
    """Global array [i, j, k] of a field's specification on the cells of `edges`; arrays are resampled by volume, or
    at the middles of the cells (`nearest`, for labels)."""
    shape = tuple(e.size - 1 for e in edges)
    if isinstance(spec, int | float):
        values = np.full(shape, float(spec), order="F")
    elif "expression" in spec:
        values = expression(field, spec["expression"], edges)
    elif "mni152" in spec:
        if not sources.edges:
            raise InputError(field, "mni152", "another field, or domain.mni152 = 'volume' or 'slice'")
        values = resample(tissue(sources.voxels, spec["mni152"]), sources.edges, edges)
    elif "lognormal" in spec:
        options = {"contrast": 1000.0, "seed": 0} | spec["lognormal"]
        centers = [(e[1:] + e[:-1]) / 2 for e in edges]
        values = lognormal(centers, [e[-1] - e[0] for e in edges], options["contrast"], options["seed"])
    elif "file" in spec:
        folded = tuple(spec["shape"]) if "shape" in spec else None
        native = read_field(sources.find(field, spec["file"]), spec.get("key"), folded)
        if native.ndim != len(edges):
            raise InputError(field, f"an array of shape {native.shape}", f"{len(edges)} axes")
        box = [np.linspace(e[0], e[-1], n + 1) for e, n in zip(edges, native.shape, strict=True)]
        values = (nearest_values if nearest else resample)(native, box, edges)
    elif "value" in spec:
        values = np.full(shape, float(spec["value"]), order="F")
    else:
        raise InputError(field, spec, "a number, or a table with value, file, expression, mni152 or lognormal")
    values = values * spec.get("scale", 1.0) if isinstance(spec, dict) else values
    if isinstance(spec, dict) and "clip" in spec:
        low, high = spec["clip"]
        values = np.clip(values, low, high)
    if not np.isfinite(values).all():
        raise InputError(field, f"{int((~np.isfinite(values)).sum())} values that are not finite", "finite values")
    return np.asfortranarray(values)


def expression(field: str, text: str, edges: list[np.ndarray]) -> np.ndarray:
    """A text in x, y, z at the middles of the cells."""
    dim = len(edges)
    names = {a: along((e[1:] + e[:-1]) / 2, d, dim) for d, (a, e) in enumerate(zip("xyz", edges, strict=False))}
    return np.array(np.broadcast_to(evaluate_text(field, text, names), tuple(e.size - 1 for e in edges)), dtype=float)
