"""h = sigma(v), value by value, and what its derivatives need. v [c, s, k, j, i].

A trainable one is a sum of m functions with weights of each channel,

    sigma_c(v) = sum_j theta[c, j] phi_j(v),      theta [c, m].
"""

from __future__ import annotations

import numpy as np

from npde_opt.errors import InputError
from npde_opt.networks.strips import Flat, matrices


class Activation:
    """sigma without weights."""

    count = 0
    """m"""
    gain = 1.0
    """Variance of the weights in front of it times their number, for which states keep their
    size."""

    from_value = False
    """Whether its derivatives are had from h, which is kept then, and not v."""
    cheap = True
    """Whether to compute it again costs no more than to read it from memory."""

    def run(self, v: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """h; v becomes what is kept of it."""
        h = self.value(v, theta)
        if not self.from_value:
            return h
        v[...] = h
        return v

    def value_of(self, kept: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """h from what is kept."""
        return kept if self.from_value else self.value(kept, theta)

    def slope_of(self, kept: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """sigma'(v) from what is kept."""
        return self.slope(kept, theta)

    def curvature_of(self, kept: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """sigma''(v) from what is kept."""
        return self.curvature(kept, theta)

    def pull(
        self,
        kept: np.ndarray,
        eta: np.ndarray,
        theta: np.ndarray,
        moments: np.ndarray | None,
    ) -> None:
        """eta becomes sigma'(v) eta; moments [c, m], if any, get those of eta added."""
        if moments is not None:
            moments += self.moments(kept, eta)
        eta *= self.slope_of(kept, theta)

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

    from_value = True

    def run(self, v: np.ndarray, theta: np.ndarray) -> np.ndarray:
        return v

    def pull(
        self,
        kept: np.ndarray,
        eta: np.ndarray,
        theta: np.ndarray,
        moments: np.ndarray | None,
    ) -> None:
        """As it is."""

    def value(self, v: np.ndarray, theta: np.ndarray) -> np.ndarray:
        return v

    def slope(self, v: np.ndarray, theta: np.ndarray) -> np.ndarray:
        return np.ones_like(v)

    def curvature(self, v: np.ndarray, theta: np.ndarray) -> np.ndarray:
        return np.zeros_like(v)


def tanh(v: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """tanh v of a box, in `out` (which may be v itself) or an array of its own."""
    from npde_opt.networks import hyperbolic

    if out is None:
        out = np.array(v, order="C")
    elif out is not v:
        out[...] = v
    # One row where there are no gaps, as those of small grids are short.
    rows = out.reshape(1, 1, -1) if out.flags.c_contiguous else out
    box = Flat(rows)
    hyperbolic.tanh_rows(box.line, box.counts, box.steps, box.length)
    return out


class Tanh(Activation):
    """tanh v"""

    from_value = True

    def run(self, v: np.ndarray, theta: np.ndarray) -> np.ndarray:
        return tanh(v, out=v)

    def pull(
        self,
        kept: np.ndarray,
        eta: np.ndarray,
        theta: np.ndarray,
        moments: np.ndarray | None,
    ) -> None:
        from npde_opt.networks import loops

        if kept.flags.c_contiguous and eta.flags.c_contiguous:
            # One row, as those of small grids are short.
            kept, eta = kept.reshape(1, 1, -1), eta.reshape(1, 1, -1)
        h, out = Flat(kept), Flat(eta)
        loops.pull_tanh(h.line, h.steps, out.line, out.counts, out.steps, out.length)

    def slope_of(self, kept: np.ndarray, theta: np.ndarray) -> np.ndarray:
        return 1 - kept * kept

    def curvature_of(self, kept: np.ndarray, theta: np.ndarray) -> np.ndarray:
        return -2 * kept * (1 - kept * kept)

    def value(self, v: np.ndarray, theta: np.ndarray) -> np.ndarray:
        return tanh(v)

    def slope(self, v: np.ndarray, theta: np.ndarray) -> np.ndarray:
        h = tanh(v)
        return 1 - h * h

    def curvature(self, v: np.ndarray, theta: np.ndarray) -> np.ndarray:
        h = tanh(v)
        return -2 * h * (1 - h * h)


class ReLU(Activation):
    """max(v, 0); its slope at 0 is 0."""

    gain, from_value = 2.0, True

    def run(self, v: np.ndarray, theta: np.ndarray) -> np.ndarray:
        return np.maximum(v, 0, out=v)

    def pull(
        self,
        kept: np.ndarray,
        eta: np.ndarray,
        theta: np.ndarray,
        moments: np.ndarray | None,
    ) -> None:
        eta *= kept > 0

    def value(self, v: np.ndarray, theta: np.ndarray) -> np.ndarray:
        return np.maximum(v, 0)

    def slope(self, v: np.ndarray, theta: np.ndarray) -> np.ndarray:
        return (v > 0).astype(v.dtype)

    def curvature(self, v: np.ndarray, theta: np.ndarray) -> np.ndarray:
        return np.zeros_like(v)


class Softplus(Activation):
    """log(1 + exp v)"""

    gain, from_value = 2.0, True

    def slope_of(self, kept: np.ndarray, theta: np.ndarray) -> np.ndarray:
        return -np.expm1(-kept)

    def curvature_of(self, kept: np.ndarray, theta: np.ndarray) -> np.ndarray:
        slope = self.slope_of(kept, theta)
        return slope * (1 - slope)

    def value(self, v: np.ndarray, theta: np.ndarray) -> np.ndarray:
        return np.maximum(v, 0) + np.log1p(np.exp(-np.abs(v)))

    def slope(self, v: np.ndarray, theta: np.ndarray) -> np.ndarray:
        half = v.dtype.type(0.5)
        return half + half * tanh(half * v)

    def curvature(self, v: np.ndarray, theta: np.ndarray) -> np.ndarray:
        slope = self.slope(v, theta)
        return slope * (1 - slope)


class Expansion(Activation):
    """A sum of functions with weights: `combined` and `moments` say all about it."""

    cheap = False

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

    def _place(self, dtype: np.dtype) -> np.ndarray:
        """x = first + second v counts spacings from the first knot."""
        return np.array([self.reach / self.spacing, 1 / self.spacing], dtype)

    def combined(self, v: np.ndarray, theta: np.ndarray, order: int) -> np.ndarray:
        from npde_opt.networks import loops

        if order == 2:
            return np.zeros(v.shape, v.dtype)
        out = np.empty(v.shape, v.dtype)
        place = self._place(v.dtype)
        values, rises = theta[:, :-1].astype(float), np.diff(theta, axis=1)
        if order == 1:
            values, rises = rises / self.spacing, np.zeros_like(rises)
        table = values.astype(v.dtype), rises.astype(v.dtype)
        loops.interpolate(matrices(v), place, *table, matrices(out))
        return out

    def pull(
        self,
        kept: np.ndarray,
        eta: np.ndarray,
        theta: np.ndarray,
        moments: np.ndarray | None,
    ) -> None:
        below, above = self._pulled(kept, eta, theta)
        if moments is not None:
            moments[:, :-1] += below
            moments[:, 1:] += above

    def _pulled(
        self, v: np.ndarray, eta: np.ndarray, theta: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """What eta gives to the knots below and above the values of each interval (c, m - 1); eta
        becomes its product with the slope."""
        from npde_opt.networks import loops

        rises = np.diff(theta, axis=1).astype(v.dtype)
        below, above = np.zeros(rises.shape), np.zeros(rises.shape)
        loops.pull(
            matrices(v), self._place(v.dtype), rises, matrices(eta), below, above
        )
        return below, above

    def moments(self, v: np.ndarray, y: np.ndarray, order: int = 0) -> np.ndarray:
        found = np.zeros((v.shape[0], self.count))
        if order == 2:
            return found
        below, above = self._pulled(v, y.copy(), found)
        if order == 1:
            # The slope between two knots is (the value above - the value below) / spacing.
            above = (below + above) / self.spacing
            below = -above
        found[:, :-1] += below
        found[:, 1:] += above
        return found


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
        weights = theta.astype(v.dtype).reshape(
            v.shape[0], self.count, *(1,) * (v.ndim - 1)
        )
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
