"""What values at m +- e dm, e falling, say of a derivative at m, told from rounding.

Central differences D(e) = (f(e) - f(-e)) / 2e have errors of even order, so that with steps of
ratio q

    R(e) = D(e) + (D(e) - D(q e)) / (q^2 - 1)                         (Richardson)

has one of order 4; the change of R from step to step, or rounding over e where that is larger,
estimates its error.

A remainder r(e) = a e + b e^2 + c e^3 + ... shows the order of its first term at the smallest steps
only: at larger ones terms of opposite sign cancel. The order is therefore taken from the smallest
steps at which r is above rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

ABOVE = 30.0
"""A remainder is above rounding where it is larger than this times the floor."""

WINDOW = 3
"""Steps from which an order is taken."""


@dataclass(frozen=True)
class Comparison:
    """A derivative beside central differences.

    difference: of the two; size: of the larger one; uncertainty: the error that the differences may
    have. All in the derivative's unit (norms of vectors).
    """

    difference: float
    size: float
    uncertainty: float

    @property
    def relative(self) -> float:
        """The difference over the size; 0 where both are 0."""
        return self.difference / self.size if self.size else self.difference

    @property
    def resolved(self) -> bool:
        """Whether the differences are exact enough to tell a derivative wrong by some per cent."""
        return math.isfinite(self.size) and self.uncertainty <= 1e-2 * self.size

    def agrees(self, limit: float) -> bool:
        """Within `limit` of the size, or within ten times what the differences may be wrong by.
        False for NaN."""
        return self.difference <= max(limit * self.size, 10 * self.uncertainty)


def order(steps: ArrayLike, remainders: ArrayLike, floor: ArrayLike) -> float:
    """Slope of log remainder over log step at the smallest steps above rounding.

    inf where no two remainders are above rounding: the derivative is exact. NaN where a remainder
    is not finite.
    """
    e, r = np.asarray(steps, float), np.asarray(remainders, float)
    if not (np.isfinite(r).all() and r.size):
        return math.nan
    above = np.flatnonzero(
        r > ABOVE * np.broadcast_to(np.asarray(floor, float), r.shape)
    )
    if above.size < 2:
        return math.inf
    window = above[np.argsort(e[above])][:WINDOW]
    pair = _slope(e[window[:2]], r[window[:2]])
    whole = _slope(e[window], r[window])
    # Where the three do not lie on a line, the two smallest are nearer to the first term.
    return whole if abs(whole - pair) < 0.1 else pair


def _slope(steps: np.ndarray, values: np.ndarray) -> float:
    return float(np.polyfit(np.log(steps), np.log(values), 1)[0])


def noise(steps: ArrayLike, here: float, plus: ArrayLike, minus: ArrayLike) -> float:
    """Rounding of values, from the smallest steps: their second differences, less what falls as
    e^2, and changes of the first differences."""
    e, up, down = (np.asarray(x, float) for x in (steps, plus, minus))
    if e.size < 3:
        return 0.0
    even, odd = up - 2 * here + down, (up - down) / 2
    ratio = e[1:] / e[:-1]
    rest_even = np.abs(even[1:] - ratio**2 * even[:-1])
    rest_odd = np.abs(odd[1:] - ratio * odd[:-1])
    return float(max(rest_even[-2:].max(), rest_odd[-2:].max()))


def compare(
    steps: ArrayLike,
    derivative: float,
    plus: ArrayLike,
    minus: ArrayLike,
    floor: ArrayLike,
) -> Comparison:
    """A derivative along a line beside differences of values."""
    e, up, down = (np.asarray(x, float) for x in (steps, plus, minus))
    return _extrapolated(e, derivative, (up - down) / (2 * e), np.asarray(floor) / e)


def compare_second(
    steps: ArrayLike,
    derivative: float,
    here: float,
    plus: ArrayLike,
    minus: ArrayLike,
    floor: ArrayLike,
) -> Comparison:
    """A second derivative along a line beside second differences of values."""
    e, up, down = (np.asarray(x, float) for x in (steps, plus, minus))
    return _extrapolated(
        e, derivative, (up - 2 * here + down) / e**2, 4 * np.asarray(floor) / e**2
    )


def _extrapolated(
    e: np.ndarray, derivative: float, central: np.ndarray, rounding: np.ndarray
) -> Comparison:
    """A derivative beside central differences of it at these steps, and what rounding makes of
    them."""
    if e.size < 3:
        return Comparison(math.nan, math.nan, math.nan)
    q = e[:-1] / e[1:]
    better = central[1:] + (central[1:] - central[:-1]) / (q**2 - 1)
    uncertainty = np.maximum(np.abs(np.diff(better)), rounding[2:])
    return best(
        np.abs(better[1:] - derivative),
        np.maximum(np.abs(better[1:]), abs(derivative)),
        uncertainty,
    )


def best(
    differences: np.ndarray, sizes: np.ndarray, uncertainties: np.ndarray
) -> Comparison:
    """The comparison with the most exact of the differences."""
    if not np.isfinite([differences, sizes, uncertainties]).all():
        return Comparison(math.nan, math.nan, math.nan)
    k = int(np.argmin(uncertainties))
    return Comparison(float(differences[k]), float(sizes[k]), float(uncertainties[k]))
