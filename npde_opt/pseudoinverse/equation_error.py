"""u_t = sum_j c_j d_x^a f_j(u, x): where u is observed on a grid, this is linear in the c_j.

    weak          (-phi_t, u) = sum_j c_j ((-d_x)^a phi, f_j(u, x))      for test functions phi
    differences   u_t and d_x^a f_j(u, x) by local polynomials           at points of the grid

Here are the states, the terms, and the rows of the second form; see weak.py for those of the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.signal import savgol_filter

from npde_opt.errors import InputError

DEGREE = 5
"""Of local polynomials."""
UNEVEN = 1e-3
"""The share of a step by which others may differ from the first."""
STILL = 1e-12
"""The share of the largest state by which states have to change."""
LARGE = 1e30
"""States, of which fifth powers are squared, up to which, and from whose inverse on, no number
overflows or is lost."""


def even(axis: np.ndarray, least: int) -> bool:
    """Whether there are so many values, which grow by equal steps, whatever their unit."""
    if len(axis) < least:
        return False
    steps = np.diff(axis)
    return bool((abs(steps - steps[0]) <= UNEVEN * steps[0]).all() and steps[0] > 0)


def refuse_still(size: float, change: float) -> None:
    """Raises InputError where states of a size change too little to say anything, or are of a size
    whose powers are no numbers."""
    if not change > STILL * size:
        told, allowed = (
            f"a largest change of {change:.1e}",
            "states that change in time",
        )
        raise InputError("equation: u", told, allowed)
    if not 1 / LARGE < size < LARGE:
        allowed = f"other units: up to {LARGE:.0e} and above {1 / LARGE:.0e}"
        raise InputError("equation: u", f"a largest state of {size:.1e}", allowed)


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
            if not even(axis, 10):
                raise InputError(
                    f"equation: {name}", f"{len(axis)} values", "10 at equal steps"
                )
        if not np.isfinite(self.u).all():
            raise InputError(
                "equation: u", "values that are not finite", "finite numbers"
            )

    def refuse_still(self) -> None:
        """Raises InputError where the states say nothing of an equation."""
        change = float(abs(self.u - self.u[0]).max())
        refuse_still(float(abs(self.u).max()), change)

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
        found: np.ndarray = _power(u, self.power)
        if variance and self.power > 1:
            found = found - self._excess(u, variance) * _power(u, self.power - 2)
        whole: np.ndarray = x**self.place * found
        return whole

    def slope(self, u: np.ndarray, x: np.ndarray, variance: float = 0.0) -> np.ndarray:
        """Derivative of `value`; of a complex u what multiplies e and not its conjugate."""
        found: np.ndarray = _slope(u, self.power)
        if variance and self.power > 2:
            found = found - self._excess(u, variance) * _slope(u, self.power - 2)
        whole: np.ndarray = x**self.place * found
        return whole

    def turned_slope(self, u: np.ndarray, x: np.ndarray, variance: float) -> np.ndarray:
        """Of a complex u: what multiplies the conjugate of e."""
        found: np.ndarray = _turned_slope(u, self.power)
        if variance and self.power > 3:
            found = found - self._excess(u, variance) * _turned_slope(u, self.power - 2)
        whole: np.ndarray = x**self.place * found
        return whole

    def _excess(self, u: np.ndarray, variance: float) -> float:
        """What noise adds to the mean of f, over the power that is lower by two."""
        p = self.power
        # Of a complex u a quarter of the Laplacian by (re, im), each with half of the variance.
        return variance * ((p**2 - 1) / 4 if np.iscomplexobj(u) else p * (p - 1) / 2)


def _power(u: np.ndarray, p: int) -> np.ndarray:
    return abs(u) ** (p - 1) * u if np.iscomplexobj(u) else u**p


def _slope(u: np.ndarray, p: int) -> np.ndarray:
    if np.iscomplexobj(u):
        return (p + 1) / 2 * abs(u) ** (p - 1)
    found: np.ndarray = p * u ** (p - 1)
    return found


def _turned_slope(u: np.ndarray, p: int) -> np.ndarray:
    """(p - 1)/2 |u|^(p - 3) u^2."""
    size = abs(u)
    phase = np.divide(u, size, out=np.zeros_like(u), where=size > 0)
    found: np.ndarray = (p - 1) / 2 * size ** (p - 1) * phase**2
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


class Differences:
    """Rows of derivatives by local polynomials of u [t, x], smoothed along both axes first.

    Args:
        windows: half the width of the polynomials in steps of t and x.

    Raises:
        InputError: for windows that the grid does not hold, and states that do not change.
    """

    def __init__(self, seen: Observed, terms: Sequence[Term], windows: tuple[int, int]):
        seen.refuse_still()
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

    def rows(self, c: np.ndarray | None = None, fine: bool = False) -> Rows:
        """Points a half window apart, whose errors are taken for equal and independent."""
        return real(self.G, self.b)


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


def real(G: np.ndarray, b: np.ndarray) -> Rows:
    """The real and the imaginary part of each complex row, one after the other."""
    if not np.iscomplexobj(G):
        return G, b
    both = np.stack([G.real, G.imag], axis=1).reshape(-1, G.shape[1])
    return both, np.stack([b.real, b.imag], axis=1).ravel()
