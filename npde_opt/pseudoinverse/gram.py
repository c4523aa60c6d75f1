"""W = (H^T H + ridge)^-1 H^T T by Cholesky: what is kept is [1 H T]^T [1 H T] in its parts,

    [ 1^T 1  1^T H  1^T T ]
    [        H^T H  H^T T ]        H^T H: its lower triangle alone, by dsyrk, in place
    [               T^T T ]        [1 T]^T [1 H T]: one pass over H, which also finds its NaN's

A third of the work of a QR, and half of the digits: W's relative error is about the rounding of a
number times the square of H's condition. Above LIMIT the answer is refused; where the rows come by
once more,

    W := W + (H^T H + ridge)^-1 (H^T (T - H W) - ridge W),

their residual is formed from the rows themselves, which gives the digits back up to REFINED_LIMIT.
Of an intercept, H and T are without what the column of ones explains of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
from mpi4py import MPI
from scipy.linalg import blas, cho_solve, eigh, eigvalsh, lapack

from npde_opt import reductions
from npde_opt.aliases import Numbers
from npde_opt.errors import InputError, collective
from npde_opt.pseudoinverse import triangle
from npde_opt.pseudoinverse.rows import GONE, ROWS, Rows, Solver, never_added, no_weight
from npde_opt.pseudoinverse.sample import AllSampled
from npde_opt.pseudoinverse.solution import (
    EPS,
    Reduced,
    Solution,
    answer,
    with_ridge,
)

LIMIT, REFINED_LIMIT = 1e6, 1e7
"""Conditions of H (with its ridge) up to which W is given in double precision."""
SINGLE_LIMIT = 1e4
"""The same where products are formed in single precision: of W, what rows of noise decide is left
to rounding."""
PIECE = 64
"""Columns of H^T H that are summed over ranks at once: they stay in the cache."""
SINGLE_GONE = 1e-4
"""The share of a column, as `GONE`, of products in single precision."""
POWERS = 8
"""Iterations for the condition."""
PASSES = 2
"""Over the rows, to refine."""

Blocks = Iterable[tuple[np.ndarray, np.ndarray]]


@dataclass
class Moments:
    """[1 H T]^T [1 H T] in its parts; ones are `first` (0 or 1) columns.

    Args:
        squares: H^T H (n, n), its lower triangle, in Fortran's order; 0 above.
        mixed: [1 T]^T H (first + k, n).
        ends: [1 T]^T [1 T] (first + k, first + k).
        first: 0 or 1.
    """

    squares: np.ndarray
    mixed: np.ndarray
    ends: np.ndarray
    first: int

    @classmethod
    def none(cls, n: int, k: int, first: int) -> Moments:
        """Of no rows."""
        m = first + k
        return cls(triangle.empty(n), np.zeros((m, n)), np.zeros((m, m)), first)

    @classmethod
    def of(cls, G: np.ndarray, n: int, first: int) -> Moments:
        """Of G's upper triangle (first + n + k, first + n + k)."""
        H, T = slice(first, first + n), slice(first + n, len(G))
        squares = np.asfortranarray(np.triu(G[H, H]).T)
        mixed = np.concatenate([G[:first, H], G[H, T].T])
        ends = np.block([[G[:first, :first], G[:first, T]], [G[:first, T].T, G[T, T]]])
        return cls(squares, mixed, ends, first)

    @property
    def whole(self) -> np.ndarray:
        """The upper triangle of G = [1 H T]^T [1 H T], 0 below."""
        first, last = self.first, self.first + len(self.squares)
        G = triangle.empty(len(self.ends) + len(self.squares))
        G[:first, :first] = self.ends[:first, :first]
        G[:first, first:last] = self.mixed[:first]
        G[:first, last:] = self.ends[:first, first:]
        G[first:last, first:last] = self.squares.T
        G[first:last, last:] = self.mixed[first:].T
        G[last:, last:] = np.triu(self.ends[first:, first:])
        return G

    @property
    def centred(self) -> Moments:
        """Without what the column of ones explains of H and T; the same where there is none."""
        if not self.first:
            return self
        sums = self.mixed[:1] / np.sqrt(self.ends[0, 0])
        of_T = self.ends[:1, 1:] / np.sqrt(self.ends[0, 0])
        squares = blas.dsyrk(-1.0, sums, trans=1, beta=1.0, c=self.squares, lower=1)
        return Moments(
            squares,
            self.mixed[1:] - of_T.T @ sums,
            self.ends[1:, 1:] - of_T.T @ of_T,
            0,
        )

    def total(self, comm: MPI.Intracomm) -> Moments | None:
        """Those of all ranks on rank 0, None on others. Collective."""
        if comm.size == 1:
            return self
        n = len(self.squares)
        squares = triangle.empty(n) if comm.rank == 0 else None
        for j in range(0, n, PIECE):
            part = _summed(comm, self.squares[j:, j : j + PIECE].T)
            if squares is not None:
                squares[j:, j : j + PIECE] = part.T
        mixed, ends = _summed(comm, self.mixed), _summed(comm, self.ends)
        return None if squares is None else Moments(squares, mixed, ends, self.first)


