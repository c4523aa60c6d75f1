"""Checkpoints: everything that an optimizer needs to go on, whole or not at all.

`checkpoint-<k>/` holds one file a vector (see vectors.py), small files of the caller's, and
`meta.json` with the sizes and checksums of all of them. It is written under another name, flushed
to the disk and renamed; the last two are kept, and a damaged one gives way to the one before it.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import shutil
import warnings
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.aliases import FilePath, Plain, Record
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError, collective
from npde_opt.io.files import content_of, disk, sync_folder, whole_file
from npde_opt.io.results import versions
from npde_opt.io.vectors import Sink, Source, VectorReader, VectorWriter

KEEP = 2
NAME = re.compile(r"[A-Za-z0-9_-]+\Z")
REMEDY = "another --out, or --overwrite to start again"


class Space(Protocol):
    """What a checkpoint asks of a parameter space: vectors, and their parts in natural order."""

    def create_vec(self) -> PETSc.Vec: ...
    def write(self, vec: PETSc.Vec, sink: Sink) -> None: ...
    def read(self, vec: PETSc.Vec, source: Source) -> None: ...


class State(Protocol):
    """Vectors and JSON-able values that an optimizer resumes from."""

    @property
    def vectors(self) -> Mapping[str, PETSc.Vec]: ...
    @property
    def meta(self) -> Mapping[str, Plain]: ...


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint folder.

    `number` is the row of history.csv that it belongs to, `state` the optimizer's meta, `extra`
    what the caller added (identity of the run, level, iteration), `attachments` the contents of the
    caller's files.
    """

    path: Path
    number: int
    vectors: tuple[str, ...]
    sizes: Mapping[str, int]
    state: Mapping[str, Plain]
    extra: Mapping[str, Plain]
    attachments: Mapping[str, bytes] = field(default_factory=dict)

    def load(self, space: Space, comm: MPI.Intracomm) -> dict[str, PETSc.Vec]:
        """The vectors, which the caller destroys. Collective.

        Raises:
            InputError: where a vector has another size than the space's vectors, or can no longer
                be read.
        """
        loaded: dict[str, PETSc.Vec] = {}
        try:
            for name in self.vectors:
                loaded[name] = space.create_vec()
                self._load(name, loaded[name], space, comm)
        except InputError:
            for vec in loaded.values():
                vec.destroy()
            raise
        return loaded

    def load_for_all(self, space: Space, ensemble: Ensemble) -> dict[str, PETSc.Vec]:
        """As `load` in every group, read by the first. Collective over all groups."""
        vectors: dict[str, PETSc.Vec] = {}
        with collective(ensemble.world):
            if ensemble.across.rank == 0:
                vectors = self.load(space, ensemble.space)
            else:
                vectors = {name: space.create_vec() for name in self.vectors}
        for name in self.vectors:
            ensemble.across.Bcast(vectors[name].getArray(), root=0)
        return vectors

    def _load(
        self, name: str, vec: PETSc.Vec, space: Space, comm: MPI.Intracomm
    ) -> None:
        size = vec.getSize()
        if size != self.sizes[name]:
            raise InputError(
                f"--resume: {self.path}, vector {name}",
                f"{self.sizes[name]} values",
                f"{size} as this case has; {REMEDY}",
            )
        source = VectorReader(self.path / f"{name}.bin", comm)
        space.read(vec, source)
        source.close()


def save_checkpoint(
    out: FilePath,
    comm: MPI.Intracomm,
    space: Space,
    state: State,
    number: int,
    extra: Mapping[str, Plain] | None = None,
    keep: int = KEEP,
    attachments: Mapping[str, bytes] | None = None,
    check: Callable[[], None] = lambda: None,
) -> Path:
    """Writes checkpoint-<number>, then removes all but the last `keep`. Collective.

    Args:
        number: counts the completed iterations of the whole run; the row of history.csv.
        extra: JSON-able values; `identity` is compared on resume.
        attachments: contents of small files by name, needed on rank 0 only.
        check: raises InputError, on rank 0, where the folder is no longer this run's.

    Raises:
        InputError: on every rank, where the folder cannot be written. What was complete before
            stays.
    """
    folder = Path(out)
    final, temporary = (
        folder / f"checkpoint-{number}",
        folder / f".checkpoint-{number}.tmp",
    )
    meta = {
        "number": int(number),
        "ranks": comm.size,
        "versions": versions(),
        "vectors": list(state.vectors),
        "sizes": {n: v.getSize() for n, v in state.vectors.items()},
        "state": dict(state.meta),
        "extra": dict(extra or {}),
        "attachments": sorted(attachments or {}),
    }
    try:
        with collective(comm), _on_disk(folder):
            _check_names(state.vectors)
            if comm.rank == 0:
                check()
                _empty(folder, temporary)
        for name, vec in state.vectors.items():
            sink = VectorWriter(temporary / f"{name}.bin", comm)
            space.write(vec, sink)
            sink.close()
        with collective(comm), _on_disk(folder):
            if comm.rank == 0:
                check()
                _attach(temporary, attachments or {})
                _seal(folder, temporary, final, meta)
                _prune(folder, int(number), keep)
    except InputError:
        # What it took of a full disk is given back.
        if comm.rank == 0:
            shutil.rmtree(temporary, ignore_errors=True)
        raise
    return final


def _on_disk(folder: Path) -> contextlib.AbstractContextManager[None]:
    return disk("checkpoint", folder)


def _check_names(names: Mapping[str, object]) -> None:
    bad = [name for name in names if not NAME.match(name)]
    if bad:
        raise InputError(
            "checkpoint vector", ", ".join(bad), "names of letters, digits, _ and -"
        )


