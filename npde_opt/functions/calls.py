"""Calls F(v_1, ..., v_d) of functions with numbers theta (see interface.py) as nodes of a graph.

The numbers are one name of the graph, whose value is an array (count,). Derivatives along them are
nodes too; those in them, number by number, are sums over cells, which a term weighs: a `Spread`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from npde_opt.aliases import Numbers
from npde_opt.functions.graph import Graph
from npde_opt.functions.interface import Function, FunctionAt, Orders
from npde_opt.functions.operations import Graph as Nodes
from npde_opt.functions.operations import Operation, flat


@dataclass(frozen=True)
class Called(Operation):
    """A derivative of a function in its variables, or that of it along a direction of the numbers.

    Arguments are theta, (the direction,) the function at its points, and its variables.
    """

    name: str = ""
    function: Function | None = None
    orders: Orders = ()
    along: bool = False

    @property
    def leading(self) -> int:
        """Arguments before the variables."""
        return 3 if self.along else 2


def called(
    graph: Graph, name: str, function: Function, variables: Sequence[int]
) -> int:
    """The node of a function at nodes."""
    place = f"at {name}"
    # What stands between nodes here is no number, and no other operation reads it.
    made = cast(Callable[..., Numbers], function.at)
    graph.operations.setdefault(
        place, Operation(function.variables, made, flat, "", folds=False)
    )
    at, orders = graph.apply(place, *variables), (0,) * function.variables
    raw = _derivative(graph, name, function, orders, (graph.name(name), at, *variables))
    return function.link.node(graph, raw)


def _value(orders: Orders) -> Callable[..., Numbers]:
    def value(theta: np.ndarray, at: FunctionAt, *v: Numbers) -> Numbers:
        return at.value(theta, orders)

    return value


def _pushed(orders: Orders) -> Callable[..., Numbers]:
    def value(theta: np.ndarray, d: Numbers, at: FunctionAt, *v: Numbers) -> Numbers:
        # 0.0 stands for numbers that do not change.
        return at.push(theta, np.asarray(d), orders) if np.ndim(d) else 0.0

    return value


def _derivative(
    graph: Graph,
    name: str,
    function: Function,
    orders: Orders,
    arguments: Sequence[int],
    along: bool = False,
) -> int:
    """The node of one order, made where it is not there."""
    key = f"{'along ' if along else ''}{name} {orders}"
    value = _pushed(orders) if along else _value(orders)
    made = Called(
        len(arguments), value, _slope, "", False, name, function, orders, along
    )
    graph.operations.setdefault(key, made)
    return graph.apply(key, *arguments)


def _slope(g: Nodes, own: int, a: Sequence[int], da: Sequence[int]) -> int:
    """In the variables, and of a function itself along a direction of its numbers."""
    assert isinstance(g, Graph)
    operation = g.operations[g.nodes[own].operation]
    assert isinstance(operation, Called) and operation.function is not None
    name, function, orders = operation.name, operation.function, operation.orders
    total = g.number(0.0)
    for d, change in enumerate(da[operation.leading :]):
        if not g.is_number(change, 0.0):
            higher = tuple(n + (d == e) for e, n in enumerate(orders))
            slope = _derivative(g, name, function, higher, a, operation.along)
            total = g.add(total, g.multiply(slope, change))
    if not operation.along and not g.is_number(da[0], 0.0):
        pushed = (a[0], da[0], *a[1:])
        total = g.add(total, _derivative(g, name, function, orders, pushed, True))
    return total


@dataclass
class Share:
    """sum_x w d/dtheta of one call, or of its derivative along `direction`."""

    at: FunctionAt
    orders: Orders
    weight: Numbers
    direction: np.ndarray | None

    def total(
        self, theta: np.ndarray, weigh: Callable[[Numbers], Numbers]
    ) -> np.ndarray:
        weight = weigh(self.weight)
        if self.direction is None:
            return self.at.pull(theta, weight, self.orders)
        return self.at.second(theta, self.direction, weight, self.orders)


@dataclass
class Spread:
    """A cotangent of the numbers of a function, before it is summed over points.

    Args:
        theta: the numbers. shares: of all calls.
    """

    theta: np.ndarray
    shares: list[Share]

    def total(self, weigh: Callable[[Numbers], Numbers]) -> np.ndarray:
        """(count,)

        Args:
            weigh: of values at points their weighted ones, 0 at points that do not count.
        """
        found = np.zeros(self.theta.size)
        for share in self.shares:
            found += share.total(self.theta, weigh)
        return found

    def plus(self, other: Spread) -> Spread:
        return Spread(self.theta, [*self.shares, *other.shares])


Part = Numbers | Spread
"""A cotangent of an argument of texts: point by point, or of a function's numbers."""


@dataclass(frozen=True)
class CallNodes:
    """The nodes that a share of a cotangent is made of."""

    at: int
    orders: Orders
    weight: int
    direction: int | None


def shares(graph: Graph, total: int, name: str) -> list[CallNodes]:
    """What the derivative of a node in the numbers of a function is a sum of."""
    found, one = list[CallNodes](), graph.number(1.0)
    for k in graph.below([total]):
        node = graph.nodes[k]
        operation = graph.operations.get(node.operation)
        if isinstance(operation, Called) and operation.name == name:
            (weight,) = graph.derivatives([total], {k: one})
            if not graph.is_number(weight, 0.0):
                direction = node.arguments[1] if operation.along else None
                at = node.arguments[operation.leading - 1]
                found.append(CallNodes(at, operation.orders, weight, direction))
    return found


def points_of(graph: Graph, nodes: Sequence[int], name: str) -> list[list[int]]:
    """The nodes of the variables at which a function is called, once each."""
    place = f"at {name}"
    called_at = [k for k in graph.below(nodes) if graph.nodes[k].operation == place]
    return [list(graph.nodes[k].arguments) for k in called_at]


def spread(
    theta: np.ndarray, parts: Sequence[CallNodes], found: Mapping[int, Numbers]
) -> Spread:
    """From the values of nodes."""
    listed = []
    for part in parts:
        direction = (
            None if part.direction is None else np.asarray(found[part.direction])
        )
        if direction is not None and direction.ndim == 0:
            continue
        at = cast(FunctionAt, found[part.at])
        listed.append(Share(at, part.orders, found[part.weight], direction))
    return Spread(theta, listed)
