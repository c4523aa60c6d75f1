"""objective.over(columns): minibatches of experiments that share everything with the whole."""

import numpy as np
import pytest
from mpi4py import MPI
from sums import COUNT, KINDS, made

from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError
from npde_opt.objective import Objective
from npde_opt.verify import dot_product_test, taylor_test

COMM = MPI.COMM_WORLD


def figures(J, m, dm):
    """Value, misfit, gradient and Hessian products."""
    at, h, gn = J.linearize(m), J.create_vec(), J.create_vec()
    at.hessian(dm, h)
    at.hessian(dm, gn, gauss_newton=True)
    fields = [np.array([at.value, at.misfit, at.information(dm)])]
    fields += [v.getArray().copy() for v in (at.gradient(), h, gn)]
    at.destroy()
    return fields


def mean_is_whole(J, m, dm, parts):
    """Of figures of parts weighted by their numbers of data."""
    whole, total = figures(J, m, dm), None
    for columns in parts:
        part = J.over(columns)
        found = figures(part, m, dm)
        share = part.data_count / J.data_count
        shares = [share * f for f in found]
        total = (
            shares
            if total is None
            else [t + f for t, f in zip(total, shares, strict=True)]
        )
        part.destroy()
    for a, b in zip(total, whole, strict=True):
        np.testing.assert_allclose(
            a, b, rtol=1e-8, atol=1e-10 * np.abs(b).max(initial=1)
        )


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("kind", list(KINDS))
def test_the_mean_over_a_partition_is_the_whole(kind):
    J, m, dm = made(kind)
    mean_is_whole(J, m, dm, [[4, 0], [3, 5, 1], [2]])
    J.destroy()


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize("kind", ["steady", "fused"])
def test_so_it_is_in_groups_of_which_some_have_no_columns(kind):
    ensemble = Ensemble.split(COMM, COMM.size, COUNT)
    J, m, dm = made(kind, ensemble)
    mean_is_whole(J, m, dm, [[0], [1, 2, 3, 4, 5]])
    single, m1, _ = made(kind)
    for columns in ([3], [1, 2, 5]):
        split, whole = J.over(columns).linearize(m), single.over(columns).linearize(m1)
        assert split.value == pytest.approx(whole.value, rel=1e-9)
        assert split.chi_squared() == pytest.approx(whole.chi_squared(), rel=1e-9)
    J.destroy()


@pytest.mark.parallel([1, 2])
def test_without_scale_the_misfits_of_parts_add_up():
    J, m, _ = made("fused")
    total = J.linearize(m)
    parts = [
        J.over(columns, scale=False).linearize(m) for columns in ([0, 1, 4], [2, 3, 5])
    ]
    assert sum(p.misfit for p in parts) == pytest.approx(total.misfit, rel=1e-12)
    assert parts[0].regularization == total.regularization
    assert (
        J.over([1]).over([2, 3, 5], scale=False).linearize(m).misfit == parts[1].misfit
    )
    J.destroy()


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("kind", ["fused", "implicit"])
def test_derivatives_of_a_part_with_whole_columns(kind):
    """Cross-entropy of the outputs of an experiment, which are those at all times and places."""
    J, m, dm = made(kind, loss="labels")
    part = J.over([1, 2, 5])
    orders = taylor_test(part, m, dm)
    assert orders.problems() == [], orders
    lin = part.linearize(m).linearization
    assert [d.layout.members for d in lin.data] == [(1, 2), (5,)]
    assert dot_product_test(lin, dm, [d.layout.noise(1) for d in lin.data]) <= 1e-10
    J.destroy()


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("kind", ["steady", "implicit"])
def test_nothing_is_assembled_or_set_up_again(kind, monkeypatch):
    J, m, dm = made(kind)
    figures(J, m, dm)
    matrices, counts = J.forward.part.matrices, []
    for matrix in matrices:
        refresh = matrix.refresh
        monkeypatch.setattr(
            matrix, "refresh", lambda r=refresh: counts.append(1) or r()
        )
    monkeypatch.setattr(
        "npde_opt.linear.recipes.LinearSolver.update", lambda self: counts.append(2)
    )
    before = J.counters.snapshot()
    part = J.over([1, 4])
    figures(part, m, dm)
    assert counts == []
    assert part.forward is J.forward and part.counters is J.counters
    # A state, an adjoint, and for each product two states and adjoints at most, of two experiments.
    done = J.counters.forward_solves - before["forward_solves"]
    assert 0 < done <= 2 * 4 and done % 2 == 0
    J.destroy()


