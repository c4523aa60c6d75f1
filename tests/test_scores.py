"""Means of scores over the columns of all groups, whatever goes through at once."""

import numpy as np
import pytest
from mpi4py import MPI
from sums import COUNT, made

from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError
from npde_opt.misfits import PSNR
from npde_opt.scores import mean, misread

COMM = MPI.COMM_WORLD


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("at_once", [None, 2])
def test_psnr_is_the_mean_of_the_columns(at_once):
    J, m, _ = made("fused", at_once=at_once)
    at = J.linearize(m)
    values = []
    for block in at.data:
        for column, e in zip(block.gather().T, block.layout.members, strict=True):
            y = np.random.default_rng(e).random(block.layout.size)
            values.append(20 * np.log10(255.0 / np.sqrt(np.mean((column - y) ** 2))))
    assert mean(PSNR(255.0))(at) == pytest.approx(np.mean(values), rel=1e-12)
    part = J.over([1, 5]).linearize(m)
    assert mean(PSNR(255.0))(part) == pytest.approx(
        (values[1] + values[5]) / 2, rel=1e-12
    )


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize(
    ("loss", "score"), [("least-squares", PSNR()), ("labels", misread)]
)
def test_groups_give_the_same_means(loss, score):
    J, m, _ = made("fused", Ensemble.split(COMM, COMM.size, COUNT), loss)
    single, m1, _ = made("fused", loss=loss)
    for columns in ([0], range(COUNT)):
        found = mean(score)(J.over(columns).linearize(m))
        expected = mean(score)(single.over(columns).linearize(m1))
        assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parallel([1, 2])
def test_misread_is_the_share_of_wrong_labels():
    J, m, _ = made("fused", loss="labels")
    at = J.linearize(m)
    shares = [
        misfit.misread(d) * misfit.count
        for misfit, d in zip(J.misfits, at.data, strict=True)
    ]
    assert mean(misread)(at) == pytest.approx(sum(shares) / COUNT)


def test_scores_of_other_losses_are_refused():
    J, m, _ = made("fused")
    with pytest.raises(InputError, match="misread: got LeastSquares; allowed: softmax"):
        mean(misread)(J.linearize(m))
    J, m, _ = made("fused", loss="labels")
    with pytest.raises(
        InputError, match="psnr: got SoftmaxCrossEntropy; allowed: least squares"
    ):
        mean(PSNR())(J.linearize(m))
    with pytest.raises(InputError, match="peak: got 0.0"):
        PSNR(0.0)
