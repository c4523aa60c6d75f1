"""phi = 1/2 (d - y)^T Sigma^-1 (d - y) of each column, with Sigma = diag(sigma) C diag(sigma) and C
correlating the times of each place."""

from __future__ import annotations

import numpy as np

from npde_opt.errors import InputError
from npde_opt.misfits.independent import Independent
from npde_opt.observations.data import ALL, DataBlock, DataLayout, Metric


class CorrelatedErrors(Independent):
    """Args:
        correlation: C (times x times), the same for all columns.

    The data are ordered by time and place (one sampling) and all observed.

    Raises:
        InputError: for a C that is no correlation of as many times, and for missing values.
    """

    def __init__(
        self,
        observed: np.ndarray,
        sigma: float | np.ndarray,
        layout: DataLayout,
        correlation: np.ndarray | float = 1.0,
        owned: bool = False,
    ):
        super().__init__(observed, sigma, layout, owned)
        C = np.atleast_2d(np.asarray(correlation, float))
        if C.shape[0] != C.shape[1] or layout.size % len(C) or not np.allclose(C, C.T):
            raise InputError(
                "misfit.correlation",
                f"shape {C.shape}",
                "a symmetric matrix, times x times",
            )
        missing = layout.size * layout.columns - self.count
        if missing:
            raise InputError(
                "data", f"{missing} missing values", "none with correlated errors"
            )
        try:
            self.inverse_root = np.linalg.inv(np.linalg.cholesky(C))
        except np.linalg.LinAlgError as error:
            raise InputError(
                "misfit.correlation", "an indefinite matrix", "a positive definite one"
            ) from error

    def _along_times(self, matrix: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Of values (outputs here, columns), whose outputs are by time and place."""
        by_time = values.reshape(len(matrix), -1)
        return np.asarray(matrix @ by_time).reshape(values.shape)

    def scaled(self, d: DataBlock) -> np.ndarray:
        return self._along_times(self.inverse_root, super().scaled(d))

    def gradient(self, d: DataBlock) -> DataBlock:
        back = self._along_times(self.inverse_root.T, self.scaled(d))
        return d.like(self.weight * back)

    def apply(self, d: DataBlock, columns: slice = ALL) -> None:
        """d := Sigma^-1 d."""
        weight, values = self.weight[:, columns], d.values[:, columns]
        half = self._along_times(self.inverse_root, weight * values)
        values[...] = weight * self._along_times(self.inverse_root.T, half)

    def hessian_metric(self, d: DataBlock) -> Metric:
        return self

    def gauss_newton_metric(self, d: DataBlock) -> Metric:
        return self
