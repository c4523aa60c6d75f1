"""'Converged' means converged: far starts, starts at the answer, unknowns that no datum sees,
answers that run away."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from fits import case_of, diffusion, identified, reported
from mpi4py import MPI

from npde_opt import nested
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError, SolverError
from npde_opt.linear.accuracy import tolerance
from npde_opt.linear.recipes import LinearSolver
from npde_opt.optimizers import METHODS, Settings, directions, minimize
from npde_opt.optimizers.point import FARTHEST

REACHED = 1e-2
BOUNDED = ("bounded-lbfgs", "bqnkls", "bntr", "ncg")


def kind_for(method):
    """Of the problem: one with bounds for methods that heed them."""
    return "bounded" if method in BOUNDED else "exponential"


@pytest.fixture(scope="module")
def minimum(tmp_path_factory):
    """J at the minimum of the diffusion problem, from a start near by."""
    return identified(
        diffusion(tmp_path_factory.mktemp("near")), gradient_rtol=1e-9
    ).result.objective


@pytest.mark.parallel([1, 2])
@pytest.mark.fewer(2, method=["newton", "bntr", "lbfgs"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("D", "w"), [(4e-3, 1.0), (4.0, 1e4), (4e3, 1e-3), (0.04, 1e3)]
)
def test_a_far_start_reaches_the_minimum_or_says_that_it_did_not(
    tmp_path, minimum, method, D, w
):
    result = identified(diffusion(tmp_path, D=D, w=w), method).result
    reached = result.objective <= minimum + REACHED
    assert (result.status == "converged") == reached, (
        result.status,
        result.reason,
        result.objective,
        minimum,
    )
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
    objective = problem(kind_for(method))
    exact = minimize(
        objective,
        objective.start(),
        Settings(method="bntr", gradient_rtol=1e-11, max_iterations=200),
    ).m
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


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "given", [{"insist": False}, {"gradient_rtol": 1e-3}, {"gradient_atol": 1e9}]
)
def test_a_tolerance_that_is_given_is_obeyed(problem, method, given):
    """It holds at the start, far from the minimum: the run ends there, and does not say that it
    converged."""
    objective = problem(kind_for(method))
    settings = Settings(method=method, gradient_reference=1e12, **given)
    result = minimize(objective, objective.start(), settings)
    assert (result.status, result.iterations) == ("stopped_at_tolerance", 0)
    assert result.decrement > settings.decrement
    assert (
        "gradient norm" in result.reason
        and "may still fall by" in result.reason
        and "gradient_rtol" in result.reason
    )
    further = minimize(objective, objective.start(), replace(settings, insist=True))
    assert further.status == "converged" and further.objective < result.objective


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("method", METHODS)
def test_a_tolerance_that_leaves_nothing_to_gain_converges(problem, method):
    objective = problem(kind_for(method))
    settings = Settings(method=method, gradient_rtol=1e-7, max_iterations=600)
    result = minimize(objective, objective.start(), settings)
    assert result.status == "converged", result.reason
    assert "decrement" in result.reason and "VERGED" not in result.reason


BOX = """
[grid]
shape = [16, 16]
[boundaries]
"y-" = "dirichlet"
"y+" = "dirichlet"
[[unknown]]
name = "D"
initial = 1.0
[[experiment]]
boundary = {{ "y+" = {top} }}
[[observation]]
points = [[0.3, 0.4], [0.6, 0.5]]
data = {{ file = "y.npy" }}
sigma = 0.01
[[regularization]]
kind = "gradient"
weight = 1.0
"""


@pytest.mark.parametrize(
    ("optimizer", "goes_on"),
    [
        ("", True),
        ("gradient_rtol = 1e-6", True),
        ("gradient_rtol = 1e-3", False),
        ("gradient_rtol = 1e-3\ninsist = true", True),
        ("insist = false", False),
    ],
)
def test_a_case_says_whether_its_tolerance_is_obeyed(tmp_path, optimizer, goes_on):
    for text in (BOX.format(top=1.0), HISTORY_FREE.format(D="")):
        assert (
            case_of(tmp_path, f"{text}[optimizer]\n{optimizer}\n").settings().goes_on
            == goes_on
        )


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("method", ["newton", "gauss-newton", "lbfgs"])
def test_an_answer_in_rounding_does_not_read_as_a_failure(problem, method):
    """A tolerance below rounding: the line search fails at the minimum."""
    objective = problem("exponential")
    result = minimize(
        objective,
        objective.start(),
        Settings(method=method, gradient_rtol=0.0, max_iterations=500),
    )
    assert result.status == "converged" and result.reason.startswith(
        "lower objectives are lost in rounding"
    ), result.reason


HISTORY_FREE = """
[grid]
shape = [8]
[equation]
terms = [{{ diffusion = "D" }}, {{ reaction = "a" }}]
[time]
scheme = "backward-euler"
times = {{ end = 0.2, steps = 4 }}
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
[equation]
terms = [{{ reaction = "c" }}]
known = {{ c = 1.0 }}
derived = {{ product = "a*b", ratio = "a/b" }}
[time]
scheme = "backward-euler"
times = {{ end = 1.0, steps = 10 }}
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
    case = case_of(tmp_path, HISTORY_FREE.format(D=""))
    found = identified(case, method)
    assert (
        found.result.status == "undetermined" and "do not see D" in found.result.reason
    )
    metrics = reported(case, found)
    assert metrics["D_interval"] is None and metrics["undetermined"] == ["D"]
    low, high = metrics["a_interval"]
    assert low < metrics["a"] < high


