"""The benchmark of Aristoff and Bangerth (arXiv 2102.07263): 64 coefficients from 169 values.

    -div(theta grad u) = 10 on the unit square, u = 0 around, theta constant on 8 x 8 squares,

bilinear elements on 32 x 32, u at 13 x 13 points with sigma 0.05. Its density of theta, likelihood
times prod exp(-(log theta)^2 / 8), is in log theta that of the prior N(4, 2^2), as d theta = theta
d log theta. Data are those of the true theta (1; 0.1 on four squares, 10 on four others) on
256 x 256; the published ones are within 2e-4 of them.

    python benchmarks/bayesian_poisson.py [--method hmc] [--chains 4] [--steps 50000]
    python benchmarks/bayesian_poisson.py --chains 1 --leaps 6 --temperatures 10
    mpirun -n 2 python benchmarks/bayesian_poisson.py --folder DIR     # chains over the ranks

goes on where DIR has chains of before. Prints means of theta with their Monte Carlo errors,
effective samples, and how far the means of squares that mirror each other are apart, in these
errors. `--means FILE` (64 numbers) sets published ones beside them.

The elements are a forward map of the user's own, as docs/extending.md has them. They agree to 1e-12
with the values that are published with the benchmark for tests. Finite differences on the same
32 x 32 cells predict the data of the true theta to 0.17 of sigma: too far for means that are
compared with published ones.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from common import Row, comm, parser, report
from mpi4py import MPI
from petsc4py import PETSc
from scipy.linalg.lapack import dpbtrf, dpbtrs
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.linalg import spsolve

from npde_opt.errors import InputError, SolverError
from npde_opt.forward.interface import AdjointStates, Counters
from npde_opt.grids import Grid
from npde_opt.misfits import LeastSquares
from npde_opt.objective import Objective
from npde_opt.observations import DataBlock, DataLayout, Metric
from npde_opt.optimizers import Settings, minimize
from npde_opt.parameters import ParameterSpace, Shared, Unknown
from npde_opt.posterior import Laplace, PosteriorSettings
from npde_opt.regularizers import SmallPrior
from npde_opt.sampling import SamplingSettings, diagnose, sample
from npde_opt.sampling.diagnostics import Diagnosis
from npde_opt.sampling.settings import METHODS

SQUARES, CELLS, FINE, POINTS = 8, 32, 256, 13
SIGMA, MEAN, WIDE, LOAD = 0.05, 4.0, 2.0, 10.0
ELEMENT = (
    np.array([[4, -1, -2, -1], [-1, 4, -1, -2], [-2, -1, 4, -1], [-1, -2, -1, 4]]) / 6.0
)
"""Stiffness of bilinear functions on a square, corners in turn."""


class Mesh:
    """Bilinear elements on n x n squares; nodes by rows, those of the boundary left out.

    Attributes:
        corners: (n^2, 4) numbers of inner nodes, -1 on the boundary.
        square: (n^2,) of the 64 that a cell lies in.
        seen: (169, nodes), what points see, sparse; given: its transpose.
    """

    def __init__(self, n: int):
        self.n, inner = n, n - 1
        self.count = inner**2
        number = np.full((n + 1, n + 1), -1)
        number[1:-1, 1:-1] = np.arange(self.count).reshape(inner, inner)
        i, j = (
            a.ravel() for a in np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
        )
        self.corners = np.stack(
            [number[i, j], number[i + 1, j], number[i + 1, j + 1], number[i, j + 1]], 1
        )
        self.square = i * SQUARES // n + SQUARES * (j * SQUARES // n)
        self.load = np.full(self.count, LOAD / n**2)
        self.seen = csr_matrix(self._seen(number))
        self.given = csr_matrix(self.seen.T)

    def _seen(self, number: np.ndarray) -> np.ndarray:
        """By bilinear interpolation."""
        at = np.arange(1, POINTS + 1) / (POINTS + 1) * self.n
        cell, share = at.astype(int), at % 1
        rows = np.zeros((POINTS, POINTS, self.count))
        for a in range(POINTS):
            for b in range(POINTS):
                for da in (0, 1):
                    for db in (0, 1):
                        k = number[cell[a] + da, cell[b] + db]
                        weight = abs(1 - da - share[a]) * abs(1 - db - share[b])
                        if k >= 0:
                            rows[a, b, k] += weight
        return rows.reshape(POINTS**2, self.count)

    @cached_property
    def entries(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(row, column, value of theta = 1, cell) of all that the matrix is a sum of."""
        rows, columns = np.repeat(self.corners, 4, 1), np.tile(self.corners, (1, 4))
        cells = np.repeat(np.arange(self.n**2)[:, None], 16, 1)
        values = np.broadcast_to(ELEMENT.ravel(), rows.shape)
        kept = (rows >= 0) & (columns >= 0)
        return rows[kept], columns[kept], values[kept], cells[kept]

    def solution(self, theta: np.ndarray) -> np.ndarray:
        """u, by a sparse factorization."""
        rows, columns, values, cells = self.entries
        own = values * theta[self.square[cells]]
        A = coo_matrix((own, (rows, columns)), shape=(self.count,) * 2).tocsc()
        return np.asarray(spsolve(A, self.load))

    @cached_property
    def bands(self) -> csr_matrix:
        """(nodes x bands of lower entries, 64): all of them as a matrix times theta."""
        rows, columns, values, cells = self.entries
        low = rows >= columns
        place = columns[low] * (self.n + 1) + (rows - columns)[low]
        shape = ((self.n + 1) * self.count, SQUARES**2)
        of = self.square[cells[low]]
        return csr_matrix((values[low], (place, of)), shape=shape)

    def factors(self, theta: np.ndarray) -> np.ndarray:
        """Cholesky factors, by bands.

        Raises:
            SolverError: where theta is too small or too large for factors.
        """
        bands = (self.bands @ theta).reshape(self.count, self.n + 1).T
        factors, info = dpbtrf(bands, lower=1, overwrite_ab=1)
        if info:
            raise SolverError("elements", "no Cholesky factors", "theta overflows")
        return np.asarray(factors)

    def products(self, u: np.ndarray) -> np.ndarray:
        """(64, nodes): A_k u of every square's part of A = sum theta_k A_k."""
        padded = np.append(u, 0.0)
        images = padded[self.corners] @ ELEMENT
        place = self.square[:, None] * (self.count + 1) + self.corners % (
            self.count + 1
        )
        size = SQUARES**2 * (self.count + 1)
        found = np.bincount(place.ravel(), images.ravel(), size)
        return found.reshape(SQUARES**2, -1)[:, :-1]

    def forms(self, w: np.ndarray, u: np.ndarray) -> np.ndarray:
        """(64,): w^T A_k u of every square."""
        a, b = (np.append(x, 0.0)[self.corners] for x in (w, u))
        cells = np.einsum("ci,ci->c", a, b @ ELEMENT)
        return np.bincount(self.square, cells, SQUARES**2)


