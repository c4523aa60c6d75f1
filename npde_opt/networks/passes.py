"""The ways forward and back through a layer, box after box (see strips.py), so that what a box
needs stays in the cache: product, bias and activation are one pass, and what is behind the
activation too where cells do not read each other there."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from npde_opt.networks.activations import Activation
from npde_opt.networks.interface import Reading
from npde_opt.networks.strips import WORK, Box, by_channel

EVERYTHING = Box(slice(None), ())


@dataclass(frozen=True)
class Hidden:
    """v = W u + U x + b and h = sigma(v).

    Args:
        inner: W u. driven: U x, or None. bias: (channels,), or None.
    """

    inner: Reading
    driven: np.ndarray | None
    bias: np.ndarray | None
    activation: Activation
    theta: np.ndarray

    def at(self, box: Box, v: np.ndarray) -> np.ndarray:
        """h of a box; leaves in v what the activation keeps of it."""
        bias = by_channel(self.bias, v) if self.bias is not None else None
        if bias is not None and self.inner.adds:
            v[...] = bias
            self.inner.product(box, v, add=True)
        else:
            self.inner.product(box, v)
            if bias is not None:
                v += bias
        if self.driven is not None:
            v += self.driven[box.index]
        return self.activation.run(v, self.theta)


@dataclass(frozen=True)
class Beside:
    """What is added to dt V h: a u + dt (K u + B x).

    Args:
        residual: u, or None. linear: K u. driven: dt B x, or None.
    """

    residual: np.ndarray | None
    linear: Sequence[Reading]
    driven: np.ndarray | None = None

    @property
    def none(self) -> bool:
        return self.residual is None and not self.linear and self.driven is None

    def add(self, box: Box, out: np.ndarray, other: np.ndarray | None = None) -> None:
        """To a box of the result.

        Args:
            other: of this box, gathered by those that do; None: by none.
        """
        for reading in self.linear:
            if other is not None and reading.gathers:
                reading.both(box, out, other)
            else:
                reading.product(box, out, add=True)
        if self.driven is not None:
            out += self.driven[box.index]
        if self.residual is not None:
            out += self.residual[box.index]


class Replaced:
    """Values that new ones take the place of, box after box: those of a box are written when no
    later box reads the old ones any more, and wait until then.

    Args:
        whole: the values [c, s, k, j, i].
        reach: how many rows beside it a box reads.
    """

    def __init__(self, whole: np.ndarray, reach: int):
        self.whole, self.reach = whole, reach
        self._waiting: deque[tuple[Box, int, np.ndarray]] = deque()
        self._free: list[int] = []

    def take(self, box: Box) -> np.ndarray:
        """Where the new values of a box are to be put; boxes come in order."""
        while self._waiting and self._past(self._waiting[0][0], box):
            self._write()
        number = self._free.pop() if self._free else len(self._waiting)
        found = WORK.take(
            f"waiting {number}", self.whole[box.index].shape, self.whole.dtype
        )
        self._waiting.append((box, number, found))
        return found

    def _past(self, old: Box, new: Box) -> bool:
        """Whether neither `new` nor boxes behind it read the old box."""
        if not self.reach or old.samples != new.samples:
            return True
        cells = self.whole.shape[2:]
        for rows, later, n in zip(old.rows, new.rows, cells, strict=False):
            # The first axis along which boxes follow each other.
            if rows.stop - rows.start < n:
                return rows.stop + self.reach <= later.start
        return False

    def _write(self) -> None:
        box, number, found = self._waiting.popleft()
        self.whole[box.index] = found
        self._free.append(number)

    def finish(self) -> None:
        """Writes what still waits."""
        while self._waiting:
            self._write()


def taken(
    whole: np.ndarray | None, like: np.ndarray, channels: int, box: Box
) -> np.ndarray:
    """The box of a state, or of one that nobody keeps, with as many cells as `like` has."""
    if whole is not None:
        return whole[box.index]
    shape = like[box.index].shape
    return WORK.take("hidden", (channels, *shape[1:]), like.dtype)