def _summed(comm: MPI.Intracomm, own: np.ndarray) -> np.ndarray:
    """On rank 0; anything on others. Collective."""
    found = np.empty(own.shape, own.dtype)
    comm.Reduce(np.ascontiguousarray(own), found)
    return found


class Gram(Rows):
    """Least squares by the normal equations.

    Args:
        single: form the products of a block in single precision (and sum them in double), for
            learning from noisy rows with a ridge.
    """

    method = "gram"
    copies = 3

    def __init__(
        self,
        features: int,
        targets: int,
        intercept: bool = False,
        comm: MPI.Intracomm = MPI.COMM_SELF,
        block: int = ROWS,
        sampled: int = 0,
        single: bool = False,
    ):
        # Before what is kept: it tells how numbers are multiplied.
        self.single = single
        super().__init__(features, targets, intercept, comm, block, sampled)

    @property
    def _limit(self) -> float:
        return SINGLE_LIMIT if self.single else LIMIT

    @property
    def kept(self) -> np.ndarray:
        """The upper triangle of [1 H T]^T [1 H T] of this rank's rows, a copy."""
        return self._moments.whole

    @kept.setter
    def kept(self, G: np.ndarray) -> None:
        self._moments = Moments.of(G, self.features, self.first)
        self._lent = False

    def _begin(self, H: np.ndarray, T: np.ndarray, roots: np.ndarray | None) -> None:
        """Adds [1 T]^T [1 H T]. The sums of H tell whether it is finite: what is not stays so in
        any sum, but that of finite numbers may overflow."""
        # Column by column: BLAS then reads H once, in a fifth less time.
        ends = np.ones((len(H), 1 + self.targets), self.number, order="F")
        ends[:, 1:] = T
        weighted = ends if roots is None else roots[:, None] ** 2 * ends
        with np.errstate(invalid="ignore", over="ignore"):
            mixed, squares = weighted.T @ H, weighted.T @ ends
        # Nor does a row of weight 0 hide anything.
        if (
            roots is not None
            or not np.isfinite([mixed[0].sum(), squares[0].sum()]).all()
        ):
            super()._begin(H, T, roots)
        moments, without = self._moments, 1 - self.first
        self._moments = replace(
            moments,
            mixed=moments.mixed + mixed[without:],
            ends=moments.ends + squares[without:, without:],
        )

    def _take(self, H: np.ndarray, T: np.ndarray, roots: np.ndarray | None) -> None:
        if roots is not None:
            H = roots[:, None].astype(self.number) * H
        # Of features that lie row by row or column by column no copy is made.
        if not H.flags.f_contiguous:
            H = np.ascontiguousarray(H)
        by_columns = H.flags.f_contiguous
        A = H if by_columns else H.T
        # What is lent to a solution stays as it is.
        squares = self._moments.squares
        if self._lent:
            squares = squares.copy(order="F")
        if self.single:
            squares += blas.ssyrk(1.0, A, trans=by_columns, lower=1)
        else:
            squares = blas.dsyrk(
                1.0, A, trans=by_columns, beta=1.0, c=squares, lower=1, overwrite_c=1
            )
        self._moments, self._lent = replace(self._moments, squares=squares), False

    def _gathered(self) -> Solver | None:
        total = self._moments.total(self.comm)
        # Not a copy: where more rows come, they are added to one.
        self._lent = self._lent or total is self._moments
        return None if total is None else partial(self._solved, total)

    def remove(
        self, H: np.ndarray, T: np.ndarray, weights: np.ndarray | None = None
    ) -> None:
        """Takes rows out that were added here; not collective.

        Raises:
            InputError: as `add`, where rows are sampled, and for rows that cannot be among those
                that were added: more of them, or larger ones. Others are not noticed.
        """
        self._refuse_sampled()
        gone = Gram(self.features, self.targets, bool(self.first), single=self.single)
        gone.add(H, T, weights)
        whole = self.kept
        left = whole - gone.kept
        share = SINGLE_GONE if self.single else GONE
        larger = (np.diag(left) < -share * np.diag(whole)).any()
        if gone.count > self.count or larger:
            raise never_added(gone.count)
        self.kept, self.count = left, self.count - gone.count

    def solve(
        self,
        tolerance: float | None = None,
        ridge: Numbers | str = 0.0,
        again: Callable[[], Blocks] | None = None,
    ) -> Solution:
        """As of `Rows`, without a tolerance: W of a condition that is too large is refused.

        Args:
            again: the own rows once more, to refine W.

        Raises:
            InputError: beside others, where the condition is above the limit.
        """
        found = super().solve(tolerance, ridge)
        limit = self._limit if again is None else max(self._limit, REFINED_LIMIT)
        # Nor is W given where products overflowed.
        if not found.condition <= limit:
            raise _refusal(found.condition, limit)
        return found if again is None else self._refined(found, again)

    def _solved(
        self,
        moments: Moments,
        sample: AllSampled | None,
        count: int,
        tolerance: float | None,
        ridge: Numbers | str,
    ) -> Solution:
        if self.first and not moments.ends[0, 0]:
            raise no_weight()
        problem = self._products(moments, sample, count)
        if not isinstance(ridge, str) and np.ndim(ridge) == 0:
            L = self._triangle(problem.squares, float(ridge))
            W = cho_solve((L, True), problem.C, check_finite=False)
            weights = np.full(self.targets, float(ridge))
            found = answer(problem, W, self.features, 0.0, _condition(L), weights)
        else:
            found = with_ridge(problem, 0.0, ridge)
            s, least = problem.singular_values, float(found.ridge.min())
            squares = (s[0] ** 2 + least) / max(s[-1] ** 2 + least, EPS**2 * s[0] ** 2)
            found = replace(found, condition=float(np.sqrt(squares)))
        if not self.first:
            return found
        missing = moments.ends[0, 1:] - moments.mixed[0] @ found.W
        return replace(found, intercept=missing / moments.ends[0, 0])

    def _triangle(self, squares: np.ndarray, ridge: float) -> np.ndarray:
        """L with L L^T = squares + ridge, of which the lower triangles are there."""
        A = squares.copy(order="F")
        np.fill_diagonal(A, np.diag(A) + ridge)
        L, info = lapack.dpotrf(A, lower=1, clean=0, overwrite_a=1)
        if info:
            raise _refusal(np.inf, self._limit)
        triangle_of_H: np.ndarray = L
        return triangle_of_H

    def _products(
        self, moments: Moments, sample: AllSampled | None, count: int
    ) -> Products:
        """Those of H and T, without what the column of ones explains of them."""
        rest, first, last = moments.centred, self.first, self.first + self.features
        centred = None
        if sample is not None:
            root = np.sqrt(moments.ends[:first, :first])
            of_T = moments.ends[:first, first:]
            sums = np.concatenate([moments.mixed[:first], of_T], axis=1)
            R = np.concatenate([root, sums / root.sum(axis=1, keepdims=True)], axis=1)
            centred = sample.centred(R, first, last)
        return Products(
            rest.squares.T, rest.mixed.T, np.diag(rest.ends), count, first, centred
        )

    def _refined(self, found: Solution, again: Callable[[], Blocks]) -> Solution:
        """By passes over the rows. Collective."""
        moments = self._moments.total(self.comm)
        for _ in range(PASSES):
            change: np.ndarray | None = None
            gradient = self._gradient(found, again())
            with collective(self.comm):
                if moments is not None:
                    change = self._change(moments, gradient, found.ridge)
            change = self.comm.bcast(change)
            assert change is not None
            found = replace(
                found,
                W=found.W + change[self.first :],
                intercept=found.intercept + (change[0] if self.first else 0.0),
            )
        return found

    def _gradient(self, found: Solution, blocks: Blocks) -> np.ndarray:
        """[1 H]^T (T - H W - intercept) - ridge W of all ranks (1 + n, k)."""
        own = np.zeros((self.first + self.features, self.targets))
        for H, T in blocks:
            missed = (
                np.asarray(T, float).reshape(len(H), -1) - H @ found.W - found.intercept
            )
            own[: self.first] += missed.sum(axis=0)
            own[self.first :] += H.T @ missed
        total = reductions.total(self.comm, own)
        total[self.first :] -= found.ridge * found.W
        return total

    def _change(
        self, moments: Moments, gradient: np.ndarray, ridge: np.ndarray
    ) -> np.ndarray:
        """(1 + n, k): the row of the intercept is eliminated first."""
        first, squares = self.first, moments.centred.squares
        count = moments.ends[0, 0]
        means = moments.mixed[:first] / count
        right = gradient[first:] - means.T @ gradient[:first]
        change = np.empty_like(right)
        for weight in np.unique(ridge):
            L = self._triangle(squares, float(weight))
            same = ridge == weight
            change[:, same] = cho_solve((L, True), right[:, same], check_finite=False)
        constant = gradient[:first] / count - means @ change
        return np.concatenate([constant, change])


