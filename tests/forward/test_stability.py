"""Explicit steps are refused beyond their limit, for every scheme and term, and taken below; D <= 0
is a rejected step."""

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.errors import InputError, NpdeError, SolverError
from npde_opt.forward import SCHEMES, Equation, Evolution, Experiment, Steady, scheme
from npde_opt.forward.linear_part import LinearPart, LinearPoint
from npde_opt.forward.stability import Limits, amplification, longest_step, outline
from npde_opt.grids import Grid
from npde_opt.observations import at_points, snapshots
from npde_opt.parameters import ParameterSpace, Shared, Unknown
from npde_opt.terms import Advection, Diffusion, Kinetics, NonlinearDiffusion, Reaction

EXPLICIT = ["explicit-euler", "heun"]
ALL_EXPLICIT = [*EXPLICIT, "imex-euler", "imex-theta", "ars222"]
SHAPE = (12, 10)
AROUND = dict.fromkeys(("x-", "x+", "y-", "y+"), "periodic")
FIELD = np.add.outer(np.linspace(0.2, 1.0, 12), np.linspace(0.0, 0.3, 10))
LINEAR = {
    "diffusion": (lambda g: [Diffusion(g, "D")], {"D": 0.3}, 0.95),
    "two directions": (
        lambda g: [Diffusion(g, ("D", "E"))],
        {"D": 0.3, "E": 0.02},
        0.95,
    ),
    "a field": (lambda g: [Diffusion(g, "F"), Reaction(g, "F")], {"F": FIELD}, 0.6),
    "upwind": (lambda g: [Advection(g, (1.0, -0.5))], {}, 0.95),
    "upwind and diffusion": (
        lambda g: [Diffusion(g, "D"), Advection(g, (3.0, 1.0))],
        {"D": 0.02},
        0.95,
    ),
    "central, resolved": (
        lambda g: [Diffusion(g, "D"), Advection(g, (0.3, -0.2), "central")],
        {"D": 0.1},
        0.9,
    ),
    "central, carried": (
        lambda g: [Diffusion(g, "D"), Advection(g, (3.0, -2.0), "central")],
        {"D": 1e-3},
        0.9,
    ),
    "central, hardly damped": (
        lambda g: [Diffusion(g, "D"), Advection(g, (3.0, 0.0), "central")],
        {"D": 1e-5},
        0.9,
    ),
    "central, a field": (
        lambda g: [Diffusion(g, "F"), Advection(g, (60.0, 0.0), "central")],
        {"F": FIELD},
        0.1,
    ),
    "central and upwind": (
        lambda g: [
            Advection(g, (1.0, 0.0)),
            Advection(g, (2.0, 1.0), "central"),
            Diffusion(g, "D"),
        ],
        {"D": 1e-2},
        0.9,
    ),
    "central with decay": (
        lambda g: [
            Reaction(g, "c"),
            Diffusion(g, "D"),
            Advection(g, (3.0, 1.0), "central"),
        ],
        {"c": 5.0, "D": 1e-3},
        0.8,
    ),
    "decay": (lambda g: [Reaction(g, "c")], {"c": 50.0}, 0.99),
}


def amplified(matrix, change, dt):
    """The spectral radius of R(-dt A)."""
    return np.abs(
        1 + np.polyval([*change[::-1], 0.0], -dt * np.linalg.eigvals(matrix))
    ).max()


@pytest.mark.parametrize("gamma", [1.0, 4.0])
@pytest.mark.parametrize("name", EXPLICIT)
@pytest.mark.parametrize("what", list(LINEAR))
def test_the_limit_is_that_of_the_matrix(what, name, gamma):
    """Stable below; and the limit is at least the given share of the true one."""
    terms, known, share = LINEAR[what]
    grid = Grid(SHAPE, boundaries=AROUND, comm=MPI.COMM_SELF)
    equation = Equation(grid, terms(grid), ("u",), gamma)
    part = LinearPart(equation)
    point = LinearPoint(part, known)
    part.assemble(point.points)
    limits = Limits(SCHEMES[name], part, [])
    dense = (
        part.matrices[0].mat.convert("dense").getDenseArray()
        / part.mass.ravel(order="F")[:, None]
    )
    limit = min(2 / limits.stiffness, limits.central)
    assert limits.linear(0.999 * limit) is None and "stability limit" in limits.linear(
        1.001 * limit
    )
    change = amplification(SCHEMES[name])
    assert amplified(dense, change, 0.999 * limit) <= 1 + 1e-12
    assert amplified(dense, change, 1.02 * limit / share) > 1 + 1e-12
    part.destroy()