def test_a_prior_counts_as_information(tmp_path):
    case = case_of(tmp_path, HISTORY_FREE.format(D="deviation = 0.5"))
    found = identified(case)
    assert found.result.status == "converged"
    low, high = reported(case, found)["D_interval"]
    # Four data less two unknowns: the t quantile with two degrees of freedom, of the prior's 0.5.
    assert np.log(high / low) == pytest.approx(2 * 4.303 * 0.5, rel=0.01)


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("method", ["newton", "gauss-newton", "lbfgs", "bntr"])
@pytest.mark.parametrize(
    ("shape", "transform"),
    [("a*b", ""), ("a + b", 'transform = "identity"'), ("a*b/(1 + x)", "")],
)
def test_of_products_and_sums_the_parts_are_undetermined(
    tmp_path, shape, transform, method
):
    case = case_of(tmp_path, FACTORS.format(shape=shape, transform=transform))
    found = identified(case, method)
    assert found.result.status == "undetermined", found.result.reason
    assert "a (" in found.result.reason and "b (" in found.result.reason
    metrics = reported(case, found)
    assert (
        metrics["a_interval"] is None
        and metrics["b_interval"] is None
        and metrics["ratio_interval"] is None
    )
    if "*" in shape:
        low, high = metrics["product_interval"]
        assert low < metrics["product"] < high and high / low < 1.2
        if shape == "a*b":
            assert low < 6.0 < high


