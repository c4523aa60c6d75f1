"""Several steps in one sweep over memory, as text of a compiled loop (see fused_runs.py), where
states are larger than the cache and none but the last two is kept:

    u_{n+k+1}[i] = E(u_{n+k})[i],   k = 0 ... depth - 1,   i = (r - k) mod size

for r = 0, 1, ..., step k where 2k <= r < size + 2k. A slab i is a layer of the slowest axis, and
what step k needs of step k - 1, the slabs i - 1, i and i + 1, was made shortly before: it is still
in the cache. As slabs are taken round, from k on, they are there at periodic ends, too, where slab
0 needs the last one. Ghosts are written with the slab that they are copies of.

The state that a sweep starts from stays whole; its steps go to two other arrays in turn, so that
the last two states of a sweep are whole. What is looked at in a state (see fused_looks.py) is added
up on the way, and decided behind the sweep, state by state: a sweep ends where a look is due, and
is made again, shorter, where a state before its last one is too large or moved too far. So all
stops, looks and states are those of single steps. A sweep has as many steps as the state will bear
without a look, if it goes on as it did.

Arguments, beside those of steps forth:

    at        the number of the first state in o, which has three arrays; -1: it is not in it
    depth     steps of a sweep at most
    squares   [row, k]: of each row's squares, so that they are added up in the order of rows
    totals    [k] of a state; moves: how many values moved too far; begins: the first value of the
              sample in each slab, and behind the last one
    ends      gets the numbers in o of the last state but one and of the last one, and has those of
              the steps since the last look; 0 where the first state is not in o
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from npde_opt.forward.fused_looks import due, far
from npde_opt.forward.fused_runs import ghost_place, indented
from npde_opt.forward.fused_spread import Cells

BUFFERS = 3
"""Arrays for results: of the state that a sweep starts from, and for steps in turn."""
LARGE = 1 << 24
"""Bytes of a state and the fields beside it from which on sweeps pay."""
CACHE = 1 << 23
"""Bytes of the slabs that a sweep has under way."""
DEPTHS = (16, 8, 4, 2)


def depth(state: int, fields: int, slabs: int) -> int:
    """How many steps a sweep has at most; 1: there is none.

    Args:
        state: bytes of one. fields: of all that are read in each step. slabs: of a state.
    """
    if state + fields < LARGE:
        return 1
    slab = (2 * state + fields) / slabs
    return next((deep for deep in DEPTHS if (deep + 2) * slab <= CACHE), 1)


class Waves(NamedTuple):
    """Arguments at the end of the loop, by their names."""

    depth: int
    squares: np.ndarray
    totals: np.ndarray
    moves: np.ndarray
    begins: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, depth: int, cells: Sequence[int]) -> Waves:
        """Args:
        cells: by axis, the slowest one first.
        """
        return cls(
            depth,
            np.empty((int(np.prod(cells[:-1])), depth)),
            np.empty(depth),
            np.empty(depth, np.int64),
            np.empty(cells[0] + 1, np.int64),
            np.zeros(3, np.int64),
        )

    @property
    def last(self) -> list[int]:
        """Numbers of the last state but one and of the last one."""
        return self.ends[:2].tolist()


def lines(
    cells: Cells, start: Sequence[str], loops: Sequence[str], look: Sequence[str]
) -> list[str]:
    """The whole loop.

    Args:
        start: before the cells of a slab. loops: over these, `a` being what they find of a row's
            squares; both take a state from `here` to `now`. look: at the rates of the state `now`.
    """
    return [
        "whole, lying, begun, looked, gap, stop = p, at, 0, -ends[2], 1, 0",
        f"slab = o.size // ({BUFFERS} * o.shape[1] * o.shape[2])",
        "while begun < count:",
        *indented(_planned()),
        *indented(_begins()),
        "    for k in range(deep):",
        "        moves[k], totals[k] = 0, 0.0",
        "    for r in range(size0 + 2 * (deep - 1)):",
        "        for k in range(deep):",
        "            if 2 * k <= r and r < size0 + 2 * k:",
        *indented(indented(indented(indented(_taken(start))))),
        *indented(indented(indented(indented([*loops, *_ghosts(cells), *_moved()])))),
        *indented(_decided(look)),
        "return count",
    ]


def kept(cells: Cells) -> str:
    """What stands behind a row."""
    row = "0"
    for d, i in enumerate(cells.loops[:-1]):
        row = f"({row} * size{d} + {i})"
    return f"squares[{row}, k] = a"


def _planned() -> list[str]:
    """How many steps the sweep has: as many as the state will bear if it goes on as it did since
    the last look, or after a look as many as there were between that and the one before. A state
    that is looked at even if it did not move is the last one."""
    return [
        "deep = stop",
        "if stop == 0 and looked == begun:",
        "    deep = max(min(gap, depth), 1)",
        "elif stop == 0:",
        *indented(_nearest()),
        "    going = (1 - nearest) / nearest * (begun - looked)",
        "    deep = int(max(min(going, depth), 1))",
        "deep = min(deep, count - begun)",
        "for n in range(begun, begun + deep - 1):",
        f"    if {due()}:",
        "        deep = n + 1 - begun",
        "        break",
    ]


def _begins() -> list[str]:
    """The sample is in the order of memory."""
    return [
        "seen = 0",
        "for i0 in range(size0):",
        "    begins[i0] = seen",
        "    while seen < turns[3] and places[seen] < (i0 + 2) * slab:",
        "        seen += 1",
        "begins[size0] = seen",
    ]


def _buffer(k: str) -> str:
    """Of the state behind a step."""
    return f"o[(lying + 1 + {k} % 2) % {BUFFERS}]"


def _taken(start: Sequence[str]) -> list[str]:
    return [
        "i0 = (r - k) % size0",
        "dt = dts[begun + k]",
        f"now = {_buffer('k')}",
        f"here = {_buffer('(k + 1)')} if k > 0 else whole",
        *start,
    ]


def _ghosts(cells: Cells) -> list[str]:
    """That are copies of the slab or of cells in it: no corners, which nobody reads."""
    found: list[str] = []
    for d in range(cells.dim):
        loops = ["for c in range(len(now)):"]
        for e, i in enumerate(cells.axes):
            if e not in (0, d):
                loops.append("    " * len(loops) + f"for {i} in range(size{e}):")
        inside = "    " * len(loops)
        for end, ghost in enumerate(("0", f"size{d} + 1")):
            source = "i0 + 1" if d == 0 else f"edges[{d}, {end}]"
            given = f"edges[0, {end}] == i0 + 1" if d == 0 else f"{source} > 0"
            to, of = ghost_place(cells, d, ghost), ghost_place(cells, d, "layer")
            copied = f"{inside}now[c, {to}] = now[c, {of}]"
            found.append(f"if {given}:")
            found += indented([f"layer = {source}", *loops, copied])
    return found


def _moved() -> list[str]:
    """Where values of the sample are in the slab."""
    some = far("moves[k]", "begins[i0], begins[i0 + 1]")
    return ["if begins[i0] < begins[i0 + 1]:", *indented(some)]


def _decided(look: Sequence[str]) -> list[str]:
    """Behind a sweep."""
    return [
        # In this order each sum goes over the rows as a single step's does.
        "for row in range(len(squares)):",
        "    for k in range(deep):",
        "        totals[k] += squares[row, k]",
        "stop = deep",
        "for k in range(deep - 1):",
        "    if not totals[k] <= most or moves[k] > 0:",
        "        stop = k + 1",
        "        break",
        "if stop < deep:",
        "    continue",
        "n = begun + deep - 1",
        f"now = {_buffer('(deep - 1)')}",
        "before = lying",
        "if deep > 1:",
        f"    before = (lying + 1 + deep % 2) % {BUFFERS}",
        f"lying = (lying + 1 + (deep - 1) % 2) % {BUFFERS}",
        "whole = now",
        "begun += deep",
        "stop = 0",
        "ends[0], ends[1], ends[2] = before, lying, begun - looked",
        "found[0] = totals[deep - 1]",
        "if n + 1 < count:",
        "    if not found[0] <= most:",
        "        return n + 1",
        f"    moved = moves[deep - 1] + ({due()})",
        "    if moved > 0:",
        *indented(indented(look)),
        "        gap, looked = begun - looked, begun",
    ]


def _nearest() -> list[str]:
    """What share of its way the farthest value of the sample has gone, in the state `whole`."""
    return [
        "nearest = 0.0",
        "flat = whole.reshape((len(whole), whole.size // len(whole)))",
        "for c in range(len(kept)):",
        "    for i in range(turns[3]):",
        "        far = abs(flat[c, places[i]] - kept[c, i])",
        "        nearest = far / room[c] if far > nearest * room[c] else nearest",
    ]
