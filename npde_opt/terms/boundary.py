"""Boundary values g(x, t; k) = s(x, t; k) h(t) at the middles of the faces of a side:

    Dirichlet sides   u                  in the ghosts outside
    Robin sides       the outer u        in the ghosts outside
    Neumann sides     the inward flux    times area, in the residual of the cells at the side

The ghosts outside are an argument g of residuals r(u, g; k) beside u: a change of boundary values
is a change of the state that is 0 inside, and r_g^T lambda is what terms collect by species and
side (`Outer`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from npde_opt.aliases import Coefficients, Numbers
from npde_opt.errors import InputError
from npde_opt.functions.text import Expressions
from npde_opt.grids import AXES, Grid, of_cells
from npde_opt.grids.sides import Side
from npde_opt.terms.history import History
from npde_opt.terms.interface import Term, TermAt
from npde_opt.terms.state import Gradients, Outer, State, channels

TIME = "t"
"""The name of time in texts."""


@dataclass(frozen=True, eq=False)
class SideValue:
    """A boundary value that varies along a side, in time, or both.

    Args:
        shape: s as a number; text in x, y, z, t and names of coefficients (cell fields are taken in
            the cells at the side); or values of the whole side, an array over the axes but the
            side's own. With `times` and no history such arrays one after the other, [time, ...].
        history: values of h, or the name of an unknown with as many; None: h = 1.
        times: of the history's values, or of the arrays.
        interpolation: 'linear' or 'steps' (see history.py).
    """

    shape: float | str | np.ndarray
    history: str | Sequence[float] | None = None
    times: Sequence[float] = ()
    interpolation: str = "linear"


Value = float | str | np.ndarray | SideValue
"""A boundary value: a number, text, an array over the side's cells, or one with a history."""


