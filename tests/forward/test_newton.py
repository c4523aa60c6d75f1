"""Newton's method of implicit stages."""

import numpy as np
import pytest
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.forward import SCHEMES, Equation, Evolution, Experiment, kept
from npde_opt.grids import Grid
from npde_opt.misfits import LeastSquares
from npde_opt.objective import Objective
from npde_opt.observations import at_points
from npde_opt.parameters import ParameterSpace, Unknown
from npde_opt.terms import Diffusion, Kinetics, NonlinearDiffusion, Reaction

TIGHT = {"state_newton_rtol": "1e-13", "state_ksp_rtol": "1e-13"}


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("storage", [1e-5, 1e-7, 1e-8])
def test_a_state_that_is_all_but_steady_is_found(storage):
    """(D (1 + u) u')' = 0 after the first step, (1 + u)^2 = 1 + 3 x: what is stored is less than
    the rounding of fluxes."""
    grid = Grid((12,), boundaries={"x-": "dirichlet", "x+": "dirichlet"})
    term = NonlinearDiffusion(grid, ("u",), "u", "D*(1 + u)")
    equation = Equation(grid, [term], storage="S")
    space = ParameterSpace(grid, [Unknown("D", "log")])
    run = Experiment(initial={"u": "x"}, boundary={"x+": 1.0})
    seen, times = [at_points(grid, (1.0,), [[0.5]])], np.linspace(0.0, 1.0, 11)
    known = {"S": storage}
    forward = Evolution(
        space, equation, known, [run], seen, SCHEMES["backward-euler"], times
    )
    lin = forward.linearize(space.create_vec())
    u = grid.comm.bcast(grid.to_natural(lin.final[0][0]), root=0)
    np.testing.assert_allclose((1 + u) ** 2, 1 + 3 * grid.centers[0], rtol=3e-3)
    lin.destroy()
    forward.destroy()


@pytest.mark.parametrize("scheme", ["crank-nicolson", "ars222"])
def test_systems_on_a_line_are_those_of_gmres(scheme):
    """Two species that diffuse by each other, solved as bands, with factors that are kept, and by
    GMRES: values, gradients and products with the Hessian, again at the same point."""
    found = []
    for option in ({}, {"state_ksp_type": "gmres"}):
        for name, value in (option | TIGHT).items():
            PETSc.Options()[name] = value
        J, m, dm = on_a_line(scheme)
        assert J.forward.newton is None or J.forward.newton.jacobian.line == (
            not option
        )
        at, h = J.linearize(m), J.create_vec()
        products = []
        for gauss_newton in (False, True, False):
            at.hessian(dm, h, gauss_newton)
            products.append(h.getArray().copy())
        found.append(np.concatenate([[at.value], at.gradient().getArray(), *products]))
        at.destroy()
        J.destroy()
        for name in option | TIGHT:
            PETSc.Options().delValue(name)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-7, atol=1e-9)


def on_a_line(scheme):
    grid = Grid((9,), boundaries={"x-": "dirichlet"}, comm=MPI.COMM_SELF)
    names = ("u", "v")
    coupled = [
        NonlinearDiffusion(grid, names, "u", "D*(1 + u*v)"),
        NonlinearDiffusion(grid, names, "v", "0.3 + u**2"),
        Kinetics(grid, names, {"u": "-u*v", "v": "u - v**3"}),
    ]
    linear = [
        Diffusion(grid, "D", "u"),
        Diffusion(grid, "D", "v"),
        Reaction(grid, "c", ("u", "v")),
    ]
    terms = coupled if scheme == "crank-nicolson" else [*linear, coupled[-1]]
    space = ParameterSpace(grid, [Unknown("D", "log")])
    run = Experiment(
        {"u": "0.2 + x", "v": 0.6}, boundary={"u": {"x-": 1.0}, "v": {"x-": 0.5}}
    )
    times = np.linspace(0, 0.1, 4)
    seen = [at_points(grid, times[1:], [[0.4], [0.8]], name) for name in names]
    equation = Equation(grid, terms, names)
    forward = Evolution(
        space, equation, {"c": 0.7}, [run], seen, SCHEMES[scheme], times
    )
    layout = forward.layouts[0]
    J = Objective(forward, [LeastSquares(np.ones(layout.size), 0.1, layout)], {})
    m, dm = space.create_vec(), space.create_vec()
    m.setArray(np.linspace(-0.5, 0.3, 9))
    dm.setArray(np.cos(np.arange(9.0)))
    return J, m, dm


@pytest.mark.parametrize("shape", [(7,), (5, 4)])
def test_factors_are_kept_as_far_as_there_is_room(shape, monkeypatch):
    """Products with the Hessian are the same from factors of all stages, of one, and of none."""
    grid = Grid(shape, boundaries={"x-": "dirichlet"}, comm=MPI.COMM_SELF)
    for name, value in TIGHT.items():
        PETSc.Options()[name] = value
    found, counts = [], []
    for room in (kept.BYTES, 1, 0):
        monkeypatch.setattr(kept, "BYTES", room)
        term = NonlinearDiffusion(grid, ("u",), "u", "D*(1 + u)")
        space = ParameterSpace(grid, [Unknown("D", "log")])
        times = np.linspace(0, 0.1, 4)
        seen = [at_points(grid, times[1:], [[0.4] * grid.dim])]
        run = Experiment({"u": "0.2 + x"}, boundary={"x-": 1.0})
        scheme = SCHEMES["backward-euler"]
        forward = Evolution(
            space, Equation(grid, [term]), {}, [run], seen, scheme, times
        )
        layout = forward.layouts[0]
        J = Objective(forward, [LeastSquares(np.ones(layout.size), 0.1, layout)], {})
        m, dm, h = (space.create_vec() for _ in range(3))
        dm.setArray(np.cos(np.arange(grid.size)))
        at = J.linearize(m)
        at.hessian(dm, h)
        found.append(h.getArray().copy())
        counts.append(sum(len(k._found) for k in forward.newton.budget.alive))
        at.destroy()
        assert sum(k.bytes for k in forward.newton.budget.alive) == 0
        J.destroy()
    for name in TIGHT:
        PETSc.Options().delValue(name)
    assert counts == [3, 1, 0]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(found[2], found[0], rtol=1e-8, atol=1e-12)
