"""'Converged' means converged: far starts, starts at the answer, unknowns that no datum sees, answers that run away."""

import numpy as np
import pytest
from fits import case_of, diffusion, identified, reported
from mpi4py import MPI

from npde_opt import nested
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError
from npde_opt.optimizers import METHODS, Settings, minimize
from npde_opt.optimizers.point import FARTHEST

REACHED = 1e-2


@pytest.fixture(scope="module")
def minimum(tmp_path_factory):
    """J at the minimum of the diffusion problem, from a start near by."""
    return identified(diffusion(tmp_path_factory.mktemp("near")), gradient_rtol=1e-9).result.objective


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("D", "w"), [(4e-3, 1.0), (4.0, 1e4), (4e3, 1e-3), (0.04, 1e3)])
def test_a_far_start_reaches_the_minimum_or_says_that_it_did_not(tmp_path, minimum, method, D, w):
    result = identified(diffusion(tmp_path, D=D, w=w), method).result
    reached = result.objective <= minimum + REACHED
    assert (result.status == "converged") == reached, (result.status, result.reason, result.objective, minimum)
    if method == "gauss-newton":
        assert reached


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("method", METHODS)
def test_no_step_changes_a_logarithm_by_more_than_the_limit(tmp_path, method):
    case = diffusion(tmp_path, D=4e3, w=1e4)
    ensemble = Ensemble.split(MPI.COMM_WORLD, 1, 1)
    case.prepare(ensemble)
    objective, m = case.build(case.grid(MPI.COMM_WORLD), ensemble)
    points = []

    def keep(row, state):
        points.append(state.vectors["m"].copy())

    minimize(objective, m, Settings(method=method, max_iterations=8), keep)
    steps = [objective.stretch(b - a) for a, b in zip(points, points[1:], strict=False)]
    assert steps and max(steps) <= FARTHEST * (1 + 1e-6)


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("method", METHODS)
def test_a_start_at_the_minimum_is_converged(problem, method):
    """The gradient is no fraction of the start's, which is rounding already."""
    objective = problem("bounded" if method in ("bounded-lbfgs", "bqnkls", "bntr", "ncg") else "exponential")
    exact = minimize(objective, objective.start(), Settings(method="bntr", gradient_rtol=1e-11, max_iterations=200)).m
    result = minimize(objective, exact, Settings(method=method))
    assert (result.status, result.iterations) == ("converged", 0)
    assert result.decrement <= 1e-6


@pytest.mark.parallel([1, 2])
def test_the_gradient_alone_does_not_converge(problem):
    """A reference that is met from the first point on: the decrement says that much is to gain."""
    objective = problem("exponential")
    settings = Settings(method="newton", gradient_reference=1e12)
    result = minimize(objective, objective.start(), settings)
    assert result.status == "converged" and result.iterations > 1
    assert result.decrement <= settings.decrement
    assert result.objective == pytest.approx(0.23327371931, abs=2e-3)


HISTORY_FREE = """
[grid]
shape = [8]
[evolution]
terms = [{{ diffusion = "D" }}, {{ reaction = "a" }}]
scheme = "backward-euler"
times = {{ end = 0.2, steps = 4 }}
{evolution}
[[unknown]]
name = "D"
kind = "scalar"
initial = 1.0
truth = 2.0
{D}
[[unknown]]
name = "a"
kind = "scalar"
initial = 1.0
transform = "identity"
truth = 0.5
[[experiment]]
initial = {{ u = 1.0 }}
[[observation]]
times = [0.1, 0.2]
points = [[0.1], [0.7]]
noise = 0.01
"""

FACTORS = """
[grid]
shape = [8]
[evolution]
terms = [{{ reaction = "c" }}]
known = {{ c = 1.0 }}
scheme = "backward-euler"
times = {{ end = 1.0, steps = 10 }}
derived = {{ product = "a*b", ratio = "a/b" }}
[[unknown]]
name = "a"
kind = "scalar"
initial = 1.0
truth = 2.0
{transform}
[[unknown]]
name = "b"
kind = "scalar"
initial = 1.0
truth = 3.0
{transform}
[[experiment]]
sources = [{{ shape = "{shape}" }}]
[[observation]]
times = {{ start = 0.1, end = 1.0, count = 10 }}
points = [[0.3]]
noise = 0.02
"""


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("method", METHODS)
def test_what_no_datum_sees_is_undetermined(tmp_path, method):
    """Diffusion of a constant state."""
    case = case_of(tmp_path, HISTORY_FREE.format(evolution="", D=""))
    found = identified(case, method)
    assert found.result.status == "undetermined" and "do not see D" in found.result.reason
    metrics = reported(case, found)
    assert metrics["D_interval"] is None and metrics["undetermined"] == ["D"]
    low, high = metrics["a_interval"]
    assert low < metrics["a"] < high


