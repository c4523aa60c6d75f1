"""A stencil along one axis: which cells of a source an output reads, and who owns them.

Output I reads the cells

    s I - p + d t,   t = 0 ... k - 1        (stride s, padding p, dilation d)

of n. Cells outside are zero, the nearest inside, or at the other end, by the mode. An output is
owned by the rank that has the cell in the middle of what it reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from npde_opt.errors import InputError

MODES = ("zero", "replicate", "periodic")


@dataclass(frozen=True)
class Axis:
    """Args:
    counts: cells of the source by rank along the axis.
    at: this rank's place among them.
    taps, stride, dilation: see above. before: p.
    after: padding at the upper end, which only counts outputs.
    mode: of MODES.
    """

    counts: tuple[int, ...]
    at: int
    taps: int
    stride: int
    dilation: int
    before: int
    after: int
    mode: str

    def __post_init__(self) -> None:
        if self.outputs < 1:
            told = f"{self.taps} taps of dilation {self.dilation}"
            allowed = f"at most the {self.cells} cells of the axis with their padding"
            raise InputError("kernel", told, allowed)
        if self.mode == "periodic" and self.cells % self.stride:
            raise InputError(
                "stride", self.stride, f"a divisor of {self.cells} periodic cells"
            )

    @property
    def cells(self) -> int:
        """n"""
        return sum(self.counts)

    @property
    def reach(self) -> int:
        """From the first to the last cell that an output reads."""
        return self.dilation * (self.taps - 1)

    @property
    def outputs(self) -> int:
        if self.mode == "periodic":
            return self.cells // self.stride
        return (
            self.cells + self.before + self.after - self.reach - 1
        ) // self.stride + 1

    @cached_property
    def ends(self) -> np.ndarray:
        """Of the ranks' cells of the source, 0 first."""
        return np.concatenate([[0], np.cumsum(self.counts)])

    @cached_property
    def target(self) -> tuple[int, ...]:
        """Outputs by rank."""
        middle = self.stride * np.arange(self.outputs) - self.before + self.reach // 2
        owner = np.searchsorted(
            self.ends[1:], np.clip(middle, 0, self.cells - 1), side="right"
        )
        return tuple(int(n) for n in np.bincount(owner, minlength=len(self.counts)))

    @cached_property
    def target_ends(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(self.target)])

    def reads(self, rank: int) -> tuple[int, int]:
        """First cell, and that behind the last one, that the outputs of a rank read."""
        first, last = self.target_ends[rank], self.target_ends[rank + 1]
        if first == last:
            return int(self.ends[rank]), int(self.ends[rank])
        start = self.stride * first - self.before
        return int(start), int(self.stride * (last - 1) - self.before + self.reach + 1)

    @cached_property
    def width(self) -> int:
        """Ghosts of the source that some rank needs."""
        return _most(self.reads, self.ends)

    @property
    def offset(self) -> int:
        """The cell that the first tap of the first own output reads, from the first ghost."""
        first = self.stride * self.target_ends[self.at] - self.before
        return int(first - self.ends[self.at]) + self.width

    @property
    def back_offset(self) -> int:
        """The first output that `lags` of the first wanted cell count from, from the first ghost
        of the target."""
        first = self.first_period - self.reach // self.stride
        return int(first - self.target_ends[self.at]) + self.target_width

    @property
    def first_period(self) -> int:
        """That of the first wanted cell; a period is the cells s q - p ... s q - p + s - 1,
        which outputs up to q read."""
        return (self.wanted(self.at)[0] + self.before) // self.stride

    @property
    def lags(self) -> tuple[int, int]:
        """(count, distance) of the outputs q, q - distance ... that read cells of period q."""
        if self.stride == 1:
            return self.taps, self.dilation
        return self.reach // self.stride + 1, 1

    @property
    def own_outside(self) -> tuple[int, int]:
        """Of `outside`, what this rank's cells are copied to."""
        first, last = self.wanted(self.at)
        return int(self.ends[self.at]) - first, last - int(self.ends[self.at + 1])

    @property
    def outside(self) -> tuple[int, int]:
        """Cells below and above the source that are read, and are copies of the nearest one."""
        if self.mode != "replicate":
            return 0, 0
        last = self.stride * (self.outputs - 1) - self.before + self.reach
        return max(self.before, 0), max(last - self.cells + 1, 0)

    def wanted(self, rank: int) -> tuple[int, int]:
        """First, and behind the last, of the cells whose cotangents a rank sums: its own, and those
        outside that are copies of them."""
        first, last = int(self.ends[rank]), int(self.ends[rank + 1])
        if first == last:
            return first, last
        below, above = self.outside
        return first - (below if first == 0 else 0), last + (
            above if last == self.cells else 0
        )

    def spread(self, rank: int) -> tuple[int, int]:
        """First output, and that behind the last one, that read periods of the `wanted` cells of a
        rank."""
        first, last = self.wanted(rank)
        if first == last:
            return int(self.target_ends[rank]), int(self.target_ends[rank])
        low = (first + self.before) // self.stride - self.reach // self.stride
        return low, (last - 1 + self.before) // self.stride + 1

    @cached_property
    def target_width(self) -> int:
        """Ghosts of the target that some rank needs for its cotangents."""
        return _most(self.spread, self.target_ends)

    def sources(self, rank: int) -> np.ndarray:
        """The cells (outputs of the rank, taps) that outputs read; -1 where there is none."""
        first, last = self.target_ends[rank], self.target_ends[rank + 1]
        outputs = np.arange(first, last)[:, None]
        cells = (
            self.stride * outputs - self.before + self.dilation * np.arange(self.taps)
        )
        if self.mode == "periodic":
            return np.asarray(cells % self.cells)
        if self.mode == "replicate":
            return np.clip(cells, 0, self.cells - 1)
        return np.where((cells >= 0) & (cells < self.cells), cells, -1)


def _most(range_of: object, ends: Sequence[int] | np.ndarray) -> int:
    """By how much the ranges of ranks go beyond what they own, at most."""
    assert callable(range_of)
    found = 0
    for rank in range(len(ends) - 1):
        first, last = range_of(rank)
        if first < last:
            found = max(found, int(ends[rank]) - first, last - int(ends[rank + 1]))
    return found
