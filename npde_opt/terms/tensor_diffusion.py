"""-div(D grad u) with a full symmetric tensor D, integrated over cells: the derivative of an energy

    E(u) = 1/2 sum over cells c and their corners of |c| / 2^dim  s^T D_c s,

s the slopes in the cell at the faces that meet in the corner. A face's slopes are those of the
diagonal alone, s_c = q_f / D_dd,c with the harmonic q_f = jump / S_f of Diffusion (S_f = R_a +
R_b, half-cell resistances h / (2 D_dd)), so that without other entries this is Diffusion. With

    m_d(u)_c = (q_lower + q_upper) / 2          mean of a cell's two faces normal to axis d
    w_de     = |c| D_de / (D_dd D_ee)

the off-diagonal part is lambda^T r = sum_c w_de (m_d(lambda) m_e(u) + m_e(lambda) m_d(u)): 9 cells
(19 in three dimensions), symmetric, and positive definite where D is.

Through closed faces (Neumann sides, inactive cells) the normal flux n . D grad u is 0, not the
slope: the slope there is the one of least energy, which takes out of D, of the share of corners at
closed faces, what Schur's complement takes out (D_yy - D_xy^2/D_xx beside a closed x face). A flux
given at a Neumann side enters its cells as with Diffusion; the flux along the side that goes with
it is left out, an error of first order there where that varies along the side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, product

import numpy as np

from npde_opt.aliases import Coefficients, Numbers
from npde_opt.errors import InputError, SolverError
from npde_opt.functions.text import Expressions
from npde_opt.grids import AXES, Grid
from npde_opt.grids.sides import Side
from npde_opt.operators.patterns import Offset
from npde_opt.operators.stencils import stencil_offsets
from npde_opt.reductions import total
from npde_opt.terms.diffusion import Diffusion
from npde_opt.terms.faces import faces, jump, sides
from npde_opt.terms.interface import (
    LinearAt,
    LinearTerm,
    Pairs,
    Planes,
    Rates,
    Species,
    inner,
)
from npde_opt.terms.planes import add_products
from npde_opt.terms.state import over_columns

DEFINITE = "D_xx > 0, D_xx D_yy > D_xy^2, and so on"
Tensor = Sequence[Sequence[str | float]]
Named = dict[str, np.ndarray]
"""By name: E_x, ... of the diagonal and W_xy, ... of w / |c|, owned cells [i, j, k]."""


def _entry(d: int, e: int) -> str:
    return "D_" + AXES[min(d, e)] + AXES[max(d, e)]


def _reduced(d: int, e: int, closed: Sequence[int]) -> str:
    """D_de less what Schur's complement takes out for closed faces normal to up to two axes."""
    own = _entry(d, e)
    if not closed:
        return own
    if len(closed) == 1:
        (a,) = closed
        return f"({own} - {_entry(d, a)}*{_entry(e, a)}/{_entry(a, a)})"
    a, b = closed
    aa, bb, ab = _entry(a, a), _entry(b, b), _entry(a, b)
    da, db, ea, eb = _entry(d, a), _entry(d, b), _entry(e, a), _entry(e, b)
    taken = f"{da}*{ea}*{bb} - ({da}*{eb} + {db}*{ea})*{ab} + {db}*{eb}*{aa}"
    return f"({own} - ({taken})/({aa}*{bb} - {ab}**2))"


def _mean(d: int, e: int, dim: int) -> str:
    """D_de over the corners, of which shares c_x, c_y, ... are at closed faces of other axes."""
    others = [a for a in range(dim) if a not in (d, e)]
    parts = []
    for chosen in product((False, True), repeat=len(others)):
        picked = list(zip(others, chosen, strict=True))
        shares = [f"c_{AXES[a]}" if on else f"(1 - c_{AXES[a]})" for a, on in picked]
        closed = [a for a, on in picked if on]
        parts.append("*".join([*shares, _reduced(d, e, closed)]))
    return " + ".join(parts)


def _formulas(dim: int) -> Expressions:
    """E_d and W_de of the tensor's entries and the shares of closed faces."""
    diagonal = [_mean(d, d, dim) for d in range(dim)]
    off = [
        f"({_mean(d, e, dim)})/(({diagonal[d]})*({diagonal[e]}))"
        for d, e in combinations(range(dim), 2)
    ]
    entries = [_entry(d, e) for d in range(dim) for e in range(d, dim)]
    return Expressions([*diagonal, *off], [*entries, *(f"c_{a}" for a in AXES[:dim])])


