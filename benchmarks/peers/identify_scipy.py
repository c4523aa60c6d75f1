"""log D of -div(D grad u) = 0 on n^2 cells, u = 0 below and 1 above, from u at 300 points: the sum
of squares over 2 sigma^2 and half |0.5 p - 0.1 lap p|^2, by Gauss-Newton and CG with the prior's
factors, discrete adjoints and nested iteration, to a gradient 1e-6 times the first one.

    python identify_scipy.py n cholmod|superlu
"""

from __future__ import annotations

import sys

import numpy as np
import scipy.ndimage
import scipy.sparse as sp
from clock import answer
from factors import Factors, faces

SIGMA, GAMMA, DELTA, COARSEST = 0.01, 0.1, 0.5, 16
XY = np.random.default_rng(1).uniform(0.05, 0.95, (300, 2))
DATA = XY[:, 1] + 0.05 * np.sin(6 * XY[:, 0])


def points(n: int) -> sp.csr_matrix:
    """Bilinear interpolation between cell centres."""
    at = np.clip(XY * n - 0.5, 0, n - 1 - 1e-12)
    (i, j), (s, t) = at.astype(int).T, (at - at.astype(int)).T
    rows = np.tile(np.arange(len(XY)), 4)
    columns = np.concatenate(
        [n * i + j, n * i + n + j, n * i + j + 1, n * i + n + j + 1]
    )
    weights = np.concatenate([(1 - s) * (1 - t), s * (1 - t), (1 - s) * t, s * t])
    return sp.csr_matrix((weights, (rows, columns)), shape=(len(XY), n * n))


class Problem:
    """On one grid."""

    def __init__(self, n: int, package: str):
        self.n, self.factors, self.seen = n, Factors(package), points(n)
        self.G, self.below, self.above = faces(n)
        number = np.arange(n * n).reshape(n, n)
        self.low, self.high = number[:, 0], number[:, -1]
        K = sp.csc_matrix(GAMMA * (self.G.T @ self.G) + sp.eye(n * n) * (DELTA / n**2))
        self.prior, solve = sp.csr_matrix(K @ K) * n**2, Factors(package)(K)
        self.root = solve

    def smooth(self, r: np.ndarray) -> np.ndarray:
        """The prior's inverse."""
        return self.root(self.root(r) / self.n**2)

    def solved(self, m: np.ndarray) -> float:
        """The objective at m, with the state."""
        k = self.k = np.exp(m)
        self.t = 2 / (1 / k[self.below] + 1 / k[self.above])
        ends = np.zeros(k.size)
        ends[self.low] += 2 * k[self.low]
        ends[self.high] += 2 * k[self.high]
        A = self.G.T @ sp.diags_array(self.t) @ self.G + sp.diags_array(ends)
        self.solve = self.factors(sp.csc_matrix(A))
        b = np.zeros(k.size)
        b[self.high] = 2 * k[self.high]
        self.u = self.solve(b)
        self.misfit = self.seen @ self.u - DATA
        return 0.5 * float(self.misfit @ self.misfit / SIGMA**2 + m @ (self.prior @ m))

    def change(self, dm: np.ndarray) -> np.ndarray:
        """Of A u - b with log D."""
        half = self.t**2 / 2
        dt = half * (
            dm[self.below] / self.k[self.below] + dm[self.above] / self.k[self.above]
        )
        out: np.ndarray = self.G.T @ (dt * (self.G @ self.u))
        out[self.low] += 2 * self.k[self.low] * dm[self.low] * self.u[self.low]
        out[self.high] += (
            2 * self.k[self.high] * dm[self.high] * (self.u[self.high] - 1)
        )
        return out

    def pull(self, p: np.ndarray) -> np.ndarray:
        """The transpose of `change`."""
        part = self.t**2 / 2 * (self.G @ p) * (self.G @ self.u)
        size = self.k.size
        out = np.bincount(self.below, part / self.k[self.below], size)
        out += np.bincount(self.above, part / self.k[self.above], size)
        out[self.low] += 2 * self.k[self.low] * p[self.low] * self.u[self.low]
        out[self.high] += 2 * self.k[self.high] * p[self.high] * (self.u[self.high] - 1)
        return out

    def gradient(self, m: np.ndarray) -> np.ndarray:
        adjoint = -self.solve(self.seen.T @ self.misfit / SIGMA**2)
        found: np.ndarray = self.prior @ m + self.pull(adjoint)
        return found

    def product(self, v: np.ndarray) -> np.ndarray:
        du = self.solve(self.change(v))
        back = self.solve(self.seen.T @ (self.seen @ du) / SIGMA**2)
        found: np.ndarray = self.prior @ v + self.pull(back)
        return found


def step(P: Problem, g: np.ndarray, forcing: float) -> np.ndarray:
    """CG for H x = -g with the prior's inverse."""
    x, r = np.zeros(g.size), -g
    z = P.smooth(r)
    p, rz = z, float(r @ z)
    first = rz
    for _ in range(200):
        H = P.product(p)
        a = rz / float(p @ H)
        x, r = x + a * p, r - a * H
        z = P.smooth(r)
        rz, last = float(r @ z), rz
        if rz <= forcing**2 * first:
            break
        p = z + rz / last * p
    return x


def minimize(
    P: Problem, m: np.ndarray, first: float, rtol: float
) -> tuple[np.ndarray, float]:
    """From m to a gradient rtol times `first`, which is that of m where it is 0."""
    J = P.solved(m)
    for _ in range(50):
        g = P.gradient(m)
        norm = float(np.linalg.norm(g)) * P.n
        first = first or norm
        if norm <= rtol * first:
            break
        x, length = step(P, g, min(0.5, (norm / first) ** 0.5)), 1.0
        while (new := P.solved(m + length * x)) > J + 1e-4 * length * float(g @ x):
            length /= 2
            if length < 1e-4:
                break
        m, J = m + length * x, new
    return m, first


def main() -> None:
    n, package = int(sys.argv[1]), sys.argv[2]

    def identify() -> dict[str, float]:
        sizes = [n]
        while sizes[0] > COARSEST:
            sizes.insert(0, sizes[0] // 2)
        m, first = np.zeros(sizes[0] ** 2), 0.0
        for size in sizes:
            if m.size < size**2:
                square = m.reshape(size // 2, size // 2)
                m = scipy.ndimage.zoom(
                    square, 2, order=3, mode="nearest", grid_mode=True
                ).ravel()
            P = Problem(size, package)
            m, first = minimize(P, m, first, 1e-6 if size == n else 1e-3)
        return {"value": P.solved(m)}

    answer(identify, repeats=1)


main()
