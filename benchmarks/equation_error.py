"""Equations from noisy states: coefficients over seeds, beside the least error that noise allows.

OMP_NUM_THREADS=1 python benchmarks/equation_error.py --data DIR [--noise 0.05 --seeds 10]

For each term: its coefficient without noise; of the seeds with noise the mean, the standard
deviation, the worst relative error, and the error that the fit tells. `bound` is the standard
deviation of the best unbiased fit of real states whose first one is unknown (Cramer and Rao): no
method that sees the same states is better. `within` is the share of seeds that are off by at most
the share of the noise, `bound_within` that of estimates without bias at the bound. `missed` and
`invented` count seeds.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
from common import Row, parser, report

from npde_opt.pseudoinverse.equation_error import Observed, Term, library
from npde_opt.pseudoinverse.selection import Selected, select
from npde_opt.pseudoinverse.weak import Weak
from npde_opt.runs.discovery import WINDOW, observed


def chosen(seen: Observed, windows: list[int] | None) -> tuple[list[Term], Selected]:
    """The library and what is selected of it, with the driver's windows where none are given."""
    terms = library(np.iscomplexobj(seen.u))
    t, x = windows or [min(WINDOW, (len(axis) - 1) // 2) for axis in (seen.t, seen.x)]
    return terms, select(Weak(seen, terms, (t, x)))


def bound(
    seen: Observed, terms: list[Term], c: np.ndarray, size: float, every: int
) -> np.ndarray:
    """Standard deviations of c, with noise of `size` in all states, of which each `every`-th is
    followed: d_t du = A du + sum_j f_j dc_j from an unknown start, by Crank and Nicolson."""
    u, dt = seen.u[::every], every * float(seen.t[1] - seen.t[0])
    n, p = u.shape[1], len(terms)
    k = 2j * np.pi * np.fft.fftfreq(n, float(seen.x[1] - seen.x[0]))
    turn = np.fft.fft(np.eye(n), axis=0)
    along = [
        np.fft.ifft((k**term.derivative)[:, None] * turn, axis=0).real for term in terms
    ]

    def parts(state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        A, f = np.zeros((n, n)), np.empty((n, p))
        for j, (term, D) in enumerate(zip(terms, along, strict=True)):
            A += c[j] * D * term.slope(state, seen.x)
            f[:, j] = D @ term.value(state, seen.x)
        return A, f

    # Changes of the state with its first values and with the coefficients.
    S: np.ndarray = np.hstack([np.eye(n), np.zeros((n, p))])
    information: np.ndarray = S.T @ S
    A, f = parts(u[0])
    for state in u[1:]:
        right = S + dt / 2 * (A @ S)
        right[:, n:] += dt / 2 * f
        A, f = parts(state)
        right[:, n:] += dt / 2 * f
        S = np.linalg.solve(np.eye(n) - dt / 2 * A, right)
        information += every * (S.T @ S)
    covariance = size**2 * np.linalg.inv(information)
    found: np.ndarray = np.sqrt(np.diag(covariance)[n:])
    return found


def rows_of(name: str, seen: Observed, args: argparse.Namespace) -> list[Row]:
    """A row for each term that is found without noise."""
    terms, clean = chosen(seen, args.windows)
    seeds = range(args.seeds)
    fits = [
        chosen(seen.with_noise(args.noise, seed), args.windows)[1] for seed in seeds
    ]
    invented = sum(not set(fit.terms) <= set(clean.terms) for fit in fits)
    least: list[float | str] = [""] * len(clean.terms)
    if not np.iscomplexobj(seen.u):
        size = args.noise * float(np.sqrt((seen.u**2).mean()))
        there = [terms[j] for j in clean.terms]
        least = bound(seen, there, clean.coefficients, size, 2).tolist()
    rows: list[Row] = []
    for j, true, lowest in zip(clean.terms, clean.coefficients, least, strict=True):
        places = [(fit, fit.terms.index(j)) for fit in fits if j in fit.terms]
        values = np.array([fit.coefficients[at] for fit, at in places])
        rows.append(
            {
                "file": name,
                "term": terms[j].name,
                "clean": true,
                "mean": values.mean(),
                "deviation": values.std(),
                "worst": abs(values / true - 1).max(),
                "told": np.mean([fit.errors[at] for fit, at in places]),
                "bound": lowest,
                "within": (abs(values / true - 1) <= args.noise).mean(),
                "bound_within": _within(args.noise * true, lowest),
                "missed": len(fits) - len(values),
                "invented": invented,
            }
        )
    return rows


def _within(most: float, deviation: float | str) -> float | str:
    """The share of normal errors of a deviation that are at most so large."""
    if isinstance(deviation, str):
        return ""
    return math.erf(abs(most) / (deviation * math.sqrt(2)))


def main() -> None:
    args = parser("equation_error", __doc__)
    args.add_argument("--data", type=Path, required=True)
    args.add_argument(
        "--files", nargs="+", default=["AC.mat", "NLS.mat", "harmonic_osc.mat"]
    )
    args.add_argument("--noise", type=float, default=0.05)
    args.add_argument("--seeds", type=int, default=10)
    args.add_argument("--windows", type=int, nargs=2)
    given = args.parse_args()
    rows = []
    for name in given.files:
        rows += rows_of(name, observed(given.data / name), given)
    report("equation_error", rows, given.out)


if __name__ == "__main__":
    main()
