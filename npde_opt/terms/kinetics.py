"""R_c(u_1 ... u_C, t; theta), any reaction between species given as text, integrated over cells: r
= -volume R.

Derivatives in the species and in the parameters are symbolic. Parameters are cell fields, scalars,
and the numbers of functions that the texts call. Named models:

    fisher-kpp      du/dt = r u (1 - u/K)
    allen-cahn      du/dt = a (u - u^3)
    gray-scott      du/dt = -u v^2 + F (1 - u),  dv/dt = u v^2 - (F + k) v
    fitzhugh-nagumo du/dt = u - u^3/3 - w + I,   dw/dt = epsilon (u + a - b w)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from npde_opt.aliases import Coefficients, Numbers
from npde_opt.errors import InputError
from npde_opt.functions.calls import Part, Spread
from npde_opt.functions.parser import Functions
from npde_opt.functions.text import Expressions
from npde_opt.grids import Grid
from npde_opt.terms.boundary import TIME
from npde_opt.terms.interface import BlockPlanes, Term, TermAt
from npde_opt.terms.state import Gradients, State, over_columns, sample

MODELS: dict[str, dict[str, str]] = {
    "fisher-kpp": {"u": "r*u*(1 - u/K)"},
    "allen-cahn": {"u": "a*(u - u**3)"},
    "gray-scott": {"u": "-u*v**2 + F*(1 - u)", "v": "u*v**2 - (F + k)*v"},
    "fitzhugh-nagumo": {"u": "u - u**3/3 - w + I", "w": "epsilon*(u + a - b*w)"},
}


class Kinetics(Term):
    """A reaction; species without an expression do not react.

    Args:
        grid: the grid.
        species: names of the state's species, in order.
        rates: species name to text, which may read the time t, or the name of a model.
        field: the rates' key in error messages.
        functions: that the texts may call, by name.

    Raises:
        InputError: for a model or species that is not there, and for texts that are no expressions.
    """

    symmetric = True
    pointwise = True
    columns = True

    def __init__(
        self,
        grid: Grid,
        species: tuple[str, ...],
        rates: Mapping[str, str] | str,
        field: str = "kinetics",
        functions: Functions | None = None,
    ):
        if isinstance(rates, str):
            if rates not in MODELS:
                raise InputError(
                    field,
                    repr(rates),
                    "{species = text}, or a model: " + ", ".join(MODELS),
                )
            rates = MODELS[rates]
        for name in rates:
            if name not in species:
                raise InputError(
                    field, f"a rate of {name!r}", "species " + ", ".join(species)
                )
        self.grid, self.species = grid, tuple(species)
        fields = [f"{field}.{s}" for s in species]
        texts = [rates.get(s, "0") for s in species]
        self.expressions = Expressions(texts, (*species, TIME), fields, functions)
        self.timed = self.expressions.reads(TIME)
        if not self.timed:
            self.expressions = Expressions(texts, species, fields, functions)
        self.texts = (self.expressions,)
        self.blocks = tuple(
            (c, d) for c in range(len(species)) for d in range(len(species))
        )

    @property
    def coefficients(self) -> tuple[str, ...]:
        return self.expressions.parameters

    def at(self, coefficients: Coefficients) -> KineticsAt:
        return KineticsAt(self, coefficients)


class KineticsAt(TermAt):
    """The reaction with given parameters."""

    def __init__(self, term: Kinetics, coefficients: Coefficients):
        self.term = term
        self.grid, self.expressions = term.grid, term.expressions
        self.names = term.expressions.parameters
        self.parameters = term.expressions.values_of(coefficients)
        self.count = len(term.species)
        self.leading = self.count + term.timed
        self._inactive = None if term.grid.mask is None else ~term.grid.active
        self._minus = term.grid.once("minus volume", lambda: -term.grid.volume)

    def _integrated(self, state: State, rates: Sequence[Numbers]) -> np.ndarray:
        out = np.empty_like(state.u)
        for c, rate in enumerate(rates):
            self._weighted(rate, out[c])
        return out

    def _weighted(self, rate: Numbers, out: np.ndarray | None = None) -> np.ndarray:
        """-volume R; 0 in inactive cells, where a rate need not be finite."""
        found = np.multiply(self._minus, rate, out=out)
        if self._inactive is not None:
            found[..., self._inactive] = 0.0
        return found

    def _arguments(self, state: State) -> list[Numbers]:
        time = [state.t] if self.term.timed else []
        return [*state.u, *time, *self.parameters]

    def _directions(self, change: State | None, dk: Coefficients) -> list[Numbers]:
        du = list(change.u) if change is not None else [0.0] * self.count
        time = [0.0] if self.term.timed else []
        return [*du, *time, *self.expressions.values_of(dk, 0.0)]

    def _add(self, parts: Sequence[Part], out: Gradients) -> list[Numbers]:
        """Adds the cotangents of the parameters to `out`; gives those of the species."""
        for name, part in zip(self.names, parts[self.leading :], strict=True):
            if isinstance(part, Spread):
                out.add(name, part.total(self._weighted))
            else:
                out.add(name, over_columns(self.grid, self._weighted(part)))
        return [part for part in parts[: self.count] if not isinstance(part, Spread)]

    def residual(self, state: State) -> np.ndarray:
        return self._integrated(state, self.expressions.value(*self._arguments(state)))

    def jacobian(self, state: State, change: State) -> np.ndarray:
        directions = self._directions(change, {})
        return self._integrated(
            state, self.expressions.push(*self._arguments(state), *directions)
        )

    def derivative(self, state: State, dk: Coefficients) -> np.ndarray | float:
        if not any(n in dk for n in self.names):
            return 0.0
        directions = self._directions(None, dk)
        return self._integrated(
            state, self.expressions.push(*self._arguments(state), *directions)
        )

    def jacobian_transpose(
        self, state: State, adjoint: State, out: Gradients | None = None
    ) -> np.ndarray:
        given = *self._arguments(state), *adjoint.u
        if out is None:
            return self._integrated(state, self.expressions.pull(*given)[: self.count])
        return self._integrated(
            state, self._add(self.expressions.cotangents(*given), out)
        )

    def second(
        self,
        state: State,
        adjoint: State,
        change: State,
        dk: Coefficients,
        out: Gradients,
    ) -> np.ndarray:
        given = *self._arguments(state), *adjoint.u, *self._directions(change, dk)
        return self._integrated(
            state, self._add(self.expressions.cotangent_changes(*given), out)
        )

    def points(self, state: State) -> dict[str, list[list[Numbers]]]:
        return self.expressions.points(*self._arguments(state))

    def jacobians(self, state: State, start: int | None = None) -> np.ndarray:
        """Infinite slopes (of sqrt(u) at 0) are 0."""

        def picked(x: Numbers) -> Numbers:
            if np.ndim(x) == 0:
                return x
            whole = np.broadcast_to(x, state.u.shape[1:])
            return np.ravel(whole, order="F") if start is None else sample(whole, start)

        masked = self._inactive is not None
        cells = np.asarray(picked(self.grid.active)) if masked else slice(None)
        given: list[Numbers] = []
        arguments = zip(self.expressions.arguments, self._arguments(state), strict=True)
        for name, argument in arguments:
            numbers = name in self.expressions.functions
            x = np.asarray(argument if numbers else picked(argument))
            given.append(x if numbers else x[()] if x.ndim == 0 else x[cells])
        entries, width = (
            self.expressions.jacobian(*given),
            len(self.expressions.arguments),
        )
        out = np.empty((self.count, self.count, np.size(given[0])))
        for c in range(self.count):
            for d in range(self.count):
                out[c, d] = entries[c * width + d]
        return np.nan_to_num(out, copy=False, nan=0.0, posinf=0.0, neginf=0.0)

    def add_jacobian(self, state: State, planes: BlockPlanes) -> None:
        entries = self.expressions.jacobian(*self._arguments(state))
        width, (centre,) = len(self.expressions.arguments), self.term.offsets
        for c in range(self.count):
            for d in range(self.count):
                plane = planes[c, d, centre]
                plane += self._weighted(entries[c * width + d])
