"""Units: what is computed does not depend on those that lengths, states and coefficients are
given in."""

import json

import numpy as np
import pytest
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt import nested, weight_choice
from npde_opt.cases import load_case
from npde_opt.ensemble import Ensemble
from npde_opt.grids import Boundary, Grid
from npde_opt.linear import RECIPES, LinearSolver
from npde_opt.linear.direct import is_there
from npde_opt.linear.presb import Presb
from npde_opt.operators import mass
from npde_opt.operators.stencils import StencilMatrix
from npde_opt.terms import Advection, Diffusion

SCALES = [1e-60, 1e-15, 1.0, 1e60]
PREFIX = "unittest_"


@pytest.fixture
def options():
    """PETSc's options; what a test sets under the prefix is taken back."""
    database = PETSc.Options()
    yield database
    for key in database.getAll():
        if key.startswith(PREFIX):
            database.delValue(key)


def scaled(scale, shape, velocity=None):
    """A diffusion(-advection) matrix times `scale`."""
    grid = Grid(
        shape, boundaries={"x-": "dirichlet", "y+": Boundary("robin", 2.0 * scale)}
    )
    D = (
        scale
        * np.exp(np.random.default_rng(0).standard_normal(shape))[grid.local_slice]
    )
    matrix = StencilMatrix(grid)
    planes = matrix.zeroed()
    Diffusion(grid).at({"D": D}).add_planes(planes)
    if velocity:
        Advection(grid, [scale * v for v in velocity]).at({}).add_planes(planes)
    matrix.refresh()
    return grid, matrix


def solved(scale, shape, velocity, recipe):
    """Iterations, and the solution of A x = scale * noise."""
    grid, matrix = scaled(scale, shape, velocity)
    solver = LinearSolver(matrix, grid, PREFIX, recipe, symmetric=velocity is None)
    solver.update()
    b, x = grid.create_active(), grid.create_active()
    grid.put(grid.view(grid.standard_normal(1)), b)
    b.scale(scale)
    solver.solve(b, x)
    found = solver.iterations, grid.gather(x)
    solver.destroy()
    matrix.destroy()
    return found


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("velocity", [None, (5.0, -2.0)])
@pytest.mark.parametrize("shape", [(12, 13), (30, 32)])
@pytest.mark.parametrize(
    "recipe", [r for r in RECIPES if r != "planes" and is_there(r)]
)
def test_solves_do_not_depend_on_the_unit(recipe, shape, velocity):
    count, expected = solved(1.0, shape, velocity, recipe)
    for scale in SCALES:
        iterations, found = solved(scale, shape, velocity, recipe)
        assert abs(iterations - count) <= 1
        np.testing.assert_allclose(
            found, expected, rtol=0, atol=1e-6 * np.abs(expected).max()
        )


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("kind", ["ilu", "cholesky", "bjacobi", "mg"])
def test_factorizations_chosen_by_option_do_not_depend_on_the_unit(kind, options):
    if kind in ("ilu", "cholesky") and MPI.COMM_WORLD.size > 1:
        options[PREFIX + "pc_type"], options[PREFIX + "sub_pc_type"] = "bjacobi", kind
    else:
        options[PREFIX + "pc_type"] = kind
    if kind == "mg":
        options[PREFIX + "mg_levels_pc_type"] = "bjacobi"
        options[PREFIX + "mg_coarse_redundant_pc_type"] = "cholesky"
    count, expected = solved(1.0, (30, 32), None, "geometric")
    for scale in SCALES:
        iterations, found = solved(scale, (30, 32), None, "geometric")
        assert abs(iterations - count) <= 1
        np.testing.assert_allclose(
            found, expected, rtol=0, atol=1e-6 * np.abs(expected).max()
        )


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("recipe", ["direct", "geometric"])
def test_complex_solves_do_not_depend_on_the_unit(recipe):
    found = {}
    for scale in SCALES:
        grid, matrix = scaled(scale, (24, 20))
        volumes = mass(grid)
        volumes.scale(scale)
        solver = Presb(grid, volumes, matrix, None, (0.1, 0.0), PREFIX, recipe)
        grid.__dict__["volume"] = grid.volume * scale  # the direct solver's M
        solver.update()
        right = scale * np.stack(
            [grid.view(grid.standard_normal(k)).copy() for k in (1, 2)]
        )
        x = solver.solve(right, np.zeros_like(right))
        found[scale] = solver.iterations, x
        solver.release()
    count, expected = found[1.0]
    for iterations, x in found.values():
        assert abs(iterations - count) <= 1
        np.testing.assert_allclose(
            x, expected, rtol=0, atol=1e-6 * np.abs(expected).max()
        )


