"""The results of a run as `summary.json` has them, with the same keys for every driver."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from mpi4py import MPI

import npde_opt
from npde_opt import reductions
from npde_opt.aliases import Plain


@dataclass(frozen=True)
class Seconds:
    """Wall-clock times of a run, the longest over the ranks."""

    setup: float
    solve: float
    total: float


@dataclass(frozen=True)
class Summary:
    """What `summary.json` holds; `metrics` is for what is particular to a driver. Non-finite
    numbers become null."""

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
    peak_memory_mb_of_a_rank: float
    metrics: Mapping[str, Plain] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=lambda: versions())


def summary_text(summary: Summary) -> str:
    """summary.json; numbers that are not finite are null."""
    return json.dumps(_plain(asdict(summary)), indent=2, allow_nan=False) + "\n"


def _plain(value: object) -> Plain:
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
    return reductions.total(comm, float(_peak_bytes())) / 1e6


def peak_memory_mb_of_a_rank(comm: MPI.Intracomm = MPI.COMM_WORLD) -> float:
    """Of the rank with the most. Collective."""
    return reductions.largest(comm, float(_peak_bytes())) / 1e6


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
    return {
        "npde_opt": npde_opt.__version__,
        "petsc": ".".join(str(n) for n in PETSc.Sys.getVersion()),
        "mpi4py": mpi4py.__version__,
        "mpi": library,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
