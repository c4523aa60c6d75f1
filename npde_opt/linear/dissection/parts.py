"""A box cut by planes of cells into eight parts that are alike, for nested dissection in lanes.

Along each axis 1, 2, 4 or 8 parts of t cells lie between separating cells, one thick. All parts
have the same t, so that one order of elimination does for all: those at the two ends of the domain,
which no separator holds there, may be shorter. Parts of the second half are seen in a mirror, so
that the domain's end is at the low side of every part that reaches it.

    cells      0 1 2 | 4 5 6 7 | 9 10 11 12 | 14 15 16        n = 17, 4 parts, t = 4
    seen as    1 2 3   0 1 2 3   3  2  1  0    3  2  1

Where an axis is periodic, cell 0 is a separator, too, and the number of cells a multiple of the
parts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

LANES = 8
"""Parts of a box: doubles of a vector register."""


@dataclass(frozen=True)
class Cuts:
    """Of one axis.

    Attributes:
        cells, parts: their numbers. size: t.
        planes: separating cells, the seam of a periodic axis first.
        low, high: whether parts have a separator at the lower and the upper end.
    """

    cells: int
    parts: int
    periodic: bool

    @cached_property
    def size(self) -> int:
        if self.periodic:
            return self.cells // self.parts - 1
        return -(-(self.cells - self.parts + 1) // self.parts)

    @cached_property
    def short(self) -> tuple[int, int]:
        """Cells that the first and the last part have less than t."""
        if self.periodic:
            return 0, 0
        less = self.parts * (self.size + 1) - 1 - self.cells
        return less - less // 2, less // 2

    @cached_property
    def planes(self) -> list[int]:
        step = self.size + 1
        if self.periodic:
            return [p * step for p in range(self.parts)]
        return [p * step - 1 - self.short[0] for p in range(1, self.parts)]

    @property
    def inner(self) -> list[int]:
        """Separating cells without the seam."""
        return self.planes[1:] if self.periodic else self.planes

    @property
    def low(self) -> bool:
        return self.periodic or self.parts > 2

    @property
    def high(self) -> bool:
        return self.periodic or self.parts > 1

    @property
    def possible(self) -> bool:
        """Whether there are such parts."""
        whole = not self.periodic or self.cells % self.parts == 0
        least = 1 + max(self.short) if whole else 1
        return whole and self.size >= least

    def mirrored(self, part: int) -> bool:
        """Whether a part is seen in a mirror."""
        return not self.periodic and 2 * part >= self.parts > 1

    def places(self, part: int) -> np.ndarray:
        """Cells of a part at -1 ... t as it is seen, separators at both ends; -1: there is none."""
        step = self.size + 1
        first = part * step if self.periodic else part * step - 1 - self.short[0]
        found = np.arange(first, first + self.size + 2)
        if self.periodic:
            return found % self.cells
        found[(found < 0) | (found >= self.cells)] = -1
        return found[::-1] if self.mirrored(part) else found


def cut(shape: Sequence[int], periodic: Sequence[bool]) -> list[Cuts] | None:
    """Of each axis, with the fewest separating cells; None where there are no eight parts alike."""
    best: tuple[int, list[Cuts]] | None = None
    for parts in product((1, 2, 4, 8), repeat=len(shape)):
        if math.prod(parts) != LANES:
            continue
        cuts = [Cuts(*one) for one in zip(shape, parts, periodic, strict=True)]
        if not all(c.possible for c in cuts):
            continue
        held = math.prod(shape) - math.prod(c.cells - len(c.planes) for c in cuts)
        if best is None or held < best[0]:
            best = held, cuts
    return None if best is None else best[1]
