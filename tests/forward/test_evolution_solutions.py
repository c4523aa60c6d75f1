"""Trajectories against analytic solutions, observed orders, conservation, PETSc's TSAdjoint, and
what is refused."""

import numpy as np
import pytest
from mpi4py import MPI
from petsc4py import PETSc
from scipy.integrate import solve_ivp

from npde_opt.errors import InputError, SolverError
from npde_opt.forward import SCHEMES, Equation, Evolution, Experiment
from npde_opt.forward.experiment import by_species
from npde_opt.forward.steps import TooFewSteps, accurate, doubling
from npde_opt.grids import Grid
from npde_opt.misfits import LeastSquares
from npde_opt.objective import Objective
from npde_opt.observations import at_points, snapshots
from npde_opt.optimizers import Settings, minimize
from npde_opt.parameters import ParameterSpace, Regions, Shared, Unknown
from npde_opt.terms import Absorbing, Advection, Diffusion, Kinetics, NonlinearDiffusion
from npde_opt.terms.absorbing import absorbing_rate
from npde_opt.verify import manufactured_order


@pytest.fixture(autouse=True)
def tight():
    options = PETSc.Options()
    options["state_ksp_rtol"] = "1e-12"
    yield
    options.delValue("state_ksp_rtol")


def run(
    grid,
    terms,
    initial,
    times,
    scheme,
    known,
    species=("u",),
    gamma=1.0,
    unknowns=None,
    values=None,
    boundary=None,
):
    """The last state [c, i, j, k], gathered."""
    space = ParameterSpace(grid, unknowns or [Unknown("unused", block=Shared())])
    forward = Evolution(
        space,
        Equation(grid, terms, species, gamma),
        known,
        [Experiment(initial, boundary=boundary or {})],
        [
            at_points(
                grid,
                times[[-1]],
                np.array([[(e[0] + e[-1]) / 2 for e in grid.edges]]),
                species[0],
            )
        ],
        SCHEMES[scheme],
        times,
    )
    lin = forward.linearize(space.from_values(values or {"unused": 1.0}))
    out = [grid.gather(grid.from_natural(np.zeros(grid.shape))) for _ in species]
    for c in range(len(species)):
        vec = grid.create_scalar()
        grid.view(vec)[...] = lin.final[0][c]
        out[c] = grid.gather(vec)
    lin.destroy()
    forward.destroy()
    return np.array(out)


@pytest.mark.parallel([1, 3])
@pytest.mark.parametrize("name", list(SCHEMES))
def test_order_in_time(name):
    """The slowest cosine is an eigenvector of the discrete operator: u = exp(-(D lambda_h + c) t)
    u_0 exactly."""
    grid = Grid((16,))
    h, D, c = 1 / 16, 0.3, 1.1
    rate = D * (2 - 2 * np.cos(np.pi * h)) / h**2
    known = {"D": D, "c": c}

    def error(steps):
        u = run(
            grid,
            [Diffusion(grid, "D"), Kinetics(grid, ("u",), {"u": "-c*u"})],
            {"u": "cos(pi*x)"},
            np.linspace(0, 0.4, steps + 1),
            name,
            known,
        )
        return np.abs(
            u[0] - np.exp(-(rate + c) * 0.4) * np.cos(np.pi * grid.centers[0])
        ).max()

    assert abs(manufactured_order(error, (250, 500)) - SCHEMES[name].order) < 0.1


@pytest.mark.parametrize("name", ["ars222", "crank-nicolson", "heun"])
def test_order_of_a_logistic_growth(name):
    grid = Grid((4,))

    def error(steps):
        times = np.linspace(0, 2, steps + 1)
        u = run(
            grid,
            [Kinetics(grid, ("u",), "fisher-kpp")],
            {"u": 0.1},
            times,
            name,
            {"r": 2.0, "K": 1.5},
        )
        return abs(u[0, 0] - 1.5 * 0.1 * np.exp(4.0) / (1.5 + 0.1 * (np.exp(4.0) - 1)))

    assert abs(manufactured_order(error, (40, 80)) - 2) < 0.2


@pytest.mark.parallel([1, 2])
def test_heat_kernel():
    """u = exp(-|x|^2 / (4 D t)) / (4 pi D t) from t = 0.01 to 0.03, second order in space."""

    def error(n):
        grid = Grid((n, n), extent=(2.0, 2.0), origin=(-1.0, -1.0))
        x, y = np.meshgrid(*grid.centers, indexing="ij")

        def kernel(t):
            return np.exp(-(x**2 + y**2) / (4 * t)) / (4 * np.pi * t)

        u = run(
            grid,
            [Diffusion(grid, "D")],
            {"u": np.asfortranarray(kernel(0.01)[grid.local_slice])},
            np.linspace(0, 0.02, 41),
            "ars222",
            {"D": 1.0},
        )
        return np.abs(u[0] - kernel(0.03)).max()

    assert abs(manufactured_order(error, (32, 64)) - 2) < 0.2