def _empty(folder: Path, temporary: Path) -> None:
    for stale in folder.glob(".checkpoint-*"):
        shutil.rmtree(stale)
    temporary.mkdir()


def _attach(temporary: Path, attachments: Mapping[str, bytes]) -> None:
    for name, content in attachments.items():
        with open(temporary / name, "wb") as file:
            file.write(content)


def _seal(folder: Path, temporary: Path, final: Path, meta: Record) -> None:
    """Adds meta.json and gives the folder its name, when all that is inside has reached the
    disk."""
    files = sorted(p for p in temporary.iterdir() if p.name != "meta.json")
    meta["files"] = {
        p.name: {"bytes": p.stat().st_size, "crc32": _checksum(p)} for p in files
    }
    for p in files:
        sync_folder(p)
    body = json.dumps(meta, indent=1, default=lambda v: v.tolist())
    with whole_file(temporary / "meta.json") as file:
        file.write(
            json.dumps({"crc32": zlib.crc32(body.encode())}).encode()
            + b"\n"
            + body.encode()
        )
    if final.exists():
        # One of this number is there where it was damaged: a run resumed from the one before comes
        # to it again.
        shutil.rmtree(final)
    temporary.rename(final)
    sync_folder(folder)


def _prune(folder: Path, current: int, keep: int) -> None:
    """Removes those before the last `keep`, and those of a future that a resumed run left
    behind."""
    numbers = _numbers(folder)
    for n in [m for m in numbers if m > current] + [m for m in numbers if m <= current][
        :-keep
    ]:
        shutil.rmtree(folder / f"checkpoint-{n}")


def _checksum(path: Path) -> int:
    total = 0
    with open(path, "rb") as file:
        while piece := file.read(1 << 22):
            total = zlib.crc32(piece, total)
    return total


def _numbers(folder: Path) -> list[int]:
    names = (
        re.fullmatch(r"checkpoint-(\d+)", p.name) for p in folder.glob("checkpoint-*")
    )
    return sorted(int(m.group(1)) for m in names if m)


def find_checkpoint(
    out: FilePath,
    comm: MPI.Intracomm,
    identity: Mapping[str, str] | None = None,
    below: float = math.inf,
) -> Checkpoint | None:
    """The newest undamaged checkpoint of a run, on every rank; None where it wrote none.
    Collective.

    Args:
        identity: what `extra["identity"]` has to be; see runs/identity.py.
        below: of numbers below this.

    Raises:
        InputError: where all checkpoints are damaged, or belong to another run.
    """
    folder, found = Path(out), None
    with collective(comm), disk("--resume", folder, "a folder that can be read"):
        if comm.rank == 0:
            found = _find(folder, below)
            if found and identity is not None:
                check_identity(found, identity)
    known: Checkpoint | None = comm.bcast(found, root=0)
    return known


def check_identity(found: Checkpoint, identity: Mapping[str, str]) -> None:
    """Raises InputError naming the first thing that is not as it was in the run that wrote the
    checkpoint."""
    refuse_differing(found.extra.get("identity") or {}, identity, found.path)


def refuse_differing(
    before: Mapping[str, str], identity: Mapping[str, str], path: Path
) -> None:
    """Raises InputError naming the first thing that is not as it was `before`, in the run of this
    path."""
    for name in [*identity, *before]:
        was, now = before.get(name, "nothing"), identity.get(name, "nothing")
        if was != now:
            raise InputError(
                f"--resume: {name}",
                f"{now}, other than in the run of {path}",
                f"{was}; {REMEDY}",
            )


def _find(folder: Path, below: float) -> Checkpoint | None:
    damaged: list[str] = []
    for number in [n for n in reversed(_numbers(folder)) if n < below]:
        path = folder / f"checkpoint-{number}"
        try:
            found = _verified(path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            damaged.append(f"{path.name} ({_why(path, error)})")
            continue
        if damaged:
            warnings.warn(
                f"damaged in {folder}: {', '.join(damaged)}; the one before is used",
                RuntimeWarning,
                stacklevel=2,
            )
        return found
    if damaged:
        said = f"{len(damaged)}, all damaged: {', '.join(damaged)}"
        raise InputError(f"--resume: checkpoints in {folder}", said, REMEDY)
    return None


def _why(path: Path, error: Exception) -> str:
    """What is wrong with a checkpoint, in few words."""
    if isinstance(error, FileNotFoundError) and error.filename is not None:
        missing = Path(error.filename)
        inside = missing.is_relative_to(path)
        return f"{missing.relative_to(path) if inside else missing} is missing"
    return str(error)


def _verified(path: Path) -> Checkpoint:
    head, _, body = content_of(path / "meta.json").decode().partition("\n")
    if json.loads(head)["crc32"] != zlib.crc32(body.encode()):
        raise ValueError("meta.json does not match its checksum")
    meta = json.loads(body)
    for name, expected in meta["files"].items():
        size = (path / name).stat().st_size
        if size != expected["bytes"]:
            raise ValueError(f"{name} has {size} of {expected['bytes']} bytes")
        if _checksum(path / name) != expected["crc32"]:
            raise ValueError(f"{name} does not match its checksum")
    attachments = {name: content_of(path / name) for name in meta["attachments"]}
    return Checkpoint(
        path,
        meta["number"],
        tuple(meta["vectors"]),
        meta["sizes"],
        meta["state"],
        meta["extra"],
        attachments,
    )


def load_checkpoint(
    out: FilePath,
    comm: MPI.Intracomm,
    space: Space,
    identity: Mapping[str, str] | None = None,
) -> tuple[Checkpoint, dict[str, PETSc.Vec]] | None:
    """`find_checkpoint` and its vectors in one step, where the space is known beforehand.
    Collective."""
    found = find_checkpoint(out, comm, identity)
    return None if found is None else (found, found.load(space, comm))
