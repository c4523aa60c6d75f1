"""Shares of the data of an experiment: cut evenly, handed out, and had in order."""

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.observations import shares
from npde_opt.observations.shares import Share

COMM = MPI.COMM_WORLD
SIZES = ((3, 7), (1, 1), (2, 0), (1, 5))


@pytest.mark.parallel([1, 2, 3])
def test_shares_are_a_cut_of_all_data_by_places():
    share = Share(COMM, SIZES)
    assert share.total == 27
    every = np.concatenate(COMM.allgather(share.order))
    np.testing.assert_array_equal(np.sort(every), np.arange(27))
    assert (np.diff(share.order) > 0).all()
    places = [p.stop - p.start for p in share.places]
    most = np.max(COMM.allgather(places), axis=0)
    np.testing.assert_array_equal(most, [-(-n // COMM.size) for _, n in SIZES])


@pytest.mark.parallel([1, 2, 3])
def test_what_rank_0_has_is_handed_out():
    share = Share(COMM, SIZES)
    whole = np.arange(27.0)
    parts = np.split(whole, [21, 22, 22])
    found = [
        share.scattered(i, part.reshape(size) if COMM.rank == 0 else None).ravel()
        for i, (part, size) in enumerate(zip(parts, SIZES, strict=True))
    ]
    own = np.concatenate(found)
    np.testing.assert_array_equal(own, whole[share.order])
    assert [v.shape for v in share.split(own)] == share.shapes
    own[own == 20.0] = np.nan
    np.testing.assert_allclose(share.sums(own, own**2)[:, 1], 26)
    assert share.sums(own)[0, 0] == pytest.approx(whole.sum() - 20)
    assert share.largest([-own]) == 26


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("slab", [4, 60, 1000])
def test_runs_give_all_data_in_order_whatever_their_length(slab, monkeypatch):
    monkeypatch.setattr(shares, "SLAB", slab)
    share = Share(COMM, SIZES)
    whole = np.arange(5 * 27 * 2.0).reshape(5, 27, 2)
    own = whole[:, share.order]
    runs = list(share.in_order(5, lambda e, data: own[e, data]))
    if COMM.rank:
        assert all(run is None for run in runs)
        return
    assert max(len(run) for run in runs) <= slab
    np.testing.assert_array_equal(np.concatenate(runs), whole.reshape(-1, 2))


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_every_part_of_the_ranks_gets_all_data(groups):
    part = COMM.Split(COMM.rank % groups)
    share, there = Share(COMM, SIZES), Share(part, SIZES)
    whole = np.arange(2 * 27.0).reshape(2, 27)
    own = [values[share.order] for values in whole]
    found = share.moved(own, there)
    np.testing.assert_array_equal(found, whole[:, there.order])
    assert share.moved([], there) == []
    part.Free()


@pytest.mark.parallel([1, 2, 3, 4])
@pytest.mark.parametrize("groups", [1, 2, 3, 4])
def test_what_groups_know_of_their_experiments_all_ranks_share(groups):
    if COMM.size % groups:
        groups = 1
    own_comm = COMM.Split(COMM.rank * groups // COMM.size, COMM.rank)
    group = COMM.rank * groups // COMM.size
    share, count = Share(own_comm, SIZES), 5
    whole = np.arange(count * 27.0).reshape(count, 27)
    own = {e: whole[e, share.order] for e in range(group, count, groups)}
    found = share.of_all(own, COMM, count)
    np.testing.assert_array_equal(found, whole[:, share.over(COMM).order])
    own_comm.Free()
