"""u_s(x, 0) = g_s(x; k), given for each species as a number, an array, or text in x, y, z and
coefficients' names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from npde_opt.aliases import Coefficients, Numbers
from npde_opt.errors import InputError
from npde_opt.functions.text import Expressions
from npde_opt.grids import AXES, Grid
from npde_opt.terms.state import Gradients, channels

Spec = str | float | np.ndarray


class InitialState:
    """The initial state of an experiment; species that are not named start at 0. Arrays hold owned
    cells [i, j, k].

    `where`: what stands before the key `initial` in error messages ('experiment[0].').
    """

    def __init__(
        self,
        grid: Grid,
        species: Sequence[str],
        given: Mapping[str, Spec],
        where: str = "",
    ):
        for name in given:
            if name not in species:
                raise InputError(
                    f"{where}initial",
                    f"a state of {name!r}",
                    "species " + ", ".join(species),
                )
        self.grid, self.count = grid, len(species)
        self.known = channels(grid, self.count)
        self.axes = AXES[: grid.dim]
        self.texts_of: dict[int, Expressions] = {}
        for c, name in enumerate(species):
            spec = given.get(name, 0.0)
            if isinstance(spec, str):
                self.texts_of[c] = Expressions(
                    [spec], self.axes, f"{where}initial.{name}"
                )
            else:
                self.known[c] = np.where(grid.active, spec, 0.0)

    @property
    def texts(self) -> tuple[Expressions, ...]:
        return tuple(self.texts_of.values())

    @property
    def coefficients(self) -> set[str]:
        return {n for e in self.texts_of.values() for n in e.parameters}

    def _arguments(self, e: Expressions, k: Coefficients) -> list[Numbers]:
        return [*self.grid.coordinates(), *e.values_of(k)]

    def _cells(self, values: Numbers) -> np.ndarray:
        return np.where(self.grid.active, values, 0.0)

    def value(self, k: Coefficients) -> np.ndarray:
        """g(k), to read only."""
        if not self.texts_of:
            same = self.known.view()
            same.flags.writeable = False
            return same
        out = self.known.copy(order="K")
        for c, e in self.texts_of.items():
            out[c] = self._cells(e.value(*self._arguments(e, k))[0])
        return out

    def push(self, k: Coefficients, dk: Coefficients) -> np.ndarray:
        out = channels(self.grid, self.count)
        for c, e in self.texts_of.items():
            out[c] = self._cells(
                e.push(*self._arguments(e, k), *self._directions(e, dk))[0]
            )
        return out

    def _directions(self, e: Expressions, dk: Coefficients) -> list[Numbers]:
        return [*[0.0] * len(self.axes), *e.values_of(dk, 0.0)]

    def pull(self, k: Coefficients, adjoint: np.ndarray, out: Gradients) -> None:
        """Adds (dg/dk)^T lambda."""
        for c, e in self.texts_of.items():
            parts = e.pull(*self._arguments(e, k), adjoint[c])[len(self.axes) :]
            for name, part in zip(e.parameters, parts, strict=True):
                out.add(name, self._cells(part))

    def second(
        self, k: Coefficients, adjoint: np.ndarray, dk: Coefficients, out: Gradients
    ) -> None:
        """Adds (d2g/dk2 dk)^T lambda."""
        for c, e in self.texts_of.items():
            parts = e.second(
                *self._arguments(e, k), adjoint[c], *self._directions(e, dk)
            )[len(self.axes) :]
            for name, part in zip(e.parameters, parts, strict=True):
                out.add(name, self._cells(part))
