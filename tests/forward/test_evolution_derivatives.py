"""Exact derivatives of trajectories: Taylor remainders and dot products for every scheme, term,
unknown and storage."""

import numpy as np
import pytest
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError, SolverError
from npde_opt.forward import SCHEMES, Equation, Evolution, Experiment, Storage, stepper
from npde_opt.grids import Grid
from npde_opt.misfits import CorrelatedErrors, LeastSquares, ProportionalErrors
from npde_opt.objective import Objective
from npde_opt.observations import at_points, over_regions, snapshots
from npde_opt.parameters import ParameterSpace, Regions, Shared, Unknown
from npde_opt.regularizers import REGULARIZERS
from npde_opt.regularizers.small import SmallPrior
from npde_opt.terms import (
    Absorbing,
    Advection,
    Diffusion,
    Kinetics,
    NonlinearDiffusion,
    Reaction,
    Source,
)
from npde_opt.verify import WIDE, dot_product_test, taylor_test

SHAPE = (9, 8)
POINTS = np.random.default_rng(5).random((7, 2))
TIGHT = {"state_ksp_rtol": "1e-14", "state_newton_rtol": "1e-14"}
START = "0.3 + 0.4*a*exp(-8*((x - s)**2 + (y - 0.6)**2))"


@pytest.fixture(autouse=True)
def tight():
    options = PETSc.Options()
    for name, value in TIGHT.items():
        options[name] = value
    yield
    for name in TIGHT:
        options.delValue(name)


def objective(
    terms,
    unknowns,
    scheme="imex-euler",
    species=("u",),
    gamma=1.0,
    known=None,
    trials=None,
    samplings=None,
    steps=4,
    end=0.03,
    storage=None,
    sides=None,
    active=None,
    shape=SHAPE,
    power=1.1,
    evolution=None,
    **cells,
):
    """An objective and a point m and direction dm, the same on any number of ranks; `terms`,
    `trials` and `samplings` are functions of the grid, whose cells may be given, too."""
    comm = cells.pop("comm", MPI.COMM_WORLD)
    grid = Grid(shape, boundaries=sides or {}, active=active, comm=comm, **cells)
    space = ParameterSpace(grid, unknowns)
    times = np.linspace(0, end, steps + 1) ** power
    runs = trials(grid) if trials else [Experiment({species[0]: START})]
    seen = (
        samplings(grid, times)
        if samplings
        else [
            at_points(
                grid, [0.3 * times[2] + 0.7 * times[3], times[-1]], POINTS, species[0]
            ),
            snapshots(grid, times[[0, 3]], species[-1]),
        ]
    )
    forward = Evolution(
        space,
        Equation(grid, terms(grid), species, gamma),
        {"a": 1.0, "s": 0.4} | (known or {}),
        runs,
        seen,
        SCHEMES[scheme],
        times,
        storage if isinstance(storage, Storage) else Storage(storage),
        **(evolution or {}),
    )
    misfits = []
    for layout in forward.layouts:
        y = [
            np.random.default_rng(e).standard_normal(layout.size)
            for e in layout.members
        ]
        misfits.append(LeastSquares(np.stack(y, axis=1), 0.5, layout))
    m, dm = vector(space, 1, 0.7), vector(space, 2, 0.5)
    return Objective(forward, misfits, {}), m, dm


def vector(space, seed, mean):
    vec = space.create_vec()
    for i, u in enumerate(space.unknowns):
        rng = np.random.default_rng(10 * seed + i)
        if not u.block.listed:
            values = mean + 0.3 * (seed * rng.random(space.grid.shape) - 0.5)
            space.own(vec, u.name)[...] = values[space.grid.local_slice]
        else:
            own = space.own(vec, u.name)
            own[...] = (mean + 0.3 * (rng.random(u.block.count) - 0.5))[: own.size]
    return vec


def check(objective, m, dm, second=2.7):
    """Unknown by unknown on one rank; on several, where every solve waits for messages, all at
    once: each one's Jacobian is in the dot-product test there too."""
    orders = taylor_test(objective, m, dm, apart=MPI.COMM_WORLD.size == 1)
    assert 1.7 < orders.first < 2.6 or orders.first == np.inf, orders
    assert second < orders.second < 3.6 or orders.second == np.inf, orders
    assert 1.85 < orders.gradient < 2.6 or orders.gradient == np.inf, orders
    lin = objective.forward.linearize(m)
    d = [predicted.layout.noise(100) for predicted in lin.data]
    assert dot_product_test(lin, dm, d) <= 1e-10
    lin.destroy()
    objective.destroy()


