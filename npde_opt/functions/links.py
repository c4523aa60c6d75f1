"""g(s), what a function f = g(s) may be where s is any number:

free       f = s
positive   f = exp(s)
negative   f = -exp(s)
between    f = lo + (hi - lo)/(1 + exp(-s))
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from npde_opt.errors import InputError
from npde_opt.functions.graph import Graph


class Link(ABC):
    """g, which increases with s, or decreases where `falls`."""

    falls: bool = False
    allowed: str = "finite values"

    @abstractmethod
    def value(self, s: np.ndarray) -> np.ndarray: ...

    @abstractmethod
    def node(self, graph: Graph, s: int) -> int:
        """g of a node, with its derivatives."""

    @abstractmethod
    def inverse(self, f: np.ndarray) -> np.ndarray: ...

    @abstractmethod
    def reaches(self, f: np.ndarray) -> np.ndarray: ...

    def given(self, f: np.ndarray) -> np.ndarray:
        """s of values f. Raises InputError where there is none."""
        good = self.reaches(f)
        if not np.all(good):
            raise InputError("function: values", float(f[~good].flat[0]), self.allowed)
        return self.inverse(f)


class Free(Link):
    def value(self, s: np.ndarray) -> np.ndarray:
        return s

    def node(self, graph: Graph, s: int) -> int:
        return s

    def inverse(self, f: np.ndarray) -> np.ndarray:
        return f

    def reaches(self, f: np.ndarray) -> np.ndarray:
        return np.asarray(np.isfinite(f))


class Positive(Link):
    allowed = "positive values"

    def value(self, s: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return np.asarray(np.exp(s))

    def node(self, graph: Graph, s: int) -> int:
        return graph.apply("exp", s)

    def inverse(self, f: np.ndarray) -> np.ndarray:
        return np.asarray(np.log(f))

    def reaches(self, f: np.ndarray) -> np.ndarray:
        return np.asarray(np.isfinite(f) & (f > 0))


class Negative(Positive):
    falls = True
    allowed = "negative values"

    def value(self, s: np.ndarray) -> np.ndarray:
        return -super().value(s)

    def node(self, graph: Graph, s: int) -> int:
        return graph.negative(super().node(graph, s))

    def inverse(self, f: np.ndarray) -> np.ndarray:
        return super().inverse(-f)

    def reaches(self, f: np.ndarray) -> np.ndarray:
        return super().reaches(-f)


class Between(Link):
    """Raises InputError for bounds that are none."""

    def __init__(self, low: float, high: float):
        if not (np.isfinite(low) and np.isfinite(high) and low < high):
            raise InputError(
                "function: bounds", [low, high], "[lower, upper] with lower < upper"
            )
        self.low, self.width = low, high - low
        self.allowed = f"values strictly between {low:g} and {high:g}"

    def value(self, s: np.ndarray) -> np.ndarray:
        # tanh is the logistic function without overflow, in texts too.
        return np.asarray(self.low + self.width / 2 * (1 + np.tanh(s / 2)))

    def node(self, graph: Graph, s: int) -> int:
        half = graph.apply("tanh", graph.multiply(graph.number(0.5), s))
        rising = graph.multiply(graph.number(self.width / 2), half)
        return graph.add(graph.number(self.low + self.width / 2), rising)

    def inverse(self, f: np.ndarray) -> np.ndarray:
        share = (f - self.low) / self.width
        return np.asarray(np.log(share / (1 - share)))

    def reaches(self, f: np.ndarray) -> np.ndarray:
        return np.asarray((f > self.low) & (f < self.low + self.width))


SIGNS: dict[str, type[Positive]] = {"positive": Positive, "negative": Negative}


def link(sign: str | None = None, bounds: tuple[float, float] | None = None) -> Link:
    """The link of a function with a sign, or within bounds.

    Raises:
        InputError: for another sign than those of SIGNS, and for both a sign and bounds.
    """
    if bounds is not None:
        if sign is not None:
            raise InputError("function: sign", repr(sign), "a sign or bounds, not both")
        return Between(*bounds)
    if sign is None:
        return Free()
    if sign not in SIGNS:
        raise InputError("function: sign", repr(sign), ", ".join(SIGNS))
    return SIGNS[sign]()
