"""f(v; theta) = g(s(v; c(theta))): a function of a few variables whose values follow from numbers.

    theta   its numbers, what is sought (count,)
    c       what the shape makes of them (see shapes.py): all that s is made of
    s       a spline or a perceptron, with derivatives in v of every order that texts ask for
    g       the link, which keeps signs and bounds (see links.py); texts apply it

With multipliers w of the points and directions d of the numbers, at one order of derivative in v:

    value s,   push s_theta d,   pull sum_x w s_theta,   second sum_x w s_theta,theta d,
    jacobian s_theta, number by number.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from npde_opt.aliases import Numbers
from npde_opt.functions.links import Link
from npde_opt.functions.shapes import Shape

Orders = tuple[int, ...]
"""Of a derivative, one a variable."""


class Points(Protocol):
    """s at points, as a function of c."""

    def value(self, c: np.ndarray, orders: Orders) -> np.ndarray: ...

    def push(self, c: np.ndarray, dc: np.ndarray, orders: Orders) -> np.ndarray: ...

    def pull(self, c: np.ndarray, w: Numbers, orders: Orders) -> np.ndarray: ...

    def second(
        self, c: np.ndarray, dc: np.ndarray, w: Numbers, orders: Orders
    ) -> np.ndarray: ...

    def jacobian(self, c: np.ndarray) -> np.ndarray: ...


class Function(ABC):
    """A function, before its numbers are known.

    Attributes:
        variables: how many it has.
        count: of its numbers.
        shape: what makes c of its numbers.
        link: g.
    """

    variables: int
    shape: Shape
    link: Link

    @property
    def count(self) -> int:
        return self.shape.count

    @abstractmethod
    def points(self, *v: Numbers) -> Points:
        """s at points, whose coordinates broadcast together."""

    @property
    def differences(self) -> np.ndarray:
        """Rows of numbers (any, count): what is small for smooth functions. None by default."""
        return np.zeros((0, self.count))

    @abstractmethod
    def near(self, f: Callable[..., Numbers]) -> np.ndarray:
        """Numbers with which it is near f of its variables, within what it can be.

        Raises:
            InputError: where f has values, or a direction, that it cannot have.
        """

    def at(self, *v: Numbers) -> FunctionAt:
        return FunctionAt(self.shape, self.points(*v))

    def evaluate(self, theta: np.ndarray, *v: Numbers) -> np.ndarray:
        """f itself."""
        found = self.at(*v).value(theta, (0,) * self.variables)
        return np.array(self.link.value(found))


class FunctionAt:
    """s at points as a function of the numbers theta."""

    def __init__(self, shape: Shape, points: Points):
        self.shape, self.points = shape, points

    def value(self, theta: np.ndarray, orders: Orders) -> np.ndarray:
        return self.points.value(self.shape.kept(theta), orders)

    def push(self, theta: np.ndarray, d: np.ndarray, orders: Orders) -> np.ndarray:
        c, dc = self.shape.kept(theta), self.shape.push(theta, d)
        return self.points.push(c, dc, orders)

    def pull(self, theta: np.ndarray, w: Numbers, orders: Orders) -> np.ndarray:
        pulled = self.points.pull(self.shape.kept(theta), w, orders)
        return self.shape.pull(theta, pulled)

    def second(
        self, theta: np.ndarray, d: np.ndarray, w: Numbers, orders: Orders
    ) -> np.ndarray:
        c, dc = self.shape.kept(theta), self.shape.push(theta, d)
        bent = self.shape.pull(theta, self.points.second(c, dc, w, orders))
        pulled = self.points.pull(c, w, orders)
        return np.asarray(bent + self.shape.second(theta, d, pulled))

    def jacobian(self, theta: np.ndarray) -> np.ndarray:
        """(count, *points)"""
        flat = self.points.jacobian(self.shape.kept(theta))
        found = [self.shape.push(theta, unit) for unit in np.eye(self.shape.count)]
        return np.asarray(np.tensordot(np.array(found), flat, 1))


def over_points(w: Numbers, points: tuple[int, ...]) -> np.ndarray:
    """Multipliers one a point, flat; summed where there are several of one point, which does not
    vary."""
    values = np.asarray(w, float)
    if not points:
        return np.array([values.sum()])
    return np.broadcast_to(values, points).ravel()


def together(v: Sequence[Numbers]) -> list[np.ndarray]:
    """Coordinates of the same shape."""
    if len(v) == 1:
        return [np.asarray(v[0], float)]
    return list(np.broadcast_arrays(*[np.asarray(x, float) for x in v]))
