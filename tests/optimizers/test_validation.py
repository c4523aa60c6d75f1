"""Data set aside: columns of the history, early stopping, the best point, whatever the method."""

import json

import pytest
from sums import made

from npde_opt.errors import InputError, Interrupted, SolverError
from npde_opt.optimizers import OptimizerState, Settings, minimize
from npde_opt.optimizers.validation import Validation

HELD = [3, 5]


def parted(kind="implicit", at_once=None):
    """What is fitted, where from, and a validation."""
    J, m, _ = made(kind, at_once=at_once)
    figures = {"chi": lambda at: at.chi_squared()}
    return (
        J.over([0, 1, 2, 4]),
        m,
        Validation(lambda _: J.over(HELD), figures, training=True),
    )


SETTINGS = {
    "adam": {"rate": 0.1, "batch": 2, "max_iterations": 4},
    "lbfgs": {"max_iterations": 4},
    "newton": {"max_iterations": 3},
    "bounded-lbfgs": {"max_iterations": 4},
}


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("method", list(SETTINGS))
def test_its_numbers_are_in_the_history_of_every_method(method):
    train, m, aside = parted()
    points = []
    found = minimize(
        train,
        m,
        Settings(method, validation=aside, decrement=None, **SETTINGS[method]),
        lambda row, state: points.append(state.vectors["m"].copy()),
    )
    assert aside.columns == ("validation", "training", "validation_chi", "training_chi")
    losses = [row["validation"] for row in found.history]
    for row, point in zip(found.history, points, strict=True):
        for name, objective in (("validation", train.over(HELD)), ("training", train)):
            at = objective.linearize(point)
            assert row[name] == pytest.approx(at.loss, rel=1e-12)
            assert row[f"{name}_chi"] == pytest.approx(2 * at.loss, rel=1e-12)
            at.destroy()
    best = losses.index(min(losses))
    assert found.best == best
    assert (found.m - points[best]).norm() == 0.0


def adverse():
    """Data set aside that get worse from the start on: what is fitted is far from them."""
    J, m, _ = made("implicit")
    start = J.over(HELD).linearize(m)

    class Away:
        """|m - m0|^2, least at the start."""

        def __init__(self, m1):
            step = m1 - m
            self.loss = self.misfit = step.dot(step)

        def destroy(self):
            pass

    held = type("Held", (), {"linearize": lambda self, at: Away(at)})()
    start.destroy()
    return J, m, Validation(lambda _: held)


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("method", ["adam", "lbfgs"])
def test_a_run_ends_where_it_gets_no_better_with_the_best_point(method):
    J, m, aside = adverse()
    rule = SETTINGS[method] | {"max_iterations": 40}
    found = minimize(J, m, Settings(method, validation=aside, patience=2, **rule))
    assert found.status == "stopped_early" and found.iterations == 2 and found.best == 0
    assert "has not fallen for 2 iterations; m is that of iteration 0" in found.reason
    assert (found.m - m).norm() == 0.0
    assert found.objective == pytest.approx(J.linearize(m).value, rel=1e-12)
    if method == "lbfgs":
        assert found.gradient_norm == pytest.approx(
            found.gradient_norm_initial, rel=1e-10
        )


@pytest.mark.parallel([1, 2])
def test_a_converged_point_that_is_not_the_best_is_not_returned_as_one():
    J, m, aside = adverse()
    found = minimize(
        J, m, Settings("lbfgs", validation=aside, gradient_rtol=0.3, decrement=None)
    )
    assert found.best == 0 and found.status == "stopped_early"
    assert (
        "gradient norm" in found.reason and "m is that of iteration 0" in found.reason
    )


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("method", ["adam", "lbfgs"])
def test_the_best_point_outlives_a_stop(method):
    J, m, aside = adverse()
    rule = SETTINGS[method] | {"max_iterations": 40}
    settings, kept = Settings(method, validation=aside, patience=3, **rule), []

    def monitor(row, state):
        if row["iteration"] == 2:
            vectors = {name: v.copy() for name, v in state.vectors.items()}
            kept.append(OptimizerState(vectors, json.loads(json.dumps(state.meta))))
            raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        minimize(J, m, settings, monitor)
    found = minimize(J, m, settings, resume=kept[0])
    assert (found.status, found.iterations, found.best) == ("stopped_early", 3, 0)
    assert (found.m - m).norm() == 0.0


@pytest.mark.parallel([1, 2])
def test_a_state_that_cannot_be_found_leaves_the_cells_empty():
    J, m, _ = made("implicit")

    class Lost:
        @property
        def loss(self):
            raise SolverError("state_", "lost", "none")

        def destroy(self):
            pass

    held = type("Held", (), {"linearize": lambda self, at: Lost()})()
    aside = Validation(lambda _: held, {"chi": lambda at: 1.0})
    found = minimize(J, m, Settings("lbfgs", validation=aside, max_iterations=1))
    assert [row["validation"] for row in found.history] == [None, None]
    assert found.best is None and found.status == "max_iterations"


@pytest.mark.parallel([1, 2])
def test_looking_at_parts_takes_no_gradients():
    train, m, aside = parted(at_once=1)
    found = minimize(
        train, m, Settings("adam", validation=aside, max_iterations=2, decrement=None)
    )
    # Start, two steps, and the end; four experiments.
    assert found.counters["adjoint_solves"] == 4 * 4


def test_patience_needs_data_set_aside():
    J, m, _ = made("implicit")
    with pytest.raises(InputError, match="patience: got 5 without data set aside"):
        minimize(J, m, Settings("adam", patience=5))


def test_names_of_figures_are_words():
    with pytest.raises(InputError, match="validation.figures: got 'two words'"):
        Validation(lambda _: None, {"two words": lambda at: 0.0})
