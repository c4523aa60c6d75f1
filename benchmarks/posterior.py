"""The Laplace posterior: against its closed form, over grids, in time, and its samples.

    python benchmarks/posterior.py --data DIR [--sizes 64 128 256] [--draws 10000]

DIR (or NPDE_DATA) has log_coefficient/observations.npz or observations.npz itself. Seconds are of
the processor, the second of two runs of each size; ratios are those of one process.
"""

from __future__ import annotations

import os
import time

import numpy as np
from common import Row, comm, log_coefficient, log_grid, parser, report
from log_coefficient import observations
from petsc4py import PETSc

from npde_opt import nested
from npde_opt.forward import Equation, Experiment, Steady
from npde_opt.grids import Grid
from npde_opt.linear.accuracy import tight
from npde_opt.misfits import LeastSquares
from npde_opt.objective import Objective
from npde_opt.observations import voxels
from npde_opt.optimizers import Settings, minimize
from npde_opt.parameters import ParameterSpace, Unknown
from npde_opt.posterior import Laplace, PosteriorSettings
from npde_opt.posterior.whole import Whole
from npde_opt.regularizers import BiLaplacian
from npde_opt.terms import Diffusion, Reaction, Source

SHOWN = (1, 5, 10, 20, 30, 40)
"""Numbers of eigenvalues that are compared over grids: those above 1."""
SAMPLES = 100
SIGMA, RATE, GAMMA, DELTA, CELLS = 0.05, 0.7, 0.02, 0.8, (8, 6)


# ---- a problem whose posterior is known -----------------------------------------------------


def linear() -> tuple[Objective, PETSc.Vec, np.ndarray, np.ndarray]:
    """-lap u + r u = f without flux, f from u in every cell, at its minimizer; mean and covariance
    in closed form, by cosines (x fastest)."""
    parts = []
    for n in CELLS:
        k, i = np.arange(n)[:, None], np.arange(n)[None, :]
        phi = np.cos(np.pi * k * (i + 0.5) / n) * np.sqrt(np.where(k, 2, 1) / n)
        parts.append((phi, (2 * n * np.sin(np.pi * np.arange(n) / (2 * n))) ** 2))
    (a, mu), (b, nu) = parts
    phi = np.einsum("ki,lj->lkji", a, b).reshape(mu.size * nu.size, -1)
    total = (nu[:, None] + mu[None, :]).ravel()
    y = np.random.default_rng(3).standard_normal(total.size)
    p = (DELTA + GAMMA * total) ** 2 / total.size
    d = 1 / (SIGMA * (total + RATE)) ** 2
    mean = phi.T @ ((phi @ y) / (SIGMA**2 * (total + RATE)) / (p + d))
    grid = Grid(CELLS, comm=comm)
    space = ParameterSpace(grid, [Unknown("f", "identity")])
    terms = [
        Diffusion(grid, "D"),
        Reaction(grid, "r"),
        Source(grid, ["u"], "u", "f"),
    ]
    runs = [Experiment(samplings=[voxels(grid, (), grid.edges)])]
    forward = Steady(space, Equation(grid, terms), {"D": 1.0, "r": RATE}, runs)
    misfit = LeastSquares(y[:, None], SIGMA, forward.layouts[0])
    J = Objective(forward, [misfit], {"f": BiLaplacian(grid, 1.0, None, GAMMA, DELTA)})
    m = minimize(J, space.create_vec(), Settings(gradient_rtol=1e-12)).m
    return J, m, mean, (phi.T / (p + d)) @ phi


def natural(grid: Grid, vec: PETSc.Vec) -> np.ndarray:
    """All cells, x fastest, on every rank."""
    numbers = np.arange(grid.size).reshape(grid.shape, order="F")[grid.local_slice]
    places = np.concatenate(comm.allgather(numbers.ravel(order="F")))
    found = np.empty(grid.size)
    found[places] = np.concatenate(comm.allgather(vec.getArray(readonly=True).copy()))
    return found


