"""The folder of a run: history.csv as it goes, summary.json at the end, and whose run it is.

`history.csv` has one row a completed iteration, flushed at once. `summary.json` has the same keys for every driver.
"""

from __future__ import annotations

import csv
import json
import math
import os
import platform
import shutil
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from mpi4py import MPI

import npde_opt
from npde_opt.errors import InputError, collective
from npde_opt.io.files import whole_file

HISTORY_COLUMNS = ("level", "iteration", "objective", "misfit", "regularization", "gradient_norm", "step",
                   "forward_solves", "adjoint_solves", "krylov_iterations", "inner_iterations", "seconds")
MODES = ("new", "resume", "overwrite")
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Seconds:
    """Wall-clock times of a run, the longest over the ranks."""

    setup: float
    solve: float
    total: float


@dataclass(frozen=True)
class Summary:
    """What `summary.json` holds; `metrics` is for what is particular to a driver. Non-finite numbers become null."""

    driver: str
    case: str
    ranks: int
    grid: Sequence[int]
    unknowns: int
    parameters: int
    status: str
    iterations: int
    objective: float
    objective_initial: float
    gradient_norm: float
    gradient_norm_initial: float
    forward_solves: int
    adjoint_solves: int
    krylov_iterations_mean: float
    seconds: Seconds
    peak_memory_mb: float
    metrics: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=lambda: versions())


