"""Expressions as a graph: each node a number, a name or an operation on earlier nodes, equal nodes
made once.

A node comes after those that it is made of, so values and derivatives are taken in one pass,
without recursion: with d_a the derivatives of the arguments, d f(a_1, a_2, ...) = slope of f.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from npde_opt.aliases import Numbers
from npde_opt.compiling import defined
from npde_opt.functions.operations import OPERATIONS, Operation
from npde_opt.functions.parts import in_parts

Whole = Callable[[Sequence[Numbers]], list[Numbers]]

PRODUCTS = 16
"""Powers by integers up to this are products."""


@dataclass(frozen=True)
class Node:
    """`operation` on the nodes `arguments`; or the number `value`, or the name `name`, where
    `operation` is empty."""

    operation: str = ""
    arguments: tuple[int, ...] = ()
    value: float = 0.0
    name: str = ""


class Graph:
    """Nodes by number. Methods give the number of a node that is made, or found where an equal one
    is there.

    Attributes:
        operations: those of the language, and calls of functions (see calls.py).
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.operations: dict[str, Operation] = dict(OPERATIONS)
        self._found: dict[Node, int] = {}

    def _node(self, node: Node) -> int:
        if node not in self._found:
            self._found[node] = len(self.nodes)
            self.nodes.append(node)
        return self._found[node]

    def number(self, value: float) -> int:
        """A number; NaN, which is not equal to itself, is one node each time."""
        return self._node(Node(value=float(value) + 0.0))

    def name(self, name: str) -> int:
        return self._node(Node(name=name))

    def is_number(self, node: int, value: float | None = None) -> bool:
        """Whether a node is a number, or that number."""
        found = self.nodes[node]
        return (
            not found.operation
            and not found.name
            and (value is None or found.value == value)
        )

    def apply(self, operation: str, *arguments: int) -> int:
        """An operation; its value where all arguments are numbers."""
        known = self.operations[operation]
        if known.folds and all(self.is_number(a) for a in arguments):
            with np.errstate(all="ignore"):
                found = known.value(*[self.nodes[a].value for a in arguments])
                return self.number(float(found))
        if operation == "where":
            condition, a, b = arguments
            if a == b or self.is_number(condition):
                return b if self.is_number(condition, 0.0) else a
        return self._node(Node(operation, arguments))

    def add(self, a: int, b: int) -> int:
        if self.is_number(a, 0.0) or self.is_number(b, 0.0):
            return b if self.is_number(a, 0.0) else a
        if a == b:
            return self.multiply(self.number(2.0), a)
        return self.apply("+", min(a, b), max(a, b))

    def subtract(self, a: int, b: int) -> int:
        if self.is_number(b, 0.0):
            return a
        if self.is_number(a, 0.0):
            return self.negative(b)
        return self.number(0.0) if a == b else self.apply("-", a, b)

    def negative(self, a: int) -> int:
        return (
            self.nodes[a].arguments[0]
            if self.nodes[a].operation == "negative"
            else self.apply("negative", a)
        )

    def multiply(self, a: int, b: int) -> int:
        for one, other in ((a, b), (b, a)):
            if self.is_number(one, 0.0) or self.is_number(other, 1.0):
                return one
            if self.is_number(one, -1.0):
                return self.negative(other)
        return self.apply("*", min(a, b), max(a, b))

    def divide(self, a: int, b: int) -> int:
        if self.is_number(b, 1.0) or self.is_number(a, 0.0) and not self.is_number(b):
            return a
        return self.apply("/", a, b)

    def power(self, a: int, b: int) -> int:
        """a^b; small integer powers as products, so that they and their derivatives are cheap and
        exact."""
        if not self.is_number(b) or self.is_number(a):
            return self.apply("**", a, b)
        exponent = self.nodes[b].value
        if exponent == 0.5:
            return self.apply("sqrt", a)
        if not exponent.is_integer() or abs(exponent) > PRODUCTS:
            return self.apply("**", a, b)
        product = self._product(a, int(abs(exponent)))
        return product if exponent >= 0 else self.divide(self.number(1.0), product)

    def _product(self, a: int, count: int) -> int:
        if count == 0:
            return self.number(1.0)
        half = self._product(self.multiply(a, a), count // 2)
        return self.multiply(half, a) if count % 2 else half

    def substitute(
        self, nodes: Sequence[int], replaced: Mapping[int, int]
    ) -> list[int]:
        """The nodes with those of `replaced` in the place of its keys."""
        new = dict(replaced)
        for k in self.below(nodes):
            node = self.nodes[k]
            if k not in new:
                new[k] = (
                    self.apply(node.operation, *[new[a] for a in node.arguments])
                    if node.operation
                    else k
                )
        return [new[k] for k in nodes]

    def below(self, nodes: Sequence[int]) -> list[int]:
        """All nodes that `nodes` are made of, themselves included, in order."""
        found, stack = set(nodes), list(nodes)
        while stack:
            for a in self.nodes[stack.pop()].arguments:
                if a not in found:
                    found.add(a)
                    stack.append(a)
        return sorted(found)

    def names_of(self, nodes: Sequence[int]) -> set[str]:
        return {self.nodes[k].name for k in self.below(nodes) if self.nodes[k].name}

    def derivatives(
        self, nodes: Sequence[int], directions: Mapping[int, int]
    ) -> list[int]:
        """sum_a (d node/d a) d_a for each node, with {node of a: node of d_a}."""
        zero = self.number(0.0)
        found: dict[int, int] = {}
        for k in self.below(nodes):
            node = self.nodes[k]
            changes = [found[a] for a in node.arguments]
            if all(self.is_number(c, 0.0) for c in changes):
                found[k] = directions.get(k, zero)
            else:
                found[k] = self.operations[node.operation].slope(
                    self, k, node.arguments, changes
                )
        return [found[k] for k in nodes]

    def function(
        self, arguments: Sequence[int], results: Sequence[int]
    ) -> Callable[..., list[Numbers]]:
        """Values of the nodes `results` from those of the names `arguments`: arrays that broadcast,
        or numbers.

        What is not defined is inf or NaN, silently: who uses the values looks whether they are
        finite.
        """
        order = self.below([*arguments, *results])
        last = {a: k for k in order for a in self.nodes[k].arguments}
        kept = {*arguments, *results}
        numbers = {k: self.nodes[k].value for k in order if self.is_number(k)}
        used = {self.nodes[k].operation for k in order} - {""}
        cellwise = used <= OPERATIONS.keys()
        lines, space = list[str](), dict[str, object]()
        if arguments:
            lines.append(f"{_locals(arguments)} = values")
        for k in order:
            node = self.nodes[k]
            if not node.operation:
                continue
            done = [a for a in set(node.arguments) if last[a] == k and a not in kept]
            space[f"f_{k}"] = self.operations[node.operation].value
            lines.append(f"v_{k} = f_{k}({_locals(node.arguments)})")
            lines += [f"v_{a} = None" for a in done if a not in numbers]
        space |= {f"v_{k}": value for k, value in numbers.items()}
        lines.append(f"return [{_locals(results)}]")
        # Nothing of a user's text is in the source: nodes have numbers.
        source = "def whole(values):\n" + "".join(f"    {line}\n" for line in lines)
        whole = cast(Whole, defined(source, "whole", space))

        # Numbers in place of arrays without axes: operations on them take half the time.
        def run(values: Sequence[Numbers]) -> list[Numbers]:
            with np.errstate(all="ignore"):
                return whole(
                    [
                        v[()] if type(v) is np.ndarray and not v.ndim else v
                        for v in values
                    ]
                )

        def evaluate(*values: Numbers) -> list[Numbers]:
            return in_parts(run, values) if cellwise else run(values)

        return evaluate

    def code(
        self, names: Mapping[int, str], results: Sequence[int]
    ) -> tuple[list[str], list[str]]:
        """Python of scalars: assignments to c_0, c_1, ..., and one name or number a result.

        `names` are the caller's for the names of the graph, so that nothing of a user's text is in
        the code.
        """
        written, lines = dict(names), list[str]()
        for k in self.below(results):
            node = self.nodes[k]
            if self.is_number(k):
                finite = np.isfinite(node.value)
                written[k] = (
                    f"({node.value!r})"
                    if finite
                    else f"({'-' * (node.value < 0)}math.{abs(node.value)})"
                )
            elif k not in written:
                written[k] = f"c_{len(lines)}"
                lines.append(
                    f"{written[k]} = "
                    + self.operations[node.operation].code.format(
                        *[written[a] for a in node.arguments]
                    )
                )
        return lines, [written[k] for k in results]


def _locals(nodes: Sequence[int]) -> str:
    """The variables of nodes in a function that is written, each with a comma behind it."""
    return " ".join(f"v_{k}," for k in nodes)
