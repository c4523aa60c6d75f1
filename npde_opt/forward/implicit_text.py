"""Many steps of one species in one call of a compiled loop, written for the scheme and the reaction
at hand. With the stages of stepper.py, r_I = A u, r_E = -M s R(u; theta) and S = M + alpha A in
factors (linear/dissection):

    forth   S U_i = M u_n - dt sum_{j<i} (a^I_ij A U_j - a^E_ij M s R(U_j)),  n = 0 ... count - 1
    back    S mu_i = [i = s] lambda_{n+1} + A nu^I_i - M s R_u(U_i) nu^E_i,
            nu_j = -dt sum_{i>j} a_ij mu_i,
            lambda_n = sum_i M mu_i + A nu^I_0 - M s R_u(U_0) nu^E_0,
            dJ/dtheta -= sum_j M s R_theta(U_j) nu^E_j,  and sums of [nu^I_j] [U_j] at the
            faces, with the diagonal in nu^I_j
    rates   the largest l - s R_u of every so many cells (see stability.fastest)

`forth` stops after a state that is too large, has moved too far or is due to be looked at, unless
the look finds that all is well (as fused_looks.py, for one species), and says after how many steps.
Both say what a solve with new factors, and every STEPS_CHECKED-th after it, has left over.

Arguments beside the factors' (see implicit_loops.solve) and those of fused_looks.py:

    states [n s + i, cell]         U_i of step n
    b, r, mass                     work; M of the cells
    A, f, mu [i, cell], nu         work: A U_i, R(U_i), the multipliers, and nu
    dts, scale, alpha              of the steps; s; dt a_ii
    k                              parameters of the reaction, fields or a single number each
    values, axes, checked          see implicit_loops.left_over; [solves so far with these factors,
                                   and of how many one is checked], and `left`: the largest found
    most                           of the sum of squares of a state
    adjoint, g, faces              lambda, and what is added up
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from npde_opt.forward.fused_looks import DECIDED
from npde_opt.forward.watch import LITTLE, LONGER
from npde_opt.functions.text import Expressions
from npde_opt.machine_code import Written

LOOPS = "npde_opt.forward.implicit_loops"
TABLES = "table, where"
LOOKS = "places, kept, room, sizes, turns, last, rules, every"
CALLED = ("solve", "squares", "left_over", "product", "add_products")
Rows = tuple[tuple[float, ...], ...]
"""Weights by stage, from the first on."""


@dataclass(frozen=True)
class Loops:
    """The compiled loops."""

    forth: Written
    back: Written
    rates: Written


@functools.lru_cache(maxsize=64)
def loops(
    implicit: Rows,
    explicit: Rows,
    expressions: Expressions | None,
    fields: tuple[bool, ...],
) -> Loops:
    """For a scheme and the reaction of one species, if there is one.

    Args:
        fields: which of its parameters are fields.
    """
    writer = _Writer(implicit, explicit, expressions, fields)
    return Loops(
        Written(writer.forth(), "forth", LOOPS, CALLED, int),
        Written(writer.back(), "back", LOOPS, CALLED),
        Written(writer.rates(), "rates", LOOPS, []),
    )


@dataclass(frozen=True)
class _Writer:
    implicit: Rows
    explicit: Rows
    expressions: Expressions | None
    fields: tuple[bool, ...]

    @property
    def stages(self) -> int:
        return len(self.implicit)

    @property
    def _names(self) -> list[str]:
        return [f"q{i}" for i in range(len(self.fields))]

    @property
    def _given(self) -> str:
        return "".join(f", k{i}" for i in range(len(self.fields)))

    @property
    def _taken(self) -> list[str]:
        """Lines with the parameters of a cell."""
        return [f"q{i} = k{i}[{'i' if f else 0}]" for i, f in enumerate(self.fields)]

    @property
    def _rate(self) -> list[str]:
        """Lines with the `rate` of a cell, as of stability.fastest."""
        if self.expressions is None:
            return ["rate = l"]
        code, (slope, *_) = self.expressions.code("jacobian", ["v", *self._names])
        finite = "(h if abs(h) < math.inf else 0.0)"
        return [*self._taken, *code, f"h = {slope}", f"rate = l - s * {finite}"]

    def _weight(self, rows: Rows, i: int, j: int) -> float:
        return rows[i - 1][j]

    def _later(self, rows: Rows, j: int) -> list[int]:
        """Stages behind j that its rates go into."""
        behind = range(j + 1, self.stages + 1)
        return [i for i in behind if self._weight(rows, i, j)]

    def _summed(self, rows: Rows, j: int) -> str:
        """nu_j of a cell."""
        parts = [
            f"{self._weight(rows, i, j)!r} * mu[{i}, i]" for i in self._later(rows, j)
        ]
        return f"-dt * ({' + '.join(parts)})"

    def forth(self) -> str:
        steps = ["here = states[n * STAGES]", *self._rates_of(0)]
        for i in range(1, self.stages + 1):
            steps += self._stage(i)
        count = self.stages
        body = [line.replace("STAGES", str(count)) for line in steps]
        return f"""\
