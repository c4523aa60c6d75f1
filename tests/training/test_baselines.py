"""What networks are compared with."""

import importlib

import numpy as np
import pytest

from npde_opt.training import baselines


def series(count=60):
    """Windows of 3 values of y_t = 5 + 0.6 y_{t-1} - 0.3 y_{t-3}, and what follows."""
    y = [10.0, 3.0, 7.0]
    for _ in range(count):
        y.append(5 + 0.6 * y[-1] - 0.3 * y[-3])
    y = np.array(y)
    windows = np.lib.stride_tricks.sliding_window_view(y, 3)[:-1]
    return windows[:, None, None, None, :], y[3:, None]


def test_persistence_is_the_last_value():
    windows, wanted = series()
    found = baselines.persistence(windows)
    assert found.shape == (60, 1) and np.array_equal(found[1:], wanted[:-1])


def test_autoregression_finds_its_coefficients_from_the_fit_alone():
    windows, wanted = series()
    fit = np.arange(12)
    found = baselines.autoregression(windows, wanted, fit)
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    changed = wanted.copy()
    changed[30:] = 0
    np.testing.assert_array_equal(
        baselines.autoregression(windows, changed, fit), found
    )
    squared = baselines.autoregression(windows**2, wanted**2, fit, roots=True)
    np.testing.assert_allclose(squared, wanted**2, atol=1e-5)


def test_psnr():
    assert baselines.psnr(np.full(4, 0.6), np.full(4, 0.5)) == pytest.approx(20)


def test_published_figures_are_of_their_noise():
    assert baselines.published("Set12", 25 / 255) == 29.97
    assert baselines.published("Set12", 25.3 / 255) is None
    assert baselines.published("others", 25 / 255) is None


def test_total_variation_has_its_best_weight():
    rng = np.random.default_rng(0)
    clean = np.kron(rng.random((3, 3)), np.ones((8, 8)))
    pairs = [(clean + 0.1 * rng.standard_normal(clean.shape), clean)]
    found = baselines.total_variation(pairs, 0.1)
    if found is None:
        pytest.skip("scikit-image is not installed")
    values, weight = found
    assert values[0] > baselines.psnr(*pairs[0]) + 4 and 0.03 <= weight <= 0.16
    smoothed = importlib.import_module("skimage.restoration").denoise_tv_chambolle
    for other in (0.7 * weight, 1.4 * weight):
        assert baselines.psnr(smoothed(pairs[0][0], weight=other), clean) < values[0]