class Profile:
    """g on one side.

    Args:
        key: of the value in error messages.
        timed: whether texts may read the time.

    Raises:
        InputError: for a text that is no expression, arrays of another shape than the side's, and
            times that do not go with the values.
    """

    def __init__(self, grid: Grid, side: str, given: Value, key: str, timed: bool):
        self.grid, self.key, self.side = grid, key, Side(grid, side)
        value = given if isinstance(given, SideValue) else SideValue(given)
        self.variables = (*AXES[: grid.dim], *((TIME,) if timed else ()))
        shape = value.shape
        self.text = (
            Expressions([shape], self.variables, key)
            if isinstance(shape, str)
            else None
        )
        self.history: History | None = None
        self.tabulated = value.history is None and len(value.times) > 0
        if self.tabulated or value.history is not None:
            values = (
                value.history
                if value.history is not None
                else [0.0] * len(np.atleast_1d(shape))
            )
            self.history = History(values, value.times, value.interpolation, key)
        self.known = (
            None if isinstance(shape, str) else self._placed(np.asarray(shape, float))
        )

    def _placed(self, values: np.ndarray) -> np.ndarray:
        """The layer, or [time, layer], of an array."""
        leading = int(self.tabulated)
        d = self.side.axis
        cells = tuple(n for e, n in enumerate(self.grid.shape) if e != d)
        if values.ndim == leading:
            values = np.broadcast_to(
                values.reshape(values.shape + (1,) * len(cells)), values.shape + cells
            )
        if values.shape[leading:] != cells:
            said = f"{' x '.join(map(str, cells)) or 'one'}, one a cell of the side"
            raise InputError(
                self.key, f"values of shape {list(values.shape[leading:])}", said
            )
        if not np.isfinite(values).all():
            raise InputError(self.key, "values that are not finite", "finite numbers")
        return self.side.layer(values, leading)

    @property
    def texts(self) -> tuple[Expressions, ...]:
        return (self.text,) if self.text else ()

    @property
    def coefficients(self) -> tuple[str, ...]:
        named = self.history.coefficients if self.history else ()
        return (*named, *(self.text.parameters if self.text else ()))

    @property
    def breakpoints(self) -> np.ndarray:
        return self.history.times if self.history else np.empty(0)

    @property
    def constant(self) -> bool:
        """Whether it is the same at all times."""
        return self.history is None and not (self.text and self.text.reads(TIME))

    def take_lengths(self, lengths: Mapping[str, int]) -> None:
        if self.history is not None:
            self.history.take_lengths(lengths)

    def _beside(self, name: str, value: Numbers) -> Numbers:
        """A coefficient at the side: a number, or the layer of a cell field."""
        if np.ndim(value) == 0:
            return value
        if np.shape(value) != self.grid.local_shape:
            said = "a number or a cell field; values in time are a history"
            raise InputError(
                self.key, f"{name}, of shape {list(np.shape(value))}", said
            )
        return np.asarray(value)[self.side.cells]

    def _masked(self, values: Numbers) -> np.ndarray:
        """0 beside inactive cells, where values need not be finite."""
        return np.where(self.side.active, values, 0.0)

    def _arguments(self, k: Coefficients, t: float) -> list[Numbers]:
        assert self.text is not None
        time = [t] if TIME in self.variables else []
        names = self.text.parameters
        return [*self.side.coordinates, *time, *(self._beside(n, k[n]) for n in names)]

    def _directions(self, dk: Coefficients) -> list[Numbers]:
        assert self.text is not None
        changes = [
            self._beside(n, dk[n]) if n in dk else 0.0 for n in self.text.parameters
        ]
        return [*[0.0] * len(self.variables), *changes]

    def _h(self, k: Coefficients, t: float, middle: float) -> float:
        if self.history is None or self.tabulated:
            return 1.0
        return float(self.history.weights(t, middle) @ self.history.given(k))

    def _dh(self, dk: Coefficients, t: float, middle: float) -> float:
        """The change of h with that of its unknown values."""
        history = self.history
        if history is None or history.name is None or history.name not in dk:
            return 0.0
        return float(history.weights(t, middle) @ history.given(dk))

    def _shape(self, k: Coefficients, t: float, middle: float) -> Numbers:
        if self.text is not None:
            return self.text.value(*self._arguments(k, t))[0]
        assert self.known is not None
        if self.tabulated:
            assert self.history is not None
            return np.tensordot(self.history.weights(t, middle), self.known, axes=1)
        return self.known

    def _dshape(self, k: Coefficients, dk: Coefficients, t: float) -> Numbers:
        if self.text is None or not any(n in dk for n in self.text.parameters):
            return 0.0
        return self.text.push(*self._arguments(k, t), *self._directions(dk))[0]

    def value(self, k: Coefficients, t: float, middle: float) -> np.ndarray:
        """g as a layer, at a time in the step around `middle`."""
        return self._masked(self._shape(k, t, middle) * self._h(k, t, middle))

    def push(
        self, k: Coefficients, dk: Coefficients, t: float, middle: float
    ) -> np.ndarray:
        """g_k dk."""
        moved = self._dshape(k, dk, t) * self._h(k, t, middle)
        return self._masked(moved + self._shape(k, t, middle) * self._dh(dk, t, middle))

    def pull(
        self,
        k: Coefficients,
        t: float,
        middle: float,
        weights: np.ndarray | float,
        out: Gradients,
    ) -> None:
        """Adds g_k^T w of a layer w."""
        w = self._masked(weights)
        self._pull_history(t, middle, w * self._shape(k, t, middle), out)
        self._pull_shape(k, t, w * self._h(k, t, middle), out)

    def _pull_history(
        self, t: float, middle: float, values: Numbers, out: Gradients
    ) -> None:
        if self.history is not None and self.history.name is not None:
            weights = self.history.weights(t, middle)
            out.add(self.history.name, weights * float(np.sum(values)))

    def _pull_shape(
        self, k: Coefficients, t: float, w: Numbers, out: Gradients
    ) -> None:
        if self.text is not None:
            self._spread(self.text.pull(*self._arguments(k, t), w), k, out)

    def _spread(
        self, parts: Sequence[Numbers], k: Coefficients, out: Gradients
    ) -> None:
        """Adds cotangents of the text's parameters at the side to those of the coefficients."""
        assert self.text is not None
        for name, part in zip(
            self.text.parameters, parts[len(self.variables) :], strict=True
        ):
            if np.ndim(k[name]) == 0:
                out.add(
                    name, float(np.sum(np.broadcast_to(part, self.side.active.shape)))
                )
                continue
            whole = np.zeros(self.grid.local_shape, order="F")
            whole[self.side.cells] = part
            out.add(name, whole)

    def second(
        self,
        k: Coefficients,
        t: float,
        middle: float,
        weights: np.ndarray | float,
        dk: Coefficients,
        out: Gradients,
    ) -> None:
        """Adds (g_kk dk)^T w."""
        w = self._masked(weights)
        self._pull_history(t, middle, w * self._dshape(k, dk, t), out)
        if self.text is None:
            return
        self._pull_shape(k, t, w * self._dh(dk, t, middle), out)
        weighted = w * self._h(k, t, middle)
        arguments = self._arguments(k, t)
        self._spread(
            self.text.second(*arguments, weighted, *self._directions(dk)), k, out
        )


