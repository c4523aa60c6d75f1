"""Diagnoses of series whose answers are known."""

import numpy as np
import pytest

from npde_opt.errors import InputError
from npde_opt.sampling import diagnose


def autoregressive(phi, chains, steps, seed=0):
    """Stationary, of variance 1; its tau is (1 + phi) / (1 - phi)."""
    rng = np.random.default_rng(seed)
    x = np.empty((chains, steps))
    x[:, 0] = rng.standard_normal(chains)
    for k in range(1, steps):
        x[:, k] = phi * x[:, k - 1] + np.sqrt(1 - phi**2) * rng.standard_normal(chains)
    return x


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9, -0.5])
def test_autocorrelation_time(phi):
    found = diagnose("x", autoregressive(phi, 4, 5000))
    assert found.tau == pytest.approx((1 + phi) / (1 - phi), rel=0.15)
    assert found.mixed and found.rhat < 1.02
    assert abs(found.mean) < 4 * found.error
    assert (found.low, found.high) == pytest.approx((-1.96, 1.96), abs=0.25)


def test_chains_that_stay_apart_are_told():
    x = autoregressive(0.5, 4, 500)
    x[3] += 3
    found = diagnose("x", x)
    assert not found.mixed and found.rhat > 1.2 and found.ess < 50


def test_a_chain_that_is_wider_is_told():
    """Of a mean like the others', and where all grow wider."""
    x = autoregressive(0.0, 4, 500)
    x[3] *= 4
    assert diagnose("x", x).rhat > 1.1
    x = autoregressive(0.0, 4, 500) * np.linspace(1, 4, 500)
    assert not diagnose("x", x).mixed


def test_a_chain_that_drifts_is_told():
    x = autoregressive(0.0, 2, 500) + np.linspace(0, 4, 500)
    assert not diagnose("x", x).mixed


def test_what_never_moves_has_nothing_to_tell():
    found = diagnose("x", np.ones((2, 10)))
    assert found.deviation == 0 and found.ess == pytest.approx(1)
    with pytest.raises(InputError, match="at least 4"):
        diagnose("x", np.ones((2, 3)))
