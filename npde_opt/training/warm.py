"""A last layer that starts from least squares: W, b = argmin sum |W h_s + b - y_s|^2 + ridge |W|^2,
h_s what the layers before make of a sample as they start, so that training begins from a network
that was learnt by pseudoinverse.

y of classes is 1 for a sample's own and 0 for others; as logarithms of probabilities are longer, W
and b are multiplied by the one of FACTORS with the least objective.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from petsc4py import PETSc

from npde_opt.errors import InputError
from npde_opt.networks import Dense, Identity, Network, Step
from npde_opt.pseudoinverse.fold import Fold
from npde_opt.training.problem import Problem, as_outputs, together

FACTORS = (1.0, 2.0, 4.0, 8.0, 16.0)


def begin(problem: Problem) -> PETSc.Vec:
    """The weights that a training begins with, as [network] says; the caller's. Collective.

    Raises:
        InputError: for a last layer that cannot be solved for.
    """
    if problem.case.table.network.last == "drawn":
        return problem.start()
    return solved(problem)


def solved(problem: Problem) -> PETSc.Vec:
    """Those of `Problem.start`, but for the last layer; the caller's. Collective."""
    last = _last(problem.network)
    m = problem.start()
    values = {n: np.array(v) for n, v in problem.space.at(m).coefficients().items()}
    m.destroy()
    W, b = _fitted(problem, values, last)
    factors = FACTORS if problem.classifies else (1.0,)
    best, least = None, np.inf
    for factor in factors:
        own = {last.inner.weight.name: factor * W}
        if last.bias is not None:
            own[last.bias.name] = factor * b
        m = problem.space.from_values(values | own)
        at = problem.objective.linearize(m)
        value = at.value
        at.destroy()
        if best is not None and not value < least:
            m.destroy()
            continue
        if best is not None:
            best.destroy()
        best, least = m, value
    assert best is not None
    return best


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
    network, ensemble = problem.network, problem.ensemble
    before = Network(
        network.grid, network.steps[:-1], start=network.start, dtype=network.dtype.type
    )
    outputs = last.inner.operator.shape[0]
    fold = Fold(before.target.size, outputs, last.bias is not None, ensemble.world)
    own = slice(ensemble.space.rank, None, ensemble.space.size)
    train = problem.parts.train
    with ensemble.together():
        y = _targets(problem, outputs)
        space = before.space()
        m = space.from_values({name: values[name] for name in before.shapes})
        step = together(before)
        for first in range(0, len(y), step):
            columns = slice(first, min(first + step, len(y)))
            at = before.over(problem.given(train, columns), space).linearize(m)
            fold.add(at.data[0].gather().T[own], y[columns][own])
            at.destroy()
        m.destroy()
    solution = fold.solve(ridge="gcv")
    return solution.W.T, solution.intercept


def _targets(problem: Problem, outputs: int) -> np.ndarray:
    """y of this group's samples (samples, outputs)."""
    targets = problem.samples(problem.parts.train).targets
    if problem.classifies:
        return np.eye(outputs)[targets]
    found: np.ndarray = as_outputs(problem.outputs.apply(targets)).T
    return found
