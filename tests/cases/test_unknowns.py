"""Unknowns of a case on its grids: blocks, and what they start from."""

import numpy as np
import pytest
from fits import case_of
from mpi4py import MPI

from npde_opt import nested
from npde_opt.cases import load_case
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError

COMM = MPI.COMM_WORLD
REGIONS = """
[grid]
shape = [34, 40]
[boundaries]
"x-" = "dirichlet"
"x+" = "dirichlet"
[equation]
terms = [{ diffusion = "D" }, { source = 1.0 }]
[[unknown]]
name = "D"
initial = 1.0
truth = { expression = "1.0 + (x > 0.5)" }
regions = { expression = "1.0*(x > 0.5) + 1.0*(x > 32/34)*(x < 33/34)*(y > 0.95)" }
[[experiment]]
boundary = { "x-" = 1.0 }
[[observation]]
random = 50
[simulation]
shape = [34, 40]
"""


@pytest.mark.parallel([1, 2])
def test_a_region_without_a_cell_on_a_coarser_grid_is_kept(tmp_path):
    case, ensemble = case_of(tmp_path, REGIONS), Ensemble.whole(COMM)
    case.prepare(ensemble)
    grid = case.grid(COMM)
    found = nested.identify(grid, lambda g: case.build(g, ensemble), case.settings(), 2)
    space = found.objective.space
    assert space.unknown("D").block.count == 3
    coarse = case.grid(COMM).coarsen(16)
    regions = case.on(coarse).space.blocks["D"]
    assert regions.count == 3 and coarse.shape == (17, 20)
    assert regions.region.max() < 2
    values = space.unknown("D").value(space.values(found.result.m, "D"))
    assert values[:2] == pytest.approx([1, 2], rel=0.3)


def test_regions_are_not_averaged(tmp_path):
    np.save(tmp_path / "r.npy", np.repeat([0, 2], 2)[:, None] * np.ones(3, int))
    numbers = 'regions = { file = "r.npy", resample = true }\n'
    kept = [line for line in REGIONS.splitlines(True) if not line.startswith("regions")]
    text = "".join(kept).replace("[[experiment]]", numbers + "[[experiment]]")
    (tmp_path / "case.toml").write_text(text)
    case = load_case(tmp_path / "case.toml", MPI.COMM_SELF, cells=(5, 3))
    placed = case.on(case.grid(MPI.COMM_SELF)).space.blocks["D"]
    assert placed.region[:, 0].tolist() == [0, 0, 2, 2, 2]


KINDS = """
[grid]
shape = [4, 3]
[boundaries]
"x-" = "dirichlet"
[equation]
terms = [{ diffusion = "D" }, { source = "a*x" }]
[time]
times = { end = 1.0, steps = 4 }
[[unknown]]
name = "D"
initial = { expression = "1 + x" }
truth = 2.0
known = { expression = "x < 0.5" }
[[unknown]]
name = "a"
kind = "scalar"
transform = "identity"
initial = 3.0
truth = -3.0
[[unknown]]
name = "h"
kind = "history"
length = 3
initial = [1.0, 2.0, 4.0]
truth = 1.0
[[experiment]]
sources = [{ shape = "1", history = "h", times = [0.0, 0.5, 1.0] }]
[[observation]]
times = [1.0]
"""


@pytest.mark.parallel([1, 2, 3])
def test_values_of_all_kinds_of_unknowns(tmp_path):
    case = case_of(tmp_path, KINDS)
    on = case.on(case.grid(COMM))
    x = on.grid.centers[0][on.grid.local_slice[0]]
    np.testing.assert_allclose(
        on.value("D"), (1 + x)[:, None] * np.ones(on.grid.local_shape)
    )
    assert np.all(on.value("D", "truth") == 2.0)
    assert float(on.value("a")[0]) == 3.0 and float(on.value("a", "truth")[0]) == -3.0
    assert on.value("h").tolist() == [1.0, 2.0, 4.0]
    assert on.value("h", "truth").tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parallel([1, 2, 3])
def test_the_start_has_the_values_of_all_unknowns(tmp_path):
    case = case_of(tmp_path, KINDS)
    on = case.on(case.grid(COMM))
    space, m = on.space, on.start()
    for name in ("D", "a", "h"):
        found = space.unknown(name).value(space.values(m, name))
        wanted = np.asarray(on.value(name))
        np.testing.assert_allclose(np.ravel(found), np.ravel(wanted), rtol=1e-14)
    true = on.start("truth")
    free = space.free("D")
    x = on.grid.centers[0][on.grid.local_slice[0]]
    assert np.array_equal(free, np.repeat(x[:, None] > 0.5, free.shape[1], axis=1))
    truth = space.unknown("D").value(space.values(true, "D"))
    np.testing.assert_allclose(truth[free], 2.0, rtol=1e-14)
    np.testing.assert_allclose(truth[~free], on.value("D")[~free], rtol=1e-14)
    for vec in (m, true):
        vec.destroy()


WRONG = {
    (
        "initial = [1.0, 2.0, 4.0]",
        "initial = [1.0, 2.0]",
    ): r"unknown.h.initial: got \[1.0, 2.0\]",
    (
        'initial = { expression = "1 + x" }',
        "initial = [1.0, 2.0]",
    ): "unknown.D.initial: got",
    (
        'initial = { expression = "1 + x" }',
        "initial = -1.0",
    ): "unknown.D.initial: got -1",
    ("truth = 2.0\n", ""): "unknown.D.truth: got nothing; allowed: a value, where data",
}


@pytest.mark.parametrize("change", list(WRONG), ids=lambda c: c[1])
def test_values_that_cannot_be_are_named(change, tmp_path):
    assert change[0] in KINDS
    case = case_of(tmp_path, KINDS.replace(*change, 1))
    on = case.on(case.grid(COMM))
    with pytest.raises(InputError, match=WRONG[change]):
        on.start().destroy()
        on.start("truth")
