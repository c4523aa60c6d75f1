"""Quantiles of Student's t beside those of scipy."""

import numpy as np
import pytest
import scipy.special

from npde_opt.uncertainty.quantiles import t_quantile


@pytest.mark.parametrize("freedom", [1, 2, 5, 67, 10_000])
def test_of_scipy(freedom):
    for p in (0.6, 0.975, 0.9995):
        expected = scipy.special.stdtrit(freedom, p)
        np.testing.assert_allclose(t_quantile(freedom, p), expected, rtol=1e-9)
