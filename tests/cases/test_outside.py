"""Places in no active cell: refused by default, put to the nearest active cell, or dropped."""

import numpy as np
import pytest
from fits import every
from mpi4py import MPI

from npde_opt.cases import load_case
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError
from npde_opt.runs.marked import marks_of

# Active where x < 0.5; cells of 0.125.
CASE = """
[grid]
shape = [8, 4]
active = {{ expression = "x < 0.5" }}
outside = {outside}
[boundaries]
"y-" = "dirichlet"
[equation]
terms = [{{ diffusion = "D" }}, {{ source = 1.0 }}]
[[unknown]]
name = "D"
initial = 1.0
truth = 2.0
[[experiment]]
wells = [{{ at = [0.25, 0.6], rate = 1.0 }}, {{ at = [0.6, 0.6], rate = 2.0 }}]
[[observation]]
points = [[0.2, 0.4], [0.9, 0.4], [0.6, 0.9]]
sigma = 0.01
[simulation]
refine = 1
"""
WELLS = '{ points = "refuse", wells = "snap" }'


@pytest.fixture
def case(tmp_path):
    def load(outside, **changes):
        text = CASE.format(outside=outside)
        for old, new in changes.values():
            assert old in text
            text = text.replace(old, new)
        file = MPI.COMM_WORLD.bcast(tmp_path, root=0) / "case.toml"
        if MPI.COMM_WORLD.rank == 0:
            file.write_text(text)
        MPI.COMM_WORLD.Barrier()
        return load_case(file)

    return load


def prepared(found):
    ensemble = Ensemble.split(MPI.COMM_WORLD, 1, 1)
    return found.prepare(ensemble), ensemble


@pytest.mark.parallel([1, 2])
def test_snapped_points_are_seen_in_the_nearest_cell(case):
    snapped = case('"snap"')
    there = case(
        '"refuse"',
        points=("[0.9, 0.4], [0.6, 0.9]", "[0.5, 0.4], [0.5, 0.9]"),
        wells=("at = [0.6, 0.6]", "at = [0.5, 0.6]"),
    )
    values = [prepared(c)[0].observed[0] for c in (snapped, there)]
    np.testing.assert_allclose(*values, rtol=1e-12)
    lines = snapped.domain.notes
    assert lines["observation[0].points"] == (
        "observation[0].points: 2 of 3 in no active cell, put to the nearest one, by 0.1 to 0.4"
    )
    assert lines["wells"].endswith(
        "1 of 2 in no active cell, put to the nearest one, by 0.1"
    )


@pytest.mark.parallel([1, 2])
def test_dropped_points_are_missing_on_all_grids_and_dropped_wells_bring_nothing(case):
    dropped = case('"drop"', grid=("refine = 1", "refine = 2"))
    data, ensemble = prepared(dropped)
    assert np.isnan(every(data).observed[0]).tolist() == [False, True, True]
    objective, m = dropped.build(dropped.grid(MPI.COMM_WORLD), ensemble)
    assert objective.data_count == 1
    assert np.isfinite(objective.linearize(m).value)
    on = dropped.on(dropped.grid(MPI.COMM_WORLD))
    load = on.experiments([0])[0].load["u"]
    assert on.grid.comm.allreduce(load.sum()) == pytest.approx(1.0)
    assert (
        "3 in no active cell, dropped" in dropped.domain.notes["observation[0].points"]
    )
    marks = {m.name: m.at.tolist() for m in marks_of(dropped)}
    assert marks == {"wells": [[0.25, 0.6]], "observations": [[0.2, 0.4]]}


def test_by_default_they_are_refused(case):
    with pytest.raises(
        InputError, match=r"experiment\[0\]\.wells\[1\]\.at.*in an active cell"
    ):
        prepared(case('"refuse"'))
    with pytest.raises(
        InputError, match=r"observation\[0\]\.points\[1\].*in an active cell"
    ):
        prepared(case('{ wells = "snap" }'))


def test_a_point_beyond_the_box_is_not_put_into_it(case):
    found = case('"snap"', points=("[0.9, 0.4]", "[1.9, 0.4]"))
    with pytest.raises(
        InputError, match=r"observation\[0\]\.points\[1\].*x from 0 to 1"
    ):
        prepared(found)
    data, _ = prepared(case('"drop"', points=("[0.9, 0.4]", "[1.9, 0.4]")))
    assert np.isnan(data.observed[0]).sum() == 2


ELECTRODES = (
    "[[observation]]",
    "[electrodes]\nat = [[0.1, 0.5], [0.4, 0.5], [0.8, 0.5]]\npattern = [[0, PAIR]]\n"
    "[[observation]]\nelectrodes = true\nsigma = 1.0\n[[observation]]",
)


def electrodes(pair):
    return ELECTRODES[0], ELECTRODES[1].replace("PAIR", str(pair))


def test_electrodes(case):
    with pytest.raises(InputError, match=r"grid\.outside: got 'drop' with electrode 2"):
        case('"drop"', electrodes=electrodes(2)).prepare(
            Ensemble.split(MPI.COMM_WORLD, 1, 1)
        )
    seen, _ = prepared(case('"drop"', electrodes=electrodes(1)))
    assert np.isnan(seen.observed[0]).tolist() == [True, True, True, False, True, True]
    snapped = case('"snap"', electrodes=electrodes(2))
    prepared(snapped)
    np.testing.assert_allclose(snapped.electrodes.centres[2], [0.5, 0.5])


@pytest.mark.parametrize("given", ['"move"', '{ point = "drop" }', "true"])
def test_choices(case, given):
    with pytest.raises(InputError, match=r"grid\.outside"):
        case(given)
