"""y = (P_z (x) P_y (x) P_x) u with one small dense complex matrix an axis, on states of two
channels, the real and the imaginary part: propagation through a medium that does not vary on the
way.

Where the rate of an axis does not depend on the others, as that of a Laplacian and of absorbing
layers at the sides does not,

    i g du/dz = (A_x + A_y) u - i (B_x + B_y) u,   P_d = exp(-(i A_d + B_d) z / g)

is the exact propagator of the cells over a length z, for any z.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.errors import InputError
from npde_opt.forward.equation import Equation
from npde_opt.forward.linear_part import LinearPart
from npde_opt.grids import AXES, Grid
from npde_opt.grids.layout import Layout
from npde_opt.networks.matrices import on_channels
from npde_opt.networks.place import Place
from npde_opt.packages import scipy
from npde_opt.terms import Diffusion
from npde_opt.terms.absorbing import absorbing_rate

DUST = 1e-20
"""Of the largest entry."""


class Lines:
    """Args:
    source: of two channels.
    factors: by axis x, y, z the matrices P, complex (cells behind, cells before).
    target: where results lie, by default the same cells; its ranks lie as those of the source.

    Raises:
        InputError: for matrices of other sizes, and ranks that lie otherwise.
    """

    def __init__(
        self, source: Place, factors: Sequence[np.ndarray], target: Place | None = None
    ):
        self.source = source.with_channels(2)
        self.target = (target or source).with_channels(2)
        check_factors(self.source, self.target, factors)
        self.factors = [_without_dust(np.asarray(f, complex)) for f in factors]
        self._adjoints = [np.ascontiguousarray(f.conj().T) for f in self.factors]

    def apply(self, u: np.ndarray) -> np.ndarray:
        return self._through(self.factors, u, self.source.layout, self.target.layout)

    def transpose(self, y: np.ndarray) -> np.ndarray:
        """Of the real form the transpose is the conjugate transpose."""
        return self._through(self._adjoints, y, self.target.layout, self.source.layout)

    def _through(
        self,
        factors: Sequence[np.ndarray],
        u: np.ndarray,
        before: Layout,
        after: Layout,
    ) -> np.ndarray:
        kind = np.complex64 if u.dtype == np.float32 else np.complex128
        field = np.empty(u.shape[1:], kind)
        field.real, field.imag = u
        for d, factor in enumerate(factors):
            P = factor.astype(kind, copy=False)
            field = along(self.source.comm, d, P, field, before, after)
        return np.stack([field.real, field.imag])

    def matrix(self) -> PETSc.Mat:
        """Dense: for small grids."""
        parts = [self.cells(True), self.cells(False)]
        turn = np.array([[0.0, -1.0], [1.0, 0.0]])
        found, other = on_channels(parts[0], np.eye(2)), on_channels(parts[1], turn)
        found.axpy(1.0, other)
        for item in (*parts, other):
            item.destroy()
        return found

    def cells(self, real: bool) -> PETSc.Mat:
        """The real part of the product of the factors between cells, or the imaginary one. The
        caller destroys it."""
        whole = product_of(self.factors)
        return between_cells(
            self.source, self.target, whole.real if real else whole.imag
        )


def check_factors(source: Place, target: Place, factors: Sequence[np.ndarray]) -> None:
    """Raises InputError for matrices of other sizes, and ranks that lie otherwise."""
    before, after = source.layout, target.layout
    sizes = [f.shape for f in factors]
    wanted = list(zip(after.shape, before.shape, strict=True))
    if sizes != wanted:
        raise InputError("factors", sizes, f"{wanted}, one an axis")
    if after.processes != before.processes:
        allowed = f"{before.processes}, as before"
        raise InputError("ranks by axis", after.processes, allowed)


def along(
    comm: MPI.Intracomm,
    d: int,
    P: np.ndarray,
    field: np.ndarray,
    before: Layout,
    after: Layout,
) -> np.ndarray:
    """P along axis d of [s, k, j, i]. Collective where ranks share that axis."""
    if before.processes[d] == 1:
        return _product(P, field, d)
    start, count = before.start[d], before.local_shape[d]
    found = _product(P[:, start : start + count], field, d)
    parts = np.split(found, np.cumsum(after.counts[d])[:-1], axis=field.ndim - 1 - d)
    sent: list[np.ndarray | None] = [None] * comm.size
    for rank, part in zip(_row(before, d), parts, strict=True):
        sent[rank] = part
    return np.asarray(sum(p for p in comm.alltoall(sent) if p is not None))


def product_of(factors: Sequence[np.ndarray]) -> np.ndarray:
    """Their Kronecker product, of which x is fastest."""
    whole = np.ones((1, 1))
    for factor in factors:
        whole = np.kron(factor, whole)
    return whole


def between_cells(source: Place, target: Place, whole: np.ndarray) -> PETSc.Mat:
    """A dense matrix (cells of the target, cells of the source), x fastest, as one of PETSc's. The
    caller destroys it."""
    before, after = source.layout, target.layout
    mesh = np.meshgrid(*(np.arange(n) for n in before.shape), indexing="ij")
    every = before.global_index([m.ravel(order="F") for m in mesh])
    own = after.owned_mesh()
    mine = whole[np.ravel_multi_index(own, after.shape, order="F")]
    found = PETSc.Mat().create(comm=source.comm)
    found.setSizes(((after.local_size, None), (before.local_size, None)))
    found.setType("aij")
    rows = np.repeat(after.global_index(own), every.size).astype(PETSc.IntType)
    columns = np.tile(every, len(mine)).astype(PETSc.IntType)
    found.setPreallocationCOO(rows, columns)
    found.setValuesCOO(np.ascontiguousarray(mine).ravel())
    return found


def _without_dust(P: np.ndarray) -> np.ndarray:
    """P with 0 where an entry is far below rounding: in single precision it would be a number that
    processors are slow with."""
    found = P.copy()
    for part in (found.real, found.imag):
        part[np.abs(part) < DUST * np.abs(P).max()] = 0
    return found


def _row(layout: Layout, d: int) -> list[int]:
    """The ranks of this rank's row along axis d."""
    place = list(layout.position)
    row = [[*place[:d], p, *place[d + 1 :]] for p in range(layout.processes[d])]
    return [int(np.ravel_multi_index(r, layout.processes, order="F")) for r in row]


