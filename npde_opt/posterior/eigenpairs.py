"""The leading eigenpairs of the data's Hessian against the prior's precision,

    D v = x P v,   V^T P V = 1,

by a block Krylov space of P^-1 D with Rayleigh-Ritz, columns orthonormal in P. It begins with
random directions, or with those that another grid had; each block that follows are the residuals
P^-1 D v - x v of pairs that are not there yet, so that pairs converge as those of block Lanczos do:
the error of an eigenvalue is the square of its residual. Every column costs a product with D and a
solve with P. Errors of that solve slow convergence down and change no eigenvalue, since D and P
are multiplied with exactly.

Randomized methods with two passes are the first two blocks (Halko, Martinsson, Tropp 2011; Musco,
Musco 2015).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from npde_opt.posterior.columns import Action, gram, mapped
from npde_opt.posterior.prior import Prior
from npde_opt.posterior.settings import PosteriorSettings

DEPENDENT = 1e-12
"""Square of what is left of a direction beside others, relative to it, that is rounding."""


@dataclass(frozen=True)
class Pairs:
    """
    Attributes:
        values: (k,), largest modulus first, all at or above the cut.
        vectors: own rows (local, k), orthonormal in P.
        residuals: (k,), norms of P^-1 D v - x v in P.
        below: eigenvalues below the cut that came with them, not converged.
        products: with D.
        complete: whether all pairs above the cut are there and converged.
    """

    values: np.ndarray
    vectors: np.ndarray
    residuals: np.ndarray
    below: np.ndarray
    products: int
    complete: bool


def leading(
    prior: Prior,
    data: Action,
    settings: PosteriorSettings,
    start: np.ndarray | None = None,
) -> Pairs:
    """All pairs with |x| >= settings.cut. Collective.

    Args:
        data: a product with D.
        start: own rows (local, any) of directions to begin with; None: random ones.
    """
    krylov = Krylov(prior, data)
    columns = _drawn(prior, settings) if start is None else start
    while True:
        room = settings.most - krylov.count
        added = krylov.extend(columns[:, :room])
        values, vectors, residuals = krylov.ritz()
        wanted = np.abs(values) >= settings.cut
        left = wanted & (residuals > settings.rtol * (1 + np.abs(values)))
        # A space that sees nothing below the cut may not have seen all above it.
        seen = bool(left.any()) or not wanted.all()
        if added == 0 or (seen and not left.any()) or krylov.count >= settings.most:
            break
        columns = krylov.residuals(vectors, values, left if left.any() else wanted)
        columns = columns[:, : settings.block]
    complete = added == 0 or (seen and not left.any())
    return Pairs(
        values[wanted],
        krylov.W @ vectors[:, wanted],
        residuals[wanted],
        values[~wanted],
        krylov.count,
        complete,
    )


def _drawn(prior: Prior, settings: PosteriorSettings) -> np.ndarray:
    """P^-1 of white noise: smooth, as what data see."""
    columns = np.empty((prior.space.local_size, settings.block), order="F")
    out = prior.space.create_vec()
    for j in range(settings.block):
        white = prior.space.standard_normal(settings.seed + j)
        prior.mask(white)
        prior.solve(white, out)
        columns[:, j] = out.getArray(readonly=True)
        white.destroy()
    out.destroy()
    return columns


class Krylov:
    """W with W^T P W = 1, Z = P^-1 D W, T = W^T D W and G = Z^T D W.

    Owns no PETSc objects.
    """

    def __init__(self, prior: Prior, data: Action):
        self.prior, self.space, self.data = prior, prior.space, data
        self.W = np.empty((self.space.local_size, 0), order="F")
        self.Z = self.W.copy()
        self.T, self.G = np.empty((0, 0)), np.empty((0, 0))

    @property
    def count(self) -> int:
        return self.W.shape[1]

    def extend(self, columns: np.ndarray) -> int:
        """Adds what of the columns is new; how many directions that is."""
        new = self._orthonormal(self._orthonormal(columns))
        if not new.shape[1]:
            return 0
        images = mapped(self.space, self.data, new)
        solved = mapped(self.space, self.prior.solve, images)
        old = self.count
        self.W, self.Z = np.hstack([self.W, new]), np.hstack([self.Z, solved])
        self.T = _bordered(self.T, gram(self.space, self.W, images), old)
        self.G = _bordered(self.G, gram(self.space, self.Z, images), old)
        return int(new.shape[1])

    def _orthonormal(self, columns: np.ndarray) -> np.ndarray:
        """What the columns have beside W, as columns that are orthonormal in P."""
        images = self._precision(columns)
        sizes = np.sqrt(np.maximum(np.diag(gram(self.space, columns, images)), 0.0))
        scale = np.where(sizes > 0, 1 / np.where(sizes > 0, sizes, 1.0), 0.0)
        columns, images = columns * scale, images * scale
        columns = columns - self.W @ gram(self.space, self.W, images)
        left = gram(self.space, columns, self._precision(columns))
        found, vectors = scipy.linalg.eigh((left + left.T) / 2)
        good = found > DEPENDENT
        return np.asfortranarray(columns @ (vectors[:, good] / np.sqrt(found[good])))

    def _precision(self, columns: np.ndarray) -> np.ndarray:
        return mapped(self.space, self.prior.precision, columns)

    def ritz(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ritz values, largest modulus first, their vectors in W and the norms of residuals."""
        values, vectors = scipy.linalg.eigh(self.T)
        order = np.argsort(-np.abs(values), kind="stable")
        values, vectors = values[order], vectors[:, order]
        squares = (vectors * (self.G @ vectors)).sum(axis=0) - values**2
        return values, vectors, np.sqrt(np.maximum(squares, 0.0))

    def residuals(
        self, vectors: np.ndarray, values: np.ndarray, which: np.ndarray
    ) -> np.ndarray:
        """P^-1 D v - x v of some pairs."""
        some = vectors[:, which]
        return np.asarray(self.Z @ some - self.W @ (some * values[which]))


def _bordered(old: np.ndarray, new: np.ndarray, count: int) -> np.ndarray:
    """The symmetric matrix with new last columns (all, new)."""
    whole = np.empty((len(new), len(new)))
    whole[:count, :count] = old
    whole[:, count:] = new
    whole[count:, :count] = new[:count].T
    last = whole[count:, count:]
    whole[count:, count:] = (last + last.T) / 2
    return whole
