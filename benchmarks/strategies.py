"""Strategies on one objective, the classification of scikit-learn's digits by an MLP and a CNN.

    python benchmarks/strategies.py [--networks mlp cnn] [--weights 0 0.5] [--seeds 0 1 2]

Adam goes 100 epochs with minibatches; all other methods start from the same weights and go on until
the objective is as low as Adam's at its end. What is counted are passes over the training samples,
of which an evaluation of the objective with its gradient is one, and a product with the Hessian
another, and evaluations (of minibatches, where there are some).
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from common import Row, comm, parser, report
from petsc4py import PETSc

from npde_opt.aliases import Record
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError
from npde_opt.optimizers import OptimizerState, Result, Settings, minimize
from npde_opt.training.case import load_training
from npde_opt.training.problem import Problem, wrong

HEAD = """
[data]
kind = "digits"
test = 0.3
[network]
seed = {seed}
"""
NETWORKS = {
    "mlp": """
[[layer]]
kind = "dense"
channels = 64
activation = "tanh"
[[layer]]
kind = "dense"
channels = 10
""",
    "cnn": """
[[layer]]
kind = "convolution"
channels = 8
activation = "relu"
[[layer]]
kind = "convolution"
channels = 16
stride = 2
activation = "relu"
[[layer]]
kind = "dense"
channels = 10
""",
}
PENALTY = """
[[regularization]]
weight = {weight}
"""
PASSES = 300
OTHERS = Settings(
    max_iterations=PASSES, gradient_rtol=1e-9, decrement=None, memory=40, cg_max=30
)
METHODS = ("lbfgs", "gauss-newton", "newton")


class Watch:
    """Passes, evaluations and seconds until the objective was as low as asked, and stops there."""

    def __init__(self, target: float):
        self.target = target
        self.began = time.process_time()
        self.row: Row = {}

    def __call__(self, row: Record, state: OptimizerState) -> str | None:
        self.row = {
            "passes": row["passes"],
            "evaluations": row["evaluations"],
            "CPU s": time.process_time() - self.began,
        }
        if row["objective"] <= self.target:
            return "stop:reached"
        return "stop:given_up" if row["passes"] > PASSES else None


def problem(name: str, weight: float, seed: int) -> Problem:
    """The network, its samples and what is minimized."""
    penalty = PENALTY.format(weight=weight) if weight else ""
    text = HEAD.format(seed=seed) + NETWORKS[name] + penalty
    with tempfile.TemporaryDirectory() as folder:
        path = Path(comm.bcast(folder)) / "case.toml"
        if comm.rank == 0:
            path.write_text(text)
        comm.Barrier()
        case = load_training(path, comm)
        comm.Barrier()
    return Problem(case, Ensemble.whole(comm))


def misread(found: Problem, m: PETSc.Vec) -> float:
    """The share of the test samples, in percent."""
    part = found.parts.tests[0]
    labels = found.samples(part).targets
    return 100 * found.mean(wrong(found.see(m, part), labels))


def run(found: Problem, settings: Settings, target: float) -> tuple[Result, Row]:
    """One strategy from the same start."""
    watch, m = Watch(target), found.start()
    result = minimize(found.objective, m, settings, watch)
    m.destroy()
    row = {"method": settings.method, **watch.row, "objective": result.objective}
    return result, row | {
        "misread %": misread(found, result.m),
        "status": result.status,
    }


def compared(
    name: str, weight: float, seed: int, options: argparse.Namespace
) -> list[Row]:
    """Adam, and then all others down to where it came."""
    found, rows = problem(name, weight, seed), []
    adam = replace(
        OTHERS, method="adam", rate=2e-3, batch=64, max_iterations=options.epochs
    )
    result, row = run(found, replace(adam, gradient_rtol=0.0), -1.0)
    rows.append(row | {"passes": result.passes, "evaluations": result.evaluations})
    for method in options.methods:
        rows.append(run(found, replace(OTHERS, method=method), result.objective)[1])
    head = {
        "network": name,
        "weights": found.network.size,
        "penalty": weight,
        "seed": seed,
    }
    found.destroy()
    return [head | row for row in rows]


def main() -> int:
    p = parser("strategies", __doc__ or "")
    p.add_argument(
        "--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS)
    )
    p.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    p.add_argument(
        "--weights", nargs="+", type=float, default=[0.0, 0.5], help="of the penalty"
    )
    p.add_argument("--seeds", nargs="+", type=int, default=[0], help="of the weights")
    p.add_argument("--epochs", type=int, default=100)
    options = p.parse_args()
    if options.epochs < 1:
        raise InputError("--epochs", options.epochs, "an integer >= 1")
    asked = itertools.product(options.networks, options.weights, options.seeds)
    report(
        "strategies",
        [row for one in asked for row in compared(*one, options)],
        options.out,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
