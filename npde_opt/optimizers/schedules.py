"""The learning rate r_e of epoch e = 0, ..., E - 1:

constant  r
cosine    r (1 + cos(pi e / E)) / 2
step      r decay^floor(e / period)
"""

from __future__ import annotations

import math
from collections.abc import Callable

from npde_opt.optimizers.interface import Settings

Schedule = Callable[[Settings, int], float]


def constant(settings: Settings, epoch: int) -> float:
    return settings.rate


def cosine(settings: Settings, epoch: int) -> float:
    done = epoch / max(settings.max_iterations, 1)
    return settings.rate * (1 + math.cos(math.pi * min(done, 1.0))) / 2


def step(settings: Settings, epoch: int) -> float:
    return float(settings.rate * settings.decay ** (epoch // settings.period))


SCHEDULE: dict[str, Schedule] = {"constant": constant, "cosine": cosine, "step": step}


def rate(settings: Settings, epoch: int) -> float:
    """Of an epoch, the first of which is 0."""
    return SCHEDULE[settings.schedule](settings, epoch)
