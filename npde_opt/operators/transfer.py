"""u_fine = P u_coarse: prolongation of cell values between grids over the same box,

    P = D P_z P_y P_x + E,

one factor an axis (4 weights a row where the product has 64), by compiled loops along lines
(lines.py), or as matrices on small grids and where cells go to other ranks. Where inactive cells
are near, D is 0 and E has the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Protocol

import numpy as np
from petsc4py import PETSc

from npde_opt.errors import InputError, collective
from npde_opt.grids import Grid
from npde_opt.grids.layout import Layout
from npde_opt.operators.lines import LineProduct
from npde_opt.operators.many import MatrixProduct
from npde_opt.operators.rows import from_rows, tensor_entries

CELLS = 1 << 13
"""Cells from which on compiled loops pay for their loading."""

Stencil = tuple[np.ndarray, np.ndarray]
"""Of the cells of one axis: coarse cells and their weights, each (cell, points)."""


class CellProlongation:
    """Interpolation of cell values from a coarse to a fine grid over the same box, mirrored at the
    sides (no slope there): multilinear, or by cubic polynomials through four cells an axis, whose
    curvature is that of the field.

    Where a stencil meets inactive coarse cells a linear one takes its place, whose weights are
    given to the active ones. Inactive cells get 0.

    Collective, as all methods are. Owns what it is made of.

    Raises:
        InputError: an active cell has no active coarse neighbour.
    """

    def __init__(self, coarse: Grid, fine: Grid, cubic: bool = False):
        stencils = _stencils(coarse, fine, 4 if cubic else 2)
        self._factors = _factors(coarse, fine, stencils)
        self._between = list[np.ndarray]()
        self._irregular: MatrixProduct | None = None
        if coarse.mask is not None or fine.mask is not None:
            covered = _covered(coarse, fine, stencils)
            regular = fine.active & covered
            self._regular = regular.ravel(order="F")
            self._irregular = _irregular(coarse, fine, fine.active & ~covered)

    def mult(self, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """y = P x."""
        self.apply(x.getArray(readonly=True)[None], y.getArray()[None])

    def multTranspose(self, y: PETSc.Vec, x: PETSc.Vec) -> None:
        """x = P^T y."""
        self.transpose(y.getArray(readonly=True)[None], x.getArray()[None])

    def apply(self, rows: np.ndarray, found: np.ndarray) -> None:
        """P x of every row x (n, own coarse cells), both arrays in C order."""
        arrays = [rows, *self._work(len(rows)), found]
        for P, given, image in zip(self._factors, arrays, arrays[1:], strict=False):
            P.apply(given, image)
        if self._irregular is not None:
            found *= self._regular
            more = np.empty(found.shape)
            self._irregular.apply(rows, more)
            found += more

    def transpose(self, rows: np.ndarray, found: np.ndarray) -> None:
        """P^T y of every row y (n, own fine cells), both arrays in C order."""
        given = rows if self._irregular is None else rows * self._regular
        arrays = [found, *self._work(len(rows)), given]
        for k, P in reversed(list(enumerate(self._factors))):
            P.transpose(arrays[k + 1], arrays[k])
        if self._irregular is not None:
            more = np.empty(found.shape)
            self._irregular.transpose(rows, more)
            found += more

    def _work(self, count: int) -> list[np.ndarray]:
        """Rows between the factors, kept for as many the next time."""
        if not self._between or len(self._between[0]) != count:
            between = self._factors[:-1]
            self._between = [np.empty((count, P.size)) for P in between]
        return self._between

    def destroy(self) -> None:
        for P in self._factors:
            P.destroy()
        if self._irregular is not None:
            self._irregular.destroy()


class Factor(Protocol):
    """A linear map of rows of own cells, and its transpose; `size`: own cells of the image."""

    size: int

    def apply(self, rows: np.ndarray, found: np.ndarray) -> None: ...
    def transpose(self, rows: np.ndarray, found: np.ndarray) -> None: ...
    def destroy(self) -> None: ...


def _stencils(coarse: Grid, fine: Grid, points: int) -> list[Stencil]:
    """Of the owned fine cells along each axis."""
    return [
        line_stencil(
            coarse.centers[d],
            coarse.edges[d],
            fine.centers[d][fine.local_slice[d]],
            points,
            coarse.periodic(d),
        )
        for d in range(fine.dim)
    ]


def _factors(coarse: Grid, fine: Grid, stencils: list[Stencil]) -> Sequence[Factor]:
    """One for each axis along which the grids differ; one in all where their boxes are cut along
    other axes, so that nothing lies between."""
    lies_alike = coarse.layout.processes == fine.layout.processes
    changed = _changed(coarse, fine) if lies_alike else []
    if changed and fine.size >= CELLS:
        return _lines(coarse, fine, changed, stencils[0][0].shape[1])
    return _matrices(coarse, fine, changed, stencils)


def _changed(coarse: Grid, fine: Grid) -> list[int]:
    """Axes along which cells differ, or the ranks that have them: boxes with inactive cells are cut
    by the active ones, which may move the cuts of an axis whose cells stay."""
    cuts = coarse.layout.counts, fine.layout.counts
    return [
        d
        for d in range(fine.dim)
        if cuts[0][d] != cuts[1][d]
        or not np.array_equal(coarse.edges[d], fine.edges[d])
    ]


def _lines(
    coarse: Grid, fine: Grid, changed: Sequence[int], points: int
) -> list[LineProduct]:
    """By compiled loops."""
    found, given = list[LineProduct](), coarse.layout
    for d in changed:
        counts = list(given.counts)
        counts[d] = fine.layout.counts[d]
        after = Layout(tuple(counts), fine.layout.rank)
        ends = coarse.edges[d], fine.centers[d], points, coarse.periodic(d)
        stencil = line_stencil(coarse.centers[d], *ends)
        found.append(LineProduct(fine.comm, given, after, d, *stencil))
        given = after
    return found


def _matrices(
    coarse: Grid, fine: Grid, changed: Sequence[int], stencils: list[Stencil]
) -> list[MatrixProduct]:
    """Args:
    changed: axes of a factor each; one factor in all where there are none.
    """
    given, wanted = coarse.layout, fine.layout
    groups = [[d] for d in changed] or [list(range(fine.dim))]
    found = list[MatrixProduct]()
    for group in groups:
        counts = [(wanted if d in group else given).counts[d] for d in range(fine.dim)]
        after = Layout(tuple(counts), wanted.rank)
        parents = [
            stencils[d] if d in group else _same(after.owned()[d])
            for d in range(fine.dim)
        ]
        indices, weights = tensor_entries(parents, given, fine.dim)
        columns = given.local_size, given.size
        entries = indices, weights, weights != 0
        made = from_rows(fine.comm, after.local_size, columns, *entries)
        found.append(MatrixProduct(made))
        given = after
    return found


def _same(cells: np.ndarray) -> Stencil:
    return cells[:, None], np.ones((cells.size, 1))


def _covered(coarse: Grid, fine: Grid, stencils: list[Stencil]) -> np.ndarray:
    """Whether all cells of the stencils of owned fine cells [i, j, k] are active. Collective."""
    if coarse.mask is None:
        return np.ones(fine.local_shape, bool)
    # Each cell is asked for once.
    unique = [np.unique(cells) for cells, _ in stencils]
    found = coarse.mask.at(unique)
    for d, (known, (cells, _)) in enumerate(zip(unique, stencils, strict=True)):
        places = np.searchsorted(known, cells)
        parts = [np.take(found, part, axis=d) for part in places.T]
        found = np.logical_and.reduce(parts)
    return found


def _irregular(coarse: Grid, fine: Grid, cells: np.ndarray) -> MatrixProduct:
    """Linear rows of these owned fine cells [i, j, k], with the weights of inactive coarse cells
    given to the active ones. Collective."""
    places = np.nonzero(cells.T)[::-1]
    stencils = _stencils(coarse, fine, 2)
    indices, weights = _entries(coarse, stencils, places)
    total = weights.sum(axis=0)
    with collective(fine.comm):
        if np.any(total == 0):
            raise InputError(
                "grid.active",
                "an active cell without an active coarse neighbour",
                "a coarse mask that covers the fine one",
            )
    sizes = [(g.layout.local_size, g.layout.size) for g in (fine, coarse)]
    made = PETSc.Mat().createAIJ(sizes, comm=fine.comm)
    first, _ = made.getOwnershipRange()
    rows = first + np.flatnonzero(cells.ravel(order="F"))
    kept = weights != 0
    rows = np.broadcast_to(rows, kept.shape)[kept].astype(PETSc.IntType)
    made.setPreallocationCOO(rows, indices[kept])
    made.setValuesCOO((weights / total)[kept])
    return MatrixProduct(made)


def _entries(
    coarse: Grid, stencils: list[Stencil], places: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Coarse cells and weights, each (points, place), of owned fine cells of which `places` are the
    numbers along each axis; inactive cells have none. Collective."""
    unique = [np.unique(cells) for cells, _ in stencils]
    near = None if coarse.mask is None else coarse.mask.at(unique)
    indices, weights = [], []
    for picks in product(*(range(w.shape[1]) for _, w in stencils)):
        cells, weight = list[np.ndarray](), np.ones(places[0].size)
        for (c, w), at, pick in zip(stencils, places, picks, strict=True):
            cells.append(c[at, pick])
            weight = weight * w[at, pick]
        if near is not None:
            known = zip(unique, cells, strict=True)
            weight = weight * near[tuple(np.searchsorted(u, c) for u, c in known)]
        indices.append(coarse.layout.global_index(cells))
        weights.append(weight)
    return np.stack(indices), np.stack(weights)


