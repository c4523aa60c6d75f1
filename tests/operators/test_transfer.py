"""P of cells between grids, from a factor an axis, beside products of one-dimensional weights; and
its loops along lines beside its matrices."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from npde_opt.grids import Grid
from npde_opt.operators import CellProlongation
from npde_opt.operators.lines import LineProduct
from npde_opt.operators.transfer import line_stencil

CELLS = "npde_opt.operators.transfer.CELLS"
ENDS = [(), ("x",), ("y",), ("x", "y")]
"""Periodic axes."""


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
@pytest.mark.parametrize("loops", [False, True])
def test_factors_are_the_product_of_lines_and_have_its_transpose(
    shape, masked, cubic, loops, monkeypatch
):
    monkeypatch.setattr(CELLS, 0 if loops else 1 << 40)
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


def both_ways(coarse, fine, cubic, given, back):
    """P given and P^T back of owned cells, and whether loops made them."""
    P = CellProlongation(coarse, fine, cubic)
    loops = any(isinstance(factor, LineProduct) for factor in P._factors)
    x, y = coarse.create_scalar(), fine.create_scalar()
    coarse.view(x)[...] = given[coarse.local_slice]
    P.mult(x, y)
    up = fine.view(y).copy()
    fine.view(y)[...] = back[fine.local_slice]
    P.multTranspose(y, x)
    down = coarse.view(x).copy()
    P.destroy()
    return up, down, loops


@pytest.mark.parallel([1, 2, 3, 4])
@pytest.mark.parametrize("cubic", [False, True])
@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize(
    "shape", [(40,), (9, 7), (64, 50), (33, 8, 12), (5, 4, 40), (128, 3)]
)
def test_loops_do_what_matrices_do(shape, ends, cubic, monkeypatch):
    """Boxes of a cell or two, whose stencils reach over more than one rank, among them."""
    axes = [a for a in ends if a in "xyz"[: len(shape)]]
    sides = {a + side: "periodic" for a in axes for side in "-+"}
    edges = [np.linspace(0, 1, n + 1) ** 1.3 for n in shape]
    fine = Grid(shape, edges=edges, boundaries=sides)
    coarse = fine.coarsen(4)
    rng = np.random.default_rng(3)
    given, back = (rng.standard_normal(grid.shape) for grid in (coarse, fine))
    found = []
    for cells in (1 << 40, 0):
        monkeypatch.setattr(CELLS, cells)
        found.append(both_ways(coarse, fine, cubic, given, back))
    (up, down, _), (up_by_loops, down_by_loops, loops) = found
    # Else cells go to other ranks.
    assert loops == (coarse.layout.processes == fine.layout.processes)
    np.testing.assert_allclose(up_by_loops, up, atol=1e-13)
    np.testing.assert_allclose(down_by_loops, down, atol=1e-13)
    comm = fine.comm
    over, under = (
        np.vdot(up_by_loops, back[fine.local_slice]),
        np.vdot(down_by_loops, given[coarse.local_slice]),
    )
    assert comm.allreduce(over) == pytest.approx(comm.allreduce(under), rel=1e-10)


@pytest.mark.parallel([4])
@pytest.mark.parametrize("loops", [False, True])
def test_cuts_of_an_axis_whose_cells_stay_may_move(loops, monkeypatch):
    """Boxes hold equal numbers of active cells, which thin stripes double on the coarse grid."""
    monkeypatch.setattr(CELLS, 0 if loops else 1 << 40)
    active = np.ones((14, 16), bool)
    active[:7, ::2] = False
    fine = Grid(active.shape, active=active)
    coarse = fine.coarsen(8)
    assert coarse.shape == (14, 8)
    assert coarse.layout.processes == fine.layout.processes
    assert coarse.layout.counts[0] != fine.layout.counts[0]
    wanted = whole(coarse, fine, active, 4)
    rng = np.random.default_rng(6)
    given, back = (rng.standard_normal(grid.shape) for grid in (coarse, fine))
    up, down, by_loops = both_ways(coarse, fine, True, given, back)
    assert by_loops == loops
    expected = np.tensordot(wanted, given, 2)
    np.testing.assert_allclose(up, expected[fine.local_slice], atol=1e-13)
    expected = np.tensordot(back, wanted, 2)
    np.testing.assert_allclose(down, expected[coarse.local_slice], atol=1e-13)


@pytest.mark.parallel([1, 2])
def test_large_grids_take_loops():
    fine = Grid((128, 96))
    P = CellProlongation(fine.coarsen(8), fine, True)
    assert all(isinstance(factor, LineProduct) for factor in P._factors)
    P.destroy()


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("loops", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", [(40, 36), (12, 9, 8)])
def test_many_at_once_are_one_after_the_other(shape, masked, loops, monkeypatch):
    """Of changing numbers of rows, with one message for all of them."""
    monkeypatch.setattr(CELLS, 0 if loops else 1 << 40)
    active = np.ones(shape, bool)
    active[shape[0] // 2 :, shape[1] // 2 :] = not masked
    fine = Grid(shape, active=active)
    coarse = fine.coarsen(4)
    P = CellProlongation(coarse, fine, True)
    x, y = coarse.create_scalar(), fine.create_scalar()
    rng = np.random.default_rng(fine.comm.rank)
    for count in (5, 2, 5):
        given, back = (
            rng.standard_normal((count, v.getLocalSize())) * grid.active.ravel("F")
            for v, grid in ((x, coarse), (y, fine))
        )
        up, down = np.empty(back.shape), np.empty(given.shape)
        P.apply(given, up)
        P.transpose(back, down)
        for row, image in zip(given, up, strict=True):
            x.setArray(row)
            P.mult(x, y)
            np.testing.assert_allclose(image, y.getArray(), atol=1e-13)
        for row, image in zip(back, down, strict=True):
            y.setArray(row)
            P.multTranspose(y, x)
            np.testing.assert_allclose(image, x.getArray(), atol=1e-13)
    assert np.abs(up).max() > 0
    P.destroy()


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("cubic", [False, True])
@pytest.mark.parametrize("odd", [0, 1])
def test_rows_that_repeat_themselves_are_found_together(odd, cubic, monkeypatch):
    """As one by one: most rows of a line, on graded grids too, with an odd last cell, and where
    other ranks have the cells beside."""
    monkeypatch.setattr(CELLS, 0)
    shape = (80 + odd, 12)
    edges = [np.linspace(0, 1, n + 1) ** 1.3 for n in shape]
    fine = Grid(shape, edges=edges)
    coarse = fine.coarsen(4)
    rng = np.random.default_rng(3)
    given, back = (rng.standard_normal(grid.shape) for grid in (coarse, fine))
    found = []
    for least in (1 << 40, 4):
        monkeypatch.setattr("npde_opt.operators.lines.REPEATED", least)
        found.append(both_ways(coarse, fine, cubic, given, back)[:2])
        P = CellProlongation(coarse, fine, cubic)
        lines = P._factors[0]
        assert isinstance(lines, LineProduct)
        for matrix, cells in zip(lines._matrices, (fine, coarse), strict=True):
            first, last = matrix.between
            most = cells.local_shape[0] - 10
            assert last - first >= most if least == 4 else last == first
        P.destroy()
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-13)