class Elements:
    """The map from log theta to the data: a ForwardMap on one rank."""

    def __init__(self) -> None:
        self.mesh = Mesh(CELLS)
        self.grid = Grid((SQUARES, SQUARES), comm=MPI.COMM_SELF)
        self.space = ParameterSpace(
            self.grid, [Unknown("theta", "log", block=Shared(SQUARES**2))]
        )
        self.counters, self.experiments = Counters(), [None]
        count = POINTS**2
        self.layouts = [DataLayout(MPI.COMM_SELF, count, np.arange(count), (0,))]

    def linearize(self, m: PETSc.Vec, columns: Sequence[int] | None = None) -> At:
        if columns not in (None, [0]):
            raise InputError("columns", columns, "the one experiment")
        return At(self, np.exp(m.getArray(readonly=True)))

    def destroy(self) -> None:
        """Nothing to destroy."""


class At:
    """The map at theta: z = M u, A u = b, and with t = theta d(log theta)

    dz = -M A^-1 sum_k t_k A_k u,   J^T r = -theta_k (A_k u)^T w,   w = A^-1 M^T r.
    """

    def __init__(self, forward: Elements, theta: np.ndarray):
        self.forward, self.theta, self.mesh = forward, theta, forward.mesh
        self.factors = self.mesh.factors(theta)
        self.u = self._solve(self.mesh.load)
        forward.counters.forward_solves += 1
        layout = forward.layouts[0]
        self.data = [DataBlock(layout, (self.mesh.seen @ self.u)[:, None])]

    def _solve(self, b: np.ndarray) -> np.ndarray:
        return np.asarray(dpbtrs(self.factors, b, lower=1)[0])

    @cached_property
    def images(self) -> np.ndarray:
        """theta_k A_k u (64, nodes)."""
        return np.asarray(self.mesh.products(self.u) * self.theta[:, None])

    def apply(self, dm: PETSc.Vec) -> list[DataBlock]:
        du = self._solve(-dm.getArray(readonly=True) @ self.images)
        self.forward.counters.forward_solves += 1
        return [DataBlock(self.forward.layouts[0], (self.mesh.seen @ du)[:, None])]

    def adjoint_states(self, d: Sequence[DataBlock]) -> AdjointStates:
        self.forward.counters.adjoint_solves += 1
        return self._solve(self.mesh.given @ d[0].values[:, 0])

    def apply_adjoint(
        self, d: Sequence[DataBlock], adjoints: AdjointStates | None = None
    ) -> PETSc.Vec:
        w = self.adjoint_states(d) if adjoints is None else adjoints
        out = self.forward.space.create_vec()
        out.setArray(-self.theta * self.mesh.forms(w, self.u))
        return out

    def hessian(
        self,
        dm: PETSc.Vec,
        metrics: Sequence[Metric],
        out: PETSc.Vec,
        adjoints: AdjointStates,
    ) -> None:
        if adjoints is not None:
            raise InputError("method", "newton", "gauss-newton")
        seen = self.apply(dm)[0]
        metrics[0].apply(seen)
        found = self.apply_adjoint([seen])
        out.axpy(1.0, found)
        found.destroy()

    def destroy(self) -> None:
        """Nothing to destroy."""


