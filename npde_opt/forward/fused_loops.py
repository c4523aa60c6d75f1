"""The loops of fused steps, written for the kinetics at hand and compiled:

    step     x = u + dt (S u + s R(u; theta)),                    S u = -A u / M
    push     x = du + dt (S du + dS u + s (R_u du + R_theta dtheta))
    back     x = lambda + dt (S^T lambda + s R_u^T lambda),       sums += r_k^T nu
    twice    the derivative of `back` along (du, dk)

All arrays have the slowest axis first. Arguments, by first letter and number:

    p, t     a state and its change, or an adjoint and its change, with ghosts all round
    u, e     of backward loops: a state and its change; with ghosts where the spread asks for them
    o        the result
    k, d     parameters of the kinetics and their changes, numbers or fields
    g        sums of fields' cotangents; `sums`: of the numbers'
    squares  to which the result's sum of squares is added
    the rest belongs to the spread (see fused_spread.py)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from npde_opt.compiling import compiled_source
from npde_opt.forward.fused_spread import Cells, Spread
from npde_opt.functions.text import Expressions


@dataclass(frozen=True)
class Loops:
    """Writes the loops.

    Args:
        fields: which parameters of the kinetics are fields.
        masked: whether s is a field, which is 0 in inactive cells, where rates need not be finite.
    """

    expressions: Expressions
    fields: tuple[bool, ...]
    spread: Spread
    cells: Cells
    masked: bool

    @property
    def species(self) -> range:
        return range(len(self.expressions.outputs))

    @property
    def own(self) -> list[int]:
        """Parameters that are fields."""
        return [i for i, field in enumerate(self.fields) if field]

    @property
    def added(self) -> list[int]:
        """Parameters whose cotangents are added up along the fastest loop."""
        scalars = [i for i, field in enumerate(self.fields) if not field]
        return [*scalars, *(self.own if self.cells.columns else [])]

    def named(self, letter: str) -> list[str]:
        """One name a species."""
        return [f"{letter}{c}" for c in self.species]

    def numbered(self, letter: str) -> list[str]:
        """One name a parameter."""
        return [f"{letter}{i}" for i in range(len(self.fields))]

    @property
    def parameters(self) -> list[str]:
        """Lines that take those of the cell."""
        cell = self.cells.cell
        return [
            f"q{i} = k{i}" + f"[{cell}]" * field for i, field in enumerate(self.fields)
        ]

    @property
    def directions(self) -> list[str]:
        cell = self.cells.cell
        return [
            f"r{i} = d{i}" + f"[{cell}]" * field for i, field in enumerate(self.fields)
        ]

    def loaded(self, to: str, of: str, padded: bool) -> list[str]:
        """Lines that take the cell's values."""
        at = self.cells.padded() if padded else self.cells.here
        return [f"{to}{c} = {of}{c}[{at}]" for c in self.species]

    def reacted(self, text: str) -> str:
        """s times a rate."""
        if not self.masked:
            return f"s * ({text})"
        s = f"s[{self.cells.cell}]"
        return f"({s} * ({text}) if {s} != 0.0 else 0.0)"

    def function(
        self,
        name: str,
        arguments: Sequence[str],
        body: Sequence[str],
        before: Sequence[str] = (),
        after: Sequence[str] = (),
        end: Sequence[str] = (),
    ) -> str:
        """A definition: `before` and `after` the fastest loop, and at the end of all."""
        loops = self.cells.loops
        lines = [f"def {name}({', '.join(arguments)}):"]
        for d, i in enumerate(loops):
            indent = "    " * (d + 1)
            if i == loops[-1]:
                lines += [indent + line for line in before]
            lines.append(f"{indent}for {i} in range(o0.shape[{d}]):")
        lines += ["    " * (len(loops) + 1) + line for line in body]
        lines += ["    " * len(loops) + line for line in after]
        lines += ["    " + line for line in end]
        return "\n".join(lines)

    def step(self) -> str:
        code, rates = self.expressions.code(
            "value", [*self.named("v"), *self.numbered("q")]
        )
        here = self.cells.here
        moved = [
            f"x{c} = v{c} + dt * ({self.spread.forth(c, f'p{c}')} + {self.reacted(rates[c])})"
            for c in self.species
        ]
        kept = [f"o{c}[{here}] = x{c}" for c in self.species]
        squares = [f"a += x{c} * x{c}" for c in self.species]
        given = [*self.named("p"), *self.named("o"), *self.numbered("k")]
        return self.function(
            "step",
            [*given, "dt", "s", *self.spread.values, "squares"],
            [
                *self.loaded("v", "p", True),
                *self.parameters,
                *code,
                *moved,
                *kept,
                *squares,
            ],
            before=["a = 0.0"],
            after=["squares[0] += a"],
        )

    def push(self) -> str:
        names = [
            *self.named("v"),
            *self.numbered("q"),
            *self.named("m"),
            *self.numbered("r"),
        ]
        code, rates = self.expressions.code("push", names)
        moved = []
        for c in self.species:
            spread = f"{self.spread.forth(c, f't{c}')} + {self.spread.forth_change(c, f'p{c}')}"
            total = f"m{c} + dt * ({spread} + {self.reacted(rates[c])})"
            moved.append(f"o{c}[{self.cells.here}] = {total}")
        loaded = [*self.loaded("v", "p", True), *self.loaded("m", "t", True)]
        given = [*self.named("p"), *self.named("t"), *self.named("o")]
        parameters = [*self.numbered("k"), *self.numbered("d")]
        rest = [*self.spread.changes, "dt", "s", *self.spread.values]
        body = [*loaded, *self.parameters, *self.directions, *code, *moved]
        return self.function("push", [*given, *parameters, *rest], body)

    def back(self) -> str:
        names = [*self.named("v"), *self.numbered("q"), *self.named("m")]
        code, parts = self.expressions.code("pull", names)
        pairs = [("p", "u")]
        moved, gathered = [], list[str]()
        for c in self.species:
            total = f"m{c} + dt * ({self.spread.back(c, f'p{c}')} + {self.reacted(parts[c])})"
            moved.append(f"f{c} = {total}")
            gathered += self.spread.gathered(c, pairs, "P")
        cotangents = [self.reacted(p) for p in parts[len(self.species) :]]
        loaded = [
            *self.loaded("v", "u", self.spread.padded),
            *self.loaded("m", "p", True),
        ]
        given = [
            *self.named("u"),
            *self.named("p"),
            *self.named("o"),
            *self.numbered("k"),
        ]
        rest = [*self.spread.sums, "sums", "dt", "s", *self.spread.values]
        added = self._added(cotangents)
        return self.function(
            "back",
            [*given, *(f"g{i}" for i in self.own), *rest],
            [
                *loaded,
                *self.parameters,
                *code,
                *moved,
                *gathered,
                *added,
                *self._kept(),
            ],
            before=self._before(),
            after=self._after(),
            end=self.spread.ends(pairs, "P"),
        )

    def twice(self) -> str:
        pulled, first = self.expressions.code(
            "pull", [*self.named("v"), *self.numbered("q"), *self.named("x")]
        )
        multiplied = [*self.named("m"), *self.named("n"), *self.numbered("r")]
        code, parts = self.expressions.code(
            "second", [*self.named("v"), *self.numbered("q"), *multiplied]
        )
        # The names of `pulled` are used again in `code`.
        rates = [*pulled, *(f"y{i} = {text}" for i, text in enumerate(first))]
        rates += [*code, *(f"y{i} += {text}" for i, text in enumerate(parts))]
        pairs, both = [("p", "u")], [("t", "u"), ("p", "e")]
        moved, gathered = [], list[str]()
        for c in self.species:
            spread = f"{self.spread.back(c, f't{c}')} + {self.spread.back_change(c, f'p{c}')}"
            total = f"x{c} + dt * ({spread} + {self.reacted(f'y{c}')})"
            moved.append(f"f{c} = {total}")
            gathered += self.spread.gathered(c, both, "P")
            gathered += (
                self.spread.gathered(c, pairs, "Q") if self.spread.more_sums else []
            )
        count = len(self.species)
        cotangents = [self.reacted(f"y{count + i}") for i in range(len(self.fields))]
        states = self.spread.padded
        loaded = [*self.loaded("v", "u", states), *self.loaded("n", "e", states)]
        loaded += [*self.loaded("m", "p", True), *self.loaded("x", "t", True)]
        given = [name for letter in "uepto" for name in self.named(letter)]
        parameters = [
            *self.numbered("k"),
            *self.numbered("d"),
            *(f"g{i}" for i in self.own),
        ]
        sums = [*self.spread.sums, *self.spread.more_sums, "sums", *self.spread.changes]
        body = [*loaded, *self.parameters, *self.directions, *rates, *moved, *gathered]
        ends = self.spread.ends(both, "P")
        ends += self.spread.ends(pairs, "Q") if self.spread.more_sums else []
        return self.function(
            "twice",
            [*given, *parameters, *sums, "dt", "s", *self.spread.values],
            [*body, *self._added(cotangents), *self._kept()],
            before=self._before(),
            after=self._after(),
            end=ends,
        )

    def _kept(self) -> list[str]:
        """Results are stored last, so that nothing has to be read again."""
        return [f"o{c}[{self.cells.here}] = f{c}" for c in self.species]

    def _before(self) -> list[str]:
        return [*self.spread.before(), *(f"b{i} = 0.0" for i in self.added)]

    def _added(self, cotangents: Sequence[str]) -> list[str]:
        """Of the kinetics' parameters, in a cell."""
        here = self.cells.here
        fields = [] if self.cells.columns else self.own
        kept = [f"g{i}[{here}] += dt * {cotangents[i]}" for i in fields]
        return [*kept, *(f"b{i} += {cotangents[i]}" for i in self.added)]

    def _after(self) -> list[str]:
        fields = self.own if self.cells.columns else []
        scalars = [i for i in self.added if i not in fields]
        return [
            *self.spread.after(),
            *(f"g{i}[{self.cells.cell}] += dt * b{i}" for i in fields),
            *(f"sums[{i}] += dt * b{i}" for i in scalars),
        ]


@functools.lru_cache(maxsize=64)
def kernels(
    expressions: Expressions,
    fields: tuple[bool, ...],
    spread: Spread,
    cells: Cells,
    masked: bool,
) -> tuple[Callable[..., None], ...]:
    """step, push, back, twice."""
    loops = Loops(expressions, fields, spread, cells, masked)
    texts = {
        "step": loops.step(),
        "push": loops.push(),
        "back": loops.back(),
        "twice": loops.twice(),
    }
    return tuple(compiled_source(text, name) for name, text in texts.items())
