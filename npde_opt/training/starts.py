"""Where layers start from that are not drawn.

Trainable reaction and diffusion (Chen, Pock 2017), u' = u - sum_i K_i^T phi_i(K_i u) - l (u - f):
K_i are products of cosines, all but the constant one, and phi = rho' of a potential that grows
slowly, so that noise is smoothed and edges stay,

    rho(v) = a w^2 / 2 log(1 + (v / w)^2),    phi(v) = a v / (1 + (v / w)^2).

A recurrence u' = K u + B x + ... starts as a delay line: its state is what it was given last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from itertools import product

import numpy as np

from npde_opt.errors import InputError
from npde_opt.networks import PiecewiseLinear, RadialBasis

Function = Callable[[np.ndarray], np.ndarray]


def cosines(count: int, taps: Sequence[int]) -> np.ndarray:
    """The `count` lowest products of cosines but the constant one, of norm 1: [count, *taps].

    Raises:
        InputError: for more than there are.
    """
    there = int(np.prod(taps)) - 1
    if count > there:
        raise InputError(
            "channels", count, f"at most {there} cosines on {list(taps)} taps"
        )
    lines = [_cosines(n) for n in taps]
    orders = sorted(product(*(range(n) for n in taps)), key=lambda o: (sum(o), o))
    found = [
        reduce(
            np.multiply.outer, [line[i] for line, i in zip(lines, order, strict=True)]
        )
        for order in orders[1 : count + 1]
    ]
    return np.array(found)


def _cosines(taps: int) -> np.ndarray:
    """cos(pi i (t + 1/2) / taps) of norm 1 [i, t]."""
    t = (np.arange(taps) + 0.5) / taps
    waves = np.cos(np.pi * np.arange(taps)[:, None] * t)
    return np.asarray(waves / np.linalg.norm(waves, axis=1, keepdims=True))


def slope(strength: float, width: float) -> Function:
    """phi"""
    return lambda v: strength * v / (1 + (v / width) ** 2)


def nearest(
    activation: PiecewiseLinear | RadialBasis, function: Function
) -> np.ndarray:
    """theta (m,) of the activation that is nearest to a function at the knots."""
    knots = activation.knots.reshape(1, 1, -1)
    units = np.eye(activation.count)
    columns = [activation.value(knots, unit[None]).ravel() for unit in units]
    found: np.ndarray = np.linalg.lstsq(
        np.stack(columns, axis=1), function(knots.ravel())
    )[0]
    return found


def delay(states: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """K and B of the delay line: states are the last ones given, the newest first."""
    return np.eye(states, k=-channels), np.eye(states, channels)
