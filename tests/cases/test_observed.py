"""What a case observes: places of all kinds, seen on every grid of a run and refused with a name,
and differences between them."""

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg
from fits import case_of, every
from mpi4py import MPI

from npde_opt import nested
from npde_opt.cases import load_case
from npde_opt.cases.random_points import active
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError
from npde_opt.runs.marked import marks_of

COMM = MPI.COMM_WORLD


def whole():
    return Ensemble.whole(COMM)


def fitted(case, levels=None):
    """The identification of a case."""
    case.prepare(whole())
    grid = case.grid(COMM)
    return nested.identify(
        grid, lambda g: case.build(g, whole()), case.settings(), levels
    )


def predicted(case):
    """Data of the start by experiment, on every rank."""
    on = case.on(case.grid(COMM))
    forward, m = on.forward(range(case.experiment_count), case.times()), on.start()
    lin = forward.linearize(m)
    found = {}
    for block in lin.data:
        found |= dict(zip(block.layout.members, block.gather().T, strict=True))
    data = [found[e] for e in sorted(found)]
    for owned in (lin, m, forward):
        owned.destroy()
    return data


# ---- places of all kinds -------------------------------------------------------------------------

LINEAR = """
[grid]
shape = [8, 6]
[boundaries]
"x-" = "dirichlet"
"x+" = "dirichlet"
[[unknown]]
name = "D"
initial = 1.0
truth = 1.0
[[experiment]]
boundary = { "x+" = 1.0 }
[[experiment]]
boundary = { "x-" = 2.0 }
"""
"""u = x in the first experiment, u = 2 (1 - x) in the second, on any grid."""
PLACES = {
    "points = [[0.25, 0.5], [0.8, 0.5]]": [0.25, 0.8],
    "points = [[0.25, 0.5], [0.8, 0.5]]\ndifferences = [[1, 0], [0, 1]]": [0.55, -0.55],
    "sides = ['y+', { side = 'y-', lower = [0, 0], upper = [0.5, 0] }]": [0.5, 0.25],
    "boxes = [{ lower = [0.0, 0.0], upper = [0.5, 1.0] }]": [0.25],
    "balls = [{ at = [0.5, 0.5], radius = 0.3 }]": [0.5],
    "integrals = [1.0, { expression = 'y < 0.5' }]": [0.5, 0.25],
    "regions = { expression = '1.0*(x > 0.5)' }": [0.25, 0.75],
    "regions = { expression = '1.0*(x > 0.5)' }\ndifferences = [[1, 0]]": [0.5],
}
WEIGHTS = {"integrals": [1.0, 0.5]}
"""Integrals of the weights: what a constant is seen as, where that is not 1."""


def constants(keys, count):
    """What is seen of u = 1."""
    if "differences" in keys:
        return np.zeros(count)
    return np.asarray(WEIGHTS.get(keys.partition(" ")[0], np.ones(count)))


@pytest.mark.parallel([1, 2, 3])
def test_several_observations_of_a_steady_case_are_seen_one_after_the_other(tmp_path):
    tables = "".join(f"[[observation]]\n{keys}\n" for keys in PLACES)
    first, second = predicted(case_of(tmp_path, LINEAR + tables))
    wanted = np.concatenate(list(PLACES.values()))
    ones = np.concatenate([constants(keys, len(v)) for keys, v in PLACES.items()])
    np.testing.assert_allclose(first, wanted, atol=1e-10)
    np.testing.assert_allclose(second, 2 * (ones - wanted), atol=1e-10)


@pytest.mark.parallel([1, 2, 3])
def test_differences_are_those_of_what_is_seen(tmp_path):
    bent = LINEAR.replace("initial = 1.0", 'initial = { expression = "exp(x*y)" }')
    places = (
        "[[observation]]\nboxes = ["
        + ", ".join(
            f"{{ lower = [{x}, {y}], upper = [{x + 0.25}, {y + 0.5}] }}"
            for x in (0.0, 0.25, 0.5)
            for y in (0.0, 0.5)
        )
        + "]\n"
    )
    pairs = [[0, 5], [5, 0], [3, 2], [3, 4], [3, 1]]
    seen = predicted(case_of(tmp_path, bent + places))
    less = predicted(case_of(tmp_path, bent + places + f"differences = {pairs}\n"))
    i, j = np.array(pairs).T
    for values, differences in zip(seen, less, strict=True):
        np.testing.assert_allclose(differences, values[i] - values[j], atol=1e-12)
        assert np.abs(differences).min() > 1e-4


