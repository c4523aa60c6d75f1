"""Every optimizer on every small problem, and what `minimize` promises of its Result."""

import faulthandler
import gc

import numpy as np
import pytest
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.errors import InputError, Interrupted, NpdeError, SolverError
from npde_opt.optimizers import METHODS, Settings, minimize

COMM = MPI.COMM_WORLD
NEWTON = ["newton", "gauss-newton", "bntr"]
BOUNDED = ["bounded-lbfgs", "bqnkls", "bntr", "ncg"]
RTOL = 1e-7


@pytest.fixture
def option():
    """Sets options of PETSc's database for one test."""
    names = []

    def put(name, value):
        PETSc.Options().setValue(name, value)
        names.append(name)

    yield put
    for name in names:
        PETSc.Options().delValue(name)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["quadratic", "bounded", "exponential", "rosenbrock"])
def test_every_optimizer_on_every_problem(problem, name, method):
    objective = problem(name)
    settings = Settings(method=method, gradient_rtol=RTOL, max_iterations=600)
    if name == "bounded" and method not in BOUNDED:
        with pytest.raises(InputError, match=f"method: got '{method}'"):
            minimize(objective, objective.start(), settings)
        return
    result = minimize(objective, objective.start(), settings)
    assert result.status == "converged", (
        result.status,
        result.reason,
        result.iterations,
    )
    assert result.gradient_norm <= RTOL * result.gradient_norm_initial
    assert result.objective < result.objective_initial
    assert len(result.history) == result.iterations + 1
    assert objective.alive == 0
    if name == "exponential":
        # the minimum found by Newton's method to 1e-12
        assert result.objective == pytest.approx(0.23327371931, rel=1e-6)
    else:
        assert (result.m - objective.solution).norm() < 2e-5


@pytest.mark.parallel([1, 2])
def test_history_counts_one_forward_and_one_adjoint_solve_an_iteration(problem):
    objective = problem("quadratic")
    result = minimize(objective, objective.start(), Settings(method="newton"))
    assert [row["iteration"] for row in result.history] == list(
        range(result.iterations + 1)
    )
    assert [row["adjoint_solves"] for row in result.history] == list(
        range(1, result.iterations + 2)
    )
    assert (
        objective.counters.forward
        == objective.counters.adjoint
        == result.counters["forward_solves"]
    )
    assert all(row["inner_iterations"] > 0 for row in result.history[1:])
    assert all(row["step"] == 1.0 for row in result.history[1:])
    last = result.history[-1]
    assert (
        last["objective"] == result.objective == last["misfit"] + last["regularization"]
    )


