"""Checkpoints: everything that an optimizer needs to go on, whole or not at all.

`checkpoint-<k>/` holds one PETSc binary file a vector, in natural ordering (any number of ranks reads it), and
`meta.json` with the sizes and checksums of those files. It is written under another name, flushed to the disk and
renamed; the last two are kept, and a damaged one gives way to the one before it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.errors import InputError, collective
from npde_opt.io.files import sync_folder, whole_file
from npde_opt.io.results import versions

KEEP = 2
NAME = re.compile(r"[A-Za-z0-9_-]+\Z")
REMEDY = "another --out, or --overwrite to start again"


class Space(Protocol):
    """What a checkpoint asks of a parameter space: vectors, and their files in natural ordering."""

    def create_vec(self) -> PETSc.Vec: ...
    def view(self, vec: PETSc.Vec, viewer: PETSc.Viewer) -> None: ...
    def load(self, vec: PETSc.Vec, viewer: PETSc.Viewer) -> None: ...


class State(Protocol):
    """Vectors and JSON-able values that an optimizer resumes from."""

    @property
    def vectors(self) -> Mapping[str, PETSc.Vec]: ...
    @property
    def meta(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint folder.

    `number` is the row of history.csv that it belongs to, `state` the optimizer's meta, `extra` what the caller added
    (case, level, iteration).
    """

    path: Path
    number: int
    vectors: tuple[str, ...]
    sizes: Mapping[str, int]
    state: Mapping[str, Any]
    extra: Mapping[str, Any]

    def load(self, space: Space, comm: MPI.Intracomm) -> dict[str, PETSc.Vec]:
        """The vectors, which the caller destroys. Collective.

        Raises:
            InputError: where a vector has another size than the space's vectors.
        """
        loaded: dict[str, PETSc.Vec] = {}
        for name in self.vectors:
            vec = space.create_vec()
            loaded[name], size = vec, vec.getSize()
            if size != self.sizes[name]:
                for v in loaded.values():
                    v.destroy()
                raise InputError(f"--resume: {self.path}, vector {name}", f"{self.sizes[name]} values",
                                 f"{size} as this case has; {REMEDY}")
            viewer = PETSc.Viewer().createBinary(str(self.path / f"{name}.bin"), "r", comm=comm)
            space.load(vec, viewer)
            viewer.destroy()
        return loaded


def save_checkpoint(out: str | os.PathLike, comm: MPI.Intracomm, space: Space, state: State, number: int,
                    extra: Mapping[str, Any] | None = None, keep: int = KEEP) -> Path:
    """Writes checkpoint-<number>, then removes all but the last `keep`. Collective.

    Args:
        number: counts the completed iterations of the whole run; the row of history.csv.
        extra: JSON-able values; `case` is compared on resume.

    Raises:
        InputError: on every rank, where the folder cannot be written.
    """
    folder = Path(out)
    final, temporary = folder / f"checkpoint-{number}", folder / f".checkpoint-{number}.tmp"
    with collective(comm):
        bad = [name for name in state.vectors if not NAME.match(name)]
        if bad:
            raise InputError("checkpoint vector", ", ".join(bad), "names of letters, digits, _ and -")
        if comm.rank == 0:
            _guard(folder, lambda: _empty(folder, temporary))
    for name, vec in state.vectors.items():
        viewer = PETSc.Viewer().createBinary(str(temporary / f"{name}.bin"), "w", comm=comm)
        space.view(vec, viewer)
        viewer.destroy()
    meta = {"number": int(number), "ranks": comm.size, "versions": versions(), "vectors": list(state.vectors),
            "sizes": {n: v.getSize() for n, v in state.vectors.items()}, "state": dict(state.meta),
            "extra": dict(extra or {})}
    with collective(comm):
        if comm.rank == 0:
            _guard(folder, lambda: _seal(folder, temporary, final, meta, keep))
    return final


def _guard(folder: Path, work) -> None:
    try:
        work()
    except OSError as error:
        raise InputError(f"checkpoint in {folder}", error.strerror or str(error),
                         "a folder with space that can be written") from error


