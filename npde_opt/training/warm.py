"""Where a training begins: weights that are drawn, or a network that was learnt by pseudoinverse.

Hidden layers may start from autoencoders (coded.py), and the last one from least squares,

    W, b = argmin sum |W h_s + b - y_s|^2 + ridge |W|^2

with h_s what the layers before make of a sample as they start.

y of classes is 1 for a sample's own and 0 for others; as logarithms of probabilities are longer, W
and b are multiplied by the one of FACTORS with the least objective. The ridge is large: weights
with a smaller one, or a larger factor, have a lower objective as they start, but along directions
in which states hardly vary they are so large that L-BFGS takes long to get them small.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.errors import InputError
from npde_opt.networks import Dense, Identity, Network, Step
from npde_opt.pseudoinverse.fold import Fold
from npde_opt.training.coded import coded
from npde_opt.training.inside import states_behind
from npde_opt.training.problem import Problem, as_outputs

FACTORS = (1.0, 2.0, 4.0)
RIDGE = 0.1
"""Of classes, times the number of samples and the mean square of a state."""


def begin(problem: Problem) -> PETSc.Vec:
    """The weights that a training begins with, as [network] says; the caller's. Collective.

    Raises:
        InputError: for layers that cannot be coded, and a last one that cannot be solved for.
    """
    section = problem.case.table.network
    last = _last(problem.network) if section.last == "solved" else None
    m = problem.start()
    if section.hidden == "drawn" and last is None:
        return m
    values = {n: np.array(v) for n, v in problem.space.at(m).coefficients().items()}
    m.destroy()
    if section.hidden == "autoencoders":
        values = coded(problem, values)
    if last is None:
        return problem.space.from_values(values)
    return _solved(problem, values, last)


def _solved(
    problem: Problem, values: Mapping[str, np.ndarray], last: Step
) -> PETSc.Vec:
    """With the last layer solved for; the caller's. Collective."""
    W, b = _fitted(problem, values, last)

    def start(factor: float) -> PETSc.Vec:
        own = {last.inner.weight.name: factor * W}
        if last.bias is not None:
            own[last.bias.name] = factor * b
        return problem.space.from_values({**values, **own})

    def objective(factor: float) -> float:
        m = start(factor)
        at = problem.objective.linearize(m)
        value = at.value
        at.destroy()
        m.destroy()
        return value

    return start(min(FACTORS, key=objective) if problem.classifies else 1.0)


def _last(network: Network) -> Step:
    """The last layer. Raises InputError where it is another than can be solved for."""
    last = network.steps[-1]
    if isinstance(last, Step) and len(network.steps) > 1:
        dense = isinstance(last.inner.operator, Dense) and isinstance(
            last.activation, Identity
        )
        if dense and last.outer is None and not last.linear:
            return last
    allowed = "drawn, unless the last of several layers is dense, without an activation"
    raise InputError("network.last", "solved", allowed)


def _fitted(
    problem: Problem, values: Mapping[str, np.ndarray], last: Step
) -> tuple[np.ndarray, np.ndarray]:
    """W (outputs, features) and b (outputs,). Collective."""
    ensemble, steps = problem.ensemble, problem.network.steps[:-1]
    outputs = last.inner.operator.shape[0]
    features = steps[-1].target.size
    fold = Fold(features, outputs, last.bias is not None, ensemble.world)
    squares = 0.0
    with ensemble.together():
        y = _targets(problem, outputs)
        for numbers, states in states_behind(problem, steps, values):
            fold.add(states, y[numbers])
            squares += float((states**2).sum())
    size = reductions.total(ensemble.world, squares) / features
    solution = fold.solve(ridge=RIDGE * size if problem.classifies else "gcv")
    return solution.W.T, solution.intercept


def _targets(problem: Problem, outputs: int) -> np.ndarray:
    """y of this group's samples (samples, outputs)."""
    targets = problem.samples(problem.parts.train).targets
    if problem.classifies:
        return np.eye(outputs)[targets]
    found: np.ndarray = as_outputs(problem.outputs.apply(targets)).T
    return found