@pytest.mark.parallel([1, 2])
def test_m0_is_left_as_it_is(problem):
    objective = problem("quadratic")
    m0 = objective.start()
    minimize(objective, m0, Settings(method="lbfgs"))
    assert (m0 - objective.start()).norm() == 0.0


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("method", METHODS)
def test_a_first_step_that_would_overflow_is_survived(problem, method):
    """With a weak regularization m - R^-1 g overflows exp."""
    objective = problem("overflowing")
    at = objective.linearize(objective.start())
    step = objective.start()
    at.precondition(at.gradient(), step)
    assert np.isinf(objective.linearize(objective.start() - step).value)
    result = minimize(
        objective,
        objective.start(),
        Settings(method=method, gradient_rtol=1e-3, max_iterations=300),
    )
    assert result.status == "converged", result.reason
    assert np.isfinite(result.objective) and result.objective < result.objective_initial


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("search", ["armijo", "more-thuente"])
def test_line_searches_recover_from_infinite_values(problem, option, search):
    objective = problem("overflowing")
    option("tao_ls_type", search)
    infinite = []
    phi = objective.phi

    def cliff(m):
        if m.max()[1] > 0.5:
            infinite.append(1)
            return np.inf
        return phi(m)

    objective.phi = cliff
    result = minimize(
        objective,
        objective.start(),
        Settings(method="newton", gradient_rtol=1e-3, max_iterations=5),
    )
    assert infinite and result.iterations >= 1
    assert result.objective < result.objective_initial


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("method", METHODS)
def test_a_failed_solve_shortens_the_step(problem, method):
    """As long as a shorter one exists; at the start, or where every trial fails, the error comes
    out."""
    objective = problem("exponential")
    phi, failed = objective.phi, []

    def solved_near(limit):
        def value(m):
            if m.max()[1] > limit:
                failed.append(1)
                raise SolverError("state_", "DIVERGED_ITS", "Raise -state_ksp_max_it.")
            return phi(m)

        return value

    settings = Settings(method=method, gradient_rtol=1e-3, max_iterations=2)
    m0 = objective.vec(lambda i: -2.0 + 0 * i)
    objective.phi = solved_near(-1.9)
    result = minimize(objective, m0, settings)
    assert (
        failed and result.iterations > 0 and result.objective < result.objective_initial
    )
    for limit in (-2.0, -3.0):
        objective.phi = solved_near(limit)
        with pytest.raises(SolverError, match="'state_' failed: DIVERGED_ITS"):
            minimize(objective, m0, settings)
        assert objective.alive == 0


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize("method", METHODS)
def test_ranks_are_in_step_after_rejected_points(problem, method):
    """Also where Python's garbage collector runs on one rank only: PETSc's tags are then equal on
    all."""
    objective = problem("exponential")
    phi, failed = objective.phi, []

    def collect(*_):
        if objective.comm.rank == 0:
            gc.collect()

    def solved_near(m):
        collect()
        if m.max()[1] > -1.9:
            failed.append(1)
            raise SolverError("state_", "DIVERGED_ITS", "Raise -state_ksp_max_it.")
        return phi(m)

    objective.phi = solved_near
    m0 = objective.vec(lambda i: -2.0 + 0 * i)
    gc.disable()
    gc.freeze()  # what is there already is not looked at, which takes long
    # A Mat that is assembled with other tags than on the other ranks waits for ever.
    faulthandler.dump_traceback_later(120, exit=True)
    try:
        for _ in range(2):
            minimize(
                objective,
                m0,
                Settings(method=method, gradient_rtol=1e-3, max_iterations=2),
                collect,
            )
            problem("exponential")
    finally:
        faulthandler.cancel_dump_traceback_later()
        gc.unfreeze()
        gc.enable()
    assert failed and objective.alive == 0


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("method", ["newton", "gauss-newton", "lbfgs", "ncg"])
def test_products_that_fail_after_the_first_step_cost_no_result(problem, method):
    """The steps and the decrement need them; the run ends with what it has, and says that the
    decrement is missing."""
    objective = problem("exponential")
    curvature, begun = objective.curvature, []

    def works_at_first(m, dm, gauss_newton):
        if begun:
            raise SolverError("state_", "the true residual is 0.1", "Tighten it.")
        return curvature(m, dm, gauss_newton)

    def follow(row, state):
        if row["iteration"] >= 1:
            begun.append(1)

    objective.curvature = works_at_first
    m0 = objective.vec(lambda i: 2.0 + 0 * i)
    result = minimize(
        objective,
        m0,
        Settings(method=method, gradient_rtol=1e-12, max_iterations=4),
        follow,
    )
    assert (
        result.status in ("max_iterations", "stalled")
        and "no decrement: the true residual is 0.1" in result.reason
    )
    assert result.objective < result.objective_initial and np.isnan(result.decrement)
    assert objective.alive == 0


@pytest.mark.parallel([1, 2])
def test_products_that_fail_from_the_start_are_an_error(problem):
    objective = problem("exponential")

    def fails(m, dm, gauss_newton):
        raise SolverError("state_", "the true residual is 0.1", "Tighten it.")

    objective.curvature = fails
    with pytest.raises(SolverError, match="true residual"):
        minimize(
            objective,
            objective.vec(lambda i: 2.0 + 0 * i),
            Settings(method="gauss-newton"),
        )


@pytest.mark.parallel([1, 2])
def test_an_infinite_start_is_an_error(problem):
    objective = problem("exponential")
    with pytest.raises(SolverError, match="initial parameters"):
        minimize(
            objective, objective.vec(lambda i: 0 * i + 1e6), Settings(method="lbfgs")
        )
    assert objective.alive == 0


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("where", ["linearize", "precondition", "curvature", "monitor"])
def test_what_one_rank_raises_is_raised_by_all(problem, method, where):
    """Each callback fails on the last rank alone, where the others need not wait for it."""
    if (
        (where, method) == ("precondition", "ncg")
        or where == "curvature"
        and method not in NEWTON
    ):
        where = "linearize"
    objective = problem("bounded" if method in BOUNDED else "quadratic")
    calls = []

    def fail(*arguments):
        calls.append(1)
        if len(calls) == (1 if where == "precondition" else 3):
            if COMM.rank == COMM.size - 1:
                raise Interrupted("from one rank")
            return arguments[1] if where == "curvature" else Silent()
        return original(*arguments)

    class Silent:
        """Needs nobody else."""

        value, misfit, regularization = 1.0, 0.5, 0.5

        def gradient(self):
            return objective.vec(lambda i: i)

        def precondition(self, r, out):
            r.copy(out)

        def destroy(self):
            pass

    original = {
        "linearize": objective.linearize,
        "precondition": objective.inverse.solve,
        "curvature": objective.curvature,
        "monitor": lambda *_: None,
    }[where]
    if where == "linearize":
        objective.linearize = fail
    elif where == "precondition":
        objective.inverse = type("Inverse", (), {"solve": staticmethod(fail)})()
    elif where == "curvature":
        objective.curvature = fail
    with pytest.raises(Interrupted, match="from one rank"):
        minimize(
            objective,
            objective.start(),
            Settings(method=method),
            fail if where == "monitor" else None,
        )
    assert objective.alive == 0
    again = problem("quadratic")
    assert minimize(again, again.start(), Settings(method=method)).status == "converged"


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize(
    "what", ["settings", "method", "monitor", "stretch", "runaways"]
)
def test_what_must_be_alike_on_all_ranks_is_an_error_where_it_is_not(problem, what):
    objective, last = problem("quadratic"), COMM.rank == COMM.size - 1
    settings = Settings(
        max_iterations=3 if last and what == "settings" else 8,
        method="lbfgs" if last and what == "method" else "newton",
    )
    if what == "stretch":
        objective.stretch = lambda dm: float(last)
    elif what == "runaways":
        objective.runaways = lambda dm: ["m"] * last
    with pytest.raises(NpdeError, match="differs? between ranks"):
        minimize(
            objective,
            objective.start(),
            settings,
            (lambda *_: None) if what == "monitor" and last else None,
        )


