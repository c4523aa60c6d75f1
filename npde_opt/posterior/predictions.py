"""What a posterior says of the data: how far the prediction of each may still be off, which of them
decide, and how much all of them tell of each parameter.

    bands             diag J C J^T    = sum_i (J v_i)^2 / (1 + x_i)           + E (J s)^2
    data resolution   diag J C J^T W  = sum_i (J v_i) (W J v_i) / (1 + x_i)   + E (J s) (W J s)
    model resolution  diag C D        = sum_i v_i (P v_i) x_i / (1 + x_i)
    coverage          diag J^T W J    = sum_i x_i (P v_i)^2                   + E g^2

along the leading pairs, which are known, and beside them, which is sampled (but for the model's
resolution, whose part beside them is below x / (1 + x) at the cut): s of the prior, and g = J^T
W^1/2 r with independent signs r, both without what they have along V. Products of vectors are entry
by entry.

J C J^T W turns observed data into predicted ones, and C D = 1 - C P the true parameters into those
that are found (Menke, Geophysical Data Analysis: Discrete Inverse Theory, chapter 4; the former is
the hat matrix of statistics, its diagonal the leverages). Both have the trace sum x / (1 + x), how
many numbers the data determine: as many of the data would do, were they independent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from npde_opt.objective import ObjectiveAt
from npde_opt.observations import DataBlock, Metric
from npde_opt.parameters.draws import child
from npde_opt.posterior.columns import column, gram
from npde_opt.posterior.laplace import Laplace

BANDS, SIGNS = 1 << 21, 1 << 22
"""Far from the numbers of samples: seeds of what is sampled here."""


@dataclass(frozen=True)
class Spread:
    """Of predicted data, blocks as those of the linearization, of this group's experiments.

    Attributes:
        deviations: standard deviations of what is predicted, in the data's unit.
        resolution: diagonal of the data resolution matrix: how much of a datum's prediction is
            decided by this datum itself, 0 to 1 where errors are independent. Its sum over all data
            is how many numbers they determine.
    """

    deviations: list[DataBlock]
    resolution: list[DataBlock]


def spread(
    laplace: Laplace, samples: int = 16, of: ObjectiveAt | None = None
) -> Spread:
    """Collective.

    Args:
        samples: of what lies beside the leading pairs.
        of: whose data, at the same point, as those of an objective with experiments that are set
            aside; None: the data that `laplace` is the posterior of.
    """
    where = of or laplace.at
    space, at, metrics = laplace.space, where.linearization, where.metrics
    squares = [np.zeros_like(d.values) for d in at.data]
    parts = [np.zeros_like(d.values) for d in at.data]
    change = space.create_vec()

    def add(share: float) -> None:
        with laplace.objective.together():
            seen = at.apply(change)
            for k, metric in enumerate(metrics):
                own = seen[k].values
                weighted = seen[k].like(own.copy())
                metric.apply(weighted)
                squares[k] += share * own**2
                parts[k] += share * own * weighted.values

    for x, v in zip(laplace.values, laplace.vectors.T, strict=True):
        change.setArray(v)
        add(1 / (1 + float(x)))
    for number in range(samples):
        sample = laplace.prior.sample(child(laplace.settings.seed, BANDS + number))
        change.setArray(laplace.beside(column(sample))[:, 0])
        sample.destroy()
        add(1 / samples)
    change.destroy()
    blocks = list(zip(at.data, squares, parts, strict=True))
    return Spread(
        [d.like(np.sqrt(square)) for d, square, _ in blocks],
        [d.like(part) for d, _, part in blocks],
    )


def resolution(laplace: Laplace) -> np.ndarray:
    """Own diagonal (local,) of the model resolution matrix C D = 1 - C P, from the leading pairs:
    the part of each parameter that the data decide, about 1 where they know it and 0 where it is
    the prior's; its sum is `laplace.determined`. No entry has to lie between these: of priors that
    couple neighbours the matrix is not symmetric. Collective."""
    parts = laplace.values / (1 + laplace.values)
    return np.asarray((laplace.vectors * laplace.dual) @ parts)


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