class TensorDiffusion(LinearTerm):
    """Diffusion with a full tensor.

    Args:
        tensor: rows of D, the upper triangle as the lower one: numbers, or text in x, y, z and
            coefficients, which are cell fields ("D_xy", "a*sin(t)**2 + b*cos(t)**2").
        species: that it acts on.
        field: the tensor's key in error messages.

    Raises:
        InputError: for another shape, a tensor that is not symmetric, texts that are no
            expressions, and Robin sides.
    """

    symmetric = True
    columns = True

    def __init__(
        self,
        grid: Grid,
        tensor: Tensor,
        species: Species = None,
        field: str = "diffusion-tensor",
    ):
        super().__init__(grid, species)
        for side, boundary in grid.boundaries.items():
            if boundary.kind == "robin":
                said = "neumann, dirichlet or periodic with a diffusion tensor"
                raise InputError(f"boundaries.{side}", "robin", said)
        texts, fields = _upper(tensor, grid.dim, field)
        self.entries = Expressions(texts, tuple(AXES[: grid.dim]), fields)
        self.texts = (self.entries,)
        self.formulas = _formulas(grid.dim)
        self.names = [f"E_{a}" for a in AXES[: grid.dim]]
        self.pairs = list(combinations(range(grid.dim), 2))
        self.crosses = [f"W_{AXES[d]}{AXES[e]}" for d, e in self.pairs]
        self.plain = Diffusion(grid, self.names)
        self.open = [np.asarray(self.plain.areas(d) > 0) for d in range(grid.dim)]
        self.closed = [1 - sum(sides(o * 0.5, d)) for d, o in enumerate(self.open)]

    @property
    def coefficients(self) -> tuple[str, ...]:
        return self.entries.parameters

    @property
    def offsets(self) -> tuple[Offset, ...]:
        narrow = stencil_offsets(self.grid.dim)
        wide = set(narrow)
        for d, e in self.pairs:
            for a, b in product((-1, 1), repeat=2):
                wide.add(
                    tuple(a * (x == d) + b * (x == e) for x in range(self.grid.dim))
                )
        return (*narrow, *sorted(wide - set(narrow)))

    @property
    def said(self) -> str:
        return "the diffusion tensor"

    def values(self, k: Coefficients) -> list[Numbers]:
        """Entries of the upper triangle, row by row, that broadcast to the owned cells."""
        return self.entries.value(*self.grid.coordinates(), *self.entries.values_of(k))

    def indefinite(self, values: Sequence[Numbers]) -> int:
        """The number of owned active cells where these entries are not positive definite."""
        dim, entries = self.grid.dim, iter(values)
        matrix = np.empty((*self.grid.local_shape, dim, dim))
        for d in range(dim):
            for e in range(d, dim):
                matrix[..., d, e] = matrix[..., e, d] = next(entries)
        own = matrix[self.grid.active]
        finite = np.isfinite(own).all(axis=(1, 2))
        lowest = np.linalg.eigvalsh(np.where(finite[:, None, None], own, -1.0))[:, 0]
        return int(np.count_nonzero(~(lowest > 0)))

    def at(self, coefficients: Coefficients) -> TensorDiffusionAt:
        return TensorDiffusionAt(self, coefficients)


def _upper(tensor: Tensor, dim: int, field: str) -> tuple[list[str], list[str]]:
    """Texts of the upper triangle, row by row, and their keys."""
    if len(tensor) != dim or any(len(row) != dim for row in tensor):
        raise InputError(
            field, [list(row) for row in tensor], f"{dim} rows of {dim} entries"
        )
    texts, fields = [], []
    for d in range(dim):
        for e in range(d, dim):
            one, other = (
                x if isinstance(x, str) else repr(float(x)) for x in _both(tensor, d, e)
            )
            if "".join(one.split()) != "".join(other.split()):
                raise InputError(
                    f"{field}[{e}][{d}]", other, f"{one}, as in [{d}][{e}]: symmetric"
                )
            texts.append(one)
            fields.append(f"{field}[{d}][{e}]")
    return texts, fields