def forth({TABLES}, states, b, r, A, f, mass, dts, scale, alpha{self._given},
          values, axes, checked, left, most, {LOOKS}):
    count, size, s = dts.size, b.size, scale[0]
    for n in range(count):
        dt = dts[n]
{_indented(body, 2)}
        left[1] = squares(now)
        if not left[1] <= most[0]:
            return n + 1
        if n + 1 < count:
            moved = 1 if dts[n + 1] > {LONGER!r} * last[0] or n + 1 >= turns[2] else 0
            for i in range(turns[3]):
                far = abs(now[places[i]] - kept[i])
                moved += 0 if far <= room[0] else 1
            if moved > 0:
{_indented(self._look(), 4)}
    return count"""

    def _rates_of(self, j: int) -> list[str]:
        """Lines with A U_j and R(U_j), where later stages need them."""
        state, lines = "here" if j == 0 else "now", list[str]()
        if self._later(self.implicit, j):
            lines.append(f"product(values, axes, mass, alpha[0], {state}, A[{j}])")
        if self.expressions is not None and self._later(self.explicit, j):
            code, (rate,) = self.expressions.code("value", ["v", *self._names])
            cell = [f"v = {state}[i]", *self._taken, *code, f"f[{j}, i] = {rate}"]
            lines += _over_cells(cell)
        return lines

    def _stage(self, i: int) -> list[str]:
        """Lines with U_i, and what later stages need of it."""
        total = "here[i]"
        for j in range(i):
            weight = self._weight(self.explicit, i, j)
            if weight and self.expressions is not None:
                total += f" + dt * (s * ({weight!r} * f[{j}, i]))"
        total = f"mass[i] * ({total})"
        for j in range(i):
            weight = self._weight(self.implicit, i, j)
            total += f" - dt * {weight!r} * A[{j}, i]" if weight else ""
        lines = [*_over_cells([f"b[i] = {total}"]), f"now = states[n * STAGES + {i}]"]
        lines += self._solved(i, "now")
        return lines + self._rates_of(i)

    def _solved(self, i: int, to: str) -> list[str]:
        """Lines that solve the system of stage i with b, and check that now and then."""
        if not self._weight(self.implicit, i, i):
            return _over_cells([f"{to}[i] = b[i] / mass[i]"])
        return [
            f"solve({TABLES}, b, {to})",
            "if checked[0] % checked[1] == 0:",
            f"    found = left_over(values, axes, b, {to}, r)",
            "    left[0] = found if not found <= left[0] else left[0]",
            "checked[0] += 1",
        ]

    def _look(self) -> list[str]:
        """At the rates of a sample of the state `now`."""
        return [
            "step, l = dts[n + 1], rules[0]",
            "begin, top, seen, size0 = turns[1] % every[0], 0.0, 0, 0.0",
            "for i in range(begin, size, every[0]):",
            "    v = now[i]",
            *(f"    {line}" for line in self._rate),
            "    top = rate if rate > top else top",
            "    places[seen] = i",
            "    kept[seen] = v",
            "    size0 = max(size0, abs(v))",
            "    seen += 1",
            *DECIDED,
            "sizes[0] = size0",
            f"room[0] = {LITTLE!r} * wide * size0",
            "last[0], last[1] = step, wide",
            "turns[0], turns[1], turns[3] = turns[1], turns[1] + 1, seen",
            "turns[2] = n + 1 + int(later)",
        ]

    def back(self) -> str:
        steps = list[str]()
        for i in range(self.stages, -1, -1):
            steps += self._stage_back(i)
        body = [line.replace("STAGES", str(self.stages)) for line in steps]
        given = "".join(f", g{i}" for i in range(len(self.fields)))
        return f"""\
