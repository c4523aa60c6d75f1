"""-div(D(u, |grad u|, w, t; k) grad u) of one species u, integrated over cells; w: other species.

Through face f between cells a and b flows area_f F with F(v, s, w) = D(v, |s|, w) s, the slope s =
(u_b - u_a)/distance, and v and w the means of both cells, as v = (u_a + u_b)/2; so lambda^T r =
sum_f area_f F_f (lambda_b - lambda_a), and r of u has slopes in the other species that D reads.
Parameters that are cell fields enter as the mean of the two cells. |grad u| at a face is the slope
across it (Perona and Malik's four-neighbour scheme). Known forms: porous-Fisher D (u/K)^m,
Perona-Malik D/(1 + (g/kappa)^2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from npde_opt.aliases import Coefficients, Numbers
from npde_opt.errors import InputError
from npde_opt.functions.calls import Part, Spread
from npde_opt.functions.parser import Functions
from npde_opt.functions.text import Expressions
from npde_opt.grids import Grid, along
from npde_opt.terms.boundary import TIME
from npde_opt.terms.diffusion import Diffusion
from npde_opt.terms.faces import (
    add_ends,
    face_distances,
    faces,
    inner_ends,
    jump,
    sides,
)
from npde_opt.terms.interface import BlockPlanes, Planes, Term, TermAt, channel_of
from npde_opt.terms.planes import planes_along
from npde_opt.terms.state import Gradients, State, over_columns

Arguments = tuple[list[Numbers], list[np.ndarray | float]]
EVEN_POINTS = 200
FORMS = {"porous-fisher": "D*(u/K)**m", "perona-malik": "D/(1 + (g/kappa)**2)"}


class NonlinearDiffusion(Term):
    """Diffusion of `species` among `names` with diffusivity `text` in names of species, g = |grad
    u|, the time t, and parameters.

    `floor`: species at a face are not taken smaller than this (powers of u and their derivatives
    are singular at 0). `field`: the text's key in error messages. `functions`: that the text may
    call, by name.
    """

    columns = True

    def __init__(
        self,
        grid: Grid,
        names: Sequence[str],
        species: str,
        text: str,
        floor: float | None = None,
        field: str = "nonlinear-diffusion",
        functions: Functions | None = None,
    ):
        self.channel = channel_of(names, species, f"{field}: species")
        for side, boundary in grid.boundaries.items():
            if boundary.kind == "robin":
                raise InputError(
                    f"boundaries.{side}",
                    "robin",
                    "neumann, dirichlet or periodic with nonlinear diffusion",
                )
        text = FORMS.get(text, text)
        self.grid, self.count, self.floor = grid, len(names), floor
        self.text = text
        read = Expressions([text], (*names, "g", TIME), field, functions)
        self.timed = read.reads(TIME)
        others = [n for n in names if n != species and read.reads(n)]
        self.channels = [self.channel, *(channel_of(names, n, field) for n in others)]
        """Of the species that D reads, its own first."""
        self.blocks = tuple((self.channel, c) for c in self.channels)
        self.variables = (species, "g", *others, *([TIME] if self.timed else []))
        self.diffusivity = Expressions([text], self.variables, field, functions)
        self.texts = (self.diffusivity,)
        _check_even(text, field, functions)
        self.flux = Expressions([f"({text})*g"], self.variables, field, functions)
        linear = Diffusion(grid)
        self.areas = [linear.areas(d) for d in range(grid.dim)]
        self.distances = [face_distances(grid, d) for d in range(grid.dim)]
        self.weights = [self._weights(d) for d in range(grid.dim)]
        self.shares = [self._shares(d) for d in range(grid.dim)]
        self.owned = [self._owned(d) for d in range(grid.dim)]

    @property
    def said(self) -> str:
        return f"the diffusivity {self.text!r}"

    @property
    def coefficients(self) -> tuple[str, ...]:
        return self.flux.parameters

    def _weights(self, d: int) -> tuple[np.ndarray, np.ndarray]:
        """Of the cells below and above in a face's parameter."""
        below = np.full(self.grid.local_shape[d] + 1, 0.5)
        for face, here in inner_ends(self.grid, d):
            if here:
                below[face] = 0.0 if face == 0 else 1.0
        return along(below, d, self.grid.dim), along(1 - below, d, self.grid.dim)

    def _shares(self, d: int) -> np.ndarray:
        """The share of each face that is this rank's."""
        below, above = self.weights[d]
        share = np.zeros(self.grid.local_shape[d] + 1)
        share[:-1] += above.ravel()[:-1]
        share[1:] += below.ravel()[1:]
        return along(share, d, self.grid.dim)

    def _owned(self, d: int) -> np.ndarray:
        """`shares`, 0 at closed faces."""
        return self.shares[d] * (self.areas[d] > 0)

    def at(self, coefficients: Coefficients) -> NonlinearDiffusionAt:
        return NonlinearDiffusionAt(self, coefficients)


