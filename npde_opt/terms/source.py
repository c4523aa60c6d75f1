"""f(x, t) = s(x; k) h(t) in one species, integrated over cells: r = -volume s h.

s is text in x, y, z and coefficients' names, a number or an owned array; h is 1, or linear between values at given
times, which may be an unknown history. Before the first and after the last time h keeps the end values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from npde_opt.errors import InputError
from npde_opt.functions.text import Expressions
from npde_opt.grids import AXES, Grid
from npde_opt.terms.state import Gradients, State, channels


class Source:
    """A source in `species` of `names`.

    Args:
        shape: s. history: values of h at `times`, or the name of an unknown with one value a time; None: h = 1.
    """

    pointwise = True

    def __init__(self, grid: Grid, names: Sequence[str], species: str, shape: str | float | np.ndarray,
                 history: str | Sequence[float] | None = None, times: Sequence[float] = ()):
        if species not in names:
            raise InputError("source.species", repr(species), ", ".join(names))
        self.grid, self.count, self.channel = grid, len(names), list(names).index(species)
        self.text = Expressions([shape], AXES[: grid.dim], "source.shape") if isinstance(shape, str) else None
        self.known = None if isinstance(shape, str) else np.broadcast_to(np.asarray(shape, float), grid.local_shape)
        self.times, self.history = np.asarray(times, float), history
        if history is not None and (self.times.size == 0 or np.any(np.diff(self.times) <= 0)):
            raise InputError("source.times", list(times), "increasing times, one a value of the history")
        if history is not None and not isinstance(history, str) and len(history) != self.times.size:
            raise InputError("source.history", f"{len(history)} values", f"{self.times.size} values, one a time")

    @property
    def coefficients(self) -> tuple[str, ...]:
        named = (self.history,) if isinstance(self.history, str) else ()
        return (*named, *(self.text.parameters if self.text else ()))

    def weights(self, t: float) -> np.ndarray:
        """w with h(t) = w . (values of the history)."""
        w = np.zeros(self.times.size)
        x = float(np.clip(t, self.times[0], self.times[-1]))
        i = int(np.clip(np.searchsorted(self.times, x) - 1, 0, max(self.times.size - 2, 0)))
        if self.times.size == 1:
            w[0] = 1.0
        else:
            part = (x - self.times[i]) / (self.times[i + 1] - self.times[i])
            w[i], w[i + 1] = 1 - part, part
        return w

    def at(self, coefficients: Mapping[str, Any]) -> SourceAt:
        return SourceAt(self, coefficients)


class SourceAt:
    """The source at given coefficients; it does not depend on the state."""

    stateless = True

    def __init__(self, term: Source, k: Mapping[str, Any]):
        self.term, self.k, self.grid = term, k, term.grid
        self.volume = np.where(term.grid.active, term.grid.volume, 0.0)
        self.parameters = term.text.values_of(k) if term.text else []
        self.shape: Any = self._masked(term.text.value(*self._arguments())[0] if term.text else term.known)
        self.name = term.history if isinstance(term.history, str) else None

    def _masked(self, values: Any) -> Any:
        """0 in inactive cells, where a shape need not be finite."""
        return values if self.grid.active_global is None else np.where(self.grid.active, values, 0.0)

    def _arguments(self) -> list:
        return [*self.grid.coordinates(), *self.parameters]

    def _h(self, t: float, values: Any = None) -> float:
        if self.term.history is None:
            return 1.0
        given = values if values is not None else self.known_history()
        return float(self.term.weights(t) @ np.atleast_1d(np.asarray(given, float)))

    def known_history(self) -> Any:
        return self.k[self.term.history] if isinstance(self.term.history, str) else self.term.history

    def _field(self, values: Any) -> np.ndarray:
        out = channels(self.grid, self.term.count)
        out[self.term.channel] = -self.volume * values
        return out

    def _push(self, dk: Mapping[str, Any]) -> Any:
        text = self.term.text
        if text is None or not any(n in dk for n in text.parameters):
            return 0.0
        return self._masked(text.push(*self._arguments(), *[0.0] * self.grid.dim, *text.values_of(dk, 0.0))[0])

    def residual(self, state: State) -> np.ndarray:
        return self._field(self.shape * self._h(state.t))

    def jacobian(self, state: State, change: State) -> np.ndarray:
        return channels(self.grid, self.term.count)

    def derivative(self, state: State, dk: Mapping[str, Any]) -> np.ndarray | float:
        change = self._push(dk) * self._h(state.t)
        if self.name is not None and self.name in dk:
            change = change + self.shape * self._h(state.t, dk[self.name])
        return self._field(change) if np.ndim(change) or change else 0.0

    def jacobian_transpose(self, state: State, adjoint: State, out: Gradients | None = None) -> np.ndarray:
        if out is not None:
            self.contraction(state, adjoint, out)
        return channels(self.grid, self.term.count)

    def contraction(self, state: State, adjoint: State, out: Gradients) -> None:
        weighted = -self.volume * adjoint.u[self.term.channel]
        if self.name is not None:
            out.add(self.name, self.term.weights(state.t) * float((weighted * self.shape).sum()))
        self._pull(weighted * self._h(state.t), out)

    def _pull(self, weighted: np.ndarray, out: Gradients) -> None:
        text = self.term.text
        if text is not None:
            for name, part in zip(text.parameters, text.pull(*self._arguments(), weighted)[self.grid.dim:], strict=True):
                out.add(name, part)

    def second(self, state: State, adjoint: State, change: State, dk: Mapping[str, Any], out: Gradients) -> np.ndarray:
        weighted = -self.volume * adjoint.u[self.term.channel]
        if self.name is not None:
            out.add(self.name, self.term.weights(state.t) * float((weighted * self._push(dk)).sum()))
            if self.name in dk:
                self._pull(weighted * self._h(state.t, dk[self.name]), out)
        text = self.term.text
        if text is not None:
            directions = [*[0.0] * self.grid.dim, *text.values_of(dk, 0.0)]
            parts = text.second(*self._arguments(), weighted * self._h(state.t), *directions)[self.grid.dim:]
            for name, part in zip(text.parameters, parts, strict=True):
                out.add(name, part)
        return channels(self.grid, self.term.count)

    def add_jacobian(self, state: State, values: np.ndarray) -> None:
        pass
