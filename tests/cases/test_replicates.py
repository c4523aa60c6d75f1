"""Repeated measurements, and what is held out of a fit: observations, and replicates."""

import json

import numpy as np
import pytest
from fits import case_of, every, identified, reported
from mpi4py import MPI

from npde_opt.errors import InputError
from npde_opt.runs.progress import advice

DECAY = """
[grid]
shape = [6]
[equation]
terms = [{ kinetics = { u = "-k*u" } }]
[time]
scheme = "crank-nicolson"
times = { end = 1.0, steps = 8 }
[[unknown]]
name = "k"
kind = "scalar"
initial = 0.7
[[experiment]]
initial = { u = { file = "a.csv", replicates = ["p", "q", "r"], where = { t = [0, 0] } } }
[[observation]]
times = [0.0, 0.5, 1.0]
data = { file = "a.csv", replicates = ["p", "q", "r"] }
SIGMA
[validation]
replicate = "HELD"
"""
"""u' = -k u in six cells, measured three times."""
SPREAD = 0.02
comm = MPI.COMM_WORLD


def decay(tmp_path, sigma="", held="", off=0.0):
    """The case, and the three measurements (time and cell, replicate)."""
    rng = np.random.default_rng(1)
    clean = np.outer(np.exp(-np.array([0.0, 0.5, 1.0])), 1 + np.arange(6.0)).ravel()
    y = (
        clean[:, None]
        + SPREAD * rng.standard_normal((18, 3))
        + off * np.array([0, 0, 1])
    )
    if comm.rank == 0:
        rows = [
            f"{t},{','.join(f'{v:.12f}' for v in y[6 * n + i])}"
            for n, t in enumerate((0.0, 0.5, 1.0))
            for i in range(6)
        ]
        (tmp_path / "a.csv").write_text("\n".join(["t,p,q,r", *rows]))
    return case_of(tmp_path, DECAY.replace("SIGMA", sigma).replace("HELD", held)), y


@pytest.mark.parallel([1, 2])
def test_the_mean_is_fitted_and_its_spread_is_sigma(tmp_path):
    case, y = decay(tmp_path)
    found = identified(case)
    metrics, data = reported(case, found), every(case.data)
    np.testing.assert_allclose(data.observed[0], y.mean(axis=1), rtol=1e-11)
    noise = y.var(axis=1, ddof=1) / 3
    np.testing.assert_allclose(data.noise[0], noise, rtol=1e-7)
    np.testing.assert_allclose(data.sigma[0], np.sqrt(noise.mean()), rtol=1e-8)
    assert data.held_out == []
    assert found.values("k")[0] == pytest.approx(1.0, abs=0.03)
    # The state starts from the first six data, which have no noise to the fit.
    expected = noise[6:].sum() / 18 / noise.mean()
    assert metrics["noise_chi_squared"] == pytest.approx(expected, rel=1e-6)
    (row,) = metrics["by_experiment"]
    assert row["data"] == 18 and row["held_out"] is None
    assert row["noise"] == pytest.approx(expected, rel=1e-6)
    assert "held_out_chi_squared" not in metrics
    found.objective.destroy()


@pytest.mark.parallel([1, 2])
def test_a_replicate_that_is_held_out_is_in_no_mean_and_reported(tmp_path):
    case, y = decay(tmp_path, "sigma = 0.1", "r", off=0.3)
    found = identified(case)
    metrics = reported(case, found)
    np.testing.assert_allclose(
        every(case.data).observed[0], y[:, :2].mean(axis=1), rtol=1e-11
    )
    start = y[:6, :2].mean(axis=1)
    k, times = found.values("k")[0], np.array([0.0, 0.5, 1.0])
    states = np.array(
        [((1 - k / 16) / (1 + k / 16)) ** round(8 * t) * start for t in times]
    )
    residual = (states.ravel() - y[:, 2]) / 0.1
    assert metrics["held_out_data"] == 18 and metrics["held_out"] == "replicate r"
    assert metrics["held_out_chi_squared"] == pytest.approx(
        np.mean(residual**2), rel=1e-5
    )
    one = y.var(axis=1, ddof=1).mean() / 0.01
    assert metrics["held_out_noise"] == pytest.approx(one, rel=1e-6)
    assert abs(k - 1.0) < 0.03, "the replicate that is off has no say"
    found.objective.destroy()


