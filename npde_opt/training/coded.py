"""Hidden layers that start from pseudoinverse autoencoders, one behind the other:

    y = sigma(W x + b),    W = S D,  b = -W mean(x),    D = argmin |h D^T + d - x|^2 + ridge |D|^2

x is what the layers before make of the training samples, of a convolution what its taps read at
every place, and h a random layer (see pseudoinverse/autoencoders.py). No label is looked at. With a
last layer that is solved for (warm.py) the whole network is learnt by pseudoinverse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from npde_opt.errors import InputError
from npde_opt.networks import Dense, Mixing, Network, Part, Stencil, Step, Template
from npde_opt.networks.assembled import Shifted
from npde_opt.networks.interface import Bilinear
from npde_opt.pseudoinverse.autoencoders import encoder
from npde_opt.pseudoinverse.features import flat
from npde_opt.training.inside import states_behind
from npde_opt.training.problem import Problem

MOST = 1 << 24
"""Numbers x of all ranks that a layer is coded by: samples are left out where there are more."""
SEEN = "what the taps read"


def coded(problem: Problem, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Weights of a network whose last layer is that of `values`, and others coded. Collective.

    Raises:
        InputError: for layers that are none of these.
    """
    found, before = dict(values), list[Template]()
    seed = problem.case.seed + problem.case.split(problem.split)
    seed += problem.case.table.network.seed
    for number, step in enumerate(hidden_layers(problem.network)):
        rows = _rows(problem, before, step, found)
        outputs = step.inner.operator.shape[0]
        own = encoder(flat, rows, outputs, (seed << 8) + number, problem.ensemble.world)
        assert step.bias is not None
        found[step.inner.weight.name] = own.A.T.reshape(step.inner.operator.shape)
        found[step.bias.name] = own.b
        before.append(step)
    return found


def hidden_layers(network: Network) -> Sequence[Step]:
    """All but the last one. Raises InputError where one cannot be coded."""
    found = list[Step]()
    for step in network.steps[:-1]:
        if not (isinstance(step, Step) and _plain(step)):
            break
        found.append(step)
    names = [step.inner.weight.name for step in found]
    if not found or len(set(names)) < len(network.steps) - 1:
        allowed = (
            "drawn, unless all layers but the last are dense or convolutions, with a bias "
            "and an activation that is not learnt"
        )
        raise InputError("network.hidden", "autoencoders", allowed)
    return found


def _plain(step: Step) -> bool:
    """sigma(W u + b)"""
    alone = step.outer is None and not step.linear and not step.residual
    given = step.driven_inner is not None or step.driven_outer is not None
    linear = isinstance(step.inner.operator, Dense | Mixing | Stencil | Shifted)
    return (
        linear and alone and not given and step.bias is not None and step.theta is None
    )


def _rows(
    problem: Problem,
    before: Sequence[Template],
    step: Step,
    values: Mapping[str, np.ndarray],
) -> np.ndarray:
    """x of this rank's share of the samples (samples * places, inputs). Collective."""
    operator, one = _reader(step.inner.operator)
    places = operator.target.size // len(one)
    inputs = step.inner.operator.inputs
    samples = problem.parts.train.count
    every = -(-samples * operator.target.size // MOST)
    reader = Step(step.source, Part.of(operator, SEEN))
    found = list[np.ndarray]()
    with problem.ensemble.together():
        steps = [*before, reader]
        for _, states in states_behind(problem, steps, {**values, SEEN: one}, every):
            if places > 1 and inputs == len(one):
                # Channel by channel, each place by place.
                states = states.reshape(len(states), inputs, places)
                states = states.transpose(0, 2, 1).reshape(-1, inputs)
            found.append(states.astype(problem.network.dtype))
    return np.concatenate(found) if found else np.zeros((0, inputs))


def _reader(operator: Bilinear) -> tuple[Bilinear, np.ndarray]:
    """An operator of the same source whose outputs are what this one reads, and its weights."""
    if isinstance(operator, Shifted):
        operator = operator.stencil
    if isinstance(operator, Stencil):
        inputs = operator.inputs
        whole = operator.with_channels(inputs)
        return whole, np.eye(inputs).reshape(whole.shape)
    # A dense layer reads the states as they are, and so does a matrix in every cell.
    channels = operator.source.channels
    return Mixing(operator.source, channels), np.eye(channels)
