"""min over W of |R W - C|^2 + |S|^2, of least norm where the triangle R (n, n) has no full rank:

    W = V s^+ U^T C,    s^+ = 1/s where s > cut, else 0        (R = U s V^T)
    W = V s / (s^2 + ridge) U^T C                              with a ridge

One relative tolerance: singular values up to `tolerance` times the largest are taken for 0, by
default n eps. Without ridge, and where R is far from that, W comes from a triangular solve, else
from LAPACK's gelsd.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import lapack, solve_triangular, svd, svdvals
from scipy.optimize import minimize_scalar

from npde_opt.aliases import Numbers
from npde_opt.errors import InputError
from npde_opt.pseudoinverse.sample import Centred

EPS = float(np.finfo(float).eps)
GCV, LOO, EACH = "gcv", "loo", "-each"
CHOICES = (GCV, GCV + EACH, LOO, LOO + EACH)
"""A ridge by generalised cross-validation or leave-one-out: one for all targets, or one a
target."""
POWERS = np.arange(0.0, -20.0, -0.25)
"""Of 10, times the largest singular value squared: ridges at which a score is looked at; the best
of them is then improved."""
SQUARED = 1e-130, 1e150
"""Largest singular values whose square, times the smallest of these, is an ordinary number."""


@dataclass(frozen=True)
class Reduced:
    """A least-squares problem after its rows were folded.

    Args:
        R: the triangle of the features (n, n).
        C: Q^T T (n, k).
        rest: |S|^2 of each target (k,): what no W explains.
        count: rows, of which `centred` (0 or 1) went into the mean.
        sample: rows for leave-one-out.
    """

    R: np.ndarray
    C: np.ndarray
    rest: np.ndarray
    count: int
    centred: int = 0
    sample: Centred | None = None

    @cached_property
    def singular_values(self) -> np.ndarray:
        """All of H's (n,), largest first."""
        values: np.ndarray = svdvals(self.R)
        return values

    @cached_property
    def factors(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """U^T C (n, k), the singular values (n,), and V (n, n)."""
        U, s, Vt = svd(self.R)
        return U.T @ self.C, s, Vt.T

    @property
    def unexplained(self) -> np.ndarray:
        """|S|^2 of each target (k,)."""
        return self.rest

    def missed(self, W: np.ndarray) -> np.ndarray:
        """|H W - T|^2 of each target (k,)."""
        found: np.ndarray = self.rest + ((np.triu(self.R) @ W - self.C) ** 2).sum(
            axis=0
        )
        return found

    def score(self, ridge: float) -> np.ndarray:
        """Generalised cross-validation of each target (k,): count |H W - T|^2 / (count - degrees
        of freedom)^2, an estimate of the squared error of a new row (Golub, Heath, Wahba 1979)."""
        turned, s, _ = self.factors
        left = ridge / (s**2 + ridge)
        missed = self.unexplained + ((left[:, None] * turned) ** 2).sum(axis=0)
        # Of as many rows as columns only `left` itself tells how many are free.
        freedom = self.count - self.centred - len(s) + left.sum()
        if freedom <= 0:
            return np.full(missed.shape, np.inf)
        errors: np.ndarray = self.count * missed / freedom**2
        return errors

    def left_out(self, ridge: float) -> np.ndarray:
        """Mean squared error (k,) of the sampled rows, each by the W of all rows but itself:
        e / (1 - h) with h of the hat matrix's diagonal (Allen 1974)."""
        assert self.sample is not None
        turned, s, _ = self.factors
        size = s**2 + ridge
        missed = self.sample.targets - self._turned_sample @ (
            (s / size)[:, None] * turned
        )
        leverage = self.sample.leverage + (self._turned_sample**2) @ (1 / size)
        # A row that is explained by itself alone says nothing of others.
        free = np.maximum(1 - leverage, EPS)
        found: np.ndarray = self.sample.shares @ (missed / free[:, None]) ** 2
        return found

    @cached_property
    def _turned_sample(self) -> np.ndarray:
        assert self.sample is not None
        found: np.ndarray = self.sample.features @ self.factors[2]
        return found


@dataclass(frozen=True)
class Solution:
    """W = H^+ T and what is known of it.

    Attributes:
        W: (n, k).
        intercept: (k,), 0 where none was asked for.
        rank: singular values above the cut.
        cut: singular values up to it were taken for 0.
        condition: largest over smallest singular value above the cut; an estimate where the
            singular values were not needed.
        ridge: its weight, one a target (k,); 0 for none.
        residual: root mean square of H W + intercept - T of each target (k,).
    """

    W: np.ndarray
    intercept: np.ndarray
    rank: int
    cut: float
    condition: float
    ridge: np.ndarray
    residual: np.ndarray
    problem: Reduced | None = None
    """On rank 0."""

    @cached_property
    def singular_values(self) -> np.ndarray:
        """All of them (n,), largest first; on rank 0."""
        assert self.problem is not None
        return self.problem.singular_values


def solve(problem: Reduced, tolerance: float | None, ridge: Numbers | str) -> Solution:
    """The solution without its intercept."""
    n = len(problem.R)
    relative = n * EPS if tolerance is None else tolerance
    if isinstance(ridge, str) or np.any(np.asarray(ridge) > 0):
        return with_ridge(problem, relative, ridge)
    reciprocal = reciprocal_condition(problem.R)
    # sigma_n / sigma_1 is no smaller than the reciprocal condition in the 1-norm over n.
    if problem.count >= n and reciprocal > n * relative:
        W = solve_triangular(problem.R, problem.C)
        size = float(np.abs(np.diag(problem.R)).max(initial=0.0))
        return answer(problem, W, n, relative * size, 1 / reciprocal)
    rows = min(problem.count, n)
    W, s, rank = _gelsd(problem.R[:rows], problem.C[:rows], relative)
    cut = relative * float(s.max(initial=0.0))
    return answer(problem, W, rank, cut, float(s[0] / s[rank - 1]) if rank else np.inf)


def reciprocal_condition(R: np.ndarray) -> float:
    """In the 1-norm, an estimate; 0 where R is singular."""
    if not len(R) or not np.all(np.diag(R)):
        return 0.0
    found, info = lapack.dtrcon(R)
    assert info == 0
    return float(found)


def _gelsd(
    R: np.ndarray, C: np.ndarray, relative: float
) -> tuple[np.ndarray, np.ndarray, int]:
    """W of least norm, the singular values, and how many of them count."""
    rows, n = R.shape
    if not rows:
        return np.zeros((n, C.shape[1])), np.zeros(0), 0
    b = np.zeros((n, C.shape[1]), order="F")
    b[:rows] = C
    lwork, iwork, _ = lapack.dgelsd_lwork(rows, n, C.shape[1], relative)
    found, s, rank, info = lapack.dgelsd(R, b, int(lwork), int(iwork), relative)
    assert info == 0
    return found[:n], s, int(rank)


def with_ridge(problem: Reduced, relative: float, ridge: Numbers | str) -> Solution:
    turned, s, V = problem.factors
    targets = turned.shape[1]
    cut = relative * float(s.max(initial=0.0))
    own = np.broadcast_to(weights(problem, ridge), (targets,))
    # s / (s^2 + ridge), of which no square overflows.
    size = np.hypot(s[:, None], np.sqrt(own))
    kept = ((s[:, None] > cut) | (own > 0)) & (size > 0)
    cosine = np.divide(s[:, None], size, out=np.zeros_like(size), where=kept)
    factor = np.divide(cosine, size, out=np.zeros_like(size), where=kept)
    rank = int((s > cut).sum())
    condition = float(s[0] / s[rank - 1]) if rank else np.inf
    return answer(problem, V @ (factor * turned), rank, cut, condition, own)


def weights(problem: Reduced, ridge: Numbers | str) -> np.ndarray:
    """The ridge of each target, or one of all: as it is given, or of the least score."""
    if not isinstance(ridge, str):
        return np.asarray(ridge, float)
    score = problem.left_out if ridge.startswith(LOO) else problem.score
    if not ridge.endswith(EACH):
        return np.array(chosen(problem, lambda x: float(score(x).sum())))
    found = []
    for target in range(problem.C.shape[1]):

        def of_target(ridge: float, target: int = target) -> float:
            return float(score(ridge)[target])

        found.append(chosen(problem, of_target))
    return np.array(found)


def chosen(problem: Reduced, score: Callable[[float], float]) -> float:
    """The ridge of the least score.

    Raises:
        InputError: for singular values whose squares are no ordinary numbers.
    """
    size = float(problem.factors[1].max(initial=0.0))
    if size == 0:
        return 0.0
    if not SQUARED[0] <= size <= SQUARED[1]:
        told = f"a largest singular value of {size:.1e}"
        allowed = f"from {SQUARED[0]:.0e} to {SQUARED[1]:.0e}: H in other units"
        raise InputError("pseudoinverse: features", told, allowed)
    largest = size**2

    def at(power: float) -> float:
        return score(largest * 10**power)

    best = float(POWERS[int(np.argmin([at(x) for x in POWERS]))])
    found = minimize_scalar(at, bounds=(best - 0.25, best + 0.25), method="bounded")
    return largest * 10 ** float(found.x if found.fun < at(best) else best)


def answer(
    problem: Reduced,
    W: np.ndarray,
    rank: int,
    cut: float,
    condition: float,
    ridge: np.ndarray | None = None,
) -> Solution:
    """With its residual, without an intercept."""
    targets = W.shape[1]
    return Solution(
        W,
        np.zeros(targets),
        rank,
        cut,
        condition,
        np.zeros(targets) if ridge is None else ridge,
        np.sqrt(problem.missed(W) / max(problem.count, 1)),
        problem,
    )
