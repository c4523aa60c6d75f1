"""The sides of a grid, and which boundary condition holds at each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from npde_opt.errors import InputError
from npde_opt.grids.geometry import AXES

KINDS = ("neumann", "dirichlet", "robin", "periodic")


@dataclass(frozen=True)
class Boundary:
    """One side. Robin reads D du/dn + coefficient (u - value) = 0, Neumann D du/dn = value,
    Dirichlet u = value; the values belong to the experiments."""

    kind: str = "neumann"
    coefficient: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError("boundary kind", repr(self.kind), ", ".join(KINDS))
        if self.kind == "robin" and not self.coefficient > 0:
            raise InputError(
                "boundary coefficient",
                self.coefficient,
                "a positive number for a robin side",
            )


def boundaries_of(given: Mapping[str, Boundary | str], dim: int) -> dict[str, Boundary]:
    """By side, Neumann where not given. Raises InputError for sides that are none, and for an axis
    of which one side alone is periodic."""
    sides = [a + s for a in AXES[:dim] for s in "-+"]
    for side in given:
        if side not in sides:
            raise InputError("boundary side", repr(side), ", ".join(sides))
    named = {s: b if isinstance(b, Boundary) else Boundary(b) for s, b in given.items()}
    found = {s: named.get(s, Boundary()) for s in sides}
    for a in AXES[:dim]:
        if (found[a + "-"].kind == "periodic") != (found[a + "+"].kind == "periodic"):
            allowed = "both sides periodic or neither"
            raise InputError(f"boundaries of axis {a}", "one periodic side", allowed)
    return found
