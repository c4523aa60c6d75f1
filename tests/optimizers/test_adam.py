"""Adam and AdamW: the formula, minibatches, bounds, what is said at the end, and how a run that was
stopped between two batches goes on."""

import json

import numpy as np
import pytest
from mpi4py import MPI
from petsc4py import PETSc
from sums import COUNT, made

from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError, Interrupted, SolverError
from npde_opt.optimizers import OptimizerState, Settings, minimize
from npde_opt.optimizers.batches import Batches

COMM = MPI.COMM_WORLD


def whole(vec):
    """All entries, on every rank."""
    return np.concatenate(COMM.allgather(vec.getArray(readonly=True).copy()))


def reference(problem, steps, rate, betas, epsilon, shrinkage, clip):
    """The published algorithm on plain arrays, by the problem's gradient."""
    m = problem.start()
    a = v = np.zeros(m.getLocalSize())
    for t in range(1, steps + 1):
        at = problem.linearize(m)
        g = at.gradient()
        factor = min(1.0, clip / g.norm())
        g = factor * g.getArray()
        a = betas[0] * a + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        m = m.copy()
        x = m.getArray() * (1 - rate * shrinkage)
        correction = (1 - betas[1] ** t) ** 0.5
        size = rate / (1 - betas[0] ** t)
        m.setArray(x - size * a / (np.sqrt(v) / correction + epsilon))
        at.destroy()
    return m


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize(("method", "decay"), [("adam", None), ("adamw", 0.1)])
def test_it_is_the_published_algorithm(problem, method, decay):
    objective = problem("rosenbrock")
    rule = {"rate": 0.02, "betas": (0.8, 0.99), "epsilon": 1e-6, "clip": 2.0}
    settings = Settings(method, max_iterations=30, weight_decay=decay, **rule)
    found = minimize(objective, objective.start(), settings)
    expected = reference(objective, 30, shrinkage=decay or 0.0, **rule)
    assert (found.m - expected).norm() <= 1e-12 * expected.norm()
    assert found.status == "max_iterations" and "gradient norm" in found.reason
    assert found.iterations == 30 and len(found.history) == 31
    assert found.evaluations == 32 and found.passes == 32
    assert objective.alive == 0


@pytest.mark.parallel([1, 2])
def test_the_history_has_the_objective_before_each_step(problem):
    objective = problem("quadratic")
    seen = []
    found = minimize(
        objective,
        objective.start(),
        Settings("adam", rate=0.1, max_iterations=3),
        lambda row, state: seen.append(state.vectors["m"].copy()),
    )
    values = [objective.linearize(m).value for m in seen]
    rows = [row["objective"] for row in found.history]
    assert rows == pytest.approx([values[0], *values[:3]], rel=1e-14)
    assert found.objective == pytest.approx(values[3], rel=1e-14)
    assert [row["step"] for row in found.history] == [0.0, 0.1, 0.1, 0.1]


@pytest.mark.parallel([1, 2])
def test_it_is_converged_only_where_the_whole_gradient_says_so(problem):
    objective = problem("quadratic")
    rule = {"rate": 0.3, "schedule": "step", "period": 60, "decay": 0.5}
    settings = Settings("adam", max_iterations=800, gradient_rtol=1e-5, **rule)
    found = minimize(objective, objective.start(), settings)
    assert found.status == "converged", found.reason
    assert found.gradient_norm <= 1e-5 * found.gradient_norm_initial
    assert (found.m - objective.solution).norm() < 1e-3
    assert found.iterations < 800


@pytest.mark.parallel([1, 2])
def test_bounds_are_respected_by_projection(problem):
    objective = problem("bounded")
    rule = {"rate": 0.1, "schedule": "cosine"}
    inside = []

    def monitor(row, state):
        inside.append(
            state.vectors["m"].max()[1] <= 1.2 and state.vectors["m"].min()[1] >= -0.5
        )

    settings = Settings("adam", max_iterations=150, decrement=None, **rule)
    found = minimize(objective, objective.start(), settings, monitor)
    assert all(inside)
    assert (found.m - objective.solution).norm() < 1e-3


