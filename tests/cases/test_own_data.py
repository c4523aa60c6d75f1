"""Groups of ranks read and keep the data of their own experiments, and find in them what one group
finds."""

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.cases import data, load_case
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError

COMM = MPI.COMM_WORLD
CASE = """
[grid]
shape = [16]
[boundaries]
"x-" = "dirichlet"
"x+" = "dirichlet"
[[unknown]]
name = "D"
initial = 1.0
truth = 2.0
[[experiment]]
boundary = { "x-" = 1.0 }
[[experiment]]
boundary = { "x-" = 2.0 }
[[experiment]]
boundary = { "x-" = 3.0 }
[[observation]]
points = [[0.3], [0.6]]
"""
FILES = "data = [{ file = 'a.npy' }, { file = 'b.npy' }, { file = 'c.npy' }]\n"
ONE_FILE = "data = { file = 'whole.npy' }\n"
TEXT = "data = { file = 'whole.csv', column = [0, 1, 2] }\n"
NOISY = "noise = 0.02\n"
PROPORTIONAL = "[misfit]\nkind = 'proportional'\n"
SECOND = "[[observation]]\npoints = [[0.5]]\nsigma = 0.1\n"
# Far below the floor in all experiments but the last.
Y = np.array([[1e-9, 2e-9], [0.3, np.nan], [5.0, 7.0]])


def case_of(folder, more):
    """The case beside its data, which rank 0 writes."""
    if COMM.rank == 0:
        (folder / "case.toml").write_text(CASE + more)
        for name, own in zip("abc", Y, strict=True):
            np.save(folder / f"{name}.npy", own)
        np.save(folder / "whole.npy", Y)
        np.savetxt(folder / "whole.csv", Y.T, delimiter=",")
    COMM.Barrier()
    return load_case(folder / "case.toml", COMM)


def value(case, ensemble):
    """J at the start."""
    grid = case.grid(ensemble.space)
    objective, m = case.build(grid, ensemble)
    at = objective.linearize(m)
    found = at.value
    for owned in (at, objective, m, grid):
        owned.destroy()
    return found


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize(
    "more",
    [
        FILES + NOISY + PROPORTIONAL,
        ONE_FILE + NOISY + "add_noise = true\n" + SECOND,
        TEXT + "sigma = 0.1\n",
        NOISY + SECOND + PROPORTIONAL,
    ],
    ids=["files", "one file", "text", "simulated"],
)
def test_they_are_those_of_one_group(tmp_path, more):
    case = case_of(COMM.bcast(tmp_path), more)
    one, several = Ensemble.whole(COMM), Ensemble.split(COMM, COMM.size, 3)
    whole = case.prepare(one)
    wanted = value(case, one)
    found = case.prepare(several)
    assert list(found.numbers) == list(several.own(3))
    assert len(found.observed) == len(found.sigma) == len(found.numbers)
    # All that is kept: own experiments, each with all places.
    assert sum(v.nbytes for v in found.observed) == (
        8 * found.share.total * len(found.numbers)
    )
    assert value(case, several) == pytest.approx(wanted, rel=1e-9)
    # In a report all ranks share them, as those of one group do.
    every = found.of_all(COMM, 3)
    assert len(every.observed) == 3
    np.testing.assert_array_equal(every.share.order, whole.share.order)
    for key in ("observed", "sigma", "noise"):
        pairs = zip(getattr(every, key), getattr(whole, key), strict=True)
        for a, b in pairs:
            np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parallel([2, 3])
def test_files_of_other_experiments_are_not_read(tmp_path, monkeypatch):
    case, read = case_of(COMM.bcast(tmp_path), FILES + NOISY), []
    view = data.Maps.view
    monkeypatch.setattr(
        data.Maps,
        "view",
        lambda self, key, s: read.append(s.file) or view(self, key, s),
    )
    several = Ensemble.split(COMM, COMM.size, 3)
    case.prepare(several)
    assert read == ["abc"[e] + ".npy" for e in several.own(3)]


@pytest.mark.parallel([2])
def test_what_is_wrong_in_one_group_is_raised_by_all(tmp_path):
    folder = COMM.bcast(tmp_path)
    case = case_of(folder, FILES + NOISY)
    COMM.Barrier()
    if COMM.rank == 0:
        np.save(folder / "b.npy", np.zeros(3))
    COMM.Barrier()
    with pytest.raises(InputError, match=r"data\[1\]: got an array of shape"):
        case.prepare(Ensemble.split(COMM, 2, 3))


@pytest.mark.parallel([2])
def test_no_datum_in_any_group_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "Y", np.full((3, 2), np.nan))
    case = case_of(COMM.bcast(tmp_path), FILES + "sigma = 0.1\n")
    with pytest.raises(InputError, match=r"NaN only \(6 values\)"):
        case.prepare(Ensemble.split(COMM, 2, 3))