@pytest.mark.parallel([1, 2])
def test_allen_cahn_kink_stands_still():
    """u = tanh(x sqrt(a / (2 D))) solves D u_xx + a (u - u^3) = 0; the discrete front is off by
    O(h^2)."""

    def error(n):
        grid = Grid((n,), extent=(2.0,), origin=(-1.0,))
        x, width = grid.centers[0], np.sqrt(2 * 0.01 / 1.0)
        kink = np.tanh(x / width)
        u = run(
            grid,
            [Diffusion(grid, "D"), Kinetics(grid, ("u",), "allen-cahn")],
            {"u": np.asfortranarray(kink[grid.local_slice])},
            np.linspace(0, 4, 81),
            "ars222",
            {"D": 0.01, "a": 1.0},
        )
        return np.abs(u[0] - kink).max()

    assert abs(manufactured_order(error, (32, 64)) - 2) < 0.2


def test_fitzhugh_nagumo_follows_its_ode():
    grid, known = Grid((4,)), {"I": 0.5, "epsilon": 0.08, "a": 0.7, "b": 0.8}

    def rates(t, y):
        u, w = y
        return u - u**3 / 3 - w + known["I"], known["epsilon"] * (
            u + known["a"] - known["b"] * w
        )

    true = solve_ivp(rates, (0, 20), (-1.0, 1.0), rtol=1e-10, atol=1e-12).y[:, -1]

    def error(steps):
        u = run(
            grid,
            [Kinetics(grid, ("u", "w"), "fitzhugh-nagumo")],
            {"u": -1.0, "w": 1.0},
            np.linspace(0, 20, steps + 1),
            "heun",
            known,
            ("u", "w"),
        )
        return np.abs(u[:, 0] - true).max()

    assert error(800) < 1e-3
    assert abs(manufactured_order(error, (800, 1600)) - 2) < 0.2


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize(("scheme", "order"), [("upwind", 1), ("central", 2)])
def test_order_of_advection(scheme, order):
    """A sine carried once around a periodic interval and a little further."""

    def error(n):
        grid = Grid((n,), boundaries={"x-": "periodic", "x+": "periodic"})
        u = run(
            grid,
            [Advection(grid, (1.0,), scheme)],
            {"u": "sin(2*pi*x)"},
            np.linspace(0, 1.1, 4 * n + 1),
            "crank-nicolson",
            {},
        )
        return np.abs(u[0] - np.sin(2 * np.pi * (grid.centers[0] - 1.1))).max()

    assert abs(manufactured_order(error, (64, 128)) - order) < 0.2


