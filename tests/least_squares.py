"""Problems of least squares, and scipy's answers."""

import numpy as np
import scipy.linalg
from mpi4py import MPI

from npde_opt.pseudoinverse import Fold

EPS = np.finfo(float).eps


def with_condition(rng, rows, columns, condition, rank=None):
    """A matrix with singular values from 1 to 1/condition, of a rank."""
    least = min(rows, columns)
    U = np.linalg.qr(rng.standard_normal((rows, least)))[0]
    V = np.linalg.qr(rng.standard_normal((columns, least)))[0]
    s = np.logspace(0, -np.log10(condition), least)
    s[least if rank is None else rank :] = 0
    return (U * s) @ V.T


def reference(H, T, tolerance=None):
    """scipy's, with the same cut."""
    cut = H.shape[1] * EPS if tolerance is None else tolerance
    return scipy.linalg.lstsq(H, T, cond=cut, lapack_driver="gelsd")


def own_rows(comm, rows, empty=()):
    """Of this rank, an uneven share; ranks in `empty` have none."""
    filled = [r for r in range(comm.size) if r not in empty]
    if comm.rank in empty:
        return slice(0, 0)
    at, parts = filled.index(comm.rank), len(filled)
    ends = [int(rows * (k / parts) ** 1.3) for k in range(parts + 1)]
    return slice(ends[at], ends[at + 1])


def folded(H, T, comm=MPI.COMM_SELF, empty=(), method=Fold, **settings):
    fit = method(H.shape[1], T.shape[1], comm=comm, **settings)
    rows = own_rows(comm, len(H), empty)
    fit.add(H[rows], T[rows])
    return fit
