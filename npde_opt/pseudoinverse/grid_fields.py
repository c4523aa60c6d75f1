"""Coefficients that are fields on a grid of 1 to 3 axes, from states on it: least squares by LSQR.

With test functions theta of time and phi of the cells, and finite volumes in between,

    sum_j sum phi A_j(theta) c_j = -sum phi (theta_t, u)
    A_j(theta) c = c (theta, f)                of a power f of u,
                   div(c grad (theta, f))      of its diffusion, c on a face the mean of both cells

is linear in the c_j, and each row has the cells of one window: G is sparse, its columns lie with
their cells on the ranks. Fields are regularized by differences of neighbours,

    |G c - b|^2 + ridge sum over faces ((c_a - c_b) / size)^2,

size being that of the best constant. The weight is the one of least expected error of G c (Stein
1981): with rows of noise e_q, which overlap as the windows do, the least

    |G c(b) - b|^2 + 2 mean over q of e_q^T G c(e_q).

How large the noise of u is, differences of u in time tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from npde_opt import reductions
from npde_opt.errors import InputError, collective
from npde_opt.grids import Grid
from npde_opt.pseudoinverse.equation_error import Term, even, refuse_still
from npde_opt.pseudoinverse.fold import Fold
from npde_opt.pseudoinverse.grid_rows import Rows, Sums
from npde_opt.pseudoinverse.iterative import iterate
from npde_opt.pseudoinverse.selection import FLOOR

DIFFERENCES = 4
"""Of states in time, of which noise is left: their squares are 70 times its variance."""
GROWN = 70.0
DRAWS = 2
"""Of noise, where the ridge is chosen."""
STRONGEST, STEP = 1e2, 10**0.5
"""The first ridge that is tried, in mean squares of G's columns, and the factor to the next."""
RISES = 2
"""Ridges in a row whose expected error is larger, until no more are tried."""
RTOL = 1e-7
"""Of LSQR."""


@dataclass(frozen=True)
class GridStates:
    """States on the cells of a grid at equal steps of time.

    Args:
        t: (times,). u: owned [time, i, j, k], real.

    Raises:
        InputError: for other shapes, unequal steps, values that are not finite, states that do not
            change, and a grid with inactive cells; on all ranks.
    """

    grid: Grid
    t: np.ndarray
    u: np.ndarray

    def __post_init__(self) -> None:
        with collective(self.grid.comm):
            shape = (len(self.t), *self.grid.local_shape)
            if self.u.shape != shape or np.iscomplexobj(self.u):
                told = f"{self.u.dtype} of shape {self.u.shape}"
                raise InputError("equation: u", told, f"real, times and cells {shape}")
            if not even(self.t, 10):
                told = f"{len(self.t)} values"
                raise InputError("equation: t", told, "10 and more at equal steps")
            if not np.isfinite(self.u).all():
                told = "values that are not finite"
                raise InputError("equation: u", told, "finite numbers")
            if self.grid.mask is not None:
                told = "inactive cells"
                raise InputError("equation: grid", told, "a box all of whose are seen")
        change = abs(self.u - self.u[0]).max(initial=0.0)
        own = np.array([abs(self.u).max(initial=0.0), change])
        size, change = reductions.largest(self.grid.comm, own)
        refuse_still(float(size), float(change))

    @property
    def noise(self) -> float:
        """Standard deviation of what differs from one time to the next at random. Collective."""
        away = np.diff(self.u, DIFFERENCES, axis=0)
        total = reductions.total(self.grid.comm, float((away**2).sum()))
        return float(np.sqrt(total / (len(away) * self.grid.size * GROWN)))


@dataclass(frozen=True)
class GridFields:
    """An equation with fields.

    Attributes:
        coefficients: of each term, owned [i, j, k].
        constants: the best ones where nothing varies (terms,).
        ridge: the weight that was chosen. noise: of the states.
        residual: |G c - b| / |b|.
        iterations: of LSQR, all together.
    """

    coefficients: list[np.ndarray]
    constants: np.ndarray
    ridge: float
    noise: float
    residual: float
    iterations: int