def line_stencil(
    nodes: np.ndarray, edges: np.ndarray, x: np.ndarray, points: int, periodic: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Indices and Lagrange weights (x.size, points) of the nodes around each x, which go on
    mirrored or periodically beyond the edges."""
    n, half = nodes.size, points // 2
    k = np.searchsorted(nodes, x)[:, None] + np.arange(-half, half)
    turn, cell = np.divmod(k, n)
    if periodic:
        places = nodes[cell] + turn * (edges[-1] - edges[0])
    else:
        cell = np.where(turn % 2 == 0, cell, n - 1 - cell)
        places = np.where(
            turn == 0,
            nodes[cell],
            np.where(turn < 0, 2 * edges[0], 2 * edges[-1]) - nodes[cell],
        )
        beyond = (turn < -1) | (turn > 1)
        places[beyond] = edges[-1] + (edges[-1] - edges[0]) * (
            1.0 + np.abs(k[beyond])
        ) * np.sign(turn[beyond])
    weights = np.ones(k.shape)
    for a in range(points):
        for b in range(points):
            if a != b:
                weights[:, a] *= (x - places[:, b]) / (places[:, a] - places[:, b])
    for a in range(points):  # a mirrored or wrapped cell may be there twice
        for b in range(a):
            same = (cell[:, a] == cell[:, b]) & (weights[:, a] != 0)
            weights[same, b] += weights[same, a]
            weights[same, a] = 0
    return cell, weights