def fisher(grid):
    return [Diffusion(grid, "D"), Kinetics(grid, ("u",), "fisher-kpp")]


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("scheme", list(SCHEMES))
def test_schemes(scheme):
    """Field D, scalar r, position of the initial state, together."""
    unknowns = [
        Unknown("D", "log"),
        Unknown("r", block=Shared()),
        Unknown("s", block=Shared()),
    ]
    check(*objective(fisher, unknowns, scheme, known={"K": 1.2}, end=0.0067))


def gray_scott(grid):
    names = ("u", "v")
    return [
        Diffusion(grid, "Du", "u"),
        Diffusion(grid, "Dv", "v"),
        Kinetics(grid, names, "gray-scott"),
    ]


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("scheme", ["explicit-euler", "ars222", "crank-nicolson"])
def test_two_species_fields_and_initial_states(scheme):
    unknowns = [
        Unknown("Du", "log", block=Shared()),
        Unknown("Dv"),
        Unknown("F"),
        Unknown("k", "bounded", (0.1, 3.0)),
        Unknown("v0"),
    ]
    check(
        *objective(
            gray_scott,
            unknowns,
            scheme,
            ("u", "v"),
            end=0.008,
            trials=lambda grid: [
                Experiment({"u": START, "v": "v0"}),
                Experiment({"u": 1.0, "v": "v0**2"}),
            ],
        )
    )


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize(
    "shape, sides",
    [((9, 8), {"x-": "periodic", "x+": "periodic"}), ((11,), {}), ((5, 6, 4), {})],
)
def test_the_fused_step_is_the_assembled_one(shape, sides):
    unknowns = [
        Unknown("Du", "log", block=Shared()),
        Unknown("Dv", block=Shared()),
        Unknown("F"),
        Unknown("k", block=Shared()),
        Unknown("v0"),
    ]
    found = []
    for fused in (True, False):
        J, m, dm = objective(
            gray_scott,
            unknowns,
            "explicit-euler",
            ("u", "v"),
            shape=shape,
            sides=sides,
            end=0.008,
            trials=lambda grid: [Experiment({"u": "1 - 0.5*x", "v": "v0**2"})],
            samplings=lambda grid, times: [snapshots(grid, times[[2, -1]], "u*v")],
        )
        J.forward.fused = fused
        at, h = J.linearize(m), J.create_vec()
        assert (
            type(at.linearization.batches[0].stepper).__name__ == "FusedEuler"
        ) == fused
        at.hessian(dm, h)
        found.append([at.gradient().getArray().copy(), h.getArray().copy()])
        check(J, m, dm) if fused else J.destroy()
    for x, y in zip(*found, strict=True):
        np.testing.assert_allclose(
            x, y, rtol=1e-11, atol=1e-12 * np.abs(x).max(initial=1)
        )


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize(
    "scheme", ["imex-theta", "ars222", "backward-euler", "explicit-euler"]
)
def test_histories_sources_sides_masks_and_regions(scheme):
    """An unknown history and shape of a source, Dirichlet values, advection, a mask, averages over
    regions."""
    active = np.ones(SHAPE, bool)
    active[4:6, 3:5] = False
    regions = np.add.outer(np.arange(9) // 5, 2 * (np.arange(8) // 4)) - 1

    def terms(grid):
        return [
            Diffusion(grid, ("Dx", "Dy")),
            Advection(grid, (1.0, -2.0)),
            Advection(grid, (-0.4, 0.3), "central"),
            Reaction(grid, "c"),
            Kinetics(grid, ("u",), {"u": "-q*u**2"}),
        ]

    unknowns = [
        Unknown("Dx", "log"),
        Unknown("h", block=Shared(3)),
        Unknown("w", "log", block=Shared()),
        Unknown("c"),
        Unknown("q", "log", block=Regions(np.maximum(regions, 0))),
    ]
    check(
        *objective(
            terms,
            unknowns,
            scheme,
            known={"Dy": 0.8},
            active=active,
            sides={"x-": "dirichlet", "y+": "dirichlet"},
            end=0.004,
            trials=lambda grid: [
                Experiment(
                    {"u": 0.5},
                    [
                        Source(
                            grid, ("u",), "u", "w*exp(-w*x)", "h", [0.0, 0.002, 0.0033]
                        )
                    ],
                    {"x-": 1.5},
                )
            ],
            samplings=lambda grid, times: [
                over_regions(grid, times[1:], regions),
                snapshots(grid, times[[3]], "1/(1 + exp(-(u - 0.3)/0.2))"),
            ],
        )
    )


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.fewer(3, scheme=["crank-nicolson"])
@pytest.mark.parametrize("scheme", ["explicit-euler", "ars222", "crank-nicolson"])
@pytest.mark.parametrize("form", ["porous-fisher", "perona-malik"])
def test_nonlinear_diffusion(form, scheme):
    active = np.ones(SHAPE, bool)
    active[2:4, 5] = False

    def terms(grid):
        linear = [Diffusion(grid, "D0")] if scheme == "ars222" else []
        return [
            *linear,
            NonlinearDiffusion(grid, ("u",), "u", form, floor=1e-6),
            Kinetics(grid, ("u",), "fisher-kpp"),
        ]

    scale = "K" if form == "porous-fisher" else "kappa"
    unknowns = [
        Unknown("D", "log"),
        Unknown(scale, "log", block=Shared()),
        Unknown("r", "log", block=Shared()),
    ]
    if form == "porous-fisher":
        unknowns.append(Unknown("m", "log"))
    check(
        *objective(
            terms,
            unknowns,
            scheme,
            known={"D0": 0.5, "K": 1.3},
            active=active,
            end=0.004,
            sides={"x-": "dirichlet", "y-": "periodic", "y+": "periodic"},
            trials=lambda grid: [Experiment({"u": START}, boundary={"x-": 0.7})],
        )
    )


def schroedinger(grid):
    return [Diffusion(grid, "D"), Reaction(grid, "V"), Absorbing(grid, "W")]


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("scheme", ["crank-nicolson", "backward-euler", "ars222"])
def test_complex_states_seen_by_intensity(scheme):
    check(
        *objective(
            schroedinger,
            [Unknown("V"), Unknown("D", "log", block=Shared()), Unknown("f")],
            scheme,
            ("re", "im"),
            1j,
            known={"W": 0.3},
            trials=lambda grid: [
                Experiment({"re": "cos(f)", "im": "0.5*sin(2*f + x)"})
            ],
            samplings=lambda grid, times: [
                snapshots(grid, times[[2, -1]], "re**2 + im**2"),
                at_points(grid, times[1:], POINTS, "im"),
            ],
        )
    )


@pytest.mark.parallel([1, 2, 3])
def test_errors_that_are_correlated_or_proportional_and_priors():
    unknowns = [
        Unknown("D", "log"),
        Unknown("r", "log", block=Shared()),
        Unknown("h", block=Shared(3)),
    ]
    correlation = 0.6 ** np.abs(np.subtract.outer(np.arange(4), np.arange(4)))
    for kind in ("correlated", "proportional"):
        J, m, dm = objective(
            fisher,
            unknowns,
            "ars222",
            known={"K": 1.2},
            end=0.01,
            trials=lambda grid: [
                Experiment(
                    {"u": START},
                    [Source(grid, ("u",), "u", 5.0, "h", [0, 0.003, 0.005])],
                )
            ],
            samplings=lambda grid, times: [at_points(grid, times[1:], POINTS)],
        )
        (layout,), space = J.forward.layouts, J.space
        y = 0.5 + 0.1 * np.random.default_rng(3).standard_normal(layout.size)
        J.misfits = [
            CorrelatedErrors(y, 0.2, layout, correlation)
            if kind == "correlated"
            else ProportionalErrors(y, 0.3, layout, 0.7, 0.01)
        ]
        J.regularizers = {
            "D": REGULARIZERS["gradient"](space.grid, 0.3),
            "r": SmallPrior(space.comm, 1, 1.0, 0.2, 0.5),
            "h": SmallPrior(space.comm, 3, 0.1, 0.0, 1.0, 0.05, [0, 0.003, 0.005]),
        }
        if kind == "correlated":
            at = J.linearize(m)
            e = (at.linearization.data[0].gather()[:, 0] - y).reshape(4, -1)
            expected = 0.5 * np.einsum(
                "ti,ts,si->", e, np.linalg.inv(0.04 * correlation), e
            )
            assert at.misfit == pytest.approx(expected, rel=1e-10)
        check(J, m, dm)


@pytest.mark.parallel([1, 2])
def test_a_nonlinear_complex_equation():
    """Focusing nonlinear Schroedinger: i du/dt = -D lap u - g |u|^2 u."""

    def terms(grid):
        rates = {"re": "-g*(re**2 + im**2)*im", "im": "g*(re**2 + im**2)*re"}
        return [Diffusion(grid, "D"), Kinetics(grid, ("re", "im"), rates)]

    check(
        *objective(
            terms,
            [Unknown("D", "log", block=Shared()), Unknown("g", block=Shared())],
            "ars222",
            ("re", "im"),
            1j,
            trials=lambda grid: [Experiment({"re": START})],
        )
    )


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.fewer(2, scheme=["ars222"])
@pytest.mark.parametrize("scheme", ["explicit-euler", "ars222", "crank-nicolson"])
def test_all_storages_give_the_same_gradient_and_hessian(scheme, tmp_path):
    """Everything kept, checkpoints in memory, some on disk: equal to rounding, and the
    recomputation as predicted."""
    found = []
    cells = 8 * SHAPE[0] * SHAPE[1] // MPI.COMM_WORLD.size
    unit = cells * SCHEMES[scheme].stages * 1.5
    for memory, disk in ((None, 0.0), (3.2 * unit, 0.0), (1.2 * unit, 2.2 * unit)):
        J, m, dm = objective(
            fisher,
            [Unknown("D", "log"), Unknown("r", block=Shared())],
            scheme,
            known={"K": 1.2},
            end=0.01,
            steps=11,
            storage=None,
        )
        J.forward._plan(Storage(memory, disk))
        at, h = J.linearize(m), J.create_vec()
        g = at.gradient()
        assert J.forward.counters.steps == round(
            12 * J.forward.storage.predicted
        )  # 11, and one observed inside
        assert J.forward.recomputation == pytest.approx(J.forward.storage.predicted)
        at.hessian(dm, h)
        gn = J.create_vec()
        at.hessian(dm, gn, True)
        found.append([v.getArray().copy() for v in (g, h, gn)])
        if memory is not None:
            assert not J.forward.storage.keeps_all and J.forward.storage.predicted > 1.2
        at.destroy()
        J.destroy()
    for other in found[1:]:
        for x, y in zip(found[0], other, strict=True):
            assert np.abs(x).max(initial=0) > 0 or x.size == 0
            np.testing.assert_allclose(
                y, x, rtol=1e-13, atol=1e-13 * np.abs(x).max(initial=1)
            )


@pytest.mark.parallel([1, 2])
def test_a_folder_that_takes_no_trajectory_is_wrong_input(tmp_path):
    J, m, _ = objective(
        fisher,
        [Unknown("D", "log"), Unknown("r", block=Shared())],
        "ars222",
        known={"K": 1.2},
        end=0.01,
        steps=11,
        storage=None,
    )
    unit = (
        8 * SHAPE[0] * SHAPE[1] // MPI.COMM_WORLD.size * SCHEMES["ars222"].stages * 1.5
    )
    J.forward._plan(Storage(1.2 * unit, 2.2 * unit, str(tmp_path / "gone")))
    at = J.linearize(m)
    with pytest.raises(
        InputError, match="storage of trajectories: got .*gone.*No such file"
    ):
        at.gradient()
    at.destroy()
    J.destroy()


@pytest.mark.parallel([2, 4])
def test_two_groups_of_experiments_are_the_whole():
    results = []
    for groups in (2, 1):
        ensemble = Ensemble.split(MPI.COMM_WORLD, groups, 2)
        grid = Grid(SHAPE, comm=ensemble.space)
        space, times = (
            ParameterSpace(grid, [Unknown("D", "log"), Unknown("r", block=Shared())]),
            np.linspace(0, 0.02, 7),
        )
        trials = [Experiment({"u": START}), Experiment({"u": "0.5 + 0.2*x"})]
        forward = Evolution(
            space,
            Equation(grid, fisher(grid)),
            {"a": 1.0, "s": 0.4, "K": 1.2},
            [trials[e] for e in ensemble.own(2)],
            [at_points(grid, times[[3, 6]], POINTS)],
            SCHEMES["ars222"],
            times,
        )
        (layout,) = forward.layouts
        y = [np.full(layout.size, 0.1 + e) for e in ensemble.own(2)]
        misfits = [LeastSquares(np.stack(y, axis=1), 0.5, layout)]
        J = Objective(forward, misfits, {}, ensemble)
        m, dm = vector(space, 1, 0.7), vector(space, 2, 0.5)
        at, h = J.linearize(m), J.create_vec()
        at.hessian(dm, h)
        found = [at.value]
        for vec in (at.gradient(), h):
            found += [
                space.grid.gather(space.block_vec(vec, "D")),
                space.values(vec, "r"),
            ]
        results.append(found)
        at.destroy()
        J.destroy()
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11 * np.abs(b).max())


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("scheme", ["explicit-euler", "ars222"])
def test_a_scalar_that_several_parts_read(scheme):
    """K in the reaction, the initial state and (with one more experiment, whose step is not fused)
    a history of one value."""
    unknowns = [Unknown("D", "log", block=Shared()), Unknown("K", block=Shared())]
    check(
        *objective(
            fisher,
            unknowns,
            scheme,
            known={"r": 1.1},
            end=0.005,
            trials=lambda grid: [
                Experiment({"u": "0.4*K + 0.2*x"}),
                Experiment(
                    {"u": "0.4 + 0.2*y"},
                    [Source(grid, ("u",), "u", "1 + x*K", "K", [0.0])],
                ),
            ],
        )
    )


