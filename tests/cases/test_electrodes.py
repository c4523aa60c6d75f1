"""Electrodes: each pair that carries a current is an experiment; what the pair sees is no datum."""

import numpy as np
import pytest
from fits import case_of, every
from mpi4py import MPI

from npde_opt.cases.outline import cells_of, outline, ring_levels
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError
from npde_opt.grids.cuts import even
from npde_opt.grids.scattered import Mask
from npde_opt.runs.marked import marks_of

COMM = MPI.COMM_WORLD
CASE = """
[grid]
shape = [8, 6]
[equation]
terms = [{ diffusion = "D" }, { ground = [0.5, 0.5], conductance = 2.0 }]
[[unknown]]
name = "D"
initial = 1.0
truth = 2.0
[electrodes]
at = [[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9], [0.5, 0.1]]
radius = 0.2
current = 3.0
"""


def with_pattern(pattern, more=""):
    return f"{CASE}pattern = {pattern}\n[[observation]]\nelectrodes = true\n{more}"


def currents(case):
    """By experiment, the integral of the source over the cells nearest to each electrode (whole
    grid, on every rank)."""
    grid = case.grid(COMM)
    on, centres = case.on(grid), case.electrodes.centres
    own = [c[s] for c, s in zip(grid.centers, grid.local_slice, strict=True)]
    x, y = np.meshgrid(*own, indexing="ij")
    away = [(x - a) ** 2 + (y - b) ** 2 for a, b in centres]
    nearest = np.argmin(away, axis=0) if x.size else np.zeros(x.shape, int)
    found = []
    for experiment in on.experiments(range(case.experiment_count)):
        load = experiment.load["u"]
        sums = np.array([load[nearest == k].sum() for k in range(len(centres))])
        found.append(COMM.allreduce(sums))
    return found


# ---- pairs ---------------------------------------------------------------------------------------

PATTERNS = {
    "'opposite'": [(0, 2), (1, 3), (2, 4), (3, 0), (4, 1)],
    "'adjacent'": [(0, 1), (1, 2), (2, 3), (3, 4), (4, 0)],
    "[[0, 3], [4, 1], [3, 0]]": [(0, 3), (4, 1), (3, 0)],
}


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("pattern", list(PATTERNS))
def test_each_pair_is_an_experiment_with_its_current(pattern, tmp_path):
    case, pairs = case_of(tmp_path, with_pattern(pattern)), PATTERNS[pattern]
    assert case.electrodes.pairs == pairs and case.experiment_count == len(pairs)
    for (source, sink), flows in zip(pairs, currents(case), strict=True):
        wanted = np.zeros(5)
        wanted[source], wanted[sink] = 3.0, -3.0
        np.testing.assert_allclose(flows, wanted, atol=1e-12)


@pytest.mark.parametrize("pair", ["[1, 1]", "[0, 5]"])
def test_a_pair_is_of_two_electrodes_that_are_there(pair, tmp_path):
    message = r"electrodes.pattern\[1\]: got .*; allowed: two different electrodes from 0 to 4"
    with pytest.raises(InputError, match=message):
        case_of(tmp_path, with_pattern(f"[[0, 1], {pair}]"))


def test_experiments_of_electrodes_may_have_values_on_sides(tmp_path):
    text = with_pattern("[[0, 1], [1, 2]]").replace(
        "[electrodes]", "[[experiment]]\n[electrodes]"
    )
    assert case_of(tmp_path, text).experiment_count == 2
    more = text.replace("[[experiment]]", "[[experiment]]\n" * 3)
    with pytest.raises(
        InputError, match="experiment: got 3 tables; allowed: at most 2"
    ):
        case_of(tmp_path, more)


# ---- rings ---------------------------------------------------------------------------------------

RING = """
[grid]
shape = {shape}
[boundaries]
"x-" = "dirichlet"
[[unknown]]
name = "D"
initial = 1.0
truth = 2.0
[electrodes]
{keys}
[[observation]]
electrodes = true
"""


def test_a_ring_is_on_the_outline_at_even_angles(tmp_path):
    points = case_of(
        tmp_path, RING.format(shape=[8, 6], keys="count = 8")
    ).electrodes.centres
    assert points.shape == (8, 2)
    away = points - 0.5
    turned = (away[:, 0] + 1j * away[:, 1]) * np.exp(-1j * np.pi / 4 * np.arange(8))
    np.testing.assert_allclose(np.angle(turned), 0, atol=np.pi / 8)
    assert np.all(np.maximum(*np.abs(away.T)) >= 0.4)


