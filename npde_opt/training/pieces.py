"""Pieces of pictures, each in several versions: sample e is a piece of picture e % n of n, where
place, turn and mirror image are drawn from the seed and e alone, the same on any number of ranks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npde_opt.errors import InputError
from npde_opt.training.pictures import Pictures
from npde_opt.training.samples import Box, Source

Size = tuple[int, int]
"""Rows and columns."""


class Pieces(Source):
    """Args:
    source: of pictures, which may have several sizes.
    pictures: numbers of those that are used.
    size: of a piece.
    versions: pieces of each picture.

    Raises:
        InputError: for pieces larger than the pictures.
    """

    def __init__(
        self,
        source: Pictures,
        pictures: np.ndarray,
        size: Size,
        versions: int,
        seed: Sequence[int],
    ):
        _, rows, columns = source.shape
        if size[0] > rows or size[1] > columns:
            allowed = f"at most {rows} x {columns}, as {source.name}"
            raise InputError("data.crop", list(size), allowed)
        self.of, self._pictures, self._seed = source, pictures, tuple(seed)
        self.name, self.channels = source.name, source.channels
        self.shape = (1, *size)
        self.count, self.files = versions * len(pictures), source.files

    def _inputs(self, numbers: np.ndarray, box: Box, dtype: np.dtype) -> np.ndarray:
        """A picture is read once for all of its versions."""
        picture = numbers % len(self._pictures)
        out: list[np.ndarray] = [np.empty(0)] * len(numbers)
        for one in np.unique(picture):
            whole = self.of.picture(int(self._pictures[one]))[np.newaxis, np.newaxis]
            for place in np.flatnonzero(picture == one):
                out[place] = self._piece(whole, int(numbers[place]))[
                    (slice(None), *box)
                ]
        empty = np.empty((0, self.channels, *self.shape), dtype)[
            (slice(None), slice(None), *box)
        ]
        return np.stack(out).astype(dtype) if out else empty

    def _piece(self, whole: np.ndarray, number: int) -> np.ndarray:
        """[channel, 1, j, i]"""
        rng = np.random.default_rng([*self._seed, number])
        rows, columns = self.shape[1:]
        j = int(rng.integers(whole.shape[2] - rows + 1))
        i = int(rng.integers(whole.shape[3] - columns + 1))
        piece = whole[:, :, j : j + rows, i : i + columns]
        # A quarter turn needs a square.
        turn = int(rng.integers(4)) if rows == columns else 2 * int(rng.integers(2))
        piece = np.rot90(piece, turn, axes=(2, 3))
        return piece[..., ::-1] if rng.integers(2) else piece