def _both(tensor: Tensor, d: int, e: int) -> tuple[str | float, str | float]:
    return tensor[d][e], tensor[e][d]


class TensorDiffusionAt(LinearAt):
    """With given coefficients.

    Attributes:
        D: entries of the upper triangle, owned cells.
        E: of the diagonal, by name. w: by pair of axes, |c| W. G: by axis, 1/S at open faces.
    """

    term: TensorDiffusion

    def __init__(self, term: TensorDiffusion, k: Coefficients):
        self.term, self.grid = term, term.grid
        self.arguments = [*term.grid.coordinates(), *term.entries.values_of(k)]
        self.D = term.values(k)
        with np.errstate(
            all="ignore"
        ):  # `check` tells of what is not positive definite
            found = self._named(term.formulas.value(*self.D, *term.closed), 1.0)
            self.E = {name: found[name] for name in term.names}
            self.plain = term.plain.at(self.E)
            self.w = [self._weighted(found[name]) for name in term.crosses]
            self.G = [
                np.where(o, 1 / s, 0.0)
                for o, s in zip(term.open, self.plain.sums, strict=True)
            ]

    def _named(self, values: Sequence[Numbers], inactive: float) -> Named:
        """Of E and W, with a value in inactive cells."""
        names, shape = [*self.term.names, *self.term.crosses], self.grid.local_shape
        laid = [
            np.where(self.grid.active, np.broadcast_to(v, shape), inactive)
            for v in values
        ]
        return {n: np.asfortranarray(v) for n, v in zip(names, laid, strict=True)}

    def _weighted(self, values: np.ndarray) -> np.ndarray:
        return np.where(self.grid.active, self.grid.volume * values, 0.0)

    def check(self, prefix: str) -> None:
        wrong = int(total(self.grid.comm, float(self.term.indefinite(self.D))))
        if wrong:
            said = f"{self.term.said} is not positive definite in {wrong} cells"
            raise SolverError(prefix, said, f"Needed: {DEFINITE}.")

    def rates(self) -> Rates:
        return self.plain.rates()

    # ---- the off-diagonal part -------------------------------------------------------------------

    def _slopes(self, ghosted: np.ndarray, G: Sequence[np.ndarray]) -> list[np.ndarray]:
        """m_d by axis."""
        found, dim = [], self.grid.dim
        for d, g in enumerate(G):
            lower, upper = sides(jump(ghosted, d, dim) * g, d - dim)
            found.append((lower + upper) / 2)
        return found

    def _spread(self, a: np.ndarray, d: int, G: np.ndarray) -> np.ndarray:
        """m_d^T a. Collective."""
        lower, upper = sides(self._around(a, d) * G / 2, d - self.grid.dim)
        return lower - upper

    def _around(self, a: np.ndarray, d: int) -> np.ndarray:
        """a of the cells on both sides of the faces normal to axis d. Collective."""
        below, above = faces(self.grid.ghosted(np.asfortranarray(a)), d, self.grid.dim)
        return below + above

    def _turned(self) -> Iterator[tuple[int, int, int]]:
        """Number of the pair, and its axes, each first once."""
        for n, (d, e) in enumerate(self.term.pairs):
            yield n, d, e
            yield n, e, d

    def _product(self, ghosted: np.ndarray) -> np.ndarray:
        """Its residual of a state, boundary values included."""
        m = self._slopes(ghosted, self.G)
        out = np.zeros_like(inner(ghosted, self.grid.dim))
        for n, d, e in self._turned():
            out += self._spread(self.w[n] * m[e], d, self.G[d])
        return out

    def add_planes(self, planes: Planes) -> None:
        self.plain.add_planes(planes)
        parts = [self._functional(d) for d in range(self.grid.dim)]
        for n, d, e in self._turned():
            add_products(self.grid, self.w[n], parts[d], parts[e], planes)

    def _functional(self, d: int) -> dict[Offset, np.ndarray]:
        """m_d(u)_c = sum_o found[o]_c u_{c + o}."""
        lower, upper = sides(self.G[d] / 2, d)
        offsets = stencil_offsets(self.grid.dim)
        return {
            offsets[0]: lower - upper,
            offsets[1 + 2 * d]: -lower,
            offsets[2 + 2 * d]: np.array(upper),
        }

    def boundary_load(self, outside: np.ndarray) -> np.ndarray | float:
        return self.plain.boundary_load(outside) - self._product(outside)

    def boundary_transpose(self, side: Side, adjoint: np.ndarray) -> np.ndarray:
        plain = self.plain.boundary_transpose(side, adjoint)
        return plain - self._seen(side, self._slopes(adjoint, self.G), self.w, self.G)

    def _seen(
        self,
        side: Side,
        slopes: Sequence[np.ndarray],
        weights: Sequence[np.ndarray],
        G: Sequence[np.ndarray],
    ) -> np.ndarray:
        """r_g^T lambda from the slopes of lambda: a value outside is in m_d of the cell beside
        it."""
        d, found = side.axis, np.zeros(self.grid.local_shape, order="F")
        for n, first, other in self._turned():
            if first == d:
                found += weights[n] * slopes[other]
        lower, upper = sides(G[d] / 2, d)
        return (found * (upper if side.upper else -lower))[side.cells]

    # ---- derivatives -----------------------------------------------------------------------------

    def boundary_transpose_change(
        self, side: Side, adjoint: np.ndarray, dk: Coefficients
    ) -> np.ndarray:
        if not self._reads(dk):
            return np.zeros_like(inner(adjoint, self.grid.dim)[side.cells])
        _, change = self._changes(dk)
        dG, dw = (
            self._dG(change),
            [self._weighted(change[n]) for n in self.term.crosses],
        )
        s, ds = self._slopes(adjoint, self.G), self._slopes(adjoint, dG)
        own = {n: change[n] for n in self.term.names}
        plain = self.plain.boundary_transpose_change(side, adjoint, own)
        moved = self._seen(side, s, dw, self.G) + self._seen(side, ds, self.w, self.G)
        return plain - moved - self._seen(side, s, self.w, dG)

    def _changes(self, dk: Coefficients) -> tuple[list[Numbers], Named]:
        """Of D, and of E and W."""
        term = self.term
        zeros = [0.0] * self.grid.dim
        moved = [*zeros, *term.entries.values_of(dk, 0.0)]
        dD = term.entries.push(*self.arguments, *moved)
        return dD, self._named(term.formulas.push(*self._given(), *dD, *zeros), 0.0)

    def _given(self) -> list[Numbers]:
        return [*self.D, *self.term.closed]

    def _dG(self, change: Named) -> list[np.ndarray]:
        dE = {name: change[name] for name in self.term.names}
        found = []
        for dS, G in zip(self.plain.resistance_changes(dE), self.G, strict=True):
            assert dS is not None
            found.append(-dS * G * G)
        return found

    def _reads(self, dk: Coefficients) -> bool:
        return any(name in dk for name in self.term.coefficients)

    def derivative(self, u: np.ndarray, dk: Coefficients) -> np.ndarray | float:
        if not self._reads(dk):
            return 0.0
        _, change = self._changes(dk)
        dG, dw = (
            self._dG(change),
            [self._weighted(change[n]) for n in self.term.crosses],
        )
        m, dm = self._slopes(u, self.G), self._slopes(u, dG)
        out = np.array(
            self.plain.derivative(u, {n: change[n] for n in self.term.names})
        )
        for n, d, e in self._turned():
            out += self._spread(dw[n] * m[e] + self.w[n] * dm[e], d, self.G[d])
            out += self._spread(self.w[n] * m[e], d, dG[d])
        return out

    def _summed(self, products: np.ndarray) -> np.ndarray:
        """|c| times the sum over columns."""
        return self._weighted(over_columns(self.grid, products))

    def _at_faces(self, ghosted: np.ndarray, a: np.ndarray, d: int) -> np.ndarray:
        """What a cell field a sees of G in m_d of a state, summed over columns. Collective."""
        seen = jump(ghosted, d, self.grid.dim) * self._around(a, d) / 2
        return over_columns(self.grid, seen)

    def _first(self, pairs: Pairs) -> tuple[Named, list[np.ndarray]]:
        """Cotangents of E and W, and those of G by axis, of the off-diagonal part."""
        found = {
            n: np.zeros(self.grid.local_shape, order="F") for n in self.term.crosses
        }
        of_G = [np.zeros(g.shape, order="F") for g in self.G]
        for adjoint, u in pairs:
            m, l = self._slopes(u, self.G), self._slopes(adjoint, self.G)
            for n, d, e in self._turned():
                found[self.term.crosses[n]] += self._summed(l[d] * m[e])
                of_G[d] += self._at_faces(adjoint, self.w[n] * m[e], d)
                of_G[d] += self._at_faces(u, self.w[n] * l[e], d)
        for d, name in enumerate(self.term.names):
            moved = self.plain.halved(of_G[d] * self.G[d] ** 2, d)
            found[name] = moved / self.E[name] ** 2
        return found, of_G

    def _cotangents(self, pairs: Pairs) -> Named:
        """Of E and W."""
        found, _ = self._first(pairs)
        for name, part in self.plain.contraction(pairs).items():
            found[name] = found[name] + part
        return found

    def _ordered(self, cotangents: Named) -> list[np.ndarray]:
        names = [*self.term.names, *self.term.crosses]
        return [np.where(self.grid.active, cotangents[n], 0.0) for n in names]

    def _pulled(self, cotangents: Named) -> list[Numbers]:
        """Of D."""
        given = [*self._given(), *self._ordered(cotangents)]
        return self.term.formulas.pull(*given)[: len(self.D)]

    def contraction(self, pairs: Pairs) -> dict[str, np.ndarray]:
        if not self.term.coefficients:
            return {}
        of_D = self._pulled(self._cotangents(pairs))
        return self._by_name(self.term.entries.pull(*self.arguments, *of_D))

    def _by_name(self, parts: Sequence[Numbers]) -> dict[str, np.ndarray]:
        shape, own = self.grid.local_shape, parts[self.grid.dim :]
        return {
            name: np.where(self.grid.active, np.broadcast_to(part, shape), 0.0)
            for name, part in zip(self.term.coefficients, own, strict=True)
        }

    def _second(self, pairs: Pairs, change: Named) -> Named:
        """Change of the cotangents of E and W."""
        found = {
            n: np.zeros(self.grid.local_shape, order="F") for n in self.term.crosses
        }
        dG, dw = (
            self._dG(change),
            [self._weighted(change[n]) for n in self.term.crosses],
        )
        moved_G = [np.zeros(g.shape, order="F") for g in self.G]
        for adjoint, u in pairs:
            (m, dm), (l, dl) = (
                (self._slopes(x, self.G), self._slopes(x, dG)) for x in (u, adjoint)
            )
            for n, d, e in self._turned():
                found[self.term.crosses[n]] += self._summed(dl[d] * m[e] + l[d] * dm[e])
                for x, s, ds in ((adjoint, m, dm), (u, l, dl)):
                    a = dw[n] * s[e] + self.w[n] * ds[e]
                    moved_G[d] += self._at_faces(x, a, d)
        _, of_G = self._first(pairs)
        for d, name in enumerate(self.term.names):
            E, G = self.E[name], self.G[d]
            part = (
                self.plain.halved(moved_G[d] * G**2 + 2 * of_G[d] * G * dG[d], d) / E**2
            )
            part -= 2 * self.plain.halved(of_G[d] * G**2, d) * change[name] / E**3
            found[name] = part
        own = {n: change[n] for n in self.term.names}
        for name, part in self.plain.second_contraction(pairs, own).items():
            found[name] = found[name] + part
        return found

    def second_contraction(
        self, pairs: Pairs, dk: Coefficients
    ) -> dict[str, np.ndarray]:
        if not self._reads(dk):
            return {}
        term, count = self.term, len(self.D)
        dD, change = self._changes(dk)
        first, zeros = self._cotangents(pairs), [0.0] * self.grid.dim
        of_D = self._pulled(first)
        curved = term.formulas.second(
            *self._given(), *self._ordered(first), *dD, *zeros
        )[:count]
        moved = self._pulled(self._second(pairs, change))
        both = [a + b for a, b in zip(curved, moved, strict=True)]
        directions = [*zeros, *term.entries.values_of(dk, 0.0)]
        own = term.entries.second(*self.arguments, *of_D, *directions)
        carried = term.entries.pull(*self.arguments, *both)
        return self._by_name([a + b for a, b in zip(own, carried, strict=True)])
