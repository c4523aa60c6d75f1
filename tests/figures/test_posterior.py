"""What figures of a posterior show, and of what they are not made."""

import numpy as np
import pytest

from npde_opt.errors import InputError
from npde_opt.figures.posterior import (
    plot_bands,
    plot_chains,
    plot_design,
    plot_information,
)
from npde_opt.figures.profiles import Curve, plot_profiles

RNG = np.random.default_rng(0)
EDGES = [np.linspace(0, 1, 5)] * 2


def test_figures_are_drawn(tmp_path):
    made = [
        plot_information(tmp_path / "a.png", np.array([3.0, 0.5]), 0.1),
        plot_chains(tmp_path / "b.png", ["k", "D"], RNG.random((2, 20, 2))),
        plot_bands(
            tmp_path / "c.png",
            RNG.random(9),
            np.full(9, 0.1),
            np.where(np.arange(9) == 4, np.nan, RNG.random(9)),
            np.full(9, 0.2),
        ),
        plot_design(
            tmp_path / "d.png",
            RNG.random((6, 2)),
            RNG.random(6),
            [4, 0],
            np.array([1.0, 1.5]),
            np.array([3.0, 2.0, 1.0]),
            edges=EDGES,
        ),
        plot_design(
            tmp_path / "e.png",
            np.full((3, 2), np.nan),
            RNG.random(3),
            [1],
            np.array([1.0]),
            np.array([3.0, 2.0]),
            edges=EDGES,
        ),
    ]
    assert all(path.stat().st_size > 5000 for path in made)


def test_nothing_is_not_drawn(tmp_path):
    nothing = np.full(3, np.nan)
    with pytest.raises(InputError, match="no observed datum"):
        plot_bands(tmp_path / "a.png", nothing, nothing, nothing, nothing)
    with pytest.raises(InputError, match="figure of chains: got no figures"):
        plot_chains(tmp_path / "a.png", [], np.zeros((1, 4, 0)))


def test_profiles_are_drawn_with_open_ends(tmp_path):
    x = np.linspace(1.0, 2.0, 7)
    curves = [
        Curve("k", x, 4 * (x - 1.5), 3.9 * (x - 1.5), [1.1, 1.9], []),
        Curve("S", x, np.minimum(x - 1.5, 0.1), x - 1.5, [], ["not bounded"]),
    ]
    path = plot_profiles(tmp_path / "a.png", curves)
    assert path.stat().st_size > 5000
    with pytest.raises(InputError, match="no number"):
        plot_profiles(tmp_path / "b.png", [])
