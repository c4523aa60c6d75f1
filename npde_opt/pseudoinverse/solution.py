"""min over W of |R W - C|^2 + |S|^2, of least norm where the triangle R (n, n) has no full rank:

    W = V s^+ U^T C,    s^+ = 1/s where s > cut, else 0        (R = U s V^T)
    W = V s / (s^2 + ridge) U^T C                              with a ridge

One relative tolerance: singular values up to `tolerance` times the largest are taken for 0, by
default n eps. Without ridge, and where R is far from that, W comes from a triangular solve, else
from LAPACK's gelsd.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import lapack, solve_triangular, svd, svdvals
from scipy.optimize import minimize_scalar

from npde_opt.aliases import Numbers

EPS = float(np.finfo(float).eps)
GCV, GCV_EACH = "gcv", "gcv-each"
"""A ridge by cross-validation: one for all targets, or one a target."""
DECADES = 20
"""Ridges a decade apart at which the score of a ridge is looked at, downwards from the largest
singular value squared; the best of them is then improved."""


@dataclass(frozen=True)
class Reduced:
    """A least-squares problem after its rows were folded.

    Args:
        R: the triangle of the features (n, n).
        C: Q^T T (n, k).
        rest: |S|^2 of each target (k,): what no W explains.
        count: rows, of which `centred` (0 or 1) went into the mean.
    """

    R: np.ndarray
    C: np.ndarray
    rest: np.ndarray
    count: int
    centred: int = 0

    @cached_property
    def factors(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """U^T C (n, k), the singular values (n,), and V (n, n)."""
        U, s, Vt = svd(self.R)
        return U.T @ self.C, s, Vt.T

    def score(self, ridge: float, target: int | None = None) -> float:
        """Generalised cross-validation, count |H W - T|^2 / (count - degrees of freedom)^2: an
        estimate of the squared error of a new row (Golub, Heath, Wahba 1979), summed over targets
        or of one."""
        turned, s, _ = self.factors
        kept = s**2 / (s**2 + ridge) if ridge > 0 else (s > 0).astype(float)
        left = (1 - kept)[:, None] * turned
        missed = self.rest + (left**2).sum(axis=0)
        freedom = self.count - self.centred - kept.sum()
        if freedom <= 0:
            return np.inf
        errors = self.count * missed / freedom**2
        return float(errors.sum() if target is None else errors[target])


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
        values: np.ndarray = svdvals(self.problem.R)
        return values


def solve(problem: Reduced, tolerance: float | None, ridge: Numbers | str) -> Solution:
    """The solution without its intercept."""
    n = len(problem.R)
    relative = n * EPS if tolerance is None else tolerance
    if isinstance(ridge, str) or np.any(np.asarray(ridge) > 0):
        return _with_ridge(problem, relative, ridge)
    reciprocal = _reciprocal_condition(problem.R)
    # sigma_n / sigma_1 is no smaller than the reciprocal condition in the 1-norm over n.
    if problem.count >= n and reciprocal > n * relative:
        W = solve_triangular(problem.R, problem.C)
        size = float(np.abs(np.diag(problem.R)).max(initial=0.0))
        return _answer(problem, W, n, relative * size, 1 / reciprocal)
    rows = min(problem.count, n)
    W, s, rank = _gelsd(problem.R[:rows], problem.C[:rows], relative)
    cut = relative * float(s.max(initial=0.0))
    return _answer(problem, W, rank, cut, float(s[0] / s[rank - 1]) if rank else np.inf)


def _reciprocal_condition(R: np.ndarray) -> float:
    """In the 1-norm, an estimate; 0 where R is singular."""
    if not len(R) or not np.all(np.diag(R)):
        return 0.0
    found, info = lapack.dtrcon(R)
    assert info == 0
    return float(found)


def _gelsd(R: np.ndarray, C: np.ndarray, relative: float) -> tuple[np.ndarray, np.ndarray, int]:
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


def _with_ridge(problem: Reduced, relative: float, ridge: Numbers | str) -> Solution:
    turned, s, V = problem.factors
    targets = turned.shape[1]
    cut = relative * float(s.max(initial=0.0))
    weights = np.broadcast_to(_weights(problem, ridge), (targets,))
    size = s[:, None] ** 2 + weights
    kept = (s[:, None] > cut) | (weights > 0)
    factor = np.divide(s[:, None], size, out=np.zeros_like(size), where=kept & (size > 0))
    rank = int((s > cut).sum())
    condition = float(s[0] / s[rank - 1]) if rank else np.inf
    return _answer(problem, V @ (factor * turned), rank, cut, condition, weights)


def _weights(problem: Reduced, ridge: Numbers | str) -> np.ndarray:
    if not isinstance(ridge, str):
        return np.asarray(ridge, float)
    if ridge == GCV:
        return np.array(_chosen(problem))
    return np.array([_chosen(problem, t) for t in range(problem.C.shape[1])])


def _chosen(problem: Reduced, target: int | None = None) -> float:
    """The ridge of the least score."""
    largest = float(problem.factors[1].max(initial=0.0)) ** 2
    if largest == 0:
        return 0.0
    powers = np.arange(0.0, -DECADES, -1.0)

    def score(power: float) -> float:
        return problem.score(largest * 10**power, target)

    best = powers[int(np.argmin([score(x) for x in powers]))]
    found = minimize_scalar(score, bounds=(best - 1, best + 1), method="bounded")
    return largest * 10 ** float(found.x if found.fun < score(best) else best)


def _answer(
    problem: Reduced,
    W: np.ndarray,
    rank: int,
    cut: float,
    condition: float,
    ridge: np.ndarray | None = None,
) -> Solution:
    missed = problem.rest + ((np.triu(problem.R) @ W - problem.C) ** 2).sum(axis=0)
    targets = W.shape[1]
    return Solution(
        W,
        np.zeros(targets),
        rank,
        cut,
        condition,
        np.zeros(targets) if ridge is None else ridge,
        np.sqrt(missed / max(problem.count, 1)),
        problem,
    )
