"""Looks at the kinetics' rates between two fused steps, as text of compiled loops: when they are
due (watch.py) and what they decide (stability.Limits.at), while all is well. Where it is not, the
loop ends at that state, and who called it looks for himself.

Arguments:

    places    of the sample that was looked at last, in a species' values with their ghosts
    kept      [c, i] of its values, which may move by room[c]
    sizes     the largest |u| by species
    turns     numbers of the sample, of looks so far, of the step where the next one is due, and of
              the sample's values
    last      the step that was looked at, and how far the state may move, in its size
    rules     the rates beside the kinetics' of the fastest species, their stiffness, 2 / resolved,
              steps without a look (see watch.Rules)
    stiffness by species
    every     distance of a sample's cells

Of more than two species the rate is a bound: where it does not say that all is well, nothing is
decided here.
"""

from __future__ import annotations

from collections.abc import Sequence

from npde_opt.forward.fused_spread import Cells
from npde_opt.forward.watch import LEAST, LITTLE, LONGER, MOST

SAMPLE = ("places", "kept", "room", "sizes", "turns", "last")
LOOKED = (*SAMPLE, "rules", "stiffness", "every")
"""Names of the arguments."""


DECIDED = [
    "top = max(top, rules[0])",
    "if step * top > 2:",
    "    return n + 1",
    "added = max(top - rules[1], 0.0)",
    "share = added / max(2 / step - rules[1], added) if added > 0 else 0.0",
    "later = rules[3]",
    "if later * share**4 > 1:",
    "    later = max(math.floor(share**-4.0), 1.0)",
    f"wide = {MOST!r}",
    "if share > 0:",
    f"    wide = max(min(share**-0.25 - 1, {MOST!r}), {LEAST!r})",
]
"""Of the fastest rate `top` of a sample, from `rules`, that of all: how many steps go without a
look, and how far the state may move (`stability.Limits.at`, watch.py). Ends the loop where the step
is too long."""


def due() -> str:
    """1 where the state `now` has to be looked at even if it did not move: the next step is longer,
    or a look is due; else 0."""
    return f"1 if dts[n + 1] > {LONGER!r} * last[0] or n + 1 >= turns[2] else 0"


def far(to: str = "moved", sample: str = "turns[3]") -> list[str]:
    """Lines that count in `to` the values of the sample, or of a range of it, which in the state
    `now` moved too far."""
    return [
        "flat = now.reshape((len(now), now.size // len(now)))",
        "for c in range(len(kept)):",
        f"    for i in range({sample}):",
        "        far = abs(flat[c, places[i]] - kept[c, i])",
        f"        {to} += 0 if far <= room[c] else 1",
    ]


def kept(cells: Cells, species: Sequence[int]) -> list[str]:
    """What a look keeps of a cell of the sample, after its `rate`."""
    place = "0"
    for d, i in enumerate(cells.loops):
        at = f"{i} + 1" if d < cells.dim else i
        place = f"({place} * now.shape[{d + 1}] + {at})"
    lines = ["top = rate if rate > top else top", f"places[seen] = {place}"]
    for c in species:
        lines += [
            f"kept[{c}, seen] = v{c}",
            f"sizes[{c}] = max(sizes[{c}], abs(v{c}))",
        ]
    return [*lines, "seen += 1"]


def look(loops: Sequence[str], species: Sequence[int]) -> list[str]:
    """The loops over the sample, and what they decide."""
    unsure = ["if top > (2 / step + rules[0]) / 2:", "    return n + 1"]
    return [
        "begin, turn, step = turns[1] % every, rules[2], dts[n + 1]",
        "top, seen = 0.0, 0",
        "sizes[:] = 0.0",
        *loops,
        *(unsure if len(species) > 2 else []),
        *DECIDED,
        "for c in range(len(room)):",
        f"    room[c] = {LITTLE!r} * wide * sizes[c]",
        "last[0], last[1] = step, wide",
        "turns[0], turns[1], turns[3] = turns[1], turns[1] + 1, seen",
        "turns[2] = n + 1 + int(later) * (2 if halves else 1)",
    ]
