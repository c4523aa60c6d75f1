"""What holds of every W = H^+ T: small matrices of whole numbers, with zeros, duplicates and lost
ranks as they come. All ranks draw the same.
"""

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from least_squares import folded
from mpi4py import MPI

from npde_opt.pseudoinverse import Fold

CUT = 1e-10
"""Of whole numbers this small, singular values are larger or 0."""
EXACT = 1e-9

drawn = settings(
    max_examples=30,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@st.composite
def problems(draw, least_rows=1):
    """H (m, n) and T (m, k)."""
    m, n = draw(st.integers(least_rows, 20)), draw(st.integers(1, 6))
    whole = st.integers(-3, 3).map(float)
    H = draw(hnp.arrays(float, (m, n), elements=whole))
    T = draw(hnp.arrays(float, (m, draw(st.integers(1, 3))), elements=whole))
    return H * 10.0 ** draw(st.integers(-6, 6)), T


blocks = st.integers(1, 9)
orders = st.randoms(use_true_random=False)


def same(found, wanted, H):
    """In units of what W may be."""
    size = 1 / max(np.abs(H).max(), 1e-300)
    np.testing.assert_allclose(found / size, wanted / size, atol=EXACT, rtol=EXACT)


@drawn
@given(problems(), blocks, st.booleans())
def test_what_is_left_is_orthogonal_to_every_column(problem, block, intercept):
    H, T = problem
    found = folded(H, T, block=block, intercept=intercept).solve(CUT)
    left = T - H @ found.W - found.intercept
    columns = np.column_stack([H, np.ones(len(H))]) if intercept else H
    products = (
        columns.T @ left / np.maximum(np.linalg.norm(columns, axis=0), 1e-300)[:, None]
    )
    assert np.abs(products).max() < EXACT
    np.testing.assert_allclose(
        found.residual, np.sqrt((left**2).mean(axis=0)), atol=EXACT
    )


@drawn
@given(problems(), blocks)
def test_no_shorter_answer_fits_as_well(problem, block):
    """What H does not see is no part of W."""
    H, T = problem
    found = folded(H, T, block=block).solve(CUT)
    _, s, V = np.linalg.svd(H)
    rank = int((s > CUT * s[0]).sum()) if s[0] else 0
    assert found.rank == rank
    same(V[rank:] @ found.W, np.zeros((H.shape[1] - rank, T.shape[1])), H)


@pytest.mark.parallel([1, 2, 3])
@settings(drawn, max_examples=15)
@given(problems(), blocks, orders, st.integers(0, 2))
def test_order_blocks_and_ranks_change_nothing(problem, block, order, without):
    H, T = problem
    rows = list(range(len(H)))
    order.shuffle(rows)
    comm = MPI.COMM_WORLD
    empty = (without,) if without < comm.size - 1 else ()
    found = folded(H[rows], T[rows], comm, empty, block=block).solve(CUT)
    same(found.W, folded(H, T).solve(CUT).W, H)


@drawn
@given(problems(), problems(), blocks)
def test_rows_that_come_later_count_as_if_they_had_been_there(first, later, block):
    (H, T), n = first, first[0].shape[1]
    more = np.resize(later[0], (len(later[0]), n))
    right = np.resize(later[1], (len(later[1]), T.shape[1]))
    fit = folded(H, T, block=block)
    fit.solve(CUT)
    fit.add(more, right)
    both = np.concatenate([H, more])
    # Rows of other sizes may decide a rank by rounding: only what is seen well is compared.
    s = np.linalg.svd(both, compute_uv=False)
    assume(not ((s > 1e-13 * s[0]) & (s < 1e-7 * s[0])).any())
    wanted = np.linalg.pinv(both, CUT) @ np.concatenate([T, right])
    np.testing.assert_allclose(
        fit.solve(CUT).W, wanted, rtol=1e-6, atol=1e-6 * abs(wanted).max()
    )


@drawn
@given(problems(least_rows=8), st.data())
def test_rows_that_are_taken_out_had_never_been_there(problem, data):
    H, T = problem
    out = data.draw(
        st.sets(st.integers(0, len(H) - 1), min_size=1, max_size=len(H) - 7)
    )
    gone = np.array(sorted(out))
    rest = np.setdiff1d(np.arange(len(H)), gone)
    # Where the others do not determine W, what is left of a row is rounding.
    assume(np.linalg.cond(H[rest]) < 1e3)
    fit = folded(H, T)
    fit.remove(H[gone], T[gone])
    assert fit.count == len(rest)
    same(fit.solve().W, folded(H[rest], T[rest]).solve().W, H)


@drawn
@given(problems(), blocks)
def test_a_file_holds_all_that_counts(tmp_path_factory, problem, block):
    H, T = problem
    path = tmp_path_factory.mktemp("kept") / "kept.npz"
    half = len(H) // 2
    fit = folded(H[:half], T[:half], block=block)
    fit.save(path)
    fit.add(H[half:], T[half:])
    again = Fold.load(path)
    again.add(H[half:], T[half:])
    np.testing.assert_array_equal(again.solve(CUT).W, fit.solve(CUT).W)
