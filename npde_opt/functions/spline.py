"""s(v; c) = sum_i c_i B_i(v): a cubic spline on equal intervals of a box, in any number of
variables.

B_i are uniform B-splines, a product of one a variable. Beyond the first and the last knot c goes on
as a line, so that s'' = 0 there: s(first knot) = c_0, all B_i are between 0 and 1 and add up to 1,
and s is monotone where c is. Outside of its box s is continued as a line, which is twice
differentiable there too, or as a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from npde_opt.aliases import Numbers
from npde_opt.errors import InputError
from npde_opt.functions.interface import Function, Orders, over_points, together
from npde_opt.functions.links import Free, Link
from npde_opt.functions.shapes import Direct, Monotone, direction

OUTSIDE = ("linear", "constant")
CUBICS = np.array([[1, -3, 3, -1], [4, 0, -6, 3], [1, 3, 3, -3], [0, 0, 0, 1]]) / 6
"""The four B-splines of an interval, as polynomials of the place in it, from 0 to 1."""


def _derived(cubics: np.ndarray) -> np.ndarray:
    return np.pad(cubics[:, 1:] * np.arange(1, 4), ((0, 0), (0, 1)))


PIECES = [CUBICS, _derived(CUBICS), _derived(_derived(CUBICS))]
"""Their derivatives of the orders 0, 1, 2."""
FOUR = np.arange(4)[:, None]
KEPT = 1 << 24
"""Bytes of sets of points whose intervals and weights are kept, of all splines together: a state's
values, derivatives and transposes are asked for again and again."""
FEW = 1 << 14
"""Points of such a set at most."""
VALUES = 4
"""Values at such a set that are kept: those and the slopes of one spline, and of the one before."""


@dataclass(frozen=True)
class Axis:
    """Equal intervals of one variable."""

    low: float
    high: float
    knots: int
    constant: bool

    @property
    def step(self) -> float:
        return (self.high - self.low) / (self.knots - 1)

    @cached_property
    def extension(self) -> np.ndarray:
        """c with a value more at both ends, on the line through the last two [knots + 2, knots]."""
        found = np.eye(self.knots + 2, self.knots, -1)
        found[0, :2] = found[-1, :-3:-1] = 2, -1
        return found

    def at(self, v: np.ndarray) -> AxisAt:
        return AxisAt(self, v)


class AxisAt:
    """Points of one variable.

    Attributes:
        first: the intervals that they are in, the first and the last one for those outside.
    """

    def __init__(self, axis: Axis, v: np.ndarray):
        self.axis = axis
        s = (v - axis.low) * (1 / axis.step)
        # A NaN is in the first interval, and stays one in its place there.
        first = np.fmin(np.fmax(s, 0), axis.knots - 2).astype(np.int64)
        self.first, place = first, s - first
        inside = np.minimum(np.maximum(place, 0.0), 1.0)
        self._beyond = place - inside
        self._is_beyond = bool(self._beyond.any())
        square = inside * inside
        self._powers = np.array([np.ones_like(inside), inside, square, square * inside])

    def weights(self, order: int) -> np.ndarray:
        """Of the four B-splines that are not 0 [spline, point], differentiated in v."""
        if order > 2:
            raise NotImplementedError("derivatives of a spline of third order")
        found: np.ndarray = PIECES[order] @ self._powers
        if self._is_beyond and self.axis.constant and order > 0:
            found *= self._beyond == 0
        elif self._is_beyond and not self.axis.constant and order == 0:
            found += self._beyond * (PIECES[1] @ self._powers)
        return found if order == 0 else found / self.axis.step**order


class Spline(Function):
    """A spline of one or several variables.

    Args:
        ranges: first and last knot, one pair a variable.
        knots: numbers of knots, one a variable; as many values as their product, the last variable
            first in memory.
        monotone: 'rising' or 'falling', of one variable.
        link: what keeps its sign or bounds.
        outside: of its box, 'linear' or 'constant'.

    Raises:
        InputError: for less than two knots, ranges that are none, a direction of several variables.
    """

    def __init__(
        self,
        ranges: Sequence[tuple[float, float]],
        knots: Sequence[int],
        monotone: str | None = None,
        link: Link | None = None,
        outside: str = "linear",
    ):
        if len(ranges) != len(knots) or not knots:
            raise InputError(
                "function: knots", list(knots), "one number a variable and range"
            )
        for (low, high), n in zip(ranges, knots, strict=True):
            if not (np.isfinite(low) and np.isfinite(high) and low < high):
                raise InputError(
                    "function: range", [low, high], "[lower, upper], lower < upper"
                )
            if n < 2:
                raise InputError("function: knots", n, "at least 2 a variable")
        if outside not in OUTSIDE:
            raise InputError("function: outside", repr(outside), ", ".join(OUTSIDE))
        constant = outside == "constant"
        self.axes = [
            Axis(float(a), float(b), n, constant)
            for (a, b), n in zip(ranges, knots, strict=True)
        ]
        self.knots = tuple(knots)
        self.variables = len(self.knots)
        self.link = link or Free()
        count = int(np.prod(self.knots))
        if monotone is None:
            self.shape = Direct(count)
        elif self.variables > 1:
            raise InputError(
                "function: monotone", monotone, "none with several variables"
            )
        else:
            up = direction(monotone)
            self.shape = Monotone(count, -up if self.link.falls else up)

    @property
    def differences(self) -> np.ndarray:
        """Second differences of the values at the knots along each variable; of a monotone one
        those between neighbouring steps, as logarithms."""
        if self.shape.transform == "log":
            return np.diff(np.eye(self.count), axis=0)[1:]
        values = np.eye(self.count).reshape(*self.knots, self.count)
        found = [np.diff(values, 2, axis=d) for d in range(self.variables)]
        return np.concatenate([x.reshape(-1, self.count) for x in found])

    def points(self, *v: Numbers) -> SplineAt:
        given = together(v)
        if given[0].size > FEW:
            return SplineAt(self, given)
        shape = str(given[0].shape).encode()
        return SETS.at((id(self), shape, *(x.tobytes() for x in given)), self, given)

    def near(self, f: Callable[..., Numbers]) -> np.ndarray:
        """c are the values at the knots."""
        lines = [np.linspace(a.low, a.high, a.knots) for a in self.axes]
        grid = np.meshgrid(*lines, indexing="ij")
        values = np.broadcast_to(np.asarray(f(*grid), float), self.knots)
        return self.shape.inverse(self.link.given(values.ravel()))


class SplineAt:
    """A spline at points: the four intervals of each variable around them."""

    def __init__(self, spline: Spline, v: list[np.ndarray]):
        self.spline, self.shape = spline, v[0].shape
        self.at = [a.at(x.ravel()) for a, x in zip(spline.axes, v, strict=True)]
        self.extended = tuple(n + 2 for n in spline.knots)
        self._weights: dict[Orders, np.ndarray] = {}
        self._values: dict[tuple[Orders, bytes], np.ndarray] = {}

    @property
    def bytes(self) -> int:
        """About, once values and slopes were asked for."""
        products = 1 << 2 * len(self.at)
        a_point = 3 * products + 8 * len(self.at) + VALUES
        return 8 * a_point * self.at[0].first.size

    @cached_property
    def _index(self) -> np.ndarray:
        """Of the products of B-splines in the extended c [product, point]."""
        found = self.at[0].first + FOUR
        for at, size in zip(self.at[1:], self.extended[1:], strict=True):
            found = (found[:, None] * size + (at.first + FOUR)).reshape(
                -1, at.first.size
            )
        return found

    def _products(self, orders: Orders) -> np.ndarray:
        """Products of B-splines at the points [product, point]."""
        if orders not in self._weights:
            found = self.at[0].weights(orders[0])
            for at, order in zip(self.at[1:], orders[1:], strict=True):
                found = (found[:, None] * at.weights(order)).reshape(-1, at.first.size)
            self._weights[orders] = found
        return self._weights[orders]

    def _along(self, c: np.ndarray) -> np.ndarray:
        """c with its continuation beyond the knots, flat."""
        for axis in self.spline.axes:  # each puts its variable last
            c = (axis.extension @ c.reshape(axis.knots, -1)).T
        return c.ravel()

    def _back(self, y: np.ndarray) -> np.ndarray:
        """The transpose of `_along`."""
        for axis in self.spline.axes:
            y = (axis.extension.T @ y.reshape(axis.knots + 2, -1)).T
        return y.ravel()

    def value(self, c: np.ndarray, orders: Orders) -> np.ndarray:
        """Not to be written to."""
        key = orders, c.tobytes()
        if key not in self._values:
            if len(self._values) == VALUES:
                del self._values[next(iter(self._values))]
            self._values[key] = self._evaluated(c, orders)
            self._values[key].flags.writeable = False
        return self._values[key]

    def _evaluated(self, c: np.ndarray, orders: Orders) -> np.ndarray:
        values = self._along(c)[self._index]
        found: np.ndarray = np.einsum("kn,kn->n", self._products(orders), values)
        return found.reshape(self.shape)

    def push(self, c: np.ndarray, dc: np.ndarray, orders: Orders) -> np.ndarray:
        return self._evaluated(dc, orders)

    def pull(self, c: np.ndarray, w: Numbers, orders: Orders) -> np.ndarray:
        spread = self._products(orders) * over_points(w, self.shape)
        size = int(np.prod(self.extended))
        return self._back(np.bincount(self._index.ravel(), spread.ravel(), size))

    def second(
        self, c: np.ndarray, dc: np.ndarray, w: Numbers, orders: Orders
    ) -> np.ndarray:
        return np.zeros(c.size)

    def jacobian(self, c: np.ndarray) -> np.ndarray:
        none = (0,) * self.spline.variables
        found = [self._evaluated(unit, none) for unit in np.eye(c.size)]
        return np.array(found)


class Sets:
    """The sets of points that were asked for last. A set holds on to its spline, so that no other
    one gets its number."""

    def __init__(self) -> None:
        self.bytes = 0
        self.kept: dict[tuple[int | bytes, ...], SplineAt] = {}

    def at(
        self, key: tuple[int | bytes, ...], spline: Spline, v: list[np.ndarray]
    ) -> SplineAt:
        """The one of this key, made where it is not there."""
        found = self.kept.pop(key, None)
        if found is None:
            found = SplineAt(spline, v)
            self.bytes += found.bytes
        self.kept[key] = found  # the last one is the latest
        while self.bytes > KEPT:
            self.bytes -= self.kept.pop(next(iter(self.kept))).bytes
        return found


SETS = Sets()
