"""c u, integrated over cells: volume * c * u, with c a coefficient or text in coefficients, e.g.
-k^2 (n^2/n_0^2 - 1)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from npde_opt.aliases import Coefficients, Numbers
from npde_opt.errors import SolverError
from npde_opt.functions.text import Expressions
from npde_opt.grids import Grid, of_cells
from npde_opt.reductions import total
from npde_opt.terms.interface import (
    LinearAt,
    LinearTerm,
    Pairs,
    Planes,
    Rates,
    Species,
)
from npde_opt.terms.state import over_columns


class Reaction(LinearTerm):
    """Linear reaction with the cell field named `coefficient`, or a text in the names of cell
    fields ('k**2*(1 - n**2)').

    Args:
        species: that it acts on.
        named: `coefficient` is a name whatever it is made of; else where it is an identifier.
        field: the text's key in error messages.

    Raises:
        InputError: for a text that is no expression.
    """

    symmetric = True
    pointwise = True
    columns = True

    def __init__(
        self,
        grid: Grid,
        coefficient: str = "c",
        species: Species = None,
        named: bool = False,
        field: str = "reaction",
    ):
        super().__init__(grid, species)
        self.name = coefficient
        plain = named or coefficient.isidentifier()
        self.text = None if plain else Expressions([coefficient], (), field)
        self.texts = (self.text,) if self.text else ()
        self.holding = (coefficient,)

    @property
    def said(self) -> str:
        return f"the reaction {self.name!r}"

    @property
    def coefficients(self) -> tuple[str, ...]:
        return self.text.parameters if self.text else (self.name,)

    def at(self, coefficients: Coefficients) -> ReactionAt | ReactionTextAt:
        return (
            ReactionTextAt(self, coefficients)
            if self.text
            else ReactionAt(self, coefficients)
        )


class ReactionAt(LinearAt):
    """Reaction at given c."""

    term: Reaction

    def __init__(self, term: Reaction, coefficients: Coefficients):
        self.term = term
        self.name, self.volume, self.c = (
            term.name,
            term.grid.volume,
            coefficients[term.name],
        )
        self.inner = of_cells([slice(1, -1)] * term.grid.dim)

    def add_planes(self, planes: Planes) -> None:
        centre = planes[self.term.offsets[0]]
        centre += self.volume * self.c

    def rates(self) -> Rates:
        found = Rates.none(self.term.grid.dim)
        found.decay = self.c
        return found

    def check(self, prefix: str) -> None:
        grid = self.term.grid
        own = np.broadcast_to(np.asarray(self.c, float), grid.local_shape)[grid.active]
        wrong = int(total(grid.comm, float(np.count_nonzero(~np.isfinite(own)))))
        if wrong:
            raise SolverError(
                prefix,
                f"{self.term.said} is not finite in {wrong} cells",
                "Bound the parameters.",
            )

    def derivative(self, u: np.ndarray, dk: Coefficients) -> np.ndarray | float:
        return self.volume * dk[self.name] * u[self.inner] if self.name in dk else 0.0

    def add_slopes(self, u: np.ndarray, wanted: Mapping[str, Planes]) -> bool:
        if self.name in wanted:
            centre = wanted[self.name][self.term.offsets[0]]
            centre += self.volume * u[self.inner]
        return True

    def add_bends(
        self, adjoint: np.ndarray, u: np.ndarray, wanted: Mapping[str, Planes]
    ) -> bool:
        return True

    def contraction(self, pairs: Pairs) -> dict[str, np.ndarray]:
        return {self.name: self._products(pairs)}

    def _products(self, pairs: Pairs) -> np.ndarray:
        grid = self.term.grid
        products = (a[self.inner] * u[self.inner] for a, u in pairs)
        return self.volume * sum(over_columns(grid, product) for product in products)


class ReactionTextAt(ReactionAt):
    """Reaction at given coefficients of its text."""

    def __init__(self, term: Reaction, coefficients: Coefficients):
        assert term.text is not None
        self.term = term
        self.text, self.volume = term.text, term.grid.volume
        self.inner = of_cells([slice(1, -1)] * term.grid.dim)
        self.given = self.text.values_of(coefficients)
        self.c = self.text.value(*self.given)[0]

    def add_slopes(self, u: np.ndarray, wanted: Mapping[str, Planes]) -> bool:
        return LinearAt.add_slopes(self, u, wanted)

    def add_bends(
        self, adjoint: np.ndarray, u: np.ndarray, wanted: Mapping[str, Planes]
    ) -> bool:
        return LinearAt.add_bends(self, adjoint, u, wanted)

    def derivative(self, u: np.ndarray, dk: Coefficients) -> np.ndarray | float:
        if not any(n in dk for n in self.text.parameters):
            return 0.0
        return (
            self.volume
            * self.text.push(*self.given, *self.text.values_of(dk, 0.0))[0]
            * u[self.inner]
        )

    def contraction(self, pairs: Pairs) -> dict[str, np.ndarray]:
        return self._named(self.text.pull(*self.given, self._products(pairs)))

    def second_contraction(
        self, pairs: Pairs, dk: Coefficients
    ) -> dict[str, np.ndarray]:
        return self._named(
            self.text.second(
                *self.given, self._products(pairs), *self.text.values_of(dk, 0.0)
            )
        )

    def _named(self, parts: list[Numbers]) -> dict[str, np.ndarray]:
        arrays = map(np.asarray, parts)
        return dict(zip(self.text.parameters, arrays, strict=True))