def test_amplification_and_outlines():
    for name in ALL_EXPLICIT:
        expected = [1.0, 0.5] if name in ("heun", "ars222") else [1.0]
        found = amplification(SCHEMES[name])
        np.testing.assert_allclose(found[: len(expected)], expected, atol=1e-14)
        np.testing.assert_allclose(found[len(expected) :], 0.0, atol=1e-14)
    a, b = np.array([3.0, 0.5]), np.array([1.0, 2.0])
    t = np.random.default_rng(0).random((5000, 2)) * 2 * np.pi
    inside = (a * (1 - np.cos(t))).sum(axis=1) + 1j * (b * np.sin(t)).sum(axis=1)
    edge = outline(a, b)
    for angle in np.linspace(
        0, np.pi, 60
    ):  # the outline has the support of the whole sum
        normal = np.exp(-1j * angle)
        assert (inside * normal).real.max() <= (edge * normal).real.max() + 1e-3
    assert longest_step(np.array([1.0, 0.0]), np.array([2 + 2j])) == pytest.approx(0.5)
    assert longest_step(np.array([1.0, 0.5]), np.array([0.0 + 0j])) == np.inf


def run(
    grid, terms, initial, times, name, known, species=("u",), gamma=1.0, theta=None
):
    """The largest value of the last state."""
    space = ParameterSpace(grid, [Unknown("unused", block=Shared())])
    forward = Evolution(
        space,
        Equation(grid, terms, species, gamma),
        known,
        [Experiment(initial)],
        [snapshots(grid, [times[-1]], species[0])],
        scheme(name, theta),
        times,
    )
    try:
        lin = forward.linearize(space.from_values({"unused": 1.0}))
        found = grid.comm.allreduce(float(np.abs(lin.final[0]).max()), op=MPI.MAX)
        lin.destroy()
    finally:
        forward.destroy()
    return found


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("name", ALL_EXPLICIT)
def test_stiff_kinetics(name):
    """Decay at rate c: steps beyond 2/c grow, and are refused; so for species of different
    units."""
    grid, kinetics = Grid((8, 8)), {"u": "-c*u + a*v", "v": "-v + b*u"}
    for cells, species in (({"u": "-c*u"}, ("u",)), (kinetics, ("u", "v"))):
        terms = [Diffusion(grid, "D", "u"), Kinetics(grid, species, cells)]
        known = {"D": 1e-4, "c": 50.0, "a": 1e12, "b": 1e-12}
        assert (
            run(
                grid,
                terms,
                {"u": "1 + x"},
                np.linspace(0, 1.9, 51),
                name,
                known,
                species,
            )
            < 1e13
        )
        with pytest.raises(
            InputError,
            match=f"by {name} exceeds the stability limit 0.0[34].* of kinetics",
        ):
            run(
                grid,
                terms,
                {"u": "1 + x"},
                np.linspace(0, 2.2, 51),
                name,
                known,
                species,
            )


@pytest.mark.parametrize("species", [("u", "v"), ("u", "v", "w")])
@pytest.mark.parametrize("name", ALL_EXPLICIT)
def test_oscillations(name, species):
    """A turn of few steps grows without bound, in any units of the species; one of many is a matter
    of accuracy."""
    grid, rates = Grid((4,), comm=MPI.COMM_SELF), {"u": "a*v", "v": "-b*u"}
    terms, known = [Kinetics(grid, species, rates)], {"a": 1e13, "b": 1e-11}
    assert (
        run(grid, terms, {"u": 1.0}, np.linspace(0, 1, 41), name, known, species) < 1e13
    )
    with pytest.raises(
        InputError, match="exceeds the stability limit 0.[01][50]* of kinetics"
    ):
        run(grid, terms, {"u": 1.0}, np.linspace(0, 10, 41), name, known, species)
    damped = [Kinetics(grid, species, {"u": "a*v - c*u", "v": "-b*u - c*v"})]
    assert (
        run(
            grid,
            damped,
            {"u": 1.0},
            np.linspace(0, 4.9, 51),
            name,
            {**known, "c": 9.0},
            species,
        )
        < 1.0
    )


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("name", ALL_EXPLICIT)
def test_rates_that_grow_stiff_on_the_way(name):
    """A pendulum is at 0.1 first and last, and at 3 between: D(u), and friction that grows with u,
    are stable at the ends."""
    grid, names = Grid((8, 8)), ("u", "v")
    swing = {"u": "v", "v": "-40*(u - 1.5)"}
    diffusing = [
        NonlinearDiffusion(grid, names, "u", "0.04*u**2"),
        Kinetics(grid, names, swing),
    ]
    reacting = [Kinetics(grid, (*names, "w"), {**swing, "w": "-40*u*w"})]
    times = np.linspace(0, 2 * np.pi / np.sqrt(40), 46)
    for terms, what, species in (
        (diffusing, r"D\(u\)", names),
        (reacting, "kinetics", (*names, "w")),
    ):
        with pytest.raises(
            NpdeError, match=f"exceeds the stability limit .* of .*{what}"
        ):
            run(grid, terms, {"u": "0.1 + 0*x"}, times, name, {}, species)


