"""Compiled loops of networks beside numpy."""

import numpy as np
import pytest
from numba.core.errors import TypingError

from npde_opt.networks import strips, sums_of_rows
from npde_opt.networks.activations import tanh

PRECISIONS = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@PRECISIONS
def test_tanh_is_within_three_units_in_the_last_place(dtype):
    small = np.logspace(np.log10(np.finfo(dtype).tiny), 0, 2001)
    v = np.concatenate([np.linspace(-25, 25, 20001), small, -small]).astype(dtype)
    exact = np.tanh(v.astype(np.longdouble))
    h = tanh(v[None, None])[0, 0]
    units = np.abs(h - exact) / np.spacing(np.abs(exact.astype(dtype)))
    assert h.dtype == dtype and units.max() <= 3
    assert np.abs(h).max() <= 1 and np.array_equal(h, -tanh(-v[None, None])[0, 0])


@PRECISIONS
def test_tanh_of_what_is_no_number_or_too_large(dtype):
    v = np.array([[[np.nan, np.inf, -np.inf, 0, np.finfo(dtype).max]]], dtype)
    expected = [np.nan, 1, -1, 0, 1]
    assert np.array_equal(tanh(v).ravel(), expected, equal_nan=True)


def test_tanh_in_place_of_a_part():
    whole = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    part, before = whole[:, 1:, 2:], whole.copy()
    assert tanh(part, out=part) is part
    assert np.allclose(part, np.tanh(before[:, 1:, 2:]), rtol=1e-15)
    assert np.array_equal(whole[:, 0], before[:, 0])
    assert np.array_equal(whole[:, :, :2], before[:, :, :2])


@PRECISIONS
@pytest.mark.parametrize("channels", [1, 2, 7, 13])
def test_sums_of_rows(dtype, channels):
    """Of 3 x 3 cells of three states, for rows of all remainders of a vector."""
    rng = np.random.default_rng(channels)
    tolerance = 100 * np.finfo(dtype).eps
    for length in (*range(1, 20), 40, 300):
        samples, rows = (3, 4) if length < 100 else (1, 5)
        read = rng.standard_normal((3, samples, rows + 2, length + 2)).astype(dtype)
        w = rng.standard_normal((channels, 3, 3, 3)).astype(dtype)
        y = rng.standard_normal((channels, samples, rows, length)).astype(dtype)
        strides = [n // dtype().itemsize for n in read.strides]
        d, j, i = np.indices((3, 3, 3)).reshape(3, -1)
        at = sums_of_rows.longer(d * strides[0] + j * strides[2] + i)
        k = sums_of_rows.whole(w.reshape(channels, -1), dtype)
        steps = (strides[1], 0, strides[2])
        windows = np.lib.stride_tricks.sliding_window_view(read, (3, 3), (2, 3))
        expected = np.einsum("cdji,dsyxji->csyx", w, windows, dtype=float)
        out, box = y.copy(), strips.Flat(y)
        line, sizes = strips.Flat(out), (box.counts, box.steps, length)
        sums_of_rows.combine(k, at, read.ravel(), steps, line.line, *sizes, True)
        assert np.allclose(out, y + expected, rtol=0, atol=30 * tolerance)
        sums_of_rows.combine(k, at, read.ravel(), steps, line.line, *sizes, False)
        assert np.allclose(out, expected, rtol=0, atol=30 * tolerance)
        total = np.zeros(k.shape)
        sums_of_rows.gather(total, at, read.ravel(), steps, box.line, *sizes)
        exact = np.einsum("csyx,dsyxji->cdji", y, windows, dtype=float)
        found = total[:, :27].reshape(exact.shape)
        scale = np.linalg.norm(exact)
        assert np.allclose(found, exact, rtol=0, atol=tolerance * scale)


def test_rows_without_gaps_are_one():
    u = np.zeros((2, 3, 4, 5, 6))
    assert strips.together(u, u[:1])[1:] == ((1, 1, 1), 360)
    part = u[:, :, 1:3]
    (one, other), rows, length = strips.together(part, np.zeros(part.shape))
    assert (rows, length) == ((3, 1, 1), 60)
    assert one.steps[1] == 120 and other.steps[1] == 60


def test_values_that_are_no_rows_are_refused():
    whole = np.zeros((2, 3, 4, 10))
    with pytest.raises(ValueError, match="rows of 5 values that are 16 bytes apart"):
        strips.Flat(whole[..., ::2])
    with pytest.raises(ValueError, match="rows of 4 values that are 0 bytes apart"):
        strips.Flat(np.broadcast_to(np.zeros((2, 3, 1)), (2, 3, 4)))


def test_arrays_of_two_precisions_are_refused():
    at, k, line = sums_of_rows.evenly(1, 4), np.zeros((1, 4)), np.zeros(20)
    sizes, single = ((1, 1, 1, 1), (0, 0, 0, 0), 8), np.zeros(8, np.float32)
    with pytest.raises(TypingError, match="numbers of one precision"):
        sums_of_rows.combine(k, at, line, (0, 0, 0), single, *sizes, False)
    with pytest.raises(TypingError, match="numbers of one precision"):
        sums_of_rows.gather(k, at, line, (0, 0, 0), single, *sizes)
