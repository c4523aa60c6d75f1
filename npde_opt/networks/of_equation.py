"""Layers that are made of an equation, whose coefficients, fields or numbers, are weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from npde_opt.aliases import Coefficient, Coefficients, Numbers
from npde_opt.errors import InputError
from npde_opt.forward.equation import Equation
from npde_opt.networks.interface import Values, Weight
from npde_opt.networks.place import Place, fields
from npde_opt.networks.template import Plain, Sums
from npde_opt.terms.state import Gradients


class OfEquation(Plain):
    """Args:
    equation: its species are the channels behind the layer.
    weights: by the names of coefficients: numbers, of shape (), or fields of the grid's cells, of
        shape [k, j, i].
    known: the other coefficients.

    Raises:
        InputError: for coefficients without a value, and weights of other shapes.
    """

    def __init__(
        self, equation: Equation, weights: Mapping[str, Weight], known: Coefficients
    ):
        self.equation, self.grid = equation, equation.grid
        self.named, self.known = dict(weights), dict(known)
        self.weights = list(weights.values())
        self.source = self.target = Place.on(self.grid, len(equation.species))
        needed = {name for term in equation.readers for name in term.coefficients}
        missing = sorted(needed - {*self.named, *self.known})
        if missing:
            raise InputError(
                "coefficients", ", ".join(missing), "weights or known values of all"
            )
        cells = self.grid.shape[::-1]
        for name, weight in self.named.items():
            if weight.shape not in ((), cells):
                raise InputError(
                    f"weight of {name}", weight.shape, f"shape () or {cells}"
                )

    def coefficients(self, k: Values) -> dict[str, Coefficient]:
        """All of them at weights k."""
        return {**self.known, **self._values(k, list(self.named))}

    def moved(self, dk: Coefficients) -> dict[str, Coefficient]:
        """The changes of those whose weights change."""
        moved = {name: np.asarray(value) for name, value in dk.items()}
        return self._values(
            moved, [n for n, w in self.named.items() if w.name in moved]
        )

    def _values(self, k: Values, names: Sequence[str]) -> dict[str, Coefficient]:
        """Coefficients as terms read them, owned [i, j, k]."""
        found: dict[str, Coefficient] = {}
        for name in names:
            whole = np.asarray(self.named[name].of(k))
            found[name] = self.target.own(whole).T if whole.ndim else float(whole)
        return found

    def gradients(self) -> Gradients:
        """Where terms add cotangents of coefficients that are weights."""
        return Gradients({name: Added(not w.shape) for name, w in self.named.items()})

    def add(self, found: Gradients, out: Sums) -> None:
        """Cotangents of coefficients to those of weights."""
        for name, value in found.values.items():
            weight = self.named[name]
            if weight.shape:
                own = self.target.own(out.of(weight))
                own += np.asarray(value).T
            else:
                out.add(weight, np.asarray(value))


class Added:
    """How cotangents of one coefficient are added up: those of fields cell by cell."""

    def __init__(self, number: bool):
        self.number = number

    def cotangent(self, value: Numbers) -> Numbers:
        return float(np.sum(value)) if self.number else value


def states(u: np.ndarray) -> np.ndarray:
    """[c, s, k, j, i] as terms take it, [c, s, i, j, k] in double precision, or [c, i, j, k] of one
    sample."""
    found = fields(u.astype(float, copy=False))
    return found[:, 0] if found.shape[1] == 1 else found


def back(found: np.ndarray, like: np.ndarray) -> np.ndarray:
    """The other way."""
    whole = found if found.ndim == like.ndim else found[:, None]
    return np.ascontiguousarray(fields(whole), like.dtype)
