"""What data see of directions v, kept: J v and W J v, W that of Gauss-Newton. By them

    v^T D w = (J v)^T (W J w),   D v = J^T (W J v),   D = J^T W J,

cost no state, and one adjoint state instead of two; and J (V Y) = (J V) Y.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from npde_opt import reductions
from npde_opt.observations import DataBlock, Metric


@dataclass(frozen=True)
class Seen:
    """Of one group of ranks.

    Attributes:
        count: of directions.
        blocks: of data, which say how values lie; a group may have none.
        moved: J v, own values (directions, data) by block. weighted: W J v.
    """

    count: int
    blocks: list[DataBlock]
    moved: list[np.ndarray]
    weighted: list[np.ndarray]

    def products(self, other: Seen) -> np.ndarray:
        """v_i^T J^T W J w_j of this group's data, the same on its ranks. Collective."""
        found = np.zeros((self.count, other.count))
        pairs = zip(self.blocks, self.moved, other.weighted, strict=True)
        for block, moved, weighted in pairs:
            found += reductions.total(block.layout.comm, moved @ weighted.T)
        return found

    def mixed(self, shares: np.ndarray) -> Seen:
        """Of V times a matrix (directions, any)."""
        turned = np.ascontiguousarray(shares.T)
        moved, weighted = (
            [turned @ values for values in kept] for kept in (self.moved, self.weighted)
        )
        return Seen(shares.shape[1], self.blocks, moved, weighted)

    def pulls(self, number: int) -> list[DataBlock]:
        """W J v of one direction, as blocks of data."""
        pairs = zip(self.blocks, self.weighted, strict=True)
        return [d.like(w[number].reshape(d.values.shape)) for d, w in pairs]


def seen(images: Sequence[Sequence[DataBlock]], metrics: Sequence[Metric]) -> Seen:
    """Of J v, one list of blocks a direction, which is overwritten.

    Args:
        metrics: W, one a block.
    """
    blocks, moved, weighted = list[DataBlock](), list[np.ndarray](), list[np.ndarray]()
    for b, w in enumerate(metrics):
        own = [image[b] for image in images]
        moved.append(np.array([d.values.ravel() for d in own]))
        for d in own:
            w.apply(d)
        weighted.append(np.array([d.values.ravel() for d in own]))
        blocks.append(own[0])
    return Seen(len(images), blocks, moved, weighted)
