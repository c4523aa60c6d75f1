"""Sums over all eigenvalues x of D against P, those below the cut too, of which no pair is known:

    sum f(x) = sum_i (f(x_i) - b_i f_1 x_i - b_i^2 f_2 x_i^2) + f_1 A + f_2 B,
    A = E s^T E s  ~ sum x,   B = E (s^T E t)^2  ~ sum x^2     of what is beside the pairs,

with independent samples s, t of the prior from which V diag(1 - sqrt(b)) V^T P is taken away. Below
the cut c, f(x) is taken as f_1 x + f_2 x^2 with its own slope at 0, and its own value at c: the
error of x / (1 + x) is at most x c^2 / 4. Above a cut of 1 that says nothing, and sums are those
over the pairs alone.

b_i falls from 1 at the cut to 0 at WHOLLY times the cut: a pair at the cut that one search finds
and another one does not is the same in both, sampled, and a sum does not jump.

V has errors, and what these leave of a large eigenvalue among the rest is large. E is D without it,

    E = D - sum_i q_i q_i^T / (1 + x_i),   q_i = D v_i - x_i P v_i,

as the Schur complement of 1 + D has it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from npde_opt.linear.accuracy import solved_to
from npde_opt.posterior.columns import gram, less, mapped, views
from npde_opt.posterior.laplace import Laplace

WIDEST = 1.0
"""Cut up to which what lies below it is sampled."""
ROOM = 3.0
"""Factor by which sum x^2 may be more than the cut allows."""
SAMPLES = 12
"""Of the prior: the first ones, of which samples of the posterior are made too."""
WHOLLY = 1.3
"""Times the cut, from which on a pair is not sampled at all."""
SEEN = 1e-3
"""Relative tolerance of states, which moves sums at 256^2 by a hundredth of their error."""
Term = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Sum:
    """
    Attributes:
        value: of a sum over all eigenvalues.
        error: its standard error.
    """

    value: float
    error: float

    @property
    def told(self) -> float:
        """The value to the first digit of its error, within which searches on other ranks lie."""
        if not self.error > 0:
            return self.value
        return round(self.value, -math.floor(math.log10(self.error)))


class Whole:
    """What the data tell in all directions. Collective.

    Attributes:
        known: whether all eigenvalues are, so that nothing is estimated.

    Args:
        laplace: with pairs that are complete, of a cut up to WIDEST; of others, and of pairs that
            leave more than the cut beside them, sums are those over the pairs alone, lower bounds
            without an error.
        samples: 2 at least.
    """

    def __init__(self, laplace: Laplace, samples: int = SAMPLES):
        pairs, self.cut = laplace.pairs, laplace.settings.cut
        every = np.concatenate([pairs.values, pairs.below])
        self.known = len(every) >= laplace.prior.free_count
        self.values = every if self.known else pairs.values
        above = np.abs(self.values) / self.cut - 1
        self.shares = np.clip(1 - above / (WHOLLY - 1), 0, 1)
        self._sampled: np.ndarray | None = None
        if pairs.complete and not self.known and self.cut <= WIDEST:
            found = _products(laplace, self.shares, samples)
            self._sampled = found if self._below(found) else None

    def _below(self, T: np.ndarray) -> bool:
        """Whether what is beside the pairs is below the cut, or at most near it: as sum x^2 <= c
        sum x then, with room for the error of both. Pairs that are too rough leave more."""
        first, whole = float(np.trace(T)), float((T**2).sum())
        second = (whole - float((np.diag(T) ** 2).sum())) / (len(T) - 1)
        return second <= ROOM * self.cut * first

    def sum(self, f: Term, slope: float) -> Sum:
        """Of f(x), f(0) = 0, with its slope there."""
        x, T = self.values, self._sampled
        along = float(f(x).sum())
        if T is None:
            return Sum(along, 0.0 if self.known else math.nan)
        cut, count = self.cut, len(T)
        bend = (float(f(np.array([cut]))[0]) - slope * cut) / cut**2
        part = self.shares * x
        known = along - float((slope * part + bend * part**2).sum())
        squares = (T**2).sum(1) - np.diag(T) ** 2
        second = squares / (count - 1)
        drawn = slope * np.diag(T) + bend * second
        # Every sample is in twice as many products of two as in those of its own.
        moved = drawn + bend * second
        error = float(moved.std(ddof=1)) / math.sqrt(count)
        return Sum(known + float(drawn.mean()), error)

    @property
    def determined(self) -> Sum:
        """How many numbers the data determine, the trace of C D."""
        return self.sum(lambda x: x / (1 + x), 1.0)

    @property
    def expected_information(self) -> Sum:
        """Mean of KL(posterior, prior) over data that the prior predicts, in nats."""
        return self.sum(lambda x: 0.5 * np.log1p(x), 0.5)


def _products(laplace: Laplace, shares: np.ndarray, samples: int) -> np.ndarray:
    """s_k^T E s_l, the same on every rank."""
    space, V, x = laplace.space, laplace.vectors, laplace.values
    columns = laplace.changes(range(samples), laplace.settings.seed)
    along = gram(space, laplace.dual, columns)
    columns = less(columns, V, (1 - np.sqrt(shares))[:, None] * along)
    left = np.sqrt(shares)[:, None] * along
    with solved_to(SEEN):
        found, seen = _seen(laplace, columns)
    q = seen - x[:, None] * left
    found = found - q.T @ (q / (1 + x)[:, None])
    return np.asarray((found + found.T) / 2)


def _seen(laplace: Laplace, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """S^T D S and V^T D S of columns S (local, any): by J S alone where J V is known."""
    space, at, known = laplace.space, laplace.at, laplace.pairs.seen
    if known is None:
        images = mapped(space, laplace.data, columns)
        return gram(space, columns, images), gram(space, laplace.vectors, images)
    directions = views(space, columns)
    seen = at.seen(directions)
    assert seen is not None
    for direction in directions:
        direction.destroy()
    return at.products(seen, seen), at.products(known, seen)