def flow(L, U, K):
    """Heads between two sides, in a stretched section, with a well, a Robin side and a flux."""
    edges = [0.0, 0.1, 0.15, 0.3, 0.5, 0.6, 0.8, 0.85, 1.0, 1.3, 1.5, 2.0]
    well = {"at": [0.7 * L, 0.4 * L], "rate": K * U, "radius": 0.2 * L}
    truth = f"{K!r}*exp(sin(3*x/{L!r})*cos(2*y/{L!r}))"
    places = [
        {"random": 30},
        {"sides": ["y+"]},
        {"boxes": [{"lower": [0.0, 0.0], "upper": [L, 0.5 * L]}]},
        {"balls": [{"at": [0.5 * L, 0.5 * L], "radius": 0.3 * L}]},
    ]
    return {
        "grid": {
            "edges": [[L * x for x in edges], [L * x for x in np.linspace(0, 1, 13)]]
        },
        "boundaries": {
            "x-": "dirichlet",
            "x+": {"kind": "robin", "coefficient": 2.0 * K / L},
        },
        "equation": {"terms": [{"diffusion": "D"}, {"source": 0.3 * K * U / L**2}]},
        "unknown": [{"name": "D", "initial": K, "truth": {"expression": truth}}],
        "experiment": [
            {"boundary": {"x-": U}},
            {"boundary": {"x+": 0.5 * U, "y-": 0.2 * K * U / L}, "wells": [well]},
        ],
        "observation": [{**place, "noise": 0.02} for place in places],
        "regularization": [{"weight": 2.0}],
    }


def prior(L, U, K):
    """The log-coefficient problem in three dimensions with a reaction and a correlation length."""
    truth = f"{K!r}*exp(sin(6*x/{L!r}))"
    sides = {"y-": "dirichlet", "y+": "dirichlet", "z-": "periodic", "z+": "periodic"}
    return {
        "grid": {"shape": [8, 9, 4], "extent": [L, L, 0.5 * L]},
        "boundaries": sides,
        "equation": {
            "known": {"c": 2.0 * K / L**2},
            "terms": [{"diffusion": "D"}, {"reaction": "c"}, {"source": K * U / L**2}],
        },
        "unknown": [{"name": "D", "initial": K, "truth": {"expression": truth}}],
        "experiment": [{"boundary": {"y+": U}}],
        "observation": [{"random": 40, "sigma": 0.01 * U}],
        "regularization": [
            {"kind": "bilaplacian", "correlation_length": 0.3 * L, "variance": 1.0}
        ],
    }


def imaging(L, U, K):
    """Electrodes around a disc, a ground, advection and total variation."""
    disc = f"((x/{L!r}-0.5)**2 + (y/{L!r}-0.5)**2 < 0.23)*1.0"
    truth = f"{K!r}*(1 + (x < 0.4*{L!r})*(y > 0.5*{L!r}))"
    ground = {"ground": [0.5 * L, 0.5 * L], "radius": 0.1 * L, "conductance": 3.0 * K}
    velocity = {"advection": [0.5 * K / L, 0.1 * K / L]}
    return {
        "grid": {
            "shape": [20, 22],
            "extent": [L, L],
            "keep": "largest",
            "active": {"expression": disc},
        },
        "equation": {"terms": [{"diffusion": "D"}, ground, velocity]},
        "unknown": [{"name": "D", "initial": K, "truth": {"expression": truth}}],
        "electrodes": {"count": 6, "radius": 0.12 * L, "current": K * U},
        "observation": [{"electrodes": True, "noise": 0.02}],
        "regularization": [
            {"kind": "total-variation", "weight": 3.0 / L, "epsilon": 0.3 / L}
        ],
    }