LOST = """
[grid]
shape = [16]
[boundaries]
"x-" = "dirichlet"
[equation]
terms = [{{ diffusion = "D" }}, {{ reaction = "a" }}]
[time]
scheme = "backward-euler"
times = {{ end = 1.0, steps = 20 }}
[[unknown]]
name = "D"
kind = "scalar"
initial = {D}
truth = 0.3
[[unknown]]
name = "a"
kind = "scalar"
initial = {a}
truth = 2.0
[[experiment]]
initial = {{ u = "sin(pi*x/2)" }}
[[observation]]
times = {{ start = 0.1, end = 1.0, count = 10 }}
points = [[0.3], [0.7]]
noise = 0.01
[simulation]
refine = 1
steps = 1
"""


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("method", ["gauss-newton", "bntr"])
@pytest.mark.parametrize(("D", "a"), [(1e-5, 1e-5), (1.0, 1e-10), (1e-8, 3.0)])
def test_a_part_of_a_sum_that_does_nothing_leaves_the_other_open(
    tmp_path, method, D, a
):
    """Only D pi^2 / 4 + a is seen: where one is next to nothing, the other may still be anything
    below the sum."""
    case = case_of(tmp_path, LOST.format(D=D, a=a))
    found = identified(case, method, max_iterations=100)
    assert found.result.status == "undetermined", found.result.reason
    metrics = reported(case, found)
    assert metrics["D_interval"] is None and metrics["a_interval"] is None, metrics
    (text,) = metrics["undetermined"]
    assert "D (" in text and "a (" in text


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.fewer(3, shape=["a*b"])
@pytest.mark.parametrize("start", [1.0, 1e4])
@pytest.mark.parametrize("shape", ["a*b", "a/b"])
def test_a_range_of_many_decades_has_its_ends_far_away(tmp_path, shape, start):
    """1 is a part of 1e-12 of the range, and far from its lower end all the same."""
    text = FACTORS.format(
        shape=shape, transform='transform = "bounded"\nbounds = [1e-12, 1e12]'
    )
    case = case_of(tmp_path, text.replace("initial = 1.0\n", f"initial = {start}\n"))
    found = identified(case, max_iterations=100)
    metrics = reported(case, found)
    assert metrics["chi_squared"] < 2
    assert found.result.status == "undetermined"
    assert metrics["a_interval"] is None and metrics["b_interval"] is None


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize("shape", ["a*b", "a/b", "a + b"])
def test_parts_of_very_different_size_on_some_ranks(tmp_path, shape):
    test_parts_of_very_different_size_are_undetermined(tmp_path, shape, 1e-5, 5.0, "")


@pytest.mark.parametrize("transform", ["", 'transform = "identity"'])
@pytest.mark.parametrize(("a", "b"), [(1e-5, 5.0), (1e4, 1e-4), (7.0, 1e-7)])
@pytest.mark.parametrize(
    "shape", ["a*b", "a/b", "a + b", "a + 2*b", "a**2*b", "a*b + b"]
)
def test_parts_of_very_different_size_are_undetermined(
    tmp_path, shape, a, b, transform
):
    """Never an interval of one of the two; of what is seen there is one, but where a logarithm ran
    away."""
    text = FACTORS.format(shape=shape, transform=transform).replace(
        "derived = {", f'derived = {{ seen = "{shape}",'
    )
    text = text.replace(
        'name = "a"\nkind = "scalar"\ninitial = 1.0',
        f'name = "a"\nkind = "scalar"\ninitial = {a}',
    )
    text = text.replace(
        'name = "b"\nkind = "scalar"\ninitial = 1.0',
        f'name = "b"\nkind = "scalar"\ninitial = {b}',
    )
    case = case_of(tmp_path, text)
    found = identified(case, max_iterations=100)
    assert found.result.status != "converged", found.result.reason
    metrics = reported(case, found)
    assert metrics["a_interval"] is None and metrics["b_interval"] is None, metrics
    if found.result.status == "undetermined":
        low, high = metrics["seen_interval"]
        assert low < metrics["seen"] < high


