"""k = T(p), number by number, so that p may be any real number:

identity   k = p
log        k = exp(p)
bounded    k = lo + (hi - lo) / (1 + exp(-p))
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

RUNAWAY = 30.0
"""Change of a logarithm, a factor of 1e13, that is no answer any more."""
SATURATED = 12.0
"""|p| of a bounded transform from which on its coefficient is at an end of its range, to 6e-6 of
it."""
GAIN = 1e-3
"""What the objective may still gain on the way of all values of an unknown to the ends of their
range."""

Range = tuple[float, float]
"""Lower and upper bound of a coefficient, infinite where there is none."""


class Transform(ABC):
    """T with its derivatives, each elementwise: p, k and results are arrays of one shape.

    linear: T'' = 0. exponential: k depends on p exponentially somewhere, so that a change of p by 1
    is a large one whatever the unit of k. multiplicative: a change of p is a factor of k.
    saturates: k has ends that no p reaches, and needs no box constraints.
    """

    name: ClassVar[str]
    linear: ClassVar[bool] = False
    exponential: ClassVar[bool] = True
    multiplicative: ClassVar[bool] = False
    saturates: ClassVar[bool] = False
    allowed: str = "finite values"
    """What T gives, in words."""

    def __init__(self, limits: Range):
        self.lower, self.upper = limits

    def __str__(self) -> str:
        return self.name

    @abstractmethod
    def value(self, p: np.ndarray) -> np.ndarray:
        """T(p)."""

    @abstractmethod
    def slope(self, k: np.ndarray) -> np.ndarray | float:
        """dT/dp where T(p) = k."""

    @abstractmethod
    def curvature(self, k: np.ndarray) -> np.ndarray | float:
        """d2T/dp2 where T(p) = k."""

    @abstractmethod
    def inverse(self, k: np.ndarray) -> np.ndarray:
        """p with T(p) = k, where T reaches k."""

    def reaches(self, k: np.ndarray) -> np.ndarray:
        """Whether k = T(p) for some p."""
        return np.isfinite(k)

    def defined(self, k: np.ndarray) -> bool:
        """Whether all of k are values of T, and not what overflow left of one."""
        return bool(np.isfinite(k).all())

    def sound(self, p: np.ndarray) -> bool:
        """Whether T(p) is `defined`."""
        return self.defined(self.value(p))

    def natural(self, size: float) -> float:
        """The size of a natural change of parameters of the given size."""
        return 1.0 if self.exponential else size

    def at_ends(self, p: np.ndarray, box: Range) -> tuple[np.ndarray, np.ndarray]:
        """Where k is at its lower and its upper bound; `box` are these as parameters."""
        return p <= box[0], p >= box[1]

    def saturated(self, p: np.ndarray, g: np.ndarray, nothing: float) -> np.ndarray:
        """Where p is as good as at an end of T's range: -g = -dJ/dp leads on, and all the way there
        lowers J by `nothing` at most."""
        return np.zeros(p.shape, bool)


class Identity(Transform):
    name = "identity"
    linear = True
    exponential = False

    def value(self, p: np.ndarray) -> np.ndarray:
        return np.array(p, order="F")

    def sound(self, p: np.ndarray) -> bool:
        return self.defined(p)

    def slope(self, k: np.ndarray) -> float:
        return 1.0

    def curvature(self, k: np.ndarray) -> float:
        return 0.0

    def inverse(self, k: np.ndarray) -> np.ndarray:
        return k.copy()


class Log(Transform):
    name = "log"
    multiplicative = True
    allowed = "positive values (log transform)"

    def value(self, p: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return np.exp(p)

    def slope(self, k: np.ndarray) -> np.ndarray:
        return k

    def curvature(self, k: np.ndarray) -> np.ndarray:
        return k

    def inverse(self, k: np.ndarray) -> np.ndarray:
        return np.log(k)

    def reaches(self, k: np.ndarray) -> np.ndarray:
        return k > 0

    def defined(self, k: np.ndarray) -> bool:
        return super().defined(k) and bool((k > 0).all())


class Bounded(Transform):
    name = "bounded"
    saturates = True

    def __init__(self, limits: Range):
        super().__init__(limits)
        self.width = self.upper - self.lower
        self.allowed = f"values strictly between {self.lower:g} and {self.upper:g}"

    def value(self, p: np.ndarray) -> np.ndarray:
        return self.lower + self.width * logistic(p)

    def slope(self, k: np.ndarray) -> np.ndarray:
        return (k - self.lower) * (self.upper - k) / self.width

    def curvature(self, k: np.ndarray) -> np.ndarray:
        return self.slope(k) * (self.upper + self.lower - 2 * k) / self.width

    def inverse(self, k: np.ndarray) -> np.ndarray:
        share = (k - self.lower) / self.width
        return np.log(share / (1 - share))

    def reaches(self, k: np.ndarray) -> np.ndarray:
        return (k > self.lower) & (k < self.upper)

    def at_ends(self, p: np.ndarray, box: Range) -> tuple[np.ndarray, np.ndarray]:
        return p < -SATURATED, p > SATURATED

    def saturated(self, p: np.ndarray, g: np.ndarray, nothing: float) -> np.ndarray:
        """Near an end k - end is proportional to exp(-|p|), so that |g| = |dJ/dk (k - end)| is what
        J gains on the way. In a range of many decades a value that far from its end may have a long
        way to go."""
        outwards = (p * g < 0) & (np.abs(g) <= nothing)
        return (np.abs(p) > SATURATED) & outwards


def logistic(p: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-p)) without overflow."""
    e = np.exp(-np.abs(p))
    return np.where(p >= 0, 1, e) / (1 + e)


TRANSFORMS: Mapping[str, type[Transform]] = {
    t.name: t for t in (Identity, Log, Bounded)
}
