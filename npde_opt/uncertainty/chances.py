"""How likely a sum of squares is as small, or as large, as it was found.

A chi^2 of n data is below x with probability P(n/2, x/2), above it with Q = 1 - P, the regularized
incomplete gamma functions

    P(a, x) = x^a e^-x / Gamma(a + 1) (1 + x/(a+1) + x^2/((a+1)(a+2)) + ...),
    Q(a, x) = x^a e^-x / Gamma(a) / (x+1-a - 1 (1-a)/(x+3-a - 2 (2-a)/(x+5-a - ...))).

The series is taken below x = a + 1, the continued fraction (by Lentz's method) above it. scipy has
both, and takes a fifth of a small run to load.
"""

from __future__ import annotations

import math
from itertools import count

ROUNDING = 1e-15
TINY = 1e-300
"""In place of a denominator that is 0."""


def below(chi_squared: float, data: float) -> float:
    """The probability of a sum of squares below this one.

    Args:
        chi_squared: the sum, in units of the noise; >= 0.
        data: how many squares; > 0.
    """
    a, x = data / 2, chi_squared / 2
    return _series(a, x) if x < a + 1 else 1 - _fraction(a, x)


def above(chi_squared: float, data: float) -> float:
    """That of a sum above it, for arguments see `below`."""
    a, x = data / 2, chi_squared / 2
    return 1 - _series(a, x) if x < a + 1 else _fraction(a, x)


def _front(a: float, x: float) -> float:
    """x^a e^-x / Gamma(a)"""
    return math.exp(a * math.log(x) - x - math.lgamma(a))


def _series(a: float, x: float) -> float:
    if x <= 0:
        return 0.0
    term = total = 1 / a
    for n in count(1):
        term *= x / (a + n)
        total += term
        if term <= ROUNDING * total:
            break
    return _front(a, x) * total


def _fraction(a: float, x: float) -> float:
    if x == math.inf:
        return 0.0
    b = x + 1 - a
    c, d = 1 / TINY, 1 / (b or TINY)
    found = d
    for n in count(1):
        part, b = n * (a - n), b + 2
        d = 1 / (part * d + b or TINY)
        c = part / c + b or TINY
        found *= c * d
        if abs(c * d - 1) <= ROUNDING:
            break
    return _front(a, x) * found
