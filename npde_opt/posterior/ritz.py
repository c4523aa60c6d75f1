"""The leading pairs among directions B that are given, as those of a coarser grid, by products with
J alone, half of what those with D = J^T W J cost (Rayleigh, Ritz):

    (J B)^T W (J B) y = x (B^T P B) y,   v = B y.

Whether they are pairs of D and P is seen of all of them together: with independent signs e_i

    E |sum_i e_i r_i / a_i|^2 = sum_i (|r_i| / a_i)^2,   r_i = D v_i - x_i P v_i,

in the norm of P^-1, where a_i = rtol (1 + x_i) is what each may be. A draw costs a product with D.
"""

from __future__ import annotations

import numpy as np

from npde_opt.linear.accuracy import solved_to
from npde_opt.objective import ObjectiveAt
from npde_opt.parameters import ParameterSpace
from npde_opt.parameters.draws import child
from npde_opt.posterior.columns import (
    Action,
    dots,
    gram,
    mapped,
    mix,
    times,
    together,
    views,
)
from npde_opt.posterior.eigenpairs import CLEAR, ROUGHER, Pairs, orientation
from npde_opt.posterior.prior import Prior
from npde_opt.posterior.settings import PosteriorSettings
from npde_opt.seen import Seen

DRAWS, SIGNS = 4, 1 << 23
"""Of signs, and their seed: far from the numbers of samples."""
SMALL = 0.5
"""Root mean square of |r_i| / a_i at most: single ones are larger than the mean."""
SEEN, SHARE = 1e-3, 3e-2
"""Relative tolerance of states: this, or a share of that of eigenvalues, whose errors are of its
size."""


def among(
    at: ObjectiveAt,
    prior: Prior,
    data: Action,
    settings: PosteriorSettings,
    start: np.ndarray,
) -> Pairs | None:
    """All pairs with x >= settings.cut, D that of Gauss-Newton. Collective.

    Args:
        data: a product with D.
        start: own rows (local, any) of directions; what is above the cut has to be among them. It
            is overwritten.

    Returns:
        None where they are too far from pairs, nearly dependent, or none is below the cut, so that
        some above it may be missing.
    """
    space = prior.space
    B = start if start.flags.f_contiguous else np.asfortranarray(start)
    directions = views(space, B)
    for direction in directions:
        prior.mask(direction)
    with solved_to(min(SEEN, SHARE * settings.rtol)):
        seen = at.seen(directions)
        T = at.gram(directions) if seen is None else at.products(seen, seen)
    for direction in directions:
        direction.destroy()
    T = (T + T.T) / 2
    dual = mapped(space, prior.precision, B)
    found = _pairs_of(T, gram(space, B, dual))
    if found is None:
        return None
    values, mixed = found
    count = int((values >= settings.cut).sum())
    if not 0 < count < len(values):
        return None
    mix(B, mixed)
    mix(dual, mixed)
    V, PV = B[:, :count], dual[:, :count]
    signs = orientation(space, V)
    V *= signs
    PV *= signs
    if seen is not None:
        seen = seen.mixed(mixed[:, :count] * signs)
    shares = _signs(settings, values[:count])
    with solved_to(min(SEEN, SHARE * settings.rtol)):
        DV = _products(at, prior, data, V, shares, seen)
    if _residual(space, prior, values[:count], PV, shares, DV) > SMALL:
        return None
    products = B.shape[1] + DRAWS
    # Of many data it would be more than the pairs themselves.
    kept = seen if at.objective.data_count <= space.size else None
    return Pairs(values[:count], V, values[count:], products, True, PV, seen=kept)


def _pairs_of(T: np.ndarray, G: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """x, largest first, and y of T y = x G y with y^T G y = 1; None of a G that is nearly
    singular."""
    sizes = np.sqrt(np.maximum(np.diag(G), 0.0))
    if not (sizes > 0).all():
        return None
    shares, vectors = np.linalg.eigh((G + G.T) / 2 / np.outer(sizes, sizes))
    if shares[0] <= CLEAR:
        return None
    root = vectors / np.sqrt(shares) / sizes[:, None]
    values, mixed = np.linalg.eigh(root.T @ T @ root)
    return values[::-1], root @ mixed[:, ::-1]


def _signs(settings: PosteriorSettings, x: np.ndarray) -> np.ndarray:
    """e_i / a_i, (k, DRAWS)."""
    drawn = np.random.default_rng(child(settings.seed, SIGNS))
    signs = drawn.choice([-1.0, 1.0], (len(x), DRAWS))
    return np.asarray(signs / (settings.rtol * (1 + x))[:, None])


def _products(
    at: ObjectiveAt,
    prior: Prior,
    data: Action,
    V: np.ndarray,
    shares: np.ndarray,
    seen: Seen | None,
) -> np.ndarray:
    """D V shares, own rows (local, DRAWS): by adjoint states alone where J V is known."""
    if seen is None:
        return mapped(prior.space, data, times(V, shares))
    kept = seen.mixed(shares)
    pulled = [at.pulled(kept, number) for number in range(kept.count)]
    for vec in pulled:
        prior.mask(vec)
    found = together(pulled)
    for vec in pulled:
        vec.destroy()
    return found


def _residual(
    space: ParameterSpace,
    prior: Prior,
    x: np.ndarray,
    PV: np.ndarray,
    shares: np.ndarray,
    DV: np.ndarray,
) -> float:
    """The root mean square of |r_i| / a_i, as DRAWS draws of signs show it.

    Args:
        DV: D V shares, which is overwritten.
    """
    DV -= times(PV, x[:, None] * shares)
    solved = mapped(space, lambda a, b: prior.solve(a, b, ROUGHER), DV)
    squares = np.maximum(dots(space, DV, solved), 0.0)
    return float(np.sqrt(squares.mean() / len(x)))
