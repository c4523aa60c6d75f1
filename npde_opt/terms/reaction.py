"""c u, integrated over cells: volume * c * u, with c a coefficient or text in coefficients, e.g. -k^2 (n^2/n_0^2 - 1)."""

from __future__ import annotations

from typing import Any

import numpy as np

from npde_opt.functions.text import Expressions
from npde_opt.grids import Grid
from npde_opt.terms.interface import Coefficients


class Reaction:
    """Linear reaction with the cell field named `coefficient`, or a text in the names of cell fields ('k**2*(1 - n**2)').

    Args:
        named: `coefficient` is a name whatever it is made of; else where it is an identifier.
        field: the text's key in error messages.

    Raises:
        InputError: for a text that is no expression.
    """

    symmetric = True

    def __init__(self, grid: Grid, coefficient: str = "c", named: bool = False, field: str = "reaction"):
        self.grid, self.name = grid, coefficient
        plain = named or coefficient.isidentifier()
        self.text = None if plain else Expressions([coefficient], (), field)

    @property
    def texts(self) -> tuple[Expressions, ...]:
        return (self.text,) if self.text else ()

    @property
    def coefficients(self) -> tuple[str, ...]:
        return self.text.parameters if self.text else (self.name,)

    def at(self, coefficients: Coefficients) -> ReactionAt | ReactionTextAt:
        return ReactionTextAt(self, coefficients) if self.text else ReactionAt(self, coefficients)


class ReactionAt:
    """Reaction at given c."""

    def __init__(self, term: Reaction, coefficients: Coefficients):
        self.said = term.name
        self.name, self.volume, self.c = term.name, term.grid.volume, coefficients[term.name]
        self.inner = (slice(1, -1),) * term.grid.dim

    def add_stencil(self, values: np.ndarray) -> None:
        values[0] += self.volume * self.c

    def boundary_load(self, outside: np.ndarray) -> np.ndarray | float:
        return 0.0

    def derivative(self, u: np.ndarray, dk: Coefficients) -> np.ndarray | float:
        return self.volume * dk[self.name] * u[self.inner] if self.name in dk else 0.0

    def contraction(self, pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
        return {self.name: self._products(pairs)}

    def _products(self, pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        return self.volume * sum(a[self.inner] * u[self.inner] for a, u in pairs)

    def second_contraction(self, pairs: list[tuple[np.ndarray, np.ndarray]], dk: Coefficients) -> dict[str, np.ndarray]:
        return {}


class ReactionTextAt(ReactionAt):
    """Reaction at given coefficients of its text."""

    def __init__(self, term: Reaction, coefficients: Coefficients):
        assert term.text is not None
        self.said = term.name
        self.text, self.volume = term.text, term.grid.volume
        self.inner = (slice(1, -1),) * term.grid.dim
        self.given = self.text.values_of(coefficients)
        self.c = self.text.value(*self.given)[0]

    def derivative(self, u: np.ndarray, dk: Coefficients) -> np.ndarray | float:
        if not any(n in dk for n in self.text.parameters):
            return 0.0
        return self.volume * self.text.push(*self.given, *self.text.values_of(dk, 0.0))[0] * u[self.inner]

    def contraction(self, pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
        return self._named(self.text.pull(*self.given, self._products(pairs)))

    def second_contraction(self, pairs: list[tuple[np.ndarray, np.ndarray]], dk: Coefficients) -> dict[str, np.ndarray]:
        return self._named(self.text.second(*self.given, self._products(pairs), *self.text.values_of(dk, 0.0)))

    def _named(self, parts: list[Any]) -> dict[str, np.ndarray]:
        return dict(zip(self.text.parameters, parts, strict=True))