def back({TABLES}, states, adjoint, b, r, mu, nu, A, mass, dts, scale, alpha{self._given}{given},
         faces, values, axes, checked, left):
    size, s = b.size, scale[0]
    for n in range(dts.size - 1, -1, -1):
        dt = dts[n]
{_indented(body, 2)}"""

    def _stage_back(self, i: int) -> list[str]:
        """Lines with mu_i, or with lambda_n where i is 0, and the sums."""
        first = "adjoint[i]" if i == self.stages else "0.0"
        if i == 0:
            every = " + ".join(f"mu[{k}, i]" for k in range(1, self.stages + 1))
            first = f"mass[i] * ({every})"
        spread = self._later(self.implicit, i)
        lines = [f"here = states[n * STAGES + {i}]"]
        if spread:
            lines += _over_cells([f"nu[i] = {self._summed(self.implicit, i)}"])
            lines.append("product(values, axes, mass, alpha[0], nu, A[0])")
            first += " + A[0, i]"
        lines += self._reacted_back(i, first)
        own = self._weight(self.implicit, i, i) if i else 0.0
        if i == 0:
            lines += _over_cells(["adjoint[i] = b[i]"])
        else:
            lines += [f"to = mu[{i}]", *self._solved(i, "to")]
        if own:
            term = f"-dt * {own!r} * mu[{i}, i]"
            before = "nu[i] + " if spread else ""
            lines += _over_cells([f"nu[i] = {before}{term}"])
        if own or spread:
            lines.append("add_products(nu, here, axes, faces)")
        return lines

    def _reacted_back(self, i: int, first: str) -> list[str]:
        """Lines with b, which begins with `first`, and the sums of the reaction's parameters."""
        if self.expressions is None or not self._later(self.explicit, i):
            return _over_cells([f"b[i] = {first}"])
        code, parts = self.expressions.code("pull", ["v", *self._names, "m"])
        cell = [
            f"v, m = here[i], {self._summed(self.explicit, i)}",
            *self._taken,
            *code,
            "weight = s * mass[i]",
            f"b[i] = {first} - weight * ({parts[0]})",
        ]
        numbers = [i for i, field in enumerate(self.fields) if not field]
        for k, part in enumerate(parts[1:]):
            to = f"a{k}" if k in numbers else f"g{k}[i]"
            cell.append(f"{to} -= weight * ({part})")
        before = [f"a{k} = 0.0" for k in numbers]
        after = [f"g{k}[0] += a{k}" for k in numbers]
        return [*before, *_over_cells(cell), *after]

    def rates(self) -> str:
        body = ["v = here[i]", *self._rate]
        return f"""\
def rates(here, scale, stiffness{self._given}, begin, every, found):
    s, l, top = scale[0], stiffness[0], 0.0
    for i in range(begin[0], here.size, every[0]):
{_indented(body, 2)}
        top = rate if rate > top else top
    found[0] = top"""


def _over_cells(lines: Sequence[str]) -> list[str]:
    return ["for i in range(size):", *(f"    {line}" for line in lines)]


def _indented(lines: Sequence[str], depth: int) -> str:
    return "\n".join("    " * depth + line for line in lines)
