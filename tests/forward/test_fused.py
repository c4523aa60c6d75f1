"""Fused explicit steps are the assembled ones, with all their derivatives."""

import numpy as np
import pytest
from forward.test_columns import compare, results
from forward.test_evolution_derivatives import SHAPE, check, objective, tight  # noqa: F401

from npde_opt.forward import Experiment, stability
from npde_opt.forward.fused_diffusion import ConstantValues, FaceValues
from npde_opt.grids import Boundary
from npde_opt.observations import snapshots
from npde_opt.parameters import Shared, Unknown
from npde_opt.terms import Diffusion, Kinetics
from npde_opt.terms.boundary import SideValue

SIDES = {"x-": "dirichlet", "y+": Boundary("robin", 0.7)}
PERIODIC = {"y-": "periodic", "y+": "periodic", "x+": "dirichlet"}
LONG = (71, 5)
"""Of cells whose rows are longer in memory (see ghosted.row_length)."""
HOLES = np.ones((9, 8), bool)
HOLES[3:5, 4:7] = False
STRETCHED = (np.linspace(0, 1, 10) ** 1.3, np.linspace(0, 1, 9))


def several(grid):
    """u by a field, v by a number a direction; the rate of v is infinite where v is 0."""
    rates = {"u": "F*(1 - u) - u*v**2", "v": "u*v**2 - k*v + 1e-3*log(v)"}
    across = ["Dv", *(["Dw"] * (grid.dim - 1))]
    return [
        Diffusion(grid, "Du", "u"),
        Diffusion(grid, across, "v"),
        Kinetics(grid, ("u", "v"), rates),
    ]


UNKNOWNS = [
    Unknown("Du", "log"),
    Unknown("Dv", "log", block=Shared()),
    Unknown("Dw", "log"),
    Unknown("F"),
    Unknown("k", block=Shared()),
    Unknown("v0"),
]


VALUES = [
    {"u": {"x-": "1 + sin(40*t)*y"}, "v": {"y+": "0.3 + x*t"}},
    {"u": {"x-": SideValue("y", [0.0, 2.0], [0.0, 0.01])}},
]
"""Of each run, given, in time."""


def problem(
    fused, runs=2, end=0.006, shape=SHAPE, scheme="explicit-euler", values=None, **given
):
    starts = [{"u": "1 - 0.5*x", "v": "v0**2"}, {"u": "0.4 + 0.3*x", "v": "v0"}]
    J, m, dm = objective(
        several,
        [u for u in UNKNOWNS if len(shape) > 1 or u.name != "Dw"],
        scheme,
        ("u", "v"),
        end=end,
        shape=shape,
        trials=lambda grid: [
            Experiment(start, boundary=values[e] if values else {})
            for e, start in enumerate(starts[:runs])
        ],
        samplings=lambda grid, times: [snapshots(grid, times[[2, -1]], "u*v")],
        **given,
    )
    J.forward.fused = fused
    return J, m, dm


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"sides": SIDES},
        {"sides": PERIODIC},
        {"sides": SIDES, "edges": STRETCHED, "active": HOLES, "end": 0.002},
        {"edges": STRETCHED, "radial": True, "active": HOLES, "end": 0.002},
        {"sides": SIDES, "values": VALUES},
        {"scheme": "heun", "edges": STRETCHED, "active": HOLES, "end": 0.002},
        {"scheme": "heun", "sides": SIDES, "values": VALUES, "runs": 1},
        {"shape": (11,), "sides": {"x+": "dirichlet"}, "runs": 1},
        {"shape": (5, 6, 4), "sides": {"z-": "dirichlet"}, "runs": 1},
        {"shape": LONG, "sides": SIDES, "values": VALUES[:1], "runs": 1, "end": 1e-4},
        {"shape": LONG, "sides": PERIODIC, "runs": 1, "scheme": "heun", "end": 1e-4},
    ],
    ids=[
        "neumann",
        "sides",
        "periodic",
        "stretched",
        "radial",
        "values",
        "heun",
        "heun-values",
        "line",
        "box",
        "long-values",
        "long-heun",
    ],
)
def test_fused_steps_are_the_assembled_ones(given):
    found = []
    for fused in (True, False):
        J, m, dm = problem(fused, **given)
        at = J.linearize(m)
        stepper = at.linearization.batches[0].stepper
        spreads = getattr(stepper, "spreads", None)
        assert isinstance(getattr(spreads, "linear", None), FaceValues) == fused
        at.destroy()
        found.append(results(J, m, dm))
        check(J, m, dm) if fused else J.destroy()
    compare(*found, rtol=1e-10)


def test_numbers_on_uniform_cells_need_no_faces():
    J, m, _ = objective(
        lambda grid: [Diffusion(grid, "D"), Kinetics(grid, ("u",), "fisher-kpp")],
        [Unknown("D", "log", block=Shared())],
        "explicit-euler",
        known={"r": 1.0, "K": 2.0},
        end=0.006,
    )
    at = J.linearize(m)
    stepper = at.linearization.batches[0].stepper
    assert isinstance(stepper.spreads.linear, ConstantValues)
    at.destroy()
    J.destroy()


def brute(at, u, start, stiffness, share):
    """The fastest rate by way of arrays of Jacobians."""
    stepper = at.batches[0].stepper
    state = stepper.state(0, 0, u)
    jacobians = stepper.kinetics.jacobians(state, start) / stepper.linear.part.unit
    return stability.fastest(jacobians, stiffness, 0.5, share)


THREE = {"u": "a*v - sqrt(u)", "v": "u*w - a*v", "w": "u - v*w**2"}


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("start", [None, 0, 5])
@pytest.mark.parametrize("given", [{}, {"active": HOLES}], ids=["all", "holes"])
def test_the_fastest_rate_is_that_of_the_jacobians(start, given):
    J, m, _ = problem(True, **given)
    at = J.linearize(m)
    linear = at.linearization
    u = linear.batches[0].join([3.0 * x for x in linear.final])
    u[0, ..., 0] = 0.0
    for stiffness in (np.zeros(2), np.array([0.3, 8.0])):
        # A share of 0: eigenvalues everywhere.
        found = linear.batches[0].stepper.fastest(u, start, stiffness, 0.5, 0.0)
        wanted = max(brute(linear, u, start, stiffness, 0.0), stiffness.max())
        assert max(found, stiffness.max()) == pytest.approx(wanted, rel=1e-12)
    at.destroy()
    J.destroy()


def test_of_three_species_a_bound_is_known():
    J, m, _ = objective(
        lambda grid: [
            Diffusion(grid, "D", "u"),
            Kinetics(grid, ("u", "v", "w"), THREE),
        ],
        [Unknown("D", "log", block=Shared()), Unknown("a")],
        "explicit-euler",
        ("u", "v", "w"),
        end=0.006,
        trials=lambda grid: [Experiment({"u": "0.1 + x", "v": "y", "w": "0.3 + x"})],
        samplings=lambda grid, times: [snapshots(grid, times[[2, -1]], "v*w")],
    )
    at = J.linearize(m)
    linear = at.linearization
    stepper, (u,) = linear.batches[0].stepper, linear.final
    u[0, 2, 3] = 0.0  # an infinite slope
    stiffness, far = np.array([4.0, 0.0, 0.5]), 1e9
    bound = stepper.fastest(u, None, stiffness, 0.5, far)
    assert bound == pytest.approx(brute(linear, u, None, stiffness, far), rel=1e-12)
    assert stepper.fastest(u, None, stiffness, 0.5, bound / 2) is None
    at.destroy()
    J.destroy()
