"""Which cells the outputs of a convolution read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Reads:
    """What outputs read, by axis z, y, x (as many as the grid has): output J the cells

        offset + stride J + dilation t,     t = 0 ... taps - 1,

    counted from the first ghost; J from the first own output."""

    offsets: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    taps: tuple[int, ...]

    @property
    def merged(self) -> bool:
        """Whether the taps of y are one matrix with those of x."""
        return len(self.taps) > 1 and self.dilations[-2] == 1

    def spans(self, counts: Sequence[int]) -> list[int]:
        """Cells from the first to the last that so many outputs read."""
        every = zip(self.strides, counts, self.dilations, self.taps, strict=True)
        return [s * (n - 1) + e * (k - 1) + 1 for s, n, e, k in every]
