"""Random numbers that are the same on any number of ranks: each draws all and keeps its own."""

from __future__ import annotations

import numpy as np

AT_ONCE = 1_000_000
"""Numbers that are drawn together: more are never on a rank."""


def normal(seed: int, count: int, first: int, last: int) -> np.ndarray:
    """Numbers [first, last) of `count` independent standard normal ones."""
    rng, parts = np.random.default_rng([seed, count]), []
    for start in range(0, last, AT_ONCE):
        drawn = rng.standard_normal(min(AT_ONCE, count - start))
        parts.append(drawn[max(first - start, 0) : max(last - start, 0)])
    return np.concatenate(parts) if parts else np.empty(0)


def child(seed: int, number: int) -> int:
    """The seed of the numbered part of something: 0 has its own."""
    if number == 0:
        return seed
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