@pytest.mark.parametrize("name", EXPLICIT)
def test_waves_and_theta_schemes(name):
    grid = Grid((16,), comm=MPI.COMM_SELF)
    with pytest.raises(
        InputError, match=f"by {name} with an imaginary gamma are unstable at any size"
    ):
        run(
            grid,
            [Diffusion(grid, "D")],
            {"re": "x"},
            np.linspace(0, 1e-6, 3),
            name,
            {"D": 1.0},
            ("re", "im"),
            1j,
        )
    for kind in ("imex-theta", "crank-nicolson"):
        terms, known = [Diffusion(grid, "D")], {"D": 1.0}
        limit = 2 / (1 - 2 * 0.3) / (4 * 16**2)
        assert (
            run(
                grid,
                terms,
                {"u": "x"},
                np.linspace(0, 0.98 * 40 * limit, 41),
                kind,
                known,
                theta=0.3,
            )
            <= 1
        )
        with pytest.raises(InputError, match="linear terms with theta < 1/2"):
            run(
                grid,
                terms,
                {"u": "x"},
                np.linspace(0, 1.02 * 40 * limit, 41),
                kind,
                known,
                theta=0.3,
            )


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("name", ["ars222", "explicit-euler", "crank-nicolson"])
def test_diffusivities_of_the_state_that_fall_below_zero(name):
    grid = Grid((8, 8))
    terms = [
        NonlinearDiffusion(grid, ("u",), "u", "0.001*(u - 0.5)"),
        Kinetics(grid, ("u",), {"u": "-u"}),
    ]
    with pytest.raises(
        NpdeError, match=r"the diffusivity '0.001\*\(u - 0.5\)' falls to -"
    ):
        run(grid, terms, {"u": "1 + 0.01*x"}, np.linspace(0, 2, 41), name, {})
    assert run(grid, terms, {"u": "1 + 0.01*x"}, np.linspace(0, 0.4, 41), name, {}) < 1


@pytest.mark.parallel([1, 2, 3])
def test_a_diffusivity_that_is_not_positive_is_a_rejected_step():
    """On all ranks, though one has the cell, for steady states and evolutions; so is NaN; known
    ones are wrong input."""
    grid = Grid((9, 8), boundaries={"x-": "dirichlet", "x+": "dirichlet"})
    space = ParameterSpace(grid, [Unknown("D", "identity")])
    seen = at_points(grid, (), np.array([[0.5, 0.5]]))
    steady = Steady(
        space,
        Equation(grid, [Diffusion(grid, "D")]),
        {},
        [Experiment(load=grid.volume * 1.0)],
        [seen],
    )
    moving = Evolution(
        space,
        Equation(grid, [Diffusion(grid, "D")]),
        {},
        [Experiment({"u": "x"})],
        [snapshots(grid, [1.0])],
        SCHEMES["ars222"],
        np.linspace(0, 1, 3),
    )
    for forward in (steady, moving):
        for value, said in ((0.0, "0"), (-0.01, "-0.01"), (np.nan, "nan")):
            D = np.ones(grid.shape)
            D[2, 1] = D[8, 7] = value
            m = space.create_vec()
            space.own(m, "D")[...] = D[grid.local_slice]
            with pytest.raises(
                SolverError,
                match=f"diffusivity D is not positive in 2 cells, {said} at the smallest",
            ):
                forward.linearize(m)
            m.destroy()
        forward.linearize(space.from_values({"D": 1.0})).destroy()
    other = ParameterSpace(grid, [Unknown("c", "identity")])
    D = np.ones(grid.shape)
    D[0, 0] = -1.0
    with pytest.raises(
        InputError,
        match="known.D: got a diffusivity of -1 in 1 cells; allowed: values > 0",
    ):
        Steady(
            other,
            Equation(grid, [Diffusion(grid, "D"), Reaction(grid, "c")]),
            {"D": D[grid.local_slice]},
            [Experiment(load=grid.volume * 1.0)],
            [seen],
        )
    with pytest.raises(
        InputError,
        match="known.D: got a diffusivity of -1 in 1 cells; allowed: values >= 0",
    ):
        Evolution(
            other,
            Equation(grid, [Diffusion(grid, "D"), Reaction(grid, "c")]),
            {"D": D[grid.local_slice]},
            [Experiment()],
            [snapshots(grid, [1.0])],
            SCHEMES["ars222"],
            np.linspace(0, 1, 3),
        )
