"""Rows of the weak form, for test functions phi on windows that overlap:

    r(u) = sum_j ((c_j d_x^a)* phi, f_j(u, x)) + (phi_t, u) - [phi u]_t = 0
    (c d_x^a)* phi = (-1)^a c phi^(a);    with c(x):
    c f_x:  -c phi_x - c_x phi,    (c f_x)_x:  c phi_xx + c_x phi_x

The weak form differentiates phi (and c) only, so that noise of u stays what it is. phi are products
of (1 - s^2)^p in time and in space, and all integrals are two small matrices applied to each f_j.
Windows may reach over the first and the last time, where phi u is then what it is.

What is seen is d = u + e. At first the rows are those of d. Where c is known about, they are

    r(v) + L (d - v) = L e,   L = dr/du at v,   v = d - L^T (L L^T)^-1 r(d)  (L at d),

weighted by (L L^T)^-1 (windows that overlap have errors that depend on each other). v is the state
next to d that obeys the rows (Gauss and Helmert's adjustment): its error has no part in L e, so
that products of both have no mean, which otherwise draws coefficients of derivatives to 0. What its
error adds to the mean of f_j, 3 e^2 u to u^3, is subtracted. Of a complex u the real and the
imaginary part of a row are two rows, and c_j and its i-fold are two terms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import Polynomial
from scipy import sparse
from scipy.linalg import cholesky_banded, lapack

from npde_opt.errors import InputError
from npde_opt.pseudoinverse.equation_error import Observed, Rows, Term, real

REGULAR = 1e-8
"""Relative addition to the variance of each row: windows that overlap are nearly dependent, and
rounding must not decide what their rows say."""
POWER = 8
"""p of the test functions: smooth enough for three derivatives and for sums as integrals."""
NARROW, LEAST = 3, 8
"""Fine windows are so many times narrower, but have this half width: weights make up for their
noise, and they see what is narrow too."""
ENDS = np.array([95 / 288, 317 / 240, 23 / 30, 793 / 720, 157 / 160])
"""Weights of the first and the last values of a sum that is an integral (Gregory)."""


@dataclass(frozen=True)
class Basis:
    """Functions of x of which a coefficient is a sum: values and slopes (functions, places)."""

    values: np.ndarray
    slopes: np.ndarray

    @classmethod
    def constant(cls, places: int) -> Basis:
        return cls(np.ones((1, places)), np.zeros((1, places)))


class Weak:
    """Rows of the weak form.

    Args:
        windows: half the width of test functions in steps of t and x; they overlap by half.
        fields: number of a term, and the functions of which its coefficient is a sum; others are
            constants. c are the coefficients of all functions of all terms.

    Raises:
        InputError: for windows that the grid does not hold, states that do not change, and a third
            derivative whose coefficient varies.
    """

    def __init__(
        self,
        seen: Observed,
        terms: Sequence[Term],
        windows: tuple[int, int],
        fields: Mapping[int, Basis] | None = None,
    ):
        self.seen, self.terms = seen, terms
        seen.refuse_still()
        for j in fields or {}:
            if terms[j].derivative > 2:
                told = f"{terms[j].name} with a coefficient that varies"
                raise InputError("equation: term", told, "up to two derivatives")
        one = Basis.constant(len(seen.x))
        self.bases = [(fields or {}).get(j, one) for j in range(len(terms))]
        self.wide = _Rows(seen, terms, self.bases, windows, beyond=False)
        narrow = [min(half, max(LEAST, half // NARROW)) for half in windows]
        self.narrow = _Rows(seen, terms, self.bases, (narrow[0], narrow[1]), True)

    def parts(self) -> list[slice]:
        """Columns of each term."""
        ends = np.cumsum([0, *(len(basis.values) for basis in self.bases)])
        return [slice(a, b) for a, b in zip(ends[:-1], ends[1:], strict=True)]

    def rows(self, c: np.ndarray | None = None, fine: bool = False) -> Rows:
        """Rows of equal and independent errors, where the coefficients are about c; None: as they
        are. fine: of narrow windows, which see more of the data, and errors of the grid too."""
        if c is None:
            return real(self.wide.columns(self.seen.u), self.wide.changes(self.seen.u))
        parts = [c[part] for part in self.parts()]
        d, rows = self.seen.u, self.narrow if fine else self.wide
        L, K = rows.errors(d, parts, 0.0)
        lengths = _solved(K, rows.residual(d, c))
        v = d - rows.state(L.T @ _solved(K, lengths, "T"))
        # Of the error of v: what the rows do not see.
        variance = float((lengths**2).mean()) * (2 if np.iscomplexobj(d) else 1)
        variance *= max(1 - len(lengths) / L.shape[1], 0.0)
        L, K = rows.errors(v, parts, variance)
        G, b = real(rows.columns(v, variance), rows.changes(v))
        b = b - L @ rows.flat(d - v)
        return _solved(K, G), _solved(K, b)


class _Rows:
    """Sums against test functions of one width; rows are (window of x, window of t)."""

    def __init__(
        self,
        seen: Observed,
        terms: Sequence[Term],
        bases: Sequence[Basis],
        windows: tuple[int, int],
        beyond: bool,
    ):
        self.seen, self.terms, self.bases = seen, terms, bases
        axes = []
        for name, axis, half in zip("tx", (seen.t, seen.x), windows, strict=True):
            if not 4 <= half <= (len(axis) - 1) // 2:
                allowed = f"4 to {(len(axis) - 1) // 2} steps"
                raise InputError(f"equation: half window along {name}", half, allowed)
            step = float(axis[1] - axis[0])
            axes.append(Bumps(len(axis), step, half, beyond and name == "t"))
        self.in_time, self.in_space = axes
        self.time = self.in_time.of(0)

    def changes(self, u: np.ndarray) -> np.ndarray:
        """(phi, u_t)."""
        found: np.ndarray = self.in_space.of(0) @ (self.in_time.changes() @ u).T
        return found.ravel()

    def columns(self, u: np.ndarray, variance: float = 0.0) -> np.ndarray:
        """G; variance: of the noise in u, whose mean effect is taken out."""
        found = []
        for term, basis in zip(self.terms, self.bases, strict=True):
            values = term.factor * term.value(u, self.seen.x, variance)
            summed = (self.time @ values).T
            if not basis.slopes.any() and len(basis.values) == 1:
                both = self._against(term, basis.values[0], basis.slopes[0]) @ summed
                found.append(both.reshape(-1, 1))
                continue
            found.append(self._varying(term, basis, summed))
        return np.concatenate(found, axis=1)

    def _varying(self, term: Term, basis: Basis, summed: np.ndarray) -> np.ndarray:
        """Columns of each function of a basis; summed: f over time (places, windows)."""

        def at_places(derivative: int) -> np.ndarray:
            phi = self.in_space.of(derivative)
            both: np.ndarray = phi[:, None, :] * summed.T[None, :, :]
            return both.reshape(-1, phi.shape[1])

        a = term.derivative
        found = at_places(a) @ basis.values.T
        if a:
            found = found + at_places(a - 1) @ basis.slopes.T
        whole: np.ndarray = (-1) ** a * found
        return whole

    def _against(self, term: Term, c: np.ndarray, slope: np.ndarray) -> np.ndarray:
        """Integrals against (c d_x^a)* phi (windows, places)."""
        a = term.derivative
        found = self.in_space.of(a) * c
        # Of a third derivative no coefficient varies.
        if a:
            found = found + self.in_space.of(a - 1) * slope
        whole: np.ndarray = (-1) ** a * found
        return whole

    def residual(self, u: np.ndarray, c: np.ndarray) -> np.ndarray:
        """r(u), real."""
        G, b = real(self.columns(u), self.changes(u))
        found: np.ndarray = G @ c - b
        return found

    def errors(
        self, v: np.ndarray, parts: Sequence[np.ndarray], variance: float
    ) -> tuple[sparse.csr_array, np.ndarray]:
        """L of real states, and the Cholesky factor of L L^T in bands."""
        time, x = sparse.csr_array(self.time), self.seen.x
        phi = sparse.csr_array(self.in_space.of(0))
        L = sparse.csr_array(sparse.kron(phi, -self.in_time.changes()), dtype=v.dtype)
        turned = sparse.csr_array(L.shape, dtype=v.dtype)
        for term, basis, c in zip(self.terms, self.bases, parts, strict=True):
            if not c.any():
                continue
            against = self._against(term, c @ basis.values, c @ basis.slopes)
            both = sparse.csr_array(sparse.kron(sparse.csr_array(against), time))
            L = L + both * (term.factor * term.slope(v, x, variance)).T.ravel()
            if np.iscomplexobj(v) and term.power > 1:
                slopes = term.factor * term.turned_slope(v, x, variance)
                turned = turned + both * slopes.T.ravel()
        L = _real_map(L, turned) if np.iscomplexobj(v) else sparse.csr_array(L)
        return L, _factor(sparse.coo_array(L @ L.T))

    def flat(self, u: np.ndarray) -> np.ndarray:
        """A state as L sees it, real."""
        turned = u.T.ravel()
        if not np.iscomplexobj(u):
            return turned
        return np.concatenate([turned.real, turned.imag])

    def state(self, flat: np.ndarray) -> np.ndarray:
        """[t, x] of what `flat` made."""
        shape = self.seen.u.shape[::-1]
        if not np.iscomplexobj(self.seen.u):
            return flat.reshape(shape).T
        parts = flat.reshape(2, *shape)
        found: np.ndarray = (parts[0] + 1j * parts[1]).T
        return found


@dataclass(frozen=True)
class Bumps:
    """Test functions on windows of an axis of n values, half a window apart.

    Args:
        beyond: whether windows reach over the ends.
        power: p of (1 - s^2)^p.
    """

    n: int
    spacing: float
    half: int
    beyond: bool = False
    power: int = POWER

    def of(self, derivative: int) -> np.ndarray:
        """Integrals against their derivative, as a matrix (windows, n)."""
        weights = np.full(self.n, self.spacing)
        if self.beyond:
            weights[: len(ENDS)] *= ENDS
            weights[-len(ENDS) :] *= ENDS[::-1]
        found: np.ndarray = self._values(derivative) * weights
        return found

    def changes(self) -> np.ndarray:
        """Integrals of u_t against them, by parts."""
        found = -self.of(1)
        if self.beyond:
            values = self._values(0)
            found[:, 0] -= values[:, 0]
            found[:, -1] += values[:, -1]
        return found

    def _values(self, derivative: int) -> np.ndarray:
        shape = Polynomial([1, 0, -1]) ** self.power
        scale = self.half * self.spacing
        s = np.arange(-self.half, self.half + 1) / self.half
        values = (shape.deriv(derivative) if derivative else shape)(s)
        stride, over = max(self.half // 2, 1), self.half if self.beyond else 0
        length = self.n + 2 * over
        starts = range(0, length - 2 * self.half, stride)
        matrix = np.zeros((len(starts), length))
        for row, start in enumerate(starts):
            matrix[row, start : start + 2 * self.half + 1] = values / scale**derivative
        return matrix[:, over : over + self.n].copy()


def _real_map(L: sparse.csr_array, turned: sparse.csr_array) -> sparse.csr_array:
    """e -> L e + turned conj(e), of real and imaginary parts; rows as `real` has them."""
    blocks = [
        [L.real + turned.real, turned.imag - L.imag],
        [L.imag + turned.imag, L.real - turned.real],
    ]
    rows = np.arange(2 * L.shape[0]).reshape(2, -1).T.ravel()
    return sparse.csr_array(sparse.block_array(blocks))[rows]


def _factor(A: sparse.coo_array) -> np.ndarray:
    """Of a symmetric matrix, by bands."""
    below = A.row >= A.col
    row, col = A.row[below], A.col[below]
    bands = np.zeros((int((row - col).max()) + 1, A.shape[0]))
    bands[row - col, col] = A.data[below]
    bands[0] *= 1 + REGULAR
    found: np.ndarray = cholesky_banded(bands, lower=True)
    return found


def _solved(K: np.ndarray, b: np.ndarray, trans: str = "N") -> np.ndarray:
    found, info = lapack.dtbtrs(K, b.reshape(len(b), -1), uplo="L", trans=trans)
    assert info == 0
    whole: np.ndarray = found.reshape(b.shape)
    return whole
