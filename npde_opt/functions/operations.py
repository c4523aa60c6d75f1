"""The operations of the language of texts: value, derivative and scalar code of each.

Truth values are 1.0 and 0.0. Derivatives are piecewise: those of `where`, `abs`, `minimum`,
`maximum` and `%` are right away from the places where the pieces meet, and there they are those of
one of the pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from npde_opt.aliases import Numbers


class Graph(Protocol):
    """What makes the nodes of a derivative: see graph.py."""

    def number(self, value: float) -> int: ...

    def is_number(self, node: int, value: float | None = None) -> bool: ...

    def apply(self, operation: str, *arguments: int) -> int: ...

    def add(self, a: int, b: int) -> int: ...

    def subtract(self, a: int, b: int) -> int: ...

    def multiply(self, a: int, b: int) -> int: ...

    def divide(self, a: int, b: int) -> int: ...

    def power(self, a: int, b: int) -> int: ...

    def negative(self, a: int) -> int: ...


Slope = Callable[[Graph, int, Sequence[int], Sequence[int]], int]


@dataclass(frozen=True)
class Operation:
    """One operation.

    Args:
        arguments: how many it takes.
        value: of arrays or numbers that broadcast together.
        slope: (graph, its own node, nodes of its arguments, nodes of their derivatives) -> node of
            its derivative.
        code: of scalars in Python with `math`, with {0}, {1}, ... for the arguments.
        folds: of numbers it is a number, taken at once.
    """

    arguments: int
    value: Callable[..., Numbers]
    slope: Slope
    code: str
    folds: bool = True


def flat(graph: Graph, own: int, a: Sequence[int], da: Sequence[int]) -> int:
    """The derivative of what is piecewise constant."""
    return graph.number(0.0)


def inner(outer: Callable[[Graph, int, int], int]) -> Slope:
    """f'(a) da of a function of one argument, from (graph, own node, a) -> f'(a)."""

    def slope(graph: Graph, own: int, a: Sequence[int], da: Sequence[int]) -> int:
        if graph.is_number(da[0], 0.0):
            return da[0]
        return graph.multiply(outer(graph, own, a[0]), da[0])

    return slope


def _product(g: Graph, own: int, a: Sequence[int], da: Sequence[int]) -> int:
    return g.add(g.multiply(da[0], a[1]), g.multiply(a[0], da[1]))


def _quotient(g: Graph, own: int, a: Sequence[int], da: Sequence[int]) -> int:
    """(da - (a/b) db)/b."""
    return g.divide(g.subtract(da[0], g.multiply(own, da[1])), a[1])


def _power(g: Graph, own: int, a: Sequence[int], da: Sequence[int]) -> int:
    """b a^(b - 1) da + a^b log(a) db; the second part is 0 where a is, its limit for positive b."""
    one, zero = g.number(1.0), g.number(0.0)
    first = zero
    if not g.is_number(da[0], 0.0):
        first = g.multiply(
            g.multiply(a[1], g.power(a[0], g.subtract(a[1], one))), da[0]
        )
    if g.is_number(da[1], 0.0):
        return first
    grows = g.apply(
        "where", g.apply("==", a[0], zero), zero, g.multiply(own, g.apply("log", a[0]))
    )
    return g.add(first, g.multiply(grows, da[1]))


def _choice(g: Graph, own: int, a: Sequence[int], da: Sequence[int]) -> int:
    return g.apply("where", a[0], da[1], da[2])


def _smaller(g: Graph, own: int, a: Sequence[int], da: Sequence[int]) -> int:
    return g.apply("where", g.apply("<=", a[0], a[1]), da[0], da[1])


def _larger(g: Graph, own: int, a: Sequence[int], da: Sequence[int]) -> int:
    return g.apply("where", g.apply(">=", a[0], a[1]), da[0], da[1])


def _angle(g: Graph, own: int, a: Sequence[int], da: Sequence[int]) -> int:
    """(b da - a db)/(a^2 + b^2) of the angle of (b, a)."""
    square = g.add(g.multiply(a[0], a[0]), g.multiply(a[1], a[1]))
    return g.divide(
        g.subtract(g.multiply(da[0], a[1]), g.multiply(a[0], da[1])), square
    )


def _remainder(g: Graph, own: int, a: Sequence[int], da: Sequence[int]) -> int:
    return g.subtract(da[0], g.multiply(g.apply("floor", g.divide(a[0], a[1])), da[1]))


def _one_plus_square(g: Graph, a: int) -> int:
    return g.add(g.number(1.0), g.multiply(a, a))


def _truth(compare: Callable[..., Numbers]) -> Callable[..., Numbers]:
    return lambda *a: np.asarray(compare(*a), float)[()]


def _where(condition: Numbers, a: Numbers, b: Numbers) -> Numbers:
    return np.asarray(np.where(np.not_equal(condition, 0), a, b))[()]


def _function(
    name: str,
    outer: Callable[[Graph, int, int], int],
    value: Callable[..., Numbers] | None = None,
) -> Operation:
    return Operation(1, value or getattr(np, name), inner(outer), f"math.{name}({{0}})")


def _comparison(symbol: str, value: Callable[..., Numbers]) -> Operation:
    return Operation(2, _truth(value), flat, f"(1.0 if {{0}} {symbol} {{1}} else 0.0)")


OPERATIONS: dict[str, Operation] = {
    "+": Operation(2, np.add, lambda g, own, a, da: g.add(da[0], da[1]), "({0} + {1})"),
    "-": Operation(
        2, np.subtract, lambda g, own, a, da: g.subtract(da[0], da[1]), "({0} - {1})"
    ),
    "*": Operation(2, np.multiply, _product, "({0} * {1})"),
    "/": Operation(2, np.divide, _quotient, "({0} / {1})"),
    "**": Operation(2, np.power, _power, "({0} ** {1})"),
    "%": Operation(2, np.mod, _remainder, "({0} % {1})"),
    "negative": Operation(
        1, np.negative, lambda g, own, a, da: g.negative(da[0]), "(-{0})"
    ),
    "exp": _function("exp", lambda g, own, a: own),
    "log": _function("log", lambda g, own, a: g.divide(g.number(1.0), a)),
    "sqrt": _function("sqrt", lambda g, own, a: g.divide(g.number(0.5), own)),
    "sin": _function("sin", lambda g, own, a: g.apply("cos", a)),
    "cos": _function("cos", lambda g, own, a: g.negative(g.apply("sin", a))),
    "tan": _function("tan", lambda g, own, a: _one_plus_square(g, own)),
    "sinh": _function("sinh", lambda g, own, a: g.apply("cosh", a)),
    "cosh": _function("cosh", lambda g, own, a: g.apply("sinh", a)),
    "tanh": _function(
        "tanh", lambda g, own, a: g.subtract(g.number(1.0), g.multiply(own, own))
    ),
    "atan": _function(
        "atan",
        lambda g, own, a: g.divide(g.number(1.0), _one_plus_square(g, a)),
        np.arctan,
    ),
    "atan2": Operation(2, np.arctan2, _angle, "math.atan2({0}, {1})"),
    "abs": Operation(
        1, np.abs, inner(lambda g, own, a: g.apply("sign", a)), "abs({0})"
    ),
    "sign": Operation(
        1, np.sign, flat, "(1.0 if {0} > 0 else -1.0 if {0} < 0 else 0.0)"
    ),
    "floor": Operation(1, np.floor, flat, "({0} - {0} % 1.0)"),
    "minimum": Operation(2, np.minimum, _smaller, "({0} if {0} <= {1} else {1})"),
    "maximum": Operation(2, np.maximum, _larger, "({0} if {0} >= {1} else {1})"),
    "where": Operation(3, _where, _choice, "({1} if {0} != 0 else {2})"),
    "<": _comparison("<", np.less),
    "<=": _comparison("<=", np.less_equal),
    ">": _comparison(">", np.greater),
    ">=": _comparison(">=", np.greater_equal),
    "==": _comparison("==", np.equal),
    "!=": _comparison("!=", np.not_equal),
    "and": Operation(
        2, _truth(np.logical_and), flat, "(1.0 if {0} != 0 and {1} != 0 else 0.0)"
    ),
    "or": Operation(
        2, _truth(np.logical_or), flat, "(1.0 if {0} != 0 or {1} != 0 else 0.0)"
    ),
    "not": Operation(1, _truth(np.logical_not), flat, "(1.0 if {0} == 0 else 0.0)"),
}
