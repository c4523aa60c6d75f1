"""What the benchmarks share: fields, the log-coefficient problem, timing, tables and JSON."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import petsc4py

petsc4py.init([sys.argv[0]])

import numpy as np  # noqa: E402
from mpi4py import MPI  # noqa: E402

from npde_opt.forward import Equation, Experiment, Steady  # noqa: E402
from npde_opt.grids import Grid  # noqa: E402
from npde_opt.io.results import versions  # noqa: E402
from npde_opt.misfits import LeastSquares  # noqa: E402
from npde_opt.objective import Objective  # noqa: E402
from npde_opt.observations import at_points  # noqa: E402
from npde_opt.parameters import ParameterSpace, Unknown  # noqa: E402
from npde_opt.regularizers import BiLaplacian  # noqa: E402
from npde_opt.terms import Diffusion  # noqa: E402

comm = MPI.COMM_WORLD
CONTRAST = np.log(1000.0)
Row = dict[str, Any]


def parser(name: str, text: str) -> argparse.ArgumentParser:
    """A parser with --out."""
    found = argparse.ArgumentParser(description=text.strip().split("\n\n")[0])
    found.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / f"{name}.json"
    )
    return found


def unit_square(n: int, comm: MPI.Intracomm = comm) -> Grid:
    """n x n cells with zero Dirichlet values all round."""
    return Grid(
        (n, n),
        boundaries=dict.fromkeys(("x-", "x+", "y-", "y+"), "dirichlet"),
        comm=comm,
    )


def smooth(grid: Grid) -> np.ndarray:
    """log k = sum_ij a_ij cos(pi i x) cos(pi j y) / (1 + i^2 + j^2), scaled to max - min = log
    1000."""
    i = np.arange(16)
    a = np.random.default_rng(0).standard_normal((16, 16)) / (
        1 + i[:, None] ** 2 + i[None, :] ** 2
    )
    x, y = (np.cos(np.pi * np.outer(i, c.ravel())) for c in grid.coordinates())
    g = np.asfortranarray(x.T @ a @ y)
    span = grid.comm.allreduce(float(g.max()), op=MPI.MAX) - grid.comm.allreduce(
        float(g.min()), op=MPI.MIN
    )
    found: np.ndarray = g * (CONTRAST / span)
    return found


def rough(grid: Grid) -> np.ndarray:
    """log k = log(1000)/6 clip(w, -3, 3) with w standard normal in every cell."""
    w = np.random.default_rng(0).standard_normal(grid.shape)[grid.local_slice]
    return np.asfortranarray(CONTRAST / 6 * np.clip(w, -3, 3))


FIELDS: dict[str, Callable[[Grid], np.ndarray]] = {"smooth": smooth, "rough": rough}


def log_coefficient(
    grid_or_n: Grid | int, xy: np.ndarray, data: np.ndarray, sigma: float = 0.01
) -> Objective:
    """The log-coefficient benchmark on a grid: u = 0 below, 1 above, 300 points, bilaplacian(0.1,
    0.5)."""
    grid = grid_or_n if isinstance(grid_or_n, Grid) else log_grid(grid_or_n)
    space = ParameterSpace(grid, [Unknown("D", "log")])
    points = at_points(grid, (), xy)
    experiment = Experiment(load=np.zeros(grid.local_shape), boundary={"y+": 1.0})
    forward = Steady(
        space, Equation(grid, [Diffusion(grid, "D")]), {}, [experiment], [points]
    )
    misfit = LeastSquares(data, sigma, forward.layouts[0])
    return Objective(
        forward, [misfit], {"D": BiLaplacian(grid, 1.0, gamma=0.1, delta=0.5)}
    )


def log_grid(n: int) -> Grid:
    return Grid((n, n), boundaries={"y-": "dirichlet", "y+": "dirichlet"})


def synthetic(n: Grid | int) -> Objective:
    """The log-coefficient problem with 300 made-up observations, where only costs matter."""
    xy = np.random.default_rng(1).uniform(0.05, 0.95, (300, 2))
    data = xy[:, 1] + 0.05 * np.sin(6 * xy[:, 0])
    return log_coefficient(n, xy, data)


def seconds(action: Callable[[], Any], repeats: int = 5) -> float:
    """The shortest of some runs, on the slowest rank. Collective."""
    found: list[float] = []
    for _ in range(repeats):
        comm.Barrier()
        start = time.perf_counter()
        action()
        found.append(comm.allreduce(time.perf_counter() - start, op=MPI.MAX))
    return min(found)


def report(name: str, rows: Sequence[Row], out: Path) -> None:
    """Prints a table and writes it as JSON on rank 0."""
    if comm.rank:
        return
    keys = list(dict.fromkeys(k for r in rows for k in r))
    cells = [keys, *([_text(r.get(k, "")) for k in keys] for r in rows)]
    widths = [max(len(c[j]) for c in cells) for j in range(len(keys))]
    for line in cells:
        print("  ".join(c.rjust(w) for c, w in zip(line, widths, strict=True)))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(
        json.dumps(
            {
                "benchmark": name,
                "ranks": comm.size,
                "versions": versions(),
                "rows": list(rows),
            },
            indent=2,
            default=float,
        )
        + "\n"
    )
    print(f"written: {out}", flush=True)


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