def plain(L, U, K):
    """The coefficient itself is unknown, in one dimension, with a direction's name and bounds."""
    unknown = {
        "name": "D_x",
        "transform": "bounded",
        "bounds": [0.1 * K, 9.0 * K],
        "initial": K,
        "truth": {"expression": f"{K!r}*(1 + 0.5*sin(5*x/{L!r}))"},
    }
    return {
        "grid": {"shape": [40], "extent": [L]},
        "boundaries": {"x-": "dirichlet", "x+": "dirichlet"},
        "equation": {"terms": [{"diffusion": ["D_x"]}, {"source": K * U / L**2}]},
        "unknown": [unknown],
        "experiment": [{"boundary": {"x+": U}}],
        "observation": [{"random": 20, "noise": 0.02}],
        "regularization": [{"weight": L}],
    }


CASES = [flow, prior, imaging, plain]


def text(value):
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(f"{json.dumps(k)} = {text(v)}" for k, v in value.items())
            + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(text(v) for v in value) + "]"
    return (
        repr(float(value))
        if isinstance(value, np.floating | float)
        else json.dumps(value)
    )


def objectives(make, units, folder, comm):
    """The objective at the start and at the optimum."""
    table = make(*units)
    table["simulation"] = {"refine": 1}
    file = folder / "case.toml"
    if comm.rank == 0:
        file.write_text(
            "\n".join(f"{key} = {text(value)}" for key, value in table.items())
        )
    comm.barrier()
    case, ensemble = load_case(file, comm), Ensemble.whole(comm)
    case.prepare(ensemble)
    found = nested.identify(
        case.grid(comm), lambda g: case.build(g, ensemble), case.settings(), 1
    )
    out = found.result.objective_initial, found.result.objective, found.result.status
    found.objective.destroy()
    return out


@pytest.mark.parametrize("make", CASES)
def test_objectives_in_units_of_the_noise_are_the_same_in_all_units(make, tmp_path):
    first = objectives(make, (1.0, 1.0, 1.0), tmp_path, MPI.COMM_SELF)
    assert first[2] == "converged" and first[1] < first[0]
    for factor in (1e-12, 1e12):
        for changed in ([0], [1], [2], [0, 1, 2]):
            units = [factor if k in changed else 1.0 for k in range(3)]
            found = objectives(make, units, tmp_path, MPI.COMM_SELF)
            assert found[2] == first[2]
            assert found[:2] == pytest.approx(first[:2], rel=1e-7), (factor, changed)


def test_a_chosen_weight_has_the_unit_of_the_regularization(tmp_path):
    """In one dimension int |grad p|^2 is in 1/length."""
    found = []
    for L in (1e-20, 1.0, 1e20):
        table = plain(L, 1.0, 1.0)
        table["unknown"][0]["transform"] = "log"
        del table["unknown"][0]["bounds"]
        table["regularization"][0]["weight"] = "discrepancy"
        (tmp_path / "case.toml").write_text(
            "\n".join(f"{k} = {text(v)}" for k, v in table.items())
        )
        case, ensemble = (
            load_case(tmp_path / "case.toml", MPI.COMM_SELF),
            Ensemble.whole(MPI.COMM_SELF),
        )
        case.prepare(ensemble)
        grid = case.grid(MPI.COMM_SELF)

        def build(weight, case=case, grid=grid, ensemble=ensemble):
            case.weight_override = weight
            return case.build(grid, ensemble)

        found.append(
            weight_choice.choose(build, "discrepancy", case.settings()).weight / L
        )
    assert found == pytest.approx([found[1]] * 3, rel=1e-4)


@pytest.mark.parallel([2, 3])
def test_objectives_are_the_same_in_all_units_on_several_ranks(tmp_path):
    comm = MPI.COMM_WORLD
    folder = comm.bcast(tmp_path, root=0)
    first = objectives(flow, (1.0, 1.0, 1.0), folder, comm)
    for factor in (1e-12, 1e12):
        found = objectives(flow, (factor,) * 3, folder, comm)
        assert found == (
            pytest.approx(first[0], rel=1e-7),
            pytest.approx(first[1], rel=1e-7),
            first[2],
        )
