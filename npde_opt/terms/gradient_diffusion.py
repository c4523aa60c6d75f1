"""-div(D(|grad u|^2; k) grad u) of one species, integrated over cells: the derivative of an energy

    E(u) = 1/2 sum_c |c| Phi(q_c),   Phi' = D,   q_c = sum over faces f of c of s_f(u)^2 / 2,

with the slope s_f(u) = (u_b - u_a)/distance across face f; half a sum over both faces of an axis is
the mean square of its slopes. With p_c(v) = sum_f s_f(u) s_f(v) / 2 (so that dq = 2 p(du)) and the
Laplacian L[a] of cell values a, lambda^T L[a] v = sum_c a_c sum_f s_f(lambda) s_f(v) / 2:

    r         = L[|c| D] u
    r_u du    = L[|c| D] du + L[2 |c| D_q p(du)] u
    r_k dk    = L[|c| D_k dk] u

r_u is symmetric, and positive definite where D(s^2) s grows with s. A cell's q reaches over all its
faces, so that r_u couples cells at up to two steps. Closed faces have no slope, also where a flux
is given through them: q lacks it in the cells beside, an error of first order there.
Example: the p-Laplacian, D = (e^2 + q)^((p - 2)/2).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from npde_opt.aliases import Coefficients, Numbers
from npde_opt.errors import InputError
from npde_opt.functions.text import Expressions
from npde_opt.grids import Grid
from npde_opt.operators.patterns import Offset
from npde_opt.operators.stencils import stencil_offsets
from npde_opt.terms.diffusion import Diffusion
from npde_opt.terms.faces import add_ends, face_distances, jump, sides
from npde_opt.terms.faces import faces as around
from npde_opt.terms.interface import BlockPlanes, Term, TermAt, channel_of
from npde_opt.terms.planes import add_products, between
from npde_opt.terms.state import Gradients, State, channels

ARGUMENT = "q"
"""|grad u|^2 in texts."""


class GradientDiffusion(Term):
    """Diffusion of `species` among `names` whose diffusivity depends on |grad u|.

    Args:
        text: D in q = |grad u|^2 and coefficients, which are cell fields or scalars: "(e**2 +
            q)**((p - 2)/2)".
        field: the text's key in error messages.

    Raises:
        InputError: for a text that is no expression, another species, and Robin sides.
    """

    symmetric = True

    def __init__(
        self,
        grid: Grid,
        names: Sequence[str],
        species: str,
        text: str,
        field: str = "gradient-diffusion",
    ):
        for side, boundary in grid.boundaries.items():
            if boundary.kind == "robin":
                raise InputError(
                    f"boundaries.{side}",
                    "robin",
                    "neumann, dirichlet or periodic with gradient diffusion",
                )
        self.grid, self.count, self.text = grid, len(names), text
        self.channel = channel_of(names, species, f"{field}: species")
        self.blocks = ((self.channel, self.channel),)
        self.diffusivity = Expressions([text], (ARGUMENT,), field)
        self.texts = (self.diffusivity,)
        linear = Diffusion(grid)
        distances = [face_distances(grid, d) for d in range(grid.dim)]
        self.inverse_distances = [
            np.where(linear.areas(d) > 0, 1 / distances[d], 0.0)
            for d in range(grid.dim)
        ]
        """1/distance at the owned cells' faces, 0 at closed ones."""

    @property
    def coefficients(self) -> tuple[str, ...]:
        return self.diffusivity.parameters

    @property
    def offsets(self) -> tuple[Offset, ...]:
        narrow = stencil_offsets(self.grid.dim)
        wide = {between(a, b) for a, b in product(narrow, repeat=2)} - set(narrow)
        return (*narrow, *sorted(wide))

    @property
    def said(self) -> str:
        return f"the diffusivity {self.text!r}"

    def at(self, coefficients: Coefficients) -> GradientDiffusionAt:
        return GradientDiffusionAt(self, coefficients)


