"""f(x, t; k) at the faces normal to an axis, f a number or text in x, y, z, the time t where it may
read it, and coefficients.

A coefficient that is a cell field enters as the value between the cells on both sides, linear from
centre to centre; at a side as that of the cell.
"""

from __future__ import annotations

import numpy as np

from npde_opt.aliases import Coefficients, Numbers
from npde_opt.functions.text import Expressions
from npde_opt.grids import AXES, Grid, along
from npde_opt.terms.boundary import TIME
from npde_opt.terms.faces import faces, inner_ends, sides


def face_shares(grid: Grid, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Of the cells below and above in values at the owned cells' faces normal to axis d."""
    w, s = grid.widths[d], grid.local_slice[d]
    around = np.concatenate([w[[s.start - 1]], w[s], w[[s.stop % w.size]]])
    below = around[1:] / (around[:-1] + around[1:])
    for face, here in inner_ends(grid, d):
        if here:
            below[face] = 0.0 if face == 0 else 1.0
    return along(below, d, grid.dim), along(1 - below, d, grid.dim)


class FaceText:
    """A number or text at the owned cells' faces normal to axis d.

    Args:
        field: its key in error messages.
    """

    def __init__(
        self, grid: Grid, d: int, given: float | str, field: str, timed: bool = False
    ):
        self.grid, self.d, self.given, self.timed = grid, d, given, timed
        self.variables = (*AXES[: grid.dim], *([TIME] if timed else []))
        self.text = (
            Expressions([given], self.variables, field)
            if isinstance(given, str)
            else None
        )
        self.parameters = self.text.parameters if self.text else ()
        self.shares = face_shares(grid, d)
        lines = [c[s] for c, s in zip(grid.centers, grid.local_slice, strict=True)]
        lines[d] = grid.edges[d][grid.start[d] : grid.stop[d] + 1]
        self.places = [along(x, e, grid.dim) for e, x in enumerate(lines)]
        self.shape = tuple(n + (d == e) for e, n in enumerate(grid.local_shape))

    def at(self, k: Coefficients, t: float | None = None) -> FaceTextAt:
        return FaceTextAt(self, k, t)

    def between(self, k: Coefficients) -> list[Numbers]:
        """The parameters at the faces, 0 where one is not given. Collective."""
        below, above = self.shares
        found: list[Numbers] = []
        for name in self.parameters:
            value = np.asarray(k.get(name, 0.0), float)
            if value.ndim:
                a, b = faces(self.grid.ghosted(np.asfortranarray(value), 1.0), self.d)
                value = below * a + above * b
            found.append(value)
        return found


class FaceTextAt:
    """With given coefficients, at a time where it may read that."""

    def __init__(self, term: FaceText, k: Coefficients, t: float | None):
        self.term, self.text = term, term.text
        self.parameters = term.parameters
        time = [t] if term.timed else []
        given = {n: k[n] for n in term.parameters}
        self.arguments = [*term.places, *time, *term.between(given)]

    def value(self) -> np.ndarray | float:
        if self.text is None:
            assert not isinstance(self.term.given, str)
            return self.term.given
        return np.broadcast_to(self.text.value(*self.arguments)[0], self.term.shape)

    def reads(self, dk: Coefficients) -> bool:
        return any(name in dk for name in self.parameters)

    def _directions(self, dk: Coefficients) -> list[Numbers]:
        return [*[0.0] * len(self.term.variables), *self.term.between(dk)]

    def push(self, dk: Coefficients) -> np.ndarray | float | None:
        """df; None where it does not read what changes."""
        if self.text is None or not self.reads(dk):
            return None
        return self.text.push(*self.arguments, *self._directions(dk))[0]

    def add_pulled(self, weight: np.ndarray, found: dict[str, np.ndarray]) -> None:
        """Adds the cotangents of the coefficients at the owned cells from those of f at faces."""
        assert self.text is not None
        self._add(self.text.pull(*self.arguments, weight), found)

    def add_second(
        self, weight: np.ndarray, dk: Coefficients, found: dict[str, np.ndarray]
    ) -> None:
        """Adds the change of what `add_pulled` adds, with the same weight."""
        assert self.text is not None
        self._add(
            self.text.second(*self.arguments, weight, *self._directions(dk)), found
        )

    def _add(self, parts: list[Numbers], found: dict[str, np.ndarray]) -> None:
        (below, above), d = self.term.shares, self.term.d
        for name, part in zip(
            self.parameters, parts[len(self.term.variables) :], strict=True
        ):
            full = np.broadcast_to(part, self.term.shape)
            own = sides(above * full, d)[0] + sides(below * full, d)[1]
            found[name] = found[name] + own if name in found else own