@pytest.mark.parallel([1, 2])
@pytest.mark.fewer(2, scheme=["ars222", "crank-nicolson"])
@pytest.mark.parametrize(
    "scheme", ["explicit-euler", "ars222", "backward-euler", "crank-nicolson"]
)
def test_gamma_divides_all_terms(scheme):
    """gamma du/dt = f is du/dt = f / gamma, for linear terms, reactions, diffusivities D(u) and
    sources."""
    found = []
    for gamma, share in ((2.0, 1.0), (1.0, 0.5)):
        J, m, dm = objective(
            lambda grid, share=share: [
                *fisher(grid),
                NonlinearDiffusion(grid, ("u",), "u", "E*u"),
                Source(grid, ("u",), "u", 3 * share),
            ],
            [Unknown("v0")],
            scheme,
            gamma=gamma,
            known={"K": 1.2, "D": 0.7 * share, "r": 1.3 * share, "E": 0.2 * share},
            end=0.005,
            trials=lambda grid: [Experiment({"u": "v0"})],
        )
        at = J.linearize(m)
        found.append([at.value, at.gradient().norm()])
        at.destroy()
        J.destroy() if gamma == 1 else check(J, m, dm)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-11)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("scheme", ["explicit-euler", "ars222", "backward-euler"])
def test_what_is_singular_at_inactive_cells_is_not_seen(scheme):
    """u = 0 where nothing is, where log(u), u**p, D(u) and sqrt(u) or their slopes are infinite,
    and known values missing."""
    active = np.ones(SHAPE, bool)
    active[3:7, 2:6] = False

    def terms(grid):
        return [
            Diffusion(grid, "D"),
            NonlinearDiffusion(grid, ("u",), "u", "E*u**p"),
            Kinetics(grid, ("u",), {"u": "r*u*log(K/u) - q*u**p"}),
            Source(grid, ("u",), "u", "q/w"),
        ]

    w = np.where(active, 2.0, np.nan)[Grid(SHAPE, active=active).local_slice]
    unknowns = [
        Unknown("E", "log"),
        Unknown("r", block=Shared()),
        Unknown("p", block=Shared()),
    ]
    check(
        *objective(
            terms,
            unknowns,
            scheme,
            active=active,
            known={"K": 2.0, "D": w, "w": w, "q": 0.3},
            end=0.003,
            trials=lambda grid: [Experiment({"u": "0.3 + 0.4*x"})],
            samplings=lambda grid, times: [snapshots(grid, times[[2, -1]], "sqrt(u)")],
        )
    )


