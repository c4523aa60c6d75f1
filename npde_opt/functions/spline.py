"""s(v; c) = sum_i c_i B_i(v): a cubic spline on equal intervals of a box, in any number of
variables.

B_i are uniform B-splines, a product of one a variable. Beyond the first and the last knot c goes on
as a line, so that s'' = 0 there: s(first knot) = c_0, all B_i are between 0 and 1 and add up to 1,
and s is monotone where c is. Outside of its box s is continued as a line, which is twice
differentiable there too, or as a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

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

    def places(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Interval, place in it, and how far v is outside of the box, in intervals."""
        s = (v - self.low) / self.step
        first = np.clip(np.nan_to_num(np.floor(s)), 0, self.knots - 2)
        inside = np.clip(s - first, 0.0, 1.0)
        return first.astype(np.int64), inside, s - first - inside

    def weights(self, inside: np.ndarray, beyond: np.ndarray, order: int) -> list[np.ndarray]:
        """Of the four B-splines at places, derivatives in v."""
        if order > 2:
            raise NotImplementedError("derivatives of a spline of third order")
        found = [np.polyval(p[::-1], inside) for p in PIECES[order]]
        if self.constant and order > 0:
            found = [np.where(beyond == 0, x, 0.0) for x in found]
        elif not self.constant and order == 0 and np.any(beyond):
            slopes = [np.polyval(p[::-1], inside) for p in PIECES[1]]
            found = [x + beyond * slope for x, slope in zip(found, slopes, strict=True)]
        return [x / self.step**order for x in found]


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
            raise InputError("function: knots", list(knots), "one number a variable and range")
        for (low, high), n in zip(ranges, knots, strict=True):
            if not (np.isfinite(low) and np.isfinite(high) and low < high):
                raise InputError("function: range", [low, high], "[lower, upper], lower < upper")
            if n < 2:
                raise InputError("function: knots", n, "at least 2 a variable")
        if outside not in OUTSIDE:
            raise InputError("function: outside", repr(outside), ", ".join(OUTSIDE))
        constant = outside == "constant"
        self.axes = [
            Axis(float(a), float(b), n, constant) for (a, b), n in zip(ranges, knots, strict=True)
        ]
        self.knots = tuple(knots)
        self.variables = len(self.knots)
        self.link = link or Free()
        count = int(np.prod(self.knots))
        if monotone is None:
            self.shape = Direct(count)
        elif self.variables > 1:
            raise InputError("function: monotone", monotone, "none with several variables")
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
        return SplineAt(self, together(v))

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
        self.places = [a.places(x.ravel()) for a, x in zip(spline.axes, v, strict=True)]
        self.extended = tuple(n + 2 for n in spline.knots)
        self._kept: dict[Orders, list[tuple[np.ndarray, np.ndarray]]] = {}

    def _terms(self, orders: Orders) -> list[tuple[np.ndarray, np.ndarray]]:
        """(index into the extended c, weight) of each product of B-splines, at all points."""
        if orders not in self._kept:
            self._kept[orders] = list(self._products(orders))
        return self._kept[orders]

    def _products(self, orders: Orders) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        weights = [
            axis.weights(inside, beyond, order)
            for axis, (_, inside, beyond), order in zip(
                self.spline.axes, self.places, orders, strict=True
            )
        ]
        for corner in product(range(4), repeat=self.spline.variables):
            index = np.zeros(1, np.int64)
            weight: np.ndarray = np.ones(1)
            for d, k in enumerate(corner):
                index = index * self.extended[d] + self.places[d][0] + k
                weight = weight * weights[d][k]
            yield index, weight

    def _along(self, c: np.ndarray) -> np.ndarray:
        """c with its continuation beyond the knots, flat."""
        found = c.reshape(self.spline.knots)
        for d in range(found.ndim):
            x = np.moveaxis(found, d, 0)
            ends = 2 * x[:1] - x[1:2], 2 * x[-1:] - x[-2:-1]
            found = np.moveaxis(np.concatenate([ends[0], x, ends[1]]), 0, d)
        return found.ravel()

    def _back(self, y: np.ndarray) -> np.ndarray:
        """The transpose of `_along`."""
        found = y.reshape(self.extended)
        for d in range(found.ndim):
            x = np.moveaxis(found, d, 0)
            own = x[1:-1].copy()
            own[0] += 2 * x[0]
            own[1] -= x[0]
            own[-1] += 2 * x[-1]
            own[-2] -= x[-1]
            found = np.moveaxis(own, 0, d)
        return found.ravel()

    def value(self, c: np.ndarray, orders: Orders) -> np.ndarray:
        along = self._along(c)
        total: np.ndarray = np.zeros(1)
        for index, weight in self._terms(orders):
            total = total + weight * along[index]
        return total.reshape(self.shape)

    def push(self, c: np.ndarray, dc: np.ndarray, orders: Orders) -> np.ndarray:
        return self.value(dc, orders)

    def pull(self, c: np.ndarray, w: Numbers, orders: Orders) -> np.ndarray:
        given, size = over_points(w, self.shape), int(np.prod(self.extended))
        total = np.zeros(size)
        for index, weight in self._terms(orders):
            total += np.bincount(index, given * weight, size)
        return self._back(total)

    def second(self, c: np.ndarray, dc: np.ndarray, w: Numbers, orders: Orders) -> np.ndarray:
        return np.zeros(c.size)

    def jacobian(self, c: np.ndarray) -> np.ndarray:
        none = (0,) * self.spline.variables
        found = [self.value(unit, none) for unit in np.eye(c.size)]
        return np.array(found)
