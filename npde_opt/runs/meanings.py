"""What the numbers of a report mean, in a line each: on the screen behind the number, in
summary.json under `meanings`."""

from __future__ import annotations

from collections.abc import Mapping

from npde_opt.aliases import Plain
from npde_opt.cases import Case

FIXED = {
    "chi_squared": "mean of ((predicted - observed) / sigma)^2; 1: the data are fitted to their "
    "noise",
    "validation": "misfit a datum of the experiments that were set aside",
    "validation_chi_squared": "chi_squared of these experiments",
    "noise_chi_squared": "what chi_squared is expected to be of the noise alone, by the spread of "
    "replicates",
    "held_out_chi_squared": "chi_squared of the data that were not fitted",
    "held_out_noise": "what it is expected to be of the noise of one replicate alone",
    "rmse": "root mean square of predicted - observed, in the data's unit",
    "misfit": "half the sum of ((predicted - observed) / sigma)^2, or what [misfit] has in its "
    "place",
    "regularization": "its part of the objective, the misfit is the rest",
    "information": "nats that the data gave: divergence of the posterior from the prior; none is "
    "known where a prior is flat",
    "information_expected": "nats that such data give on average; none is known where a prior is "
    "flat",
    "determined_numbers": "how many numbers the data determine, those below the cut included",
    "determined_numbers_error": "its standard error: what is below the cut is sampled",
    "determined_along_directions": "the part of it along those that were found",
    "mode_eigenvalues": "what the data tell of NAME_mode_1, ... against what the prior tells",
    "effective_data": "sum of data resolutions: as many independent data tell as much",
    "eigenvalues_above_1": "directions of which the data tell more than the prior",
    "posterior_products": "with the data's Hessian, for the posterior",
    "acceptance": "mean probability of a step, of every chain",
    "largest_rhat": "R-hat, the worst of all figures; chains agree below 1.05",
    "fewest_effective_samples": "independent samples that chains are worth, of the worst figure",
    "decrement": "estimate of how far the objective may still fall, in units of the noise",
}
FIELD_ERROR = (
    "norm of found - true over that of start - true, {of}; 0: the truth, 1: the start"
)
NUMBER_ERROR = "norm of found - true over that of true"
LEARNED = "values where states of the answer are; their band by the delta method"
INTERVAL = (
    "holds the true value in 95 of 100 repetitions, where model and sigma are right"
)
OF_NO_MINIMUM = "of the point where the run stopped, not of a minimum"
AT_MINIMUM = ("converged", "undetermined")
"""Statuses of runs whose intervals are what they say."""


OF_BATCHES = {
    "objective": "of the first minibatch, scaled to all data -> of all data",
    "objective_initial": "of the first minibatch, scaled to all data",
    "gradient_norm": "of the first and of the last minibatch, scaled to all data",
}
"""Of the numbers that every run has, where a step sees a part of the data only."""


def of_batches(batch: int | None, count: int) -> dict[str, str]:
    """Their meanings, where batches are smaller than all `count` experiments or samples."""
    return OF_BATCHES if batch is not None and batch < count else {}


def meanings(
    case: Case, metrics: Mapping[str, Plain], status: str = "converged"
) -> dict[str, str]:
    """A line for each of the metrics of a run with this status that has one."""
    found = {}
    for name, value in metrics.items():
        if name in FIXED:
            found[name] = FIXED[name]
        elif name.startswith("relative_error_"):
            found[name] = _error(case, name.removeprefix("relative_error_"))
        elif name.endswith("_interval"):
            if value is not None:
                found[name] = INTERVAL if status in AT_MINIMUM else OF_NO_MINIMUM
        elif name.endswith("_learned"):
            found[name] = LEARNED
    return found


def _error(case: Case, unknown: str) -> str:
    """Of fields in the parameter and against the start, of numbers in the value: see
    `ParameterSpace.error`."""
    u = next(u for u in case.table.unknown if u.name == unknown)
    if u.kind != "field" or u.regions is not None:
        return NUMBER_ERROR
    of = {"log": "of logarithms", "bounded": "of what is optimized"}.get(
        u.transform, "of values"
    )
    return FIELD_ERROR.format(of=of)