def closed_form(draws: int) -> list[Row]:
    """Errors of mean and variance, and of the covariance of samples in units of their own error."""
    with tight():
        J, m, mean, C = linear()
        at = J.linearize(m)
        settings = PosteriorSettings(cut=1e-9, rtol=1e-8, prior_rtol=1e-12)
        found = Laplace(at, settings)
    grid, vec = J.space.grid, J.space.create_vec()
    vec.setArray(found.variance)
    wrong = np.abs(natural(grid, m) - mean).max() / np.abs(mean).max()
    apart = np.abs(natural(grid, vec) / np.diag(C) - 1).max()
    total = np.zeros_like(C)
    for sample in found.posterior_samples(draws, seed=1):
        sample.axpy(-1.0, m)
        x = natural(grid, sample)
        total += np.outer(x, x)
        sample.destroy()
    # An entry of the sample covariance has the variance (C_ii C_jj + C_ij^2) / draws.
    own = np.sqrt((np.outer(np.diag(C), np.diag(C)) + C**2) / draws)
    errors = (total / draws - C) / own
    return [
        {"what": "closed form, mean", "found": f"{wrong:.1e}", "asked": "1e-6"},
        {"what": "closed form, variances", "found": f"{apart:.1e}", "asked": "1e-6"},
        {
            "what": f"covariance of {draws:,} draws, in its error: root mean square",
            "found": f"{np.sqrt(np.mean(errors**2)):.3f}",
            "asked": "about 1",
        },
        {
            "what": "the largest of its entries",
            "found": f"{np.abs(errors).max():.2f}",
            "asked": "below 4.5",
        },
    ]


# ---- log-coefficient over grids ---------------------------------------------------------------


def timed(n: int, xy: np.ndarray, data: np.ndarray) -> tuple[Row, np.ndarray]:
    """MAP by nested iteration, posterior with variances, sums over all directions as runs tell
    them, and samples; eigenvalues."""

    def build(grid: Grid) -> tuple[Objective, PETSc.Vec]:
        J = log_coefficient(grid, xy, data)
        return J, J.create_vec()

    settings = Settings(method="newton", gradient_rtol=1e-6)
    start = time.process_time()
    fit = nested.identify(log_grid(n), build, settings)
    at = fit.objective.linearize(fit.result.m)
    fitted = time.process_time()
    asked = PosteriorSettings()
    begin = nested.directions(at, build, asked)
    found = Laplace(at, asked, begin, sure=begin is not None)
    deviation = np.sqrt(found.variance)
    known = time.process_time()
    determined = Whole(found).determined
    summed = time.process_time()
    for sample in found.posterior_samples(SAMPLES):
        sample.destroy()
    ended = time.process_time()
    row: Row = {
        "cells": f"{n}^2",
        "MAP s": f"{fitted - start:.2f}",
        "posterior s": f"{known - fitted:.2f}",
        "sums s": f"{summed - known:.2f}",
        "samples s": f"{ended - summed:.2f}",
        "all / MAP": f"{(ended - start) / (fitted - start):.2f}",
        "products": found.pairs.products,
        "pairs": len(found.values),
        "above 1": int((found.values > 1).sum()),
        "determined": f"{determined.value:.2f} +- {determined.error:.2f}",
        "deviation": f"{np.sqrt(np.mean(deviation**2)):.4f}",
    }
    values = found.values
    for owned in (at, fit.result.m, fit.objective):
        owned.destroy()
    return row, values


def limits(values: dict[int, np.ndarray]) -> list[Row]:
    """Eigenvalues relative to those of the finest grid."""
    finest = values[max(values)]
    rows = []
    for n, own in values.items():
        row: Row = {"cells": f"{n}^2"}
        for k in SHOWN:
            if k <= min(len(own), len(finest)):
                row[f"x_{k} / finest"] = f"{own[k - 1] / finest[k - 1]:.4f}"
        rows.append(row)
    return rows


def main() -> None:
    p = parser("posterior", __doc__ or "")
    p.add_argument("--data", default=os.environ.get("NPDE_DATA"))
    p.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256])
    p.add_argument("--draws", type=int, default=10_000)
    options = p.parse_args()
    xy, data = observations(options.data)
    known = closed_form(options.draws)
    values, rows = {}, []
    for n in options.sizes:
        timed(n, xy, data)  # compiles, and fills caches
        row, values[n] = timed(n, xy, data)
        rows.append(row)
    report("posterior, known", known, options.out.with_name("posterior_known.json"))
    report("posterior", rows, options.out)
    report(
        "posterior, limits",
        limits(values),
        options.out.with_name("posterior_limits.json"),
    )


if __name__ == "__main__":
    main()
