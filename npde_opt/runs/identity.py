"""What makes a run the run that it is: its case, the contents of the files that this reads, and the
options that change results. A resumed run has to agree in all of it; what differs is named.

Files count by what they hold, not by where they lie. What changes neither the problem nor the path
of the optimizer (titles, the memory for trajectories, numbers of ranks and groups) does not count,
nor does the limit of iterations of a run with one start: it goes on with a larger one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec
import numpy as np
from mpi4py import MPI

from npde_opt import registry
from npde_opt.aliases import Plain, Record
from npde_opt.cases import Case
from npde_opt.cases.pictures import picture_file
from npde_opt.errors import collective
from npde_opt.io.fields import files_inside
from npde_opt.io.files import disk

SHORT = 16
"""Characters of a hash that are kept."""

PLANES = 64
"""Of an anatomy that are read at a time."""
NOT_COUNTED = {
    "case": ("title",),
    # Said on the command line too; what holds is counted once.
    "optimizer": ("method", "levels"),
    "time": ("memory", "axis"),
}
LIMIT = ("max_iterations",)
APART = ("posterior",)
"""Sections that say what is done with the answer; chains have their own identity."""


def identity(
    case: Case, comm: MPI.Intracomm, method: str, levels: int | None
) -> dict[str, str]:
    """Names and short texts or hashes, in the order in which they are compared. Collective; rank 0
    reads the files."""
    found: dict[str, str] = {}
    with collective(comm):
        if comm.rank == 0:
            cells = " x ".join(str(len(e) - 1) for e in case.domain.edges)
            found = {
                "--grid": cells,
                "--optimizer": method,
                "--levels": str(levels or "all"),
                "--seed": str(case.seed),
                "--module": registry.loaded(),
            }
            found |= sections(plain(case), extendable=not case.restarted)
            found |= contents(files(case))
            if case.table.domain.mni152 is not None:
                found["the anatomy mni152"] = _anatomy(case)
    known: dict[str, str] = comm.bcast(found, root=0)
    return known


def plain(case: Case) -> Record:
    """The tables of a case, with what it puts into texts put in."""
    found: Record = msgspec.to_builtins(case.table, enc_hook=_listed)
    del found["variables"]
    return found


def _listed(values: object) -> object:
    """Arrays, of boundary values in files, as lists."""
    if isinstance(values, np.ndarray):
        return values.tolist()
    raise TypeError(f"a case holds no {type(values).__name__}")


def sections(table: Mapping[str, Plain], extendable: bool) -> dict[str, str]:
    """A hash of each section of a case.

    Args:
        extendable: whether the limit of iterations of the (last) optimizer does not count.
    """
    found = {}
    for name, section in table.items():
        if name in APART:
            continue
        kept = section
        if name in NOT_COUNTED and isinstance(section, Mapping):
            kept = _without(section, NOT_COUNTED[name])
        if name == "optimizer" and extendable:
            kept = _without_limit(kept)
        text = json.dumps(kept, sort_keys=True, default=str)
        found[f"section [{name}] of the case (or --set)"] = _short(text.encode())
    return found


def _without(section: Mapping[str, Plain], names: Iterable[str]) -> Record:
    return {name: value for name, value in section.items() if name not in names}


def _without_limit(section: Plain) -> Plain:
    """An optimizer, or several of which one follows the other, but for where the last one stops."""
    if isinstance(section, Mapping):
        return _without(section, LIMIT)
    assert isinstance(section, list)
    return [*section[:-1], _without(section[-1], LIMIT)]


def contents(files: Iterable[tuple[str, Path]]) -> dict[str, str]:
    """A hash of each file, by the place that names it."""
    found: dict[str, str] = {}
    for place, path in files:
        name = f"the contents of {place}, file {path.name}"
        with disk(place, path, "a file that can be read"):
            # Two files that are included may have one name.
            found[name] = "".join([found.get(name, ""), content_hash(path)])
    return found


def files(case: Case) -> list[tuple[str, Path]]:
    """The files that a case's table names, and those that these include, by the place of the name
    in it."""
    found = []
    for place, spec in _references("", plain(case)):
        path = _path(case, place, spec)
        found += [(place, file) for file in (path, *files_inside(path))]
    return found


def _references(place: str, value: Plain) -> Iterator[tuple[str, Mapping[str, Plain]]]:
    """All tables {file = ...} and {picture = ...} inside a value."""
    if isinstance(value, Mapping):
        if isinstance(value.get("file"), str) or isinstance(value.get("picture"), str):
            yield place, value
        for name, inner in value.items():
            yield from _references(f"{place}.{name}" if place else str(name), inner)
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            yield from _references(f"{place}[{i}]", inner)


def _path(case: Case, place: str, spec: Mapping[str, Plain]) -> Path:
    if isinstance(spec.get("file"), str):
        return case.sources.find(place, spec["file"])
    return picture_file(place, spec["picture"], case.sources)


def content_hash(path: Path) -> str:
    """Of a file's bytes, read piece by piece."""
    total = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 22):
            total.update(piece)
    return total.hexdigest()[:SHORT]


def _anatomy(case: Case) -> str:
    """Of the tissue fractions, whatever version of the package they come from."""
    total, sources = hashlib.sha256(), case.sources
    first, *others = [e.size - 1 for e in sources.edges]
    for name in ("grey", "mask", "white"):
        total.update(name.encode())
        # Some planes at a time: nothing of the anatomy's size is held.
        for i in range(0, first, PLANES):
            rows = slice(i, min(i + PLANES, first))
            window = (rows, *[slice(0, n) for n in others])
            total.update(sources.voxels(name, window).tobytes())
    return total.hexdigest()[:SHORT]


def _short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:SHORT]
