"""The folder of a run: history.csv as it goes, summary.json at the end, whose run it is, and what
was written.

`.written` names what the run writes, before it is written, so that --overwrite removes that and
nothing else; `run.json` says what it was started with, before anything is kept that depends on it.
`.lock` belongs to the run that is at work (see lock.py). Only rank 0 touches the disk; every step
there is local work, followed by an agreement of all ranks on what failed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mpi4py import MPI

from npde_opt.aliases import FilePath, Record
from npde_opt.errors import InputError, collective
from npde_opt.io.checkpoint import REMEDY, refuse_differing
from npde_opt.io.files import content_of, disk, whole_file
from npde_opt.io.history import (
    COLUMNS,
    Row,
    complete_lines,
    difference,
    head_of,
    line_of,
    rows_of,
)
from npde_opt.io.results import Summary, summary_text
from npde_opt.runs.lock import LOCK, RunLock, take_lock

MODES = ("new", "resume", "overwrite")
HISTORY, SUMMARY, WRITTEN, STARTED = (
    "history.csv",
    "summary.json",
    ".written",
    "run.json",
)
LOG, PREDICTED = "run.log", "predicted.csv"
SIMULATED = "simulated.npz"
"""Arrays observation_0, observation_1, ... [experiment, time, place], as a case's `data` takes
them."""
STARTS, STARTS_TABLE = "starts", "starts.csv"
EARLY = ("weight.json", "spectrum", STARTS)
"""What a run keeps for its resumption beside checkpoints."""

# What runs leave under names that do not depend on the case.
FIXED = (
    HISTORY,
    SUMMARY,
    WRITTEN,
    STARTED,
    LOG,
    PREDICTED,
    SIMULATED,
    STARTS_TABLE,
    *EARLY,
    "parameters.vti",
    "parameters.vtr",
    "data_fit.png",
    "residuals.png",
    "convergence.png",
    "weight.png",
    "snapshots.png",
    "course.png",
    "state.gif",
)
TEMPORARY = re.compile(r"checkpoint-\d+|\.checkpoint-\d+\..*|\..*\.\d+\.tmp(\.\w+)?")

# What says that a run was here, rather than a folder of the user's or one killed before it did
# anything.
TRACES = (HISTORY, SUMMARY, SIMULATED, *EARLY)
KEPT = ("checkpoint-*", "state-*.vt[ir]")
TOLD = {"status": str, "iterations": int, "objective": int | float | None}
"""What a summary says of a run, by which it is known for one."""

CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def check_name(path: FilePath) -> None:
    """Raises InputError for names of folders that only a slip of the keyboard can mean."""
    text = os.fspath(path)
    if not text.strip():
        raise InputError("--out", repr(text), "the name of a folder")
    if CONTROL.search(text):
        raise InputError("--out", ascii(text), "a name without control characters")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError("--out", ascii(text), "a name in UTF-8") from error


class RunDirectory:
    """The output folder of a run, checked before any work starts, and left as it was until the run
    writes something: its input may still turn out to be wrong. Collective; only rank 0 touches the
    disk.

    Args:
        path: the folder, made where it is missing.
        mode: 'new' refuses a folder that holds an earlier run; 'resume' goes on with it, or begins
            where there is none; 'overwrite' removes what it wrote, and nothing else.
        resumes: whether the driver has --resume, which a refusal then offers.

    Attributes:
        replaces: on rank 0, whether an earlier run is there that this one removes.

    Raises:
        InputError: on every rank, where the path is a file, cannot be written, is another run's
            that is at work, or holds an earlier run in mode 'new'.
    """

    def __init__(
        self,
        path: FilePath,
        comm: MPI.Intracomm = MPI.COMM_WORLD,
        mode: str = "new",
        resumes: bool = True,
    ):
        if mode not in MODES:
            raise InputError("mode of the run folder", repr(mode), ", ".join(MODES))
        self.path, self.comm, self.mode = Path(path), comm, mode
        self._resumes = resumes
        self.columns: tuple[str, ...] = COLUMNS
        self._lines: list[str] = []
        self._lock: RunLock | None = None
        self._pending = False
        self.replaces = False
        with collective(comm):
            check_name(path)
            if comm.rank == 0:
                self._prepare()

    def _prepare(self) -> None:
        with disk("--out", self.path, "a folder that can be written"):
            # The look at it already fails where its name is too long or a folder above it is
            # closed.
            if self.path.exists() and not self.path.is_dir():
                allowed = "a folder, or a path that does not exist yet"
                raise InputError("--out", f"{self.path}, which is a file", allowed)
            self.path.mkdir(parents=True, exist_ok=True)
        self._lock = take_lock(self.path, self.comm.size)
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        earlier = self.earlier()
        if self.mode == "new" and earlier:
            there = f"{self.path}, which holds an earlier run ({', '.join(earlier)})"
            go_on = ", --resume to continue that run," if self._resumes else ""
            ways = f"another --out{go_on} or --overwrite to replace it"
            raise InputError("--out", there, ways)
        if self.mode != "resume":
            self._pending, self.replaces = True, bool(earlier)
            return
        with self.writing():
            self._remove(everything=False)
            if (self.path / HISTORY).exists():
                self._lines = complete_lines(content_of(self.path / HISTORY))

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Around what rank 0 writes: raises InputError where the folder is no longer this run's or
        the disk refuses."""
        self.check()
        with disk("--out", self.path):
            if self._pending:
                self._remove(everything=self.mode == "overwrite")
                if self._lines:
                    self._replace_history(self._lines)
                self._pending = False
            yield

    def check(self) -> None:
        """Raises InputError, on rank 0, where the folder was removed, replaced or taken by another
        run."""
        if self._lock is not None:
            self._lock.check()

    def earlier(self) -> list[str]:
        """Names of what an earlier run left: history, summary, data, checkpoints, states, the
        spectrum, the choice of the weight. One whose input was refused left the head of a table."""
        names = [n for n in TRACES if (self.path / n).exists()]
        if HISTORY in names and self._refused():
            names.remove(HISTORY)
        return names + sorted(p.name for k in KEPT for p in self.path.glob(k))

    def _refused(self) -> bool:
        """Whether the history is of a run that did not begin."""
        file = self.path / HISTORY
        if (self.path / STARTED).exists() or not file.is_file():
            return False
        return len(complete_lines(content_of(file))) < 2

    def _remove(self, everything: bool) -> None:
        """Takes away what earlier runs wrote here: everything, or what was half written when one
        was killed.

        Where this is killed too, no half of a run must look like a finished one, nor may anything
        be left that nobody knows of: the summary goes first, what tells whose the rest is goes
        last.
        """
        mine = {*FIXED, *self._noted()}
        order = {SUMMARY: 0, STARTED: 2, WRITTEN: 3}
        for entry in sorted(
            self.path.iterdir(),
            key=lambda entry: (order.get(entry.name, 1), entry.name),
        ):
            if entry.name == LOCK or not (
                TEMPORARY.fullmatch(entry.name) or (everything and entry.name in mine)
            ):
                continue
            if not everything and not entry.name.startswith("."):
                continue
            _unlink(entry)

    def claim(self, names: Sequence[str]) -> None:
        """Notes what this run will write, so that --overwrite finds it. Collective."""
        with collective(self.comm):
            if self.comm.rank == 0:
                self._note(names)

    def _note(self, names: Sequence[str]) -> None:
        with self.writing():
            known = self._noted()
            both = list(dict.fromkeys([*known, *(n for n in names if n not in FIXED)]))
            if both != known:
                with whole_file(self.path / WRITTEN) as out:
                    out.write("".join(f"{n}\n" for n in both).encode())

    def _noted(self) -> list[str]:
        """What `.written` names. What somebody else wrote into it names no file of a run."""
        file = self.path / WRITTEN
        return (
            content_of(file).decode(errors="replace").splitlines()
            if file.exists()
            else []
        )

    def refuse_another(self, identity: Mapping[str, str], begun: bool = False) -> None:
        """Raises InputError naming what is not as in the run that finished here, or that has
        `begun` here. Collective."""
        with collective(self.comm):
            ended = self.comm.rank == 0 and _summary(self.path / SUMMARY) is not None
            if self.comm.rank == 0 and (begun or ended):
                before = self._started()
                if before is not None:
                    refuse_differing(before, identity, self.path)

    def _started(self) -> Record | None:
        """What the run here was started with; None where nobody noted that."""
        file = self.path / STARTED
        return _table(file) if file.exists() else None

    def sign(self, identity: Mapping[str, str]) -> None:
        """Notes what the run was started with, before it keeps anything that depends on it. What
        another run kept that came to no checkpoint is removed. Collective."""
        with collective(self.comm):
            if self.comm.rank == 0:
                self._sign(dict(identity))

    def _sign(self, identity: dict[str, str]) -> None:
        with self.writing():
            before = self._started()
            if before == identity:
                return
            if before is not None:
                for entry in (self.path / name for name in EARLY):
                    if entry.exists():
                        _unlink(entry)
            with whole_file(self.path / STARTED) as out:
                out.write(json.dumps(identity, indent=1).encode())

    def file(self, name: str) -> Path:
        return self.path / name

    def folder(self, name: str) -> Path:
        """A folder of the run, made where it is missing. Collective."""
        with collective(self.comm):
            if self.comm.rank == 0:
                with self.writing():
                    self.file(name).mkdir(exist_ok=True)
        return self.file(name)

    def write(self, name: str, text: str) -> None:
        """Writes a file, whole or not at all. Collective; the text is rank 0's."""
        with collective(self.comm):
            if self.comm.rank == 0:
                with self.writing(), whole_file(self.path / name) as file:
                    file.write(text.encode())

    def begin_history(self, names: Sequence[str] = ()) -> None:
        """history.csv is one of this run's files from now on.

        Args:
            names: columns beside the common ones.

        Raises:
            InputError: for a name that is there already.
        """
        for name in names:
            if name in self.columns:
                taken = ", ".join(self.columns)
                raise InputError(
                    "column of the history", repr(name), f"none of {taken}"
                )
            self.columns += (name,)
        if len(self._lines) < 2:
            self._lines = [head_of(self.columns)]

    def append(self, row: Row) -> None:
        """Adds one line to history.csv, on the disk when this returns. Columns that the row lacks
        stay empty. Collective.

        Raises:
            InputError: for a key that is no column, and where the disk refuses; no part of the line
                stays then.
        """
        with collective(self.comm):
            line = line_of(row, self.columns)
            if not self._lines:
                self.begin_history()
            if self.comm.rank == 0:
                with self.writing():
                    _append(self.path / HISTORY, line.encode())
                self._lines.append(line)

    def log(self, text: str) -> None:
        """Appends to run.log what the run said. Collective; the text is rank 0's."""
        with collective(self.comm):
            if self.comm.rank == 0 and text:
                with self.writing():
                    (self.path / LOG).touch()
                    _append(self.path / LOG, text.encode())

    def history_copy(self, rows: int) -> bytes:
        """The first `rows` rows as they are in history.csv, for a checkpoint. On rank 0."""
        return "".join(self._lines[: rows + 1]).encode()

    def restore_history(self, copy: bytes, rows: int) -> str:
        """Puts history.csv back to a checkpoint's copy of its first `rows` rows. Collective.

        Returns:
            What was wrong with the file, on rank 0; nothing where it only had rows of iterations
            after the checkpoint.
        """
        problem = ""
        with collective(self.comm):
            if self.comm.rank == 0:
                kept, file = complete_lines(copy), self.path / HISTORY
                if len(kept) != rows + 1:
                    allowed = f"{rows}, as many as iterations"
                    raise InputError(
                        "--resume: rows in the checkpoint", len(kept) - 1, allowed
                    )
                if kept[0] != head_of(self.columns):
                    before, now = kept[0].strip(), ", ".join(self.columns)
                    allowed = f"{before}, as it began; {REMEDY}"
                    raise InputError(f"--resume: columns of {HISTORY}", now, allowed)
                with self.writing():
                    problem = difference(
                        content_of(file) if file.exists() else None, kept
                    )
                    self._replace_history(kept)
        return problem

    def restart_history(self) -> None:
        """Empties history.csv: a run that starts again repeats no row. Collective."""
        with collective(self.comm):
            if self.comm.rank == 0:
                with self.writing():
                    self._replace_history([head_of(self.columns)])

    def _replace_history(self, lines: Sequence[str]) -> None:
        self._lines = list(lines)
        with whole_file(self.path / HISTORY) as file:
            file.write("".join(lines).encode())

    def history(self) -> list[dict[str, float]]:
        """The rows of history.csv (on every rank). Collective."""
        own = rows_of(self._lines) if self.comm.rank == 0 else None
        rows: list[dict[str, float]] = self.comm.bcast(own, root=0)
        return rows

    def finished(self) -> Record | None:
        """The summary of a run that came to its end, on every rank. Collective."""
        found: Record | None = None
        with collective(self.comm):
            if self.comm.rank == 0:
                found = _summary(self.path / SUMMARY)
        known: Record | None = self.comm.bcast(found, root=0)
        return known

    def write_summary(self, summary: Summary) -> None:
        """Writes summary.json, whole or not at all. Collective."""
        self.write(SUMMARY, summary_text(summary) if self.comm.rank == 0 else "")

    def close(self) -> None:
        """Frees the folder for other runs."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def _unlink(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink()


def _append(path: Path, content: bytes) -> None:
    """Adds to a file; where the disk refuses a part, none stays."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK)
    try:
        before = os.fstat(descriptor).st_size
        try:
            _write_all(descriptor, content)
            os.fsync(descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, before)
            raise
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, content: bytes) -> None:
    """A disk that fills up takes a part of the bytes first, and says why at the next."""
    while content:
        content = content[os.write(descriptor, content) :]


def _summary(path: Path) -> Record | None:
    """None where there is none, or one that nobody can read: written whole, it was not made by a
    run."""
    found = _table(path)
    return (
        found
        if all(isinstance(found.get(key), kind) for key, kind in TOLD.items())
        else None
    )


def _table(path: Path) -> Record:
    """A JSON file's table; an empty one where there is none that anybody can read."""
    try:
        found = json.loads(content_of(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
