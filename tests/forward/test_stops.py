"""Steps end at the breakpoints of histories and at observed times; histories are integrated exactly
by every scheme."""

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.errors import InputError
from npde_opt.forward import SCHEMES, Equation, Evolution, Experiment, scheme
from npde_opt.forward.steps import doubling, equal, with_stops
from npde_opt.grids import Grid
from npde_opt.misfits import LeastSquares
from npde_opt.objective import Objective
from npde_opt.observations import at_points, snapshots
from npde_opt.parameters import ParameterSpace, Shared, Unknown
from npde_opt.terms import Diffusion, Kinetics, Source
from npde_opt.verify import dot_product_test, taylor_test

# Triangles of area 1 that lie between steps of 0.1, one of them lopsided; a ramp of 1e-7;
# rectangles as steps.
LINEAR = {
    "pulse": ([0.0, 0.0, 50.0, 0.0, 0.0], [0.0, 0.41, 0.43, 0.45, 1.0]),
    "lopsided": ([0.0, 50.0, 0.0], [0.41, 0.42, 0.45]),
    "steep": ([0.0, 10.0, 10.0, 0.0], [0.42, 0.42 + 1e-7, 0.52, 0.52 + 1e-7]),
}
STEPS = {
    "values at times": ([0.0, 50.0, 0.0], [0.0, 0.41, 0.43]),
    "values in intervals": ([20.0, 80.0], [0.41, 0.44, 0.445]),
    "holding to the end": ([0.0, 2.0], [0.0, 0.5]),
    "holding before": ([4.0, 0.0], [0.1, 0.25]),
}
TIMES = {
    "steps": equal(0, 1, 10),
    "doubling": doubling(0, 0.01, 1, 4),
    "list": np.array([0.0, 0.05, 0.6, 0.9, 1.0]),
    "few": equal(0, 1, 1),
}


def integral(history, times, name, steps, interpolation="linear"):
    """u(1) of u' = h(t), u(0) = 0."""
    grid = Grid((4,), comm=MPI.COMM_SELF)
    space = ParameterSpace(grid, [Unknown("q", block=Shared())])
    source = Source(grid, ("u",), "u", "q", history, times, interpolation)
    forward = Evolution(
        space,
        Equation(grid, [Diffusion(grid, "D")]),
        {"D": 0.01},
        [Experiment({}, [source])],
        [at_points(grid, [1.0], np.array([[0.5]]))],
        scheme(*name),
        steps,
    )
    lin = forward.linearize(space.from_values({"q": 1.0}))
    found = float(lin.data[0].values[0, 0])
    lin.destroy()
    forward.destroy()
    return found


@pytest.mark.parametrize("steps", list(TIMES))
@pytest.mark.parametrize(
    "name",
    [*((n,) for n in SCHEMES), ("imex-theta", 0.7), ("crank-nicolson", 0.8)],
    ids=str,
)
def test_every_scheme_sees_every_pulse(name, steps):
    if name[0] in ("explicit-euler", "heun") and steps in ("list", "few"):
        pytest.skip("beyond the stability limit")
    for interpolation, cases in (("linear", LINEAR), ("steps", STEPS)):
        for what, (values, times) in cases.items():
            found = integral(values, times, name, TIMES[steps], interpolation)
            assert found == pytest.approx(1.0, rel=1e-7), what


def test_stops_among_times():
    times = equal(0, 1, 10)
    found = with_stops(
        times, [0.45, 0.41, -1.0, 2.0, 0.5 + 1e-9], [0.3, 0.35, 0.45 + 1e-9, 1.0]
    )
    assert found.size == 14 and np.all(np.diff(found) > 1e-3)
    assert {0.41, 0.45, 0.5 + 1e-9, 0.35} <= set(found)
    np.testing.assert_array_equal(
        with_stops(found, [0.45, 0.41, 0.5 + 1e-9], [0.3, 0.35, 0.45 + 1e-9]), found
    )
    np.testing.assert_array_equal(with_stops(times, [], [0.3, 0.7, 1.0]), times)
    # A rounded or shifted clock: days since 4713 BC in steps of a second.
    clock = 2460000.5 + np.arange(11) / 86400
    assert with_stops(clock, [], [2460000.5 + 3 / 86400 + 1e-10]).size == 11
    # What a history does between two breakpoints counts, however close they are.
    assert np.diff(with_stops(times, [0.42, 0.42 + 1e-9])).min() == pytest.approx(
        1e-9, rel=1e-6
    )


def test_units_of_time_do_not_move_stops():
    for unit in (1e-12, 1.0, 1e12):
        found = with_stops(
            unit * equal(0, 1, 10),
            unit * np.array([0.41, 0.43, 0.45]),
            unit * np.array([0.35]),
        )
        assert found.size == 15


