"""The true residuals of the answer's solves: measured right, worse where the tolerance is, the same
on all ranks and groups."""

import numpy as np
import pytest
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.ensemble import Ensemble
from npde_opt.forward import SCHEMES, Equation, Evolution, Experiment, Steady
from npde_opt.grids import Grid
from npde_opt.linear import factored
from npde_opt.linear.measured import measured, note
from npde_opt.linear.residual import relative
from npde_opt.misfits import LeastSquares
from npde_opt.objective import Objective
from npde_opt.observations import at_points, snapshots
from npde_opt.parameters import ParameterSpace, Unknown
from npde_opt.runs.progress import residuals
from npde_opt.runs.solves import run_measured
from npde_opt.terms import Advection, Diffusion, Kinetics, Reaction

SHAPE = (32, 36)
RANKS = pytest.mark.parallel([1, 2, 3])
START = "exp(-8*((x - 0.4)**2 + (y - 0.6)**2))"
RTOLS = (1e-3, 1e-6, 1e-10)


@pytest.fixture
def given():
    """A function that sets an option for this test."""
    database, names = PETSc.Options(), list[str]()

    def give(name, value):
        database[name] = value
        names.append(name)

    yield give
    for name in names:
        database.delValue(name)


def start(space):
    m = space.create_vec()
    m.set(0.3)
    return m


def zeros(forward):
    """Misfits of data that are 0."""
    return [
        LeastSquares(np.zeros((o.size, o.columns)), 1.0, o) for o in forward.layouts
    ]


def steady(ensemble, velocity=None):
    """An objective of two experiments, of which the second is the rougher one."""
    grid = Grid(
        SHAPE, boundaries={"x-": "dirichlet", "x+": "dirichlet"}, comm=ensemble.space
    )
    noise = np.random.default_rng(1).standard_normal(SHAPE)[grid.local_slice]
    loads = [0.0 * noise + grid.volume, noise * grid.volume]
    experiments = [
        Experiment(load=loads[e], boundary={"x+": 1.0 - e}) for e in ensemble.own(2)
    ]
    space = ParameterSpace(grid, [Unknown("D", "log")])
    terms = [Diffusion(grid, "D"), *([Advection(grid, velocity)] if velocity else [])]
    seen = at_points(grid, (), np.array([[0.3, 0.4], [0.7, 0.5]]))
    of = space, Equation(grid, terms), {}, experiments, [seen]
    forward = Steady(*of, recipe="geometric")
    misfits = zeros(forward)
    return Objective(forward, misfits, {}, ensemble), start(space)


def heat(grid):
    return [Diffusion(grid, "D"), Reaction(grid, "c")]


def fisher(grid):
    return [Diffusion(grid, "D"), Kinetics(grid, ("u",), "fisher-kpp")]


def gray_scott(grid):
    names = ("u", "v")
    return [
        Diffusion(grid, "D", "u"),
        Diffusion(grid, "D", "v"),
        Kinetics(grid, names, "gray-scott"),
    ]


KNOWN = {"c": 0.5, "r": 1.0, "K": 1.0, "F": 0.04, "k": 0.06}
EVOLUTIONS = {
    "heat": (heat, "imex-euler", ("u",), 1.0),
    "fisher": (fisher, "ars222", ("u",), 1.0),
    "newton": (fisher, "backward-euler", ("u",), 1.0),
    "coupled": (gray_scott, "crank-nicolson", ("u", "v"), 1.0),
    "waves": (heat, "crank-nicolson", ("re", "im"), 1j),
}
STEPS, END = 4, 0.04


def evolution(name, ensemble, recipe="auto"):
    terms, scheme, species, gamma = EVOLUTIONS[name]
    grid = Grid(SHAPE, comm=ensemble.space)
    space = ParameterSpace(grid, [Unknown("D", "log")])
    trials = [
        Experiment(dict.fromkeys(species, f"{1 + 0.3 * e}*{START}"))
        for e in ensemble.own(2)
    ]
    times = np.linspace(0, END, STEPS + 1)
    forward = Evolution(
        space,
        Equation(grid, terms(grid), species, gamma),
        KNOWN,
        trials,
        [snapshots(grid, times[-1:], species[0])],
        SCHEMES[scheme],
        times,
        recipe=recipe,
    )
    misfits = zeros(forward)
    return Objective(forward, misfits, {}, ensemble), start(space)


def metrics_of(made):
    objective, m = made
    at = objective.linearize(m)
    found = run_measured(at)
    at.destroy()
    objective.destroy()
    return found


def whole():
    return Ensemble.whole(MPI.COMM_WORLD)


