"""What does not depend on the machine: iterations, messages, bytes and sums of a solve by the
number of ranks, beside those of one rank and of a model of the other runs.

A model of the runs on other numbers of ranks (growth.py) is given the work W of the run that it is
compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from npde_opt.scaling.collect import Row
from npde_opt.scaling.growth import Counts, counts_of, growth, size_of

HEAD = ["grid", "ranks", "solves", "iterations", "of one", "messages", "model"]
HEAD += ["kB", "model", "sums", "model"]
"""Of the table; numbers are of one solve."""


@dataclass(frozen=True)
class Counted:
    """One run.

    Attributes:
        alone: iterations of a solve against those of the run on the fewest ranks.
        own: of a solve, as they were counted. expected: by the model; None where no other run
            sends messages.
    """

    row: Row
    alone: float
    own: Counts
    expected: Counts | None

    def words(self) -> list[str]:
        """A line of the table."""
        row, there = self.row, self.expected
        cells = "x".join(map(str, row.run.grid)) or "case"
        found = [cells, str(row.run.ranks), f"{row.solves:,}", f"{row.krylov:.2f}"]
        found.append(f"{self.alone:.2f}")
        for name, scale in (("messages", 1.0), ("bytes", 1e-3), ("reductions", 1.0)):
            found.append(f"{getattr(self.own, name) * scale:.3g}")
            model = "" if there is None else f"{getattr(there, name) * scale:.3g}"
            found.append(model)
        return found


def counted(rows: Sequence[Row]) -> list[Counted]:
    """Of all runs of a grid that was run on several numbers of ranks, those on few ranks first."""
    known = [r for r in rows if r.stages and r.run.groups == 1]
    found = []
    for grid in dict.fromkeys(r.run.grid for r in known):
        alike = sorted(
            (r for r in known if r.run.grid == grid), key=lambda r: r.run.ranks
        )
        if alike[0].run.ranks < alike[-1].run.ranks:
            found += [_counted(r, alike) for r in alike]
    return found


def _counted(row: Row, alike: Sequence[Row]) -> Counted:
    own, expected = counts_of(row), None
    others = [r for r in alike if 1 < r.run.ranks != row.run.ranks]
    if others and row.run.ranks > 1:
        model = growth(others)
        there, share = model.at(size_of(row)), own.work / model.work
        expected = _a_solve(there, row.solves / share)
    alone = row.krylov / alike[0].krylov if alike[0].krylov else 1.0
    return Counted(row, alone, _a_solve(own, row.solves), expected)


def _a_solve(counts: Counts, solves: float) -> Counts:
    parts = (counts.work, counts.reductions, counts.messages, counts.bytes)
    return Counts(*(part / max(solves, 1.0) for part in parts))


def lines(found: Sequence[Counted]) -> list[str]:
    """The table as text."""
    table = [HEAD, *(c.words() for c in found)]
    widths = [max(len(words[k]) for words in table) for k in range(len(HEAD))]
    return [
        "  ".join(word.rjust(w) for word, w in zip(words, widths, strict=True))
        for words in table
    ]
