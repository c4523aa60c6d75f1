"""s(v; c) = c_0 + sum_h a_h tanh(b_h + sum_d w_hd z_d): a network with one hidden layer.

z_d runs from -1 to 1 over the range of variable d. c is [c_0, a_h, b_h, w_hd row by row]. Of a
monotone one a and w are squares (see shapes.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from npde_opt.aliases import Numbers
from npde_opt.errors import InputError
from npde_opt.functions.interface import Function, Orders, over_points, together
from npde_opt.functions.links import Free, Link
from npde_opt.functions.shapes import Direct, Squares, direction
from npde_opt.packages import scipy

if TYPE_CHECKING:
    from numpy.polynomial import Polynomial

SAMPLES = 512
"""Points, at least, at which a network is brought near another function."""
SMALLEST = 1e-3
"""Weight of a neuron of a monotone network at the start, as a share of the function's size."""


@cache
def tanh_derivatives(most: int = 6) -> list[Polynomial]:
    """Of tanh, as polynomials of y = tanh: y' = 1 - y^2."""
    from numpy.polynomial import Polynomial  # few runs have perceptrons

    found = [Polynomial([0.0, 1.0])]
    for _ in range(most):
        found.append(found[-1].deriv() * Polynomial([1.0, 0.0, -1.0]))
    return found


class Perceptron(Function):
    """A network of one or several variables.

    Args:
        ranges: of the variables, a pair each.
        neurons: of the hidden layer.
        monotone: 'rising' or 'falling', in every variable.
        link: what keeps its sign or bounds.
        seed: of the hidden layer that it starts from.

    Raises:
        InputError: for no neuron, and ranges that are none.
    """

    def __init__(
        self,
        ranges: Sequence[tuple[float, float]],
        neurons: int,
        monotone: str | None = None,
        link: Link | None = None,
        seed: int = 0,
    ):
        if neurons < 1:
            raise InputError("function: neurons", neurons, "at least 1")
        for low, high in ranges:
            if not (np.isfinite(low) and np.isfinite(high) and low < high):
                raise InputError(
                    "function: range", [low, high], "[lower, upper], lower < upper"
                )
        self.ranges = [(float(a), float(b)) for a, b in ranges]
        self.variables, self.neurons, self.seed = len(self.ranges), neurons, seed
        self.link = link or Free()
        count = 1 + neurons * (2 + self.variables)
        if monotone is None:
            self.shape = Direct(count)
        else:
            up = -direction(monotone) if self.link.falls else direction(monotone)
            outer, biases = np.full(neurons, up), np.zeros(neurons)
            inner = np.ones(neurons * self.variables)
            self.shape = Squares(np.concatenate([[0.0], outer, biases, inner]))

    def points(self, *v: Numbers) -> PerceptronAt:
        return PerceptronAt(self, together(v))

    def near(self, f: Callable[..., Numbers]) -> np.ndarray:
        """A random hidden layer that covers the range; a by least squares, as far as its sign
        allows."""
        rng = np.random.default_rng(self.seed)
        each = int(np.ceil(SAMPLES ** (1 / self.variables)))
        lines = [np.linspace(*ends, each) for ends in self.ranges]
        grid = np.meshgrid(*lines, indexing="ij")
        values = np.broadcast_to(np.asarray(f(*grid), float), grid[0].shape).ravel()
        s = self.link.given(values)
        w = 1.0 + rng.random((self.neurons, self.variables))
        signs = (
            np.ones_like(w)
            if isinstance(self.shape, Squares)
            else rng.choice([-1, 1], w.shape)
        )
        w *= signs
        centres = rng.uniform(-1, 1, w.shape) if self.variables > 1 else self._even()
        b = -(w * centres).sum(axis=1)
        hidden = self.points(*grid).hidden(b, w).T
        a = self._outer(np.column_stack([np.ones(s.size), hidden]), s)
        return self.shape.inverse(np.concatenate([a, b, w.ravel()]))

    def _even(self) -> np.ndarray:
        """Centres of the neurons over one variable."""
        return np.linspace(-1, 1, 2 * self.neurons + 1)[1::2, None]

    def _outer(self, columns: np.ndarray, s: np.ndarray) -> np.ndarray:
        """c_0 and a; of a monotone one with their sign, and not quite 0, where they would stay."""
        if not isinstance(self.shape, Squares):
            free: np.ndarray = np.linalg.lstsq(columns, s, rcond=1e-6)[0]
            return free
        signs = self.shape.signs[1 : 1 + self.neurons]
        # c_0 is the difference of two numbers that are not negative.
        ones = columns[:, :1]
        found, _ = scipy.optimize.nnls(
            np.hstack([signs * columns[:, 1:], ones, -ones]), s
        )
        a = np.maximum(
            found[:-2], SMALLEST * (np.ptp(s) + np.abs(s).max()) / self.neurons
        )
        start = (s - columns[:, 1:] @ (signs * a)).mean()
        return np.concatenate([[start], signs * a])


