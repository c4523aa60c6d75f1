"""Peak signal-to-noise ratio of each column, a picture, in decibels:

    PSNR = 10 log10(peak^2 / mean_k (d_k - y_k)^2),

over the outputs that were observed. It stands beside least squares, and is none of its own: for one
column it falls by 10 dB where the misfit grows tenfold.
"""

from __future__ import annotations

import numpy as np

from npde_opt import reductions
from npde_opt.errors import InputError
from npde_opt.misfits.independent import Independent
from npde_opt.misfits.interface import Misfit
from npde_opt.observations.data import DataBlock


class PSNR:
    """A score of columns, see npde_opt/scores.py.

    Args:
        peak: the largest value that a picture may have, in the unit of the data.
    """

    def __init__(self, peak: float = 1.0):
        if not 0 < peak < np.inf:
            raise InputError("peak", peak, "a finite number > 0")
        self.peak = peak

    def __call__(self, misfit: Misfit, d: DataBlock) -> np.ndarray:
        """Of each column, on every rank; NaN of those without data. Collective.

        Raises:
            InputError: for a misfit that compares no values.
        """
        if not isinstance(misfit, Independent):
            raise InputError(
                "psnr", type(misfit).__name__, "least squares, or a robust misfit"
            )
        away = np.where(misfit.weight > 0, d.values - misfit.observed, 0.0)
        squares = reductions.total(misfit.layout.comm, (away**2).sum(axis=0))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(10 * np.log10(self.peak**2 * misfit.counts / squares))
