"""What an equation is a sum of: a term is a residual r(u, t; k), integrated over cells, of M du/dt
+ r = 0.

A term says by flags what it is; `at` gives it with its coefficients, once a point of the
parameters:

    linear     r = A(k) u - b(k): a `LinearAt`, whose stencil is assembled once a point
    otherwise  a `TermAt`, whose residual is evaluated at every state

Symmetric terms have symmetric stencils because residuals are integrated over cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from npde_opt.aliases import Coefficients, Numbers
from npde_opt.errors import InputError
from npde_opt.functions.text import Expressions
from npde_opt.grids import Grid, of_cells
from npde_opt.grids.sides import Side
from npde_opt.operators.patterns import Offset
from npde_opt.operators.stencils import stencil_offsets
from npde_opt.terms.state import Gradients, State

Planes = Mapping[Offset, np.ndarray]
"""Owned values [i, j, k] of A[i, i + offset] by offset, one integer an axis."""

Species = str | tuple[str, str] | None
"""One that a linear term acts on, or (row, column): it acts on `column` in the equation of `row`.
None: the only one, and both parts of a complex state."""

Pairs = list[tuple[np.ndarray, np.ndarray]]
"""Ghosted (lambda, u)."""


class Reader(Protocol):
    """What reads coefficients: a term, or boundary values."""

    @property
    def texts(self) -> tuple[Expressions, ...]: ...
    @property
    def coefficients(self) -> tuple[str, ...]: ...
    @property
    def breakpoints(self) -> np.ndarray: ...
    def take_lengths(self, lengths: Mapping[str, int]) -> None: ...


class Term:
    """Part of an equation on a grid.

    Flags:
        linear: r is linear in u, at any coefficients: the term is a `LinearTerm`.
        symmetric: the block of r_u of each species with itself is symmetric.
        pointwise: r in a cell depends on u in that cell only.
        stateless: r does not depend on u at all.
        columns: r and its derivatives take states that are columns [c, s, i, j, k] (see state.py);
            without it experiments run one by one.
        absorbing: a linear term of the damping B in i g M du/dt = A u - i B u.
        timed: r_u varies in time by itself, not only with the state.
        constant: of a stateless term: r does not change in time.

    Attributes:
        texts: all that names coefficients by text.
        positive: coefficients that have to be positive.
        holding: coefficients whose values other than 0 hold the level of u in their cells.
        blocks: (row, column) of species at which a term that is not linear has a slope r_u.
    """

    linear = False
    symmetric = False
    pointwise = False
    stateless = False
    columns = False
    absorbing = False
    timed = False
    constant = False
    texts: tuple[Expressions, ...] = ()
    positive: tuple[str, ...] = ()
    holding: tuple[str, ...] = ()
    blocks: tuple[tuple[int, int], ...] = ()
    grid: Grid

    @property
    def coefficients(self) -> tuple[str, ...]:
        """Names that it reads."""
        return ()

    @property
    def offsets(self) -> tuple[Offset, ...]:
        """To the cells that r in a cell depends on, the cell itself first."""
        every = tuple(stencil_offsets(self.grid.dim))
        return every[:1] if self.pointwise or self.stateless else every

    @property
    def said(self) -> str:
        """The term in messages."""
        return type(self).__name__.lower()

    @property
    def breakpoints(self) -> np.ndarray:
        """Times at which r has a kink or a jump, where steps have to end."""
        return np.empty(0)

    def take_lengths(self, lengths: Mapping[str, int]) -> None:
        """Sees the numbers of values of all coefficients. Raises InputError where one does not
        fit; here those of functions."""
        for text in self.texts:
            for name, function in text.functions.items():
                if lengths.get(name) != function.count:
                    given = f"{lengths.get(name, 0)} values"
                    raise InputError(
                        name, given, f"{function.count}, the numbers of the function"
                    )

    def at(self, coefficients: Coefficients) -> Any:
        """The term with these coefficients: a LinearAt or a TermAt."""
        raise NotImplementedError


class LinearTerm(Term):
    """A term that is linear in u. Its coefficients are cell fields, in which it may be
    nonlinear."""

    linear = True

    def __init__(self, grid: Grid, species: Species = None):
        self.grid = grid
        self.row, self.column = (
            (species, species) if not isinstance(species, tuple) else species
        )


@dataclass
class Rates:
    """What a stencil of three points an axis is made of: its eigenvalues, for waves of angle t_d
    from cell to cell, are

        sum_d (diffusive_d (1 - cos t_d) + i velocity_d/h_d sin t_d) + decay      (von Neumann)

    Args:
        diffusive: by axis, numbers or owned cells, in 1/time for gamma = 1. decay: the same, of all
            axes.
        velocity: by axis, in length/time.
        central: whether rows are not diagonally dominant.
    """

    diffusive: list[Numbers]
    velocity: list[Numbers]
    decay: Numbers = 0.0
    central: bool = False

    @classmethod
    def none(cls, dim: int) -> Rates:
        return cls([0.0] * dim, [0.0] * dim)

    def plus(self, other: Rates) -> Rates:
        return Rates(
            [a + b for a, b in zip(self.diffusive, other.diffusive, strict=True)],
            [a + b for a, b in zip(self.velocity, other.velocity, strict=True)],
            self.decay + other.decay,
            self.central or other.central,
        )


def inner(ghosted: np.ndarray, dim: int) -> np.ndarray:
    """The owned values of a ghosted field, or of columns of them."""
    return ghosted[of_cells([slice(1, -1)] * dim)]


class LinearAt:
    """A linear term at given coefficients. States are ghosted, with boundary values in the ghosts
    outside; those of a term with the flag `columns` may have an axis of samples before the grid's,
    over which contractions are summed.

    The derivatives are those of a term without coefficients, which has no more than `add_planes`.
    """

    term: LinearTerm

    def add_planes(self, planes: Planes) -> None:
        """Adds A, in place; `planes` has the term's offsets, and may have more."""
        raise NotImplementedError

    def boundary_load(self, outside: np.ndarray) -> np.ndarray | float:
        """b from boundary values, given as a ghosted field that is zero inside."""
        return 0.0

    def boundary_transpose(self, side: Side, adjoint: np.ndarray) -> np.ndarray:
        """b_g^T lambda, of the values g outside the cells of a side, as a layer; lambda ghosted.
        Here where a value outside is seen by the cell beside it only."""
        load = np.broadcast_to(
            self.boundary_load(side.indicator()), self.term.grid.local_shape
        )
        return load[side.cells] * inner(adjoint, self.term.grid.dim)[side.cells]

    def boundary_transpose_change(
        self, side: Side, adjoint: np.ndarray, dk: Coefficients
    ) -> np.ndarray:
        """The change of `boundary_transpose` with that of the coefficients."""
        moved = np.broadcast_to(
            self.derivative(side.indicator(), dk), self.term.grid.local_shape
        )
        return -moved[side.cells] * inner(adjoint, self.term.grid.dim)[side.cells]

    def derivative(self, u: np.ndarray, dk: Coefficients) -> np.ndarray | float:
        """(A_k dk) u - b_k dk at the owned cells."""
        return 0.0

    def derivative_transpose(
        self, adjoint: np.ndarray, dk: Coefficients
    ) -> np.ndarray | float:
        """(A_k dk)^T lambda at the owned cells."""
        return self.derivative(adjoint, dk) if self.term.symmetric else 0.0

    def contraction(self, pairs: Pairs) -> dict[str, np.ndarray]:
        """sum over (lambda, u) of d/dk [lambda^T r(u, k)], one owned array a coefficient."""
        return {}

    def second_contraction(
        self, pairs: Pairs, dk: Coefficients
    ) -> dict[str, np.ndarray]:
        """sum over (lambda, u) of d2/dk2 [lambda^T r(u, k)] dk, one owned array a coefficient."""
        return {}

    def add_slopes(self, u: np.ndarray, wanted: Mapping[str, Planes]) -> bool:
        """Adds dr_i / dk_j of r = A u - b at the offset j - i of the planes of each coefficient k
        that is wanted, the narrow ones; u ghosted, a single state. False where the term cannot."""
        return not set(wanted).intersection(self.term.coefficients)

    def add_bends(
        self, adjoint: np.ndarray, u: np.ndarray, wanted: Mapping[str, Planes]
    ) -> bool:
        """Adds d2(lambda^T r) / dk_i dk_j, as `add_slopes`. False where the term cannot, or where
        two of its coefficients go together."""
        return not set(wanted).intersection(self.term.coefficients)

    @property
    def central(self) -> bool:
        """Whether rows are not diagonally dominant: of `rates`, which takes longer to find."""
        return False

    def rates(self) -> Rates:
        """For the limit of explicit steps, beyond Gershgorin's bound of the stencil."""
        return Rates.none(self.term.grid.dim)

    def check(self, prefix: str) -> None:
        """Raises SolverError on all ranks where a value of the term is not finite. Collective."""


