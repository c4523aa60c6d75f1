"""Reservoirs: their equation, and how rows are held back."""

import numpy as np
import pytest

from npde_opt.errors import InputError
from npde_opt.pseudoinverse import Fold
from npde_opt.pseudoinverse.reservoir import Reservoir, Stretch, held_back, predicted


def test_states_follow_the_equation():
    z, seeds = np.random.default_rng(0).standard_normal((7, 2)), (3, 8)
    found = Reservoir(5, 0.1, 0.6, 0.9, 1.5, 0.4).states(z, seeds)
    for seed, states in zip(seeds, found, strict=True):
        drawn = np.random.default_rng(seed).standard_normal((3, 5))
        B, u = drawn * np.array([1.5, 1.5, 0.4])[:, None], np.zeros(5)
        for given, state in zip(z, states, strict=True):
            lap = np.roll(u, 1) + np.roll(u, -1) - 2 * u
            inside = 0.9 * np.roll(u, 1) + given @ B[:2] + B[2]
            u = u + 0.6 * (np.tanh(inside) - u) + 0.1 * lap
            np.testing.assert_allclose(state, u, rtol=1e-12)


def test_stretches_are_predicted_from_what_was_before_them():
    rng = np.random.default_rng(1)
    H, T = rng.standard_normal((40, 3)), rng.standard_normal((40, 2))
    found = held_back(H, T, [Stretch(20, 30), Stretch(30, 40)], [0.0, 0.1], washout=4)
    for ridge, own in zip([0.0, 0.1], found, strict=True):
        for first, part in zip((20, 30), own, strict=True):
            fit = Fold(3, 2, True)
            fit.add(H[4:first], T[4:first])
            wanted = predicted(
                fit.solve(ridge=ridge * (first - 4)), H[first : first + 10]
            )
            np.testing.assert_allclose(part, wanted, atol=1e-12)
    T[30:] = 0
    later = held_back(H, T, [Stretch(20, 30), Stretch(30, 40)], [0.1], washout=4)
    np.testing.assert_array_equal(later[0][1], found[1][1])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cells", 2),
        ("diffusion", 0.5),
        ("diffusion", -1),
        ("leak", 0),
        ("drive", np.inf),
    ],
)
def test_numbers_out_of_range_are_told(key, value):
    given = {"cells": 5, "diffusion": 0.1, "leak": 0.5, "carried": 0.9, "drive": 1.0}
    with pytest.raises(InputError, match=f"reservoir.{key}"):
        Reservoir(**(given | {key: value}))
