"""A box of N^3 cells of which a quarter is active, a ball: set-up, one state, one gradient. Memory
of the fullest rank beside a model of the smaller boxes, then asked for a large machine.

mpirun -n 8 python benchmarks/large_box.py [--sizes 48 64 80 128] [--cells 1024] [--on 4096]
python benchmarks/large_box.py --corner 120 200    # boxes of which hardly a cell is active, alone

    bytes over imports = e + a (active cells of the rank) + b (cells of its box)

with a, b, e >= 0 fitted to relative errors of all sizes but the last. Of the large machine the
ranks of the fullest and of the largest box are told, as it would be cut.
A value a cell of every 256 is observed, and 0 is fitted, which takes the same memory.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
from common import Row, comm, parser, report
from memory import of_case
from scipy.optimize import nnls

from npde_opt.grids.cuts import LARGEST, balanced
from npde_opt.grids.scattered import Mask
from npde_opt.io.results import peak_memory_mb_of_a_rank

RADIUS = (3 / (16 * math.pi)) ** (1 / 3)
"""Of a ball that is a quarter of the unit cube."""
BALL = f"{RADIUS} - sqrt((x-0.5)**2 + (y-0.5)**2 + (z-0.5)**2) + 0.5"
THINNED = 4
"""Cells of an axis for one of the grid whose cut is looked for."""
CORNER = "x + y + z - 2.7 + 0.5"
"""Of which 0.45 % of the unit cube is active."""
CASE = """
[grid]
shape = [{n}, {n}, {n}]
active = {{ expression = "{active}" }}
[equation]
terms = [{{ diffusion = "D" }}, {{ reaction = "c" }}, {{ source = 1.0 }}]
known = {{ c = 1.0 }}
[[unknown]]
name = "D"
initial = 1.0
truth = 2.0
[[observation]]
random = {points}
noise = 0.01
[[regularization]]
"""


def boxes(cells: int, ranks: int) -> list[tuple[str, float, float]]:
    """By kind of box: its name, active cells and cells, of the fullest box and of the largest one,
    a corner without an active cell, as the ball is cut with THINNED times fewer cells an axis."""
    few = cells // THINNED
    place = (np.arange(few) + 0.5) / few - 0.5
    x, y, z = np.ix_(place, place, place)
    ball = np.asfortranarray(x**2 + y**2 + z**2 < RADIUS**2)
    cut = balanced(Mask.alone(ball), ranks, LARGEST / THINNED**3)
    assert cut is not None, "fewer ranks than cells"
    active = ball.astype(np.int64)
    for axis, ends in enumerate(cut.ends):
        active = np.add.reduceat(active, ends[:-1], axis=axis)
    first, second, third = (np.asarray(c, float) for c in cut.counts)
    size = THINNED**3 * first[:, None, None] * second[:, None] * third
    fullest = active.argmax()
    return [
        (", fullest box", float(THINNED**3 * active.max()), float(size.flat[fullest])),
        (", largest box", 0.0, float(size.max())),
    ]


def fitted(rows: list[Row]) -> np.ndarray:
    """e, a, b of the model."""
    table = np.array([[1.0, r["of a rank"], r["of its box"]] for r in rows])
    peak = np.array([1e6 * r["MB of a rank over imports"] for r in rows])
    columns = table.max(axis=0)
    return np.asarray(
        nnls(table / columns / peak[:, None], np.ones(len(rows)))[0] / columns
    )


def modelled(row: Row, model: np.ndarray) -> float:
    """MB."""
    terms = np.array([1.0, row["of a rank"], row["of its box"]])
    return float(model @ terms / 1e6)


def main() -> None:
    args = parser("large_box", __doc__)
    args.add_argument("--sizes", type=int, nargs="+", default=[48, 64, 80, 128])
    args.add_argument("--cells", type=int, default=1024, help="along each axis, there")
    args.add_argument("--on", type=int, default=4096, help="ranks of that machine")
    args.add_argument("--corner", type=int, nargs="+", help="cells along each axis")
    given = args.parse_args()
    rows: list[Row] = []
    imports = peak_memory_mb_of_a_rank(comm)
    with tempfile.TemporaryDirectory() as own:
        folder = Path(comm.bcast(own, root=0))
        for n in sorted(given.corner or given.sizes):
            path = folder / f"ball-{n}.toml"
            if comm.rank == 0:
                points = max(1, n**3 // 256)
                active = CORNER if given.corner else BALL
                text = CASE.format(n=n, points=points, active=active)
                path.write_text(text)
            comm.Barrier()
            found = of_case(path, None, None, imports)
            rows += [{"cells": f"{n}^3", **r} for r in found]
            if comm.rank == 0:
                print(rows[-1], flush=True)
        comm.Barrier()
    for what in ("read", "one gradient"):
        alike = [r for r in rows if r["what"] == what]
        if len(alike) < 3 or given.corner:
            continue
        model = fitted(alike[:-1])
        for r in alike:
            r["model, MB"] = modelled(r, model)
        if comm.rank == 0 and comm.size > 1:
            # Boxes here are filled alike, so that a and b are not told apart: --corner measures
            # b for the largest box.
            for where, full, box in boxes(given.cells, given.on):
                there: Row = {
                    "cells": f"{given.cells}^3",
                    "ranks": given.on,
                    "what": what + where,
                    "active cells": given.cells**3 // 4,
                    "of a rank": full,
                    "of its box": box,
                }
                rows.append(there | {"model, MB": modelled(there, fitted(alike))})
    report("large_box", rows, given.out)


if __name__ == "__main__":
    main()
