"""An equation that was found of a file, as it is told and written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from npde_opt.errors import InputError
from npde_opt.pseudoinverse.equation_error import Observed, Term
from npde_opt.pseudoinverse.selection import Selected


@dataclass(frozen=True)
class Varied:
    """A coefficient along x or on a grid [i, j, k]: its values, their deviations (not told on a
    grid), and what a case calls it."""

    values: np.ndarray
    errors: np.ndarray | None
    unknown: str | None


@dataclass(frozen=True)
class Equation:
    """What was found of one file.

    Attributes:
        seen: of a grid of several axes with all cells as places, the first axis fastest.
        fields: by the names of their terms.
        regions: numbers of the pieces on which they are constant.
        edges: of cells along each axis, where there are several.
    """

    name: str
    seen: Observed
    terms: list[Term]
    selected: Selected
    case: str | None
    fields: Mapping[str, Varied]
    regions: np.ndarray | None = None
    edges: Sequence[np.ndarray] = ()

    @property
    def names(self) -> list[str]:
        return [self.terms[j].name for j in self.selected.terms]

    @property
    def text(self) -> str:
        pairs = zip(self.names, self.selected.coefficients, strict=True)
        return "u_t = " + " ".join(self._told(name, value) for name, value in pairs)

    def _told(self, name: str, value: float) -> str:
        if name not in self.fields:
            return f"{value:+.6g} {name}"
        own = self.fields[name].values
        return f"+ [{own.min():.4g} to {own.max():.4g}] {name}"


def numbers(option: str, terms: Sequence[Term], names: Sequence[str]) -> list[int]:
    """Of the terms of these names. Raises InputError for a name of none."""
    there = [term.name for term in terms]
    for name in names:
        if name not in there:
            raise InputError(option, repr(name), ", ".join(map(repr, there)))
    return sorted({there.index(name) for name in names})