@RANKS
@pytest.mark.parametrize("velocity", [None, (5.0, -2.0)])
def test_the_steady_figure_is_the_largest_residual_of_the_states(velocity, monkeypatch):
    monkeypatch.setattr(factored, "SHARE", 0)
    objective, m = steady(whole(), velocity)
    at = objective.linearize(m)
    found = run_measured(at)
    forward, grid = objective.forward, objective.forward.grid
    A, b, x, work = (
        forward.part.matrices[0].mat,
        *(grid.create_active() for _ in range(3)),
    )
    worst = 0.0
    for e, u in enumerate(at.linearization.final):
        driving, linear = forward.driving[e], at.linearization.linear
        outside = driving.boundary.at(at.linearization.k).outside(0.0, 0.0)
        grid.put(driving.load[0] + linear.load(outside)[0], b)
        grid.put(u[0], x)
        worst = max(worst, relative(A, b, x, work)[0])
    assert (
        found["state_residual_true"] == pytest.approx(worst, rel=1e-6)
        and 1e-12 < worst < 1e-5
    )
    assert found["state_systems"] == 2 and 2 < found["state_iterations_mean"] < 30
    assert found["state_tolerance"] == "1e-08 on the preconditioned residual"
    at.destroy()
    objective.destroy()


@RANKS
@pytest.mark.parametrize("recipe", ["geometric", "direct"])
def test_the_figure_of_an_evolution_is_the_largest_residual_of_its_steps(recipe):
    """(M + dt A) u_{n+1} - M u_n over the norm of M u_n, from the states alone."""
    objective, m = evolution("heat", whole(), recipe)
    at = objective.linearize(m)
    found = run_measured(at)
    forward, comm, dt, worst = objective.forward, MPI.COMM_WORLD, END / STEPS, 0.0
    for e in range(2):
        states = [u[0].copy() for u in at.linearization.states(e)]
        for before, after in zip(states, states[1:], strict=False):
            b = forward.part.mass * before
            r = forward.part.mass * after + dt * forward.part.mult(0, after) - b
            sums = comm.allreduce(np.array([np.sum(r**2), np.sum(b**2)]))
            worst = max(worst, float(np.sqrt(sums[0] / sums[1])))
    if recipe == "direct":
        assert (
            found["state_residual_true"] < 1e-12
            and found["state_tolerance"] == "direct"
        )
    else:
        assert (
            found["state_residual_true"] == pytest.approx(worst, rel=1e-3)
            and 1e-12 < worst < 1.01e-8
        )
        assert found["state_tolerance"] == "1e-08 on the true residual"
    assert found["state_systems"] == 2 * STEPS
    at.destroy()
    objective.destroy()


@RANKS
@pytest.mark.parametrize("name", ["steady", "heat", "fisher", "waves"])
def test_a_looser_tolerance_shows_in_the_figure(name, given):
    figures = []
    for rtol in RTOLS:
        given("state_ksp_rtol", str(rtol))
        found = metrics_of(
            steady(whole()) if name == "steady" else evolution(name, whole())
        )
        figures.append((found["state_residual_true"], found["state_iterations_mean"]))
        assert f"{rtol:g} on the" in found["state_tolerance"]
    assert (
        figures[0][0] > 1e3 * figures[2][0]
        and figures[0][0] > figures[1][0] > figures[2][0] > 0
    )
    assert figures[0][1] < figures[1][1] < figures[2][1]
    if name != "steady":
        assert all(
            figure <= 1.01 * rtol
            for (figure, _), rtol in zip(figures, RTOLS, strict=True)
        )


@RANKS
@pytest.mark.parametrize("name", ["newton", "coupled"])
def test_newtons_stages_and_their_linear_systems_have_a_figure_each(name, given):
    linear = []
    for rtol in RTOLS:
        given("state_ksp_rtol", str(rtol))
        found = metrics_of(evolution(name, whole()))
        linear.append(found["newton_residual_true"])
        assert found["newton_tolerance"] == f"{rtol:g} on the true residual"
        assert (
            found["state_residual_true"] <= 1e-8 and found["state_systems"] == 2 * STEPS
        )
        assert found["newton_systems"] == round(
            2 * STEPS * found["state_iterations_mean"]
        )
        assert found["newton_iterations_mean"] > 0
    assert linear[0] > linear[1] > linear[2] and all(
        a <= 1.01 * b for a, b in zip(linear, RTOLS, strict=True)
    )
    given("state_newton_rtol", "1e-2")
    loose = metrics_of(evolution(name, whole()))
    assert (
        1e-8 < loose["state_residual_true"] <= 1e-2
        and "0.01 on the" in loose["state_tolerance"]
    )


