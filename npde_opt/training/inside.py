"""What the layers of a network make of the training samples, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from npde_opt.networks import Network, Template
from npde_opt.training.problem import Problem, together


def states_behind(
    problem: Problem,
    steps: Sequence[Template],
    values: Mapping[str, np.ndarray],
    every: int = 1,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(numbers, states) of batches of this rank's share of its group's samples. Collective over
    the ranks of a group.

    Args:
        steps: layers, the first ones of the problem's network.
        values: of their weights, by name; others are passed over.
        every: only samples whose number in the whole part is a multiple of it.

    Yields:
        numbers: of samples, in the group's own order (samples,).
        states: behind the last of the steps (samples, channels * cells), as Place.order has them.
    """
    whole, ensemble = problem.network, problem.ensemble
    network = Network(
        whole.grid, steps, start=whole.start, dtype=whole.dtype.type, path="fused"
    )
    part = problem.parts.train
    chosen = np.flatnonzero(problem.own(part) % every == 0)
    share = slice(ensemble.space.rank, None, ensemble.space.size)
    space, step = network.space(), together(network)
    m = space.from_values({name: values[name] for name in network.shapes})
    for first in range(0, len(chosen), step):
        columns = chosen[first : first + step]
        at = network.over(problem.given(part, columns), space).linearize(m)
        states = at.data[0].gather().T
        at.destroy()
        yield columns[share], states[share]
    m.destroy()
