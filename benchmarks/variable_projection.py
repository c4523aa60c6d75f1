"""Variable projection beside L-BFGS on all weights: scikit-learn's digits by a hidden layer.

    python benchmarks/variable_projection.py [--hidden 64] [--penalties 1e-1 1] [--seeds 0 1 2]

The objective is the same, least squares of one output a class with ridges on both layers. L-BFGS
goes `--passes` passes over the training samples from random weights; the others start from the same
hidden weights ("learnt": from a pseudoinverse autoencoder's) and stop at the least objective that
it reached. An evaluation of the objective with its gradient is a pass, a product with the Hessian
another.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from common import Row, comm, parser, report

from npde_opt.aliases import Record
from npde_opt.grids import Grid
from npde_opt.misfits import LeastSquares
from npde_opt.networks import Dense, Network, Part, Place, Step, Tanh, Weight
from npde_opt.objective import Objective
from npde_opt.optimizers import OptimizerState, Settings, minimize
from npde_opt.pseudoinverse.autoencoders import encoder
from npde_opt.pseudoinverse.features import flat
from npde_opt.pseudoinverse.projection import Projected
from npde_opt.regularizers import Ridge
from npde_opt.training.digits import digits
from npde_opt.training.given import Given
from npde_opt.training.splits import split

CLASSES = 10
METHODS = ("lbfgs", "gauss-newton")


class Watch:
    """Stops at an objective, or after so many passes; keeps the least one."""

    def __init__(self, passes: int, target: float = -np.inf):
        self.passes, self.target, self.least = passes, target, np.inf
        self.began, self.row = time.process_time(), Row()

    def __call__(self, row: Record, state: OptimizerState) -> str | None:
        self.least = min(self.least, row["objective"])
        self.row = {
            "passes": row["passes"],
            "CPU s": time.process_time() - self.began,
            "objective": row["objective"],
        }
        if row["objective"] <= self.target:
            return "stop:reached"
        return "stop:passes" if row["passes"] >= self.passes else None


class Digits:
    """The training samples, and the network that is fitted to them.

    Args:
        hidden: outputs of the hidden layer. penalty: of both layers, relative to one sample.
    """

    def __init__(self, hidden: int, penalty: float, seed: int):
        source = digits()
        assert source.labels is not None
        learnt, _ = split(source.labels, (0.7, 0.3), [0, 0])
        pictures = source.samples(learnt).inputs[:, :, 0]
        self.inputs = Given((pictures - pictures.mean()) / pictures.std())
        self.targets = np.eye(CLASSES)[source.labels[learnt]]
        self.penalty, self.seed = penalty, seed
        self.grid = Grid(source.shape[1:], comm=comm)
        place = Place.on(self.grid)
        first, b = Dense(place, hidden), Weight("b", (hidden,))
        self.hidden = Step(place, _part(first, "W"), Tanh(), b)
        last = Dense(first.target, CLASSES)
        self.last = Step(first.target, _part(last, "V"), bias=Weight("c", (CLASSES,)))

    def whole(self) -> Objective:
        """Of all weights."""
        network = Network(self.grid, [self.hidden, self.last])
        forward = network.over(self.inputs)
        misfit = LeastSquares(self.targets.T, 1.0, forward.layouts[0])
        blocks = forward.space.blocks
        return Objective(
            forward, [misfit], {n: Ridge(blocks[n], self.penalty) for n in "WV"}
        )

    def projected(self) -> Projected:
        """Of the hidden weights."""
        forward = Network(self.grid, [self.hidden]).over(self.inputs)
        ridges = {"W": Ridge(forward.space.blocks["W"], self.penalty)}
        return Projected(forward, self.targets, self.penalty, ridges)

    def start(self) -> dict[str, np.ndarray]:
        """Of all weights, at random."""
        return Network(self.grid, [self.hidden, self.last]).initial(self.seed)

    def learnt(self) -> dict[str, np.ndarray]:
        """By pseudoinverse alone: an autoencoder's code, and the layer behind it."""
        layer = encoder(flat, self.inputs.inputs, self.hidden.target.size, self.seed)
        return self.solved(self.start() | {"W": layer.A.T, "b": layer.b})

    def solved(self, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Weights with the last layer solved for."""
        J = self.projected()
        at = J.linearize(J.space.from_values({n: values[n] for n in ("W", "b")}))
        solution = at.solution
        return values | {"V": solution.W.T, "c": solution.intercept}


def _part(operator: Dense, name: str) -> Part:
    return Part(operator, Weight(name, operator.shape, inputs=operator.inputs))


def run(
    J: Objective,
    values: Mapping[str, np.ndarray],
    settings: Settings,
    watch: Watch,
    name: str,
) -> Row:
    """One method from one start."""
    m = J.space.from_values({n: values[n] for n in J.space.blocks})
    found = minimize(J, m, settings, watch)
    m.destroy()
    return {"method": name, **watch.row, "status": found.status}


def compared(hidden: int, penalty: float, seed: int, passes: int) -> list[Row]:
    of = Digits(hidden, penalty, seed)
    settings = Settings(
        method="lbfgs",
        max_iterations=passes,
        gradient_rtol=1e-9,
        decrement=None,
        memory=40,
    )
    first = Watch(passes)
    rows = [run(of.whole(), of.start(), settings, first, "all weights, lbfgs")]
    for name, begun in {
        "V solved": of.solved(of.start()),
        "learnt": of.learnt(),
    }.items():
        watch = Watch(passes, first.least)
        rows.append(run(of.whole(), begun, settings, watch, f"from {name}, lbfgs"))
    for method in METHODS:
        watch = Watch(passes, first.least)
        own = replace(settings, method=method, cg_max=30)
        rows.append(run(of.projected(), of.start(), own, watch, f"projected, {method}"))
    head = {"hidden": hidden, "penalty": penalty, "seed": seed}
    all_passes = rows[0]["passes"]
    return [head | row | {"of its passes": row["passes"] / all_passes} for row in rows]


def main() -> int:
    p = parser("variable_projection", __doc__ or "")
    p.add_argument("--hidden", type=int, default=64)
    p.add_argument("--penalties", type=float, nargs="+", default=[0.1, 1.0])
    p.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    p.add_argument("--passes", type=int, default=300)
    options = p.parse_args()
    asked = itertools.product(options.penalties, options.seeds)
    rows = [r for one in asked for r in compared(options.hidden, *one, options.passes)]
    report("variable_projection", rows, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
