"""f(x, t) = s(x; k) h(t) in one species, integrated over cells: r = -volume s h.

s is text in x, y, z and coefficients' names, a number or an owned array; h is 1, or a history,
whose values may be unknown:

    linear   between the values at given times; before the first and after the last time h keeps
             the end values
    steps    n values at n times: each holds until the next time, the first before its time too,
             the last to the end;
             n values and n + 1 times: each holds in its interval, and h is 0 outside

Steps of time end at a history's times, so that in each step h is linear, or constant, and its
integral exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from npde_opt.aliases import Coefficients
from npde_opt.errors import InputError
from npde_opt.functions.text import Expressions
from npde_opt.grids import AXES, Grid
from npde_opt.terms.interface import Term, TermAt, channel_of
from npde_opt.terms.state import Gradients, State, channels

INTERPOLATIONS = ("linear", "steps")


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
        self.field = field
        self.grid, self.count, self.channel = (
            grid,
            len(names),
            channel_of(names, species, f"{field}.species"),
        )
        self.text = (
            Expressions([shape], AXES[: grid.dim], f"{field}.{shape_key}")
            if isinstance(shape, str)
            else None
        )
        self.texts = (self.text,) if self.text else ()
        self.known = (
            None
            if isinstance(shape, str)
            else np.broadcast_to(np.asarray(shape, float), grid.local_shape)
        )
        self.times, self.history = np.asarray(times, float), history
        if history is not None and (self.times.size == 0 or np.any(np.diff(self.times) <= 0)):
            raise InputError(
                f"{field}.times", list(times), "increasing times, one a value of the history"
            )
        if interpolation not in INTERPOLATIONS:
            raise InputError(
                f"{field}.interpolation", repr(interpolation), ", ".join(INTERPOLATIONS)
            )
        self.interpolation = interpolation
        self.length = self.times.size
        if history is not None and not isinstance(history, str):
            self.take_length(f"{field}.history", len(history))

    @property
    def coefficients(self) -> tuple[str, ...]:
        named = (self.history,) if isinstance(self.history, str) else ()
        return (*named, *(self.text.parameters if self.text else ()))

    @property
    def breakpoints(self) -> np.ndarray:
        return self.times if self.history is not None else np.empty(0)

    def take_length(self, field: str, length: int) -> None:
        """Sets the number of values of the history. Raises InputError where the times do not go
        with it."""
        allowed, said = [self.times.size], "one a time"
        if self.interpolation == "steps" and self.times.size > 1:
            allowed, said = (
                [self.times.size, self.times.size - 1],
                "one a time or an interval between times",
            )
        if length not in allowed:
            raise InputError(
                field, f"{length} values", f"{' or '.join(map(str, allowed))} values, {said}"
            )
        self.length = length

    def take_lengths(self, lengths: Mapping[str, int]) -> None:
        if isinstance(self.history, str):
            self.take_length(f"{self.field}.history {self.history!r}", lengths[self.history])

    def weights(self, t: float, middle: float) -> np.ndarray:
        """w with h(t) = w . (values of the history), t in the time step around `middle`."""
        w = np.zeros(self.length)
        last = self.times.size - 1
        i = int(np.searchsorted(self.times, middle, side="right")) - 1
        if self.interpolation == "steps" and self.length == last:
            w[i : i + 1] = 1.0 if 0 <= i < last else 0.0
        elif self.interpolation == "steps" or i < 0 or i == last:
            w[max(i, 0)] = 1.0
        else:
            part = (t - self.times[i]) / (self.times[i + 1] - self.times[i])
            w[i], w[i + 1] = 1 - part, part
        return w

    def at(self, coefficients: Coefficients) -> SourceAt:
        return SourceAt(self, coefficients)


class SourceAt(TermAt):
    """The source at given coefficients; it does not depend on the state."""

    term: Source

    def __init__(self, term: Source, k: Coefficients):
        self.term, self.k, self.grid, self.count = term, k, term.grid, term.count
        self.volume = np.where(term.grid.active, term.grid.volume, 0.0)
        self.parameters = term.text.values_of(k) if term.text else []
        self.shape: Any = self._masked(
            term.text.value(*self._arguments())[0] if term.text else term.known
        )
        self.name = term.history if isinstance(term.history, str) else None

    def _masked(self, values: Any) -> Any:
        """0 in inactive cells, where a shape need not be finite."""
        return (
            values if self.grid.active_global is None else np.where(self.grid.active, values, 0.0)
        )

    def _arguments(self) -> list:
        return [*self.grid.coordinates(), *self.parameters]

    def _h(self, state: State, values: Any = None) -> float:
        if self.term.history is None:
            return 1.0
        given = values if values is not None else self.known_history()
        return float(
            self.term.weights(state.t, state.middle) @ np.atleast_1d(np.asarray(given, float))
        )

    def size(self) -> float:
        h = (
            np.ones(1)
            if self.term.history is None
            else np.atleast_1d(np.asarray(self.known_history(), float))
        )
        return float(np.abs(self.shape).max(initial=0.0)) * float(np.abs(h).max(initial=0.0))

    def known_history(self) -> Any:
        return (
            self.k[self.term.history] if isinstance(self.term.history, str) else self.term.history
        )

    def _field(self, values: Any) -> np.ndarray:
        out = channels(self.grid, self.term.count)
        out[self.term.channel] = -self.volume * values
        return out

    def _push(self, dk: Coefficients) -> Any:
        text = self.term.text
        if text is None or not any(n in dk for n in text.parameters):
            return 0.0
        return self._masked(
            text.push(*self._arguments(), *[0.0] * self.grid.dim, *text.values_of(dk, 0.0))[0]
        )

    def residual(self, state: State) -> np.ndarray:
        return self._field(self.shape * self._h(state))

    def derivative(self, state: State, dk: Coefficients) -> np.ndarray | float:
        change = self._push(dk) * self._h(state)
        if self.name is not None and self.name in dk:
            change = change + self.shape * self._h(state, dk[self.name])
        return self._field(change) if np.ndim(change) or change else 0.0

    def contraction(self, state: State, adjoint: State, out: Gradients) -> None:
        weighted = -self.volume * adjoint.u[self.term.channel]
        if self.name is not None:
            out.add(
                self.name,
                self.term.weights(state.t, state.middle) * float((weighted * self.shape).sum()),
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
        self, state: State, adjoint: State, change: State, dk: Coefficients, out: Gradients
    ) -> np.ndarray:
        weighted = -self.volume * adjoint.u[self.term.channel]
        if self.name is not None:
            out.add(
                self.name,
                self.term.weights(state.t, state.middle) * float((weighted * self._push(dk)).sum()),
            )
            if self.name in dk:
                self._pull(weighted * self._h(state, dk[self.name]), out)
        text = self.term.text
        if text is not None:
            directions = [*[0.0] * self.grid.dim, *text.values_of(dk, 0.0)]
            parts = text.second(*self._arguments(), weighted * self._h(state), *directions)[
                self.grid.dim :
            ]
            for name, part in zip(text.parameters, parts, strict=True):
                out.add(name, part)
        return channels(self.grid, self.term.count)


class Load(Term):
    """f constant in time and known, integrated over cells: r = -f [c, i, j, k]."""

    symmetric = True
    pointwise = True
    stateless = True

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
