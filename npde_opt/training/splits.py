"""Parts of the samples: for training, validation and test.

Each class is shared out alike (stratified), by a permutation that depends on the seed and nothing
else, so that it is the same on any number of ranks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npde_opt.errors import InputError


def split(
    labels: np.ndarray | int, shares: Sequence[float], seed: int | Sequence[int] = 0
) -> list[np.ndarray]:
    """Numbers of the samples of each part, increasing.

    Args:
        labels: the class of each sample; or how many there are, without classes.
        shares: of the parts; they add up to 1.
        seed: of the permutation.

    Raises:
        InputError: for shares that do not add up to 1, and parts without a sample.
    """
    if min(shares) <= 0 or abs(sum(shares) - 1) > 1e-9:
        raise InputError(
            "shares of a split", list(shares), "positive numbers that add up to 1"
        )
    classes = np.zeros(labels, int) if isinstance(labels, int) else np.asarray(labels)
    rng = np.random.default_rng(seed)
    # Samples class after class, each class in a random order: a part that takes every n-th of
    # them has its share of each class, and of all to a sample.
    shuffled = rng.permutation(len(classes))
    order = shuffled[np.argsort(classes[shuffled], kind="stable")]
    part = _spread(len(classes), shares)
    found = [np.sort(order[part == number]) for number in range(len(shares))]
    for numbers, share in zip(found, shares, strict=True):
        if not numbers.size:
            said = f"a share of {share:g} of {len(classes)} samples"
            raise InputError("split", said, "parts with at least one sample")
    return found


def _spread(count: int, shares: Sequence[float]) -> np.ndarray:
    """The part of each of `count` places, such that every run of neighbours has each part by its
    share, to about one place."""
    found, left = np.zeros(count, int), np.arange(count)
    rest = sum(shares)
    for part in range(len(shares) - 1, 0, -1):
        # Of the places that are left, those where share times number goes beyond a half.
        steps = np.floor(np.arange(left.size + 1) * (shares[part] / rest) + 0.5)
        taken = np.diff(steps) > 0
        found[left[taken]] = part
        left, rest = left[~taken], rest - shares[part]
    return found