class TermAt:
    """A term that is not linear at given coefficients, for all species. One without coefficients,
    or without a state, needs no more than the methods that are not 0 for it.

    One that reads the ghosts outside the domain also adds r_g^T lambda to `out.outer` where it adds
    r_k^T lambda to `out`, and its derivative in `second` (Gradients.add_outer).

    Args:
        count: of species.
    """

    term: Term
    grid: Grid
    count: int

    def residual(self, state: State) -> np.ndarray:
        """r [c, i, j, k]."""
        raise NotImplementedError

    def jacobian(self, state: State, change: State) -> np.ndarray:
        """r_u du."""
        return state.zeros()

    def jacobian_transpose(
        self, state: State, adjoint: State, out: Gradients | None = None
    ) -> np.ndarray:
        """r_u^T lambda; adds r_k^T lambda to `out` where it is given."""
        if out is not None:
            self.contraction(state, adjoint, out)
        return adjoint.zeros()

    def derivative(self, state: State, dk: Coefficients) -> np.ndarray | float:
        """r_k dk."""
        return 0.0

    def contraction(self, state: State, adjoint: State, out: Gradients) -> None:
        """Adds r_k^T lambda to `out`."""
        if not self.term.stateless:
            self.jacobian_transpose(state, adjoint, out)

    def second(
        self,
        state: State,
        adjoint: State,
        change: State,
        dk: Coefficients,
        out: Gradients,
    ) -> np.ndarray:
        """r_uu^T(lambda, du) + r_uk^T(lambda, dk); adds r_ku^T(lambda, du) + r_kk^T(lambda, dk) to
        `out`."""
        return adjoint.zeros()

    def add_jacobian(self, state: State, planes: BlockPlanes) -> None:
        """Adds r_u, in place, at the term's blocks and offsets."""

    def points(self, state: State) -> dict[str, list[list[Numbers]]]:
        """The values of the variables with which the term calls functions at a state: by name and
        call, one a variable."""
        return {}

    def size(self) -> float:
        """Of a stateless term: the largest |r| / volume on this rank at any time."""
        return 0.0

    def jacobians(self, state: State, start: int | None = None) -> np.ndarray:
        """Of a pointwise term: -dr_c/du_d / volume [c, d, cell] at this rank's active cells, all or
        a sample of them from `start` on (see state.py)."""
        raise NotImplementedError

    def range(self, state: State) -> tuple[float, float]:
        """Of one that is not pointwise: its smallest and largest diffusivity on this rank; NaN
        where one is not defined."""
        raise NotImplementedError

    def stiffness(self, state: State, mass: np.ndarray) -> np.ndarray:
        """Of one that is not pointwise: a bound of the eigenvalues of M^-1 r_u on this rank by
        species, in 1/time."""
        raise NotImplementedError


BlockPlanes = Mapping[tuple[int, int, Offset], np.ndarray]
"""Owned values [i, j, k] of r_u by row and column of species, and offset."""


def channel_of(names: Sequence[str], species: str, key: str) -> int:
    """The number of a species. Raises InputError naming `key`."""
    if species not in names:
        raise InputError(key, repr(species), ", ".join(names))
    return list(names).index(species)
