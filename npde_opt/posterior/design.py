"""Where to measure next: the best of candidate observations, one after the other.

With the posterior covariance C of the parameters, gradients g_j of what candidates would observe
and their standard deviations s_j, K = G^T C G. Observing j gives

    1/2 log(1 + K_jj / s_j^2)          nats, the D-criterion, and takes
    |C g_j|^2 / (s_j^2 + K_jj)         off the sum of the goals' variances, the A-criterion,

and leaves K - K_j K_j^T / (s_j^2 + K_jj), likewise of the goals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from petsc4py import PETSc

from npde_opt.errors import InputError
from npde_opt.posterior.columns import column, gram, mapped
from npde_opt.posterior.laplace import Laplace

CRITERIA = ("D", "A")


@dataclass(frozen=True)
class Design:
    """Candidates in the order in which they are best added.

    Attributes:
        chosen: their numbers. gains: of the criterion, of each when it is added.
        information: nats of all up to each.
        left: sum of the goals' variances before any, and after each.
    """

    criterion: str
    chosen: tuple[int, ...]
    gains: np.ndarray
    information: np.ndarray
    left: np.ndarray


def best(
    laplace: Laplace,
    candidates: Sequence[PETSc.Vec],
    deviations: Sequence[float],
    count: int,
    criterion: str = "D",
    goals: Sequence[PETSc.Vec] | None = None,
) -> Design:
    """Greedy choice. Collective.

    Args:
        candidates: gradients of what each would observe. deviations: of their errors.
        count: how many are chosen.
        goals: gradients of what shall be known; None: the parameters themselves.

    Raises:
        InputError: for a count or criterion that cannot be, and deviations that are not positive.
    """
    sigma = np.asarray(deviations, float)
    if criterion not in CRITERIA:
        raise InputError("criterion", criterion, " or ".join(CRITERIA))
    if not 1 <= count <= len(candidates):
        raise InputError("count", count, f"1 to {len(candidates)}, the candidates")
    if sigma.shape != (len(candidates),) or not (sigma > 0).all():
        raise InputError(
            "deviations", deviations, "a positive number for each candidate"
        )
    space = laplace.space
    G = np.hstack([column(g) for g in candidates])
    image = mapped(space, laplace.apply, G)
    K = gram(space, G, image)
    if goals is None:
        M, before = gram(space, image, image), _trace(laplace)
    else:
        Z = np.hstack([column(g) for g in goals])
        cross = gram(space, Z, image)
        M, before = cross.T @ cross, float(np.trace(laplace.covariance(list(goals))))
    return _greedy(K, M, sigma**2, before, count, criterion)


def _trace(laplace: Laplace) -> float:
    """Sum of the parameters' variances."""
    one = np.ones((laplace.variance.size, 1))
    return float(gram(laplace.space, one, laplace.variance[:, None])[0, 0])


def _greedy(
    K: np.ndarray,
    M: np.ndarray,
    noise: np.ndarray,
    before: float,
    count: int,
    criterion: str,
) -> Design:
    """
    Args:
        K: (n, n) covariance of the candidates. M: (n, n) products of their covariances with the
            goals.
    """
    chosen: list[int] = []
    gains, left, information = [], [before], [0.0]
    K, M = K.copy(), M.copy()
    for _ in range(count):
        variance = noise + np.diag(K)
        nats = 0.5 * np.log(variance / noise)
        taken = np.diag(M) / variance
        score = nats if criterion == "D" else taken
        score[chosen] = -np.inf
        j = int(np.argmax(score))
        chosen.append(j)
        gains.append(score[j])
        left.append(left[-1] - taken[j])
        information.append(information[-1] + nats[j])
        # Every covariance c with a goal becomes c - c_j K_j / variance_j, and M their products.
        share = K[j] / variance[j]
        M = (
            M
            - np.outer(share, M[j])
            - np.outer(M[:, j], share)
            + M[j, j] * np.outer(share, share)
        )
        K = K - np.outer(K[:, j], share)
    return Design(
        criterion,
        tuple(chosen),
        np.array(gains),
        np.array(information[1:]),
        np.array(left),
    )
