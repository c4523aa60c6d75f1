"""h = sigma(v), value by value, and what its derivatives need. v [c, s, k, j, i].

A trainable one is a sum of m functions with weights of each channel,

    sigma_c(v) = sum_j theta[c, j] phi_j(v),      theta [c, m].
"""

from __future__ import annotations

import numpy as np

from npde_opt.errors import InputError


class Activation:
    """sigma without weights."""

    count = 0
    """m"""
    gain = 1.0
    """Variance of the weights in front of it times their number, for which states keep their
    size."""

    def value(self, v: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """sigma(v)"""
        raise NotImplementedError

    def slope(self, v: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """sigma'(v)"""
        raise NotImplementedError

    def curvature(self, v: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """sigma''(v)"""
        raise NotImplementedError

    def moments(self, v: np.ndarray, y: np.ndarray, order: int = 0) -> np.ndarray:
        """sum over samples and cells of y_c phi_j^(order)(v_c), [c, m], in double precision."""
        raise NotImplementedError


class Identity(Activation):
    """v"""

    def value(self, v: np.ndarray, theta: np.ndarray) -> np.ndarray:
        return v

    def slope(self, v: np.ndarray, theta: np.ndarray) -> np.ndarray:
        return np.ones_like(v)

    def curvature(self, v: np.ndarray, theta: np.ndarray) -> np.ndarray:
        return np.zeros_like(v)


class Tanh(Activation):
    """tanh v"""

    def value(self, v: np.ndarray, theta: np.ndarray) -> np.ndarray:
        return np.tanh(v)

    def slope(self, v: np.ndarray, theta: np.ndarray) -> np.ndarray:
        h = np.tanh(v)
        return 1 - h * h

    def curvature(self, v: np.ndarray, theta: np.ndarray) -> np.ndarray:
        h = np.tanh(v)
        return -2 * h * (1 - h * h)


class ReLU(Activation):
    """max(v, 0); its slope at 0 is 0."""

    gain = 2.0

    def value(self, v: np.ndarray, theta: np.ndarray) -> np.ndarray:
        return np.maximum(v, 0)

    def slope(self, v: np.ndarray, theta: np.ndarray) -> np.ndarray:
        return (v > 0).astype(v.dtype)

    def curvature(self, v: np.ndarray, theta: np.ndarray) -> np.ndarray:
        return np.zeros_like(v)


class Softplus(Activation):
    """log(1 + exp v)"""

    gain = 2.0

    def value(self, v: np.ndarray, theta: np.ndarray) -> np.ndarray:
        return np.maximum(v, 0) + np.log1p(np.exp(-np.abs(v)))

    def slope(self, v: np.ndarray, theta: np.ndarray) -> np.ndarray:
        half = v.dtype.type(0.5)
        return half + half * np.tanh(half * v)

    def curvature(self, v: np.ndarray, theta: np.ndarray) -> np.ndarray:
        slope = self.slope(v, theta)
        return slope * (1 - slope)


class Expansion(Activation):
    """A sum of functions with weights: `combined` and `moments` say all about it."""

    def combined(self, v: np.ndarray, theta: np.ndarray, order: int) -> np.ndarray:
        """sum_j theta[c, j] phi_j^(order)(v_c)"""
        raise NotImplementedError

    def value(self, v: np.ndarray, theta: np.ndarray) -> np.ndarray:
        return self.combined(v, theta, 0)

    def slope(self, v: np.ndarray, theta: np.ndarray) -> np.ndarray:
        return self.combined(v, theta, 1)

    def curvature(self, v: np.ndarray, theta: np.ndarray) -> np.ndarray:
        return self.combined(v, theta, 2)


class PiecewiseLinear(Expansion):
    """Linear between `count` equal knots from -reach to reach, and on beyond them; theta are the
    values there. Its second derivative is taken as 0, as it is between knots.

    Raises:
        InputError: for fewer than 2 knots, and a reach that is not positive.
    """

    def __init__(self, count: int, reach: float):
        if count < 2:
            raise InputError("knots", count, "an integer >= 2")
        if not 0 < reach < np.inf:
            raise InputError("reach", reach, "a number > 0")
        self.count, self.reach = count, reach
        self.spacing = 2 * reach / (count - 1)

    @property
    def knots(self) -> np.ndarray:
        return np.linspace(-self.reach, self.reach, self.count)

    def _placed(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The knot before each value, and how far it is behind it in spacings."""
        x = (v + v.dtype.type(self.reach)) * v.dtype.type(1 / self.spacing)
        before = np.clip(np.floor(x), 0, self.count - 2).astype(np.intp)
        return before, x - before.astype(v.dtype)

    def combined(self, v: np.ndarray, theta: np.ndarray, order: int) -> np.ndarray:
        if order == 2:
            return np.zeros_like(v)
        before, part = self._placed(v)
        values = theta.astype(v.dtype).ravel()
        first = before + self._offsets(v)
        low, high = values[first], values[first + 1]
        if order == 1:
            return (high - low) * v.dtype.type(1 / self.spacing)
        return low + part * (high - low)

    def _offsets(self, v: np.ndarray) -> np.ndarray:
        """Where the values of each channel begin."""
        channels = v.shape[0]
        return (np.arange(channels) * self.count).reshape(channels, *(1,) * (v.ndim - 1))

    def moments(self, v: np.ndarray, y: np.ndarray, order: int = 0) -> np.ndarray:
        size = v.shape[0] * self.count
        if order == 2:
            return np.zeros((v.shape[0], self.count))
        before, part = self._placed(v)
        first = (before + self._offsets(v)).ravel()
        if order == 1:
            high = y / self.spacing
            low = -high
        else:
            high = y * part
            low = y - high
        found = np.bincount(first, low.ravel(), size) + np.bincount(first + 1, high.ravel(), size)
        return np.asarray(found).reshape(v.shape[0], self.count)


class RadialBasis(Expansion):
    """phi_j(v) = exp(-((v - z_j) / w)^2 / 2) at `count` equal knots z_j from -reach to reach, w
    the distance between them.

    Raises:
        InputError: for fewer than 2 knots, and a reach that is not positive.
    """

    def __init__(self, count: int, reach: float):
        line = PiecewiseLinear(count, reach)
        self.count, self.reach, self.width = count, reach, line.spacing
        self.knots = line.knots

    def _function(self, v: np.ndarray, j: int, order: int) -> np.ndarray:
        x = (v - v.dtype.type(self.knots[j])) * v.dtype.type(1 / self.width)
        phi = np.exp(-0.5 * x * x)
        if order == 1:
            phi *= -x / v.dtype.type(self.width)
        elif order == 2:
            phi *= (x * x - 1) * v.dtype.type(self.width**-2)
        return phi

    def combined(self, v: np.ndarray, theta: np.ndarray, order: int) -> np.ndarray:
        out = np.zeros_like(v)
        weights = theta.astype(v.dtype).reshape(v.shape[0], self.count, *(1,) * (v.ndim - 1))
        for j in range(self.count):
            out += weights[:, j] * self._function(v, j, order)
        return out

    def moments(self, v: np.ndarray, y: np.ndarray, order: int = 0) -> np.ndarray:
        out, axes = np.empty((v.shape[0], self.count)), tuple(range(1, v.ndim))
        for j in range(self.count):
            out[:, j] = (y * self._function(v, j, order)).sum(axis=axes, dtype=float)
        return out


ACTIVATIONS: dict[str, type[Activation]] = {
    "identity": Identity,
    "tanh": Tanh,
    "relu": ReLU,
    "softplus": Softplus,
}
EXPANSIONS: dict[str, type[PiecewiseLinear] | type[RadialBasis]] = {
    "piecewise-linear": PiecewiseLinear,
    "radial-basis": RadialBasis,
}
