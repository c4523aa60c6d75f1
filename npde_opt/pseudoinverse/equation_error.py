"""u_t = sum_j c_j d_x^a f_j(u, x): where u is observed on a grid, this is linear in the c_j.

    weak          (-phi_t, u) = sum_j c_j ((-d_x)^a phi, f_j(u, x))      for test functions phi
    differences   u_t and d_x^a f_j(u, x) by local polynomials           at points of the grid

The weak form differentiates the test functions only, so that noise of u stays what it is. They are
products of (1 - s^2)^p in time and in space, on windows of the grid, and all integrals are two
small matrices applied to each f_j. Errors e of u make errors of the rows

    L e,    L = -(phi_t, .) - sum_j c_j ((-d_x)^a phi, f_j'(u) .)

of which those of windows that overlap depend on each other: rows are weighted by (L L^T)^-1. What
is left of the rows then tells the variance of e, and so what noise adds to the mean of f_j, which
is subtracted: 3 e^2 u of u^3. Of a complex u the real and the imaginary part of a row are two rows,
and c_j and its i-fold are two terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.polynomial import Polynomial
from scipy import sparse
from scipy.linalg import cholesky, solve_triangular
from scipy.signal import savgol_filter

from npde_opt.errors import InputError

REGULAR = 1e-8
"""Relative addition to the variance of each row."""
POWER = 8
"""p of the test functions: smooth enough for three derivatives and for sums as integrals."""
DEGREE = 5
"""Of local polynomials."""


@dataclass(frozen=True)
class Observed:
    """u [t, x], real or complex, on equal steps of t and x.

    Raises:
        InputError: for other shapes, unequal steps and values that are not finite.
    """

    t: np.ndarray
    x: np.ndarray
    u: np.ndarray

    def __post_init__(self) -> None:
        if self.u.shape != (len(self.t), len(self.x)):
            wanted = f"({len(self.t)}, {len(self.x)}), times and places"
            raise InputError("equation: u", f"shape {self.u.shape}", wanted)
        for name, axis in (("t", self.t), ("x", self.x)):
            steps = np.diff(axis)
            if (
                len(axis) < 8
                or not np.allclose(steps, steps[0], rtol=1e-3)
                or steps[0] <= 0
            ):
                raise InputError(
                    f"equation: {name}", f"{len(axis)} values", "8 at equal steps"
                )
        if not np.isfinite(self.u).all():
            raise InputError(
                "equation: u", "values that are not finite", "finite numbers"
            )

    def with_noise(self, share: float, seed: int) -> Observed:
        """Normal noise of `share` of the root mean square of u, on each part of a complex u."""
        rng = np.random.default_rng(seed)
        size = share * float(np.sqrt((abs(self.u) ** 2).mean()))
        noise = rng.standard_normal(self.u.shape)
        if np.iscomplexobj(self.u):
            noise = (noise + 1j * rng.standard_normal(self.u.shape)) / np.sqrt(2)
        return Observed(self.t, self.x, self.u + size * noise)


@dataclass(frozen=True)
class Term:
    """d_x^derivative f(u, x), times i where its coefficient is imaginary;
    f = x^place |u|^(power - 1) u; of a real u this is x^place u^power.
    """

    name: str
    derivative: int = 0
    power: int = 1
    place: int = 0
    imaginary: bool = False

    @property
    def factor(self) -> complex:
        return 1j if self.imaginary else 1.0

    def value(self, u: np.ndarray, x: np.ndarray, variance: float = 0.0) -> np.ndarray:
        """f of u [t, x]; without what noise of a variance adds to it in the mean, but for terms of
        the variance's square."""
        p = self.power
        if np.iscomplexobj(u):
            raised = abs(u) ** (p - 1) * u
            # A quarter of the Laplacian by (re, im), each of which has half of the variance.
            excess = (p**2 - 1) / 4 * abs(u) ** max(p - 3, 0) * u
        else:
            raised = u**p
            excess = p * (p - 1) / 2 * u ** max(p - 2, 0)
        found: np.ndarray = x**self.place * (raised - variance * excess)
        return found

    def slope(self, u: np.ndarray, x: np.ndarray) -> np.ndarray:
        """f' of u; of a complex u what multiplies e and not its conjugate."""
        p = self.power
        steep = (
            (p + 1) / 2 * abs(u) ** (p - 1) if np.iscomplexobj(u) else p * u ** (p - 1)
        )
        found: np.ndarray = x**self.place * steep
        return found