def true_theta() -> np.ndarray:
    theta = np.ones((SQUARES, SQUARES))
    theta[1:3, 1:3], theta[5:7, 5:7] = 0.1, 10.0
    return theta.ravel()


def posterior() -> Laplace:
    """The Laplace approximation at the minimizer of -log density in log theta."""
    fine = Mesh(FINE)
    data = fine.seen @ fine.solution(true_theta())
    forward = Elements()
    misfit = LeastSquares(data[:, None], SIGMA, forward.layouts[0])
    prior = SmallPrior(MPI.COMM_SELF, SQUARES**2, reference=MEAN, deviation=WIDE)
    J = Objective(forward, [misfit], {"theta": prior})
    start = forward.space.from_values({"theta": np.ones(SQUARES**2)})
    found = minimize(J, start, Settings("gauss-newton", 200, gradient_rtol=1e-8))
    return Laplace(J.linearize(found.m), PosteriorSettings(cut=1e-3))


def sampled(
    laplace: Laplace, settings: SamplingSettings, folder: Path | None, begin: float
) -> np.ndarray:
    """theta of all chains, (chains, kept steps, 64); each rank runs its own."""
    names = [f"theta_{k}" for k in range(SQUARES**2)]

    def figures(m: PETSc.Vec) -> np.ndarray:
        return np.asarray(np.exp(m.getArray(readonly=True)))

    def watch(number: int, chain: object) -> None:
        done = getattr(chain, "progress").done  # noqa: B009
        print(
            f"rank {comm.rank}: {done:,} steps, {time.time() - begin:.0f} s", flush=True
        )

    own = None if folder is None else folder / f"rank-{comm.rank}"
    found = sample(laplace, settings, names, figures, own, watch=watch)
    print(
        f"rank {comm.rank}: steps {found.steps}, taken {found.acceptance}", flush=True
    )
    if found.swaps:
        pairs = zip(found.temperatures[1:], found.swaps, strict=True)
        told = ", ".join(f"{t:g} {rate:.0%}" for t, rate in pairs)
        print(f"rank {comm.rank}: exchanges with temperatures: {told}", flush=True)
    traces = comm.allgather(found.traces[:, :, 2:])
    return np.concatenate(traces)


