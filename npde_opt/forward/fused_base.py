"""What fused steps share at one point of the parameters: compiled loops and their arguments, states
with ghosts, and what stability and size checks ask of a state."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from npde_opt.aliases import Coefficients
from npde_opt.forward.fused_loops import Kernels, kernels
from npde_opt.forward.fused_spread import Cells
from npde_opt.forward.fused_spreads import Spreads
from npde_opt.forward.ghosted import Store
from npde_opt.forward.stability import Moving
from npde_opt.forward.stepper import Stepper
from npde_opt.terms.kinetics import Kinetics, KineticsAt
from npde_opt.terms.nonlinear_diffusion import NonlinearDiffusionAt
from npde_opt.terms.state import Gradients, distance, sampled


class Checks(NamedTuple):
    """What states are looked at for within many steps, by the names of fused_looks.py."""

    most: float
    places: np.ndarray
    kept: np.ndarray
    room: np.ndarray
    sizes: np.ndarray
    turns: np.ndarray
    last: np.ndarray
    rules: np.ndarray
    stiffness: np.ndarray
    every: int

    @classmethod
    def none(cls, p: np.ndarray, most: float = math.inf) -> Checks:
        """p: an array of a state's precision."""
        numbers, integers = np.empty(0), np.empty(0, np.int64)
        never = np.array([0, 0, np.iinfo(np.int64).max, 0])
        return cls(
            most,
            integers,
            np.empty((0, 0), p.dtype),
            numbers,
            numbers,
            never,
            np.full(2, np.inf),
            numbers,
            numbers,
            1,
        )


