"""One W on 1 to 8 ranks, whichever rank has which rows, and in whatever order and blocks."""

import numpy as np
import pytest
from least_squares import folded, with_condition
from mpi4py import MPI

from npde_opt.errors import InputError, NpdeError, collective
from npde_opt.pseudoinverse import METHODS, Fold


@pytest.mark.parallel(8)
@pytest.mark.parametrize("method", METHODS.values())
def test_all_numbers_of_ranks_up_to_eight_give_one_answer(method):
    world, rng = MPI.COMM_WORLD, np.random.default_rng(0)
    H = with_condition(rng, 120, 10, 1e3, 7 if method is Fold else None)
    T = rng.standard_normal((120, 2))
    orders = rng.permuted(np.tile(np.arange(120), (8, 1)), axis=1)
    found = []
    for size, order in enumerate(orders, 1):
        comm = world.Split(0 if world.rank < size else MPI.UNDEFINED)
        if comm == MPI.COMM_NULL:
            continue
        for empty in ((), (0,), (size - 1, size // 2)):
            if len(set(empty)) < size:
                fit = folded(H[order], T[order], comm, empty, method, block=1 + size)
                found.append(fit.solve())
        comm.Free()
    # Only now, so that no rank waits for one that has seen a wrong answer.
    alone = folded(H, T, method=method).solve()
    assert len(found) >= 3
    for solved in found:
        assert solved.rank == alone.rank
        np.testing.assert_allclose(solved.W, alone.W, atol=1e-9)
        np.testing.assert_allclose(solved.residual, alone.residual, atol=1e-12)


@pytest.mark.parallel(8)
def test_the_tree_has_three_levels():
    """7 messages, of which rank 0 gets those of ranks 1, 2 and 4."""
    comm, sent = MPI.COMM_WORLD, []

    class Counting(MPI.Intracomm):
        def Send(self, numbers, dest):  # noqa: N802
            sent.append(dest)
            return super().Send(numbers, dest=dest)

    fit = folded(np.eye(8), np.ones((8, 1)), Counting(comm))
    fit.solve()
    assert comm.allgather(sent) == [[], [0], [0], [2], [0], [4], [4], [6]]


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize("method", METHODS.values())
def test_what_one_rank_cannot_take_all_are_told(method):
    """A solve that a rank refuses ends all of them, with the same words."""
    comm = MPI.COMM_WORLD
    fit = folded(np.eye(4), np.ones((4, 1)), comm, method=method)
    for settings, told in (
        ({"ridge": -1.0}, "ridge"),
        ({"tolerance": 3.0}, "tolerance"),
    ):
        with pytest.raises(InputError, match=told):
            fit.solve(**settings)
    np.testing.assert_allclose(fit.solve().W, np.ones((4, 1)), atol=1e-12)
    # Nor does anybody wait for ranks that want something else.
    for settings in ({"ridge": 0.1 * comm.rank}, {"tolerance": 0.1 * comm.rank}):
        with pytest.raises(NpdeError, match="differs between ranks"):
            fit.solve(**settings)
    with pytest.raises(NpdeError, match="differs between ranks"):
        folded(np.eye(4), np.ones((4, 1 + comm.rank)), comm, method=method).solve()
    # Of one sum, but others for each target.
    ridge = np.roll([1.0, 2.0, 3.0], comm.rank)
    with pytest.raises(NpdeError, match="ridge differs between ranks"):
        folded(np.eye(4), np.ones((4, 3)), comm, method=method).solve(ridge=ridge)
    # Rows are not collective; a block of them is made so where a rank may refuse its own.
    wrong = np.full((2, 4), np.nan if comm.rank == comm.size - 1 else 1.0)
    for H, T in ((wrong, np.ones(2)), (np.ones((2, 4)), wrong)):
        with (
            pytest.raises(NpdeError, match=r"not finite|shape \(2, 4\)"),
            collective(comm),
        ):
            fit.add(H, T)
    with pytest.raises(InputError, match="3,000,000 columns"):
        method(3_000_000, 1, comm=comm)
