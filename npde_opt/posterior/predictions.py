"""What a posterior says of the data: how far the prediction of each may still be off, and how much
all of them tell of each parameter.

    bands     diag J C J^T  = sum_i (J v_i)^2 / (1 + x_i) + E (J s)^2
    coverage  diag J^T W J  = sum_i x_i (P v_i)^2         + E g^2

along the leading pairs, which are known, and beside them, which is sampled: s of the prior, and g =
J^T W^1/2 r with independent signs r, both without what they have along V.
"""

from __future__ import annotations

import numpy as np

from npde_opt.observations import DataBlock, Metric
from npde_opt.parameters.draws import child
from npde_opt.posterior.columns import column, gram
from npde_opt.posterior.laplace import Laplace

BANDS, SIGNS = 1 << 21, 1 << 22
"""Far from the numbers of samples: seeds of what is sampled here."""


def bands(laplace: Laplace, samples: int = 16) -> list[DataBlock]:
    """Standard deviations of predicted data, blocks as those of the linearization, of this group's
    experiments. Collective."""
    space, at = laplace.space, laplace.at.linearization
    total = [d.like(np.zeros_like(d.values)) for d in at.data]
    change = space.create_vec()

    def add(share: float) -> None:
        with laplace.objective.together():
            seen = at.apply(change)
        for sums, d in zip(total, seen, strict=True):
            np.add(sums.values, share * d.values**2, out=sums.values)

    for x, v in zip(laplace.values, laplace.vectors.T, strict=True):
        change.setArray(v)
        add(1 / (1 + float(x)))
    for number in range(samples):
        sample = laplace.prior.sample(child(laplace.settings.seed, BANDS + number))
        change.setArray(laplace.beside(column(sample))[:, 0])
        sample.destroy()
        add(1 / samples)
    change.destroy()
    return [d.like(np.sqrt(d.values)) for d in total]


def coverage(laplace: Laplace, metrics: list[Metric], samples: int = 16) -> np.ndarray:
    """Root of the sum of squared sensitivities of all data, in their standard deviations, to each
    own parameter (local,). Collective.

    Args:
        metrics: W of the data, one a block of this group; only their row sums are read, which of
            independent errors are 1 / sigma^2.
    """
    space, objective = laplace.space, laplace.objective
    at, ensemble = laplace.at.linearization, objective.ensemble
    total = laplace.dual**2 @ np.maximum(laplace.values, 0.0)
    roots = []
    with objective.together():
        for d, metric in zip(at.data, metrics, strict=True):
            one = d.like(np.ones_like(d.values))
            metric.apply(one)
            roots.append(np.sqrt(np.abs(one.values)))
    for number in range(samples):
        seed = child(laplace.settings.seed, SIGNS + number)
        with objective.together():
            signs = [
                d.like(root * np.sign(d.layout.noise([seed, *d.layout.members]).values))
                for d, root in zip(at.data, roots, strict=True)
            ]
            g = at.apply_adjoint(signs)
        ensemble.sum_vec(g)
        laplace.prior.mask(g)
        along = gram(space, laplace.vectors, column(g))
        total = total + (column(g) - laplace.dual @ along)[:, 0] ** 2 / samples
        g.destroy()
    return np.asarray(np.sqrt(total))
