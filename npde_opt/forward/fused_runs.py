"""Many steps in one call of a compiled loop, as text around the loops over cells (fused_loops.py):

    forth   u_{n+1} = E_n(u_n), n = 0 ... count - 1, until a state is too large or moved too far
    back    lambda_n = E_n'(u_n)^T lambda_{n+1}, n = count - 1 ... 0

Each step reads the array that the one before wrote, with its ghosts refreshed in place. Heun's
steps are made of two of Euler's: where `halves`, every second result is the mean with the state
before both, and back, they begin with a half of the adjoint, which is added behind both.

Arguments, beside those of a step:

    p         the first state or adjoint, its ghosts filled
    o         arrays for the results, [n, c, k, j, i]: the first one goes to o[first], those beyond
              the last array to the first ones again
    dts       of the steps, in time
    edges     [axis, end]: the layer that a ghost is a copy of, or 0 where it stays as it is
    most      of the sum of squares of a state
    the rest belongs to the looks at rates on the way (see fused_looks.py)

All stop after `count` steps at the latest, and say after how many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from npde_opt.forward.fused_looks import LOOKED, due, far
from npde_opt.forward.fused_spread import Cells

CHECKED = "if whole and n + 1 < count:"
"""Behind it stands what is looked at in a state."""
ENDING = ("edges", "halves", "most", *LOOKED)
"""Arguments of `forth` at its end."""


@dataclass(frozen=True)
class Run:
    """Text around a loop over cells.

    Args:
        states: what stands for a state's or adjoint's letter in a step.
        start: what stands before all steps. before, after: in each of them. end: behind all.
        first, others: on several ranks, waits for ghosts (see fused_ranks.py).
    """

    states: dict[str, str]
    start: list[str]
    before: list[str]
    after: list[str]
    end: list[str]
    first: list[str] | None = None
    others: list[str] = field(default_factory=list)


def forth(cells: Cells, look: Sequence[str]) -> Run:
    """`total` is what the loops over cells found of a state's squares.

    Args:
        look: at the rates of the state `now`.
    """
    every = [
        "total = 0.0",
        *over(
            cells,
            ["x = (now[{at}] + base[{at}]) * 0.5", "now[{at}] = x", "total += x * x"],
        ),
    ]
    return Run(
        {"p": "here", "o": "now"},
        ["here = p", "base = p"],
        [
            "dt = dts[n]",
            "now = o[(first + n) % len(o)]",
            "if n > 0:",
            *indented(refreshed(cells, "here")),
        ],
        [
            "whole = not halves or n % 2 == 1",
            "if halves and whole:",
            *indented(every),
            "here = now",
            "if whole:",
            "    base = now",
            "    found[0] = total",
            CHECKED,
            "    if not total <= most:",
            "        return n + 1",
            f"    moved = {due()}",
            *indented(far()),
            "    if moved > 0:",
            *indented(indented(look)),
        ],
        ["return count"],
    )


def back(cells: Cells) -> Run:
    """The halves of adjoints are in o[2]."""
    return Run(
        {"u": "u[count - 1 - n]", "p": "here", "o": "now"},
        ["here = p"],
        [
            "dt = dts[count - 1 - n]",
            "now = o[(first + n) % 2]",
            "if halves and n % 2 == 0:",
            "    half = o[2]",
            *indented(over(cells, ["half[{at}] = here[{at}] * 0.5"])),
            "    here = half",
            "if n > 0 or halves:",
            *indented(refreshed(cells, "here")),
        ],
        [
            "if halves and n % 2 == 1:",
            "    half = o[2]",
            *indented(over(cells, ["now[{at}] += half[{at}]"])),
            "here = now",
        ],
        ["return count"],
    )


def indented(lines: Sequence[str]) -> list[str]:
    return ["    " + line for line in lines]


def over(cells: Cells, lines: Sequence[str]) -> list[str]:
    """Lines for every species and cell, {at} standing for it."""
    at = f"c, {cells.padded()}"
    sizes = [f"for {i} in range(size{d}):" for d, i in enumerate(cells.loops)]
    found = ["for c in range(len(now)):"]
    for depth, line in enumerate(sizes, 1):
        found.append("    " * depth + line)
    inside = "    " * (len(sizes) + 1)
    return [*found, *(inside + line.format(at=at) for line in lines)]


def refreshed(cells: Cells, array: str) -> list[str]:
    """Copies into the ghosts of an array, of all species: no corners, which nobody reads."""
    lines: list[str] = []
    for d in range(cells.dim):
        others = [(e, i) for e, i in enumerate(cells.loops) if e != d]
        for end, ghost in enumerate(("0", f"size{d} + 1")):
            lines += [f"if edges[{d}, {end}] > 0:", f"    layer = edges[{d}, {end}]"]
            lines.append(f"    for c in range(len({array})):")
            for depth, (e, i) in enumerate(others, 2):
                lines.append("    " * depth + f"for {i} in range(size{e}):")
            to, source = ghost_place(cells, d, ghost), ghost_place(cells, d, "layer")
            inside = "    " * (len(others) + 2)
            lines.append(f"{inside}{array}[c, {to}] = {array}[c, {source}]")
    return lines


def ghost_place(cells: Cells, d: int, at: str) -> str:
    """Of a layer normal to axis d, in an array with a ghost all round."""
    axes = [at if e == d else f"{i} + 1" for e, i in enumerate(cells.axes)]
    return ", ".join([*axes, *cells.loops[cells.dim :]])
