"""The loops of fused steps, written for the kinetics at hand and compiled:

    step     x = u + dt (S u + s R(u; theta)),                    S u = -A u / M
    push     x = du + dt (S du + dS u + s (R_u du + R_theta dtheta))
    back     x = lambda + dt (S^T lambda + s R_u^T lambda),       sums += r_k^T nu
    twice    the derivative of `back` along (du, dk)

    rates    the fastest rates of R beside S (see stability.py); `sampled`: of some cells

All arrays have the slowest axis first. Arguments, by letter and number:

    shape    the number of cells by axis, and that of samples
    p, t     a state and its change, or an adjoint and its change, with ghosts all round
    u, e     of backward loops: a state and its change, which need ghosts where the spread says so
    o        the result, in an array with ghosts
    k, d     parameters of the kinetics and their changes, numbers or fields
    g        sums of fields' cotangents; `sums`: of the numbers'
    found    gets the result's sum of squares
    the rest belongs to the spread (see fused_spread.py)

States are [c, k, j, i], species by species p0 = p[0], p1 = p[1] ...
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from npde_opt.compiling import compiled_source
from npde_opt.forward import fused_looks, fused_ranks, fused_runs, fused_waves
from npde_opt.forward.fused_runs import Run, indented
from npde_opt.forward.fused_spread import Cells
from npde_opt.forward.fused_together import Together
from npde_opt.functions.text import Expressions

STATES = ("p", "t", "u", "e", "o")
"""Arguments of all species, which are taken apart."""


@dataclass(frozen=True)
class Loops:
    """Writes the loops.

    Args:
        fields: which parameters of the kinetics are fields.
        masked: whether s is a field, which is 0 in inactive cells, where rates need not be finite.
        several: whether the loops are for several ranks (see fused_ranks.py).
    """

    expressions: Expressions
    fields: tuple[bool, ...]
    spread: Together
    cells: Cells
    masked: bool
    several: bool = False

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

    def loaded(self, to: str, of: str) -> list[str]:
        """Lines that take the cell's values."""
        return [f"{to}{c} = {of}{c}[{self.cells.padded()}]" for c in self.species]

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
        start: Sequence[str] = (),
        before: Sequence[str] = (),
        after: Sequence[str] = (),
        end: Sequence[str] = (),
        sampled: bool = False,
        run: Run | None = None,
    ) -> str:
        """A definition: `before` and `after` the fastest loop, and at the start and end of all.

        `sampled`: every so many cells only, from the one of number `begin` on. `run`: of many
        steps.
        """
        states = [a for a in arguments if a in STATES]
        each = run.states if run is not None else {a: a for a in states}
        taken = [f"{a}{c} = {each[a]}[{c}]" for a in states for c in self.species]
        loops = body, before, after
        if run is not None and run.first is not None and self.spread.passes(name):
            # Sweeps over faces need all ghosts.
            waits = [*run.first, *run.others]
            lines = [*taken, *waits, *start, *self._over_cells(*loops), *end]
        elif run is not None and run.first is not None:
            parts = self._over_parts(*loops, run.others)
            lines = [*taken, *run.first, *start, *parts, *end]
        else:
            lines = [*taken, *start, *self._over_cells(*loops, sampled), *end]
        if run is not None:
            steps = [*run.before, *lines, *run.after]
            lines = [*run.start, "for n in range(count):", *indented(steps), *run.end]
        head = f"def {name}({', '.join(['shape', *arguments])}):"
        return "\n".join([head, *indented([*self._shape(), *lines])])

    def _shape(self) -> list[str]:
        """Lines with the number of cells by axis, and that of samples."""
        return [f"size{d} = shape[{d}]" for d in range(len(self.cells.loops))]

    def _over_cells(
        self,
        body: Sequence[str],
        before: Sequence[str] = (),
        after: Sequence[str] = (),
        sampled: bool = False,
    ) -> list[str]:
        """The loops of a definition."""
        loops, lines = self.cells.loops, list[str]()
        for d, i in enumerate(loops):
            indent = "    " * d
            over = f"size{d}"
            if i == loops[-1]:
                lines += [indent + line for line in before]
                if sampled:
                    row = "0"
                    for e, outer in enumerate(loops[:-1]):
                        row = f"({row} * size{e} + {outer})"
                    lines.append(f"{indent}skipped = (begin - {row} * size{d}) % every")
                    over = f"skipped, size{d}, every"
            lines.append(f"{indent}for {i} in range({over}):")
        lines += ["    " * len(loops) + line for line in body]
        lines += ["    " * (len(loops) - 1) + line for line in after]
        return lines

    def _over_parts(
        self,
        body: Sequence[str],
        before: Sequence[str],
        after: Sequence[str],
        waits: Sequence[str],
    ) -> list[str]:
        """The loops of a definition, over the parts of the own cells: others than the first one
        begin when that is done and messages are there."""
        loops = self._over_cells(body, before, after)
        for d in range(self.cells.dim - 1):
            whole = f"for i{d} in range(size{d}):"
            cut = f"for i{d} in range(parts[part, {d}, 0], parts[part, {d}, 1]):"
            loops = [line.replace(whole, cut) for line in loops]
        waiting = ["if part == 1:", *indented(waits)] if waits else []
        return ["for part in range(len(parts)):", *indented([*waiting, *loops])]

    def _stepped(self) -> list[str]:
        """A cell's step, from p to o, and its square."""
        code, rates = self.expressions.code(
            "value", [*self.named("v"), *self.numbered("q")]
        )
        here = self.cells.padded()
        moved = [
            f"x{c} = v{c} + dt * ({self.spread.forth(c, f'p{c}')} + {self.reacted(rates[c])})"
            for c in self.species
        ]
        kept = [f"o{c}[{here}] = x{c}" for c in self.species]
        squares = [f"a += x{c} * x{c}" for c in self.species]
        loaded = [*self.loaded("v", "p"), *self.parameters]
        return [*loaded, *code, *moved, *kept, *squares]

    def step(self) -> str:
        given = ["p", "o", "first", "count", *self.numbered("k")]
        rest = ["dts", "s", *self.spread.values, *fused_runs.ENDING]
        rest += [*fused_ranks.GHOSTS, *fused_ranks.AGREED] if self.several else []
        runs = fused_ranks if self.several else fused_runs
        return self.function(
            "step",
            [*given, *rest, "found"],
            self._stepped(),
            start=[*self.spread.start(), *self.spread.passes("step"), "total = 0.0"],
            before=["a = 0.0"],
            after=["total += a"],
            run=runs.forth(self.cells, self._look()),
        )

    @property
    def waves(self) -> bool:
        """Whether several steps can go in one sweep."""
        cells = self.cells
        alone = not self.several and not cells.columns and cells.dim > 1
        return alone and not self.spread.passes("step")

    def wave(self) -> str:
        """Of steps that need nothing but their neighbours' values (see fused_waves.py)."""
        given = ["p", "o", "at", "count", *self.numbered("k"), "dts", "s"]
        given += [*self.spread.values, *fused_runs.ENDING, *fused_waves.Waves._fields]
        # Without the slowest loop.
        loops = self._over_cells(
            self._stepped(), ["a = 0.0"], [fused_waves.kept(self.cells)]
        )
        slab = [line.removeprefix("    ") for line in loops[1:]]
        taken = [
            f"{letter}{c} = {state}[{c}]"
            for letter, state in (("p", "here"), ("o", "now"))
            for c in self.species
        ]
        start = [*taken, *self.spread.start()]
        whole = fused_waves.lines(self.cells, start, slab, self._look())
        head = f"def wave({', '.join(['shape', *given, 'found'])}):"
        return "\n".join([head, *indented([*self._shape(), *whole])])

    def _look(self) -> list[str]:
        """At the rates of a sample, between two steps."""
        body = [*self.rate, *fused_looks.kept(self.cells, self.species)]
        loops = self._over_cells(body, sampled=True)
        loops += fused_ranks.looked() if self.several else []
        taken = [f"p{c} = now[{c}]" for c in self.species]
        return fused_looks.look([*taken, *self.stiffness, *loops], self.species)

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
            moved.append(f"o{c}[{self.cells.padded()}] = {total}")
        loaded = [*self.loaded("v", "p"), *self.loaded("m", "t")]
        parameters = [*self.numbered("k"), *self.numbered("d")]
        rest = [*self.spread.changes, "dt", "s", *self.spread.values]
        body = [*loaded, *self.parameters, *self.directions, *code, *moved]
        start = [*self.spread.start(), *self.spread.start_changes()]
        start += self.spread.passes("push")
        return self.function("push", ["p", "t", "o", *parameters, *rest], body, start)

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
        loaded = [*self.loaded("v", "u"), *self.loaded("m", "p")]
        given = ["u", "p", "o", "first", "count", *self.numbered("k")]
        rest = [*self.spread.sums, "sums", "dts", "s", *self.spread.values]
        added = self._added(cotangents)
        ghosts = fused_ranks.GHOSTS if self.several else ()
        runs = fused_ranks if self.several else fused_runs
        return self.function(
            "back",
            [*given, *(f"g{i}" for i in self.own), *rest, "edges", "halves", *ghosts],
            [
                *loaded,
                *self.parameters,
                *code,
                *moved,
                *gathered,
                *added,
                *self._kept(),
            ],
            start=[*self.spread.start(), *self.spread.passes("back")],
            before=self._before(),
            after=self._after(),
            end=self.spread.ends(pairs, "P"),
            run=runs.back(self.cells),
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
        loaded = [*self.loaded("v", "u"), *self.loaded("n", "e")]
        loaded += [*self.loaded("m", "p"), *self.loaded("x", "t")]
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
            [*"uepto", *parameters, *sums, "dt", "s", *self.spread.values],
            [*body, *self._added(cotangents), *self._kept()],
            start=[
                *self.spread.start(),
                *self.spread.start_changes(),
                *self.spread.passes("twice"),
            ],
            before=self._before(),
            after=self._after(),
            end=ends,
        )

    @property
    def rate(self) -> list[str]:
        """Lines that find the `rate` of a cell."""
        code, entries = self.expressions.code(
            "jacobian", [*self.named("v"), *self.numbered("q")]
        )
        slopes = []
        for number, (c, d) in enumerate(itertools.product(self.species, repeat=2)):
            slopes.append(f"h = {entries[number]}")
            finite = "(h if abs(h) < math.inf else 0.0)"
            slopes.append(f"j{c}_{d} = {self.reacted(f'-{finite}')}")
        loaded = [*self.loaded("v", "p"), *self.parameters]
        return [*loaded, *code, *slopes, *self._fastest()]

    @property
    def stiffness(self) -> list[str]:
        """Lines that take the species' own rates."""
        return [f"l{c} = stiffness[{c}]" for c in self.species]

    def rates(self, sampled: bool) -> str:
        """Of all cells, or of every so many: the largest found so far at each place of a row, in
        `most`."""
        last = self.cells.loops[-1]
        kept = f"most[{last}] = rate if rate > most[{last}] else most[{last}]"
        given = ["p", *self.numbered("k"), "s", "stiffness", "turn"]
        return self.function(
            "sampled" if sampled else "rates",
            [*given, *(["begin", "every"] if sampled else []), "most"],
            [*self.rate, kept],
            start=self.stiffness,
            sampled=sampled,
        )

    def _fastest(self) -> list[str]:
        """Lines with the `rate` of a cell, from j = -J."""
        count = len(self.species)
        if count == 1:
            return ["rate = l0 + j0_0"]
        if count == 2:
            return [
                "product = j0_1 * j1_0",
                *self._turning("slow", "j0_0", "j1_1"),
                *self._turning("fast", "(j0_0 + l0)", "(j1_1 + l1)"),
                "rate = slow if slow > fast else fast",
            ]
        lines = ["rate = 0.0"]
        for c in self.species:
            beside = [
                f"math.sqrt(abs(j{c}_{d})) * math.sqrt(abs(j{d}_{c}))"
                for d in self.species
                if d != c
            ]
            lines += [
                f"beside = {' + '.join(beside)}",
                f"rate = max(rate, l{c} + j{c}_{c} + beside, turn * beside)",
            ]
        return lines

    def extremes(self) -> str:
        """Of terms that depend on the state between cells (see fused_fluxes.py)."""
        lines = self.spread.extremes()
        arguments = ", ".join(["shape", "p", *self.spread.values, "found"])
        head = f"def extremes({arguments}):"
        taken = [f"p{c} = p[{c}]" for c in self.species]
        return "\n".join([head, *indented([*self._shape(), *taken, *lines])])

    @staticmethod
    def _turning(name: str, a: str, d: str) -> list[str]:
        """Of the eigenvalues of a matrix with a and d on its diagonal: 2 over the longest step."""
        return [
            f"half = ({a} + {d}) / 2",
            f"square = (({a} - {d}) / 2) ** 2 + product",
            "root = math.sqrt(abs(square))",
            "damped = half + root * root / half if half > 0.0 else math.inf",
            "turned = turn * root",
            "turned = turned if turned < damped else damped",
            f"{name} = half + root if square >= 0.0 else turned",
        ]

    def _kept(self) -> list[str]:
        """Results are stored last, so that nothing has to be read again."""
        return [f"o{c}[{self.cells.padded()}] = f{c}" for c in self.species]

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


@dataclass(frozen=True)
class Kernels:
    """The compiled loops."""

    step: Callable[..., int]
    push: Callable[..., None]
    back: Callable[..., int]
    twice: Callable[..., None]
    rates: Callable[..., None]
    sampled: Callable[..., None]
    extremes: Callable[..., None]
    wave: Callable[..., int] | None = None


@functools.lru_cache(maxsize=64)
def kernels(
    expressions: Expressions,
    fields: tuple[bool, ...],
    spread: Together,
    cells: Cells,
    masked: bool,
    several: bool = False,
) -> Kernels:
    loops = Loops(expressions, fields, spread, cells, masked, several)
    texts = {
        "step": loops.step(),
        "push": loops.push(),
        "back": loops.back(),
        "twice": loops.twice(),
        "rates": loops.rates(sampled=False),
        "sampled": loops.rates(sampled=True),
        "extremes": loops.extremes(),
    }
    if loops.waves:
        texts["wave"] = loops.wave()
    with_messages = fused_ranks.imports() if several else ""
    imports = dict.fromkeys(("step", "back"), with_messages)
    return Kernels(
        **{
            name: compiled_source(text, name, imports.get(name, ""))
            for name, text in texts.items()
        }
    )