class RunDirectory:
    """The output folder of a run, checked before any work starts. Collective; only rank 0 touches the disk.

    Args:
        path: the folder, made where it is missing.
        mode: 'new' refuses a folder that holds an earlier run, 'resume' continues it, 'overwrite' removes its
            history, summary and checkpoints (nothing else).
        columns: the columns of history.csv.

    Raises:
        InputError: on every rank, where the path is a file, cannot be written, or holds an earlier run in mode
            'new' or none in mode 'resume'.
    """

    def __init__(self, path: str | os.PathLike, comm: MPI.Intracomm = MPI.COMM_WORLD, mode: str = "new",
                 columns: Sequence[str] = HISTORY_COLUMNS):
        if mode not in MODES:
            raise InputError("mode of the run folder", repr(mode), ", ".join(MODES))
        self.path, self.comm, self.mode, self.columns = Path(path), comm, mode, tuple(columns)
        self._history: IO[str] | None = None
        with collective(comm):
            if comm.rank == 0:
                self._prepare()

    def _prepare(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise InputError("--out", f"{self.path}, which is a file", "a folder, or a path that does not exist yet")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with whole_file(self.path / ".writable"):
                pass
            (self.path / ".writable").unlink()
        except OSError as error:
            raise InputError("--out", f"{self.path} ({error.strerror})", "a folder that can be written") from error
        earlier = self.earlier()
        if self.mode == "new" and earlier:
            raise InputError("--out", f"{self.path}, which holds an earlier run ({', '.join(earlier)})",
                             "another --out, --resume to continue that run, or --overwrite to replace it")
        if self.mode == "resume" and not earlier:
            raise InputError("--resume", f"{self.path}, which holds no run",
                             "the folder of an earlier run, or no --resume")
        if self.mode == "overwrite":
            for name in earlier:
                shutil.rmtree(self.path / name) if (self.path / name).is_dir() else (self.path / name).unlink()
        if self.mode != "resume" or "history.csv" not in earlier:
            self._replace_history([])

    def earlier(self) -> list[str]:
        """Names of what an earlier run left: history.csv, summary.json, checkpoint folders, the spectrum."""
        names = [n for n in ("history.csv", "summary.json", "spectrum") if (self.path / n).exists()]
        return names + sorted(p.name for p in self.path.glob("checkpoint-*"))

    def file(self, name: str) -> Path:
        return self.path / name

    def folder(self, name: str) -> Path:
        """A folder of the run, made where it is missing. Collective."""
        with collective(self.comm):
            if self.comm.rank == 0:
                self.file(name).mkdir(exist_ok=True)
        return self.file(name)

    def append(self, row: Row) -> None:
        """Adds one line to history.csv, on the disk when this returns. Columns that the row lacks stay empty.

        Raises:
            InputError: for a key that is no column.
        """
        unknown = [k for k in row if k not in self.columns]
        if unknown:
            raise InputError("history row", ", ".join(unknown), ", ".join(self.columns))
        with collective(self.comm):
            if self.comm.rank == 0:
                if self._history is None:
                    self._history = open(self.path / "history.csv", "a", newline="")  # noqa: SIM115
                csv.writer(self._history).writerow([_cell(row.get(c)) for c in self.columns])
                self._history.flush()
                os.fsync(self._history.fileno())

    def truncate_history(self, rows: int) -> None:
        """Keeps the first `rows` rows, so that a resumed run repeats none. Collective."""
        with collective(self.comm):
            if self.comm.rank == 0:
                kept = read_history(self.path)
                if len(kept) < rows:
                    warnings.warn(f"{self.path}/history.csv has {len(kept)} of the {rows} iterations before the "
                                  "checkpoint; its first rows are missing", RuntimeWarning, stacklevel=2)
                self._replace_history(kept[:rows])

    def history(self) -> list[dict[str, float]]:
        """The rows of history.csv (on every rank). Collective."""
        rows: list[dict[str, float]] | None = None
        with collective(self.comm):
            if self.comm.rank == 0:
                rows = read_history(self.path)
        return self.comm.bcast(rows, root=0)

    def _replace_history(self, rows: Iterable[Row]) -> None:
        self.close()
        lines = [",".join(self.columns), *(",".join(_cell(r.get(c)) for c in self.columns) for r in rows)]
        with whole_file(self.path / "history.csv") as file:
            file.write(("\r\n".join(lines) + "\r\n").encode())

    def write_summary(self, summary: Summary) -> None:
        """Writes summary.json, whole or not at all. Collective."""
        with collective(self.comm):
            if self.comm.rank == 0:
                text = json.dumps(_plain(asdict(summary)), indent=2, allow_nan=False)
                with whole_file(self.path / "summary.json") as file:
                    file.write((text + "\n").encode())

    def close(self) -> None:
        if self._history is not None:
            self._history.close()
            self._history = None


def read_history(path: str | os.PathLike) -> list[dict[str, float]]:
    """Rows of the history.csv in a folder; a line that was cut short while it was written is left out."""
    file = Path(path) / "history.csv"
    lines = file.read_bytes().decode().splitlines(keepends=True) if file.exists() else []
    table = list(csv.reader(line for line in lines if line.endswith("\n")))
    return [{k: _number(v) for k, v in zip(table[0], cells, strict=True) if v}
            for cells in table[1:] if len(cells) == len(table[0])]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, int | np.integer):
        return str(int(value))
    return repr(float(value))


def _number(text: str) -> float:
    return int(text) if text.lstrip("+-").isdigit() else float(text)


def _plain(value: Any) -> Any:
    """The value as JSON knows it."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value if value is None else str(value)


def peak_memory_mb(comm: MPI.Intracomm = MPI.COMM_WORLD) -> float:
    """Peak resident memory of all ranks together in MB (10^6 bytes). Collective."""
    return comm.allreduce(_peak_bytes(), op=MPI.SUM) / 1e6


def _peak_bytes() -> float:
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024.0 * int(line.split()[1])
    import resource

    unit = 1 if platform.system() == "Darwin" else 1024
    return float(unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def versions() -> dict[str, str]:
    """Versions of what decides a run's numbers."""
    import mpi4py
    from petsc4py import PETSc

    library = MPI.Get_library_version().split("\n")[0].split(",")[0].strip("\0 ")
    return {"npde_opt": npde_opt.__version__, "petsc": ".".join(str(n) for n in PETSc.Sys.getVersion()),
            "mpi4py": mpi4py.__version__, "mpi": library, "numpy": np.__version__,
            "python": platform.python_version()}
