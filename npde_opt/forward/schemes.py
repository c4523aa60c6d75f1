"""One-step schemes for M du/dt + r_I(u, t) + r_E(u, t) = 0: stages U_0 = u_n, U_1, ..., U_s =
u_{n+1} with

    M (U_i - U_0) + dt sum_{j <= i} (a^I_ij r_I(U_j, t_j) + a^E_ij r_E(U_j, t_j)) = 0,
    t_j = t_n + c_j dt,

where a^E_ii = 0 and all a^I_ii that are not zero are equal, so that one matrix M + dt a^I_ii r_I'
serves all stages. Sources: theta schemes; ars222 from Ascher, Ruuth and Spiteri, Appl. Numer. Math.
25 (1997), section 2.6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from npde_opt.errors import InputError

Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Scheme:
    """A tableau: row i - 1 of `implicit` and `explicit` has the weights of stage i.

    linear_implicit: linear terms are in r_I (else everything is in r_E); nonlinear_implicit: so are
    the others, which
    makes every stage a Newton iteration. order: of accuracy in dt.
    """

    name: str
    implicit: Rows
    explicit: Rows
    times: tuple[float, ...]
    order: int
    linear_implicit: bool = True
    nonlinear_implicit: bool = False

    @property
    def stages(self) -> int:
        return len(self.implicit)

    @property
    def diagonal(self) -> float:
        """The a^I_ii of the implicit stages, 0 for explicit schemes."""
        return (
            max(row[i + 1] for i, row in enumerate(self.implicit))
            if self.linear_implicit
            else 0.0
        )

    @cached_property
    def integrates_lines(self) -> bool:
        """Whether the weights of what is not a reaction integrate linear functions of t: sum_j b_j
        c_j = 1/2."""
        weights = self.implicit[-1] if self.linear_implicit else self.explicit[-1]
        return (
            abs(sum(b * c for b, c in zip(weights, self.times, strict=True)) - 0.5)
            < 1e-12
        )


def theta(name: str, value: float, order: int, **kind: bool) -> Scheme:
    return Scheme(name, ((1 - value, value),), ((1.0, 0.0),), (0.0, 1.0), order, **kind)


def ars222() -> Scheme:
    g = 1 - 1 / math.sqrt(2)
    d = 1 - 1 / (2 * g)
    return Scheme(
        "ars222",
        ((0.0, g, 0.0), (0.0, 1 - g, g)),
        ((g, 0.0, 0.0), (d, 1 - d, 0.0)),
        (0.0, g, 1.0),
        2,
    )


SCHEMES: dict[str, Scheme] = {
    s.name: s
    for s in (
        theta("explicit-euler", 0.0, 1, linear_implicit=False),
        theta("imex-euler", 1.0, 1),
        theta("imex-theta", 0.5, 1),
        theta("backward-euler", 1.0, 1, nonlinear_implicit=True),
        theta("crank-nicolson", 0.5, 2, nonlinear_implicit=True),
        Scheme(
            "heun",
            ((0.0,) * 3, (0.0,) * 3),
            ((1.0, 0.0, 0.0), (0.5, 0.5, 0.0)),
            (0.0, 1.0, 1.0),
            2,
            linear_implicit=False,
        ),
        ars222(),
    )
}


def scheme(name: str, value: float | None = None, field: str = "scheme") -> Scheme:
    """A scheme by name, the theta schemes optionally with another theta. Raises InputError, naming
    `field`, for unknown ones."""
    if name not in SCHEMES:
        raise InputError(field, repr(name), ", ".join(SCHEMES))
    if value is None:
        return SCHEMES[name]
    if name not in ("imex-theta", "crank-nicolson") or not 0 < value <= 1:
        raise InputError(
            "theta", value, "a number in (0, 1] with imex-theta or crank-nicolson"
        )
    return theta(
        name,
        value,
        2 if value == 0.5 and name == "crank-nicolson" else 1,
        nonlinear_implicit=name == "crank-nicolson",
    )
