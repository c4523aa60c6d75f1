"""Places of whole cases: seen on every grid of a run, on thin grids, and refused with a name."""

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg
from mpi4py import MPI

from npde_opt import nested
from npde_opt.cases import load_case
from npde_opt.cases.random_points import active
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError

COMM = MPI.COMM_WORLD
DISC = """
[grid]
shape = [36, 34]
active = { expression = "(((x-0.5)**2 + (y-0.5)**2 < 0.2))*(1.0 - (x-0.5)*(x-0.5)*8.0*(y > 0.6))" }
keep = "largest"
[equation]
ground = { at = [0.5, 0.5], radius = 0.0, conductance = 3.0 }
[[unknown]]
name = "D"
initial = 1.0
truth = { expression = "exp(sin(6*x)*y)" }
[observations]
noise = 0.02
"""


def run(text, folder, levels=None):
    """The case and its identification."""
    folder = COMM.bcast(folder, root=0)
    file = folder / "case.toml"
    if COMM.rank == 0:
        file.write_text(text)
    COMM.barrier()
    case, ensemble = load_case(file, COMM), Ensemble.whole(COMM)
    case.prepare(ensemble)
    return case, nested.identify(case.grid(COMM), lambda g: case.build(g, ensemble), case.settings(), levels)


def rim(text, folder):
    """Centres of the cells on the outline of a case's active cells."""
    (folder / "rim.toml").write_text(text + "random = 1\n")
    case = load_case(folder / "rim.toml", MPI.COMM_SELF)
    mask, edges = case.domain.mask(case.domain.edges), case.domain.edges
    x, y = ((e[1:] + e[:-1]) / 2 for e in edges)
    inner = np.roll(mask, 1, 0) & np.roll(mask, -1, 0) & np.roll(mask, 1, 1) & np.roll(mask, -1, 1)
    i, j = np.nonzero(mask & ~inner)
    return np.column_stack([x[i], y[j]]), case


@pytest.mark.parallel([1, 2])
def test_places_at_the_outline_are_seen_on_every_grid_of_a_run(tmp_path):
    folder = COMM.bcast(tmp_path, root=0)
    found = rim(DISC, folder) if COMM.rank == 0 else None
    points, lost = None, 0
    if found is not None:
        points, case = found
        data = case.domain.data_edges()
        h = [np.diff(e)[0] for e in case.domain.edges]
        points = np.concatenate([points + 0.45 * np.array(s) * h for s in ((1, 1), (-1, -1), (1, -1), (-1, 1))])
        lost = int((~active([(data, case.domain.mask(data))], points)).sum())
        points = points.tolist()
    points, lost = COMM.bcast((points, lost), root=0)
    assert lost > 10  # on the finer grid that data are simulated on
    wells = ", ".join(f"{{ at = {p}, rate = 1.0 }}" for p in points[:20])
    balls = ", ".join(f"{{ at = {p}, radius = 0.005 }}" for p in points[:20])
    text = DISC + f"points = {points}\nballs = [{balls}]\n" + \
        f"[experiments]\nwells = [[{wells}]]\n[optimizer]\nmax_iterations = 3\ngradient_rtol = 1e-2\n" + \
        "[[regularization]]\nweight = 1.0\n"
    _, identification = run(text, tmp_path)
    assert np.isfinite(identification.result.objective)


@pytest.mark.parallel([1, 2])
def test_random_points_are_active_on_the_grid_of_the_data_too(tmp_path):
    text = DISC + "random = 3000\n[optimizer]\nmax_iterations = 2\n[experiments]\nsource = 1.0\n"
    case, _ = run(text, tmp_path)
    grids = (case.domain.edges, case.domain.data_edges())
    masks = [(edges, case.domain.mask(edges)) for edges in grids]
    assert len(case.places.points) == 3000 and active(masks, case.places.points).all()
    assert not all(active([m], np.random.default_rng(0).random((500, 2))).all() for m in masks)


@pytest.mark.parametrize("more, name", [
    ("points = [[0.5, 0.5], [0.01, 0.01]]", r"observations.points\[1\]"),
    ("balls = [{ at = [0.01, 0.01], radius = 0.01 }]", r"observations.balls\[0\].at:"),
    ("boxes = [{ lower = [0.0, 0.0], upper = [0.05, 0.05] }]", r"observations.boxes\[0\]"),
    ("random = 3\n[experiments]\nwells = [[{ at = [0.01, 0.01], rate = 1.0 }]]", r"experiments.wells\[0\]\[0\].at:"),
    ("random = 3\n[experiments]\nwells = [[{ at = [1.5, 0.5], rate = 1.0 }]]", r"wells\[0\]\[0\].at:.*x from 0 to 1"),
    ("at_electrodes = true\n[experiments]\nelectrodes = { count = 700 }", "experiments.electrodes.count"),
    ("at_electrodes = true\n[experiments]\nelectrodes = { count = 8, radius = 2.0 }", "experiments.electrodes.count"),
    ("at_electrodes = true\n[experiments]\nelectrodes = { at = [[0.5, 0.9], [0.01, 0.01]] }", r"electrodes\[1\]:")])
