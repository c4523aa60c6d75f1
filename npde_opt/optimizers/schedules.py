"""The learning rate of a step that begins e epochs into a run of E and is a part s of one (the
third of five steps of the third epoch: e = 2.4, s = 0.2),

    min(1, (e + s) / warm_up) r_e

constant  r_e = r
cosine    r_e = r (1 + cos(pi e / E)) / 2
step      r_e = r decay^floor(e / period)
"""

from __future__ import annotations

import math
from collections.abc import Callable

from npde_opt.optimizers.interface import Settings

Schedule = Callable[[Settings, float], float]


def constant(settings: Settings, epoch: float) -> float:
    return settings.rate


def cosine(settings: Settings, epoch: float) -> float:
    done = epoch / max(settings.max_iterations, 1)
    return settings.rate * (1 + math.cos(math.pi * min(done, 1.0))) / 2


def step(settings: Settings, epoch: float) -> float:
    return float(settings.rate * settings.decay ** math.floor(epoch / settings.period))


SCHEDULE: dict[str, Schedule] = {"constant": constant, "cosine": cosine, "step": step}


def rate(settings: Settings, epoch: float, part: float = 1.0) -> float:
    """Of a step.

    Args:
        epoch: e, how many epochs are done when it begins.
        part: s, of an epoch, that it is.
    """
    found = SCHEDULE[settings.schedule](settings, epoch)
    if settings.warm_up > 0:
        found *= min(1.0, (epoch + part) / settings.warm_up)
    return found
