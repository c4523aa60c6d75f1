"""What is between cells in the text of fused loops (see fused_loops.py): what a cell has of A u, in
one of several forms, and what a sweep adds up for the derivatives in its coefficients.

    Constant   sum_d W_cd (u_- + u_+ - 2 u),   W_cd = D_c w_d       one number a species
    Faces      sum over faces of G_f (u_neighbour - u) / M          one number a face
    Flow       diffusion and advection: two numbers a face          (fused_flow.py)
    Fluxes     D(u), by sweeps over faces                           (fused_fluxes.py)
    Together   a sum of these                               (fused_together.py)

All are -A u / M of the terms. Of faces of diffusion, sum_n dt (lambda_+ - lambda_-)(u_+ - u_-) is
all that dJ/dG needs; lambda stands for lambda / M where cells differ in volume.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

Pairs = Sequence[tuple[str, str]]
"""First letters of an adjoint's and a state's arrays, of which one stands for each species."""


@dataclass(frozen=True)
class Cells:
    """The names of indices in loops over cells, the slowest axis first; `columns` have one more,
    the fastest, over samples."""

    dim: int
    columns: bool

    @property
    def axes(self) -> list[str]:
        return [f"i{d}" for d in range(self.dim)]

    @property
    def loops(self) -> list[str]:
        return [*self.axes, *(["z"] if self.columns else [])]

    @property
    def here(self) -> str:
        """Of a cell and sample."""
        return ", ".join(self.loops)

    @property
    def cell(self) -> str:
        """Of a cell, for all samples."""
        return ", ".join(self.axes)

    def padded(self, d: int = 0, by: int = 0, samples: bool = True) -> str:
        """Of the neighbour `by` cells away along axis d, in an array with a ghost all round."""
        found = [f"{i} + {1 + (by if e == d else 0)}" for e, i in enumerate(self.axes)]
        return ", ".join([*found, *(self.loops[self.dim :] if samples else [])])

    def face(self, d: int, by: int) -> str:
        """Of the lower (0) or upper (1) face along axis d."""
        return ", ".join(
            f"{i} + {by}" if e == d and by else i for e, i in enumerate(self.axes)
        )


class Spread(Protocol):
    """How loops write diffusion. Fields are named by their arrays."""

    @property
    def padded(self) -> bool:
        """Whether states have to come with their ghosts where derivatives are taken."""

    @property
    def values(self) -> list[str]:
        """Names of the arguments with the coefficients."""

    @property
    def changes(self) -> list[str]:
        """Of the arguments with their changes."""

    @property
    def sums(self) -> list[str]:
        """Of the arguments to which a backward sweep adds."""

    @property
    def more_sums(self) -> list[str]:
        """Of those to which only its derivative adds."""

    def forth(self, c: int, field: str) -> str:
        """-A u / M in a cell."""

    def back(self, c: int, field: str) -> str:
        """-A^T (lambda / M)."""

    def forth_change(self, c: int, field: str) -> str:
        """The change of `forth` with that of the coefficients."""

    def back_change(self, c: int, field: str) -> str: ...

    def start(self) -> list[str]:
        """What stands before all loops."""

    def start_changes(self) -> list[str]:
        """What stands there where coefficients change."""

    def passes(self, kind: str) -> list[str]:
        """Sweeps over faces before the one over cells of 'step', 'push', 'back' or 'twice'."""

    def before(self) -> list[str]:
        """What stands before the fastest loop of a backward sweep."""

    def gathered(self, c: int, pairs: Pairs, to: str) -> list[str]:
        """What a cell adds; `to`: the first letter of `sums` or `more_sums`."""

    def after(self) -> list[str]:
        """What stands after the fastest loop."""

    def ends(self, pairs: Pairs, to: str) -> list[str]:
        """What stands after all loops."""


@dataclass(frozen=True)
class Constant:
    """One diffusivity a species, on uniform cells between Neumann and periodic sides. Products D w
    are found before: a compiler takes dt D w in one order or another, and loops that do the same
    steps in other ways would differ in the last bit."""

    cells: Cells
    count: int
    padded = False

    @property
    def values(self) -> list[str]:
        return ["W", "w"]

    @property
    def changes(self) -> list[str]:
        return ["dD"]

    @property
    def sums(self) -> list[str]:
        return ["slopes"]

    @property
    def more_sums(self) -> list[str]:
        return []

    def laplacian(self, field: str, weight: str = "w") -> str:
        at, parts = self.cells.padded, []
        for d in range(self.cells.dim):
            beside = f"{field}[{at(d, -1)}] + {field}[{at(d, 1)}]"
            parts.append(f"{weight}{d} * ({beside} - 2 * {field}[{at()}])")
        return " + ".join(parts)

    def start(self) -> list[str]:
        """Numbers in arrays would be read again in every cell."""
        axes = range(self.cells.dim)
        lines = [f"W{c}_{d} = W[{c}, {d}]" for c in range(self.count) for d in axes]
        return [*lines, *(f"w{d} = w[{d}]" for d in axes)]

    def start_changes(self) -> list[str]:
        return [f"dD{c} = dD[{c}]" for c in range(self.count)]

    def passes(self, kind: str) -> list[str]:
        return []

    def forth(self, c: int, field: str) -> str:
        return self.laplacian(field, f"W{c}_")

    def back(self, c: int, field: str) -> str:
        return self.forth(c, field)

    def forth_change(self, c: int, field: str) -> str:
        return f"dD{c} * ({self.laplacian(field)})"

    def back_change(self, c: int, field: str) -> str:
        return self.forth_change(c, field)

    def before(self) -> list[str]:
        return [f"a{c} = 0.0" for c in range(self.count)]

    def gathered(self, c: int, pairs: Pairs, to: str) -> list[str]:
        here = self.cells.padded()
        return [
            f"a{c} += {u}{c}[{here}] * ({self.laplacian(f'{p}{c}')})" for p, u in pairs
        ]

    def after(self) -> list[str]:
        return [f"slopes[{c}] += dt * s * a{c}" for c in range(self.count)]

    def ends(self, pairs: Pairs, to: str) -> list[str]:
        return []


@dataclass(frozen=True)
class Faces:
    """Conductances of faces: fields of diffusivity, one a direction, sides of all kinds, inactive
    cells, cells of several sizes.

    Args:
        weighted: whether m is a field, with a ghost all round.
    """

    cells: Cells
    count: int
    weighted: bool
    padded = True

    def _named(self, letter: str) -> list[str]:
        return [
            f"{letter}{c}_{d}" for c in range(self.count) for d in range(self.cells.dim)
        ]

    @property
    def values(self) -> list[str]:
        return self._named("G")

    @property
    def changes(self) -> list[str]:
        return self._named("H")

    @property
    def sums(self) -> list[str]:
        return self._named("P")

    @property
    def more_sums(self) -> list[str]:
        return self._named("Q")

    def _seen(self, field: str, d: int = 0, by: int = 0, scaled: bool = False) -> str:
        value = f"{field}[{self.cells.padded(d, by)}]"
        weight = f"m[{self.cells.padded(d, by, samples=False)}]"
        return f"{weight} * {value}" if scaled and self.weighted else value

    def _fluxes(self, letter: str, c: int, field: str, scaled: bool) -> str:
        parts, own = [], self._seen(field, scaled=scaled)
        for d in range(self.cells.dim):
            for face, by in ((0, -1), (1, 1)):
                conductance = f"{letter}{c}_{d}[{self.cells.face(d, face)}]"
                parts.append(
                    f"{conductance} * ({self._seen(field, d, by, scaled)} - {own})"
                )
        return " + ".join(parts)

    def _forth(self, letter: str, c: int, field: str) -> str:
        fluxes = self._fluxes(letter, c, field, scaled=False)
        return (
            f"m[{self.cells.padded(samples=False)}] * ({fluxes})"
            if self.weighted
            else fluxes
        )

    def forth(self, c: int, field: str) -> str:
        return self._forth("G", c, field)

    def back(self, c: int, field: str) -> str:
        return self._fluxes("G", c, field, scaled=True)

    def forth_change(self, c: int, field: str) -> str:
        return self._forth("H", c, field)

    def back_change(self, c: int, field: str) -> str:
        return self._fluxes("H", c, field, scaled=True)

    def _product(self, c: int, d: int, by: int, pairs: Pairs) -> str:
        """Of the jumps across a face along axis d: the same for both cells beside it."""
        parts = []
        for adjoint, state in pairs:
            p, u = f"{adjoint}{c}", f"{state}{c}"
            left = f"{self._seen(p, d, by, True)} - {self._seen(p, scaled=True)}"
            parts.append(f"({left}) * ({self._seen(u, d, by)} - {self._seen(u)})")
        return " + ".join(parts)

    def start(self) -> list[str]:
        return []

    def start_changes(self) -> list[str]:
        return []

    def passes(self, kind: str) -> list[str]:
        return []

    def before(self) -> list[str]:
        return []

    def gathered(self, c: int, pairs: Pairs, to: str) -> list[str]:
        """At the lower faces of the cell."""
        cell = self.cells.cell
        return [
            f"{to}{c}_{d}[{cell}] += dt * ({self._product(c, d, -1, pairs)})"
            for d in range(self.cells.dim)
        ]

    def after(self) -> list[str]:
        return []

    def ends(self, pairs: Pairs, to: str) -> list[str]:
        """At the upper faces of the last cells of each axis."""

        def lines(d: int) -> list[str]:
            at = self.cells.face(d, 1)
            return [
                f"{to}{c}_{d}[{at}] += dt * ({self._product(c, d, 1, pairs)})"
                for c in range(self.count)
            ]

        return at_upper_faces(self.cells, lines)


def at_upper_faces(cells: Cells, lines: Callable[[int], Sequence[str]]) -> list[str]:
    """Loops over the last cells of each axis.

    Args:
        lines: of a cell, by axis.
    """
    found = list[str]()
    for d in range(cells.dim):
        found.append(f"i{d} = size{d} - 1")
        others = [(e, i) for e, i in enumerate(cells.loops) if e != d]
        for depth, (e, i) in enumerate(others):
            found.append("    " * depth + f"for {i} in range(size{e}):")
        inside = "    " * len(others)
        found += [inside + line for line in lines(d)]
    return found
