"""Rows that are kept for leave-one-out: all, or as many as asked for, drawn at random.

Each row has a key, a hash of its number, and those of the smallest keys stay: a sample in which
every row of a stream has the same chance, whatever the blocks in which they came.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from mpi4py import MPI


@dataclass(frozen=True)
class Centred:
    """Sampled rows without what the column of ones explains of them.

    Args:
        features: (m, n). targets: (m, k).
        leverage: (m,) what the column of ones has of the hat matrix's diagonal.
        shares: (m,) of all rows that each row stands for; they sum to 1.
    """

    features: np.ndarray
    targets: np.ndarray
    leverage: np.ndarray
    shares: np.ndarray


class Sample:
    """At most `size` rows of `width` numbers, each times the root of its weight.

    Attributes:
        rows: (at most size, width), copies.
        keys: (rows,).
        seen: how many rows came by.
    """

    def __init__(self, size: int, width: int, seed: int = 0):
        self.size, self.seed, self.seen = size, seed, 0
        self.rows = np.empty((0, width))
        self.keys = np.empty(0, np.uint64)

    def offer(self, X: np.ndarray) -> None:
        """Rows (m, width) that come by."""
        if not self.size:
            return
        keys = keys_of(self.seed, self.seen, len(X))
        self.seen += len(X)
        bound = self.keys.max() if len(self.keys) == self.size else np.uint64(2**64 - 1)
        new = np.flatnonzero(keys <= bound)
        all_keys = np.concatenate([self.keys, keys[new]])
        rows = np.concatenate([self.rows, np.asarray(X[new], float)])
        kept = np.argsort(all_keys)[: self.size]
        self.rows, self.keys = rows[kept], all_keys[kept]

    def go_on(self, rows: np.ndarray, keys: np.ndarray, seen: int) -> None:
        """From what was written of a sample."""
        self.rows, self.keys, self.seen = rows, keys, seen

    def of_all(self, comm: MPI.Intracomm) -> AllSampled | None:
        """Those of all ranks, on rank 0. Collective."""
        gathered = comm.gather((self.rows, self.seen))
        if gathered is None:
            return None
        shares = [
            np.full(len(rows), seen / max(len(rows), 1)) for rows, seen in gathered
        ]
        weights = np.concatenate(shares)
        rows = np.concatenate([rows for rows, _ in gathered])
        return AllSampled(rows, weights / max(weights.sum(), 1.0))


@dataclass(frozen=True)
class AllSampled:
    """Rows (m, 1 + n + k) of all ranks, and their shares (m,)."""

    rows: np.ndarray
    shares: np.ndarray

    def centred(self, R: np.ndarray, first: int, last: int) -> Centred:
        """R: the triangle of all rows [1 H T], or the row of its ones; the features are its columns
        first to last."""
        ones = self.rows[:, :first] / np.diag(R)[:first]
        rest = self.rows[:, first:] - ones @ R[:first, first:]
        features = last - first
        leverage = (ones**2).sum(axis=1)
        return Centred(rest[:, :features], rest[:, features:], leverage, self.shares)


def keys_of(seed: int, start: int, count: int) -> np.ndarray:
    """Hashes of the numbers from `start` on (splitmix64): rows of the smallest ones are drawn at
    random, the same on any ranks where the numbers are those of all rows."""
    numbers = np.arange(start, start + count, dtype=np.uint64)
    with np.errstate(over="ignore"):
        z = (numbers + np.uint64(1 + (seed << 40))) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    found: np.ndarray = z ^ (z >> np.uint64(31))
    return found
