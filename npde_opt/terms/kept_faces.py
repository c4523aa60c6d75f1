"""What derivatives of -div(D grad u) take of one coefficient D, kept at its values, and compiled
loops over it.

With conductances g_f = area_f / S_f, S_f the sum of the resistances of the cells on both sides,

    dg_f = area_f / S_f^2 sum over both sides of h / (2 D^2) dD,
    r_i = sum over faces f of i of dg_f (u_i - u_beside),
    d/dD_i [lambda^T r] = 1 / D_i^2 sum over faces f of i of h_i / 2 area_f / S_f^2 p_f,

p_f being the product of the differences of lambda and u across f (see diffusion.py).

The loops are loaded without numba (machine_code.py), so that they serve small grids, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from npde_opt.grids import Grid
from npde_opt.machine_code import Bound, Kept
from npde_opt.terms.interface import Pairs

LOOPS = "npde_opt.terms.diffusion_loops"
change, exchange, add_product, contracted, bend, curved = (
    Kept(LOOPS, name)
    for name in ("change", "exchange", "add_product", "contracted", "bend", "curved")
)


class Lines:
    """A grid's faces, all axes one after the other, x fastest, and lengths along axes.

    Args:
        spans: by axis, twice the lengths from faces to the centres below and above them.
        halves: by axis, lengths from the centres of cells to their lower and upper faces.
    """

    def __init__(
        self,
        grid: Grid,
        spans: Sequence[tuple[np.ndarray, np.ndarray]],
        halves: Sequence[tuple[np.ndarray, np.ndarray]],
    ):
        own = self.own = grid.local_shape
        self.shape = np.array((grid.dim, *(*own, 1, 1)[:3]), np.int64)
        self.faces = [
            tuple(n + (d == e) for e, n in enumerate(own)) for d in range(grid.dim)
        ]
        ends = np.cumsum([0, *(np.prod(faces) for faces in self.faces)]).tolist()
        self._parts = [slice(*pair) for pair in zip(ends, ends[1:], strict=False)]
        self.size: int = ends[-1]
        self.ghosted = int(np.prod([n + 2 for n in own]))
        self.spans, self.halves = _joined(spans), _joined(halves)

    # Work, which all points share, made when it is first needed.

    @cached_property
    def products(self) -> np.ndarray:
        return np.empty(self.size)

    @cached_property
    def bent(self) -> np.ndarray:
        return np.empty(self.size)

    @cached_property
    def ratio(self) -> np.ndarray:
        """Owned cells [i, j, k]."""
        return np.empty(self.own, order="F")

    def split(self, faces: np.ndarray) -> list[np.ndarray]:
        """Views of faces [i, j, k] by axis."""
        return [
            faces[part].reshape(shape, order="F")
            for part, shape in zip(self._parts, self.faces, strict=True)
        ]


def _joined(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    return np.concatenate([values.ravel() for pair in pairs for values in pair])


class KeptFaces:
    """At one D.

    Args:
        lines: of the grid.
        weights, sums: area / S^2 and S of faces.
        D: owned [i, j, k].
    """

    def __init__(
        self,
        grid: Grid,
        lines: Lines,
        weights: np.ndarray,
        sums: np.ndarray,
        D: np.ndarray,
    ):
        self.grid, self.lines, self.weights, self.D = grid, lines, weights, D
        self._sums = sums
        with np.errstate(divide="ignore"):
            slopes = np.asfortranarray((1 / D) / D)
        self._slopes, self._half_slopes = flat(slopes), 0.5 * slopes

    def takes(self, u: np.ndarray) -> bool:
        """Whether the loops go over a ghosted field: not over columns, or single precision."""
        plain = u.ndim == self.grid.dim and u.dtype == float
        return bool(plain and u.flags.f_contiguous)

    @cached_property
    def _change(self) -> Bound:
        lines, like = self.lines, np.empty(self.lines.ghosted)
        given = lines.shape, lines.spans, self.weights, like
        return change.bound(*given, self.weights)

    def changes(self, dD: np.ndarray) -> np.ndarray:
        """dg of all faces. Collective."""
        moved = np.empty(self.lines.own, order="F")
        np.multiply(dD, self._half_slopes, out=moved)
        out = np.empty(self.lines.size)
        self._change.put(3, flat(self.grid.ghosted(moved)))
        self._change.put(4, out)
        self._change()
        return out

    @cached_property
    def _exchange(self) -> Bound:
        like = np.empty(self.lines.ghosted)
        return exchange.bound(self.lines.shape, self.weights, like, self._slopes)

    def exchanged(self, dg: np.ndarray, u: np.ndarray) -> np.ndarray:
        """r of owned cells, from a ghosted field."""
        out = np.empty(self.lines.own, order="F")
        self._exchange.put(1, dg)
        self._exchange.put(2, flat(u))
        self._exchange.put(3, flat(out))
        self._exchange()
        return out

    @cached_property
    def _product(self) -> Bound:
        like = np.empty(self.lines.ghosted)
        return add_product.bound(self.lines.shape, like, like, self.lines.products)

    def _add_products(self, pairs: Pairs) -> None:
        """p of all faces, added up over pairs of ghosted fields."""
        self.lines.products[...] = 0
        for adjoint, u in pairs:
            self._product.put(1, flat(adjoint))
            self._product.put(2, flat(u))
            self._product()

    @cached_property
    def _contracted(self) -> Bound:
        given = self.lines.halves, self.weights, self._slopes, self.lines.products
        return contracted.bound(self.lines.shape, *given, self._slopes)

    def contraction(self, pairs: Pairs) -> np.ndarray:
        """The sum over (lambda, u) of d/dD [lambda^T r] at owned cells, from ghosted fields."""
        self._add_products(pairs)
        out = np.empty(self.lines.own, order="F")
        self._contracted.put(5, flat(out))
        self._contracted()
        return out

    @cached_property
    def _bend(self) -> Bound:
        given = self.weights, 1 / self._sums, self.weights, self.lines.products
        return bend.bound(*given, self.lines.bent)

    @cached_property
    def _curved(self) -> Bound:
        lines = self.lines
        given = lines.halves, self._slopes, flat(lines.ratio), lines.products
        return curved.bound(lines.shape, *given, lines.bent, self._slopes)

    def curved(self, pairs: Pairs, dD: np.ndarray, dg: np.ndarray) -> np.ndarray:
        """The change of `contraction` with D.

        Args:
            dg: `changes` of dD.
        """
        self._add_products(pairs)
        np.divide(dD, self.D, out=self.lines.ratio)
        self._bend.put(2, dg)
        self._bend()
        out = np.empty(self.lines.own, order="F")
        self._curved.put(6, flat(out))
        self._curved()
        return out


def flat(field: np.ndarray) -> np.ndarray:
    """A view of an array in Fortran's order, x fastest."""
    return field.reshape(-1, order="F")
