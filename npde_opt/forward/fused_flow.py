"""Diffusion and advection in the text of fused loops (see fused_loops.py), by two rates a face:
what the cell below and the one above it gain by a jump of u across it,

    (S u)_i = m_i (L_lower (u_below - u_i) + U_upper (u_above - u_i) - E_i u_i)
    (S^T lambda)_i = U_lower nu_below + L_upper nu_above - (L_lower + U_upper + E_i) nu_i

nu = m lambda, m = 1/M (or it is in the rates). With the conductances G of diffusion and the fluxes
F of advection (terms/advection.py), L = G + w_above F and U = G - w_below F; E is what div(v u) has
beside v . grad u. All that derivatives in G and F need are, of faces, the sums

    h = sum_n dt nu_above (u_above - u_below),   l = sum_n dt nu_below (u_above - u_below),

and of cells e = sum_n dt nu u.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from npde_opt.forward.fused_spread import Cells, Pairs, at_upper_faces


@dataclass(frozen=True)
class Flow:
    """As a spread (see fused_spread.Spread).

    Args:
        owning: species with E.
        weighted: whether m is a field, with a ghost all round.
    """

    cells: Cells
    count: int
    owning: tuple[int, ...]
    weighted: bool
    padded = True

    def _named(self, letter: str) -> list[str]:
        dims, species = range(self.cells.dim), range(self.count)
        return [f"{letter}{c}_{d}" for c in species for d in dims]

    def _rates(self, before: str) -> list[str]:
        own = [f"{before}E{c}" for c in self.owning]
        return [*self._named(f"{before}L"), *self._named(f"{before}U"), *own]

    def _summed(self, letter: str) -> list[str]:
        own = [f"{letter}e{c}" for c in self.owning]
        return [*self._named(f"{letter}h"), *self._named(f"{letter}l"), *own]

    @property
    def values(self) -> list[str]:
        return self._rates("")

    @property
    def changes(self) -> list[str]:
        return self._rates("d")

    @property
    def sums(self) -> list[str]:
        return self._summed("P")

    @property
    def more_sums(self) -> list[str]:
        return self._summed("Q")

    def _seen(self, field: str, d: int = 0, by: int = 0) -> str:
        return f"{field}[{self.cells.padded(d, by)}]"

    def _nu(self, field: str, d: int = 0, by: int = 0) -> str:
        value = self._seen(field, d, by)
        if not self.weighted:
            return value
        return f"m[{self.cells.padded(d, by, samples=False)}] * {value}"

    def _forth(self, before: str, c: int, field: str) -> str:
        here, parts = self._seen(field), list[str]()
        for d in range(self.cells.dim):
            for rate, face, by in (("L", 0, -1), ("U", 1, 1)):
                gain = f"{before}{rate}{c}_{d}[{self.cells.face(d, face)}]"
                parts.append(f"{gain} * ({self._seen(field, d, by)} - {here})")
        total = " + ".join(parts)
        if c in self.owning:
            total += f" - {before}E{c}[{self.cells.cell}] * {here}"
        if self.weighted:
            return f"m[{self.cells.padded(samples=False)}] * ({total})"
        return total

    def _back(self, before: str, c: int, field: str) -> str:
        gains, losses = list[str](), list[str]()
        for d in range(self.cells.dim):
            lower, upper = self.cells.face(d, 0), self.cells.face(d, 1)
            L, U = f"{before}L{c}_{d}", f"{before}U{c}_{d}"
            gains.append(f"{U}[{lower}] * {self._nu(field, d, -1)}")
            gains.append(f"{L}[{upper}] * {self._nu(field, d, 1)}")
            losses += [f"{L}[{lower}]", f"{U}[{upper}]"]
        if c in self.owning:
            losses.append(f"{before}E{c}[{self.cells.cell}]")
        return f"{' + '.join(gains)} - ({' + '.join(losses)}) * {self._nu(field)}"

    def forth(self, c: int, field: str) -> str:
        return self._forth("", c, field)

    def back(self, c: int, field: str) -> str:
        return self._back("", c, field)

    def forth_change(self, c: int, field: str) -> str:
        return self._forth("d", c, field)

    def back_change(self, c: int, field: str) -> str:
        return self._back("d", c, field)

    def start(self) -> list[str]:
        return []

    def start_changes(self) -> list[str]:
        return []

    def passes(self, kind: str) -> list[str]:
        return []

    def before(self) -> list[str]:
        return []

    def _products(
        self, c: int, d: int, upper: bool, pairs: Pairs, to: str
    ) -> list[str]:
        """Lines that add to the sums of a face along axis d."""
        below, above = (0, 1) if upper else (-1, 0)
        high, low = list[str](), list[str]()
        for adjoint, state in pairs:
            p, u = f"{adjoint}{c}", f"{state}{c}"
            jump = f"({self._seen(u, d, above)} - {self._seen(u, d, below)})"
            high.append(f"{self._nu(p, d, above)} * {jump}")
            low.append(f"{self._nu(p, d, below)} * {jump}")
        at = self.cells.face(d, int(upper))
        return [
            f"{to}{kind}{c}_{d}[{at}] += dt * ({' + '.join(parts)})"
            for kind, parts in (("h", high), ("l", low))
        ]

    def gathered(self, c: int, pairs: Pairs, to: str) -> list[str]:
        """At the lower faces of the cell, and in it."""
        lines = list[str]()
        for d in range(self.cells.dim):
            lines += self._products(c, d, False, pairs, to)
        if c in self.owning:
            own = [f"{self._nu(f'{p}{c}')} * {self._seen(f'{u}{c}')}" for p, u in pairs]
            lines.append(f"{to}e{c}[{self.cells.cell}] += dt * ({' + '.join(own)})")
        return lines

    def after(self) -> list[str]:
        return []

    def ends(self, pairs: Pairs, to: str) -> list[str]:
        """At the upper faces of the last cells of each axis."""

        def lines(d: int) -> Sequence[str]:
            found = list[str]()
            for c in range(self.count):
                found += self._products(c, d, True, pairs, to)
            return found

        return at_upper_faces(self.cells, lines)
