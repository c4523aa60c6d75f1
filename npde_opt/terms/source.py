"""f(x, t) = s(x; k) h(t) in one species, integrated over cells: r = -volume s h.

s is text in x, y, z and coefficients' names, a number or an owned array; h is 1, or a history
(history.py), whose values may be unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from npde_opt.aliases import Coefficients, Numbers
from npde_opt.functions.text import Expressions
from npde_opt.grids import AXES, Grid
from npde_opt.terms.history import History
from npde_opt.terms.interface import Term, TermAt, channel_of
from npde_opt.terms.state import Gradients, State, over_columns


class Source(Term):
    """A source in `species` of `names`.

    Args:
        shape: s.
        history: values of h, or the name of an unknown with as many; None: h = 1.
        times: of the history's values.
        interpolation: 'linear' or 'steps'.
        field: the source's key in error messages. shape_key: that of s below it.

    Raises:
        InputError: for a text that is no expression, times that do not increase, and another number
            of values than the times ask for.
    """

    symmetric = True
    pointwise = True
    stateless = True
    columns = True

    def __init__(
        self,
        grid: Grid,
        names: Sequence[str],
        species: str,
        shape: str | float | np.ndarray,
        history: str | Sequence[float] | None = None,
        times: Sequence[float] = (),
        interpolation: str = "linear",
        field: str = "source",
        shape_key: str = "shape",
    ):
        self.field, self.key = field, f"{field}.{shape_key}"
        self.grid, self.count, self.channel = (
            grid,
            len(names),
            channel_of(names, species, f"{field}.species"),
        )
        self.text = (
            Expressions([shape], AXES[: grid.dim], self.key)
            if isinstance(shape, str)
            else None
        )
        self.texts = (self.text,) if self.text else ()
        self.known = (
            None
            if isinstance(shape, str)
            else np.broadcast_to(np.asarray(shape, float), grid.local_shape)
        )
        self.history = (
            History(history, times, interpolation, field)
            if history is not None
            else None
        )

    @property
    def coefficients(self) -> tuple[str, ...]:
        named = self.history.coefficients if self.history else ()
        return (*named, *(self.text.parameters if self.text else ()))

    @property
    def constant(self) -> bool:  # type: ignore[override]
        return self.history is None

    @property
    def breakpoints(self) -> np.ndarray:
        return self.history.times if self.history else np.empty(0)

    def take_lengths(self, lengths: Mapping[str, int]) -> None:
        if self.history is not None:
            self.history.take_lengths(lengths)

    def at(self, coefficients: Coefficients) -> SourceAt:
        return SourceAt(self, coefficients)


class SourceAt(TermAt):
    """The source at given coefficients; it does not depend on the state."""

    term: Source

    def __init__(self, term: Source, k: Coefficients):
        self.term, self.k, self.grid, self.count = term, k, term.grid, term.count
        self.volume = np.where(term.grid.active, term.grid.volume, 0.0)
        self.parameters = term.text.values_of(k) if term.text else []
        known = 0.0 if term.known is None else term.known
        self.shape = self._masked(
            term.text.value(*self._arguments())[0] if term.text else known
        )
        self.name = term.history.name if term.history is not None else None

    def _masked(self, values: Numbers) -> Numbers:
        """0 in inactive cells, where a shape need not be finite."""
        return (
            values
            if self.grid.mask is None
            else np.where(self.grid.active, values, 0.0)
        )

    def _arguments(self) -> list[Numbers]:
        return [*self.grid.coordinates(), *self.parameters]

    def _h(self, state: State, values: Numbers | None = None) -> float:
        history = self.term.history
        if history is None:
            return 1.0
        given = (
            history.given(self.k)
            if values is None
            else np.atleast_1d(np.asarray(values))
        )
        return float(self._weights(state) @ given)

    def _weights(self, state: State) -> np.ndarray:
        assert self.term.history is not None
        return self.term.history.weights(state.t, state.middle)

    def size(self) -> float:
        h = np.ones(1) if self.term.history is None else self.term.history.given(self.k)
        return float(np.abs(self.shape).max(initial=0.0)) * float(
            np.abs(h).max(initial=0.0)
        )

    def _field(self, state: State, values: Numbers) -> np.ndarray:
        out = state.zeros()
        out[self.term.channel] = -self.volume * values
        return out

    def _push(self, dk: Coefficients) -> Numbers:
        text = self.term.text
        if text is None or not any(n in dk for n in text.parameters):
            return 0.0
        return self._masked(
            text.push(
                *self._arguments(), *[0.0] * self.grid.dim, *text.values_of(dk, 0.0)
            )[0]
        )

    def residual(self, state: State) -> np.ndarray:
        return self._field(state, self.shape * self._h(state))

    def derivative(self, state: State, dk: Coefficients) -> np.ndarray | float:
        change = self._push(dk) * self._h(state)
        if self.name is not None and self.name in dk:
            change = change + self.shape * self._h(state, dk[self.name])
        return self._field(state, change) if np.ndim(change) or change else 0.0

    def contraction(self, state: State, adjoint: State, out: Gradients) -> None:
        weighted = -self.volume * over_columns(self.grid, adjoint.u[self.term.channel])
        if self.name is not None:
            out.add(
                self.name,
                self._weights(state) * float((weighted * self.shape).sum()),
            )
        self._pull(weighted * self._h(state), out)

    def _pull(self, weighted: np.ndarray, out: Gradients) -> None:
        text = self.term.text
        if text is not None:
            for name, part in zip(
                text.parameters,
                text.pull(*self._arguments(), weighted)[self.grid.dim :],
                strict=True,
            ):
                out.add(name, part)

    def second(
        self,
        state: State,
        adjoint: State,
        change: State,
        dk: Coefficients,
        out: Gradients,
    ) -> np.ndarray:
        weighted = -self.volume * over_columns(self.grid, adjoint.u[self.term.channel])
        if self.name is not None:
            out.add(
                self.name,
                self._weights(state) * float((weighted * self._push(dk)).sum()),
            )
            if self.name in dk:
                self._pull(weighted * self._h(state, dk[self.name]), out)
        text = self.term.text
        if text is not None:
            directions = [*[0.0] * self.grid.dim, *text.values_of(dk, 0.0)]
            parts = text.second(
                *self._arguments(), weighted * self._h(state), *directions
            )[self.grid.dim :]
            for name, part in zip(text.parameters, parts, strict=True):
                out.add(name, part)
        return adjoint.zeros()


class Load(Term):
    """f constant in time and known, integrated over cells: r = -f [c, i, j, k], or one of each
    column, [c, s, i, j, k]."""

    symmetric = True
    pointwise = True
    stateless = True
    columns = True
    constant = True

    def __init__(self, grid: Grid, values: np.ndarray):
        self.grid, self.values = grid, values

    def at(self, coefficients: Coefficients) -> LoadAt:
        return LoadAt(self)


class LoadAt(TermAt):
    """The load, at any coefficients."""

    term: Load

    def __init__(self, term: Load):
        self.term, self.grid, self.count = term, term.grid, len(term.values)

    def residual(self, state: State) -> np.ndarray:
        return -self.term.values

    def size(self) -> float:
        return float(np.abs(self.term.values / self.grid.volume).max(initial=0.0))