class FusedBase(Stepper):
    """The stepper, with loops in place of its terms."""

    def __init__(self, stepper: Stepper, coefficients: Coefficients):
        super().__init__(
            stepper.grid,
            stepper.scheme,
            stepper.groups,
            stepper.times,
            stepper.boundary,
            stepper.solvers,
        )
        others = self.groups[1].others
        kinetics = [p for p in others if isinstance(p, KineticsAt)]
        self.kinetics = kinetics[0] if kinetics else self._still()
        fluxes = [p for p in others if isinstance(p, NonlinearDiffusionAt)]
        self.spreads = Spreads(self.solvers.part, self.linear, coefficients, fluxes)
        self.rate = self._rate()
        self.fields = tuple(np.ndim(p) > 0 for p in self.kinetics.parameters)
        self.parameters = [
            np.ascontiguousarray(np.transpose(p)) if field else float(p)
            for p, field in zip(self.kinetics.parameters, self.fields, strict=True)
        ]
        self.store = Store.of(self.grid)
        self._last: tuple[Callable[[], np.ndarray | None], float] = (lambda: None, 0.0)
        self._squares = np.zeros(1)
        # Of all Euler's steps.
        self._dts = np.repeat(np.diff(self.times), self.scheme.stages)
        self._compiled: dict[int, Kernels] = {}
        self._fields: list[np.ndarray] = []
        self._clear()

    @property
    def several(self) -> bool:
        """Whether states are spread over ranks."""
        return self.grid.comm.size > 1

    @property
    def bounds(self) -> list[float] | None:
        return self.spreads.bounds

    def _still(self) -> KineticsAt:
        """No reaction."""
        species = self.solvers.part.equation.species
        of = self.grid.once(
            ("still", species), lambda: Kinetics(self.grid, species, {})
        )
        return of.at({})

    def _rate(self) -> float | np.ndarray:
        """s: 1/gamma, 0 in inactive cells."""
        s = 1 / self.solvers.part.equation.inertia
        if self.grid.mask is None:
            return s
        return np.ascontiguousarray(np.where(self.grid.active, s, 0.0).T)

    def _clear(self) -> None:
        """Forgets dJ/dtheta of the scalars and of the fields, and what the spreads add up."""
        self._scalars = np.zeros(len(self.fields))
        self._fields = []
        self.spreads.clear()

    @property
    def _sums(self) -> list[np.ndarray]:
        """dJ/dtheta of the fields so far, from the first sweep back on."""
        if not self._fields:
            cells = self.grid.local_shape[::-1]
            self._fields = [np.zeros(cells) for field in self.fields if field]
        return self._fields

    def _kernels(self, u: np.ndarray) -> Kernels:
        """Of a state, which may have an axis of samples (see columns.py)."""
        if u.ndim not in self._compiled:
            cells = Cells(self.grid.dim, u.ndim > self.grid.dim + 1)
            masked = self.grid.mask is not None
            written = self.spreads.spread(cells), cells, masked, self.several
            self._compiled[u.ndim] = kernels(
                self.kinetics.expressions, self.fields, *written
            )
        return self._compiled[u.ndim]

    def _sizes(
        self, dt: float | np.ndarray, p: np.ndarray
    ) -> tuple[float | np.ndarray, ...]:
        """Of a step from a state with its ghosts."""
        return dt, self.rate, *self.spreads.values(self._samples_of(p))

    def _cells(self, p: np.ndarray) -> np.ndarray:
        """Their numbers by axis, the slowest one first, and that of samples, of a state with its
        ghosts."""
        return np.array([*self.grid.local_shape[::-1], *self._samples_of(p)])

    def _samples_of(self, p: np.ndarray) -> tuple[int, ...]:
        """Of a state with its ghosts, the number of samples; () where it has no such axis."""
        return p.shape[self.grid.dim + 1 :]

    def _forth(
        self,
        p: np.ndarray,
        rows: np.ndarray,
        dts: np.ndarray,
        first: int = 0,
        halves: bool = False,
        checks: Checks | None = None,
    ) -> int:
        """Euler's steps of the lengths `dts`, or Heun's of two each, from a state with its ghosts
        into `rows`, up to one that the checks stop at (see fused_runs.py): their number. Collective
        where there are several."""
        looks = Checks.none(p) if checks is None else checks
        given = self._cells(p), p, rows, first, dts.size, *self.parameters
        step, sizes = self._kernels(p).step, self._sizes(dts, p)
        last = self.store.copies, halves, *looks
        if not self.several:
            return step(*given, *sizes, *last, self._squares)
        halo = self.store.halo(p)
        own = *halo.arguments, halo.ring, halo.shared
        done = step(*given, *sizes, *last, *own, self._squares)
        return halo.over(done, dts.size - 1)

    def _back(
        self,
        states: np.ndarray,
        p: np.ndarray,
        rows: np.ndarray,
        dts: np.ndarray,
        first: int = 0,
        halves: bool = False,
        adds: bool = True,
    ) -> None:
        """The adjoints of steps from `states`, the last one first, from an adjoint with its ghosts
        into `rows`; they add up what `flush` gives."""
        scalars, sums = self._scalars, [*self._sums, *self.spreads.sums]
        if not adds:
            scalars, sums = np.empty_like(scalars), [np.empty_like(s) for s in sums]
        given = self._cells(p), states, p, rows, first, dts.size, *self.parameters
        last = self.store.copies, halves
        loops, sizes = self._kernels(p), self._sizes(dts, p)
        if not self.several:
            loops.back(*given, *sums, scalars, *sizes, *last)
            return
        halo = self.store.halo(p)
        done = loops.back(*given, *sums, scalars, *sizes, *last, *halo.arguments)
        halo.over(done, dts.size - (0 if halves else 1))

    def _dt(self, n: int) -> np.ndarray:
        """[dt] of a step."""
        at = n * self.scheme.stages
        return self._dts[at : at + 1]

    def _whole(self, n: int, j: int, u: np.ndarray) -> np.ndarray:
        """The array around a state U_j with its ghosts, boundary values too."""
        whole = self.store.filled(u)
        outside = self.state(n, j, u).outside if self.boundary.any else None
        if outside is not None:
            columns = u.ndim > self.grid.dim + 1
            for c, species in enumerate(self.store.ghosted(whole, columns)):
                outside.put(c, species.T)
        return whole

    def samples(self, u: np.ndarray, start: int) -> np.ndarray:
        whole = self.store.around(u)
        sampled = self._sampled(u, whole, start)
        return whole.reshape(len(u), -1).take(sampled, axis=1)

    def _sampled(self, u: np.ndarray, whole: np.ndarray, start: int) -> np.ndarray:
        """Places of the cells of a sample of a state in an array like the one around it."""
        return places(u.shape[1:], whole.shape[1:], self.grid.dim, start)

    def fastest(
        self,
        u: np.ndarray,
        start: int | None,
        stiffness: np.ndarray,
        resolved: float,
        share: float,
    ) -> float | None:
        loops, size = self._kernels(u), u[0].size
        # One number a place of a row: a maximum over a row would run one by one.
        whole, most = self.store.around(u), np.zeros(u.T.shape[-2])
        known = self.rate, stiffness, 2 / resolved
        given = self._cells(whole), whole, *self.parameters, *known
        if start is None:
            loops.rates(*given, most)
        else:
            every = distance(size)
            loops.sampled(*given, start % every, every, most)
        found = float(most.max(initial=0.0))
        # Of more species it is a bound only.
        return found if len(u) <= 2 or found <= share else None

    def moving(self, n: int, u: np.ndarray) -> Moving | None:
        terms = self.spreads.nonlinear
        if terms is None:
            return None
        whole, found = self._whole(n, 0, u), np.empty((len(terms.points), 3))
        given = self.spreads.values(self._samples_of(whole))
        self._kernels(u).extremes(self._cells(whole), whole, *given, found)
        rates = np.zeros(len(u))
        for point, (_, _, rate) in zip(terms.points, found.tolist(), strict=True):
            rates[point.term.channel] += rate
        return Moving([(low, high) for low, high, _ in found.tolist()], rates)

    def taken(self, u: np.ndarray) -> np.ndarray:
        """With room for ghosts: all who ask for these would copy it."""
        state = self.store.state(u)
        state[...] = u
        return state

    def norm(self, u: np.ndarray) -> float:
        """Known of the state that the last step led to."""
        state, size = self._last
        known = state() is u and not math.isnan(size)
        return size if known else super().norm(u)

    def discard(self) -> None:
        super().discard()
        self._clear()

    def flush(self, out: Gradients) -> None:
        super().flush(out)
        sums = iter(self._sums)
        for i, (name, field) in enumerate(
            zip(self.kinetics.names, self.fields, strict=True)
        ):
            out.add(name, next(sums).T if field else float(self._scalars[i]))
        self.spreads.flush(out)
        self._clear()


@functools.lru_cache(maxsize=64)
def places(
    shape: tuple[int, ...], whole: tuple[int, ...], dim: int, start: int
) -> np.ndarray:
    """Of the sample from `start` on of a species' values, in the array around them.

    Args:
        shape: of these, the grid's axes the last ones. whole: of the array.
    """
    lead = len(shape) - dim
    indices = sampled(shape, start)
    ghosted = [i + 1 for i in indices[lead:]]
    # The array has its axes the other way round.
    at = *indices[:lead], *ghosted
    return np.ravel_multi_index(at[::-1], whole)
