"""Many steps of M (u' - u) + dt (A u' - M s R(u; theta)) = 0 of one species in one call of a
compiled loop, written for the reaction at hand, with S = M + dt A in factors (linear/dissection):

    forth   S u_{n+1} = M (u_n + dt s R(u_n)),        n = 0 ... count - 1
    back    S mu = lambda_{n+1},  lambda_n = M (mu + dt s R_u mu),
            dJ/dtheta += dt M s R_theta mu,  and sums of -dt [mu] [u_{n+1}] at the faces
    rates   the largest l - s R_u of every so many cells (see stability.fastest)

`forth` stops after a state that is too large, has moved too far or is due to be looked at, unless
the look finds that all is well (as fused_looks.py, for one species), and says after how many steps.
Both say what a solve with new factors, and every STEPS_CHECKED-th after it, has left over.

Arguments beside the factors' tables and those of fused_looks.py:

    states [n, cell], b, r, mass   u_0 ... and work; M of the cells
    dts, scale                     of the steps; s
    k                              parameters of the reaction, fields or a single number each
    values, axes, checked          see implicit_loops.left_over; [solves so far with these factors,
                                   and of how many one is checked], and `left`: the largest found
    most                           of the sum of squares of a state
    adjoint, mu, g, faces          lambda, mu, and what is added up
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from npde_opt.forward.watch import LEAST, LITTLE, LONGER, MOST
from npde_opt.functions.text import Expressions
from npde_opt.machine_code import Written

LOOPS = "npde_opt.forward.implicit_loops"
TABLES = "starts, rows, L, inverse, fronts, numbers, F, pivots, cells, order, around, w, t, u"
LOOKS = "places, kept, room, sizes, turns, last, rules, every"


@dataclass(frozen=True)
class Loops:
    """The compiled loops."""

    forth: Written
    back: Written
    rates: Written


@functools.lru_cache(maxsize=64)
def loops(expressions: Expressions, fields: tuple[bool, ...]) -> Loops:
    """For the reaction of one species.

    Args:
        fields: which of its parameters are fields.
    """
    writer = _Writer(expressions, fields)
    return Loops(
        Written(
            writer.forth(), "forth", LOOPS, ["solve", "squares", "left_over"], True
        ),
        Written(writer.back(), "back", LOOPS, ["solve", "add_products", "left_over"]),
        Written(writer.rates(), "rates", LOOPS, []),
    )


_CHECKED = """\
        if checked[0] % checked[1] == 0:
            found = left_over(values, axes, {b}, {x}, r)
            left[0] = found if not found <= left[0] else left[0]
        checked[0] += 1"""


@dataclass(frozen=True)
class _Writer:
    expressions: Expressions
    fields: tuple[bool, ...]

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
        code, (slope, *_) = self.expressions.code("jacobian", ["v", *self._names])
        finite = "(h if abs(h) < math.inf else 0.0)"
        return [*self._taken, *code, f"h = {slope}", f"rate = l - s * {finite}"]

    def forth(self) -> str:
        code, (rate,) = self.expressions.code("value", ["v", *self._names])
        body = ["v = here[i]", *self._taken, *code]
        return f"""\
def forth({TABLES}, states, b, r, mass, dts, scale{self._given}, values, axes, checked, left, most,
          {LOOKS}):
    count, size, s = dts.size, b.size, scale[0]
    for n in range(count):
        dt, here, now = dts[n], states[n], states[n + 1]
        for i in range(size):
{_indented(body, 3)}
            b[i] = mass[i] * (v + dt * (s * ({rate})))
        solve({TABLES}, b, now)
{_CHECKED.format(b="b", x="now")}
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
            "top = max(top, rules[0])",
            "if step * top > 2:",
            "    return n + 1",
            "added = max(top - rules[1], 0.0)",
            "share = added / max(2 / step - rules[1], added) if added > 0 else 0.0",
            "later = rules[3]",
            "if later * share**4 > 1:",
            "    later = max(math.floor(share**-4.0), 1.0)",
            f"wide = {MOST!r}",
            "if share > 0:",
            f"    wide = max(min(share**-0.25 - 1, {MOST!r}), {LEAST!r})",
            "sizes[0] = size0",
            f"room[0] = {LITTLE!r} * wide * size0",
            "last[0], last[1] = step, wide",
            "turns[0], turns[1], turns[3] = turns[1], turns[1] + 1, seen",
            "turns[2] = n + 1 + int(later)",
        ]

    def back(self) -> str:
        code, parts = self.expressions.code("pull", ["v", *self._names, "m"])
        body = [
            "v, m = here[i], mu[i]",
            *self._taken,
            *code,
            "weight = dt * s * mass[i]",
        ]
        sums, after = list[str](), list[str]()
        for i, (field, part) in enumerate(zip(self.fields, parts[1:], strict=True)):
            to = f"g{i}[i]" if field else f"a{i}"
            sums.append(f"{to} += weight * ({part})")
            after += [] if field else [f"g{i}[0] += a{i}"]
        before = [f"a{i} = 0.0" for i, field in enumerate(self.fields) if not field]
        given = "".join(f", g{i}" for i in range(len(self.fields)))
        return f"""\
def back({TABLES}, states, adjoint, mu, r, mass, dts, scale{self._given}{given}, faces,
         values, axes, checked, left):
    size, s = mu.size, scale[0]
    for n in range(dts.size - 1, -1, -1):
        dt, here = dts[n], states[n]
        solve({TABLES}, adjoint, mu)
{_CHECKED.format(b="adjoint", x="mu")}
        add_products(mu, states[n + 1], -dt, axes, faces)
{_indented(before, 2)}
        for i in range(size):
{_indented(body, 3)}
            adjoint[i] = mass[i] * m + weight * ({parts[0]})
{_indented(sums, 3)}
{_indented(after, 2)}"""

    def rates(self) -> str:
        body = ["v = here[i]", *self._rate]
        return f"""\
def rates(here, scale, stiffness{self._given}, begin, every, found):
    s, l, top = scale[0], stiffness[0], 0.0
    for i in range(begin[0], here.size, every[0]):
{_indented(body, 2)}
        top = rate if rate > top else top
    found[0] = top"""


def _indented(lines: list[str], depth: int) -> str:
    return "\n".join("    " * depth + line for line in lines)
