"""Confidence intervals against the profile of the likelihood, the normal distribution, bounds."""

import numpy as np
import pytest
from fits import DIFFUSION, case_of, diffusion, identified, reported
from mpi4py import MPI
from scipy import optimize, stats

from npde_opt.ensemble import Ensemble
from npde_opt.uncertainty.intervals import Estimates
from npde_opt.uncertainty.profile import reach

AGREEMENT = 0.1
"""Ends of intervals may differ by this part of the half-width from those of the profile."""

LOGISTIC = """
[grid]
shape = [4]
[equation]
terms = [{ kinetics = { u = "r*u*(1 - u/K)" } }]
derived = { fastest = "r*K/4", half = "r/2 - 3*K" }
[time]
scheme = "heun"
times = { end = 4.0, steps = 16 }
[[unknown]]
name = "r"
kind = "scalar"
initial = 1.0
truth = 1.5
[[unknown]]
name = "K"
kind = "scalar"
initial = 2.0
truth = 3.0
[[experiment]]
initial = { u = 0.2 }
[[observation]]
times = { start = 0.25, end = 4.0, count = 16 }
points = [[0.2]]
noise = 0.02
[simulation]
refine = 1
steps = 1
"""


def profile_ends(objective, m, along, across, estimates):
    """Where min_b J(m + a along + b across) rises by q^2 s^2 / 2, as changes a to either side."""
    rise = 0.5 * estimates.quantile**2 * estimates.variance

    def value(a, b):
        p = m.copy()
        own = objective.space.create_vec()
        for name, da, db in zip(("0", "1"), along, across, strict=True):
            u = objective.space.unknowns[int(name)]
            objective.space.own(own, u.name)[...] = a * da + b * db
        p.axpy(1.0, own)
        at = objective.linearize(p)
        found = at.value
        at.destroy()
        return found

    least = value(0.0, 0.0)

    def profile(a):
        best = optimize.minimize_scalar(
            lambda b: value(a, b), bracket=(-0.05, 0.05), options={"xtol": 1e-6}
        )
        return best.fun - least - rise

    ends = []
    for side in (-1, 1):
        step = 0.02
        while profile(side * step) < 0:
            step *= 2
        ends.append(
            side
            * optimize.brentq(
                lambda a, side=side: profile(side * a), 0, step, xtol=1e-5
            )
        )
    return np.array(ends)


def estimates_of(found):
    objective, m = found.objective, found.result.m
    return Estimates(objective.space, objective.linearize(m), m)


@pytest.mark.parametrize("kind", ["diffusion", "logistic"])
def test_intervals_agree_with_the_profile_likelihood(tmp_path, kind):
    case = diffusion(tmp_path) if kind == "diffusion" else case_of(tmp_path, LOGISTIC)
    found = identified(case, gradient_rtol=1e-9)
    metrics, estimates, m = reported(case, found), estimates_of(found), found.result.m
    assert "95%" in metrics["intervals"] and "t quantile" in metrics["intervals"]
    names = [u.name for u in found.objective.space.unknowns]
    for i, name in enumerate(names):
        along, across = np.eye(2)[i], np.eye(2)[1 - i]
        exact = profile_ends(found.objective, m, along, across, estimates)
        ours = np.log(np.array(metrics[f"{name}_interval"]) / metrics[name])
        assert abs(ours - exact).max() < AGREEMENT * (exact[1] - exact[0]) / 2, (
            name,
            ours,
            exact,
        )
    if kind == "logistic":
        # log r + log K goes along, log r - log K across
        exact = profile_ends(found.objective, m, (1.0, 0.0), (1.0, -1.0), estimates)
        ours = np.log(np.array(metrics["fastest_interval"]) / metrics["fastest"])
        assert abs(ours - exact).max() < AGREEMENT * (exact[1] - exact[0]) / 2, (
            ours,
            exact,
        )


@pytest.mark.parallel([1, 2, 3])
def test_a_difference_has_the_deviation_of_its_gradient(tmp_path):
    """Delta method on the plain scale, against central differences of the figure."""
    case = case_of(tmp_path, LOGISTIC)
    found = identified(case, gradient_rtol=1e-9)
    metrics, estimates = reported(case, found), estimates_of(found)
    r, K = metrics["r"], metrics["K"]
    gradient = np.array([r / 2, -3 * K])
    half = estimates.quantile * np.sqrt(
        gradient @ estimates.information.inverse @ gradient
    )
    assert metrics["half_interval"] == pytest.approx(
        [r / 2 - 3 * K - half, r / 2 - 3 * K + half], rel=1e-6
    )
    assert estimates.quantile == pytest.approx(stats.t.ppf(0.975, 14), rel=1e-12)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize(
    ("more", "method"),
    [
        ("bounds = [0.1, 2.0]", "bntr"),
        ('transform = "bounded"\nbounds = [0.1, 2.0]', "gauss-newton"),
    ],
)
def test_intervals_honour_bounds(tmp_path, more, method):
    """The data want D = 4, the bound is 2: the answer is there, and the interval ends there."""
    free = diffusion(tmp_path)
    free.prepare(Ensemble.split(MPI.COMM_WORLD, 1, 1))
    case = diffusion(tmp_path, D=1.0, D_more=more, truth=1.5)
    found = identified(case, method, free.data, max_iterations=100)
    assert found.result.status == "converged", found.result.reason
    metrics = reported(case, found)
    assert "upper bound 2" in metrics["at_bound"][0]
    low, high = metrics["D_interval"]
    assert high == pytest.approx(2.0, rel=1e-4) and 1.0 < low < 2.0
    assert metrics["w_interval"][0] < metrics["w"] < metrics["w_interval"][1]