@pytest.mark.parallel([1, 2])
def test_as_a_type_of_tao_by_its_name(problem):
    """-tao_type python -tao_python_type ...: TAO's own objective, an iteration a step."""
    objective, tao = problem("bounded"), PETSc.TAO().create(COMM)
    options = PETSc.Options()
    given = {
        "own_tao_type": "python",
        "own_tao_python_type": "npde_opt.optimizers.adam.Adam",
        "own_tao_adam_rate": 0.02,
        "own_tao_max_it": 400,
    }
    for name, value in given.items():
        options[name] = value

    def value_and_gradient(tao, x, g):
        at = objective.linearize(x.copy())
        at.gradient().copy(g)
        return at.value

    x = objective.start()
    tao.setSolution(x)
    tao.setObjectiveGradient(value_and_gradient, x.duplicate())
    tao.setVariableBounds(objective.bounds())
    tao.setTolerances(gatol=0.0, grtol=0.0, gttol=0.0)
    tao.setOptionsPrefix("own_")
    tao.setFromOptions()
    tao.solve()
    for name in given:
        options.delValue(name)
    assert tao.getIterationNumber() == 400
    assert (x - objective.solution).norm() < 0.05
    tao.destroy()


# ---- minibatches -------------------------------------------------------------------------------

RULE = {"rate": 0.05, "batch": 2, "max_iterations": 3, "seed": 1, "decrement": None}


@pytest.mark.parallel([1, 2, 3])
def test_minibatches_are_those_of_the_seed(problem):
    J, m, _ = made("implicit")
    found = minimize(J, m, Settings("adam", **RULE))
    own = m.copy()
    a = v = np.zeros(m.getLocalSize())
    t, means = 0, []
    for epoch in range(3):
        mean = 0.0
        for columns in Batches(J, 2, 1).of(epoch):
            part = J.over(columns)
            at, t = part.linearize(own), t + 1
            mean += at.value * part.data_count / J.data_count
            g = at.gradient().getArray()
            a, v = 0.9 * a + 0.1 * g, 0.999 * v + 0.001 * g * g
            step = a / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
            own.setArray(own.getArray() - 0.05 * step)
            at.destroy()
        means.append(mean)
    assert (found.m - own).norm() <= 1e-10 * own.norm()
    assert [r["objective"] for r in found.history[1:]] == pytest.approx(
        means, rel=1e-10
    )
    first = J.over(Batches(J, 2, 1).of(0)[0])
    assert found.objective_initial == pytest.approx(first.linearize(m).value, rel=1e-12)
    share = 1 / Batches(J, 2, 1).count
    assert [r["passes"] for r in found.history] == pytest.approx(
        [share + n for n in range(4)]
    )
    assert [r["evaluations"] for r in found.history] == [1, 4, 7, 10]
    # J as a whole once, at the end, without a gradient.
    assert (found.evaluations, found.passes) == (11, pytest.approx(share + 4))
    assert found.status == "max_iterations" and "3 epochs, 9 steps" in found.reason
    assert found.objective == pytest.approx(J.linearize(found.m).value, rel=1e-12)


def test_an_objective_that_rose_is_told():
    J, m, _ = made("steady", loss="labels")
    given = RULE | {"max_iterations": 1}
    assert "rose" not in minimize(J, m, Settings("adam", **given)).reason
    found = minimize(J, m, Settings("adam", **given | {"rate": 8.0}))
    assert found.objective > 2 * found.objective_initial
    assert "the objective rose" in found.reason and "lower `rate`" in found.reason


@pytest.mark.parallel([2, 3])
def test_groups_see_the_same_batches():
    ensemble = Ensemble.split(COMM, COMM.size, COUNT)
    J, m, _ = made("fused", ensemble, at_once=1)
    single, m1, _ = made("fused")
    rule = RULE | {"rate": 0.002, "batch": 4}
    found, expected = (
        minimize(*p, Settings("adam", **rule)) for p in ((J, m), (single, m1))
    )
    values = [[row["objective"] for row in r.history] for r in (found, expected)]
    assert values[0] == pytest.approx(values[1], rel=1e-9)
    assert found.m.norm() == pytest.approx(expected.m.norm(), rel=1e-9)


@pytest.mark.parallel([1, 2])
def test_options_of_petsc_win(problem):
    objective = problem("quadratic")
    PETSc.Options()["tao_adam_rate"] = 0.25
    try:
        found = minimize(
            objective, objective.start(), Settings("adam", max_iterations=1)
        )
    finally:
        PETSc.Options().delValue("tao_adam_rate")
    assert found.history[-1]["step"] == 0.25
    moved = np.abs(whole(found.m - objective.start()))
    np.testing.assert_allclose(moved, 0.25, rtol=1e-6)


@pytest.mark.parallel([1, 2])
def test_an_option_that_cannot_be_is_told_by_its_name(problem):
    objective = problem("quadratic")
    PETSc.Options()["tao_adam_rate"] = -1
    try:
        with pytest.raises(
            InputError, match="-tao_adam_rate: got -1.0; allowed: a finite"
        ):
            minimize(objective, objective.start(), Settings("adam", max_iterations=1))
    finally:
        PETSc.Options().delValue("tao_adam_rate")