@pytest.mark.parallel([1, 2])
def test_a_derivative_that_is_not_finite_is_an_error():
    for quantity, problem in (
        ("log(u)", "predicted datum is not finite"),
        ("sqrt(u)", "derivative is not finite"),
    ):
        J, m, _ = objective(
            fisher,
            [Unknown("v0")],
            known={"K": 1.0, "r": 0.0, "D": 1.0},
            trials=lambda grid: [Experiment({"u": "v0"})],
            samplings=lambda grid, times, q=quantity: [snapshots(grid, times[[0]], q)],
        )
        m.set(0.0)
        with pytest.raises(SolverError, match=problem):
            J.linearize(m).gradient()


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("corner", [0, -1])
def test_one_datum_that_is_not_finite_is_seen_by_all_ranks(corner):
    u = np.ones(SHAPE)
    u[corner, corner] = -1.0
    J, m, _ = objective(
        fisher,
        [Unknown("D", "log")],
        known={"K": 1.0, "r": 0.0},
        trials=lambda grid: [Experiment({"u": u[grid.local_slice]})],
        samplings=lambda grid, times: [snapshots(grid, times[[0]], "log(u)")],
    )
    with pytest.raises(SolverError, match="predicted datum is not finite"):
        assert J.linearize(m).value


@pytest.mark.parallel([1, 2])
def test_verification_passes_over_steps_where_nothing_is_defined():
    """D = 0.02 + e dm is negative for the larger steps; where it is for all of them nothing is
    verified."""
    for size, defined in ((1.0, True), (1e6, True), (1e30, False)):
        J, m, dm = objective(
            fisher, [Unknown("D", block=Shared())], "ars222", known={"K": 1.2, "r": 1.0}
        )
        m.set(0.02)
        dm.set(-size)
        J.linearize(m).gradient()
        orders = taylor_test(J, m, dm, WIDE)
        if defined:
            assert orders.first == pytest.approx(
                2, abs=0.1
            ) and orders.second == pytest.approx(3, abs=0.1)
        else:
            assert np.isnan(orders.first)
        J.destroy()


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("scheme", ["backward-euler", "crank-nicolson"])
@pytest.mark.parametrize("species", [("u",), ("u", "v")])
def test_newton_starts_from_nothing(scheme, species):
    """A source or a boundary value sets in where the state is 0."""

    def terms(grid):
        linear = [Diffusion(grid, "D", s) for s in species]
        return [
            *linear,
            Kinetics(
                grid, species, "fisher-kpp" if len(species) == 1 else "gray-scott"
            ),
        ]

    check(
        *objective(
            terms,
            [Unknown("D", "log")],
            scheme,
            species,
            known={"K": 1.2, "r": 1.0, "F": 0.3, "k": 0.2},
            sides={"x-": "dirichlet"},
            end=0.01,
            trials=lambda grid: [
                Experiment({}, boundary={"u": {"x-": 1.0}}),
                Experiment({}, [Source(grid, species, species[0], "x")]),
            ],
        )
    )


