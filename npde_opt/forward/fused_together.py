"""Several spreads as one in the text of fused loops (see fused_spread.py)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from npde_opt.forward.fused_fluxes import Fluxes
from npde_opt.forward.fused_spread import Pairs, Spread


@dataclass(frozen=True)
class Together:
    """A sum of spreads, whose names differ.

    Args:
        weighted: whether M differs from cell to cell: m is 1/M with a ghost all round; else
            coefficients have it.
    """

    parts: tuple[Spread, ...]
    weighted: bool

    @property
    def padded(self) -> bool:
        return any(part.padded for part in self.parts)

    @property
    def values(self) -> list[str]:
        own = [name for part in self.parts for name in part.values]
        return [*own, *(["m"] if self.weighted else [])]

    @property
    def changes(self) -> list[str]:
        return [name for part in self.parts for name in part.changes]

    @property
    def sums(self) -> list[str]:
        return [name for part in self.parts for name in part.sums]

    @property
    def more_sums(self) -> list[str]:
        return [name for part in self.parts for name in part.more_sums]

    @staticmethod
    def _sum(texts: Iterable[str]) -> str:
        return " + ".join(text for text in texts if text) or "0.0"

    def forth(self, c: int, field: str) -> str:
        return self._sum(part.forth(c, field) for part in self.parts)

    def back(self, c: int, field: str) -> str:
        return self._sum(part.back(c, field) for part in self.parts)

    def forth_change(self, c: int, field: str) -> str:
        return self._sum(part.forth_change(c, field) for part in self.parts)

    def back_change(self, c: int, field: str) -> str:
        return self._sum(part.back_change(c, field) for part in self.parts)

    def start(self) -> list[str]:
        return [line for part in self.parts for line in part.start()]

    def start_changes(self) -> list[str]:
        return [line for part in self.parts for line in part.start_changes()]

    def passes(self, kind: str) -> list[str]:
        return [line for part in self.parts for line in part.passes(kind)]

    def extremes(self) -> list[str]:
        """What limits of steps ask of a state (see fused_fluxes.py)."""
        fluxes = (part for part in self.parts if isinstance(part, Fluxes))
        return [line for part in fluxes for line in part.extremes()]

    def before(self) -> list[str]:
        return [line for part in self.parts for line in part.before()]

    def gathered(self, c: int, pairs: Pairs, to: str) -> list[str]:
        return [line for part in self.parts for line in part.gathered(c, pairs, to)]

    def after(self) -> list[str]:
        return [line for part in self.parts for line in part.after()]

    def ends(self, pairs: Pairs, to: str) -> list[str]:
        return [line for part in self.parts for line in part.ends(pairs, to)]
