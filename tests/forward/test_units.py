"""A change of units changes no digit: length, time and state times 1e-12 and 1e12, in every kind of
evolution."""

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.errors import SolverError
from npde_opt.forward import SCHEMES, Equation, Evolution, Experiment
from npde_opt.grids import Grid
from npde_opt.misfits import LeastSquares, ProportionalErrors
from npde_opt.objective import Objective
from npde_opt.observations import at_points, over_regions, snapshots
from npde_opt.parameters import Field, ParameterSpace, Shared, Unknown
from npde_opt.terms import (
    Advection,
    Diffusion,
    Kinetics,
    NonlinearDiffusion,
    Reaction,
    Source,
)

SHAPE = (8, 8)
START = "U*(0.3 + 0.4*exp(-8*((x/L - 0.4)**2 + (y/L - 0.6)**2)))"
UNITS = {"length": (0,), "time": (1,), "state": (2,), "all": (0, 1, 2)}


def fisher(g):
    return [Diffusion(g, "D"), Kinetics(g, ("u",), "fisher-kpp")]


def pair(g):
    return [
        Diffusion(g, "D", "u"),
        Diffusion(g, "E", "v"),
        Kinetics(
            g,
            ("u", "v"),
            {"u": "-r*u*(v/K)**2 + F*(K - u)", "v": "r*u*(v/K)**2 - 2*F*v"},
        ),
    ]


def porous(g):
    return [
        NonlinearDiffusion(g, ("u",), "u", "porous-fisher"),
        Kinetics(g, ("u",), "fisher-kpp"),
    ]


def carried(g):
    return [
        Diffusion(g, ("D", "E")),
        Advection(g, (0.3 * g.edges[0][-1] / T(), 0.0), "central"),
        Reaction(g, "c"),
    ]


def well(g):
    return [Diffusion(g, "D"), Reaction(g, "V")]


UNIT = [1.0, 1.0, 1.0]


def T():
    return UNIT[1]


def sources(g):
    return [
        Source(
            g,
            ("u",),
            "u",
            "U/T*exp(-x/L)",
            "h",
            [0.0, 0.13 * T(), 0.15 * T(), 1.0 * T()],
        ),
        Source(g, ("u",), "u", "U/T", [3.0, 0.0], [0.0, 0.37 * T()], "steps"),
    ]


# terms, scheme, species, gamma, unknowns
KINDS = {
    "explicit": (fisher, "explicit-euler", ("u",), 1.0, ("D", "r")),
    "heun": (fisher, "heun", ("u",), 1.0, ("D", "r")),
    "imex": (fisher, "ars222", ("u",), 1.0, ("D", "r")),
    "newton": (fisher, "backward-euler", ("u",), 1.0, ("D", "r")),
    "fused": (pair, "explicit-euler", ("u", "v"), 1.0, ("D", "r")),
    "coupled": (pair, "crank-nicolson", ("u", "v"), 1.0, ("D", "r")),
    "two species": (pair, "imex-theta", ("u", "v"), 1.0, ("D", "r")),
    "porous": (porous, "crank-nicolson", ("u",), 1.0, ("D", "r")),
    "porous, imex": (porous, "imex-euler", ("u",), 1.0, ("D", "r")),
    "carried": (carried, "heun", ("u",), 1.0, ("D", "c")),
    "carried, implicit": (carried, "ars222", ("u",), 1.0, ("D", "c")),
    "wave": (well, "crank-nicolson", ("re", "im"), 1j, ("V",)),
}