def _product(P: np.ndarray, field: np.ndarray, d: int) -> np.ndarray:
    """P along axis d, the last but d, of [s, k, j, i]: one product of matrices a plane, or one for
    all along x."""
    if d == 0:
        rows = field.reshape(-1, field.shape[-1]) @ P.T
        return rows.reshape(*field.shape[:-1], P.shape[0])
    axis = field.ndim - 1 - d
    behind = math.prod(field.shape[axis + 1 :])
    flat = field.reshape(*field.shape[: axis + 1], behind)
    found = P @ flat
    return found.reshape(*field.shape[:axis], P.shape[0], *field.shape[axis + 1 :])


def propagation(
    grid: Grid,
    length: float,
    wavenumber: float,
    absorbing: Mapping[str, float] | None = None,
    speed: float = 1.0,
    depth: float = 5.0,
) -> Lines:
    """The paraxial step 2ik du/dz = -lap u over a length in a uniform medium.

    Args:
        wavenumber: k.
        absorbing: {side: width} of layers that absorb waves of `speed`, the tangent of the angle
            at which they arrive; see terms/absorbing.py.

    Raises:
        InputError: for lengths and numbers that are not positive, and radial or masked grids.
    """
    for name, value in (("length", length), ("wavenumber", wavenumber)):
        if not 0 < value < np.inf:
            raise InputError(name, value, "a number > 0")
    if grid.radial or grid.mask is not None:
        raise InputError("grid", "radial, or with inactive cells", "a box of cells")
    factors = []
    for d in range(grid.dim):
        line = _line(grid, d)
        layers = {
            f"x{s[1]}": w for s, w in (absorbing or {}).items() if s[0] == AXES[d]
        }
        W = absorbing_rate(line, layers, speed, depth)
        rate = 1j * second_difference(line) / (2 * wavenumber) + np.diag(W)
        factors.append(scipy.linalg.expm(-length * rate))
    return Lines(Place.on(grid, 2), factors)


def _line(grid: Grid, d: int) -> Grid:
    """Axis d alone, on every rank."""
    sides = {f"x{s}": grid.boundaries[AXES[d] + s] for s in "-+"}
    shape, edges = (grid.shape[d],), [grid.edges[d]]
    return Grid(shape, edges=edges, boundaries=sides, comm=MPI.COMM_SELF)


def second_difference(line: Grid) -> np.ndarray:
    """-d2/dx2 on a grid of one axis on one rank, as a dense matrix (n, n)."""
    part = LinearPart(Equation(line, [Diffusion(line, "one")]))
    part.assemble(part.points_at({"one": 1.0}))
    starts, columns, values = part.matrices[0].mat.getValuesCSR()
    shape = (line.size, line.size)
    A = (
        scipy.sparse.csr_matrix((values, columns, starts), shape).toarray()
        / part.mass[:, None]
    )
    part.destroy()
    return np.asarray(A)
