"""Coefficients that vary with x, by least squares: c_j(x) of an equation whose terms are known.

A coefficient is a sum of functions of x: one a piece of the axis, or one a place of the grid. Those
of places are regularized: with rows G c = b of equal errors (see weak.py),

    |G c - b|^2 + ridge sum_i ((c_{i+1} - c_i) / size)^2

size being that of the best constant coefficient. Written for the differences z_i, this is a ridge
behind columns that are free of it (constants, and each field's first value). Its weight is that of
the greatest likelihood: generalised cross-validation takes one that is far too small in many draws
of the noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from npde_opt.errors import InputError
from npde_opt.pseudoinverse.equation_error import Observed, Term
from npde_opt.pseudoinverse.fold import Fold
from npde_opt.pseudoinverse.selection import FLOOR, refined
from npde_opt.pseudoinverse.solution import Reduced, chosen, solve
from npde_opt.pseudoinverse.weak import Basis, Weak

ROUNDS = 3
"""Of weights of the rows, and coefficients."""
TINY = float(np.finfo(float).tiny)


@dataclass(frozen=True)
class Varying:
    """An equation with fields.

    Attributes:
        coefficients, errors: of each term, along x (places,), and their standard deviations.
        constants: the best ones where nothing varies (terms,).
        ridge: 0 of pieces. noise: standard deviation of the states' errors.
        residual: |G c - b| / |b|.
    """

    coefficients: list[np.ndarray]
    errors: list[np.ndarray]
    constants: np.ndarray
    ridge: float
    noise: float
    residual: float


def pieces(x: np.ndarray, count: int) -> np.ndarray:
    """Numbers of the pieces of x (places,), equally long.

    Raises:
        InputError: for none, and for more than every fourth place has.
    """
    if not 1 <= count <= len(x) // 4:
        raise InputError("equation: pieces", count, f"1 to {len(x) // 4}")
    return np.arange(len(x)) * count // len(x)


def basis(x: np.ndarray, regions: np.ndarray | None) -> Basis:
    """Functions of the pieces; None: of the places."""
    of = np.arange(len(x)) if regions is None else regions
    values = (of == np.arange(of.max() + 1)[:, None]).astype(float)
    return Basis(values, np.gradient(values, float(x[1] - x[0]), axis=1))


def fit_fields(
    seen: Observed,
    terms: Sequence[Term],
    windows: tuple[int, int],
    varying: Sequence[int],
    regions: np.ndarray | None = None,
) -> Varying:
    """Coefficients of `terms`, of which those of the numbers `varying` are fields.

    Args:
        regions: numbers of pieces (see `pieces`); None: one value a place, regularized.

    Raises:
        InputError: as `Weak`.
    """
    every = tuple(range(len(terms)))
    plain = Weak(seen, terms, windows)
    begun, *_ = np.linalg.lstsq(*plain.rows())
    constants, *_ = refined(plain, every, begun, fine=True)
    weak = Weak(seen, terms, windows, dict.fromkeys(varying, basis(seen.x, regions)))
    parts = weak.parts()
    c = np.concatenate(
        [np.full(p.stop - p.start, v) for p, v in zip(parts, constants, strict=True)]
    )
    turn = _turn(parts, constants, regions is None)
    free = [p.start for p in parts] if regions is None else list(range(len(c)))
    for _ in range(ROUNDS):
        G, b = weak.rows(c, fine=True)
        found = _solved(G @ turn, b, free)
        c = turn @ found.z
    spread = turn @ found.covariance @ turn.T
    values, errors = [], []
    for part, own in zip(parts, weak.bases, strict=True):
        values.append(c[part] @ own.values)
        variance = np.einsum("kx,kl,lx->x", own.values, spread[part, part], own.values)
        errors.append(np.sqrt(variance))
    missed = float(np.linalg.norm(G @ c - b) / np.linalg.norm(b))
    return Varying(values, errors, constants, found.ridge, found.noise, missed)


def _turn(parts: list[slice], sizes: np.ndarray, differences: bool) -> np.ndarray:
    """c = turn z: of a field z has the first value and the differences, in units of `sizes`."""
    found = np.zeros((parts[-1].stop, parts[-1].stop))
    for part, size in zip(parts, sizes, strict=True):
        n = part.stop - part.start
        block = np.tril(np.ones((n, n))) if differences else np.eye(n)
        found[part, part] = abs(size) * block
    return found


@dataclass(frozen=True)
class _Found:
    z: np.ndarray
    covariance: np.ndarray
    ridge: float
    noise: float


def _solved(G: np.ndarray, b: np.ndarray, free: list[int]) -> _Found:
    """z of G z = b, with a ridge on all but the free ones."""
    held = np.setdiff1d(np.arange(G.shape[1]), free)
    order, f, n = np.concatenate([free, held]).astype(int), len(free), G.shape[1]
    fold = Fold(n, 1)
    fold.add(G[:, order], b)
    R = np.triu(fold.kept)
    z, ridge, rest = np.zeros(n), 0.0, float(R[n, n] ** 2)
    if len(held):
        reduced = Reduced(R[f:n, f:n], R[f:n, n:], R[n:, n] ** 2, len(b), f)
        # What the grid misses is no noise: differences that would follow it are held, as if the
        # rows had errors of FLOOR and a field went up or down by its size along x.
        least = FLOOR**2 * float(b @ b) / len(b) * len(held)
        ridge = max(_likeliest(reduced), least)
        behind = solve(reduced, None, ridge)
        z[f:] = behind.W[:, 0]
        rest = float(reduced.missed(behind.W)[0])
    z[:f] = solve_triangular(R[:f, :f], R[:f, n] - R[:f, f:n] @ z[f:])
    information = R[:n, :n].T @ R[:n, :n]
    size = np.zeros(n)
    size[f:] = ridge
    covariance = np.linalg.inv(information + np.diag(size))
    freedom = len(b) - float((covariance * information).sum())
    noise = float(np.sqrt(rest / max(freedom, 1.0)))
    back = np.argsort(order)
    spread = noise**2 * covariance[np.ix_(back, back)]
    return _Found(z[back], spread, ridge, noise)


def _likeliest(reduced: Reduced) -> float:
    """The ridge under which the rows are likeliest, where differences ~ N(0, s^2 / ridge) and
    errors ~ N(0, s^2), whatever the free columns have (Patterson, Thompson 1971): of least

        m log(rest + sum_i t_i^2 ridge / (s_i^2 + ridge)) + sum_i log((s_i^2 + ridge) / ridge)

    with m rows behind the free columns, and what they have along singular vectors, t.
    """
    turned, s, _ = reduced.factors
    squares, along = s**2, turned[:, 0] ** 2
    rows, rest = reduced.count - reduced.centred, float(reduced.unexplained[0])

    def cost(ridge: float) -> float:
        size = squares + ridge
        missed = rest + float((along * ridge / size).sum())
        return float(rows * np.log(max(missed, TINY)) + np.log(size / ridge).sum())

    return chosen(reduced, cost)