def digits(kind, units, error="plain"):
    """Data in units of the state, the objective, and its gradient by the logarithms of the
    unknowns."""
    UNIT[:] = units
    L, t, U = units
    terms, scheme, species, gamma, names = KINDS[kind]
    sides = {"x-": "dirichlet"} if kind.startswith("carried") else {}
    grid = Grid(SHAPE, extent=(L, L), boundaries=sides, comm=MPI.COMM_WORLD)
    blocks = [
        Field() if n in ("D", "V") and kind != "fused" else Shared() for n in names
    ]
    space = ParameterSpace(
        grid, [Unknown(n, "log", block=b) for n, b in zip(names, blocks, strict=True)]
    )
    values = {
        "D": 0.01 * L**2 / t,
        "E": 0.02 * L**2 / t,
        "r": 3 / t,
        "c": 2 / t,
        "V": 5 / t,
        "F": 0.4 / t,
    }
    known = {
        **values,
        "K": U,
        "m": 1.0,
        "L": L,
        "T": t,
        "U": U,
        "h": np.array([0.0, 0.0, 40.0, 0.0]),
    }
    trial = Experiment(
        {species[0]: START, **({"v": "U*x/L"} if "v" in species else {})},
        sources(grid) if kind.startswith("carried") else [],
        {"x-": 0.5 * U} if sides else {},
    )
    regions = np.add.outer(np.arange(8) // 4, np.zeros(8, int))
    seen = [
        at_points(
            grid, [0.33 * t, t], np.array([[0.3, 0.7], [0.52, 0.1]]) * L, species[0]
        ),
        over_regions(grid, [t], regions, species[-1]),
        snapshots(grid, [0.5 * t], species[0]),
    ]
    forward = Evolution(
        space,
        Equation(grid, terms(grid), species, gamma),
        {k: v for k, v in known.items() if k not in names},
        [trial],
        seen,
        SCHEMES[scheme],
        np.linspace(0, t, 25),
    )
    (layout,) = forward.layouts
    y = U * (0.5 + np.random.default_rng(0).random(layout.size))
    misfit = (
        LeastSquares(y, 0.1 * U, layout)
        if error == "plain"
        else ProportionalErrors(y, 0.1 * U**0.5, layout, 0.5)
    )
    J = Objective(forward, [misfit], {})
    m = space.from_values({n: values[n] for n in names})
    at = J.linearize(m)
    g = at.gradient()
    found = [at.linearization.data[0].gather() / U, np.array([at.value])]
    for u in space.unknowns:
        found.append(
            grid.gather(space.block_vec(g, u.name))
            if not u.block.listed
            else space.values(g, u.name)
        )
    at.destroy()
    J.destroy()
    return found


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("kind", list(KINDS))
def test_units_do_not_matter(kind):
    reference = digits(kind, (1.0, 1.0, 1.0))
    assert all(np.abs(x).max() > 1e-6 for x in reference)
    for changed in UNITS.values():
        for factor in (1e-12, 1e12):
            units = [factor if i in changed else 1.0 for i in range(3)]
            for x, y in zip(digits(kind, units), reference, strict=True):
                np.testing.assert_allclose(
                    x, y, rtol=2e-6, atol=1e-7 * np.abs(y).max(), err_msg=str(units)
                )


@pytest.mark.parallel([1, 2])
def test_proportional_errors_in_any_unit():
    """The default floor follows the data."""
    reference = digits("imex", (1.0, 1.0, 1.0), "proportional")
    for factor in (1e-12, 1e12):
        for x, y in zip(
            digits("imex", (1.0, 1.0, factor), "proportional"), reference, strict=True
        ):
            np.testing.assert_allclose(x, y, rtol=2e-6, atol=1e-7 * np.abs(y).max())


def grown(rate, start, bound=None):
    grid = Grid((4,), comm=MPI.COMM_WORLD)
    space = ParameterSpace(grid, [Unknown("r", block=Shared())])
    forward = Evolution(
        space,
        Equation(grid, [Kinetics(grid, ("u",), {"u": rate})]),
        {},
        [Experiment({"u": start})],
        [snapshots(grid, [1.0])],
        SCHEMES["heun"],
        np.linspace(0, 1, 41),
        bound=bound,
    )
    lin = forward.linearize(space.from_values({"r": 1.0}))
    size = grid.comm.allreduce(float(np.abs(lin.final[0]).max()), op=MPI.MAX)
    lin.destroy()
    forward.destroy()
    return size


@pytest.mark.parallel([1, 2])
def test_a_blow_up_is_one_in_any_unit():
    for unit in (1e-100, 1.0, 1e100):
        assert grown("30*r*u", unit) < 1e14 * unit
        with pytest.raises(SolverError, match=r"grew to .* in step"):
            grown("r*u*exp(r*u/U)".replace("U", f"{unit:g}"), 20 * unit)
    assert grown("r + 0*u", 0.0) == pytest.approx(
        1.0
    )  # nothing to compare with: only numbers that are none end it
    with pytest.raises(SolverError, match="grew to"):
        grown("30*r*u", 1.0, bound=1e3)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize(
    "scheme",
    [
        "explicit-euler",
        "heun",
        "imex-euler",
        "ars222",
        "crank-nicolson",
        "backward-euler",
    ],
)
def test_a_rate_that_is_no_number_is_named(scheme):
    """In one cell, on one rank, on the way."""
    grid = Grid((9, 8), comm=MPI.COMM_WORLD)
    space = ParameterSpace(grid, [Unknown("D", block=Shared())])
    start = np.ones(grid.shape)
    start[7, 7] = 0.3
    terms = [
        Diffusion(grid, "D", "u"),
        Kinetics(grid, ("u", "v"), {"u": "-1 + 1e-9*sqrt(u - 0.15)", "v": "u"}),
    ]
    forward = Evolution(
        space,
        Equation(grid, terms, ("u", "v")),
        {},
        [Experiment({"u": start[grid.local_slice]})],
        [snapshots(grid, [0.5])],
        SCHEMES[scheme],
        np.linspace(0, 0.5, 11),
    )
    m = space.from_values({"D": 1e-9})
    with pytest.raises(SolverError, match=r"in step|after step") as caught:
        forward.linearize(m)
    assert "u is not finite in 1 cells" in str(caught.value) and "(t = 0." in str(
        caught.value
    )
    forward.destroy()


@pytest.mark.parallel([1, 2])
def test_a_linear_reaction_that_is_no_number_is_named():
    grid = Grid((9, 8), comm=MPI.COMM_WORLD)
    space = ParameterSpace(grid, [Unknown("q", "identity")])
    forward = Evolution(
        space,
        Equation(grid, [Diffusion(grid, "D"), Reaction(grid, "log(q)")]),
        {"D": 1.0},
        [Experiment({"u": 1.0})],
        [snapshots(grid, [1.0])],
        SCHEMES["ars222"],
        np.linspace(0, 1, 3),
    )
    m, q = space.create_vec(), np.ones(grid.shape)
    q[8, 7] = -1.0
    space.own(m, "q")[...] = q[grid.local_slice]
    with pytest.raises(
        SolverError, match=r"reaction 'log\(q\)' is not finite in 1 cells"
    ):
        forward.linearize(m)
    forward.destroy()