@pytest.mark.parallel([1, 2, 3])
def test_robust_misfits_take_sigma_as_given(tmp_path):
    case = case_of(tmp_path, LOGISTIC + '[misfit]\nkind = "huber"\n')
    metrics = reported(case, identified(case))
    assert "normal quantile, sigma as given" in metrics["intervals"]
    assert "sigma_estimated_over_given" not in metrics


@pytest.mark.parallel([1, 2, 3])
def test_beside_unknown_fields_intervals_are_not_given(tmp_path):
    text = LOGISTIC.replace('name = "r"\nkind = "scalar"', 'name = "r"')
    text = text.replace(
        'derived = { fastest = "r*K/4", half = "r/2 - 3*K" }',
        'derived = { twice = "2*K" }',
    )
    case = case_of(
        tmp_path,
        text + '[[regularization]]\nunknown = "r"\nkind = "gradient"\nweight = 1.0\n',
    )
    metrics = reported(case, identified(case))
    assert metrics["intervals"].startswith("not given")
    assert not [name for name in metrics if name.endswith("_interval")]


def coverage(tmp_path, count):
    """Share of simulated data sets whose intervals hold the truth."""
    hits = []
    for seed in range(count):
        case = case_of(tmp_path, LOGISTIC)
        case.seed = seed
        metrics = reported(case, identified(case))
        hits.append(
            [
                metrics["r_interval"][0] < 1.5 < metrics["r_interval"][1],
                metrics["K_interval"][0] < 3.0 < metrics["K_interval"][1],
                metrics["fastest_interval"][0] < 1.125 < metrics["fastest_interval"][1],
            ]
        )
    return np.mean(hits, axis=0)


def test_intervals_hold_the_truth_as_often_as_they_say(tmp_path):
    """23 of 24 on average; below 19 with a probability of 1e-3."""
    shares = coverage(tmp_path, 24)
    assert (shares >= 19 / 24).all(), shares
    assert MPI.COMM_WORLD.size == 1


def saturating(tmp_path, shape, transform, start, truth):
    w_more = f'transform = "{transform}"'
    text = DIFFUSION.format(D=4.0, w=start, D_more="", w_more=w_more, truth=4.0)
    text = text.replace('shape = "w*well"', f'shape = "{shape}"')
    return case_of(tmp_path, text.replace("truth = 1.0", f"truth = {truth}"))


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.fewer(2, sign=[-1])
@pytest.mark.parametrize(
    ("shape", "transform", "truth", "sign"),
    [
        ("tanh(w)*well", "identity", 50.0, 1),
        ("-tanh(w)*well", "identity", 50.0, 1),
        ("tanh(-w)*well", "identity", -50.0, -1),
        ("w/(1 + w)*well", "log", 1e9, 1),
    ],
)
def test_an_interval_is_open_where_the_data_allow_any_value(
    tmp_path, shape, transform, truth, sign
):
    """What saturates has an end on one side only."""
    case = saturating(tmp_path, shape, transform, 0.5 * sign, truth)
    metrics = reported(case, identified(case))
    value, ends = metrics["w"], metrics["w_interval"]
    if ends is None:
        # So far out that the data see nothing of it any more.
        assert metrics["undetermined"] == ["w"], metrics["undetermined"]
    else:
        near, far = ends[::sign]
        assert far is None and sign * near < sign * value
    assert metrics["D_interval"][0] < metrics["D"] < metrics["D_interval"][1]


def test_a_reach_ends_where_the_objective_rises():
    assert reach(lambda t: t**2 / 2, 2.0, np.inf) == 2.0
    assert reach(lambda t: 1 - np.exp(-t), 2.0, np.inf) == np.inf
    assert 2.0 < reach(lambda t: t**4 / 1e3, 2.0, np.inf) <= (2e3) ** 0.25 * 1.05
    assert reach(lambda t: np.inf, 2.0, np.inf) == 2.0
    assert reach(lambda t: t / 100, 2.0, 100.0) == np.inf
