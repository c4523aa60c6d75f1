"""gamma M du/dt = -r(u, t; k): an equation as a sum of terms.

With A the sum of the linear terms (-div(D grad u) + v.grad u + c u ...):
    gamma real       gamma M du_s/dt = -(sum_t A_st u_t + ...)              for each species s
    gamma = i g      i g M du/dt = A u - i B u,  two species u = re + i im:
                     M dre/dt = (A im - B re)/g,  M dim/dt = -(A re + B im)/g
    steady           0 = r(u; k), gamma = 1
(reactions and sources of a complex equation are rates of re and im themselves),
so Schroedinger's equation is gamma = i with A = H, the paraxial one gamma = 2ik with A = -lap - k^2
(n^2/n_0^2 - 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.operators.patterns import Offset
from npde_opt.operators.stencils import stencil_offsets
from npde_opt.terms.capacity import Capacity
from npde_opt.terms.interface import LinearTerm, Reader, Term

COMPLEX = ("re", "im")


@dataclass(frozen=True)
class Operator:
    """A sum of linear terms, and the (row, column, factor) of species at which it enters the
    residual."""

    terms: tuple[LinearTerm, ...]
    pattern: tuple[tuple[int, int, float], ...]

    @property
    def symmetric(self) -> bool:
        return all(t.symmetric for t in self.terms)

    @property
    def diagonal(self) -> bool:
        """Whether it couples no species with another."""
        return all(row == column for row, column, _ in self.pattern)


class Equation:
    """A sum of terms.

    Args:
        grid: the grid.
        terms: linear terms of one species each (of `species=` where there are several; of both
            parts where gamma is imaginary), and terms of the whole system (`Kinetics`,
            `NonlinearDiffusion`, `Source`).
        species: names; ("re", "im") for a complex equation.
        gamma: 1, another positive number, or i times one.
        storage: S of gamma S du/dt, the name of a coefficient or text in coefficients; None: 1.
        storage_key: of it in error messages.

    Raises:
        InputError: for unknown species or a gamma that is neither.
    """

    def __init__(
        self,
        grid: Grid,
        terms: Sequence[Term],
        species: Sequence[str] = ("u",),
        gamma: complex = 1.0,
        storage: str | None = None,
        storage_key: str = "storage",
    ):
        self.grid, self.species, self.gamma = grid, tuple(species), complex(gamma)
        self.complex = self.gamma.imag != 0
        self.inertia = 1.0 if self.complex else self.gamma.real
        if not (
            self.gamma.real == 0
            and self.gamma.imag > 0
            or self.gamma.imag == 0
            and self.gamma.real > 0
        ):
            raise InputError("gamma", gamma, "a positive number, or i times one")
        if self.complex and len(self.species) != 2:
            raise InputError(
                "species",
                list(species),
                "two, real and imaginary part, with an imaginary gamma",
            )
        self.terms = tuple(terms)
        self.capacity = (
            Capacity(grid, storage, self.inertia, storage_key)
            if storage is not None
            else None
        )
        self.linear = [cast(LinearTerm, t) for t in terms if t.linear]
        self.nonlinear = [t for t in terms if not t.linear]
        self.operators = self._complex() if self.complex else self._real()

    def _real(self) -> list[Operator]:
        found: dict[tuple[int, int], list[LinearTerm]] = {}
        for term in self.linear:
            found.setdefault(
                (self._number(term.row), self._number(term.column)), []
            ).append(term)
        return [
            Operator(tuple(terms), ((row, column, 1.0),))
            for (row, column), terms in sorted(found.items())
        ]

    def _number(self, name: str | None) -> int:
        if name is None and len(self.species) == 1:
            return 0
        if name not in self.species:
            raise InputError("term's species", name, ", ".join(self.species))
        return self.species.index(name)

    def _complex(self) -> list[Operator]:
        f = 1 / self.gamma.imag
        for term in self.linear:
            if not term.symmetric:
                raise InputError(
                    "term",
                    type(term).__name__,
                    "symmetric linear terms where gamma is imaginary",
                )
            if (term.row, term.column) != (None, None):
                raise InputError(
                    "term's species",
                    repr(term.row),
                    "none where gamma is imaginary: linear terms act on both",
                )
        A, B = (
            [t for t in self.linear if t.absorbing == absorbing]
            for absorbing in (False, True)
        )
        if B and not A:
            raise InputError(
                "terms", "absorbing layers only", "a diffusion or potential beside them"
            )
        patterns = (((0, 1, -f), (1, 0, f)), ((0, 0, f), (1, 1, f)))
        return [
            Operator(tuple(terms), pattern)
            for terms, pattern in zip((A, B), patterns, strict=True)
            if terms
        ]

    @property
    def columns(self) -> bool:
        """Whether all terms take states that are columns."""
        return all(t.columns for t in self.terms)

    @property
    def symmetric(self) -> bool:
        """Whether the block of r_u of each species with itself is symmetric."""
        return all(t.symmetric for t in self.terms)

    @property
    def coefficients(self) -> set[str]:
        """Names of all coefficients that the equation reads."""
        stored = self.capacity.coefficients if self.capacity is not None else ()
        return {n for t in self.terms for n in t.coefficients} | set(stored)

    @property
    def readers(self) -> list[Reader]:
        """All that reads coefficients."""
        return [*self.terms, *([self.capacity] if self.capacity is not None else [])]

    @property
    def cell_coefficients(self) -> set[str]:
        """Those that linear terms read: cell fields."""
        return {n for t in self.linear for n in t.coefficients}

    @property
    def positive(self) -> list[str]:
        """Names of the diffusivities of linear terms, which have to be positive."""
        return sorted({n for t in self.linear for n in t.positive})


def joined(grid: Grid, terms: Sequence[Term]) -> tuple[Offset, ...]:
    """The offsets of all terms, the centre first; those of the narrow stencil where no term is
    wider."""
    narrow = stencil_offsets(grid.dim)
    wide = {o for t in terms for o in t.offsets} - set(narrow)
    return (*narrow, *sorted(wide))
