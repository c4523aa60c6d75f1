"""Quantiles of Student's t, without a library that takes half a second to be loaded.

With t = sqrt(nu) tan(phi) the density of nu degrees of freedom becomes cos(phi)^(nu - 1) over its
integral, which Simpson's rule takes to rounding: it is smooth, and as wide as 1/sqrt(nu).
"""

from __future__ import annotations

import math

import numpy as np

PANELS = 2000
WIDE = 40.0
"""Widths 1/sqrt(nu) beyond which nothing is left of the density."""


def t_quantile(freedom: float, probability: float) -> float:
    """The t that a variable of this distribution stays below with a probability of 1/2 or more."""
    end = min(math.pi / 2, WIDE / math.sqrt(freedom))
    whole = 2 * _integral(freedom, end)
    phi = 0.0
    # Newton's method from the left, where the distribution function is concave.
    for _ in range(100):
        missing = probability - 0.5 - _integral(freedom, phi) / whole
        step = missing * whole / math.cos(phi) ** (freedom - 1)
        phi = min(phi + step, (phi + math.pi / 2) / 2)
        if abs(step) <= 1e-15 * phi:
            break
    return math.sqrt(freedom) * math.tan(phi)


def _integral(freedom: float, end: float) -> float:
    """Of cos(phi)^(nu - 1) from 0 to an end, by Simpson's rule."""
    phi = np.linspace(0.0, end, PANELS + 1)
    values = np.cos(phi) ** (freedom - 1)
    sum_of_values = values[0] + values[-1] + 4 * values[1::2].sum()
    sum_of_values += 2 * values[2:-1:2].sum()
    return float(sum_of_values) * end / PANELS / 3