class PerceptronAt:
    """A network at points."""

    def __init__(self, network: Perceptron, v: list[np.ndarray]):
        self.network, self.shape = network, v[0].shape
        halves = [(high - low) / 2 for low, high in network.ranges]
        lows = [low for low, _ in network.ranges]
        scaled = [
            (x.ravel() - lo) / h - 1 for x, lo, h in zip(v, lows, halves, strict=True)
        ]
        self.z, self.halves = np.array(scaled), np.array(halves)

    def _parts(self, c: np.ndarray) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
        """c_0, a, b, w [h, d]."""
        n = self.network.neurons
        return (
            float(c[0]),
            c[1 : 1 + n],
            c[1 + n : 1 + 2 * n],
            c[1 + 2 * n :].reshape(n, -1),
        )

    def hidden(self, b: np.ndarray, w: np.ndarray) -> np.ndarray:
        """tanh of the hidden layer [h, point]."""
        found: np.ndarray = np.tanh(w @ self.z + b[:, None])
        return found

    def _factors(self, w: np.ndarray, orders: Orders) -> tuple[np.ndarray, ...]:
        """P = prod_d (w_d/half_d)^order_d of each neuron, and its first and second derivatives in
        w."""
        dim = len(orders)

        def power(fewer: tuple[int, ...]) -> np.ndarray:
            """P differentiated in each variable so many times."""
            found = np.ones(len(w))
            for d in range(dim):
                left, factor = orders[d] - fewer[d], 1.0
                for taken in range(fewer[d]):
                    factor *= orders[d] - taken
                if factor == 0:
                    return np.zeros(len(w))
                found = found * factor * w[:, d] ** left / self.halves[d] ** orders[d]
            return found

        unit = np.eye(dim, dtype=int)
        first = np.array([power(tuple(unit[d])) for d in range(dim)])
        twice = np.array(
            [[power(tuple(unit[d] + unit[e])) for e in range(dim)] for d in range(dim)]
        )
        return power((0,) * dim), first, twice

    def value(self, c: np.ndarray, orders: Orders) -> np.ndarray:
        start, a, b, w = self._parts(c)
        k, (P, _, _) = sum(orders), self._factors(w, orders)
        found: np.ndarray = (a * P) @ tanh_derivatives()[k](self.hidden(b, w))
        return np.asarray((found + (start if k == 0 else 0.0)).reshape(self.shape))

    def _slopes(self, c: np.ndarray, orders: Orders) -> np.ndarray:
        """Derivatives in c [number, point]."""
        _, a, b, w = self._parts(c)
        k, (P, Q, _) = sum(orders), self._factors(w, orders)
        y = self.hidden(b, w)
        here, next_ = tanh_derivatives()[k](y), tanh_derivatives()[k + 1](y)
        moved = a[:, None] * next_
        by_weight = [
            P[:, None] * moved * z + (a * Q[d])[:, None] * here
            for d, z in enumerate(self.z)
        ]
        start = np.full((1, y.shape[1]), float(k == 0))
        inner = np.stack(by_weight, axis=1).reshape(-1, y.shape[1])
        return np.concatenate([start, P[:, None] * here, P[:, None] * moved, inner])

    def push(self, c: np.ndarray, dc: np.ndarray, orders: Orders) -> np.ndarray:
        return np.asarray(dc @ self._slopes(c, orders)).reshape(self.shape)

    def pull(self, c: np.ndarray, w: Numbers, orders: Orders) -> np.ndarray:
        return np.asarray(self._slopes(c, orders) @ over_points(w, self.shape))

    def second(
        self, c: np.ndarray, dc: np.ndarray, w: Numbers, orders: Orders
    ) -> np.ndarray:
        _, a, b, inner = self._parts(c)
        _, da, db, dw = self._parts(dc)
        k, (P, Q, R) = sum(orders), self._factors(inner, orders)
        y, given = self.hidden(b, inner), over_points(w, self.shape)
        here, first, bent = (tanh_derivatives()[k + i](y) for i in range(3))
        ds = dw @ self.z + db[:, None]
        dP, dQ = (Q * dw.T).sum(axis=0), np.einsum("deh,he->dh", R, dw)
        # Sums over the points, of tau_k, tau_{k+1}, and so on, times what stands beside them.
        t0, t1 = here @ given, first @ given
        t1s, t2s = (first * ds) @ given, (bent * ds) @ given
        by_outer = P * t1s + dP * t0
        by_bias = da * P * t1 + a * P * t2s + a * dP * t1
        by_weight = []
        for d, z in enumerate(self.z):
            t1z, t2z = first @ (given * z), (bent * ds) @ (given * z)
            plain = da * (P * t1z + Q[d] * t0)
            moved = a * (P * t2z + dP * t1z + Q[d] * t1s + dQ[d] * t0)
            by_weight.append(plain + moved)
        return np.concatenate(
            [[0.0], by_outer, by_bias, np.stack(by_weight, axis=1).ravel()]
        )

    def jacobian(self, c: np.ndarray) -> np.ndarray:
        found = self._slopes(c, (0,) * self.network.variables)
        return found.reshape(c.size, *self.shape)
