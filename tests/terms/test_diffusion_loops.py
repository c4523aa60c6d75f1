"""Fluxes in compiled loops beside those of whole arrays."""

from __future__ import annotations

import numpy as np
import pytest

from npde_opt.grids import Boundary, Grid
from npde_opt.terms.diffusion import Diffusion


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("shape", [(9,), (7, 6), (4, 6, 5)])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("own_axes", [False, True])
def test_compiled_fluxes_equal_whole_arrays(shape, masked, own_axes, monkeypatch):
    rng = np.random.default_rng(5)
    active = rng.random(shape) > 0.2 if masked else None
    sides = {"x-": Boundary("robin", 2.0), "x+": "dirichlet"}
    found = []
    names = ("D", "E", "F")[: len(shape)] if own_axes else "D"
    fields = {n: rng.uniform(1, 2, (2, *shape)) for n in ("D", "E", "F")}
    states = rng.standard_normal((4, *shape))
    for small in (0, 1 << 16):
        monkeypatch.setattr("npde_opt.grids.grid.SMALL", small)
        grid = Grid(shape, boundaries=sides, active=active)
        own = {n: np.asfortranarray(v[0][grid.local_slice]) for n, v in fields.items()}
        dk = {n: np.asfortranarray(v[1][grid.local_slice]) for n, v in fields.items()}
        term = Diffusion(grid, names)
        at = term.at(own)
        u, v, w, z = (
            grid.ghosted(np.asfortranarray(s[grid.local_slice])) for s in states
        )
        dk = {n: dk[n] for n in term.coefficients}
        assert at._is_compiled(u) == (small == 0)
        pairs = [(v, u), (w, z)]
        parts = at.contraction(pairs), at.second_contraction(pairs, dk)
        found.append([at.derivative(u, dk), *(p[n] for p in parts for n in p)])
    for compiled, whole in zip(*found, strict=True):
        np.testing.assert_allclose(compiled, whole, rtol=1e-12, atol=1e-12)