class GradientDiffusionAt(TermAt):
    """The term with given parameters."""

    term: GradientDiffusion

    def __init__(self, term: GradientDiffusion, k: Coefficients):
        self.term, self.grid, self.count = term, term.grid, term.count
        self.names = term.diffusivity.parameters
        self.parameters = term.diffusivity.values_of(k)

    def _slopes(self, ghosted: np.ndarray) -> list[np.ndarray]:
        """s_f by axis, at the owned cells' faces."""
        return [
            jump(ghosted, d) * inverse
            for d, inverse in enumerate(self.term.inverse_distances)
        ]

    def _own(self, state: State) -> list[np.ndarray]:
        return self._slopes(state.ghosted(self.term.channel))

    @staticmethod
    def _paired(s: Sequence[np.ndarray], t: Sequence[np.ndarray]) -> np.ndarray:
        """sum over the faces of each owned cell of s_f t_f / 2."""
        total: np.ndarray | float = 0.0
        for d, (a, b) in enumerate(zip(s, t, strict=True)):
            lower, upper = sides(a * b, d)
            total = total + (lower + upper) / 2
        return np.asarray(total)

    def _weighted(self, values: Numbers) -> np.ndarray:
        """|c| times values; 0 in inactive cells, where they need not be finite."""
        return np.where(self.grid.active, self.grid.volume * values, 0.0)

    def _laplacian(
        self,
        a: np.ndarray,
        slopes: Sequence[np.ndarray],
        found: Gradients | None = None,
    ) -> np.ndarray:
        """L[a] v at the owned cells, from the slopes of v; at the points outside the sides, where L
        is symmetric too, it is added to `found`."""
        out = np.zeros(self.grid.local_shape, order="F")
        for d, conductance in enumerate(self._conductances(a)):
            flux = conductance * slopes[d]
            lower, upper = sides(flux, d)
            out += lower - upper
            if found is not None:
                add_ends(self.term.channel, d, (-flux, flux), found)
        return out

    def _conductances(self, a: np.ndarray) -> list[np.ndarray]:
        """Of the faces, by axis: times slopes these are fluxes."""
        ghosted = self.grid.ghosted(np.asfortranarray(a))
        found = []
        for d, inverse in enumerate(self.term.inverse_distances):
            below, above = around(ghosted, d)
            found.append((below + above) / 2 * inverse)
        return found

    def _whole(self, own: np.ndarray) -> np.ndarray:
        out = channels(self.grid, self.count)
        out[self.term.channel] = own
        return out

    def _arguments(self, slopes: Sequence[np.ndarray]) -> list[Numbers]:
        return [self._paired(slopes, slopes), *self.parameters]

    def residual(self, state: State) -> np.ndarray:
        slopes = self._own(state)
        D = self.term.diffusivity.value(*self._arguments(slopes))[0]
        return self._whole(self._laplacian(self._weighted(D), slopes))

    def jacobian(self, state: State, change: State) -> np.ndarray:
        slopes, moved = self._own(state), self._own(change)
        return self._whole(self._symmetric(slopes, moved))

    def _symmetric(
        self,
        slopes: Sequence[np.ndarray],
        moved: Sequence[np.ndarray],
        out: Gradients | None = None,
    ) -> np.ndarray:
        """r_u v from the slopes of v."""
        arguments = self._arguments(slopes)
        D, D_q = (
            self.term.diffusivity.value(*arguments)[0],
            self.term.diffusivity.jacobian(*arguments)[0],
        )
        turned = self._weighted(2 * D_q * self._paired(slopes, moved))
        found = self._laplacian(self._weighted(D), moved, out)
        return found + self._laplacian(turned, slopes, out)

    def derivative(self, state: State, dk: Coefficients) -> np.ndarray | float:
        if not any(name in dk for name in self.names):
            return 0.0
        slopes = self._own(state)
        directions = [0.0, *self.term.diffusivity.values_of(dk, 0.0)]
        dD = self.term.diffusivity.push(*self._arguments(slopes), *directions)[0]
        return self._whole(self._laplacian(self._weighted(dD), slopes))

    def jacobian_transpose(
        self, state: State, adjoint: State, out: Gradients | None = None
    ) -> np.ndarray:
        slopes, moved = self._own(state), self._own(adjoint)
        if out is not None:
            weight = self._weighted(self._paired(slopes, moved))
            self._add(
                self.term.diffusivity.pull(*self._arguments(slopes), weight)[1:], out
            )
        return self._whole(self._symmetric(slopes, moved, out))

    def _add(self, parts: Sequence[Numbers], out: Gradients) -> None:
        for name, part in zip(self.names, parts, strict=True):
            out.add(name, np.where(self.grid.active, part, 0.0))

    def second(
        self,
        state: State,
        adjoint: State,
        change: State,
        dk: Coefficients,
        out: Gradients,
    ) -> np.ndarray:
        slopes, nu, moved = self._own(state), self._own(adjoint), self._own(change)
        diffusivity, arguments = self.term.diffusivity, self._arguments(slopes)
        directions = [2 * self._paired(slopes, moved), *diffusivity.values_of(dk, 0.0)]
        weight, turned = (
            self._weighted(self._paired(slopes, nu)),
            self._weighted(self._paired(moved, nu)),
        )
        # Of |c| D p(lambda): what follows from D's own curvature, and from the change of p.
        curved, carried = (
            diffusivity.second(*arguments, weight, *directions),
            diffusivity.pull(*arguments, turned),
        )
        first = diffusivity.pull(*arguments, weight)[0]
        self._add([a + b for a, b in zip(curved[1:], carried[1:], strict=True)], out)
        dD = self._weighted(diffusivity.push(*arguments, *directions)[0])
        found = self._laplacian(dD, nu, out)
        found += self._laplacian(self._masked(2 * first), moved, out)
        found += self._laplacian(
            self._masked(2 * (curved[0] + carried[0])), slopes, out
        )
        return self._whole(found)

    def _masked(self, values: Numbers) -> np.ndarray:
        return np.where(
            self.grid.active, np.broadcast_to(values, self.grid.local_shape), 0.0
        )

    def add_jacobian(self, state: State, planes: BlockPlanes) -> None:
        c = self.term.channel
        self._add_planes(state, {o: planes[c, c, o] for o in self.term.offsets})

    def _add_planes(self, state: State, planes: dict[Offset, np.ndarray]) -> None:
        slopes = self._own(state)
        arguments = self._arguments(slopes)
        D, D_q = (
            self.term.diffusivity.value(*arguments)[0],
            self.term.diffusivity.jacobian(*arguments)[0],
        )
        self._add_laplacian(self._weighted(D), planes)
        part = self._functional(slopes)
        add_products(self.grid, self._weighted(2 * D_q), part, part, planes)

    def _add_laplacian(self, a: np.ndarray, planes: dict[Offset, np.ndarray]) -> None:
        offsets = stencil_offsets(self.grid.dim)
        for d, conductance in enumerate(self._conductances(a)):
            lower, upper = sides(conductance * self.term.inverse_distances[d], d)
            planes[offsets[0]] += lower + upper
            planes[offsets[1 + 2 * d]] -= lower
            planes[offsets[2 + 2 * d]] -= upper

    def _functional(self, slopes: Sequence[np.ndarray]) -> dict[Offset, np.ndarray]:
        """p_c(v) = sum_o found[o]_c v_{c + o}."""
        offsets = stencil_offsets(self.grid.dim)
        found = {offsets[0]: np.zeros(self.grid.local_shape, order="F")}
        for d, s in enumerate(slopes):
            lower, upper = sides(s * self.term.inverse_distances[d] / 2, d)
            found[offsets[0]] += lower - upper
            found[offsets[1 + 2 * d]] = -lower
            found[offsets[2 + 2 * d]] = np.array(upper)
        return found

    def range(self, state: State) -> tuple[float, float]:
        values = self.term.diffusivity.value(*self._arguments(self._own(state)))[0]
        seen = np.broadcast_to(values, self.grid.local_shape)[self.grid.active]
        if not seen.size:
            return np.inf, -np.inf
        return float(seen.min()), float(seen.max())

    def stiffness(self, state: State, mass: np.ndarray) -> np.ndarray:
        """Gershgorin's."""
        planes = {
            o: np.zeros(self.grid.local_shape, order="F") for o in self.term.offsets
        }
        self._add_planes(state, planes)
        rows = sum(np.abs(plane) for plane in planes.values()) / mass
        found = np.zeros(self.count)
        found[self.term.channel] = rows[self.grid.active].max(initial=0.0)
        return found