@pytest.mark.parametrize("method", METHODS)
def test_a_parameter_that_runs_to_nothing_is_not_converged(tmp_path, method):
    """The data grow, the model can only decay: the rate's best value is 0, which its logarithm
    never reaches."""
    np.save(tmp_path / "grown.npy", np.array([1.1, 1.2]))
    text = """
[grid]
shape = [4]
[equation]
terms = [{ reaction = "c" }]
[time]
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


@pytest.mark.parametrize("method", ["newton", "gauss-newton", "lbfgs", "bntr"])
def test_a_start_on_which_nothing_depends_is_refused(tmp_path, method):
    np.save(tmp_path / "y.npy", np.array([[0.4, 0.5]]))
    assert (
        identified(case_of(tmp_path, BOX.format(top=1.0)), method).result.status
        == "converged"
    )
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
    nested.identify(
        case.grid(MPI.COMM_WORLD), lambda g: case.build(g, ensemble), case.settings(), 2
    )
    assert asked == [None, Settings().decrement]


@pytest.mark.parallel([1, 2])
def test_gradients_that_do_not_fall_are_made_more_exact(problem):
    """Solves to 1e-8 leave 3e-4 of a gradient, of a sign that changes from point to point."""
    objective = problem("exponential")
    exact, rows = objective.slope, objective.vec(lambda i: i + 1.0)

    def slope(m):
        error = m * rows
        error.setArray(np.sin(1e5 * error.getArray()))
        return exact(m) + 1e4 * tolerance(1e-8) * error

    objective.slope = slope
    settings = Settings(method="newton", gradient_atol=1e-5, gradient_rtol=1e-12)
    result = minimize(objective, objective.start(), settings)
    assert result.status in ("converged", "stopped_at_tolerance")
    assert result.gradient_norm <= 1e-5 and result.iterations < 20


@pytest.mark.parallel([1, 2])
def test_a_search_sees_the_last_fall_of_the_objective(problem, monkeypatch):
    """Solves to 1e-8 leave 1e-7 of a value, too much and too little in turn: more than the last of
    ten steps lowers it by."""
    objective = problem("exponential")
    exact = objective.phi

    def tried(seen, first):
        places = itertools.count(first)
        objective.phi = lambda m: exact(m) + (-1) ** next(places) * 3 * tolerance(1e-8)
        monkeypatch.setattr(directions, "SEEN", seen)
        settings = Settings(method="newton", gradient_rtol=1e-8)
        result = minimize(objective, objective.start(), settings)
        assert result.status == "converged"
        return result.history[-1]["evaluations"] - result.iterations - 1

    early, late = (max(tried(seen, k) for k in (0, 1)) for seen in (1e-3, 0.0))
    assert early == 0 < late


@pytest.mark.parallel([1, 2])
def test_states_that_cannot_be_more_exact_stay_as_they_are(problem, monkeypatch):
    objective = problem("exponential")
    exact, failed = objective.phi, []

    def phi(m):
        if tolerance(1e-8) < 1e-8:
            failed.append(m)
            raise SolverError("state_", "too tight", "Do not.")
        return exact(m)

    objective.phi = phi
    monkeypatch.setattr(directions, "SEEN", 1e-1)
    settings = Settings(method="newton", gradient_rtol=1e-8)
    result = minimize(objective, objective.start(), settings)
    assert result.status == "converged" and len(failed) == 1


SEEN = """
[grid]
shape = [16, 16]
[boundaries]
"y-" = "dirichlet"
"y+" = "dirichlet"
[[unknown]]
name = "D"
initial = 1.0
truth = { lognormal = { contrast = 20.0, seed = 0 } }
[[experiment]]
boundary = { "y+" = 1.0 }
[[observation]]
random = 60
noise = 0.01
[[regularization]]
weight = 1.0
[simulation]
refine = 1
"""


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("method", ["gauss-newton", "newton"])
def test_products_are_less_exact_the_farther_conjugate_gradients_are(
    tmp_path, monkeypatch, method
):
    """The answer and the number of solves are those of exact products."""
    asked = []
    original = LinearSolver.solve

    def solve(self, b, x):
        if self.prefix == "state_":
            asked.append(tolerance(1e-8))
        original(self, b, x)

    monkeypatch.setattr(LinearSolver, "solve", solve)
    case = case_of(tmp_path, SEEN)
    loose = identified(case, method).result
    seen, asked[:] = np.array(asked), []
    monkeypatch.setattr(directions, "LOOSE", (1e-8, 1e-8))
    exact = identified(case, method).result
    assert max(asked) == 1e-8
    assert 1e-8 in seen and np.median(seen) > 1e-6 and seen.max() <= 1e-2
    assert loose.status == exact.status == "converged"
    assert loose.objective == pytest.approx(exact.objective, rel=1e-4)
    assert len(seen) <= 1.2 * len(asked) + 4