@pytest.mark.parallel([1, 2])
def test_an_observation_that_is_held_out_is_reported_and_not_fitted(tmp_path):
    more = (
        "sigma = 0.02\n[[observation]]\ntimes = [1.0]\npoints = [[0.5]]\nsigma = 0.1\n"
    )
    if comm.rank == 0:
        (tmp_path / "b.csv").write_text("b\n9.0\n")
    held = more + "held_out = true\ndata = { file = 'b.csv', column = 'b' }"
    case, _ = decay(tmp_path, held)
    found = identified(case)
    metrics = reported(case, found)
    assert metrics["data"] == 18 and metrics["held_out_data"] == 1
    assert metrics["held_out"] == "observation 1"
    assert found.values("k")[0] == pytest.approx(1.0, abs=0.03)
    assert metrics["held_out_rmse"] == pytest.approx(
        0.1 * metrics["held_out_chi_squared"] ** 0.5
    )
    assert metrics["held_out_rmse"] > 5
    found.objective.destroy()


@pytest.mark.parametrize(
    ("chi", "said"), [(300.0, "below"), (429.0, "at the"), (520.0, "ABOVE")]
)
def test_the_noise_that_replicates_tell_goes_before_sigma(chi, said):
    metrics = {"chi_squared": chi, "data": 740, "noise_chi_squared": 429.0}
    (line,) = advice(metrics)
    assert f"{said} " in line and "noise level" in line and "sigma" not in line
    assert ("fewer unknowns" in line) == (said == "below")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            ('replicate = ""', 'replicate = "s"'),
            "validation.replicate: got 's'; allowed: p, q, r",
        ),
        (('["p", "q", "r"] }\n\n', '["p"] }\n'), r"observation\[0\].data"),
        (
            ('replicates = ["p", "q", "r"] }\n\n', 'column = "p" }\n'),
            r"observation\[0\].sigma: got nothing; .* two replicates",
        ),
        (
            ('["p", "q", "r"] }\n\n', '["p", "q"], column = "p" }\n'),
            "given beside replicates",
        ),
        (
            ("times = [0.0", "held_out = true\ntimes = [0.0"),
            "observation.held_out: got true in all",
        ),
    ],
)
def test_what_is_wrong_is_told_by_its_key(tmp_path, change, text):
    good = DECAY.replace("SIGMA", "").replace("HELD", "")
    assert change[0] in good
    with pytest.raises(InputError, match=text):
        case_of(tmp_path, good.replace(*change))


def test_rows_that_are_held_out_are_marked_in_the_file(tmp_path, monkeypatch):
    from npde_opt.runs.noise import lines
    from npde_opt.runs.predicted import Predicted

    case, y = decay(tmp_path, "sigma = 0.1", "r")
    found = identified(case)
    forward = found.objective.forward
    lin = forward.linearize(found.result.m)
    (values,) = forward.observed.by_experiment(lin.data).values()
    rows = Predicted(case, forward.observed.observer(0).samplings, [values])
    table = np.genfromtxt(rows.text().splitlines(), delimiter=",", names=True)
    assert table["held_out"].tolist() == 18 * [0.0] + 18 * [1.0]
    np.testing.assert_allclose(table["observed"][18:], y[:, 2], rtol=1e-9)
    np.testing.assert_array_equal(table["predicted"][18:], table["predicted"][:18])
    followed = {"experiment": 0, "data": 9, "chi_squared": 3.0, "noise": 5.0}
    followed |= {"held_out": None, "held_out_noise": None}
    assert lines([followed])[1].endswith("the fit follows the noise")
    assert not lines([followed | {"noise": 3.0}])[1].endswith("the noise")
    head, row = lines(json.loads(json.dumps(reported(case, found)["by_experiment"])))
    assert head.split()[-4:] == ["held", "out", "its", "noise"] and row.split()[:2] == [
        "0",
        "18",
    ]
    found.objective.destroy()
