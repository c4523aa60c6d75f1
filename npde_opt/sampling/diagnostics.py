"""Whether chains have mixed, and what their samples are worth.

    R-hat   sqrt of (variance over all halves of chains) / (mean variance within them), of ranks
            turned into normal numbers, and the same of distances from the median: the larger is
            near 1 where all halves tell the same of places and of widths
    tau     1 + 2 sum of autocorrelations, up to where sums of two neighbours turn negative
            (Geyer), averaged over chains
    ess     samples / tau: as many independent ones tell as much of a mean

(Vehtari, Gelman, Simpson, Carpenter and Buerkner, Bayesian Analysis 16 (2021).)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from npde_opt.errors import InputError

MIXED = 1.05
LEAST = 4


@dataclass(frozen=True)
class Diagnosis:
    """Of one figure.

    Attributes:
        low, high: bounds of the middle 95 % of the samples. error: of the mean.
    """

    name: str
    mean: float
    deviation: float
    low: float
    high: float
    rhat: float
    tau: float
    ess: float

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        return float(self.deviation / np.sqrt(self.ess))

    @property
    def mixed(self) -> bool:
        """Whether the chains tell the same."""
        return self.rhat < MIXED


def diagnose(name: str, chains: np.ndarray) -> Diagnosis:
    """Of a figure's samples, (chains, steps).

    Raises:
        InputError: with fewer than four steps.
    """
    if chains.shape[1] < LEAST:
        raise InputError(
            "sampling.steps", chains.shape[1], f"at least {LEAST} kept steps"
        )
    low, high = np.quantile(chains, [0.025, 0.975])
    tau = autocorrelation_time(halves(chains))
    return Diagnosis(
        name,
        float(chains.mean()),
        float(chains.std(ddof=1)),
        float(low),
        float(high),
        rhat(chains),
        tau,
        chains.size / tau,
    )


def halves(chains: np.ndarray) -> np.ndarray:
    """(2 chains, steps // 2)."""
    half = chains.shape[1] // 2
    return np.concatenate([chains[:, :half], chains[:, -half:]])


def rhat(chains: np.ndarray) -> float:
    """Of the chains' halves, by ranks. 1 where nothing moves anywhere."""
    folded = abs(chains - np.median(chains))
    return max(_ratio(_normal_scores(halves(x))) for x in (chains, folded))


def _normal_scores(parts: np.ndarray) -> np.ndarray:
    from scipy.special import ndtri
    from scipy.stats import rankdata

    ranks = rankdata(parts).reshape(parts.shape)
    return np.asarray(ndtri((ranks - 0.375) / (parts.size + 0.25)))


def _ratio(parts: np.ndarray) -> float:
    steps = parts.shape[1]
    within = parts.var(axis=1, ddof=1).mean()
    between = parts.mean(axis=1).var(ddof=1) if len(parts) > 1 else 0.0
    if within == 0:
        return 1.0 if between == 0 else np.inf
    return float(np.sqrt((steps - 1) / steps + between / within))


def autocorrelation_time(parts: np.ndarray) -> float:
    """tau of chains, (chains, steps); at most as many as there are samples."""
    covariances = np.array([_autocovariance(p) for p in parts])
    steps = parts.shape[1]
    within = covariances[:, 0].mean() * steps / (steps - 1)
    between = parts.mean(axis=1).var(ddof=1) if len(parts) > 1 else 0.0
    total = within * (steps - 1) / steps + between
    if total == 0:
        return float(parts.size)
    rho = 1 - (within - covariances.mean(axis=0)) / total
    rho[0] = 1.0
    pairs = rho[: steps // 2 * 2].reshape(-1, 2).sum(axis=1)
    negative = np.flatnonzero(pairs < 0)
    last = negative[0] if negative.size else pairs.size
    falling = np.minimum.accumulate(pairs[:last])
    tau = max(-1 + 2 * falling.sum(), 1 / np.log10(max(parts.size, 10)))
    return float(min(tau, parts.size))


def _autocovariance(x: np.ndarray) -> np.ndarray:
    n = x.size
    y = np.fft.rfft(x - x.mean(), 2 * n)
    return np.asarray(np.fft.irfft(abs(y) ** 2, 2 * n)[:n] / n)
