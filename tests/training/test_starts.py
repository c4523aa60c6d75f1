"""What layers start from that is not drawn."""

import numpy as np
import pytest

from npde_opt.errors import InputError
from npde_opt.networks import PiecewiseLinear, RadialBasis
from npde_opt.training.starts import cosines, delay, nearest, slope


def test_cosines_are_orthonormal_and_see_no_constant():
    found = cosines(14, (5, 3)).reshape(14, -1)
    np.testing.assert_allclose(found @ found.T, np.eye(14), atol=1e-12)
    np.testing.assert_allclose(found.sum(axis=1), 0, atol=1e-12)
    # The lowest come first: half a wave along one of the axes.
    np.testing.assert_allclose(
        cosines(1, (5, 3)).reshape(5, 3).std(axis=0), 0, atol=1e-12
    )
    with pytest.raises(InputError, match="channels: got 15; .* at most 14 cosines"):
        cosines(15, (5, 3))


@pytest.mark.parametrize("kind", [PiecewiseLinear, RadialBasis])
def test_an_activation_starts_as_the_nearest_to_a_function(kind):
    activation, function = kind(33, 4.0), slope(0.5, 1.0)
    theta = nearest(activation, function)
    v = np.linspace(-4, 4, 33).reshape(1, 1, -1)
    np.testing.assert_allclose(activation.value(v, theta[None]), function(v), atol=1e-6)
    assert function(1.0) == 0.25


def test_a_delay_line_keeps_what_was_given_last():
    K, B = delay(6, 2)
    u = np.zeros(6)
    for x in ([1, 2], [3, 4], [5, 6], [7, 8]):
        u = K @ u + B @ np.array(x)
    np.testing.assert_array_equal(u, [7, 8, 5, 6, 3, 4])