def _empty(folder: Path, temporary: Path) -> None:
    for stale in folder.glob(".checkpoint-*"):
        shutil.rmtree(stale)
    temporary.mkdir()


def _seal(folder: Path, temporary: Path, final: Path, meta: dict[str, Any], keep: int) -> None:
    files = sorted(p for p in temporary.iterdir() if p.name != "meta.json")
    meta["files"] = {p.name: {"bytes": p.stat().st_size, "crc32": _checksum(p)} for p in files}
    for p in files:
        sync_folder(p)
    body = json.dumps(meta, indent=1, default=lambda v: v.tolist())
    with whole_file(temporary / "meta.json") as file:
        file.write(json.dumps({"crc32": zlib.crc32(body.encode())}).encode() + b"\n" + body.encode())
    if final.exists():
        replaced = folder / f".{final.name}.replaced"
        final.rename(replaced)
        temporary.rename(final)
        shutil.rmtree(replaced)
    else:
        temporary.rename(final)
    sync_folder(folder)
    numbers = _numbers(folder)
    current = meta["number"]
    for n in [m for m in numbers if m > current] + [m for m in numbers if m <= current][:-keep]:
        shutil.rmtree(folder / f"checkpoint-{n}")


def _checksum(path: Path) -> int:
    total = 0
    with open(path, "rb") as file:
        while piece := file.read(1 << 22):
            total = zlib.crc32(piece, total)
    return total


def _numbers(folder: Path) -> list[int]:
    names = (re.fullmatch(r"checkpoint-(\d+)", p.name) for p in folder.glob("checkpoint-*"))
    return sorted(int(m.group(1)) for m in names if m)


def find_checkpoint(out: str | os.PathLike, comm: MPI.Intracomm, case: str | None = None) -> Checkpoint | None:
    """The newest undamaged checkpoint of a run, on every rank; None where it wrote none. Collective.

    Args:
        case: what `extra["case"]` has to be (a hash of the case).

    Raises:
        InputError: where all checkpoints are damaged, or belong to another case.
    """
    folder, found = Path(out), None
    with collective(comm):
        if comm.rank == 0:
            found = _find(folder)
            if found and case is not None and found.extra.get("case") != case:
                raise InputError(f"--resume: case of {found.path}", repr(found.extra.get("case")),
                                 f"{case!r}, the case given now; the same case file, --grid, --seed and --set, {REMEDY}")
    return comm.bcast(found, root=0)


def _find(folder: Path) -> Checkpoint | None:
    numbers = _numbers(folder)
    for number in reversed(numbers):
        path = folder / f"checkpoint-{number}"
        try:
            return _verified(path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            warnings.warn(f"{path} is damaged ({error}); the one before it is used", RuntimeWarning, stacklevel=2)
    if numbers:
        raise InputError(f"--resume: checkpoints in {folder}", f"{len(numbers)}, all damaged", REMEDY)
    return None


def _verified(path: Path) -> Checkpoint:
    head, _, body = (path / "meta.json").read_text().partition("\n")
    if json.loads(head)["crc32"] != zlib.crc32(body.encode()):
        raise ValueError("meta.json does not match its checksum")
    meta = json.loads(body)
    for name, expected in meta["files"].items():
        size = (path / name).stat().st_size
        if size != expected["bytes"]:
            raise ValueError(f"{name} has {size} of {expected['bytes']} bytes")
        if _checksum(path / name) != expected["crc32"]:
            raise ValueError(f"{name} does not match its checksum")
    return Checkpoint(path, meta["number"], tuple(meta["vectors"]), meta["sizes"], meta["state"], meta["extra"])


def load_checkpoint(out: str | os.PathLike, comm: MPI.Intracomm, space: Space,
                    case: str | None = None) -> tuple[Checkpoint, dict[str, PETSc.Vec]] | None:
    """`find_checkpoint` and its vectors in one step, where the space is known beforehand. Collective."""
    found = find_checkpoint(out, comm, case)
    return None if found is None else (found, found.load(space, comm))
