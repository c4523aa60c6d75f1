"""What a Hessian does not see, in any unit of its parameters."""

import numpy as np
import pytest

from npde_opt.optimizers.information import Information

UNITS = [np.ones(3), np.array([1e-9, 1.0, 1e7])]


def hessian(jacobian, units):
    """J^T J where the parameters are counted in other units: p_i -> p_i / units_i."""
    J = np.asarray(jacobian, float) * units
    return J.T @ J


@pytest.mark.parametrize("units", UNITS)
def test_deviations_are_those_of_the_inverse(units):
    J = np.random.default_rng(0).standard_normal((9, 3))
    found = Information(hessian(J, units), 1 / units)
    exact = np.sqrt(np.diag(np.linalg.inv(J.T @ J)))
    for i in range(3):
        assert found.deviation(np.eye(3)[i]) * units[i] == pytest.approx(
            exact[i], rel=1e-9
        )
    assert not found.undetermined.any() and found.combinations(["a", "b", "c"]) == []


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("error", [0.0, 1e-10])
def test_of_a_product_the_factors_are_not_determined(units, error):
    """Data that depend on log a + log b, and on c: a and b have no deviation, their sum and c
    have."""
    J = np.column_stack([np.ones(5), np.ones(5), np.arange(5.0)])
    H = hessian(J, units)
    H *= 1 + error * np.random.default_rng(1).standard_normal((3, 3))
    found = Information(H, 1 / units)
    assert found.undetermined.tolist() == [True, True, False]
    assert (
        found.deviation(np.eye(3)[0]) is None
        and found.deviation(np.array([1.0, -1.0, 0]) * units) is None
    )
    exact = np.linalg.inv(J[:, 1:].T @ J[:, 1:])
    assert found.deviation(np.array([1.0, 1.0, 0]) * units) == pytest.approx(
        np.sqrt(exact[0, 0]), rel=1e-4
    )
    assert found.deviation(np.eye(3)[2]) * units[2] == pytest.approx(
        np.sqrt(exact[1, 1]), rel=1e-4
    )
    (text,) = found.combinations(["a", "b", "c"])
    assert "a (" in text and "b (" in text and "c" not in text


@pytest.mark.parametrize("rounding", [0.0, 1e-16])
def test_what_moves_no_datum_is_unseen_beside_what_is_collinear(rounding):
    J = np.column_stack([np.ones(5), rounding * np.arange(5.0), 2 * np.ones(5)])
    found = Information(hessian(J, np.ones(3)))
    assert found.undetermined.tolist() == [True, True, True]
    assert "b" in found.combinations(["a", "b", "c"])


@pytest.mark.parametrize("size", [1e-3, 1e-6, 1e-9, 1e-12, 1e-30])
@pytest.mark.parametrize("error", [0.0, 1e-10])
def test_what_does_nothing_but_what_another_does_leaves_it_open(size, error):
    """Columns along each other, the one next to nothing; beside them one that is seen by itself."""
    seen, own = np.ones(6), np.arange(6.0)
    H = hessian(np.column_stack([seen, size * seen, own]), np.ones(3))
    H *= 1 + error * np.random.default_rng(1).standard_normal((3, 3))
    found = Information(H)
    assert found.undetermined.tolist() == [True, True, False]
    assert (
        found.deviation(np.array([1.0, 0, 0])) is None
        and found.deviation(np.array([0, 1.0, 0])) is None
    )
    assert found.deviation(np.array([1.0, size, 0])) == pytest.approx(
        Information(H[::2, ::2]).deviation(np.eye(2)[0]), rel=0.1
    )
    (text,) = found.combinations(["a", "b", "c"])
    assert "a (" in text and "b (+1)" in text and "c" not in text


def test_what_rounding_left_of_a_parameter_leaves_no_other_open():
    """A column of noise: its products are not even symmetric."""
    rng = np.random.default_rng(2)
    J = np.column_stack([rng.standard_normal((9, 2)), np.zeros(9)])
    for _ in range(200):
        H = hessian(J, np.ones(3))
        H[2], H[:2, 2] = 1e-9 * rng.standard_normal(3), 1e-9 * rng.standard_normal(2)
        H[2, 2] = abs(1e-17 * rng.standard_normal())
        assert Information(H).undetermined.tolist() == [False, False, True]


def test_a_poor_datum_is_not_called_blind():
    found = Information(np.diag([1e6, 1e-3]))
    assert not found.undetermined.any() and found.deviation(
        np.array([0, 1.0])
    ) == pytest.approx(1e3**0.5)


def test_nothing_is_no_error():
    assert Information(np.zeros((0, 0))).combinations([]) == []
