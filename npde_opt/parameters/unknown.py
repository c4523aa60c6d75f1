"""One unknown: a coefficient k = T(p), by its name in the equation, with its bounds."""

from __future__ import annotations

import numpy as np

from npde_opt.errors import InputError
from npde_opt.parameters.field import Field
from npde_opt.parameters.interface import Block
from npde_opt.parameters.transforms import TRANSFORMS

Bounds = tuple[float | None, float | None]


class Unknown:
    """One unknown coefficient.

    Args:
        name: the coefficient's name in the equation.
        transform: 'identity', 'log' or 'bounded'.
        bounds: (lo, hi) of the coefficient: the range of 'bounded', or box constraints for bounded
            optimizers with the other transforms (None: none on that side).
        block: which numbers it is; None: a field.
    """

    def __init__(
        self,
        name: str,
        transform: str = "identity",
        bounds: Bounds = (None, None),
        block: Block | None = None,
    ):
        self.name, self.bounds = name, bounds
        self.block = Field() if block is None else block
        _check(name, transform, bounds)
        self.transform = TRANSFORMS[transform](self.range)

    @property
    def range(self) -> tuple[float, float]:
        """The bounds, infinite where there are none."""
        lo, hi = self.bounds
        return -np.inf if lo is None else lo, np.inf if hi is None else hi

    @property
    def box(self) -> tuple[float, float]:
        """Box constraints on p, infinite where there are none."""
        if self.transform.saturates:
            return -np.inf, np.inf
        low, high = (x if np.isinf(x) else float(self.inverse(x)) for x in self.range)
        return low, high

    def label(self, i: int) -> str:
        """The i-th of its numbers, in reports."""
        return self.name if self.block.count == 1 else f"{self.name}[{i}]"

    def value(self, p: np.ndarray) -> np.ndarray:
        """k = T(p)."""
        return self.transform.value(p)

    def slope(self, k: np.ndarray) -> np.ndarray | float:
        """dT/dp where T(p) = k."""
        return self.transform.slope(k)

    def curvature(self, k: np.ndarray) -> np.ndarray | float:
        """d2T/dp2 where T(p) = k."""
        return self.transform.curvature(k)

    def inverse(self, k: np.ndarray | float) -> np.ndarray:
        """p with T(p) = k. Raises InputError where k is outside the transform's range."""
        values = np.asarray(k, float)
        good = self.transform.reaches(values)
        if not np.all(good):
            wrong = float(values[~good].flat[0])
            raise InputError(f"unknown.{self.name}", wrong, self.transform.allowed)
        return self.transform.inverse(values)


def _check(name: str, transform: str, bounds: Bounds) -> None:
    """Raises InputError for a transform that is not there, and bounds that do not go with it."""
    if transform not in TRANSFORMS:
        raise InputError(
            f"unknown.{name}.transform", repr(transform), ", ".join(TRANSFORMS)
        )
    lo, hi = bounds
    field, both = f"unknown.{name}.bounds", lo is not None and hi is not None
    if both and not (lo is not None and hi is not None and lo < hi):
        raise InputError(field, list(bounds), "[lower, upper] with lower < upper")
    if TRANSFORMS[transform].saturates and not both:
        raise InputError(field, list(bounds), "[lower, upper] with lower < upper")
    if TRANSFORMS[transform].multiplicative and lo is not None and lo <= 0:
        raise InputError(field, list(bounds), "positive bounds with the log transform")