def test_differences_of_what_every_cell_shows_count_with_x_fastest(tmp_path):
    case = case_of(
        tmp_path, LINEAR + "[[observation]]\ndifferences = [[7, 0], [8, 0]]\n"
    )
    np.testing.assert_allclose(predicted(case)[0], [7 / 8, 0.0], atol=1e-10)


@pytest.mark.parametrize("pair", ["[1, 1]", "[0, 2]"])
def test_a_difference_is_between_two_places_that_are_there(pair, tmp_path):
    keys = f"points = [[0.2, 0.5], [0.8, 0.5]]\ndifferences = [[0, 1], {pair}]"
    case = case_of(tmp_path, f"{LINEAR}[[observation]]\n{keys}\n")
    wanted = r"observation\[0\].differences\[1\]: got .*; allowed: two different places from 0 to 1"
    with pytest.raises(InputError, match=wanted):
        case.observations[0].functionals(case.grid(COMM))


# ---- data of several observations ----------------------------------------------------------------

SEVERAL = (
    LINEAR
    + """
[[observation]]
points = [[0.25, 0.5], [0.8, 0.5]]
sigma = 0.2
[[observation]]
sides = ["y+"]
noise = 0.1
[[observation]]
points = [[0.25, 0.5], [0.8, 0.5]]
differences = [[1, 0]]
data = { file = "d.npy" }
sigma = { file = "s.npy" }
"""
)


@pytest.fixture
def several(tmp_path):
    if COMM.rank == 0:
        np.save(tmp_path / "d.npy", [[0.5], [-1.25]])
        np.save(tmp_path / "s.npy", [[0.3], [0.4]])
    return case_of(tmp_path, SEVERAL)


@pytest.mark.parallel([1, 2])
def test_each_observation_has_its_own_data_and_deviations(several):
    data = every(several.prepare(whole()))
    relative = 0.1 * np.sqrt((0.5**2 + 1.0**2) / 2)  # of both experiments together
    np.testing.assert_allclose(data.sigma[0], [0.2, 0.2, relative, 0.3], rtol=1e-9)
    np.testing.assert_allclose(data.sigma[1], [0.2, 0.2, relative, 0.4], rtol=1e-9)
    assert [y[3] for y in data.observed] == [0.5, -1.25]
    clean = ([0.25, 0.8, 0.5], [1.5, 0.4, 1.0])
    for y, exact, sigma in zip(data.observed, clean, data.sigma, strict=True):
        away = np.abs(y[:3] - exact) / sigma[:3]
        assert np.all(away > 0) and np.all(away < 5)


@pytest.mark.parallel([1, 2])
def test_the_objective_compares_each_datum_with_what_is_seen_there(several):
    data = every(several.prepare(whole()))
    objective, m = several.build(several.grid(COMM), whole())
    seen = predicted(several)
    residuals = [
        (u - y) / s for u, y, s in zip(seen, data.observed, data.sigma, strict=True)
    ]
    wanted = 0.5 * sum(float(r @ r) for r in residuals)
    assert objective.linearize(m).misfit == pytest.approx(wanted, rel=1e-10)


def test_samplings_say_what_they_see(several):
    grid = several.grid(COMM)
    sizes = [(s.count, s.size) for s in several.on(grid).samplings()]
    assert sizes == [(1, 2), (1, 1), (1, 1)]
    (marks,) = marks_of(several)
    assert marks.name == "observations"
    assert marks.at.tolist() == [
        [0.25, 0.5],
        [0.8, 0.5],
    ]  # of two observations, each once


# ---- times ---------------------------------------------------------------------------------------

MOVING = """
[grid]
shape = [8]
[time]
times = { end = 1.0, steps = 4 }
[[unknown]]
name = "D"
kind = "scalar"
initial = 1.0
truth = 1.0
[[experiment]]
initial = { u = "x" }
[[observation]]
"""