@pytest.mark.parametrize(
    ("values", "times", "interpolation", "message"),
    [
        (
            [1.0, 2.0],
            [0.0, 1.0, 2.0],
            "linear",
            "2 values; allowed: 3 values, one a time",
        ),
        (
            [1.0],
            [0.0, 1.0, 2.0],
            "steps",
            "1 values; allowed: 3 or 2 values, one a time or an interval",
        ),
        ([1.0, 2.0], [0.0, 0.0], "steps", "increasing"),
        (
            [1.0],
            [0.0],
            "stairs",
            "source.interpolation: got 'stairs'; allowed: linear, steps",
        ),
    ],
)
def test_histories_that_cannot_be(values, times, interpolation, message):
    with pytest.raises(InputError, match=message):
        Source(
            Grid((4,), comm=MPI.COMM_SELF),
            ("u",),
            "u",
            1.0,
            values,
            times,
            interpolation,
        )


def pulses(grid):
    """Unknown histories whose kinks and jumps lie inside the steps, of both kinds, one of them of
    known values."""
    return [
        Source(grid, ("u",), "u", "q*exp(-x)", "h", [0.0, 0.0041, 0.0043, 0.009]),
        Source(grid, ("u",), "u", "1 + x*q", "g", [0.001, 0.0017, 0.0055], "steps"),
        Source(
            grid, ("u",), "u", 1.0, [0.0, 30.0, 0.0], [0.0, 0.0062, 0.0063], "steps"
        ),
    ]


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.fewer(3, name=["heun", "crank-nicolson"])
@pytest.mark.parametrize("name", list(SCHEMES))
def test_derivatives_with_histories_inside_of_steps(name):
    grid = Grid((9, 8), comm=MPI.COMM_WORLD)
    unknowns = [
        Unknown("h", "log", block=Shared(4)),
        Unknown("g", block=Shared(2)),
        Unknown("q", "log", block=Shared()),
        Unknown("r", block=Shared()),
    ]
    space, times = ParameterSpace(grid, unknowns), equal(0, 0.01, 5)
    forward = Evolution(
        space,
        Equation(
            grid, [Diffusion(grid, "D"), Kinetics(grid, ("u",), {"u": "-r*u**2"})]
        ),
        {"D": 0.3},
        [Experiment({"u": "0.5 + x"}, pulses(grid))],
        [snapshots(grid, [0.0033, 0.01])],
        SCHEMES[name],
        times,
    )
    assert forward.times.size == 6 + 9
    (layout,) = forward.layouts
    y = np.random.default_rng(0).standard_normal(layout.size)
    J = Objective(forward, [LeastSquares(y, 0.5, layout)], {})
    m = space.from_values(
        {
            "h": np.array([2.0, 1.0, 3.0, 0.5]),
            "g": np.array([3.0, -2.0]),
            "q": 1.5,
            "r": 0.8,
        }
    )
    dm = space.from_values(
        {
            "h": np.array([1.3, 0.8, 2.0, 1.5]),
            "g": np.array([0.4, 0.7]),
            "q": 1.2,
            "r": 0.3,
        }
    )
    orders = taylor_test(J, m, dm)
    assert (
        1.9 < orders.first < 2.2
        and 2.7 < orders.second < 3.3
        and 1.9 < orders.gradient < 2.2
    ), orders
    lin = J.linearize(m).linearization
    assert dot_product_test(lin, dm, [layout.noise(1)]) <= 1e-9


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("gamma", [1.0, 1j])
@pytest.mark.parametrize("shape", [(12,), (8, 8)])
def test_solvers_change_the_step_size(gamma, shape):
    """More sizes of steps than solvers that are kept: the same to the last digits."""
    found = []
    for kept in (50, 2):
        grid = Grid(shape, comm=MPI.COMM_WORLD)
        space, species = (
            ParameterSpace(grid, [Unknown("D", "log")]),
            ("u",) if gamma == 1.0 else ("re", "im"),
        )
        times = np.cumsum([0.0, 0.01, 0.02, 0.005, 0.013, 0.02, 0.007])
        forward = Evolution(
            space,
            Equation(grid, [Diffusion(grid, "D")], species, gamma),
            {},
            [Experiment({species[0]: "x**2"})],
            [snapshots(grid, [times[-1]], species[0])],
            SCHEMES["crank-nicolson"],
            times,
        )
        forward.solvers.kept = kept
        (layout,) = forward.layouts
        J = Objective(forward, [LeastSquares(np.zeros(layout.size), 1.0, layout)], {})
        at = J.linearize(space.from_values({"D": 0.5}))
        found.append([at.value, at.gradient().norm()])
        J.linearize(space.from_values({"D": 0.4})).gradient()
        assert len(forward.solvers._found) <= kept
        J.destroy()
    np.testing.assert_allclose(*found, rtol=1e-6)
