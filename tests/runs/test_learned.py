"""What a run tells of functions that it found: seen and unseen, bands, tables, figures."""

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.cases.learned import function
from npde_opt.ensemble import Ensemble
from npde_opt.runs.learned import _closed, tables
from npde_opt.runs.solves import model, solved
from npde_opt.uncertainty.intervals import parameter_metrics
from tests.fits import case_of, identified, reported

CASE = """
[grid]
shape = [16]
[boundaries]
"x+" = "dirichlet"
[equation]
terms = [{ nonlinear-diffusion = "k(u)" }, { kinetics = { u = "q*(2 - u)" } }]
[[unknown]]
name = "k"
kind = "spline"
of = ["u"]
range = [0.0, 2.0]
knots = 6
sign = "positive"
initial = 0.5
truth = { expression = "0.3 + u**2" }
[[unknown]]
name = "q"
kind = "scalar"
initial = 1.0
truth = 1.0
deviation = 0.01
[[experiment]]
boundary = { "x+" = 0.1 }
[[observation]]
points = [[0.05], [0.1], [0.3], [0.5], [0.6], [0.7], [0.8], [0.85], [0.9], [0.95]]
noise = 1e-4
[simulation]
refine = 1
"""


@pytest.fixture(scope="module")
def fit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("learned") if MPI.COMM_WORLD.rank == 0 else None
    case = case_of(MPI.COMM_WORLD.bcast(folder, root=0), CASE)
    return case, identified(case, "gauss-newton")


def found(case, fit):
    objective, m = fit.objective, fit.result.m
    at = objective.linearize(m)
    _, estimates = parameter_metrics(objective.space, at, m)
    ensemble = Ensemble.split(MPI.COMM_WORLD, 1, 1)
    forward = model(objective)
    (table,) = tables(
        case, objective.space, m, forward, solved(at), ensemble, estimates
    )
    final = forward.grid.to_natural(solved(at).final[0][0])
    at.destroy()
    return table, MPI.COMM_WORLD.bcast(final, root=0), estimates


@pytest.mark.parallel([1, 2])
def test_a_table(fit):
    case, fitted = fit
    table, final, estimates = found(case, fitted)
    (v,) = table.lines
    inside = (v > final.min() + 0.15) & (v < final.max() - 0.05)
    outside = (v < final.min() - 0.1) | (v > final.max() + 0.1)
    assert table.seen[inside].all() and not table.seen[outside].any() and outside.any()
    # The truth is in the band nearly everywhere where there are data.
    told = table.seen & np.isfinite(table.low)
    assert told.sum() > 10
    assert (
        np.mean((table.low <= table.true) & (table.true <= table.high), where=told)
        > 0.7
    )
    assert np.all(table.low[told] < table.value[told])
    # The band is that of the delta method, from the numbers' own covariance.
    f, theta = function(case.table.unknown[0]), None
    space = fitted.objective.space
    theta = space.values(fitted.result.m, "k")
    slopes = f.at(v).jacobian(theta)
    names = [e.unknown.name for e in estimates.entries]
    covariance = np.linalg.pinv(estimates.H, rcond=1e-12)[:6, :6]
    assert names[:6] == ["k"] * 6
    i = int(np.flatnonzero(told)[told.sum() // 2])
    deviation = np.sqrt(slopes[:, i] @ covariance @ slopes[:, i])
    half = np.log(table.high[i] / table.low[i]) / 2
    assert half == pytest.approx(estimates.quantile * deviation, rel=1e-3)
    rows = table.csv().splitlines()
    assert rows[0] == "u,value,low,high,seen,true" and len(rows) == 1 + v.size


@pytest.mark.parallel([1])
def test_the_report_and_the_figure(fit, tmp_path):
    case, fitted = fit
    metrics = reported(case, fitted)
    assert metrics["relative_error_k"] < 0.05
    assert "of its range is seen" in metrics["k_learned"]
    assert "95 % band +-" in metrics["k_learned"]
    assert len(metrics["k_numbers"]) == 6 and "k_interval" not in metrics
    table, *_ = found(case, fitted)
    table.draw(tmp_path / "k.png", "t")
    assert (tmp_path / "k.png").stat().st_size > 5000


def test_gaps():
    marked = np.array([0, 1, 0, 0, 1, 0, 0, 0, 1, 0], bool)
    closed = np.array([0, 1, 1, 1, 1, 0, 0, 0, 1, 0], bool)
    np.testing.assert_array_equal(_closed(marked, 2), closed)