def test_rings_lie_in_planes_of_their_own(tmp_path):
    keys = "count = 4\nrings = 3"
    centres = case_of(
        tmp_path, RING.format(shape=[8, 6, 8], keys=keys)
    ).electrodes.centres
    assert len(centres) == 12 and len(set(centres[:, 2].tolist())) == 3
    with pytest.raises(
        InputError, match="electrodes.rings: got 3; allowed: .* the 2 planes"
    ):
        case_of(tmp_path, RING.format(shape=[8, 6, 2], keys=keys))


# ---- data ----------------------------------------------------------------------------------------


def test_measured_electrodes_that_carry_current_are_left_out(tmp_path):
    three = CASE.replace("[0.9, 0.9], [0.1, 0.9], [0.5, 0.1]]", "[0.5, 0.9]]")
    text = with_pattern("'adjacent'", "sigma = 0.1\ndata = { file = 'y.npy' }\n")
    np.save(tmp_path / "y.npy", np.arange(1.0, 10).reshape(3, 3))
    case = case_of(tmp_path, text.replace(CASE, three))
    nan = np.nan
    wanted = [[nan, nan, 3], [4, nan, nan], [nan, 8, nan]]
    found = every(case.prepare(Ensemble.whole(COMM)))
    np.testing.assert_array_equal(found.observed, wanted)


@pytest.mark.parallel([1, 2])
def test_differences_from_an_electrode_that_carries_current_are_left_out(tmp_path):
    pairs = "differences = [[0, 1], [2, 3], [3, 4], [4, 0]]\nsigma = 1e-9\n"
    text = with_pattern("[[0, 1], [3, 2], [4, 1]]", pairs)
    data = every(case_of(tmp_path, text).prepare(Ensemble.whole(COMM)))
    gaps = [np.flatnonzero(np.isnan(y)).tolist() for y in data.observed]
    assert gaps == [[0, 3], [1, 2], [0, 2, 3]]
    plain = case_of(
        tmp_path, with_pattern("[[0, 1], [3, 2], [4, 1]]", "sigma = 1e-9\n")
    )
    seen = every(plain.prepare(Ensemble.whole(COMM))).observed
    np.testing.assert_allclose(data.observed[0][1], seen[0][2] - seen[0][3], atol=2e-8)
    np.testing.assert_allclose(data.observed[2][1], seen[2][2] - seen[2][3], atol=2e-8)


def test_electrodes_are_marked_in_figures(tmp_path):
    more = "[[observation]]\npoints = [[0.5, 0.5]]\n"
    case = case_of(tmp_path, with_pattern("'adjacent'", more))
    marks = {m.name: m.at.tolist() for m in marks_of(case)}
    assert sorted(marks["electrodes"]) == sorted(case.electrodes.centres.tolist())
    assert marks["observations"] == [[0.5, 0.5]]


@pytest.mark.parallel([1, 2])
def test_differences_of_electrodes_in_one_cell_are_told(tmp_path):
    text = with_pattern("[[0, 3]]", "differences = [[1, 2], [2, 4]]\n")
    text = text.replace("[0.9, 0.9]", "[0.92, 0.12]").replace("radius = 0.2\n", "")
    case = case_of(tmp_path, text)
    case.prepare(Ensemble.whole(COMM))
    assert case.domain.notes["observation[0].differences"] == (
        "observation[0].differences: 1 of 2 see the same cells twice on this grid and do not "
        "count: [1, 2]"
    )


# ---- rings ---------------------------------------------------------------------------------------


@pytest.mark.parallel([1, 2, 3])
def test_rings_are_the_same_where_each_rank_has_a_part_of_the_mask():
    shape = (21, 17, 9)
    edges = [np.linspace(0, 1, n + 1) ** 1.1 for n in shape]
    x = np.meshgrid(*[(np.arange(n) + 0.5) / n for n in shape], indexing="ij")
    whole = (x[0] - 0.5) ** 2 + (x[1] - 0.5) ** 2 + 0.3 * (x[2] - 0.6) ** 2 < 0.12
    layout = even(shape, COMM)
    mask = Mask(COMM, layout, np.asfortranarray(whole[layout.box])).counted()
    alone = Mask.alone(whole)
    levels = ring_levels(mask, 3)
    assert levels == ring_levels(alone, 3)
    for level in levels:
        found = outline(cells_of(mask, level), edges, 7, 0.01, COMM)
        assert (found == outline(cells_of(alone, level), edges, 7, 0.01)).all()
