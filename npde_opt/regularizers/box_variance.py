"""The variance of a prior in a box without a mask: see prior_variance.py.

On a box L is a sum over axes. With heat kernels of each axis, h_d(t, i) = sum_a v_a(i)^2
exp(-lambda_a t) from the eigenpairs of its 1-D operator, the variance is

    (K^-1 M K^-1)_ii = int_0^inf t exp(-delta t) prod_d h_d(t, i_d) dt,

here by the trapezoidal rule in log t: to 1e-4 of the discrete operator's variance, with arrays of
one axis only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from npde_opt.grids.geometry import Geometry
from npde_opt.packages import scipy

LOG_STEP = 0.25
LONGEST, SHORTEST = 40.0, 1e-3
"""Times of the quadrature, in units of 1/delta and of the fastest decay."""


@dataclass(frozen=True)
class Box:
    """A tensor grid: edges of the cells of each axis, which axes are periodic, and whether the
    first is a radius."""

    edges: tuple[np.ndarray, ...]
    periodic: tuple[bool, ...]
    radial: bool = False

    @cached_property
    def geometry(self) -> Geometry:
        return Geometry(self.edges, self.radial)

    @property
    def widths(self) -> list[np.ndarray]:
        return [np.diff(e) for e in self.edges]

    @property
    def centers(self) -> list[np.ndarray]:
        return [(e[1:] + e[:-1]) / 2 for e in self.edges]

    def distances(self, axis: int) -> np.ndarray:
        """Between the centres of neighbours, the one across the period last where there is one."""
        lower, upper = self.geometry.halves[axis]
        inside, across = upper[:-1] + lower[1:], upper[-1] + lower[0]
        return (
            np.append(inside, across)
            if self.periodic[axis] and lower.size > 1
            else inside
        )

    def faces(self, axis: int) -> np.ndarray:
        """Factors in areas of the faces that `distances` are across."""
        return self.geometry.faces[axis][1 : 1 + self.distances(axis).size]

    def variance(
        self, diffusivities: Sequence[float], delta: float, part: tuple[slice, ...]
    ) -> np.ndarray:
        """In the cells of a part of the box."""
        pairs = [self._eigenpairs(d, D) for d, D in enumerate(diffusivities)]
        fastest = sum(float(values[-1]) for values, _ in pairs) + delta
        s = np.arange(
            np.log(SHORTEST / fastest), np.log(LONGEST / delta) + LOG_STEP, LOG_STEP
        )
        times = np.exp(s)
        kernels = [
            (vectors[part[d]] ** 2) @ np.exp(-np.outer(values, times))
            for d, (values, vectors) in enumerate(pairs)
        ]
        weights = LOG_STEP * times**2 * np.exp(-delta * times)
        total = np.zeros([k.shape[0] for k in kernels])
        for q, weight in enumerate(weights):
            term = np.asarray(weight)
            for kernel in kernels:
                term = np.multiply.outer(term, kernel[:, q])
            total += term
        return total

    def _eigenpairs(self, axis: int, D: float) -> tuple[np.ndarray, np.ndarray]:
        """Of M^-1 L on one axis, with vectors of unit M-norm in columns."""
        flow = D * self.faces(axis) / self.distances(axis)
        scale = 1 / np.sqrt(self.geometry.measures[axis])
        n = scale.size
        diagonal = np.zeros(n)
        diagonal[:-1] += flow[: n - 1]
        diagonal[1:] += flow[: n - 1]
        if flow.size == n and n > 1:
            diagonal[[0, -1]] += flow[-1]
            A = np.diag(diagonal) - np.diag(flow[:-1], 1) - np.diag(flow[:-1], -1)
            A[0, -1] -= flow[-1]
            A[-1, 0] -= flow[-1]
            values, vectors = scipy.linalg.eigh(A * np.outer(scale, scale))
        else:
            values, vectors = scipy.linalg.eigh_tridiagonal(
                diagonal * scale**2, -flow * scale[1:] * scale[:-1]
            )
        return np.maximum(values, 0.0), vectors * scale[:, None]
