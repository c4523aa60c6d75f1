"""What a term gives: its stencil, the boundary data it carries, and the derivatives of lambda^T r(u, k).

Every term is linear in the state u and may be nonlinear in its coefficients k, which are cell fields. The residual is
integrated over cells, so stencils of symmetric terms are symmetric.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

Coefficients = Mapping[str, np.ndarray]
"""Owned cell values [i, j, k] by coefficient name."""


class Point(Protocol):
    """A term at given coefficients; every state carries ghosts, with boundary values in the ghosts outside."""

    def add_stencil(self, values: np.ndarray) -> None:
        """Adds to (1 + 2 dim, *local_shape) stencil values."""

    def boundary_load(self, outside: np.ndarray) -> np.ndarray | float:
        """What boundary values, given as a ghosted field that is zero inside, add to the right-hand side."""

    def derivative(self, u: np.ndarray, dk: Coefficients) -> np.ndarray | float:
        """(dr/dk) dk at the owned cells."""

    def contraction(self, pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
        """sum over (lambda, u) of d/dk [lambda^T r(u, k)], one owned array a coefficient."""

    def second_contraction(self, pairs: list[tuple[np.ndarray, np.ndarray]], dk: Coefficients) -> dict[str, np.ndarray]:
        """sum over (lambda, u) of d2/dk2 [lambda^T r(u, k)] dk, one owned array a coefficient."""


class Term(Protocol):
    """Part of an equation on a grid."""

    symmetric: bool

    @property
    def coefficients(self) -> tuple[str, ...]:
        """Names of the cell fields that it reads."""

    def at(self, coefficients: Coefficients) -> Any:
        """The term with these coefficients: a Point."""