def _condition(L: np.ndarray) -> float:
    """Of a lower triangle of full rank, by power iterations: some per cent below the true one."""
    start = np.random.default_rng(0).standard_normal(len(L))
    # Of numbers near 1 no square overflows.
    unit = float(np.diag(L).max())
    large, small = start, start
    for _ in range(POWERS):
        large, small = large / np.linalg.norm(large), small / np.linalg.norm(small)
        large = blas.dtrmv(L, large, lower=1, trans=1) / unit
        large = blas.dtrmv(L, large, lower=1) / unit
        small = blas.dtrsv(L, unit * small, lower=1)
        small = blas.dtrsv(L, unit * small, lower=1, trans=1)
    return float(np.sqrt(np.linalg.norm(large) * np.linalg.norm(small)))


def _refusal(condition: float, limit: float) -> InputError:
    told = (
        f"a condition of {condition:.1e}" if np.isfinite(condition) else "no full rank"
    )
    allowed = f"up to {limit:.0e} by products: a ridge, or the method 'qr' (Fold)"
    return InputError("pseudoinverse: features", told, allowed)


@dataclass(frozen=True)
class Products(Reduced):
    """A problem in products: R is the upper triangle of H^T H, 0 below, C is H^T T, rest is
    |T|^2."""

    @property
    def squares(self) -> np.ndarray:
        """The lower triangle of H^T H, in Fortran's order."""
        return self.R.T

    @property
    def unexplained(self) -> np.ndarray:
        turned, _, _ = self.factors
        found: np.ndarray = np.maximum(self.rest - (turned**2).sum(axis=0), 0)
        return found

    def missed(self, W: np.ndarray) -> np.ndarray:
        both = blas.dsymm(1.0, self.squares, W, lower=1) - 2 * self.C
        found: np.ndarray = np.maximum(self.rest + (W * both).sum(axis=0), 0)
        return found

    @cached_property
    def singular_values(self) -> np.ndarray:
        squares = eigvalsh(self.squares)[::-1]
        values: np.ndarray = np.sqrt(np.maximum(squares, 0))
        return values

    @cached_property
    def factors(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        squares, V = eigh(self.squares)
        # What is below rounding is none: it would be divided by.
        s = np.sqrt(np.maximum(squares[::-1], EPS * squares[-1]))
        V = V[:, ::-1]
        return (V.T @ self.C) / s[:, None], s, V
