"""Fluxes in compiled loops beside those of whole arrays."""

from __future__ import annotations

import numpy as np
import pytest

from npde_opt.grids import Boundary, Grid
from npde_opt.terms.diffusion import Diffusion

SIDES = {
    "closed": {"x-": Boundary("robin", 2.0), "x+": "dirichlet"},
    "periodic": {"x-": "periodic", "x+": "periodic"},
}
WAYS = {"arrays": (0, 1 << 16), "large": (0, 0), "kept": (1 << 20, 1 << 16)}
"""Cells up to which what loops need is kept, and up to which others are left to numpy."""


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("shape", [(9,), (8, 6), (4, 6, 5)])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("own_axes", [False, True])
@pytest.mark.parametrize("sides", SIDES)
def test_compiled_fluxes_equal_whole_arrays(
    shape, masked, own_axes, sides, monkeypatch
):
    rng = np.random.default_rng(5)
    active = rng.random(shape) > 0.2 if masked else None
    edges = [np.cumsum(np.append(0.0, rng.uniform(0.5, 1.5, n))) for n in shape]
    names = ("D", "E", "F")[: len(shape)] if own_axes else "D"
    fields = {n: rng.uniform(1, 2, (2, *shape)) for n in ("D", "E", "F")}
    states, found = rng.standard_normal((4, *shape)), []
    monkeypatch.setattr("npde_opt.terms.diffusion.LEAST", 0)
    for way, (kept, small) in WAYS.items():
        monkeypatch.setattr("npde_opt.terms.diffusion.KEPT", kept)
        monkeypatch.setattr("npde_opt.grids.grid.SMALL", small)
        grid = Grid(shape, edges=edges, boundaries=SIDES[sides], active=active)
        own = {n: np.asfortranarray(v[0][grid.local_slice]) for n, v in fields.items()}
        dk = {n: np.asfortranarray(v[1][grid.local_slice]) for n, v in fields.items()}
        term = Diffusion(grid, names)
        at = term.at(own)
        u, v, w, z = (
            grid.ghosted(np.asfortranarray(s[grid.local_slice])) for s in states
        )
        dk = {n: dk[n] for n in term.coefficients}
        assert at._is_compiled(u) == (small == 0)
        assert (at._faces(u) is not None) == (way == "kept" and len(dk) == 1)
        pairs = [(v, u), (w, z)]
        parts = at.contraction(pairs), at.second_contraction(pairs, dk)
        moved = at.derivative(u, dk), at.derivative_transpose(v, dk)
        faces = [at.conductance(d) for d in range(grid.dim)], [at.boundary_load(u)]
        found.append([*moved, *(p[n] for p in parts for n in p), *faces[0], *faces[1]])
        none = at.derivative(u, {}), *at.second_contraction(pairs, {}).values()
        assert not np.any(none)
    plain, *others = found
    for other in others:
        for compiled, whole in zip(other, plain, strict=True):
            np.testing.assert_allclose(compiled, whole, rtol=1e-12, atol=1e-12)
