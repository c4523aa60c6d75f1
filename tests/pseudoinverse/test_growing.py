"""Triangles that grow by products of matrices: as accurate as a QR, which they give way to."""

import numpy as np
import pytest
from least_squares import EPS, with_condition

from npde_opt.pseudoinverse import triangle
from npde_opt.pseudoinverse.growing import Growing


@pytest.fixture
def folds(monkeypatch):
    """Blocks that were folded by tpqrt."""
    done, fold = [], triangle.fold
    monkeypatch.setattr(
        triangle, "fold", lambda R, X: done.append(len(X)) or fold(R, X)
    )
    return done


def grown(A, block):
    growing = Growing(triangle.empty(A.shape[1]))
    for at in range(0, len(A), block):
        growing.take(lambda at=at: np.array(A[at : at + block], order="F"))
    return np.triu(growing.R)


@pytest.mark.parametrize("condition", [1e2, 1e8, 1e12])
@pytest.mark.parametrize("scales", [np.ones(40), np.logspace(0, -30, 40)])
def test_singular_values_are_those_of_a_qr(condition, scales, folds):
    A = with_condition(np.random.default_rng(0), 4000, 40, condition)
    R = grown(A * scales, 100)
    assert len(folds) < 10  # of 40 blocks
    s = np.linalg.svd(R / scales, compute_uv=False)
    # Products of A itself would lose those below the root of a rounding.
    np.testing.assert_allclose(
        s, np.logspace(0, -np.log10(condition), 40), atol=200 * EPS
    )


def test_rows_unlike_those_before_are_folded(folds):
    rng = np.random.default_rng(1)
    A = rng.standard_normal((600, 12))
    A[:300, 5] *= 1e-9
    A[450] *= 1e7
    R, wanted = grown(A, 50), np.linalg.qr(A, mode="r")
    assert 2 < len(folds) < 7  # of 12
    np.testing.assert_allclose(
        abs(R), abs(wanted), rtol=1e-13, atol=1e-13 * abs(wanted).max()
    )
    few = np.linalg.norm(R[:, 5]) ** 2 - (A[:, 5] ** 2).sum()
    assert abs(few) < 1e-12 * (A[:, 5] ** 2).sum()


def test_columns_that_depend_on_others_are_folded(folds):
    A = np.random.default_rng(2).standard_normal((200, 6))
    A[:, 4] = A[:, 1] - A[:, 2]
    s = np.linalg.svd(grown(A, 20), compute_uv=False)
    assert len(folds) == 10
    np.testing.assert_allclose(
        s, np.linalg.svd(A, compute_uv=False), atol=1e-14 * s[0] * 6
    )