@pytest.mark.parallel([1, 2])
def test_the_users_tao_type_wins(problem, option):
    option("tao_type", "bntr")
    objective = problem("bounded")
    result = minimize(objective, objective.start(), Settings(method="newton"))
    assert result.status == "converged"
    assert (result.m - objective.solution).norm() < 1e-4
    assert not PETSc.Options().hasName("tao_ls_type")


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("type_", ["nls", "ntr", "lmvm"])
def test_other_tao_types_run(problem, option, type_):
    option("tao_type", type_)
    objective = problem("rosenbrock")
    result = minimize(
        objective, objective.start(), Settings(method="newton", max_iterations=100)
    )
    assert result.status == "converged"
    assert (result.m - objective.solution).norm() < 1e-4


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("method", METHODS)
def test_the_monitor_stops_the_run(problem, method):
    objective = problem("exponential")
    seen = []

    def monitor(row, state):
        seen.append(row["iteration"])
        assert state.meta["iteration"] == row["iteration"]
        return "stop:discrepancy" if len(seen) == 3 else None

    result = minimize(objective, objective.start(), Settings(method=method), monitor)
    assert result.status == "discrepancy"
    assert seen == [0, 1, 2] and result.iterations == 2


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("answer", ["stop:", "stop:converged", "converged", True, 0])
def test_a_monitor_cannot_say_that_a_run_converged(problem, answer):
    objective = problem("exponential")
    with pytest.raises(InputError, match="monitor: got"):
        minimize(
            objective,
            objective.start(),
            Settings(),
            lambda row, state: answer if row["iteration"] == 1 else None,
        )


@pytest.mark.parallel([1, 2])
def test_max_iterations_and_reference(problem):
    objective = problem("exponential")
    result = minimize(
        objective, objective.start(), Settings(method="lbfgs", max_iterations=3)
    )
    assert result.status == "max_iterations" and result.iterations == 3
    far = 1e4 * result.gradient_norm_initial
    settings = Settings(
        method="lbfgs", gradient_rtol=1e-3, gradient_reference=far, decrement=None
    )
    assert minimize(objective, objective.start(), settings).iterations == 0


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("method", [name for name in METHODS if name != "bntr"])
def test_a_wrong_gradient_stalls_with_a_remedy(problem, method):
    objective = problem("quadratic")
    slope = objective.slope
    objective.slope = lambda m: -1.0 * slope(m) - 2.0 * (objective.R * m)
    result = minimize(objective, objective.start(), Settings(method=method))
    assert result.status == "stalled"
    assert "LS_FAILURE" in result.reason and "tighten the tolerances" in result.reason
    assert result.iterations == 0 and (result.m - objective.start()).norm() == 0.0


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"method": "bfgs"}, "method"),
        ({"memory": 0}, "memory"),
        ({"gradient_rtol": -1.0}, "gradient_rtol"),
        ({"forcing_max": 1.0}, "forcing_max"),
        ({"gradient_reference": 0.0}, "gradient_reference"),
        ({"max_iterations": -1}, "max_iterations"),
    ],
)
def test_settings_are_checked(changes, field):
    with pytest.raises(InputError, match=f"^{field}: got"):
        Settings(**changes)


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("method", BOUNDED)
def test_bounds_that_are_close_together_leave_nothing_to_move(
    problem, method, monkeypatch
):
    objective = problem("quadratic")
    start, width = objective.start(), 1e-6
    sides = [start.copy(), start.copy()]
    for side, sign in zip(sides, (-1, 1), strict=True):
        side.shift(sign * width)
    monkeypatch.setattr(
        objective, "bounds", lambda: tuple(side.copy() for side in sides)
    )
    result = minimize(objective, start, Settings(method=method, gradient_rtol=RTOL))
    assert result.status == "converged"
    assert (result.m - start).norm(PETSc.NormType.INFINITY) <= width * (1 + 1e-6)