def library(is_complex: bool) -> list[Term]:
    """The terms that are looked for: powers, derivatives up to the third, of squares too; of a
    complex u odd powers and potentials, each with a real and an imaginary coefficient."""
    if not is_complex:
        terms = [Term(_power_name(n), 0, n) for n in range(1, 6)]
        terms += [Term(f"u_{'x' * d}", d) for d in (1, 2, 3)]
        return terms + [
            Term(f"(u^{n})_{'x' * d}", d, n) for n in (2, 3) for d in (1, 2)
        ]
    parts = [Term("u"), Term("|u|^2 u", 0, 3), Term("|u|^4 u", 0, 5)]
    parts += [Term(f"u_{'x' * d}", d) for d in (1, 2, 3)]
    parts += [Term("x u", place=1), Term("x^2 u", place=2)]
    turned = [replace(part, name=f"i {part.name}", imaginary=True) for part in parts]
    return [term for pair in zip(parts, turned, strict=True) for term in pair]


def _power_name(n: int) -> str:
    return "u" if n == 1 else f"u^{n}"


Rows = tuple[np.ndarray, np.ndarray]
"""G (rows, terms) and b (rows,), real."""


class Weak:
    """Rows of the weak form.

    Args:
        windows: half the width of test functions in steps of t and x; they overlap by half.

    Raises:
        InputError: for windows that the grid does not hold.
    """

    def __init__(self, seen: Observed, terms: Sequence[Term], windows: tuple[int, int]):
        self.seen, self.terms = seen, terms
        self.tests = []
        for name, axis, half in zip("tx", (seen.t, seen.x), windows, strict=True):
            if not 4 <= half <= (len(axis) - 1) // 2:
                allowed = f"4 to {(len(axis) - 1) // 2} steps"
                raise InputError(f"equation: half window along {name}", half, allowed)
            self.tests.append(
                _Tests(len(axis), float(axis[1] - axis[0]), half, half // 2)
            )
        in_time, in_space = self.tests
        self.b = -(in_time.of(1) @ seen.u @ in_space.of(0).T).ravel()
        self.G = self._columns()

    def _columns(self, variance: float = 0.0) -> np.ndarray:
        """G; variance: of the noise in u, whose mean effect is taken out."""
        in_time, columns = self.tests[0].of(0), []
        for term in self.terms:
            values = term.factor * term.value(self.seen.u, self.seen.x, variance)
            columns.append((in_time @ values @ self._signed(term).T).ravel())
        return np.stack(columns, axis=1)

    def _signed(self, term: Term) -> np.ndarray:
        """Integrals against (-d_x)^a phi."""
        found: np.ndarray = (-1) ** term.derivative * self.tests[1].of(term.derivative)
        return found

    def rows(self, c: np.ndarray | None = None) -> Rows:
        """Rows of equal and independent errors, where the coefficients are c, and the noise that
        is left of them has no part in the mean of G; None: as they are."""
        if c is None:
            return _real(self.G, self.b)
        in_time, in_space = (test.of(0) for test in self.tests)
        u, x = self.seen.u, self.seen.x
        L = sparse.csr_array(sparse.kron(self.tests[0].of(1), in_space))
        for term, number in zip(self.terms, c, strict=True):
            if number:
                slopes = (number * term.factor * term.slope(u, x)).ravel()
                both = sparse.csr_array(sparse.kron(in_time, self._signed(term)))
                L = L + both * slopes
        errors = (L @ L.conj().T).toarray()
        # Windows that overlap are nearly dependent; rounding must not decide what their rows say.
        errors[np.diag_indices(len(errors))] *= 1 + REGULAR
        K = cholesky(errors, lower=True)
        left = solve_triangular(K, self.G @ c - self.b, lower=True)
        G = self._columns(float((abs(left) ** 2).mean()))
        return _real(*(solve_triangular(K, side, lower=True) for side in (G, self.b)))


@dataclass(frozen=True)
class _Tests:
    """Test functions on windows of an axis of n values, `step` apart."""

    n: int
    spacing: float
    half: int
    stride: int

    def of(self, derivative: int) -> np.ndarray:
        """Integrals against their derivative, as a matrix (windows, n)."""
        shape = Polynomial([1, 0, -1]) ** POWER
        scale = self.half * self.spacing
        s = np.arange(-self.half, self.half + 1) / self.half
        values = shape.deriv(derivative)(s) if derivative else shape(s)
        values = values * self.spacing / scale**derivative
        starts = range(0, self.n - 2 * self.half, self.stride)
        matrix = np.zeros((len(starts), self.n))
        for row, start in enumerate(starts):
            matrix[row, start : start + 2 * self.half + 1] = values
        return matrix


class Differences:
    """Rows of derivatives by local polynomials of u [t, x], smoothed along both axes first.

    Args:
        windows: half the width of the polynomials in steps of t and x.

    Raises:
        InputError: for windows that the grid does not hold.
    """

    def __init__(self, seen: Observed, terms: Sequence[Term], windows: tuple[int, int]):
        steps = [float(axis[1] - axis[0]) for axis in (seen.t, seen.x)]
        smooth = _local(_local(seen.u, 0, windows, steps, 0), 0, windows, steps, 1)
        # Twice a half window from the ends: derivatives there see what was smoothed from one side.
        inner = tuple(slice(2 * half, -2 * half, half) for half in windows)
        self.b = _local(_local(seen.u, 1, windows, steps, 0), 0, windows, steps, 1)[
            inner
        ].ravel()
        columns = []
        for term in terms:
            values = term.factor * term.value(smooth, seen.x)
            columns.append(
                _local(values, term.derivative, windows, steps, 1)[inner].ravel()
            )
        self.G = np.stack(columns, axis=1)

    def rows(self, c: np.ndarray | None = None) -> Rows:
        """Points a half window apart, whose errors are taken for equal and independent."""
        return _real(self.G, self.b)


FORMS: dict[str, type[Weak] | type[Differences]] = {
    "weak": Weak,
    "differences": Differences,
}


def _local(
    u: np.ndarray,
    derivative: int,
    windows: tuple[int, int],
    steps: list[float],
    axis: int,
) -> np.ndarray:
    if np.iscomplexobj(u):
        real, imaginary = (
            _local(part, derivative, windows, steps, axis) for part in (u.real, u.imag)
        )
        both: np.ndarray = real + 1j * imaginary
        return both
    width = 2 * windows[axis] + 1
    if not DEGREE < width <= u.shape[axis] // 2:
        allowed = f"{(DEGREE + 1) // 2} to {(u.shape[axis] // 2 - 1) // 2} steps"
        raise InputError(
            f"equation: half window along {'tx'[axis]}", windows[axis], allowed
        )
    found: np.ndarray = savgol_filter(
        u, width, DEGREE, derivative, delta=steps[axis], axis=axis, mode="nearest"
    )
    return found


def _real(G: np.ndarray, b: np.ndarray) -> Rows:
    """The real and the imaginary parts of complex rows."""
    if not np.iscomplexobj(G):
        return G, b
    return np.concatenate([G.real, G.imag]), np.concatenate([b.real, b.imag])
