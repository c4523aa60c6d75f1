"""Points of an observation of which each rank has a run, and groups of ranks have them too."""

import numpy as np
import pytest
from fits import case_of
from mpi4py import MPI

from npde_opt.cases.own_points import OwnPoints, own_run
from npde_opt.errors import InputError

COMM = MPI.COMM_WORLD
AT = np.arange(22.0).reshape(11, 2)
GONE = np.arange(11) % 4 == 1


@pytest.mark.parallel([1, 2, 3])
def test_points_are_cut_over_all_ranks_and_over_groups():
    own = own_run(11, COMM)
    points = OwnPoints(COMM, 11, AT[own], GONE[own])
    for most in (0, 5, 11, 20):
        at, dropped = points.first(most)
        np.testing.assert_array_equal(at, AT[:most])
        np.testing.assert_array_equal(dropped, GONE[:most])
    alone = points.over(MPI.COMM_SELF)
    np.testing.assert_array_equal(alone.at, AT)
    np.testing.assert_array_equal(alone.dropped, GONE)
    np.testing.assert_array_equal(points.over(COMM).numbers, np.arange(11)[own])


CASE = """
[grid]
shape = [8, 6]
active = { expression = "x < 0.7" }
OUTSIDE
[[unknown]]
name = "D"
initial = 1.0
[[observation]]
points = { file = "p.npy" }
"""


def seen(tmp_path, points, outside):
    if COMM.rank == 0:
        np.save(tmp_path / "p.npy", points)
    case = case_of(tmp_path, CASE.replace("OUTSIDE", outside))
    return case, case.observations[0]


@pytest.mark.parallel([1, 2, 3])
def test_points_of_a_file_are_refused_dropped_or_moved_by_their_rank(tmp_path):
    points = np.random.default_rng(0).random((20, 2)) * [0.6, 1.0]
    points[17] = [0.95, 0.5]
    case, given = seen(tmp_path, points, "")
    refused = r"observation\[0\].points\[17\]: got \(0.95, 0.5\)"
    with pytest.raises(InputError, match=refused):
        given.functionals(case.grid(COMM))
    case, dropped = seen(tmp_path, points, 'outside = "drop"')
    assert dropped.functionals(case.grid(COMM)).every_unseen().tolist() == [17]
    assert np.flatnonzero(dropped.dropped).tolist() == [17]
    case, moved = seen(tmp_path, points, 'outside = "snap"')
    assert moved.functionals(case.grid(COMM)).every_unseen().size == 0
    np.testing.assert_allclose(moved.points[17], [0.75, 0.5])
    (said,) = case.domain.notes.values()
    assert said.endswith("1 of 20 in no active cell, put to the nearest one, by 0.2")
