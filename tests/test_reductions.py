"""Reductions give every rank the same answer, NaN included."""

import ast
import math
from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt import agreement, errors, reductions, traffic

comm = MPI.COMM_WORLD
ROOT = Path(__file__).parents[1]


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("at", [0, -1])
def test_a_nan_on_one_rank_is_a_nan_on_all(at):
    mine = math.nan if comm.rank == at % comm.size else float(comm.rank)
    assert math.isnan(reductions.largest(comm, mine))
    assert math.isnan(reductions.smallest(comm, mine))
    assert math.isnan(reductions.total(comm, mine))


@pytest.mark.parallel([1, 2, 3])
def test_arrays_are_reduced_entry_by_entry():
    mine = np.array([comm.rank, -comm.rank, np.nan if comm.rank == 0 else 1.0])
    last = comm.size - 1
    np.testing.assert_array_equal(reductions.largest(comm, mine), [last, 0, np.nan])
    np.testing.assert_array_equal(reductions.smallest(comm, mine), [0, -last, np.nan])
    np.testing.assert_array_equal(
        reductions.total(comm, mine[:2]), [last * comm.size / 2, -last * comm.size / 2]
    )
    assert reductions.largest(comm, np.arange(2) + comm.rank).dtype.kind == "i"


FEW, MANY = agreement.SMALL, agreement.SMALL + 1


@pytest.mark.parallel([1, 2, 3, 4])
@pytest.mark.parametrize("count", [0, 1, FEW, MANY])
@pytest.mark.parametrize("dtype", ["f8", "f4", "i8", "i4", "u1", "u8"])
def test_few_and_many_of_all_types(dtype, count):
    every = np.random.default_rng(5).permutation(comm.size * count)
    every = every.reshape(comm.size, count).astype(dtype)
    if dtype[0] in "fi":
        every -= comm.size
    largest = reductions.largest(comm, every[comm.rank])
    smallest = reductions.smallest(comm, every[comm.rank])
    np.testing.assert_array_equal(largest, every.max(axis=0))
    np.testing.assert_array_equal(smallest, every.min(axis=0))
    assert largest.dtype == smallest.dtype == every.dtype


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize("reduce", ["largest", "smallest", "total"])
@pytest.mark.parametrize("shape", [(2, 3), (4, 5)])
def test_arrays_may_lie_otherwise_in_the_memory_of_other_ranks(reduce, shape):
    values = np.arange(1.0, 1.0 + np.prod(shape)).reshape(shape)
    mine = np.asarray(values, order="F" if comm.rank == 0 else "C")
    found = getattr(reductions, reduce)(comm, mine)
    factor = comm.size if reduce == "total" else 1
    np.testing.assert_array_equal(found, factor * values)


EXTREMES = [
    (-0.0, 0.0),
    (-math.inf, math.inf),
    (-math.inf, -1.7976931348623157e308),
    (-5e-324, -0.0),
    (0.0, 5e-324),
    (1.0, math.nextafter(1.0, 2.0)),
    (-(2**63), 2**63 - 1),
    (2**53, 2**53 + 1),
    (False, True),
]


@pytest.mark.parallel([2, 3, 4])
@pytest.mark.parametrize("high_at", [0, -1])
@pytest.mark.parametrize("low, high", EXTREMES)
def test_extremes_keep_their_bits(low, high, high_at):
    mine = high if comm.rank == high_at % comm.size else low
    for given in (mine, np.array(mine), np.array([mine, mine])):
        found = reductions.largest(comm, given), reductions.smallest(comm, given)
        for value, wanted in zip(found, (high, low), strict=True):
            assert {repr(v) for v in np.ravel(value).tolist()} == {repr(wanted)}
    assert type(reductions.largest(comm, mine)) is type(mine)


@pytest.mark.parallel([2, 3, 4])
@pytest.mark.parametrize("dtype", ["f8", "f4", "f2"])
@pytest.mark.parametrize("count", [2, MANY])
def test_a_nan_of_an_array_is_lost_to_none(dtype, count):
    mine = np.full(count, np.inf if comm.rank else -np.inf, dtype)
    if comm.rank == comm.size - 1:
        mine[1] = -np.nan
    for reduce in (reductions.largest, reductions.smallest):
        found = reduce(comm, mine)
        assert found.dtype == mine.dtype
        np.testing.assert_array_equal(np.isnan(found), np.arange(count) == 1)