class Stopping:
    """Keeps the state after so many batches, and stops there."""

    def __init__(self, batches):
        self.left, self.kept = batches, None

    def __call__(self, row, state):
        return None

    def between(self, state):
        self.left -= 1
        if self.left == 0:
            vectors = {name: vector.copy() for name, vector in state.vectors.items()}
            self.kept = OptimizerState(vectors, json.loads(json.dumps(state.meta)))
            raise Interrupted("stopped")


@pytest.mark.parallel([2, 3])
def test_what_one_rank_raises_between_two_batches_is_raised_on_all():
    class Failing(Stopping):
        def between(self, state):
            if COMM.rank == COMM.size - 1:
                raise ValueError("of one rank")

    J, m, _ = made("implicit")
    with pytest.raises(ValueError, match="of one rank"):
        minimize(J, m, Settings("adam", **RULE), Failing(1))


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("batches", [1, 4])
def test_a_run_stopped_between_two_batches_goes_on_to_the_bit(batches):
    J, m, _ = made("implicit")
    settings = Settings("adamw", schedule="cosine", **RULE)
    expected = minimize(J, m, settings)
    monitor = Stopping(batches)
    with pytest.raises(Interrupted):
        minimize(J, m, settings, monitor)
    assert monitor.kept.meta["within"]["batch"] == [1, 2][batches > 2]
    found = minimize(J, m, settings, resume=monitor.kept)
    assert (found.m.getArray() == expected.m.getArray()).all()
    rows = expected.history[-len(found.history) :]
    assert len(found.history) == 3 - (batches > 2)
    for key in ("iteration", "objective", "misfit", "gradient_norm", "step", "passes"):
        assert [r[key] for r in found.history] == [r[key] for r in rows]
    assert found.counters["forward_solves"] == expected.counters["forward_solves"]
    assert (found.evaluations, found.passes) == (expected.evaluations, expected.passes)
    assert found.objective_initial == expected.objective_initial


@pytest.mark.parallel([1, 2])
def test_the_moments_are_what_makes_them_equal():
    J, m, _ = made("implicit")
    settings, monitor = Settings("adam", **RULE), Stopping(4)
    expected = minimize(J, m, settings)
    with pytest.raises(Interrupted):
        minimize(J, m, settings, monitor)
    state = monitor.kept
    poorer = OptimizerState(
        {"m": state.vectors["m"]}, {**state.meta, "memory": {"steps": 0}}
    )
    assert (minimize(J, m, settings, resume=poorer).m - expected.m).norm() > 1e-6


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("groups", [False, True])
def test_steps_that_go_too_far_are_told_on_every_rank(groups):
    J, m, _ = made("fused", Ensemble.split(COMM, COMM.size if groups else 1, COUNT))
    with pytest.raises(
        SolverError, match=r"stability limit.* steps of adam. Lower `rate`"
    ):
        minimize(J, m, Settings("adam", rate=1.0, batch=2))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"rate": 0.0}, "rate: got 0.0; allowed: a finite number > 0"),
        (
            {"schedule": "linear"},
            "schedule: got 'linear'; allowed: constant, cosine, step",
        ),
        (
            {"betas": (0.9, 1.0)},
            "betas: got .*; allowed: two numbers from 0 to below 1",
        ),
        ({"epsilon": 0.0}, "epsilon: got"),
        (
            {"weight_decay": 0.1},
            "weight_decay: got 0.1 with method 'adam'; allowed: .*'adamw'",
        ),
        ({"batch": 0}, "batch: got 0; allowed: an integer >= 1"),
        ({"clip": -1.0}, "clip: got -1.0; allowed: a finite number > 0"),
        ({"seed": -1}, "seed: got -1"),
        ({"decay": 0.0}, "decay: got 0.0"),
        ({"period": 0}, "period: got 0"),
        (
            {"warm_up": -1.0},
            "warm_up: got -1.0; allowed: a finite number of epochs >= 0",
        ),
    ],
)
def test_bad_settings_are_told_by_their_key(given, text):
    with pytest.raises(InputError, match=text):
        Settings("adam", **given)


def test_an_objective_that_is_no_sum_has_no_batches(problem):
    objective = problem("quadratic")
    with pytest.raises(InputError, match="batch: got 4"):
        minimize(objective, objective.start(), Settings("adam", batch=4))
