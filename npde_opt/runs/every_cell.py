"""The data of an observation of every cell, as figures show them: of some times, and of more cells
than fit every k-th along each axis. Rank 0 alone gets them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from npde_opt.observations.shares import Share


class EveryCell:
    """Of the first observation.

    Args:
        edges: of the cells that are seen.
        picks: numbers of the times.
        most: numbers that are shown.

    Attributes:
        edges: of the cells that are shown, along each axis.
    """

    def __init__(
        self, share: Share, edges: Sequence[np.ndarray], picks: np.ndarray, most: int
    ):
        self.share, self.picks = share, picks
        cells = [e.size - 1 for e in edges]
        k = 1
        while picks.size * math.prod(-(-n // k) for n in cells) > most:
            k += 1
        self.shape = tuple(-(-n // k) for n in cells)
        self.edges = [np.append(e[:-1:k], e[-1]) for e in edges]
        own = share.places[0]
        at = np.unravel_index(np.arange(own.start, own.stop), cells, order="F")
        kept = np.all([i % k == 0 for i in at], axis=0)
        self._own = np.flatnonzero(kept)

    def gathered(self, values: np.ndarray) -> np.ndarray | None:
        """Own data of an experiment as [t, i, j] on rank 0, None elsewhere. Collective."""
        seen = self.share.split(values)[0][np.ix_(self.picks, self._own)]
        parts = self.share.comm.gather(seen, root=0)
        if parts is None:
            return None
        # Places are numbered x fastest, and the shares follow each other.
        whole = np.concatenate(parts, axis=1)
        return np.array([v.reshape(self.shape, order="F") for v in whole])
