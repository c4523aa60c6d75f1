"""S of gamma S du/dt = -r: what a cell stores, as a coefficient or text in coefficients. The mass
is M = gamma S volume."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from npde_opt.aliases import Coefficients, Numbers
from npde_opt.functions.text import Expressions
from npde_opt.grids import Grid
from npde_opt.terms.state import Gradients


class Capacity:
    """S by the name of a coefficient, or as text in coefficients ('phi*c').

    Args:
        inertia: gamma, or 1 where it is imaginary.
        field: the text's key in error messages.

    Raises:
        InputError: for a text that is no expression.
    """

    def __init__(
        self, grid: Grid, text: str, inertia: float = 1.0, field: str = "storage"
    ):
        self.grid, self.said, self.key = grid, text, field
        self.text = Expressions([text], (), field)
        self.texts = (self.text,)
        self.coefficients = self.text.parameters
        self.breakpoints = np.empty(0)
        self.unit = inertia * grid.volume

    def take_lengths(self, lengths: Mapping[str, int]) -> None:
        """Coefficients are numbers and cell fields."""

    def at(self, k: Coefficients) -> CapacityAt:
        return CapacityAt(self, k)


class CapacityAt:
    """The mass at given coefficients, with its derivatives.

    Attributes:
        S: owned cells [i, j, k], 1 in inactive ones.
        mass: M.
    """

    def __init__(self, capacity: Capacity, k: Coefficients):
        self.capacity, self.grid, self.text = capacity, capacity.grid, capacity.text
        self.given = self.text.values_of(k)
        self.S = np.where(self.grid.active, self.text.value(*self.given)[0], 1.0)
        self.mass = capacity.unit * self.S

    def push(self, dk: Coefficients) -> np.ndarray | None:
        """dM; None where it does not change."""
        if not any(name in dk for name in self.text.parameters):
            return None
        moved = self.text.push(*self.given, *self.text.values_of(dk, 0.0))[0]
        return np.where(self.grid.active, self.capacity.unit * moved, 0.0)

    def pull(self, weights: np.ndarray, out: Gradients) -> None:
        """Adds M_k^T w of w [..., i, j, k]."""
        self._add(self.text.pull(*self.given, self._weighted(weights)), out)

    def second(self, weights: np.ndarray, dk: Coefficients, out: Gradients) -> None:
        """Adds (M_kk dk)^T w."""
        directions = self.text.values_of(dk, 0.0)
        self._add(
            self.text.second(*self.given, self._weighted(weights), *directions), out
        )

    def _weighted(self, weights: np.ndarray) -> np.ndarray:
        """Times volume, summed over species and samples."""
        first = tuple(range(weights.ndim - self.grid.dim))
        return np.where(
            self.grid.active, weights.sum(axis=first) * self.capacity.unit, 0.0
        )

    def _add(self, parts: list[Numbers], out: Gradients) -> None:
        for name, part in zip(self.text.parameters, parts, strict=True):
            out.add(name, np.broadcast_to(part, self.grid.local_shape))
