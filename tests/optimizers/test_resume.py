"""A run that is stopped and resumed follows the uninterrupted one, to the last bit where memory
allows."""

import json

import pytest

from npde_opt.errors import InputError, Interrupted
from npde_opt.optimizers import METHODS, OptimizerState, Settings, minimize

BITWISE = ["newton", "gauss-newton", "lbfgs"]


def stopped(objective, settings, iteration):
    """The state after this iteration, as a checkpoint keeps it."""
    kept = []

    def monitor(row, state):
        if row["iteration"] == iteration:
            vectors = {name: vector.copy() for name, vector in state.vectors.items()}
            kept.append(OptimizerState(vectors, json.loads(json.dumps(state.meta))))
            raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        minimize(objective, objective.start(), settings, monitor)
    return kept[0]


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("method", BITWISE)
@pytest.mark.parametrize("name", ["exponential", "rosenbrock"])
@pytest.mark.parametrize("iteration", [0, 1, 5])
def test_resumed_run_is_equal_to_the_last_bit(problem, name, method, iteration):
    settings = Settings(method=method, gradient_rtol=1e-9, max_iterations=30, memory=3)
    whole = problem(name)
    expected = minimize(whole, whole.start(), settings)
    assert expected.iterations > iteration
    state = stopped(problem(name), settings, iteration)
    objective = problem(name)
    result = minimize(objective, objective.start(), settings, resume=state)
    assert (result.m.getArray() == expected.m.getArray()).all()
    assert result.iterations == expected.iterations and result.status == expected.status
    assert result.objective_initial == expected.objective_initial
    assert result.gradient_norm_initial == expected.gradient_norm_initial
    rows = expected.history[iteration + 1 :]
    for key in ("iteration", "objective", "gradient_norm", "step", "inner_iterations"):
        assert [row[key] for row in result.history] == [row[key] for row in rows]
    # the solves to stand at the last point again are not counted twice
    for key in ("forward_solves", "adjoint_solves"):
        assert result.counters[key] == expected.counters[key]


@pytest.mark.parallel([1, 2])
def test_the_pairs_are_what_makes_lbfgs_equal(problem):
    """Without them the resumed run takes another path: the test above can fail."""
    settings = Settings(method="lbfgs", gradient_rtol=1e-9, max_iterations=12)
    objective = problem("exponential")
    expected = minimize(objective, objective.start(), settings)
    state = stopped(objective, settings, 5)
    poorer = OptimizerState(
        {"m": state.vectors["m"]}, {**state.meta, "memory": {"shifts": []}}
    )
    result = minimize(objective, objective.start(), settings, resume=poorer)
    assert (result.m - expected.m).norm() > 1e-8


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("method", [name for name in METHODS if name not in BITWISE])
def test_the_others_restart_from_the_iterate(problem, method):
    settings = Settings(method=method, gradient_rtol=1e-6, max_iterations=600)
    objective = problem("exponential")
    expected = minimize(objective, objective.start(), settings)
    result = minimize(
        objective, objective.start(), settings, resume=stopped(objective, settings, 4)
    )
    assert result.status == expected.status == "converged"
    assert result.history[0]["iteration"] == 5
    assert result.objective == pytest.approx(expected.objective, rel=1e-6)


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize(
    ("given", "status"),
    [({}, "converged"), ({"gradient_atol": 1e9}, "stopped_at_tolerance")],
)
def test_a_finished_run_is_not_continued(problem, given, status):
    objective, kept = problem("quadratic"), []
    settings = Settings(method="newton", **given)

    def monitor(row, state):
        kept[:] = [OptimizerState({"m": state.vectors["m"].copy()}, dict(state.meta))]

    expected = minimize(objective, objective.start(), settings, monitor)
    result = minimize(objective, objective.start(), settings, monitor, resume=kept[0])
    assert (result.status, result.iterations) == (status, expected.iterations)
    assert result.reason == expected.reason
    assert result.history == [] and (result.m - expected.m).norm() == 0.0


def test_another_method_is_refused(problem):
    state = stopped(problem("quadratic"), Settings(method="newton"), 1)
    objective = problem("quadratic")
    with pytest.raises(InputError, match="method: got 'lbfgs'; allowed: 'newton'"):
        minimize(objective, objective.start(), Settings(method="lbfgs"), resume=state)