@pytest.mark.parametrize(
    ("times", "wanted"),
    [
        ("[0.25, 1.0]", (0.25, 1.0)),
        ("{ start = 0.5, end = 1.0, count = 3 }", (0.5, 0.75, 1.0)),
        ('{ file = "t.csv", column = "t" }', (0.1, 0.7)),
    ],
)
def test_times_are_a_list_equally_spaced_or_a_column(times, wanted, tmp_path):
    (tmp_path / "t.csv").write_text("i,t\n0,0.1\n1,0.7\n")
    case = case_of(tmp_path, f"{MOVING}times = {times}\n")
    assert case.observations[0].times == pytest.approx(wanted)
    assert case.observations[0].shape() == (8,)


@pytest.mark.parallel([1, 2])
def test_differences_are_seen_at_every_time(tmp_path):
    text = MOVING + "times = [0.5, 1.0]\npoints = [[0.1], [0.5], [0.9]]\n"
    seen = predicted(case_of(tmp_path, text))[0].reshape(2, 3)
    less = predicted(case_of(tmp_path, text + "differences = [[2, 0], [1, 2]]\n"))[0]
    wanted = seen[:, [2, 1]] - seen[:, [0, 2]]
    np.testing.assert_allclose(less.reshape(2, 2), wanted, atol=1e-13)


# ---- outlines ------------------------------------------------------------------------------------

DISC = """
[grid]
shape = [36, 34]
active = { expression = "((x-0.5)**2 + (y-0.5)**2 < 0.2)*(1.0 - 8.0*(x-0.5)**2*(y > 0.6))" }
keep = "largest"
[equation]
terms = [{ diffusion = "D" }, { ground = [0.5, 0.5], conductance = 3.0 }]
[[unknown]]
name = "D"
initial = 1.0
truth = { expression = "exp(sin(6*x)*y)" }
"""


def rim(text, folder):
    """Points in all corners of the cells on the outline of a case's active cells, and how many of
    them are in inactive cells of the grid that data are simulated on."""
    (folder / "rim.toml").write_text(text + "[[observation]]\nrandom = 1\n")
    domain = load_case(folder / "rim.toml", MPI.COMM_SELF).domain
    mask, (x, y) = (
        domain.active(domain.edges, MPI.COMM_SELF).owned,
        ((e[1:] + e[:-1]) / 2 for e in domain.edges),
    )
    inner = mask.copy()
    for axis in (0, 1):
        inner &= np.roll(mask, 1, axis) & np.roll(mask, -1, axis)
    i, j = np.nonzero(mask & ~inner)
    corners = 0.45 * np.array([(1, 1), (-1, -1), (1, -1), (-1, 1)])
    widths = [np.diff(e)[0] for e in domain.edges]
    points = np.concatenate(
        [np.column_stack([x[i], y[j]]) + c * widths for c in corners]
    )
    data = domain.data_edges()
    mask = domain.active(data, MPI.COMM_SELF)
    return points.tolist(), int((~active([(data, mask)], points)).sum())


@pytest.mark.parallel([1, 2])
def test_places_at_the_outline_are_seen_on_every_grid_of_a_run(tmp_path):
    points, lost = COMM.bcast(rim(DISC, tmp_path) if COMM.rank == 0 else None, root=0)
    assert lost > 10  # on the finer grid that data are simulated on
    wells = ", ".join(f"{{ at = {p}, rate = 1.0 }}" for p in points[:20])
    balls = ", ".join(f"{{ at = {p}, radius = 0.005 }}" for p in points[:20])
    text = f"""{DISC}
[[observation]]
points = {points}
noise = 0.02
[[observation]]
balls = [{balls}]
noise = 0.02
[[experiment]]
wells = [{wells}]
[optimizer]
max_iterations = 3
gradient_rtol = 1e-2
[[regularization]]
"""
    assert np.isfinite(fitted(case_of(tmp_path, text)).result.objective)


FAR = {
    "points = [[0.5, 0.5], [0.01, 0.01]]": r"observation\[0\].points\[1\]",
    "balls = [{ at = [0.01, 0.01], radius = 0.01 }]": r"observation\[0\].balls\[0\].at:",
    "boxes = [{ lower = [0.0, 0.0], upper = [0.05, 0.05] }]": r"observation\[0\].boxes\[0\]",
    "random = 3\n[[experiment]]\nwells = [{ at = [0.01, 0.01], rate = 1.0 }]": (
        r"experiment\[0\].wells\[0\].at:"
    ),
    "random = 3\n[[experiment]]\nwells = [{ at = [1.5, 0.5], rate = 1.0 }]": (
        r"experiment\[0\].wells\[0\].at:.*x from 0 to 1"
    ),
    "electrodes = true\n[electrodes]\ncount = 700": "electrodes.count",
    "electrodes = true\n[electrodes]\ncount = 8\nradius = 2.0": "electrodes.count",
    "electrodes = true\n[electrodes]\nat = [[0.5, 0.9], [0.01, 0.01]]": r"electrodes\[1\]:",
}