def test_places_without_active_cells_on_the_cases_own_grid_are_named_before_any_work(more, name, tmp_path):
    (tmp_path / "case.toml").write_text(DISC + more + "\n")
    case = load_case(tmp_path / "case.toml", MPI.COMM_SELF)
    with pytest.raises(InputError, match=name):
        case.prepare(Ensemble.whole(MPI.COMM_SELF))


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
[experiments]
boundary = [{ "x-" = 1.0 }]
[observations]
points = { file = "section.npz", key = "points" }
data = { file = "section.npz", key = "data" }
sigma = 0.01
[[regularization]]
weight = 1.0
[petsc]
state_ksp_rtol = 1e-12
"""


def section():
    """Points beside the hole of the section, and u there from a sparse solve of the 2-D problem."""
    nx, nz = 20, 8
    x, z = (np.arange(nx) + 0.5) / nx, (np.arange(nz) + 0.5) / nz
    D = np.exp(np.sin(3 * x)[:, None] * np.cos(4 * z))
    on = ~((x > 0.4) & (x < 0.6))[:, None] | ~(z > 0.5)
    number = np.arange(nx * nz).reshape(nx, nz)
    A, b = sp.lil_matrix((nx * nz, nx * nz)), np.zeros(nx * nz)
    for i, k in np.ndindex(nx, nz):
        c = number[i, k]
        if not on[i, k]:
            A[c, c] = 1
            continue
        for di, dk, factor in ((-1, 0, nx / nz), (1, 0, nx / nz), (0, -1, nz / nx), (0, 1, nz / nx)):
            j, m = i + di, k + dk
            if 0 <= j < nx and 0 <= m < nz and on[j, m]:
                g = factor * 2 * D[i, k] * D[j, m] / (D[i, k] + D[j, m])
                A[c, c] += g
                A[c, number[j, m]] -= g
            elif not 0 <= j < nx:
                A[c, c] += 2 * factor * D[i, k]
                b[c] += 2 * factor * D[i, k] * (j < 0)
    u = scipy.sparse.linalg.spsolve(A.tocsr(), b).reshape(nx, nz)
    points = np.array([(0.41, 0.43), (0.3, 0.9), (0.37, 0.93), (0.62, 0.7), (0.55, 0.49), (0.5, 0.2)])
    values = []
    for px, pz in points:
        i, k = int(np.clip(px * nx - 0.5, 0, nx - 2)), int(np.clip(pz * nz - 0.5, 0, nz - 2))
        s, t = px * nx - 0.5 - i, pz * nz - 0.5 - k
        w = np.outer([1 - s, s], [1 - t, t])
        here = on[i: i + 2, k: k + 2]
        w = np.clip(w, 0, None) * here if not here.all() else w
        values.append((w * u[i: i + 2, k: k + 2]).sum() / w.sum())
    return np.column_stack([points[:, 0], np.full(len(points), 0.5), points[:, 1]]), np.array(values)


@pytest.mark.parallel([1, 2, 3])
def test_exact_data_of_a_section_are_fitted_at_the_start(tmp_path):
    folder = COMM.bcast(tmp_path, root=0)
    if COMM.rank == 0:
        points, data = section()
        np.savez(folder / "section.npz", points=points, data=data)
    COMM.barrier()
    _, found = run(SECTION, tmp_path, 1)
    assert found.result.objective_initial < 1e-12


REGIONS = """
[grid]
shape = [34, 40]
[boundaries]
"x-" = "dirichlet"
"x+" = "dirichlet"
[[unknown]]
name = "D"
initial = 1.0
truth = { expression = "1.0 + (x > 0.5)" }
regions = { expression = "1.0*(x > 0.5) + 1.0*(x > 32/34)*(x < 33/34)*(y > 0.95)" }
[experiments]
boundary = [{ "x-" = 1.0 }]
source = 1.0
[observations]
random = 50
shape = [34, 40]
"""


@pytest.mark.parallel([1, 2])
def test_a_region_without_a_cell_on_a_coarser_grid_is_kept(tmp_path):
    case, found = run(REGIONS, tmp_path, 2)
    space = found.objective.space
    assert space.unknown("D").count == 3
    coarse = case.grid(COMM).coarsen(16)
    assert case.space(coarse).unknown("D").count == 3 and coarse.shape == (17, 20)
    assert case.space(coarse).unknown("D").block.numbers.max() < 2
    values = space.at(found.result.m).k["D"]
    assert values[:2] == pytest.approx([1, 2], rel=0.3)
