"""Rows of arrays that go to other ranks, and the answers to them: one exchange of numbers of rows,
then one of rows each way."""

from __future__ import annotations

import numpy as np
from mpi4py import MPI


class Posted:
    """Args:
    to: the rank that each row goes to (n,).

    All methods are collective.
    """

    def __init__(self, comm: MPI.Intracomm, to: np.ndarray):
        self.comm = comm
        self._order = np.argsort(to, kind="stable")
        self._sent = np.bincount(to, minlength=comm.size).astype(np.int64)
        self._taken = np.empty_like(self._sent)
        comm.Alltoall(self._sent, self._taken)

    def there(self, rows: np.ndarray) -> np.ndarray:
        """Rows (n, ...) sent: those that come here (m, ...), by the rank that they come from, and
        in its order."""
        return self._exchanged(rows[self._order], self._sent, self._taken)

    def back(self, rows: np.ndarray) -> np.ndarray:
        """Answers (m, ...) to what came: those to the own rows (n, ...)."""
        found = self._exchanged(rows, self._taken, self._sent)
        out = np.empty_like(found)
        out[self._order] = found
        return out

    def _exchanged(
        self, rows: np.ndarray, sent: np.ndarray, taken: np.ndarray
    ) -> np.ndarray:
        width = int(np.prod(rows.shape[1:]))
        found = np.empty((int(taken.sum()), *rows.shape[1:]), rows.dtype)
        kind = MPI.BYTE.Create_contiguous(width * rows.itemsize).Commit()
        own = np.ascontiguousarray(rows)
        self.comm.Alltoallv(
            [own, (sent, _starts(sent)), kind], [found, (taken, _starts(taken)), kind]
        )
        kind.Free()
        return found


def _starts(counts: np.ndarray) -> np.ndarray:
    return np.cumsum(counts) - counts
