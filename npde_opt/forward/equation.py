"""gamma M du/dt = -r(u, t; k): an equation as a sum of terms, and its linear terms as assembled matrices.

With A the sum of the linear terms (-div(D grad u) + v.grad u + c u ...):
    gamma real       gamma M du_s/dt = -(A_s u_s + ...)                     for each species s
    gamma = i g      i g M du/dt = A u - i B u,  two species u = re + i im:
                     M dre/dt = (A im - B re)/g,  M dim/dt = -(A re + B im)/g
(reactions and sources of a complex equation are rates of re and im themselves),
so Schroedinger's equation is gamma = i with A = H, the paraxial one gamma = 2ik with A = -lap - k^2 (n^2/n_0^2 - 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from npde_opt import reductions
from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.operators.stencils import StencilMatrix
from npde_opt.terms.interface import Term
from npde_opt.terms.state import Gradients, State, channels

COMPLEX = ("re", "im")
PAIRS = 8


@dataclass(frozen=True)
class On:
    """A linear term that acts on one species; `absorbing` puts it into B of a complex equation."""

    term: Term
    species: str | None = None
    absorbing: bool = False


@dataclass(frozen=True)
class Operator:
    """A sum of linear terms, and the (row, column, factor) of species at which it enters the residual."""

    terms: tuple[Term, ...]
    pattern: tuple[tuple[int, int, float], ...]

    @property
    def symmetric(self) -> bool:
        return all(t.symmetric for t in self.terms)


class Equation:
    """A sum of terms.

    Args:
        grid: the grid.
        terms: linear terms (`On` a species, or plain where there is one species or the equation is complex), and
            terms of the whole system (`Kinetics`, `NonlinearDiffusion`, `Source`).
        species: names; ("re", "im") for a complex equation.
        gamma: 1, another positive number, or i times one.

    Raises:
        InputError: for unknown species or a gamma that is neither.
    """

    def __init__(self, grid: Grid, terms: Sequence[Any], species: Sequence[str] = ("u",), gamma: complex = 1.0):
        self.grid, self.species, self.gamma = grid, tuple(species), complex(gamma)
        self.complex = self.gamma.imag != 0
        self.inertia = 1.0 if self.complex else self.gamma.real
        if not (self.gamma.real == 0 and self.gamma.imag > 0 or self.gamma.imag == 0 and self.gamma.real > 0):
            raise InputError("gamma", gamma, "a positive number, or i times one")
        if self.complex and len(self.species) != 2:
            raise InputError("species", list(species), "two, real and imaginary part, with an imaginary gamma")
        linear = [t if isinstance(t, On) else On(t) for t in terms if isinstance(t, On) or hasattr(t, "symmetric")]
        self.nonlinear = [t for t in terms if not (isinstance(t, On) or hasattr(t, "symmetric"))]
        self.operators = self._complex(linear) if self.complex else self._real(linear)

    def _real(self, linear: Sequence[On]) -> list[Operator]:
        found: dict[int, list[Term]] = {}
        for on in linear:
            if on.species is None and len(self.species) > 1 or on.species not in (None, *self.species):
                raise InputError("term's species", on.species, ", ".join(self.species))
            found.setdefault(self.species.index(on.species or self.species[0]), []).append(on.term)
        return [Operator(tuple(terms), ((c, c, 1.0),)) for c, terms in sorted(found.items())]

    def _complex(self, linear: Sequence[On]) -> list[Operator]:
        f = 1 / self.gamma.imag
        for on in linear:
            if not on.term.symmetric:
                raise InputError("term", type(on.term).__name__, "symmetric linear terms where gamma is imaginary")
            if on.species is not None:
                raise InputError("term's species", repr(on.species), "none where gamma is imaginary: linear terms act on both")
        A, B = ([on.term for on in linear if on.absorbing == absorbing] for absorbing in (False, True))
        if B and not A:
            raise InputError("terms", "absorbing layers only", "a diffusion or potential beside them")
        patterns = (((0, 1, -f), (1, 0, f)), ((0, 0, f), (1, 1, f)))
        return [Operator(tuple(terms), pattern) for terms, pattern in zip((A, B), patterns, strict=True) if terms]

    @property
    def coefficients(self) -> set[str]:
        """Names of all coefficients that the terms read."""
        linear = {n for o in self.operators for t in o.terms for n in t.coefficients}
        return linear | {n for t in self.nonlinear for n in t.coefficients}

    @property
    def cell_coefficients(self) -> set[str]:
        return {n for o in self.operators for t in o.terms for n in t.coefficients}

    def outside(self, boundary: Mapping[str, Any], ghosts: Any, where: str = "boundary") -> list[np.ndarray | None]:
        """Ghosted boundary fields by species from {side: value} or {species: {side: value}}, the key `where` of a case."""
        named = {s: v for s, v in boundary.items() if s in self.species}
        plain = {s: v for s, v in boundary.items() if s not in self.species}
        misplaced = any(isinstance(v, Mapping) for v in plain.values()) or not all(
            isinstance(v, Mapping) for v in named.values()
        )
        if (plain and named) or misplaced:
            raise InputError(
                where, dict(boundary),
                "side = value, or {species = {side = value}} with the species " + ", ".join(self.species),
            )
        if self.complex and any(v != 0 for v in plain.values()):
            raise InputError(where, plain, "{re = {side = value}, im = {side = value}} where gamma is imaginary")
        per_species = named or dict.fromkeys(self.species, plain)
        return [ghosts(per_species[s]) if per_species.get(s) else None for s in self.species]


class LinearPart:
    """The linear terms' matrices, one an operator; values belong to the point that was assembled last. `mass`: gamma M (M
    where gamma is imaginary), owned [i, j, k]."""

    def __init__(self, equation: Equation):
        self.equation, self.grid = equation, equation.grid
        self.mass = equation.inertia * self.grid.volume
        self.matrices = [StencilMatrix(self.grid) for _ in equation.operators]
        self.version: object = None
        self._x, self._y = self.grid.create_active(), self.grid.create_active()
        self.bounds = [0.0] * len(self.matrices)

    def assemble(self, points: Sequence[Sequence[Any]]) -> bool:
        """Puts the operators of `points` into the matrices; False where they are there already."""
        if self.version is points:
            return False
        for k, (matrix, at) in enumerate(zip(self.matrices, points, strict=True)):
            values = matrix.entries()
            values[...] = 0
            for point in at:
                point.add_stencil(values)
            self.bounds[k] = self._gershgorin(values)
            matrix.set_values(values)
        self.version = points
        return True

    def _gershgorin(self, values: np.ndarray) -> float:
        """A bound of the eigenvalues of M^-1 A on this rank."""
        rows = np.abs(values[0])
        for plane in values[1:]:
            rows += np.abs(plane)
        rows /= self.mass
        return float((rows if self.grid.active_global is None else rows[self.grid.active]).max(initial=0.0))

    def mult(self, k: int, x: np.ndarray, transposed: bool = False) -> np.ndarray:
        """A_k x of an owned field [i, j, k]; it may be a view that the next call overwrites."""
        self.grid.put(x, self._x)
        mat = self.matrices[k].mat
        if transposed and not self.equation.operators[k].symmetric:
            mat.multTranspose(self._x, self._y)
        else:
            mat.mult(self._x, self._y)
        return self.grid.take(self._y)

    def stiffness(self, species: int | None = None) -> float:
        """The bound of the eigenvalues of M^-1 A over all ranks and operators (those of one species), in 1/time."""
        rows = [(b, abs(f)) for b, o in zip(self.bounds, self.equation.operators, strict=True) for row, _, f in o.pattern
                if species in (None, row)]
        own = np.max([b * f for b, f in rows], initial=0.0)
        return reductions.largest(self.grid.comm, float(own))

    def destroy(self) -> None:
        for matrix in self.matrices:
            matrix.destroy()
        self._x.destroy()
        self._y.destroy()


class LinearPoint:
    """All linear terms of an equation at given coefficients: a SystemPoint.

    Contractions are collected and taken PAIRS at a time; `flush` completes them.
    """

    def __init__(self, part: LinearPart, coefficients: Mapping[str, Any], outsides: Sequence[np.ndarray | None]):
        self.part, self.grid = part, part.grid
        self.operators = part.equation.operators
        shape = self.grid.local_shape
        cells = {n: np.broadcast_to(np.asarray(coefficients[n], float), shape)
                 for n in part.equation.cell_coefficients}
        self.points = [[t.at(cells) for t in o.terms] for o in self.operators]
        self.count = len(part.equation.species)
        self._pairs: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in self.operators]
        self.active = self.grid.active

    def load(self, outside: Sequence[np.ndarray | None]) -> np.ndarray | None:
        """b of r = A u - b from boundary values by species."""
        if all(o is None for o in outside):
            return None
        out = channels(self.grid, self.count)
        for operator, points in zip(self.operators, self.points, strict=True):
            for row, column, factor in operator.pattern:
                if outside[column] is not None:
                    for point in points:
                        out[row] += factor * point.boundary_load(outside[column])
        return np.where(self.active, out, 0.0)

    def product(self, u: np.ndarray, transposed: bool = False) -> np.ndarray:
        """A u, or A^T u, for all species."""
        out = channels(self.grid, self.count)
        for k, operator in enumerate(self.operators):
            for row, column, factor in operator.pattern:
                a, b = (column, row) if transposed else (row, column)
                y = self.part.mult(k, u[b], transposed)
                out[a] += y if factor == 1 else factor * y
        return out

    def _cells(self, dk: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return {n: np.broadcast_to(np.asarray(dk[n], float), self.grid.local_shape)
                for n in self.part.equation.cell_coefficients if n in dk}

    def derivative(self, state: State, dk: Mapping[str, Any]) -> np.ndarray | float:
        change = self._cells(dk)
        if not change:
            return 0.0
        out = channels(self.grid, self.count)
        for operator, points in zip(self.operators, self.points, strict=True):
            for row, column, factor in operator.pattern:
                for point in points:
                    out[row] += factor * point.derivative(state.ghosted(column), change)
        return np.where(self.active, out, 0.0)

    def contraction(self, state: State, adjoint: State, out: Gradients) -> None:
        for operator, pairs in zip(self.operators, self._pairs, strict=True):
            for row, column, factor in operator.pattern:
                weighted = adjoint.ghosted(row) if factor == 1 else factor * adjoint.ghosted(row)
                pairs.append((weighted, state.ghosted(column)))
        if self._pairs and len(self._pairs[0]) >= PAIRS:
            self.flush(out)

    def discard(self) -> None:
        for pairs in self._pairs:
            pairs.clear()

    def flush(self, out: Gradients) -> None:
        """Adds the collected contractions to `out`."""
        for points, pairs in zip(self.points, self._pairs, strict=True):
            for point in points if pairs else ():
                for name, values in point.contraction(pairs).items():
                    out.add(name, values)
            pairs.clear()

    def second(self, state: State, adjoint: State, change: State, dk: Mapping[str, Any], out: Gradients) -> np.ndarray:
        """(A_k dk)^T lambda; adds r_ku^T(lambda, du) + r_kk^T(lambda, dk). Terms with coefficients are symmetric."""
        cells, result = self._cells(dk), channels(self.grid, self.count)
        for operator, points in zip(self.operators, self.points, strict=True):
            for row, column, factor in operator.pattern:
                nu = adjoint.ghosted(row) if factor == 1 else factor * adjoint.ghosted(row)
                for point in points:
                    result[column] += point.derivative(nu, cells) if cells else 0.0
                    parts = [point.contraction([(nu, change.ghosted(column))])]
                    parts += [point.second_contraction([(nu, state.ghosted(column))], cells)] if cells else []
                    for found in parts:
                        for name, values in found.items():
                            out.add(name, values)
        return np.where(self.active, result, 0.0)
