"""Pointwise variance of the field with precision K M^-1 K, K = L + delta M, L = -div(D grad)
without flux through sides.

A side or an outline reflects: the variance doubles at it, and is fourfold in a corner. Divided by
this variance the prior is what its key says everywhere (`regularizers.BiLaplacian`).

On a box L is a sum over axes. With heat kernels of each axis, h_d(t, i) = sum_a v_a(i)^2
exp(-lambda_a t) from the eigenpairs of its 1-D operator, the variance is

    (K^-1 M K^-1)_ii = int_0^inf t exp(-delta t) prod_d h_d(t, i_d) dt,

here by the trapezoidal rule in log t: to 1e-4 of the discrete operator's variance, with arrays of
one axis only.

Under a mask the variance is computed from columns of K^-1 on the cells themselves, or where they
are many on cells of up to a quarter of the correlation length that keep the volumes and the open
faces of what they hold; that over the box's variance on the same cells is interpolated. Long
outlines go by windows with a halo of three correlation lengths. The error is then one to three per
cent in two dimensions and up to a tenth in three, more where a gap narrower than these cells parts
two active regions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import scipy  # loads its parts when they are used
from mpi4py import MPI

from npde_opt import reductions
from npde_opt.errors import collective
from npde_opt.grids import Grid
from npde_opt.grids.geometry import Geometry

LOG_STEP = 0.25
LONGEST, SHORTEST = 40.0, 1e-3
"""Times of the quadrature, in units of 1/delta and of the fastest decay."""

EXACT = 4000
"""Active cells up to which nothing is coarsened."""

CELLS_A_LENGTH = 4
HALO_LENGTHS = 3
WINDOW_CELLS = 1500
COLUMNS = 256


def pointwise_variance(
    grid: Grid, diffusivities: Sequence[float], delta: float
) -> np.ndarray:
    """Variance in the owned cells [i, j, k] (1 in inactive ones).

    Args:
        grid: its sides are closed or periodic.
        diffusivities: D of each axis, in length^2 times the unit of delta.

    Collective.
    """
    periodic = tuple(grid.periodic(d) for d in range(grid.dim))
    box = Box(tuple(np.asarray(e) for e in grid.edges), periodic, grid.radial)
    found = box.variance(diffusivities, delta, grid.local_slice)
    if grid.mask is not None:
        active = grid.mask.whole()
        found = found * masked_ratio(grid, box, active, diffusivities, delta)
        found = np.where(grid.active, found, 1.0)
    return np.asfortranarray(found)


@dataclass(frozen=True)
class Box:
    """A tensor grid: edges of the cells of each axis, which axes are periodic, and whether the
    first is a radius."""

    edges: tuple[np.ndarray, ...]
    periodic: tuple[bool, ...]
    radial: bool = False

    @cached_property
    def geometry(self) -> Geometry:
        return Geometry(self.edges, self.radial)

    @property
    def widths(self) -> list[np.ndarray]:
        return [np.diff(e) for e in self.edges]

    @property
    def centers(self) -> list[np.ndarray]:
        return [(e[1:] + e[:-1]) / 2 for e in self.edges]

    def distances(self, axis: int) -> np.ndarray:
        """Between the centres of neighbours, the one across the period last where there is one."""
        lower, upper = self.geometry.halves[axis]
        inside, across = upper[:-1] + lower[1:], upper[-1] + lower[0]
        return (
            np.append(inside, across)
            if self.periodic[axis] and lower.size > 1
            else inside
        )

    def faces(self, axis: int) -> np.ndarray:
        """Factors in areas of the faces that `distances` are across."""
        return self.geometry.faces[axis][1 : 1 + self.distances(axis).size]

    def variance(
        self, diffusivities: Sequence[float], delta: float, part: tuple[slice, ...]
    ) -> np.ndarray:
        """In the cells of a part of the box."""
        pairs = [self._eigenpairs(d, D) for d, D in enumerate(diffusivities)]
        fastest = sum(float(values[-1]) for values, _ in pairs) + delta
        s = np.arange(
            np.log(SHORTEST / fastest), np.log(LONGEST / delta) + LOG_STEP, LOG_STEP
        )
        times = np.exp(s)
        kernels = [
            (vectors[part[d]] ** 2) @ np.exp(-np.outer(values, times))
            for d, (values, vectors) in enumerate(pairs)
        ]
        weights = LOG_STEP * times**2 * np.exp(-delta * times)
        total = np.zeros([k.shape[0] for k in kernels])
        for q, weight in enumerate(weights):
            term = np.asarray(weight)
            for kernel in kernels:
                term = np.multiply.outer(term, kernel[:, q])
            total += term
        return total

    def _eigenpairs(self, axis: int, D: float) -> tuple[np.ndarray, np.ndarray]:
        """Of M^-1 L on one axis, with vectors of unit M-norm in columns."""
        flow = D * self.faces(axis) / self.distances(axis)
        scale = 1 / np.sqrt(self.geometry.measures[axis])
        n = scale.size
        diagonal = np.zeros(n)
        diagonal[:-1] += flow[: n - 1]
        diagonal[1:] += flow[: n - 1]
        if flow.size == n and n > 1:
            diagonal[[0, -1]] += flow[-1]
            A = np.diag(diagonal) - np.diag(flow[:-1], 1) - np.diag(flow[:-1], -1)
            A[0, -1] -= flow[-1]
            A[-1, 0] -= flow[-1]
            values, vectors = scipy.linalg.eigh(A * np.outer(scale, scale))
        else:
            values, vectors = scipy.linalg.eigh_tridiagonal(
                diagonal * scale**2, -flow * scale[1:] * scale[:-1]
            )
        return np.maximum(values, 0.0), vectors * scale[:, None]


def masked_ratio(
    grid: Grid,
    box: Box,
    active: np.ndarray,
    diffusivities: Sequence[float],
    delta: float,
) -> np.ndarray:
    """Variance under the mask over that of the box, in the owned cells. Collective."""
    lengths = [np.sqrt(D / delta) for D in diffusivities]
    factors = [1] * grid.dim
    if np.count_nonzero(active) > EXACT:
        factors = [
            int(np.clip(length / (CELLS_A_LENGTH * np.median(w)), 1, w.size))
            for length, w in zip(lengths, box.widths, strict=True)
        ]
    coarse = Coarse(box, active, factors, diffusivities, delta)
    whole = coarse.box.variance(diffusivities, delta, (slice(None),) * grid.dim)
    ratio = np.where(
        coarse.volume > 0,
        coarse.variance_by_windows(whole, lengths, grid.comm) / whole,
        0.0,
    )
    return interpolated(
        ratio,
        coarse.volume > 0,
        coarse.box.centers,
        [box.centers[d][grid.local_slice[d]] for d in range(grid.dim)],
    )


class Coarse:
    """Cells that hold several: their active volumes, and the conductances of the open faces between
    them."""

    def __init__(
        self,
        box: Box,
        active: np.ndarray,
        factors: Sequence[int],
        diffusivities: Sequence[float],
        delta: float,
    ):
        self.starts = [
            np.arange(0, n, f) for n, f in zip(active.shape, factors, strict=True)
        ]
        edges = tuple(
            np.append(e[s], e[-1]) for e, s in zip(box.edges, self.starts, strict=True)
        )
        self.box, self.delta = Box(edges, box.periodic, box.radial), delta
        volume = active.astype(float)
        for d, measure in enumerate(box.geometry.measures):
            volume = volume * self._along(measure, d)
        self.volume = self._sums(volume, range(active.ndim))
        self.conductances = [
            D * self._areas(box, active, d) / self._along(self.box.distances(d), d)
            for d, D in enumerate(diffusivities)
        ]

    def _along(self, values: np.ndarray, axis: int) -> np.ndarray:
        return values.reshape([-1 if e == axis else 1 for e in range(len(self.starts))])

    def _sums(self, values: np.ndarray, axes: Sequence[int] | range) -> np.ndarray:
        for d in axes:
            values = np.add.reduceat(values, self.starts[d], axis=d)
        return values

    def _areas(self, box: Box, active: np.ndarray, axis: int) -> np.ndarray:
        """Open area between coarse neighbours along an axis, one for each of their distances."""
        upper = self.starts[axis][1:]
        if self.box.distances(axis).size == self.starts[axis].size:
            upper = np.append(upper, 0)
        lower = (upper - 1) % active.shape[axis]
        both = np.take(active, lower, axis) & np.take(active, upper, axis)
        area = both.astype(float)
        others = [d for d in range(active.ndim) if d != axis]
        for d in others:
            area = area * self._along(box.geometry.measures[d], d)
        return self._sums(area, others) * self._along(self.box.faces(axis), axis)

    def variance_by_windows(
        self, whole: np.ndarray, lengths: Sequence[float], comm: MPI.Intracomm
    ) -> np.ndarray:
        """Variances of the coarse cells, and `whole` in windows that no outline is near.
        Collective."""
        shape = self.volume.shape
        halos = [
            int(np.ceil(HALO_LENGTHS * length / np.median(w)))
            for length, w in zip(lengths, self.box.widths, strict=True)
        ]
        if np.count_nonzero(self.volume) <= EXACT:
            windows: list[tuple[range, ...]] = [tuple(range(n) for n in shape)]
        else:
            core = max(int(WINDOW_CELLS ** (1 / len(shape)) / 2), 1)
            windows = list(
                product(
                    *[
                        [range(i, min(i + core, n)) for i in range(0, n, core)]
                        for n in shape
                    ]
                )
            )
        found = np.zeros(shape)
        with collective(comm):
            for number, window in enumerate(windows):
                if number % comm.size == comm.rank:
                    inside = np.ix_(*window)
                    found[inside] = self._window(window, halos, whole[inside])
        return reductions.total(comm, found)

    def _window(
        self, core: tuple[range, ...], halos: Sequence[int], whole: np.ndarray
    ) -> np.ndarray:
        """In the cells `core`, from the operator on them and the cells around."""
        around = []
        for d, (cells, halo) in enumerate(zip(core, halos, strict=True)):
            n = self.volume.shape[d]
            if len(cells) + 2 * halo >= n:
                around.append(np.arange(n))
            elif self.box.periodic[d]:
                around.append(np.arange(cells.start - halo, cells.stop + halo) % n)
            else:
                around.append(
                    np.arange(max(cells.start - halo, 0), min(cells.stop + halo, n))
                )
        volume = self.volume[np.ix_(*around)]
        wanted = volume > 0
        for d, cells in enumerate(core):
            wanted &= self._along(np.isin(around[d], cells), d)
        out = np.zeros(whole.shape)
        if not wanted.any():
            return out
        if self._untouched(around, volume):
            return whole
        matrix, numbers = self._matrix(around, volume)
        out[self.volume[np.ix_(*core)] > 0] = _diagonal(
            matrix, volume[volume > 0], numbers[wanted]
        )
        return out

    def _untouched(self, around: list[np.ndarray], volume: np.ndarray) -> bool:
        """Whether all cells of a window are active to their full volume."""
        full = np.ones(())
        for d, cells in enumerate(around):
            full = np.multiply.outer(full, self.box.geometry.measures[d][cells])
        return bool(np.allclose(volume, full, rtol=1e-9))

    def _matrix(
        self, around: list[np.ndarray], volume: np.ndarray
    ) -> tuple[scipy.sparse.csc_matrix, np.ndarray]:
        """K on the active cells of a window, closed at its ends, and their numbers [i, j, k] (-1:
        none)."""
        numbers = np.full(volume.shape, -1)
        numbers[volume > 0] = np.arange(np.count_nonzero(volume > 0))
        rows, columns, values = (
            list[np.ndarray](),
            list[np.ndarray](),
            list[np.ndarray](),
        )
        for d, cells in enumerate(around):
            flow = self.conductances[d][
                np.ix_(
                    *[
                        a if e != d else np.arange(self.conductances[d].shape[d])
                        for e, a in enumerate(around)
                    ]
                )
            ]
            n = self.volume.shape[d]
            for place, cell in enumerate(cells):
                after = (place + 1) % cells.size
                if (
                    cells[after] != (cell + 1) % n
                    or cell >= flow.shape[d]
                    or place == after
                ):
                    continue
                value = np.take(flow, cell, d)
                a, b = np.take(numbers, place, d), np.take(numbers, after, d)
                open_ = (value > 0) & (a >= 0) & (b >= 0)
                rows.append(a[open_])
                columns.append(b[open_])
                values.append(value[open_])
        size = int(numbers.max()) + 1
        i, j, v = (
            np.concatenate(x) if x else np.zeros(0, int)
            for x in (rows, columns, values)
        )
        off = scipy.sparse.coo_matrix((v, (i, j)), (size, size)).tocsc()
        off = off + off.T
        diagonal = np.asarray(off.sum(axis=1)).ravel() + self.delta * volume[volume > 0]
        return (scipy.sparse.diags(diagonal) - off).tocsc(), numbers


def _diagonal(
    matrix: scipy.sparse.csc_matrix, mass: np.ndarray, cells: np.ndarray
) -> np.ndarray:
    """(K^-1 M K^-1)_ii of some cells."""
    import scipy.sparse.linalg

    factor = scipy.sparse.linalg.splu(matrix)
    out = np.empty(cells.size)
    for first in range(0, cells.size, COLUMNS):
        some = cells[first : first + COLUMNS]
        right = np.zeros((mass.size, some.size))
        right[some, np.arange(some.size)] = 1.0
        out[first : first + COLUMNS] = mass @ factor.solve(right) ** 2
    return out


def interpolated(
    values: np.ndarray,
    known: np.ndarray,
    centers: Sequence[np.ndarray],
    points: Sequence[np.ndarray],
) -> np.ndarray:
    """Multilinear between the known ones of the values at `centers`, on the tensor grid of
    `points`; 0 where none is near."""
    below, share = [], []
    for c, x in zip(centers, points, strict=True):
        i = np.clip(np.searchsorted(c, x, side="right") - 1, 0, max(c.size - 2, 0))
        below.append(i)
        share.append(
            np.clip((x - c[i]) / (c[i + 1] - c[i]), 0, 1)
            if c.size > 1
            else np.zeros(x.size)
        )
    shape = [x.size for x in points]
    total, weights = np.zeros(shape), np.zeros(shape)
    for corner in product((0, 1), repeat=len(points)):
        picks = np.ix_(
            *[
                np.minimum(i + up, c.size - 1)
                for i, up, c in zip(below, corner, centers, strict=True)
            ]
        )
        weight: np.ndarray = np.ones(())
        for part, up in zip(share, corner, strict=True):
            weight = np.multiply.outer(weight, part if up else 1 - part)
        weight = weight * known[picks]
        total += weight * values[picks]
        weights += weight
    return total / np.where(weights > 0, weights, 1.0)