@pytest.mark.parametrize("keys", list(FAR))
def test_places_without_active_cells_on_the_own_grid_are_named_before_any_work(
    keys, tmp_path
):
    with pytest.raises(InputError, match=f"^{FAR[keys]}"):
        case_of(tmp_path, f"{DISC}[[observation]]\n{keys}\n").prepare(whole())


# ---- thin grids ----------------------------------------------------------------------------------

SECTION = """
[grid]
shape = [20, 1, 8]
active = { expression = "1.0 - (x > 0.4)*(x < 0.6)*(z > 0.5)" }
[boundaries]
"x-" = "dirichlet"
"x+" = "dirichlet"
[[unknown]]
name = "D"
initial = { expression = "exp(sin(3*x)*cos(4*z))" }
[[experiment]]
boundary = { "x-" = 1.0 }
[[observation]]
points = { file = "section.npz", key = "points" }
data = { file = "section.npz", key = "data" }
sigma = 0.01
[[regularization]]
weight = 1.0
"""
NX, NZ = 20, 8
FACES = ((-1, 0, NX / NZ), (1, 0, NX / NZ), (0, -1, NZ / NX), (0, 1, NZ / NX))
"""Steps to the neighbours of a cell, and area over distance of the faces there."""
SEEN = ((0.41, 0.43), (0.3, 0.9), (0.37, 0.93), (0.62, 0.7), (0.55, 0.49), (0.5, 0.2))
"""Points beside the hole of the section."""


def solved():
    """u [i, k] of the section from a sparse solve of the 2-D problem, and where it is."""
    x, z = (np.arange(NX) + 0.5) / NX, (np.arange(NZ) + 0.5) / NZ
    D = np.exp(np.sin(3 * x)[:, None] * np.cos(4 * z))
    on = ~((x > 0.4) & (x < 0.6))[:, None] | ~(z > 0.5)
    number = np.arange(NX * NZ).reshape(NX, NZ)
    A, b = sp.lil_matrix((NX * NZ, NX * NZ)), np.zeros(NX * NZ)
    for i, k in np.ndindex(NX, NZ):
        c = number[i, k]
        if not on[i, k]:
            A[c, c] = 1
            continue
        for di, dk, factor in FACES:
            j, m = i + di, k + dk
            if 0 <= j < NX and 0 <= m < NZ and on[j, m]:
                g = factor * 2 * D[i, k] * D[j, m] / (D[i, k] + D[j, m])
                A[c, c] += g
                A[c, number[j, m]] -= g
            elif not 0 <= j < NX:
                A[c, c] += 2 * factor * D[i, k]
                b[c] += 2 * factor * D[i, k] * (j < 0)
    return scipy.sparse.linalg.spsolve(A.tocsr(), b).reshape(NX, NZ), on


def section():
    """The points, and u there: bilinear, over active cells only."""
    u, on = solved()
    values = []
    for px, pz in SEEN:
        i = int(np.clip(px * NX - 0.5, 0, NX - 2))
        k = int(np.clip(pz * NZ - 0.5, 0, NZ - 2))
        s, t = px * NX - 0.5 - i, pz * NZ - 0.5 - k
        w = np.outer([1 - s, s], [1 - t, t])
        here = on[i : i + 2, k : k + 2]
        w = np.clip(w, 0, None) * here if not here.all() else w
        values.append((w * u[i : i + 2, k : k + 2]).sum() / w.sum())
    points = np.insert(np.array(SEEN), 1, 0.5, axis=1)
    return points, np.array(values)


@pytest.mark.parallel([1, 2, 3])
def test_exact_data_of_a_section_are_fitted_at_the_start(tmp_path):
    if COMM.rank == 0:
        points, data = section()
        np.savez(tmp_path / "section.npz", points=points, data=data)
    found = fitted(case_of(tmp_path, SECTION), 1)
    assert found.result.objective_initial < 1e-12