@pytest.mark.parallel([2, 3])
def test_few_extremes_are_one_message_and_sums_two(monkeypatch):
    sent = []
    monkeypatch.setattr(traffic, "summed", lambda: sent.append(1))

    def messages(reduce, *x):
        sent.clear()
        reduce(comm, *x)
        return len(sent)

    few, many = np.zeros(FEW), np.zeros(MANY)
    assert messages(reductions.largest, 1.0) == 1
    assert messages(reductions.smallest, few) == 1
    assert messages(reductions.everywhere, True) == 1
    assert messages(reductions.anywhere, True) == 1
    assert messages(reductions.same, 1.0, "it") == 1
    assert messages(reductions.largest, many) == 2
    assert messages(reductions.total, 1.0) == 2


@pytest.mark.parallel([1, 2, 3])
def test_parts_of_a_sum_lie_one_rank_after_the_other():
    counts = [2, 0, 3][: comm.size - 1] + [4]
    first, whole = sum(counts[: comm.rank]), np.arange(float(sum(counts)))
    found = reductions.total_parts(comm, whole * (1 + comm.rank), counts)
    ranks = comm.size * (comm.size + 1) / 2
    np.testing.assert_array_equal(
        found, ranks * whole[first : first + counts[comm.rank]]
    )


@pytest.mark.parallel([1, 2, 3])
def test_numbers_stay_numbers():
    assert reductions.largest(comm, comm.rank) == comm.size - 1
    assert reductions.smallest(comm, -math.inf) == -math.inf
    assert isinstance(reductions.total(comm, 1.5), float)
    assert isinstance(reductions.largest(comm, 1.5), float)
    assert isinstance(reductions.total(comm, 1), int)


@pytest.mark.parallel([1, 2, 3])
def test_everywhere_and_anywhere():
    assert reductions.everywhere(comm, True)
    assert reductions.anywhere(comm, comm.rank == 0)
    assert reductions.everywhere(comm, comm.rank == 0) == (comm.size == 1)
    assert not reductions.anywhere(comm, False)


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize(
    "values",
    [
        (1.0, 1.1),
        (1, 2),
        (math.nan, 1.0),
        (1.0, math.nan),
        (math.inf, 1.0),
        ("a", "b"),
        (None, 1.0),
        (True, 1.0),
        (math.inf, -math.inf),
    ],
)
def test_values_that_differ_are_an_error_on_all_ranks(values):
    with pytest.raises(
        errors.NpdeError, match="the weight differs between ranks"
    ) as failure:
        reductions.same(comm, values[0] if comm.rank == 0 else values[1], "the weight")
    assert all(str(value) in str(failure.value) for value in values)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize(
    "value", [1.5, math.nan, math.inf, -math.inf, 0.0, 3, True, "text", None, (1, "a")]
)
def test_values_that_agree_are_returned(value):
    np.testing.assert_equal(reductions.same(comm, value, "it"), value)
    assert type(reductions.same(comm, value, "it")) is type(value)


@pytest.mark.parallel([2, 3])
def test_rounding_is_no_difference_and_all_go_on_with_the_same_bits():
    found = reductions.same(comm, 0.1 if comm.rank == 0 else 0.1 * (1 + 4e-16), "it")
    assert len(set(comm.allgather(found.hex()))) == 1


def raw_reductions(text: str) -> list[int]:
    """Lines with an MPI reduction other than those of reductions.py: allreduce, or an operation
    that loses NaN."""
    names = {
        "MAX",
        "MIN",
        "LOR",
        "LAND",
        "allreduce",
        "Allreduce",
        "Iallreduce",
        "Reduce_scatter",
    }
    nodes = list(ast.walk(ast.parse(text)))
    used = {
        node.lineno
        for node in nodes
        if isinstance(node, ast.Attribute) and node.attr in names
    }
    return sorted(
        used
        | {
            node.lineno
            for node in nodes
            if isinstance(node, ast.ImportFrom) and node.module == "mpi4py.MPI"
        }
    )


@pytest.mark.parametrize(
    "text",
    [
        "comm.allreduce(x)",
        "comm.Allreduce(a, b, op=MPI.SUM)",
        "comm.reduce(x, op=MPI.MAX)",
        "from mpi4py.MPI import MIN",
    ],
)
def test_the_scan_sees_raw_reductions(text):
    assert raw_reductions(text) == [1]


def test_nobody_reduces_but_the_reductions():
    allowed = {"npde_opt/reductions.py", "npde_opt/agreement.py", "npde_opt/doctor.py"}
    # Its ranks agree at the beginning of each solve, and sum without comparing places inside.
    allowed.add("npde_opt/linear/planes/gradients.py")
    # It measures MPI's own.
    allowed.add("npde_opt/scaling/machine.py")
    files = [
        p for folder in ("npde_opt", "drivers") for p in (ROOT / folder).rglob("*.py")
    ]
    assert len(files) > 50
    raw = {str(p.relative_to(ROOT)): raw_reductions(p.read_text()) for p in files}
    assert {
        name: lines for name, lines in raw.items() if lines and name not in allowed
    } == {}
