"""Measured values from files: columns of text tables with rows chosen by ranges, or arrays of binary files."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from npde_opt.cases.fields import Sources
from npde_opt.errors import InputError
from npde_opt.io.fields import read_field

TEXT_FILES = (".csv", ".txt", ".dat")
KEYS = {"file", "column", "where", "key", "part", "rows", "scale", "shape"}
PARTS = {"real": np.real, "imag": np.imag, "intensity": lambda a: np.abs(a) ** 2}


def read_values(field: str, spec: dict[str, Any], sources: Sources) -> np.ndarray:
    """The array of {file, ...}.

    Text tables: `column` (a name of the first line, or a number from 0), `where` = {column = [from, to]} chooses rows.
    Other files: `key`, and `part` (real, imag, intensity) of complex arrays. `rows` = [first, last, step] of the first
    axis (last included), then `shape` and `scale`.

    Raises:
        InputError: naming the field and what is there.
    """
    wrong = set(spec) - KEYS
    if wrong or "file" not in spec:
        raise InputError(field, sorted(wrong) or "no file", ", ".join(sorted(KEYS)))
    path = sources.find(field, spec["file"])
    values = _text(field, path, spec) if path.suffix in TEXT_FILES else _array(field, path, spec)
    if "rows" in spec:
        first, last, step = spec["rows"]
        values = values[first: last + 1: step]
    if "shape" in spec:
        if values.size != int(np.prod(spec["shape"])):
            raise InputError(field, f"{values.size} values in {path.name}", f"{spec['shape']}")
        values = values.reshape(spec["shape"])
    return np.asarray(values, float) * spec.get("scale", 1.0)


def _array(field: str, path: Path, spec: dict[str, Any]) -> np.ndarray:
    if "part" not in spec:
        return read_field(path, spec.get("key"), allow_nan=True)
    if spec["part"] not in PARTS:
        raise InputError(f"{field}.part", repr(spec["part"]), ", ".join(PARTS))
    arrays = scipy.io.loadmat(path) if path.suffix == ".mat" else np.load(path)
    if spec.get("key") not in arrays:
        raise InputError(f"{field}.key", repr(spec.get("key")), ", ".join(k for k in arrays if not k.startswith("_")))
    return PARTS[spec["part"]](np.asarray(arrays[spec["key"]]))


def _text(field: str, path: Path, spec: dict[str, Any]) -> np.ndarray:
    names, rows = _table(path)
    keep = np.ones(len(rows), bool)
    for name, (low, high) in spec.get("where", {}).items():
        values = rows[:, _index(field, name, names, rows)]
        keep &= (values >= low) & (values <= high)
    return rows[keep, _index(field, spec.get("column", 0), names, rows)]


def _index(field: str, column: str | int, names: list[str], rows: np.ndarray) -> int:
    if isinstance(column, int) and column < rows.shape[1]:
        return column
    if column in names:
        return names.index(str(column))
    raise InputError(f"{field}.column", repr(column), ", ".join(names) or f"0 to {rows.shape[1] - 1}")


def _table(path: Path) -> tuple[list[str], np.ndarray]:
    """Names (where the first line has any) and rows of numbers; empty fields are NaN, empty and # lines are skipped."""
    lines = [x for x in path.read_text(encoding="utf-8-sig").splitlines() if x.strip(", \t") and not x.startswith("#")]
    split = list(csv.reader(lines)) if "," in lines[0] else [line.split() for line in lines]
    names = [] if all(_number(x) is not None for x in split[0] if x) else [x.strip() for x in split[0]]
    rows = [[_number(x) for x in row] for row in split[1 if names else 0:]]
    return names, np.array(rows, dtype=float)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