def _check_even(text: str, field: str, functions: Functions | None) -> None:
    """Raises InputError where D(u, g) and D(u, -g) differ at one of many points of all sizes."""
    diffusivity = Expressions([text], ("g",), field, functions)
    rng = np.random.default_rng(0)
    points = np.exp(
        rng.normal(scale=4.0, size=(len(diffusivity.arguments), EVEN_POINTS))
    )
    given: list[Numbers] = list(points[1:])
    for i, name in enumerate(diffusivity.parameters):
        if name in diffusivity.functions:
            given[i] = rng.uniform(0.5, 1.5, diffusivity.functions[name].count)
    there, mirrored = (
        diffusivity.value(sign * points[0], *given)[0] for sign in (1, -1)
    )
    if not np.allclose(there, mirrored, rtol=1e-9, atol=0.0, equal_nan=True):
        raise InputError(field, repr(text), "an even function of g = |grad u|")


class NonlinearDiffusionAt(TermAt):
    """The term with given parameters."""

    term: NonlinearDiffusion

    def __init__(self, term: NonlinearDiffusion, k: Coefficients):
        self.term, self.grid, self.flux, self.count = (
            term,
            term.grid,
            term.flux,
            term.count,
        )
        self.parameters = [
            self.at_faces({n: k[n] for n in term.flux.parameters}, d)
            for d in range(term.grid.dim)
        ]

    def own(self, dk: Coefficients) -> Coefficients:
        """Changes of the term's parameters."""
        return {n: v for n, v in dk.items() if n in self.flux.parameters}

    def at_faces(self, k: Coefficients, d: int) -> list[Numbers]:
        """The parameters at faces normal to axis d, 0 for those that are not given."""
        below, above = self.term.weights[d]
        out: list[Numbers] = []
        for name in self.flux.parameters:
            value = np.asarray(k.get(name, 0.0), float)
            if value.ndim and name not in self.flux.functions:
                a, b = faces(self.grid.ghosted(np.asfortranarray(value), 1.0), d)
                value = below * a + above * b
            out.append(value)
        return out

    def _arguments(self, state: State, d: int) -> Arguments:
        """(v, s, w ..., t, parameters) at faces, and where v and w follow their species."""
        return state.kept((self, d), lambda: self._found_arguments(state, d))

    def _found_arguments(self, state: State, d: int) -> Arguments:
        means, moves, floor = (
            list[Numbers](),
            list[np.ndarray | float](),
            self.term.floor,
        )
        for c in self.term.channels:
            a, b = faces(state.ghosted(c), d, self.grid.dim)
            mean = (a + b) / 2
            moves.append(1.0 if floor is None else np.where(mean >= floor, 1.0, 0.0))
            means.append(mean if floor is None else np.maximum(mean, floor))
        v, *others = means
        slope = self._slope(state, d)
        return [v, slope, *others, *self._time(state.t), *self.parameters[d]], moves

    def _slope(self, state: State, d: int) -> np.ndarray:
        difference: np.ndarray = jump(
            state.ghosted(self.term.channel), d, self.grid.dim
        )
        return difference / self.term.distances[d]

    def _time(self, t: float) -> list[Numbers]:
        return [t] if self.term.timed else []

    def _directions(
        self,
        change: State | None,
        moves: Sequence[np.ndarray | float],
        dk: Coefficients,
        d: int,
    ) -> list[Numbers]:
        fixed = [*self._time(0.0), *self.at_faces(dk, d)]
        if change is None:
            return [0.0, 0.0, *[0.0] * len(moves[1:]), *fixed]
        means = list[Numbers]()
        for c, move in zip(self.term.channels, moves, strict=True):
            a, b = faces(change.ghosted(c), d, self.grid.dim)
            means.append(move * (a + b) / 2)
        v, *others = means
        return [v, self._slope(change, d), *others, *fixed]

    def _open(self, values: Numbers, d: int) -> np.ndarray:
        """0 at closed faces, where a diffusivity need not be finite."""
        return np.where(self.term.areas[d] > 0, values, 0.0)

    def _divergence(self, state: State, fluxes: Sequence[Numbers]) -> np.ndarray:
        out = state.zeros()
        for d, flux in enumerate(fluxes):
            lower, upper = self._sides(self.term.areas[d] * self._open(flux, d), d)
            out[self.term.channel] += lower - upper
        return out

    def _sides(self, values: np.ndarray, d: int) -> tuple[np.ndarray, np.ndarray]:
        """Values at faces normal to axis d on the lower and upper faces of the owned cells."""
        return sides(values, d - self.grid.dim)

    def residual(self, state: State) -> np.ndarray:
        return self._divergence(
            state,
            [
                self.flux.value(*self._arguments(state, d)[0])[0]
                for d in range(self.grid.dim)
            ],
        )

    def _pushed(
        self, state: State, change: State | None, dk: Coefficients
    ) -> np.ndarray:
        out = []
        for d in range(self.grid.dim):
            arguments, moves = self._arguments(state, d)
            out.append(
                self.flux.push(*arguments, *self._directions(change, moves, dk, d))[0]
            )
        return self._divergence(state, out)

    def jacobian(self, state: State, change: State) -> np.ndarray:
        return self._pushed(state, change, {})

    def derivative(self, state: State, dk: Coefficients) -> np.ndarray | float:
        own = self.own(dk)
        return self._pushed(state, None, own) if own else 0.0

    def _gather(
        self,
        parts: Sequence[Part],
        moves: Sequence[np.ndarray | float],
        shape: tuple[int, ...],
        d: int,
        out: np.ndarray,
        gradients: Gradients | None,
    ) -> None:
        """Adds cotangents (of v, s, w ..., t, parameters) at faces, which have this shape, to those
        of the cells and of the coefficients."""
        for c, (below, above) in self._by_cell(parts, moves, shape, d).items():
            out[c] += self._sides(above, d)[0] + self._sides(below, d)[1]
            if gradients is not None:
                add_ends(c, d, (below, above), gradients)
        if gradients is not None:
            own = parts[len(self.term.variables) :]
            for name, part in zip(self.flux.parameters, own, strict=True):
                gradients.add(name, self.collected(part, shape, d))

    def _by_cell(
        self,
        parts: Sequence[Part],
        moves: Sequence[np.ndarray | float],
        shape: tuple[int, ...],
        d: int,
    ) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Cotangents, or slopes, in v, s, w ... as those in the cells below and above each face, by
        species."""
        count = len(self.term.channels)
        v, s, *others = (
            self._open(p, d) for p in parts[: count + 1] if not isinstance(p, Spread)
        )
        found = {}
        for c, mean, move in zip(self.term.channels, (v, *others), moves, strict=True):
            half = np.broadcast_to(move * mean / 2, shape)
            found[c] = half, half
        own, slope = found[self.term.channel][0], s / self.term.distances[d]
        found[self.term.channel] = own - slope, own + slope
        return found

    def collected(self, part: Part, shape: tuple[int, ...], d: int) -> np.ndarray:
        """A parameter's cotangent at the owned cells, or of the numbers of a function, from that at
        faces."""
        if isinstance(part, Spread):
            owned = self.term.owned[d]
            return part.total(lambda values: owned * self._open(values, d))
        below, above = self.term.weights[d]
        full = np.broadcast_to(self._open(part, d), shape)
        found = self._sides(above * full, d)[0] + self._sides(below * full, d)[1]
        return over_columns(self.grid, found)

    def _weighted(self, adjoint: State, d: int) -> np.ndarray:
        return self.term.areas[d] * jump(
            adjoint.ghosted(self.term.channel), d, self.grid.dim
        )

    def jacobian_transpose(
        self, state: State, adjoint: State, out: Gradients | None = None
    ) -> np.ndarray:
        result = state.zeros()
        for d in range(self.grid.dim):
            arguments, moves = self._arguments(state, d)
            weights = self._weighted(adjoint, d)
            parts: Sequence[Part]
            if out is None:
                parts = [weights * slope for slope in self.flux.slopes(*arguments)]
            else:
                parts = self.flux.cotangents(*arguments, weights)
            self._gather(parts, moves, np.shape(arguments[0]), d, result, out)
        return result

    def second(
        self,
        state: State,
        adjoint: State,
        change: State,
        dk: Coefficients,
        out: Gradients,
    ) -> np.ndarray:
        result = state.zeros()
        own = self.own(dk)
        for d in range(self.grid.dim):
            arguments, moves = self._arguments(state, d)
            directions = self._directions(change, moves, own, d)
            parts = self.flux.cotangent_changes(
                *arguments, self._weighted(adjoint, d), *directions
            )
            self._gather(parts, moves, np.shape(arguments[0]), d, result, out)
        return result

    def points(self, state: State) -> dict[str, list[list[Numbers]]]:
        found: dict[str, list[list[Numbers]]] = {}
        for d in range(self.grid.dim):
            arguments = self._arguments(state, d)[0]
            # Those at the sides read boundary values, which a state by itself does not have.
            inside = np.ones(self.grid.local_shape[d] + 1, bool)
            for face, here in inner_ends(self.grid, d):
                inside[face] &= not here
            open_faces = (self.term.areas[d] > 0) & along(inside, d, self.grid.dim)
            open_faces = np.broadcast_to(open_faces, np.shape(arguments[0]))
            seen = self.flux.points(*arguments)
            for name, calls in seen.items():
                picked = found.setdefault(name, [])
                picked += [
                    [self._picked(v, open_faces) for v in call] for call in calls
                ]
        return found

    @staticmethod
    def _picked(values: Numbers, where: np.ndarray) -> Numbers:
        return np.asarray(np.broadcast_to(values, where.shape)[where])

    def range(self, state: State) -> tuple[float, float]:
        low, high = np.inf, -np.inf
        for d in range(self.grid.dim):
            arguments = self._arguments(state, d)[0]
            found = self.term.diffusivity.value(
                *self._leading(arguments), *self._named(d)
            )[0]
            values = np.broadcast_to(found, np.shape(arguments[0]))
            seen = values[np.broadcast_to(self.term.areas[d] > 0, values.shape)]
            if seen.size:
                low, high = np.minimum(low, seen.min()), np.maximum(high, seen.max())
        return float(low), float(high)

    def _leading(self, arguments: Sequence[Numbers]) -> Sequence[Numbers]:
        return arguments[: len(self.term.variables)]

    def _named(self, d: int) -> list[Numbers]:
        """The parameters at faces that the diffusivity reads."""
        given = dict(zip(self.flux.parameters, self.parameters[d], strict=True))
        return [given[name] for name in self.term.diffusivity.parameters]

    def stiffness(self, state: State, mass: np.ndarray) -> np.ndarray:
        """Gershgorin's, of the species' own block: slopes in other species are of lower order."""
        own = self.term.channel
        stencil = np.zeros((1 + 2 * self.grid.dim, *state.u.shape[1:]))
        planes = dict(zip(self.term.offsets, stencil, strict=True))
        self._add_planes(state, {own: planes})
        found = np.zeros(self.count)
        rows = np.abs(stencil).sum(axis=0) / mass
        found[own] = rows[..., self.grid.active].max(initial=0.0)
        return found

    def add_jacobian(self, state: State, planes: BlockPlanes) -> None:
        own, offsets = self.term.channel, self.term.offsets
        blocks = {
            c: {o: planes[own, c, o] for o in offsets} for c in self.term.channels
        }
        self._add_planes(state, blocks)

    def _add_planes(self, state: State, blocks: Mapping[int, Planes]) -> None:
        """Adds r_u of the species in those of `blocks`."""
        for d in range(self.grid.dim):
            arguments, moves = self._arguments(state, d)
            slopes = self.flux.slopes(*arguments)
            by_cell = self._by_cell(slopes, moves, np.shape(arguments[0]), d)
            for c, planes in blocks.items():
                below, above = (self.term.areas[d] * part for part in by_cell[c])
                below_low, below_up = self._sides(below, d)
                above_low, above_up = self._sides(above, d)
                centre, lower, upper = planes_along(planes, d)
                centre += above_low - below_up
                lower += below_low
                upper -= above_up