def alike(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(
            a, b, rtol=1e-8, atol=1e-10 * np.abs(b).max(initial=1)
        )


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("kind", list(KINDS))
def test_part_after_part_is_the_same(kind):
    whole, m, dm = made(kind)
    J, _, _ = made(kind, at_once=4)
    batch = [5, 4, 1, 0, 2]
    alike(figures(J, m, dm), figures(whole, m, dm))
    alike(figures(J.over(batch), m, dm), figures(whole.over(batch), m, dm))
    found, expected = J.linearize(m), whole.linearize(m)
    assert found.chi_squared() == pytest.approx(expected.chi_squared(), rel=1e-9)
    for a, b in zip(found.data, expected.data, strict=True):
        np.testing.assert_allclose(a.gather(), b.gather(), rtol=1e-8)


@pytest.mark.parallel([2, 3])
def test_part_after_part_in_groups_says_as_much_between_ranks(monkeypatch):
    """Five experiments in two groups, or three: unequal numbers of parts, one sum a gradient."""
    ensemble = Ensemble.split(COMM, COMM.size, COUNT)
    J, m, dm = made("fused", ensemble, at_once=1)
    single, m1, dm1 = made("fused")
    columns, sums = [0, 1, 2, 3, 4], []
    part, sum_vec = J.over(columns), Ensemble.sum_vec
    monkeypatch.setattr(Ensemble, "sum_vec", lambda *a: sums.append(1) or sum_vec(*a))
    at, whole = part.linearize(m), single.over(columns).linearize(m1)
    assert at.value == pytest.approx(whole.value, rel=1e-10)
    norms = [at.gradient().norm(), whole.gradient().norm()]
    assert norms[0] == pytest.approx(norms[1], rel=1e-9) and len(sums) == 2
    out, out1 = J.create_vec(), single.create_vec()
    at.hessian(dm, out)
    whole.hessian(dm1, out1)
    assert out.norm() == pytest.approx(out1.norm(), rel=1e-8) and len(sums) == 4


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("kind", ["steady", "implicit"])
def test_memory_is_that_of_one_part(kind, monkeypatch):
    """No part is alive when the next begins, and its gradient needs no other solve of the state."""
    J, m, dm = made(kind, at_once=2)
    linearize, alive, asked = J.forward.linearize, [], []

    def watched(m, columns=None):
        assert alive == []
        asked.append(tuple(columns))
        alive.append(columns)
        found = linearize(m, columns)
        destroy = found.destroy
        monkeypatch.setattr(
            found, "destroy", lambda: alive.clear() or destroy(), raising=False
        )
        return found

    monkeypatch.setattr(J.forward, "linearize", watched)
    at = J.linearize(m)
    at.gradient()
    assert np.isfinite(at.value) and asked == [(0, 1), (2, 3), (4, 5)]
    assert J.counters.forward_solves == J.counters.adjoint_solves == COUNT
    at.hessian(dm, J.create_vec(), gauss_newton=True)
    assert asked[3:] == asked[:3]
    at.destroy()
    assert alive == []


@pytest.mark.parallel([1, 2, 3])
def test_derivatives_part_after_part():
    J, m, dm = made("fused", loss="labels", at_once=3)
    orders = taylor_test(J, m, dm)
    assert orders.problems() == [], orders


def test_at_once_is_a_number_of_experiments():
    with pytest.raises(
        InputError, match="at_once: got 0; allowed: a number of experiments"
    ):
        made("steady", at_once=0)


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        (
            [0, 6],
            "columns: got 6; allowed: numbers of experiments from 0 to 5, each once",
        ),
        ([-1], "columns: got -1; allowed: numbers"),
        ([2, 2], "columns: got 2 twice; allowed: numbers"),
        ([], r"columns: got \[\]; allowed: numbers"),
        ([0.5], r"columns: got \[0.5\]; allowed: numbers"),
    ],
)
def test_columns_that_are_none_are_named(columns, text):
    J, _, _ = made("steady")
    with pytest.raises(InputError, match=text):
        J.over(columns)


def test_misfits_are_one_a_block():
    J, _, _ = made("steady")
    with pytest.raises(
        InputError, match="misfits: got 1; allowed: 2, one a block of data"
    ):
        Objective(J.forward, J.misfits[:1], {})
    with pytest.raises(
        InputError, match=r"misfits: got of experiments \(4, 5\); allowed: \(0, 1"
    ):
        Objective(J.forward, J.misfits[::-1], {})