def rows_of(found: list[Diagnosis], published: np.ndarray | None) -> list[Row]:
    rows: list[Row] = []
    for k, d in enumerate(found):
        row: Row = {
            "square": f"{k % SQUARES}, {k // SQUARES}",
            "mean": f"{d.mean:.5g}",
            "error": f"{d.error:.2g}",
            "deviation": f"{d.deviation:.3g}",
            "R-hat": f"{d.rhat:.3f}",
            "effective": f"{d.ess:.0f}",
        }
        if published is not None:
            row["published"] = f"{published[k]:.5g}"
            row["apart, in errors"] = f"{(d.mean - published[k]) / d.error:.1f}"
        rows.append(row)
    return rows


def mirrored(found: list[Diagnosis]) -> float:
    """Root mean square of differences of mirrored squares' means, in their errors: about 1."""
    means = np.array([d.mean for d in found]).reshape(SQUARES, SQUARES)
    errors = np.array([d.error for d in found]).reshape(SQUARES, SQUARES)
    above = np.triu_indices(SQUARES, 1)
    apart = (means - means.T) / np.hypot(errors, errors.T)
    return float(np.sqrt(np.mean(apart[above] ** 2)))


def main() -> None:
    p = parser("bayesian_poisson", __doc__ or "")
    p.add_argument("--method", choices=METHODS, default="hmc")
    p.add_argument("--chains", type=int, default=2, help="of every rank")
    p.add_argument("--steps", type=int, default=20_000)
    p.add_argument("--burn-in", type=int, default=2_000)
    p.add_argument("--every", type=int, default=10)
    p.add_argument("--leaps", type=int, default=10, help="of hmc")
    p.add_argument("--temperatures", type=int, default=1, help="of every chain")
    p.add_argument("--folder", type=Path)
    p.add_argument("--means", type=Path)
    o = p.parse_args()
    begin = time.time()
    laplace = posterior()
    settings = SamplingSettings(
        o.method,
        o.steps,
        o.burn_in,
        o.chains,
        0.2,
        o.every,
        1000,
        seed=1 + comm.rank,
        leaps=o.leaps,
        temperatures=o.temperatures,
    )
    theta = sampled(laplace, settings, o.folder, begin)
    found = [diagnose(f"theta_{k}", theta[:, :, k]) for k in range(SQUARES**2)]
    published = None if o.means is None else np.loadtxt(o.means).ravel()
    report("Bayesian Poisson, means of theta", rows_of(found, published), o.out)
    fewest, worst = min(d.ess for d in found), max(d.rhat for d in found)
    summary: Row = {
        "method": o.method,
        "samples": theta.shape[0] * o.steps,
        "fewest effective": f"{fewest:.0f}",
        "worst R-hat": f"{worst:.3f}",
        "mirrored squares, in errors": f"{mirrored(found):.2f}",
        "temperatures": o.temperatures,
        "seconds": f"{time.time() - begin:.0f}",
    }
    report("Bayesian Poisson", [summary], o.out.with_name("bayesian_poisson_sum.json"))


if __name__ == "__main__":
    main()
