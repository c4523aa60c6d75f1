"""[optimizer] as the settings of a method, and [validation] as data that are set aside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields

import numpy as np

from npde_opt.cases.sought_tables import OptimizerSection
from npde_opt.cases.typed import keys_of
from npde_opt.errors import InputError
from npde_opt.objective import Objective
from npde_opt.optimizers import Settings
from npde_opt.optimizers.interface import METHOD_NAMES
from npde_opt.optimizers.validation import Validation

SETTINGS = [f.name for f in fields(Settings) if f.name in keys_of(OptimizerSection)]
"""Keys of [optimizer] that are settings of the method."""


def settings_of(
    section: OptimizerSection,
    method: str | None = None,
    *,
    seed: int = 0,
    validation: Validation | None = None,
    own: Callable[..., object] | None = None,
) -> Settings:
    """The settings of a section.

    Args:
        method: in place of the section's.
        seed: of the order of minibatches.
        own: makes the registered optimizer.

    Raises:
        InputError: naming the key, for what cannot be.
    """
    chosen = method or section.method
    if chosen not in METHOD_NAMES:
        key = "--optimizer" if method else "optimizer.method"
        raise InputError(key, repr(chosen), ", ".join(METHOD_NAMES))
    given = {key: getattr(section, key) for key in SETTINGS}
    given |= {"method": chosen, "betas": tuple(section.betas)}
    return Settings(**given, seed=seed, validation=validation, own=own)


def aside(experiments: Sequence[int]) -> Validation:
    """The data of these experiments, beside those of an objective that `parted` gave."""

    def held(objective: Objective) -> Objective:
        assert objective.whole is not None
        return objective.whole.over(experiments)

    return Validation(held, {"chi_squared": lambda at: at.chi_squared()})


def parted(objective: Objective, experiments: Sequence[int]) -> Objective:
    """The objective of all other experiments, which owns the whole one."""
    rest = np.setdiff1d(np.arange(objective.experiment_count), experiments)
    found = objective.over(rest, scale=False)
    found.owner = True
    return found


def check_aside(experiments: Sequence[int], count: int) -> None:
    """Raises InputError for numbers of no experiment, and where none would be left to fit."""
    allowed = f"numbers of experiments from 0 to {count - 1}, each once, and not all"
    wrong = [e for e in experiments if e >= count or experiments.count(e) > 1]
    if wrong:
        raise InputError("validation.experiments", wrong[0], allowed)
    if len(experiments) == count:
        raise InputError("validation.experiments", "all of them", allowed)
