"""y = (P_z (x) P_y (x) P_x) u with one small dense complex matrix an axis, on states of two
channels, the real and the imaginary part: propagation through a medium that does not vary on the
way.

Where the rate of an axis does not depend on the others, as that of a Laplacian and of absorbing
layers at the sides does not,

    i g du/dz = (A_x + A_y) u - i (B_x + B_y) u,   P_d = exp(-(i A_d + B_d) z / g)

is the exact propagator of the cells over a length z, for any z.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import scipy.linalg
import scipy.sparse
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.errors import InputError
from npde_opt.forward.equation import Equation
from npde_opt.forward.linear_part import LinearPart
from npde_opt.grids import AXES, Grid
from npde_opt.networks.matrices import on_channels
from npde_opt.networks.place import Place
from npde_opt.terms import Diffusion
from npde_opt.terms.absorbing import absorbing_rate


class Lines:
    """Args:
    source: of two channels.
    factors: by axis x, y, z the matrices P, complex (n, n).

    Raises:
        InputError: for matrices of other sizes.
    """

    def __init__(self, source: Place, factors: Sequence[np.ndarray]):
        sizes = [f.shape for f in factors]
        if sizes != [(n, n) for n in source.layout.shape]:
            raise InputError("factors", sizes, f"one (n, n) an axis of {source.layout.shape}")
        self.source = self.target = source.with_channels(2)
        self.factors = [np.asarray(f, complex) for f in factors]
        self._adjoints = [np.ascontiguousarray(f.conj().T) for f in self.factors]

    def apply(self, u: np.ndarray) -> np.ndarray:
        return self._through(self.factors, u)

    def transpose(self, y: np.ndarray) -> np.ndarray:
        """Of the real form the transpose is the conjugate transpose."""
        return self._through(self._adjoints, y)

    def _through(self, factors: Sequence[np.ndarray], u: np.ndarray) -> np.ndarray:
        kind = np.complex64 if u.dtype == np.float32 else np.complex128
        field = np.empty(u.shape[1:], kind)
        field.real, field.imag = u
        for d, factor in enumerate(factors):
            field = self._along(d, factor.astype(kind, copy=False), field)
        return np.stack([field.real, field.imag])

    def _along(self, d: int, P: np.ndarray, field: np.ndarray) -> np.ndarray:
        """P along axis d of [s, k, j, i]."""
        if self._row(d) == 1:
            return _product(P, field, d)
        layout, comm = self.source.layout, self.source.comm
        start, count = layout.start[d], layout.local_shape[d]
        found = _product(P[:, start : start + count], field, d)
        ends = np.cumsum(layout.counts[d])[:-1]
        parts = np.split(found, ends, axis=field.ndim - 1 - d)
        sent: list[np.ndarray | None] = [None] * comm.size
        for rank, part in zip(self._ranks(d), parts, strict=True):
            sent[rank] = part
        return np.asarray(sum(p for p in comm.alltoall(sent) if p is not None))

    def _row(self, d: int) -> int:
        """Ranks along axis d."""
        return self.source.layout.processes[d]

    def _ranks(self, d: int) -> list[int]:
        """Those of this rank's row along axis d."""
        layout = self.source.layout
        place = list(layout.position)
        rows = [[*place[:d], p, *place[d + 1 :]] for p in range(self._row(d))]
        return [int(np.ravel_multi_index(r, layout.processes, order="F")) for r in rows]

    def matrix(self) -> PETSc.Mat:
        """Dense: for small grids."""
        whole = np.ones((1, 1), complex)
        for factor in self.factors:
            whole = np.kron(factor, whole)
        layout = self.source.layout
        mesh = np.meshgrid(*(np.arange(n) for n in layout.shape), indexing="ij")
        every = layout.global_index([m.ravel(order="F") for m in mesh])
        own = layout.owned_mesh()
        mine = np.ravel_multi_index(own, layout.shape, order="F")
        rows = np.repeat(layout.global_index(own), every.size)
        columns = np.tile(every, len(mine))
        parts = [self._cells(rows, columns, part) for part in (whole.real[mine], whole.imag[mine])]
        turn = np.array([[0.0, -1.0], [1.0, 0.0]])
        found, other = on_channels(parts[0], np.eye(2)), on_channels(parts[1], turn)
        found.axpy(1.0, other)
        for item in (*parts, other):
            item.destroy()
        return found

    def _cells(self, rows: np.ndarray, columns: np.ndarray, values: np.ndarray) -> PETSc.Mat:
        own = self.source.layout.local_size
        found = PETSc.Mat().create(comm=self.source.comm)
        found.setSizes(((own, None), (own, None)))
        found.setType("aij")
        found.setPreallocationCOO(rows.astype(PETSc.IntType), columns.astype(PETSc.IntType))
        found.setValuesCOO(np.ascontiguousarray(values).ravel())
        return found


def _product(P: np.ndarray, field: np.ndarray, d: int) -> np.ndarray:
    """P along axis d, the last but d, of [s, k, j, i]: one product of matrices a plane, or one for
    all along x."""
    if d == 0:
        rows = field.reshape(-1, field.shape[-1]) @ P.T
        return rows.reshape(*field.shape[:-1], P.shape[0])
    axis = field.ndim - 1 - d
    flat = field.reshape(*field.shape[: axis + 1], -1)
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
    if grid.radial or grid.active_global is not None:
        raise InputError("grid", "radial, or with inactive cells", "a box of cells")
    factors = []
    for d in range(grid.dim):
        line = _line(grid, d)
        layers = {f"x{s[1]}": w for s, w in (absorbing or {}).items() if s[0] == AXES[d]}
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
    A = scipy.sparse.csr_matrix((values, columns, starts), shape).toarray() / part.mass[:, None]
    part.destroy()
    return np.asarray(A)