def test_a_sweep_that_failed_leaves_nothing_behind():
    J, m, _ = objective(
        fisher,
        [Unknown("D", "log"), Unknown("r", block=Shared())],
        "ars222",
        known={"K": 1.2},
    )
    expected = J.linearize(m).gradient().getArray().copy()
    at = J.linearize(m)
    stepper, left = at.linearization.batches[0].stepper, [3]
    adjoint = stepper.adjoint

    def failing(*args):
        left[0] -= 1
        if not left[0]:
            raise SolverError("state_", "a test", "None.")
        return adjoint(*args)

    stepper.adjoint = failing
    with pytest.raises(SolverError, match="a test"):
        at.gradient()
    np.testing.assert_allclose(at.gradient().getArray(), expected, rtol=1e-13)


def test_a_tangent_evaluates_the_parameters_part_once_a_stage(monkeypatch):
    J, m, dm = objective(
        fisher,
        [Unknown("D", "log"), Unknown("r", block=Shared())],
        "ars222",
        known={"K": 1.2},
    )
    lin, asked = J.forward.linearize(m), []
    derivative = stepper.Group.derivative

    def counted(group, state, dk):
        asked.append((group, state))
        return derivative(group, state, dk)

    monkeypatch.setattr(stepper.Group, "derivative", counted)
    lin.apply(dm)
    assert asked and len({(id(g), id(s)) for g, s in asked}) == len(asked)
    lin.destroy()
    J.destroy()
