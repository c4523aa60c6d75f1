"""What a network is compared with, on the same samples.

Series: persistence y_t = y_{t-1}, and autoregression, by least squares over the times of the fit,

    y_t = c + sum_i a_i y_{t-i},        or the same of sqrt(y).

Pictures: total variation (Chambolle's projection) with the weight that is best for the mean PSNR of
all pictures, and BM3D, by the package of that name or from published figures.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence

import numpy as np

PUBLISHED = {"Set12": {15: 32.37, 25: 29.97, 50: 26.72}}
"""Mean PSNR (dB) of BM3D by folder of pictures and 255 sigma: Zhang et al. 2017, table 3."""
WEIGHTS = (0.3, 1.6)
"""Best weights of total variation lie between these times the deviation of the noise."""
NEAR = 0.02
"""Relative accuracy of a weight, beyond which the mean does not change by 0.001 dB."""
WHITE = 255


def persistence(windows: np.ndarray) -> np.ndarray:
    """The last values of windows [sample, channel, 1, 1, step]: [sample, channel]."""
    return windows[:, :, 0, 0, -1]


def autoregression(
    windows: np.ndarray, wanted: np.ndarray, fit: np.ndarray, roots: bool = False
) -> np.ndarray:
    """Predictions [sample, channel] of all windows.

    Args:
        windows: [sample, channel, 1, 1, step]. wanted: [sample, channel].
        fit: numbers of the windows whose targets are known.
        roots: whether it goes by square roots.
    """
    x, y = windows.reshape(len(windows), -1), wanted
    if roots:
        x, y = np.sqrt(x), np.sqrt(y)
    A = np.column_stack([np.ones(len(x)), x])
    found = A @ np.linalg.lstsq(A[fit], y[fit])[0]
    return np.maximum(found, 0) ** 2 if roots else found


def psnr(found: np.ndarray, clean: np.ndarray) -> float:
    """In dB, white being 1."""
    return float(-10 * np.log10(max(np.mean((found - clean) ** 2), 1e-30)))


Pairs = Sequence[tuple[np.ndarray, np.ndarray]]
"""Pictures [j, i] with noise and without."""


def total_variation(pairs: Pairs, deviation: float) -> tuple[list[float], float] | None:
    """PSNR of each picture, and the weight; None without scikit-image."""
    if not _there("skimage", "lazy_loader"):
        return None
    restoration = importlib.import_module("skimage.restoration")

    def figures(weight: float) -> list[float]:
        tv = restoration.denoise_tv_chambolle
        return [psnr(tv(noisy, weight=weight), clean) for noisy, clean in pairs]

    low, high = (float(np.log(deviation * w)) for w in WEIGHTS)
    optimize = importlib.import_module("scipy.optimize")
    found = optimize.minimize_scalar(
        lambda log: -float(np.mean(figures(float(np.exp(log))))),
        bounds=(low, high),
        method="bounded",
        options={"xatol": NEAR},
    )
    weight = float(np.exp(found.x))
    return figures(weight), weight


def bm3d(pairs: Pairs, deviation: float) -> list[float] | None:
    """PSNR of each picture; None where the package is not installed."""
    if not _there("bm3d"):
        return None
    package = importlib.import_module("bm3d")
    return [psnr(package.bm3d(noisy, deviation), clean) for noisy, clean in pairs]


def published(folder: str, deviation: float) -> float | None:
    """BM3D's mean PSNR of a known set of pictures."""
    at = round(WHITE * deviation)
    return (
        PUBLISHED.get(folder, {}).get(at) if np.isclose(at, WHITE * deviation) else None
    )


def _there(*packages: str) -> bool:
    return all(importlib.util.find_spec(name) is not None for name in packages)