class BoundaryValues:
    """What stands in the ghosts outside Dirichlet and Robin sides in an experiment.

    Args:
        parts: (species, g on a side), no side of a species twice.
    """

    def __init__(self, grid: Grid, parts: Sequence[tuple[int, Profile]]):
        self.grid, self.parts = grid, list(parts)
        profiles = [profile for _, profile in self.parts]
        self.texts = tuple(text for p in profiles for text in p.texts)
        self.coefficients = tuple(name for p in profiles for name in p.coefficients)
        self.breakpoints = np.concatenate(
            [np.empty(0), *(p.breakpoints for p in profiles)]
        )
        self.constant = all(p.constant for p in profiles)

    @property
    def zero(self) -> bool:
        """Whether all are the number 0."""
        known = [profile.known for _, profile in self.parts]
        return all(values is not None and not values.any() for values in known)

    def take_lengths(self, lengths: Mapping[str, int]) -> None:
        for _, profile in self.parts:
            profile.take_lengths(lengths)

    def at(self, k: Coefficients) -> BoundaryValuesAt:
        return BoundaryValuesAt(self, k)


class BoundaryValuesAt:
    """The boundary values of one experiment at given coefficients."""

    def __init__(self, boundary: BoundaryValues, k: Coefficients):
        self.boundary, self.k = boundary, k
        self.any, self.constant = bool(boundary.parts), boundary.constant
        self._always: Outside | None = None

    def outside(self, t: float, middle: float) -> Outside | None:
        """At a time in the step around `middle`; None where nothing stands there. One object for
        all times where nothing changes."""
        if not self.boundary.parts:
            return None
        if self._always is not None:
            return self._always
        found = Outside(self, t, middle)
        if self.boundary.constant:
            self._always = found
        return found

    def size(self, times: np.ndarray) -> float:
        """The largest |g| on this rank at given times."""
        seen = times[:1] if self.boundary.constant else times
        values = [
            p.value(self.k, float(t), float(t))
            for t in seen
            for _, p in self.boundary.parts
        ]
        return max((float(np.abs(v).max(initial=0.0)) for v in values), default=0.0)


class Ghosts:
    """Values in the ghosts outside: layers by species. They depend on no coefficients."""

    def __init__(self, boundary: BoundaryValues, layers: Sequence[np.ndarray]):
        self.boundary, self.layers = boundary, layers

    @property
    def parts(self) -> list[tuple[int, Side, np.ndarray]]:
        """(species, side, layer)."""
        pairs = zip(self.boundary.parts, self.layers, strict=True)
        return [(c, profile.side, layer) for (c, profile), layer in pairs]

    def put(self, c: int, ghosted: np.ndarray) -> bool:
        """Writes those of a species into a ghosted field, or columns of them. Whether it has some,
        on any rank."""
        found = False
        for (species, profile), layer in zip(
            self.boundary.parts, self.layers, strict=True
        ):
            if species == c:
                ghosted[of_cells(profile.side.ghosts)] = layer
                found = True
        return found

    def field(self, c: int) -> np.ndarray | None:
        """A ghosted field with those of a species, 0 elsewhere; None where it has none."""
        out = np.zeros([n + 2 for n in self.boundary.grid.local_shape], order="F")
        return out if self.put(c, out) else None

    def push(self, dk: Coefficients) -> Ghosts | None:
        """g_k dk; None where no coefficient of g changes."""
        return None

    def sought(self, out: Gradients) -> Outer | None:
        """A place for r_g^T lambda by species and side, at those that depend on the unknowns; None
        where none does."""
        return None

    def pull(self, outer: Outer, out: Gradients) -> None:
        """Adds g_k^T w of cotangents w."""

    def second(self, outer: Outer, dk: Coefficients, out: Gradients) -> None:
        """Adds (g_kk dk)^T w."""


