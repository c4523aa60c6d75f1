"""phi(d) = sum_k rho((d_k - y_k) / sigma_k) for predicted data d, measured y and standard
deviations sigma.

Least squares rho = t^2/2; Huber rho = t^2/2 up to |t| = threshold and linear beyond; Student-t
rho = (nu + 1)/2 log(1 + t^2/nu). A NaN in y means: not observed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.errors import InputError


class Diagonal:
    """W d = w d, entry by entry."""

    def __init__(self, weights: PETSc.Vec):
        self.weights = weights

    def apply(self, d: PETSc.Vec) -> None:
        d.pointwiseMult(d, self.weights)

    def destroy(self) -> None:
        self.weights.destroy()


class Misfit:
    """Weighted least squares, and the base of the robust ones.

    Args:
        observed: global array of measured values (given on every rank); NaN where not observed.
        sigma: standard deviation, a number or one a datum, in the unit of the data; positive.
        layout: a Vec with the predicted data's ownership.
    """

    def __init__(self, observed: np.ndarray, sigma: float | np.ndarray, layout: PETSc.Vec):
        y = np.asarray(observed, float).ravel()
        s = np.broadcast_to(np.asarray(sigma, float), y.shape)
        if y.size != layout.getSize():
            raise InputError(
                "data", f"{y.size} values", f"{layout.getSize()} values, one an observation"
            )
        if not (np.isfinite(s) & (s > 0)).all():
            raise InputError(
                "sigma", float(s[~(np.isfinite(s) & (s > 0))][0]), "positive standard deviations"
            )
        own = slice(*layout.getOwnershipRange())
        self.comm = layout.getComm().tompi4py()
        self.count = int(np.isfinite(y).sum())
        self.observed, self.sigma = y[own], s[own]
        self.weight = np.where(np.isfinite(self.observed), 1 / self.sigma, 0.0)
        self.observed = np.nan_to_num(self.observed)

    def scaled(self, d: PETSc.Vec) -> np.ndarray:
        """(d - y) / sigma at the owned data, 0 where not observed."""
        return self.weight * (d.getArray(readonly=True) - self.observed)

    def rho(self, t: np.ndarray) -> np.ndarray:
        return t**2 / 2

    def slope(self, t: np.ndarray) -> np.ndarray:
        return t

    def curvature(self, t: np.ndarray) -> np.ndarray:
        return np.ones_like(t)

    def majorant(self, t: np.ndarray) -> np.ndarray:
        """A non-negative curvature for Gauss-Newton."""
        return self.curvature(t)

    def value(self, d: PETSc.Vec) -> float:
        return reductions.total(self.comm, float(self.rho(self.scaled(d)).sum()))

    def chi_squared(self, d: PETSc.Vec) -> float:
        """sum of squared scaled residuals over the number of data; about 1 at the noise level."""
        return reductions.total(self.comm, float((self.scaled(d) ** 2).sum())) / max(self.count, 1)

    def gradient(self, d: PETSc.Vec) -> PETSc.Vec:
        return self._vec(d, self.weight * self.slope(self.scaled(d)))

    def hessian_weights(self, d: PETSc.Vec) -> Any:
        """W of the second derivative: `apply(d)` multiplies in place."""
        return Diagonal(self._vec(d, self.weight**2 * self.curvature(self.scaled(d))))

    def gauss_newton_weights(self, d: PETSc.Vec) -> Any:
        return Diagonal(self._vec(d, self.weight**2 * self.majorant(self.scaled(d))))

    @staticmethod
    def _vec(like: PETSc.Vec, values: np.ndarray) -> PETSc.Vec:
        out = like.duplicate()
        out.setArray(values)
        return out


class LeastSquares(Misfit):
    """phi = 1/2 sum ((d - y) / sigma)^2."""


class Huber(Misfit):
    """Quadratic up to `threshold` standard deviations, linear beyond."""

    def __init__(self, observed, sigma, layout, threshold: float = 1.345):
        super().__init__(observed, sigma, layout)
        if not threshold > 0:
            raise InputError(
                "misfit.threshold", threshold, "a positive number of standard deviations"
            )
        self.threshold = threshold

    def rho(self, t):
        a = np.abs(t)
        return np.where(a <= self.threshold, t**2 / 2, self.threshold * (a - self.threshold / 2))

    def slope(self, t):
        return np.clip(t, -self.threshold, self.threshold)

    def curvature(self, t):
        return (np.abs(t) <= self.threshold).astype(float)

    def majorant(self, t):
        return self.threshold / np.maximum(np.abs(t), self.threshold)


class StudentT(Misfit):
    """Student-t with `nu` degrees of freedom."""

    def __init__(self, observed, sigma, layout, nu: float = 4.0):
        super().__init__(observed, sigma, layout)
        if not nu > 0:
            raise InputError("misfit.nu", nu, "positive degrees of freedom")
        self.nu = nu

    def rho(self, t):
        return (self.nu + 1) / 2 * np.log1p(t**2 / self.nu)

    def slope(self, t):
        return (self.nu + 1) * t / (self.nu + t**2)

    def curvature(self, t):
        return (self.nu + 1) * (self.nu - t**2) / (self.nu + t**2) ** 2

    def majorant(self, t):
        return (self.nu + 1) / (self.nu + t**2)


FLOOR = 1e-3


def default_floor(observed: np.ndarray) -> float:
    """FLOOR times the largest of the data (1 where all are 0), NaN left out."""
    largest = float(np.nanmax(np.abs(observed), initial=0.0))
    return FLOOR * largest if largest > 0 else 1.0


class ProportionalErrors(Misfit):
    """Errors that grow with the predicted value: phi = 1/2 sum t^2, t = (d - y) / (sigma max(|d|,
    floor)^power).

    Generalised least squares of count data (power 0.2 to 0.5) and of relative errors (power 1).

    Args:
        floor: in the unit of the data; None: a share of the largest (see `default_floor`).
    """

    def __init__(self, observed, sigma, layout, power: float = 1.0, floor: float | None = None):
        super().__init__(observed, sigma, layout)
        floor = default_floor(observed) if floor is None else floor
        if not (power >= 0 and floor > 0):
            raise InputError(
                "misfit.power, floor", (power, floor), "a power >= 0 and a positive floor"
            )
        self.power, self.floor = power, floor

    def _size(self, d: PETSc.Vec) -> tuple[np.ndarray, np.ndarray]:
        """max(|d|, floor), and d/dd of its logarithm."""
        values = d.getArray(readonly=True)
        size = np.maximum(np.abs(values), self.floor)
        return size, np.where(
            np.abs(values) > self.floor, 1 / np.where(values == 0, 1, values), 0.0
        )

    def scaled(self, d: PETSc.Vec) -> np.ndarray:
        return super().scaled(d) * self._size(d)[0] ** -self.power

    def _slopes(self, d: PETSc.Vec) -> tuple[np.ndarray, np.ndarray]:
        """dt/dd and d2t/dd2 with t = w (d - y) s^-p: s' / s = l, l' = -l^2."""
        size, log_slope = self._size(d)
        w, t = self.weight * size**-self.power, self.scaled(d)
        p = self.power
        return w - p * log_slope * t, -2 * p * log_slope * w + p * (p + 1) * log_slope**2 * t

    def gradient(self, d: PETSc.Vec) -> PETSc.Vec:
        return self._vec(d, self.scaled(d) * self._slopes(d)[0])

    def hessian_weights(self, d: PETSc.Vec) -> Any:
        first, second = self._slopes(d)
        return Diagonal(self._vec(d, first**2 + self.scaled(d) * second))

    def gauss_newton_weights(self, d: PETSc.Vec) -> Any:
        return Diagonal(self._vec(d, self._slopes(d)[0] ** 2))


class CorrelatedErrors(Misfit):
    """phi = 1/2 (d - y)^T Sigma^-1 (d - y) with Sigma = diag(sigma) C diag(sigma), C correlating
    the times of each place.

    `correlation` is C (times x times), the data are ordered by time and place (one sampling) and
    all observed.
    """

    def __init__(self, observed, sigma, layout, correlation: np.ndarray | float = 1.0):
        super().__init__(observed, sigma, layout)
        C = np.atleast_2d(np.asarray(correlation, float))
        if C.shape[0] != C.shape[1] or layout.getSize() % len(C) or not np.allclose(C, C.T):
            raise InputError(
                "misfit.correlation", f"shape {C.shape}", "a symmetric matrix, times x times"
            )
        if self.count != layout.getSize():
            raise InputError(
                "data",
                f"{layout.getSize() - self.count} missing values",
                "none with correlated errors",
            )
        try:
            self.inverse_root = np.linalg.inv(np.linalg.cholesky(C))
        except np.linalg.LinAlgError as error:
            raise InputError(
                "misfit.correlation", "an indefinite matrix", "a positive definite one"
            ) from error

    def _along_times(self, matrix: np.ndarray, values: np.ndarray) -> np.ndarray:
        return (matrix @ values.reshape(len(matrix), -1)).ravel()

    def scaled(self, d: PETSc.Vec) -> np.ndarray:
        return self._along_times(self.inverse_root, super().scaled(d))

    def gradient(self, d: PETSc.Vec) -> PETSc.Vec:
        return self._vec(d, self.weight * self._along_times(self.inverse_root.T, self.scaled(d)))

    def apply(self, d: PETSc.Vec) -> None:
        """d := Sigma^-1 d."""
        half = self._along_times(self.inverse_root, self.weight * d.getArray(readonly=True))
        d.setArray(self.weight * self._along_times(self.inverse_root.T, half))

    def hessian_weights(self, d: PETSc.Vec) -> Any:
        return self

    def gauss_newton_weights(self, d: PETSc.Vec) -> Any:
        return self

    def destroy(self) -> None:
        """Nothing to destroy: it is its own W."""


MISFITS = {"least-squares": LeastSquares, "huber": Huber, "student-t": StudentT}
