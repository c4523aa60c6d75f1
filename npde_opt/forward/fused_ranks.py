"""Many steps in one call of a compiled loop on several ranks, as text (see fused_runs.py). Each
step after the first starts the messages that bring its ghosts, goes over the cells that need none
of them, waits, and goes over the rest:

    own ghosts,   borders -> buffers,   start all
    wait for those along x           (halo.py says why)
    cells inside
    wait for the others,   cells at borders

D(u), whose sweeps over faces come first, waits for all before them.

No rank may end alone, others would wait for it for ever: one whose state is too large or moved too
far notes the step and goes on. Now and then, where a look at rates is due and at the end, the ranks
agree on the first step that any of them noted. Where it is the present one, and states have only
moved, they look together; else all end with its number, whatever came behind it. They agree after
every step while states move, and the seldomer the longer they do not.

Arguments, beside those of one rank:

    parts     cells inside, and borders: [part, axis, end]
    calls     addresses of MPI_Startall, MPI_Waitall and room for statuses; number and address of
              all requests; the number of those along x; address and number of the others
    sides     [axis, end]: where a layer begins in the buffers; -1: it is not sent
    given, taken   the buffers
    ring, shared   of agreements (see halo_loops.py): minus the first noted step, a half less where
              the state is too large; the fastest rate; the sizes by species

The result is less than 0 where MPI fails: its error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from npde_opt.forward import fused_runs
from npde_opt.forward.fused_looks import due, far
from npde_opt.forward.fused_runs import Run, ghost_place, indented
from npde_opt.forward.fused_spread import Cells

GHOSTS = ("parts", "calls", "sides", "given", "taken")
"""Arguments of steps forth and back."""
AGREED = ("ring", "shared")
"""Of steps forth."""
ALL_CALLS, FIRST_CALLS, OTHER_CALLS = (
    "calls[3], calls[4]",
    "calls[5], calls[4]",
    "calls[7], calls[6]",
)
"""Number and address of requests."""


@cache
def imports() -> str:
    """Lines that the text needs, which are others when the files are."""
    package = "npde_opt.linear.planes.mpi_calls", "npde_opt.forward.halo_loops"
    told = hashlib.sha256()
    for module in package:
        found = find_spec(module)
        assert found is not None and found.origin is not None
        told.update(Path(found.origin).read_bytes())
        told.update(found.origin.encode())
    return "\n".join(
        [
            f"# {told.hexdigest()}",
            f"from {package[0]} import start_all, wait_all",
            f"from {package[1]} import largest",
        ]
    )


def forth(cells: Cells, look: Sequence[str]) -> Run:
    """Args:
    look: at the rates of the state `now` (see `looked`).
    """
    alone = fused_runs.forth(cells, [])
    return Run(
        alone.states,
        [
            *alone.start,
            "noted, agreed, looked = float(count), 0, 0",
            "pace = 1 if len(kept) > 0 else count",
        ],
        [*alone.before, "going = n > 0", *_started(cells)],
        [
            *alone.after[: alone.after.index(fused_runs.CHECKED)],
            fused_runs.CHECKED,
            *indented(_noted()),
            f"    now_due = {due()}",
            "    wait = max(pace, (n + 1 - looked) // 4)",
            "    if now_due > 0 or n + 1 - agreed >= wait:",
            "        agreed = n + 1",
            *indented(indented(_agreed())),
            "        if first_noted < count:",
            "            if first_noted != n + 1:",
            "                return int(first_noted + 0.5)",
            "            noted, pace, now_due = float(count), 0, 1",
            "    if now_due > 0:",
            "        looked, pace = n + 1, min(2 * pace, 64) if pace > 0 else 1",
            *indented(indented(look)),
        ],
        [
            "if count == 1:",
            "    return count",
            *_agreed(),
            "return int(first_noted + 0.5)",
        ],
        *_waits(cells),
    )


def _waits(cells: Cells) -> tuple[list[str], list[str]]:
    """Lines that wait for the messages of the last axis, and of the others."""
    last = cells.dim - 1
    return _waited(cells, FIRST_CALLS, [last]), _waited(cells, OTHER_CALLS, range(last))


def looked() -> list[str]:
    """Lines behind the loops over a sample: `top` and `sizes` of all ranks."""
    return [
        "shared[0, 1] = top",
        "for c in range(len(sizes)):",
        "    shared[0, c + 2] = sizes[c]",
        *_agreed(),
        "top = shared[0, 1]",
        "for c in range(len(sizes)):",
        "    sizes[c] = shared[0, c + 2]",
    ]


def back(cells: Cells) -> Run:
    alone = fused_runs.back(cells)
    return Run(
        alone.states,
        alone.start,
        [*alone.before, "going = n > 0 or halves", *_started(cells)],
        alone.after,
        alone.end,
        *_waits(cells),
    )


def _noted() -> list[str]:
    """Of the state `now`, where nothing was noted before."""
    return [
        "if noted == count:",
        "    moved = 0",
        *indented(far()),
        "    if not total <= most:",
        "        noted = n + 0.5",
        "    elif moved > 0:",
        "        noted = n + 1.0",
    ]


def _agreed() -> list[str]:
    return [
        "shared[0, 0] = -noted",
        "failed = largest(shared, ring)",
        "if failed != 0:",
        "    return -failed",
        "first_noted = -shared[0, 0]",
    ]


def _started(cells: Cells) -> list[str]:
    """The layers that others need of the state or adjoint `here` are sent."""
    sent = _layers(cells, range(cells.dim), ("1", "size{d}"), "given[at] = {cell}")
    return [
        "if going:",
        *indented(sent),
        f"    failed = start_all(calls[0], {ALL_CALLS})",
        "    if failed != 0:",
        "        return -failed",
    ]


def _waited(cells: Cells, requests: str, axes: Sequence[int]) -> list[str]:
    """Ghosts along some axes are there."""
    taken = _layers(cells, axes, ("0", "size{d} + 1"), "{cell} = taken[at]")
    return [
        "if going:",
        f"    failed = wait_all(calls[1], {requests}, calls[2])",
        "    if failed != 0:",
        "        return -failed",
        *indented(taken),
    ]


def _layers(
    cells: Cells, axes: Sequence[int], ends: tuple[str, str], line: str
) -> list[str]:
    """Loops over layers along some axes, where they are sent.

    Args:
        ends: the layers, {d} standing for the axis. line: {cell} stands for a cell of `here`.
    """
    lines: list[str] = []
    for d in axes:
        others = [(e, i) for e, i in enumerate(cells.loops) if e != d]
        for end, layer in enumerate(ends):
            lines += [f"if sides[{d}, {end}] >= 0:", f"    at = sides[{d}, {end}]"]
            lines.append("    for c in range(len(here)):")
            for depth, (e, i) in enumerate(others, 2):
                lines.append("    " * depth + f"for {i} in range(size{e}):")
            cell = f"here[c, {ghost_place(cells, d, layer.format(d=d))}]"
            inside = "    " * (len(others) + 2)
            lines += [inside + line.format(cell=cell), inside + "at += 1"]
    return lines