def fit_grid(
    seen: GridStates,
    terms: Sequence[Term],
    windows: tuple[int, int],
    varying: Sequence[int],
    ridge: float | None = None,
) -> GridFields:
    """Coefficients of `terms`, of which those of the numbers `varying` are fields. Collective.

    Args:
        terms: powers of u, without a derivative or with two (a diffusion).
        windows: half widths of test functions, in steps of time and in cells of each axis.
        ridge: the weight; None: chosen.

    Raises:
        InputError: for other terms, windows that the states do not hold, and a ridge below 0.
        SolverError: where LSQR does not converge.
    """
    _check(terms, varying, ridge)
    noise = seen.noise
    sums = Sums(seen.grid, seen.t, windows)
    constants = _constants(sums, seen, terms, noise)
    sizes = np.where(constants == 0, 1.0, abs(constants))
    rows = Rows(sums, terms, sizes, varying, seen.u, noise**2)
    try:
        chosen = _Ridges(rows, sums.changes(seen.u))
        weight = ridge
        if weight is None:
            errors = [
                rows.of_noise(e, seen.u, constants) for e in _draws(seen.grid, seen.t)
            ]
            weight = chosen.best(noise * np.stack(errors, axis=1))
        found = chosen.solve(weight, chosen.b[:, None])[:, 0]
        missed = chosen.norm(chosen.fitted(found) - chosen.b) / chosen.norm(chosen.b)
        fields = rows.fields(found)
    finally:
        rows.destroy()
    return GridFields(fields, constants, weight, noise, missed, chosen.iterations)


def _check(terms: Sequence[Term], varying: Sequence[int], ridge: float | None) -> None:
    for term in terms:
        if term.derivative not in (0, 2) or term.place or term.imaginary:
            allowed = "powers of u and their diffusion (u_xx, (u^2)_xx)"
            raise InputError("equation: term", term.name, allowed)
    if not varying or not set(varying) <= set(range(len(terms))):
        raise InputError("equation: varying", list(varying), "numbers of terms")
    if ridge is not None and not 0 <= ridge < np.inf:
        raise InputError("equation: ridge", ridge, "a number >= 0, or None")


def _constants(
    sums: Sums, seen: GridStates, terms: Sequence[Term], noise: float
) -> np.ndarray:
    """The best coefficients where none varies."""
    columns = [sums.constant(term, seen.u, noise**2) for term in terms]
    fold = Fold(len(terms), 1, comm=seen.grid.comm)
    fold.add(np.stack(columns, axis=1), sums.changes(seen.u))
    found: np.ndarray = fold.solve().W[:, 0]
    return found


def _draws(grid: Grid, t: np.ndarray) -> Iterator[np.ndarray]:
    """Normal numbers in all states, the same on any ranks."""
    for draw in range(DRAWS):
        found = np.empty((len(t), *grid.local_shape))
        for at in range(len(t)):
            drawn = grid.standard_normal(draw * len(t) + at)
            found[at] = grid.view(drawn)
            drawn.destroy()
        yield found


class _Ridges:
    """Solutions of the rows for any ridge.

    Args:
        b: own rows of the right-hand side.
    """

    def __init__(self, rows: Rows, b: np.ndarray):
        self.rows, self.b, self.iterations = rows, b, 0
        self.comm = rows.sums.grid.comm

    def norm(self, own: np.ndarray) -> float:
        return float(np.sqrt(reductions.total(self.comm, float(own @ own))))

    def solve(self, ridge: float, right: np.ndarray) -> np.ndarray:
        """Own unknowns (own columns, k) of own rows (own rows, k)."""
        A, square = self.rows.with_ridge(ridge)
        T = np.zeros((A.getLocalSize()[0], right.shape[1]))
        T[: len(right)] = right
        try:
            found = iterate(A, T, rtol=RTOL, normal=square)
        finally:
            A.destroy()
            square.destroy()
        self.iterations += sum(found.iterations)
        return found.W

    def fitted(self, z: np.ndarray) -> np.ndarray:
        """Own rows of G z."""
        return self.rows.product(z)

    def best(self, errors: np.ndarray) -> float:
        """The ridge of the least expected error. errors: own rows of noise (rows, draws)."""
        scale, shape = self.rows.mean_square(), self.rows.sums.grid.shape
        total = reductions.total(self.comm, len(self.b))
        # What the grid misses is no noise, and a field goes up or down by its size along an axis.
        missed = (FLOOR * self.norm(self.b)) ** 2 / total
        least = missed * max(shape)
        if self.norm(errors.ravel()) ** 2 < missed * total * errors.shape[1]:
            return least
        right = np.column_stack([self.b, errors])
        best, ridge, lowest, rises = least, STRONGEST * scale, np.inf, 0
        while ridge > least and rises < RISES:
            z = self.solve(ridge, right)
            fitted = np.stack([self.fitted(own) for own in z.T], axis=1)
            freedom = reductions.total(self.comm, float((errors * fitted[:, 1:]).sum()))
            away = self.norm(fitted[:, 0] - self.b) ** 2
            expected = away + 2 * freedom / errors.shape[1]
            rises = rises + 1 if expected >= lowest else 0
            if expected < lowest:
                best, lowest = ridge, expected
            ridge /= STEP
        return best