class Outside(Ghosts):
    """Boundary values at one time, with their derivatives in the coefficients."""

    def __init__(self, at: BoundaryValuesAt, t: float, middle: float):
        self.k, self.t, self.middle = at.k, t, middle
        values = [p.value(at.k, t, middle) for _, p in at.boundary.parts]
        super().__init__(at.boundary, values)

    def push(self, dk: Coefficients) -> Ghosts | None:
        if not any(name in dk for name in self.boundary.coefficients):
            return None
        parts = self.boundary.parts
        moved = [p.push(self.k, dk, self.t, self.middle) for _, p in parts]
        return Ghosts(self.boundary, moved)

    def sought(self, out: Gradients) -> Outer | None:
        found: Outer = {
            (c, p.side.name): (p.side, 0.0)
            for c, p in self.boundary.parts
            if any(name in out.blocks for name in p.coefficients)
        }
        return found or None

    def pull(self, outer: Outer, out: Gradients) -> None:
        for c, p in self.boundary.parts:
            if (c, p.side.name) in outer:
                w = outer[c, p.side.name][1]
                p.pull(self.k, self.t, self.middle, w, out)

    def second(self, outer: Outer, dk: Coefficients, out: Gradients) -> None:
        for c, p in self.boundary.parts:
            if (c, p.side.name) in outer:
                w = outer[c, p.side.name][1]
                p.second(self.k, self.t, self.middle, w, dk, out)


class Flux(Term):
    """The inward flux g through a Neumann side: r = -area g in the cells at the side.

    Args:
        count: of species. channel: that it enters.
    """

    symmetric = True
    pointwise = True
    stateless = True

    def __init__(self, grid: Grid, count: int, channel: int, profile: Profile):
        self.grid, self.count, self.channel, self.profile = (
            grid,
            count,
            channel,
            profile,
        )
        self.texts = profile.texts

    @property
    def coefficients(self) -> tuple[str, ...]:
        return self.profile.coefficients

    @property
    def breakpoints(self) -> np.ndarray:
        return self.profile.breakpoints

    def take_lengths(self, lengths: Mapping[str, int]) -> None:
        self.profile.take_lengths(lengths)

    def at(self, coefficients: Coefficients) -> FluxAt:
        return FluxAt(self, coefficients)


class FluxAt(TermAt):
    """The flux at given coefficients."""

    term: Flux

    def __init__(self, term: Flux, k: Coefficients):
        self.term, self.k, self.grid, self.count = term, k, term.grid, term.count
        self.profile, self.areas = term.profile, term.profile.side.areas

    def _cells(self, layer: np.ndarray) -> np.ndarray:
        out = channels(self.grid, self.count)
        out[self.term.channel][self.profile.side.cells] = -self.areas * layer
        return out

    def residual(self, state: State) -> np.ndarray:
        return self._cells(self.profile.value(self.k, state.t, state.middle))

    def derivative(self, state: State, dk: Coefficients) -> np.ndarray | float:
        if not any(name in dk for name in self.term.coefficients):
            return 0.0
        return self._cells(self.profile.push(self.k, dk, state.t, state.middle))

    def _weighted(self, adjoint: State) -> np.ndarray:
        return -self.areas * adjoint.u[self.term.channel][self.profile.side.cells]

    def contraction(self, state: State, adjoint: State, out: Gradients) -> None:
        self.profile.pull(self.k, state.t, state.middle, self._weighted(adjoint), out)

    def second(
        self,
        state: State,
        adjoint: State,
        change: State,
        dk: Coefficients,
        out: Gradients,
    ) -> np.ndarray:
        weights = self._weighted(adjoint)
        self.profile.second(self.k, state.t, state.middle, weights, dk, out)
        return channels(self.grid, self.count)

    def size(self) -> float:
        history, cells = self.profile.history, self.profile.side.cells
        times = history.times if history is not None else np.zeros(1)
        values = [self.profile.value(self.k, float(t), float(t)) for t in times]
        largest = max(float(np.abs(v).max(initial=0.0)) for v in values)
        return largest * float((self.areas / self.grid.volume[cells]).max(initial=0.0))