def test_a_prior_counts_as_information(tmp_path):
    case = case_of(tmp_path, HISTORY_FREE.format(evolution="", D="deviation = 0.5"))
    found = identified(case)
    assert found.result.status == "converged"
    low, high = reported(case, found)["D_interval"]
    assert np.log(high / low) == pytest.approx(2 * 1.96 * 0.5, rel=0.01) or np.log(high / low) > 2 * 1.96 * 0.5 * 0.99


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("method", ["newton", "gauss-newton", "lbfgs", "bntr"])
@pytest.mark.parametrize(("shape", "transform"), [("a*b", ""), ("a + b", 'transform = "identity"'), ("a*b/(1 + x)", "")])
def test_of_products_and_sums_the_parts_are_undetermined(tmp_path, shape, transform, method):
    case = case_of(tmp_path, FACTORS.format(shape=shape, transform=transform))
    found = identified(case, method)
    assert found.result.status == "undetermined", found.result.reason
    assert "a (" in found.result.reason and "b (" in found.result.reason
    metrics = reported(case, found)
    assert metrics["a_interval"] is None and metrics["b_interval"] is None and metrics["ratio_interval"] is None
    if "*" in shape:
        low, high = metrics["product_interval"]
        assert low < metrics["product"] < high and high / low < 1.2
        if shape == "a*b":
            assert low < 6.0 < high


@pytest.mark.parametrize("method", METHODS)
def test_a_parameter_that_runs_to_nothing_is_not_converged(tmp_path, method):
    """The data grow, the model can only decay: the rate's best value is 0, which its logarithm never reaches."""
    np.save(tmp_path / "grown.npy", np.array([1.1, 1.2]))
    text = """
[grid]
shape = [4]
[evolution]
terms = [{ reaction = "c" }]
scheme = "backward-euler"
times = { end = 1.0, steps = 4 }
[[unknown]]
name = "c"
kind = "scalar"
initial = 1.0
[[experiment]]
initial = { u = 1.0 }
[[observation]]
times = [0.5, 1.0]
points = [[0.4]]
sigma = 0.01
data = [{ file = "grown.npy" }]
"""
    case = case_of(tmp_path, text)
    found = identified(case, method)
    assert found.result.status in ("undetermined", "stalled", "max_iterations")
    assert "c is" in reported(case, found)["moved"][0]


BOX = """
[grid]
shape = [16, 16]
[boundaries]
"y-" = "dirichlet"
"y+" = "dirichlet"
[[unknown]]
name = "D"
initial = 1.0
[experiments]
boundary = [{{ "y+" = {top} }}]
[observations]
points = [[0.3, 0.4], [0.6, 0.5]]
data = {{ file = "y.npy" }}
sigma = 0.01
[[regularization]]
kind = "gradient"
weight = 1.0
"""


@pytest.mark.parametrize("method", ["newton", "gauss-newton", "lbfgs", "bntr"])
def test_a_start_on_which_nothing_depends_is_refused(tmp_path, method):
    np.save(tmp_path / "y.npy", np.array([[0.4, 0.5]]))
    assert identified(case_of(tmp_path, BOX.format(top=1.0)), method).result.status == "converged"
    with pytest.raises(InputError, match="unknown: got D.*some datum depends on"):
        identified(case_of(tmp_path, BOX.format(top=0.0)), method)


def test_an_objective_without_data_is_refused(tmp_path):
    np.save(tmp_path / "y.npy", np.full((1, 2), np.nan))
    with pytest.raises(InputError, match="at least one"):
        identified(case_of(tmp_path, BOX.format(top=1.0)))


def test_coarse_grids_stop_by_the_gradient_alone(tmp_path, monkeypatch):
    asked = []
    original = nested.minimize

    def spy(objective, m, settings, *rest):
        asked.append(settings.decrement)
        return original(objective, m, settings, *rest)

    monkeypatch.setattr(nested, "minimize", spy)
    np.save(tmp_path / "y.npy", np.array([[0.4, 0.5]]))
    case = case_of(tmp_path, BOX.format(top=1.0).replace("[16, 16]", "[32, 32]"))
    ensemble = Ensemble.split(MPI.COMM_WORLD, 1, 1)
    case.prepare(ensemble)
    nested.identify(case.grid(MPI.COMM_WORLD), lambda g: case.build(g, ensemble), case.settings(), 2)
    assert asked == [None, Settings().decrement]
