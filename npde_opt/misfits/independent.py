"""phi(d) = sum_k rho((d_k - y_k) / sigma_k) for predicted data d, measured y and standard
deviations sigma, over all outputs and columns.

Least squares rho = t^2/2; Huber rho = t^2/2 up to |t| = threshold and linear beyond; Student-t
rho = (nu + 1)/2 log(1 + t^2/nu). A NaN in y means: not observed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np

from npde_opt import reductions
from npde_opt.errors import InputError, collective
from npde_opt.misfits.interface import Misfit
from npde_opt.observations.data import ALL, DataBlock, DataLayout, Metric


class Diagonal:
    """W d = w d, entry by entry; `weights` has the owned outputs (outputs here, columns)."""

    def __init__(self, weights: np.ndarray):
        self.weights = weights

    def apply(self, d: DataBlock, columns: slice = ALL) -> None:
        d.values[:, columns] *= self.weights[:, columns]


class Independent(Misfit):
    """Weighted least squares, and the base of the robust ones, which have another rho.

    Args:
        observed: measured values (outputs, columns), NaN where not observed; of a single column
            also (outputs,). All of them on every rank, by sampling, time and place; with `owned`
            those of this rank, in the layout's order, and so sigma.
        sigma: standard deviation, in the unit of the data: a number, one an output (outputs,), or
            what broadcasts to (outputs, columns); positive.
        layout: of the predicted data.

    Raises:
        InputError: for other numbers of values, and for sigma that is not positive.
    """

    def __init__(
        self,
        observed: np.ndarray,
        sigma: float | np.ndarray,
        layout: DataLayout,
        owned: bool = False,
    ):
        if owned:
            own = layout.own(observed)
            counts = reductions.total(layout.comm, np.isfinite(own).sum(axis=0))
        else:
            y = layout.array(observed)
            own, counts = y[layout.order], np.isfinite(y).sum(axis=0)
        deviations = _deviations(sigma, layout, owned)
        super().__init__(layout, counts)
        self.weight = np.where(np.isfinite(own), 1 / deviations, 0.0)
        self.observed = np.nan_to_num(own)

    def over(self, columns: Sequence[int] | np.ndarray) -> Self:
        part = super().over(columns)
        part.weight = np.take(self.weight, columns, axis=1)
        part.observed = np.take(self.observed, columns, axis=1)
        return part

    def scaled(self, d: DataBlock) -> np.ndarray:
        """(d - y) / sigma at the owned data, 0 where not observed."""
        found: np.ndarray = d.values - self.observed
        found *= self.weight
        return found

    def rho(self, t: np.ndarray) -> np.ndarray:
        found: np.ndarray = t**2
        found /= 2
        return found

    def slope(self, t: np.ndarray) -> np.ndarray:
        return t

    def curvature(self, t: np.ndarray) -> np.ndarray:
        return np.ones_like(t)

    def majorant(self, t: np.ndarray) -> np.ndarray:
        """A non-negative curvature for Gauss-Newton."""
        return self.curvature(t)

    def values(self, d: DataBlock) -> np.ndarray:
        own = self.rho(self.scaled(d)).sum(axis=0)
        return reductions.total(self.layout.comm, own)

    def chi_squared(self, d: DataBlock) -> float:
        own = float((self.scaled(d) ** 2).sum())
        return reductions.total(self.layout.comm, own) / max(self.count, 1)

    def gradient(self, d: DataBlock) -> DataBlock:
        return d.like(self.weight * self.slope(self.scaled(d)))

    def hessian_metric(self, d: DataBlock) -> Metric:
        return Diagonal(self.weight**2 * self.curvature(self.scaled(d)))

    def gauss_newton_metric(self, d: DataBlock) -> Metric:
        return Diagonal(self.weight**2 * self.majorant(self.scaled(d)))


def _deviations(
    sigma: float | np.ndarray, layout: DataLayout, owned: bool
) -> np.ndarray:
    """Of the owned outputs (outputs here, columns), of which all are positive; given as all, or as
    the `owned` ones. Collective."""
    s = np.asarray(sigma, float)
    if s.ndim > 0 and layout.columns == 1:
        s = s.reshape(-1, 1)
    elif s.ndim == 1:
        s = s[:, None]
    shape = (layout.order.size if owned else layout.size, layout.columns)
    with collective(layout.comm):
        try:
            s = np.broadcast_to(s, shape)
        except ValueError as error:
            wanted = f"a number, {shape[0]} values, or {shape[0]} outputs x {shape[1]} columns"
            raise InputError("sigma", f"shape {np.shape(sigma)}", wanted) from error
        good = np.isfinite(s) & (s > 0)
        if not good.all():
            raise InputError(
                "sigma", float(s[~good][0]), "positive standard deviations"
            )
    return s if owned else s[layout.order]


class LeastSquares(Independent):
    """phi = 1/2 sum ((d - y) / sigma)^2."""


class Huber(Independent):
    """Quadratic up to `threshold` standard deviations, linear beyond."""

    def __init__(
        self,
        observed: np.ndarray,
        sigma: float | np.ndarray,
        layout: DataLayout,
        threshold: float = 1.345,
        owned: bool = False,
    ):
        super().__init__(observed, sigma, layout, owned)
        if not threshold > 0:
            raise InputError(
                "misfit.threshold",
                threshold,
                "a positive number of standard deviations",
            )
        self.threshold = threshold

    def rho(self, t: np.ndarray) -> np.ndarray:
        a = np.abs(t)
        return np.where(
            a <= self.threshold, t**2 / 2, self.threshold * (a - self.threshold / 2)
        )

    def slope(self, t: np.ndarray) -> np.ndarray:
        return np.clip(t, -self.threshold, self.threshold)

    def curvature(self, t: np.ndarray) -> np.ndarray:
        return (np.abs(t) <= self.threshold).astype(float)

    def majorant(self, t: np.ndarray) -> np.ndarray:
        return self.threshold / np.maximum(np.abs(t), self.threshold)


class StudentT(Independent):
    """Student-t with `nu` degrees of freedom."""

    def __init__(
        self,
        observed: np.ndarray,
        sigma: float | np.ndarray,
        layout: DataLayout,
        nu: float = 4.0,
        owned: bool = False,
    ):
        super().__init__(observed, sigma, layout, owned)
        if not nu > 0:
            raise InputError("misfit.nu", nu, "positive degrees of freedom")
        self.nu = nu

    def rho(self, t: np.ndarray) -> np.ndarray:
        return (self.nu + 1) / 2 * np.log1p(t**2 / self.nu)

    def slope(self, t: np.ndarray) -> np.ndarray:
        return (self.nu + 1) * t / (self.nu + t**2)

    def curvature(self, t: np.ndarray) -> np.ndarray:
        return (self.nu + 1) * (self.nu - t**2) / (self.nu + t**2) ** 2

    def majorant(self, t: np.ndarray) -> np.ndarray:
        return (self.nu + 1) / (self.nu + t**2)


FLOOR = 1e-3


def default_floor(observed: np.ndarray) -> float:
    """FLOOR times the largest of the data (1 where all are 0), NaN left out."""
    largest = float(np.nanmax(np.abs(observed), initial=0.0))
    return FLOOR * largest if largest > 0 else 1.0


class ProportionalErrors(Independent):
    """Errors that grow with the predicted value: phi = 1/2 sum t^2, t = (d - y) / (sigma max(|d|,
    floor)^power).

    Generalised least squares of count data (power 0.2 to 0.5) and of relative errors (power 1).

    Args:
        floor: in the unit of the data; None: a share of the largest (see `default_floor`).
    """

    def __init__(
        self,
        observed: np.ndarray,
        sigma: float | np.ndarray,
        layout: DataLayout,
        power: float = 1.0,
        floor: float | None = None,
        owned: bool = False,
    ):
        super().__init__(observed, sigma, layout, owned)
        if floor is None:
            own = float(np.abs(self.observed).max(initial=0.0))
            floor = default_floor(np.array([reductions.largest(layout.comm, own)]))
        if not (power >= 0 and floor > 0):
            raise InputError(
                "misfit.power, floor",
                (power, floor),
                "a power >= 0 and a positive floor",
            )
        self.power, self.floor = power, floor

    def _size(self, d: DataBlock) -> tuple[np.ndarray, np.ndarray]:
        """max(|d|, floor), and d/dd of its logarithm."""
        values = d.values
        size = np.maximum(np.abs(values), self.floor)
        return size, np.where(
            np.abs(values) > self.floor, 1 / np.where(values == 0, 1, values), 0.0
        )

    def scaled(self, d: DataBlock) -> np.ndarray:
        return super().scaled(d) * self._size(d)[0] ** -self.power

    def _slopes(self, d: DataBlock) -> tuple[np.ndarray, np.ndarray]:
        """dt/dd and d2t/dd2 with t = w (d - y) s^-p: s' / s = l, l' = -l^2."""
        size, log_slope = self._size(d)
        w, t = self.weight * size**-self.power, self.scaled(d)
        p = self.power
        return w - p * log_slope * t, -2 * p * log_slope * w + p * (
            p + 1
        ) * log_slope**2 * t

    def gradient(self, d: DataBlock) -> DataBlock:
        return d.like(self.scaled(d) * self._slopes(d)[0])

    def hessian_metric(self, d: DataBlock) -> Metric:
        first, second = self._slopes(d)
        return Diagonal(first**2 + self.scaled(d) * second)

    def gauss_newton_metric(self, d: DataBlock) -> Metric:
        return Diagonal(self._slopes(d)[0] ** 2)