@RANKS
@pytest.mark.parametrize("name", ["steady", "heat", "newton", "waves"])
def test_direct_solves_show_rounding(name, given):
    given("state_recipe", "direct")
    found = metrics_of(
        steady(whole()) if name == "steady" else evolution(name, whole())
    )
    kind = "newton" if name == "newton" else "state"
    assert (
        0 < found[f"{kind}_residual_true"] < 1e-12
        and found[f"{kind}_tolerance"] == "direct"
    )


@RANKS
@pytest.mark.parametrize("name", ["steady", "heat"])
def test_all_numbers_of_ranks_find_the_same(name, given):
    """With a method that does not depend on the ranks."""
    given("state_pc_type", "none")
    given("state_ksp_rtol", "1e-4")
    found = [
        metrics_of(steady(e) if name == "steady" else evolution(name, e))
        for e in (whole(), Ensemble.whole(MPI.COMM_SELF))
    ]
    assert found[0].pop("state_tolerance") == found[1].pop("state_tolerance")
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    assert len(set(MPI.COMM_WORLD.allgather(found[0]["state_residual_true"]))) == 1


@pytest.mark.parallel([2])
@pytest.mark.parametrize("name", ["steady", "heat"])
def test_the_worst_of_all_groups_counts(name, given):
    given("state_pc_type", "none")
    groups = Ensemble.split(MPI.COMM_WORLD, 2, 2)
    found = [
        metrics_of(steady(e) if name == "steady" else evolution(name, e))
        for e in (groups, Ensemble.whole(MPI.COMM_SELF))
    ]
    assert found[0].pop("state_tolerance") == found[1].pop("state_tolerance")
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_explicit_schemes_have_no_figure():
    grid = Grid((4, 4))
    space = ParameterSpace(grid, [Unknown("D", "log")])
    times = np.linspace(0, 1e-3, 3)
    forward = Evolution(
        space,
        Equation(grid, fisher(grid)),
        KNOWN,
        [Experiment({"u": START})],
        [snapshots(grid, times[-1:], "u")],
        SCHEMES["heun"],
        times,
    )
    misfits = zeros(forward)
    found = metrics_of((Objective(forward, misfits, {}), start(space)))
    assert found == {} and residuals(found) == []


def test_a_residual_that_is_no_number_is_kept():
    with measured() as found:
        for value in (1e-3, np.nan, 1e-2):
            note("state", value, 1)
    assert np.isnan(found["state"].residual) and found["state"].count == 3
    note("state", 1.0, 1)
    assert found["state"].count == 3


def test_the_closing_text_names_norm_and_cost():
    state = {
        "state_residual_true": 4.2e-6,
        "state_systems": 12,
        "state_iterations_mean": 7.25,
        "state_tolerance": "1e-08 on the preconditioned residual",
    }
    (line,) = residuals(state)
    for part in (
        "4.2e-06",
        "|b - A u| / |b| (2-norm)",
        "largest of 12 systems",
        "7.2 Krylov iterations each",
        "tolerance 1e-08 on the preconditioned residual",
    ):
        assert part in line
    assert residuals(state | {"state_tolerance": "direct"})[0].endswith("direct")
    newton = {key.replace("state", "newton"): value for key, value in state.items()}
    first, second = residuals(state | newton)
    assert (
        "Newton iterations each" in first
        and "linear systems" in second
        and "Krylov" in second
    )


def test_adjoint_steps_start_from_as_good_a_guess_as_forward_steps():
    """Multipliers and increments on a line through the last ones are moved on as states are."""
    grid = Grid((48, 48))
    space = ParameterSpace(grid, [Unknown("D", "log")])
    terms = [Diffusion(grid, "D"), Kinetics(grid, ("u",), "fisher-kpp")]
    started = Experiment({"u": "0.8*exp(-60*((x - 0.4)**2 + (y - 0.5)**2))"})
    forward = Evolution(
        space,
        Equation(grid, terms),
        {"K": 1.0, "r": 3.0},
        [started],
        [snapshots(grid, [1.0])],
        SCHEMES["imex-euler"],
        np.linspace(0, 1, 31),
        recipe="geometric",
    )
    m = space.from_values({"D": 0.02})
    at = forward.linearize(m)
    states = forward.solvers.iterations
    product = at.apply_adjoint([block.copy() for block in at.data])
    assert forward.solvers.iterations - states < 0.9 * states
    for owned in (product, m):
        owned.destroy()
    at.destroy()
    forward.destroy()