@pytest.mark.parallel([1, 2])
def test_free_wave_packet_and_norm():
    """i du/dt = -u_xx/2: a Gaussian packet that moves and spreads, to second order; its norm
    stays."""
    k0, s, t = 15.0, 0.08, 0.02

    def packet(x, t):
        q = 1 + 1j * t / (2 * s**2)
        return np.exp(
            -((x - k0 * t) ** 2) / (4 * s**2 * q) + 1j * k0 * (x - k0 * t / 2)
        ) / np.sqrt(q)

    def error(n):
        grid = Grid(
            (n,),
            extent=(2.0,),
            origin=(-1.0,),
            boundaries={"x-": "dirichlet", "x+": "dirichlet"},
        )
        start = packet(grid.centers[0], 0)
        parts = {
            c: np.asfortranarray(f[grid.local_slice])
            for c, f in (("re", start.real), ("im", start.imag))
        }
        u = run(
            grid,
            [Diffusion(grid, "D")],
            parts,
            np.linspace(0, t, n // 4 + 1),
            "crank-nicolson",
            {"D": 0.5},
            ("re", "im"),
            1j,
        )
        assert abs((u**2).sum() / (np.abs(start) ** 2).sum() - 1) < 1e-10
        return np.abs(u[0] + 1j * u[1] - packet(grid.centers[0], t)).max()

    assert abs(manufactured_order(error, (256, 512)) - 2) < 0.2


def test_gaussian_beam():
    """2ik dA/dz = -A_xx: the width of a beam grows as sqrt(1 + (z/z_R)^2), z_R = k w^2 / 2."""
    k, w, z = 40.0, 0.1, 0.3
    grid = Grid(
        (256,),
        extent=(2.0,),
        origin=(-1.0,),
        boundaries={"x-": "dirichlet", "x+": "dirichlet"},
    )
    x = grid.centers[0]
    A = run(
        grid,
        [Diffusion(grid, "one")],
        {"re": np.exp(-((x / w) ** 2))},
        np.linspace(0, z, 101),
        "crank-nicolson",
        {"one": 1.0},
        ("re", "im"),
        2j * k,
    )
    intensity = (A**2).sum(axis=0)
    width = 2 * np.sqrt((intensity * x**2).sum() / intensity.sum())
    assert width == pytest.approx(w * np.sqrt(1 + (z / (k * w**2 / 2)) ** 2), rel=3e-3)


def test_absorbing_layer_reflects_less_than_a_thousandth():
    """A packet of speed 1 (wavelength 0.1) leaves through layers of 3 wavelengths."""
    k, wave = 2 * np.pi / 0.1, 0.1
    grid = Grid(
        (600,), extent=(3.0,), boundaries={"x-": "dirichlet", "x+": "dirichlet"}
    )
    x = grid.centers[0]
    start = np.exp(-(((x - 1.5) / 0.25) ** 2) + 1j * k * x)
    W = absorbing_rate(grid, {"x-": 3 * wave, "x+": 3 * wave}, 1.0)
    terms = [Diffusion(grid, "D"), Absorbing(grid, "W")]
    u = run(
        grid,
        terms,
        {"re": start.real.copy(), "im": start.imag.copy()},
        np.linspace(0, 3, 301),
        "crank-nicolson",
        {"D": 0.5 / k, "W": W},
        ("re", "im"),
        1j,
    )
    reflected = np.sqrt((u**2).sum() / (np.abs(start) ** 2).sum())
    assert 0 < reflected < 1e-3


def test_fisher_wave_speed():
    """The front from a step runs at 2 sqrt(r D), less Bramson's 3/(2 t) sqrt(D/r)/t."""
    grid = Grid((1200,), extent=(240.0,))
    fronts, start = [], np.where(grid.centers[0] < 5, 1.0, 0.0)
    for end in (30.0, 50.0):
        u = run(
            grid,
            [Diffusion(grid, "D"), Kinetics(grid, ("u",), "fisher-kpp")],
            {"u": start},
            np.linspace(0, end, round(end * 20) + 1),
            "ars222",
            {"D": 1.0, "r": 1.0, "K": 1.0},
        )[0]
        i = np.argmax(u < 0.5)
        fronts.append(
            grid.centers[0][i - 1] + (u[i - 1] - 0.5) / (u[i - 1] - u[i]) * 0.2
        )
    speed = (fronts[1] - fronts[0]) / 20
    assert speed == pytest.approx(2 - 1.5 * np.log(50 / 30) / 20, rel=5e-3)


def test_gradient_is_that_of_tsadjoint():
    """Backward Euler for u' = D u_xx + r u (1 - u): PETSc's adjoint of the same steps, by initial
    state and r."""
    n, dt, steps, D, r = 24, 0.02, 10, 0.02, 2.0
    grid = Grid((n,), comm=MPI.COMM_SELF)
    h, x = 1 / n, grid.centers[0]
    space = ParameterSpace(grid, [Unknown("u0"), Unknown("r", block=Shared())])
    forward = Evolution(
        space,
        Equation(
            grid, [Diffusion(grid, "D"), Kinetics(grid, ("u",), {"u": "r*u*(1 - u)"})]
        ),
        {"D": D},
        [Experiment({"u": "u0"})],
        [snapshots(grid, [dt * steps])],
        SCHEMES["backward-euler"],
        np.linspace(0, dt * steps, steps + 1),
    )
    m = space.from_values({"u0": 0.3 + 0.2 * np.cos(3 * x), "r": r})
    weights = np.sin(5 * x) + 2
    lin = forward.linearize(m)
    d = lin.data[0].copy()
    d.values[:, 0] = weights
    g = lin.apply_adjoint([d])

    lap = (
        np.diag(np.full(n - 1, 1.0), 1)
        + np.diag(np.full(n - 1, 1.0), -1)
        - 2 * np.eye(n)
    ) / h**2
    lap[0, 0] = lap[-1, -1] = -1 / h**2
    J, Jp = (
        PETSc.Mat().createDense((n, n), comm=MPI.COMM_SELF),
        PETSc.Mat().createDense((n, 1), comm=MPI.COMM_SELF),
    )
    u, f = J.createVecRight(), J.createVecRight()

    def rhs(ts, t, u, f):
        v = u.getArray(readonly=True)
        f.setArray(D * lap @ v + r * v * (1 - v))

    def jacobian(ts, t, u, A, B):
        v = u.getArray(readonly=True)
        B.setValues(range(n), range(n), D * lap + np.diag(r * (1 - 2 * v)))
        B.assemble()

    def jacobian_p(ts, t, u, A):
        v = u.getArray(readonly=True)
        A.setValues(range(n), [0], v * (1 - v))
        A.assemble()

    ts = PETSc.TS().create(MPI.COMM_SELF)
    ts.setType("beuler")
    ts.setRHSFunction(rhs, f)
    ts.setRHSJacobian(jacobian, J)
    ts.setRHSJacobianP(jacobian_p, Jp)
    ts.setTimeStep(dt)
    ts.setMaxSteps(steps)
    ts.setMaxTime(dt * steps)
    ts.setExactFinalTime(PETSc.TS.ExactFinalTime.STEPOVER)
    ts.getSNES().setTolerances(rtol=1e-13, atol=1e-14)
    ts.getSNES().getKSP().setType("preonly")
    ts.getSNES().getKSP().getPC().setType("lu")
    ts.setSaveTrajectory()
    u.setArray(0.3 + 0.2 * np.cos(3 * x))
    ts.solve(u)
    np.testing.assert_allclose(lin.final[0][0], u.getArray(), rtol=1e-9)
    lam, mu = J.createVecRight(), Jp.createVecRight()
    lam.setArray(weights)
    mu.set(0)
    ts.setCostGradients(lam, mu)
    ts.adjointSolve()
    np.testing.assert_allclose(space.own(g, "u0"), lam.getArray(), rtol=1e-8)
    np.testing.assert_allclose(space.values(g, "r"), mu.getArray(), rtol=1e-8)
    for item in (ts, J, Jp):
        item.destroy()


@pytest.mark.parallel([1, 2])
def test_refused_steps_and_blow_up():
    grid = Grid((8, 8))
    with pytest.raises(InputError, match="stability limit 0.003906"):
        run(
            grid,
            [Diffusion(grid, "D")],
            {"u": "x"},
            np.linspace(0, 1, 11),
            "explicit-euler",
            {"D": 1.0},
        )
    for name in ("explicit-euler", "ars222"):
        with pytest.raises(InputError, match="stability limit"):
            run(
                grid,
                [NonlinearDiffusion(grid, ("u",), "u", "D*(1 + u)")],
                {"u": "x"},
                np.linspace(0, 1, 11),
                name,
                {"D": 1.0},
            )
    run(
        grid,
        [Diffusion(grid, "D"), NonlinearDiffusion(grid, ("u",), "u", "0.3*u")],
        {"u": "x"},
        np.linspace(0, 0.2, 11),
        "imex-euler",
        {"D": 1.0},
    )
    drift = Advection(grid, (1.0, 0.5), "central")
    with pytest.raises(InputError, match="central advection without diffusion"):
        run(grid, [drift], {"u": "x"}, np.linspace(0, 1, 11), "explicit-euler", {})
    with pytest.raises(InputError, match="stability limit 0.0016"):
        run(
            grid,
            [drift, Diffusion(grid, "D")],
            {"u": "x"},
            np.linspace(0, 1, 501),
            "explicit-euler",
            {"D": 1e-3},
        )
    with pytest.raises(InputError, match="times"):
        run(
            grid,
            [Diffusion(grid, "D")],
            {"u": "x"},
            np.array([0.0, 1.0, 1.0]),
            "imex-euler",
            {"D": 1.0},
        )
    with pytest.raises(SolverError, match=r"grew to .* in step"):
        run(
            grid,
            [Kinetics(grid, ("u",), {"u": "u**2"})],
            {"u": 10.0},
            np.linspace(0, 10, 101),
            "heun",
            {},
        )
    with pytest.raises(InputError, match="kinetics.u: got .r. at character 1"):
        run(
            grid,
            [Kinetics(grid, ("u",), {"u": "r*u"})],
            {"u": 1.0},
            np.linspace(0, 1, 3),
            "heun",
            {},
        )
    with pytest.raises(InputError, match=r"observation\[0\].times"):
        snap = snapshots(grid, [2.0])
        space = ParameterSpace(grid, [Unknown("D", block=Shared())])
        Evolution(
            space,
            Equation(grid, [Diffusion(grid, "D")]),
            {},
            [Experiment()],
            [snap],
            SCHEMES["heun"],
            np.linspace(0, 1, 3),
        )


def test_steps_by_accuracy():
    rate = 3.0
    times = accurate(
        lambda t: np.array([(1 + rate * (t[1] - t[0]) / 2) ** -(2.0 * (t.size - 1))]),
        0,
        1,
        1,
        1e-3,
    )
    value = (1 + rate * (times[1] - times[0]) / 2) ** -(2.0 * (times.size - 1))
    assert abs(value / np.exp(-rate) - 1) < 3e-3 and times.size < 4200

    def fails(times):
        raise TooFewSteps("it grew")

    with pytest.raises(
        InputError,
        match="times.tolerance: got 0.001; allowed: one that 100 steps reach: it grew",
    ):
        accurate(fails, 0, 1, 1, 1e-3, most=100)
    late = doubling(-5, 0.1, -1, 3)
    assert late[0] == -5 and late[-1] == -1 and np.all(np.diff(late) > 0)
    found = doubling(0, 0.1, 5, 3)
    assert (
        found[-1] == 5
        and np.diff(found)[0] == pytest.approx(0.1)
        and np.all(np.diff(found)[:-1] <= np.diff(found).max())
    )


@pytest.mark.parallel([1, 2, 3])
def test_fisher_is_identified_on_any_number_of_ranks():
    """A field D, scalar r and the seed's place from noisy snapshots: a blow-up on the way is a
    rejected step."""
    grid = Grid((24, 20))
    unknowns = [
        Unknown(
            "D",
            "log",
            block=Regions(np.add.outer(np.arange(24) // 12, np.zeros(20, int))),
        ),
        Unknown("r", "log", block=Shared()),
        Unknown("s", block=Shared()),
    ]
    space, times = ParameterSpace(grid, unknowns), np.linspace(0, 1, 21)
    forward = Evolution(
        space,
        Equation(grid, [Diffusion(grid, "D"), Kinetics(grid, ("u",), "fisher-kpp")]),
        {"K": 1.0},
        [Experiment({"u": "0.5*exp(-60*((x - s)**2 + (y - 0.4)**2))"})],
        [snapshots(grid, times[[10, 20]])],
        SCHEMES["ars222"],
        times,
    )
    truth = space.from_values({"D": np.array([0.004, 0.02]), "r": 4.0, "s": 0.45})
    lin, (layout,) = forward.linearize(truth), forward.layouts
    y = lin.data[0].gather() + 0.005 * layout.noise(1).gather()
    lin.destroy()
    J = Objective(forward, [LeastSquares(y, 0.005, layout)], {})
    m = space.from_values({"D": 0.01, "r": 2.0, "s": 0.5})
    found = minimize(J, m, Settings(method="gauss-newton", gradient_rtol=1e-6))
    at = J.linearize(found.m)
    assert found.status == "converged" and 0.9 < at.chi_squared() < 1.1
    np.testing.assert_allclose(
        np.exp(space.values(found.m, "D")), [0.004, 0.02], rtol=0.03
    )
    assert np.exp(space.values(found.m, "r"))[0] == pytest.approx(4.0, rel=0.01)
    assert space.values(found.m, "s")[0] == pytest.approx(0.45, abs=2e-3)
    assert found.objective == pytest.approx(489.5745225, rel=1e-6)


def test_equations_that_cannot_be():
    grid, pair = Grid((8, 8), boundaries={"x-": "dirichlet"}), ("re", "im")
    absorbing = Absorbing(grid, "W")
    with pytest.raises(InputError, match="absorbing layers only"):
        Equation(grid, [absorbing], pair, 1j)
    with pytest.raises(InputError, match="term's species"):
        Equation(grid, [Diffusion(grid, "D", "re")], pair, 1j)
    equation = Equation(grid, [Diffusion(grid, "D"), absorbing], pair, 1j)
    for boundary in (
        {"x-": 3.0},
        {"re": {"x-": 1.0}, "x-": 1.0},
        {"re": {"x-": 1.0}, "typo": {}},
    ):
        with pytest.raises(InputError, match="boundary"):
            by_species(equation, boundary, "boundary")
    with pytest.raises(InputError, match="-1 in an active cell"):
        ParameterSpace(grid, [Unknown("D", block=Regions(np.full((8, 8), -1)))])


@pytest.mark.parametrize(
    "boundary", [{"x+": {}}, {"x+": {"x-": 1.0}}, {"u": 1.0}, {"v": {"x-": 1.0}}]
)
def test_a_table_where_a_side_has_a_value_is_refused(boundary):
    grid = Grid((4,), boundaries={"x-": "dirichlet", "x+": "dirichlet"})
    equation = Equation(grid, [Diffusion(grid, "D")])
    with pytest.raises(InputError, match="boundary: got .* allowed: side = value, or"):
        by_species(equation, boundary, "boundary")
