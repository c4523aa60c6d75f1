"""P of cells between grids, from a factor an axis, beside products of one-dimensional weights."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from npde_opt.grids import Grid
from npde_opt.operators import CellProlongation
from npde_opt.operators.transfer import line_stencil


def whole(coarse, fine, active, points):
    """[fine cell, coarse cell], cells x slowest; linear weights of active cells where some of the
    stencil's are not."""
    covers = np.ones(coarse.shape) if coarse.mask is None else coarse.mask.whole()
    found = np.zeros((*fine.shape, *coarse.shape))
    for cell in np.argwhere(active):
        for count in (points, 2):
            row = np.zeros(coarse.shape)
            lines = []
            for d, i in enumerate(cell):
                x = fine.centers[d][[i]]
                ends = coarse.edges[d], x, count, coarse.periodic(d)
                lines.append(line_stencil(coarse.centers[d], *ends))
            clear = True
            for picks in product(range(count), repeat=len(cell)):
                at = tuple(c[0, k] for (c, _), k in zip(lines, picks, strict=True))
                clear &= bool(covers[at])
                row[at] += np.prod(
                    [w[0, k] for (_, w), k in zip(lines, picks, strict=True)]
                )
            if clear:
                break
        found[tuple(cell)] = row if clear else row * covers / (row * covers).sum()
    return found


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("cubic", [False, True])
@pytest.mark.parametrize("shape", [(17, 20), (16, 5, 3)])
@pytest.mark.parametrize("masked", [False, True])
def test_factors_are_the_product_of_lines_and_have_its_transpose(shape, masked, cubic):
    rng = np.random.default_rng(2)
    active = rng.random(shape) > 0.2 if masked else np.ones(shape, bool)
    sides = {"y-": "periodic", "y+": "periodic"}
    fine = Grid(shape, boundaries=sides, active=active if masked else None)
    coarse = fine.coarsen(8)
    P = CellProlongation(coarse, fine, cubic)
    wanted = whole(coarse, fine, active, 4 if cubic else 2)
    x, y = coarse.create_scalar(), fine.create_scalar()
    given = rng.standard_normal(coarse.shape)
    coarse.view(x)[...] = given[coarse.local_slice]
    P.mult(x, y)
    expected = np.tensordot(wanted, given, len(shape))
    np.testing.assert_allclose(fine.view(y), expected[fine.local_slice], atol=1e-13)
    back = rng.standard_normal(fine.shape)
    fine.view(y)[...] = back[fine.local_slice]
    P.multTranspose(y, x)
    expected = np.tensordot(back, wanted, len(shape))
    np.testing.assert_allclose(coarse.view(x), expected[coarse.local_slice], atol=1e-13)
    P.destroy()
