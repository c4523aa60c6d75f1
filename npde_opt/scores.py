"""Scores: what people judge a fit by, beside the misfit that is minimized. A score is a number for
each column, an experiment or a sample; what is reported is the mean over the columns of all groups.

    Validation(held, {"psnr": mean(PSNR(1.0)), "misread": mean(misread)})
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from npde_opt.errors import InputError
from npde_opt.misfits import Misfit, SoftmaxCrossEntropy
from npde_opt.objective import ObjectiveAt
from npde_opt.observations import DataBlock

Score = Callable[[Misfit, DataBlock], np.ndarray]
"""Of each column, on every rank that shares the outputs; NaN where there is none."""


def mean(score: Score) -> Callable[[ObjectiveAt], float]:
    """The mean of a score at a point, over all columns that have one; NaN where none has.
    Collective."""

    def over_columns(at: ObjectiveAt) -> float:
        objective, found = at.objective, np.zeros(0)
        with objective.together():
            blocks = zip(objective.misfits, at.data, strict=True)
            found = np.concatenate([found, *(score(misfit, d) for misfit, d in blocks)])
        known = found[~np.isnan(found)]
        count = objective.ensemble.sum(float(known.size))
        total = objective.ensemble.sum(float(known.sum()))
        return total / count if count else float("nan")

    return over_columns


def misread(misfit: Misfit, d: DataBlock) -> np.ndarray:
    """1 where the most probable class of a column is not its own, else 0; NaN without a label.
    Collective."""
    if not isinstance(misfit, SoftmaxCrossEntropy):
        raise InputError("misread", type(misfit).__name__, "softmax cross-entropy")
    wrong = (misfit.classes(d) != misfit.labels).astype(float)
    return np.where(misfit.counts > 0, wrong, np.nan)
