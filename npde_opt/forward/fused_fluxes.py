"""D(u) in the text of fused loops (see fused_loops.py), by sweeps over faces before the one over
cells:

    X_f = A_f F(v, s, w ...; theta),        (S u)_i = m_i (X_upper - X_lower)

A area (over M where cells have one volume), F = D(v, |s|, w) s, v and w the means of the species in
the cells a below and b above the face, s = B_f (u_b - u_a) with B one over their distance (see
terms/nonlinear_diffusion.py). Back, with nu = m lambda and what F_v, F_s and F_w are multiplied by,
A_f (nu_a - nu_b), a face gives to

    the cell below   X = v'/2 - B s'        the cell above   Y = v'/2 + B s'
    both, of another species   Z = w'/2     parameters   numbers N, or faces S, times dt

Each face is visited once; X, Y and Z are arrays of faces, one a sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from npde_opt.forward.fused_spread import Cells, Pairs
from npde_opt.functions.text import Expressions


@dataclass(frozen=True)
class Flux:
    """One term.

    Args:
        flux: F in (v, s, w ...) and parameters. diffusivity: D in the same.
        channels: of v and w.
        floor: of v and w, or None.
        fields: which parameters are faces.
    """

    flux: Expressions
    diffusivity: Expressions
    channels: tuple[int, ...]
    floor: float | None
    fields: tuple[bool, ...]

    @property
    def others(self) -> range:
        """Numbers of the other species' means."""
        return range(1, len(self.channels))


@dataclass(frozen=True)
class Fluxes:
    """As a spread (see fused_spread.Spread).

    Args:
        weighted: whether m is a field, with a ghost all round.
    """

    cells: Cells
    terms: tuple[Flux, ...]
    weighted: bool
    padded = True

    @property
    def _dims(self) -> range:
        return range(self.cells.dim)

    def _parameters(self, letter: str) -> list[str]:
        """Arguments with parameters, or with their changes."""
        found = list[str]()
        for j, term in enumerate(self.terms):
            for i, field in enumerate(term.fields):
                name = f"{letter}{j}_{i}"
                found += [f"{name}_{d}" for d in self._dims] if field else [name]
        return found

    @property
    def work(self) -> list[str]:
        """Arguments that are written over."""
        found = list[str]()
        for j, term in enumerate(self.terms):
            for d in self._dims:
                found += [f"X{j}_{d}", f"Y{j}_{d}"]
                found += [f"Z{j}_{k}_{d}" for k in term.others]
        return found

    @property
    def values(self) -> list[str]:
        geometry = [f"{letter}{d}" for letter in "ABO" for d in self._dims]
        return [*geometry, *self._parameters("T"), *self.work]

    @property
    def changes(self) -> list[str]:
        return self._parameters("dT")

    @property
    def sums(self) -> list[str]:
        found = list[str]()
        for j, term in enumerate(self.terms):
            found.append(f"N{j}")
            for i, field in enumerate(term.fields):
                found += [f"S{j}_{i}_{d}" for d in self._dims if field]
        return found

    @property
    def more_sums(self) -> list[str]:
        return []

    # ---- the sweep over cells

    def _samples(self, place: str) -> str:
        """Of a face, for each sample."""
        return ", ".join([place, *self.cells.loops[self.cells.dim :]])

    def forth(self, c: int, field: str) -> str:
        parts = list[str]()
        for j, term in enumerate(self.terms):
            for d in self._dims if term.channels[0] == c else ():
                lower, upper = (self._samples(self.cells.face(d, by)) for by in (0, 1))
                parts.append(f"X{j}_{d}[{upper}] - X{j}_{d}[{lower}]")
        total = " + ".join(parts)
        if parts and self.weighted:
            return f"m[{self.cells.padded(samples=False)}] * ({total})"
        return total

    def back(self, c: int, field: str) -> str:
        parts = list[str]()
        for j, term in enumerate(self.terms):
            for k, channel in enumerate(term.channels):
                for d in self._dims if channel == c else ():
                    lower, upper = (
                        self._samples(self.cells.face(d, by)) for by in (0, 1)
                    )
                    below, above = ("X", "Y") if k == 0 else ("Z", "Z")
                    own = f"{j}_{d}" if k == 0 else f"{j}_{k}_{d}"
                    parts += [f"{below}{own}[{upper}]", f"{above}{own}[{lower}]"]
        return " + ".join(parts)

    def forth_change(self, c: int, field: str) -> str:
        """In `forth` already."""
        return ""

    def back_change(self, c: int, field: str) -> str:
        return ""

    def start(self) -> list[str]:
        return []

    def start_changes(self) -> list[str]:
        return []

    def before(self) -> list[str]:
        return []

    def gathered(self, c: int, pairs: Pairs, to: str) -> list[str]:
        return []

    def after(self) -> list[str]:
        return []

    def ends(self, pairs: Pairs, to: str) -> list[str]:
        return []

    # ---- the sweeps over faces

    def passes(self, kind: str) -> list[str]:
        lines = list[str]()
        for j in range(len(self.terms)):
            for d in self._dims:
                if kind in ("step", "push"):
                    lines += self._forward(j, d, kind)
                else:
                    lines += self._backward(j, d, kind)
        return lines

    def _forward(self, j: int, d: int, kind: str) -> list[str]:
        term, change = self.terms[j], list[str]()
        if kind == "step":
            code, (found,) = term.flux.code("value", self._names(j))
        else:
            code, (found,) = term.flux.code(
                "push", [*self._names(j), *self._directions(j)]
            )
            change = self._change(j, d, "t")
        kept = f"X{j}_{d}[{self.cells.here}] = fa * ({found}) if fa > 0.0 else 0.0"
        return self._over_faces(d, [*self._around(j, d, "p"), *change, *code, kept])

    def _backward(self, j: int, d: int, kind: str) -> list[str]:
        term, field, change = self.terms[j], "u", list[str]()
        names = [*self._names(j), "fw"]
        given = "p" if kind == "back" else "t"
        code, parts = term.flux.code("pull", names)
        rates = [*code, *(f"fp{i} = {text}" for i, text in enumerate(parts))]
        if kind == "twice":
            # The names of `code` are used again.
            again = [*self._names(j), "fx", *self._directions(j)]
            code, parts = term.flux.code("second", again)
            rates += [*code, *(f"fp{i} += {text}" for i, text in enumerate(parts))]
            change = [*self._change(j, d, "e"), self._weight("fx", j, d, "p")]
        body = [
            *self._around(j, d, field),
            *change,
            self._weight("fw", j, d, given),
            *rates,
            *(f"fp{i} = fp{i} if fa > 0.0 else 0.0" for i in range(len(parts))),
            *self._kept(j, d),
        ]
        numbers = [i for i, own in enumerate(term.fields) if not own]
        return self._over_faces(
            d,
            [*body, *self._added(j, d)],
            before=[f"fn{i} = 0.0" for i in numbers],
            after=[f"N{j}[{i}] += dt * fn{i}" for i in numbers],
        )

    def _over_faces(
        self,
        d: int,
        body: Sequence[str],
        before: Sequence[str] = (),
        after: Sequence[str] = (),
    ) -> list[str]:
        """Loops over the faces normal to axis d, which are one more along it than cells."""
        loops, lines = self.cells.loops, list[str]()
        for depth, i in enumerate(loops):
            indent = "    " * depth
            if i == loops[-1]:
                lines += [indent + line for line in before]
            more = " + 1" if depth == d else ""
            lines.append(f"{indent}for {i} in range(size{depth}{more}):")
        lines += ["    " * len(loops) + line for line in body]
        return lines + ["    " * (len(loops) - 1) + line for line in after]

    def _sides(self, d: int) -> tuple[str, str]:
        """Of the cells below and above a face."""
        return self.cells.padded(d, -1), self.cells.padded()

    def _names(self, j: int) -> list[str]:
        """Of F's arguments."""
        term = self.terms[j]
        means = [f"fv{k}" for k in term.others]
        return ["fv0", "fs", *means, *(f"ft{i}" for i in range(len(term.fields)))]

    def _directions(self, j: int) -> list[str]:
        term = self.terms[j]
        means = [f"gv{k}" for k in term.others]
        return ["gv0", "gs", *means, *(f"gt{i}" for i in range(len(term.fields)))]

    def _given(self, letter: str, to: str, j: int, d: int) -> list[str]:
        """Lines that take the parameters of a face, or their changes."""
        lines = list[str]()
        for i, field in enumerate(self.terms[j].fields):
            name = f"{letter}{j}_{i}"
            value = f"{name}_{d}[{self.cells.cell}]" if field else name
            lines.append(f"{to}{i} = {value}")
        return lines

    def _around(self, j: int, d: int, field: str) -> list[str]:
        """Lines with the area fa and F's arguments of a state. fm: whether means move with their
        species."""
        term, (below, above) = self.terms[j], self._sides(d)
        lines = [f"fa = A{d}[{self.cells.cell}]"]
        for k, c in enumerate(term.channels):
            mean = f"({field}{c}[{below}] + {field}{c}[{above}]) * 0.5"
            lines += [f"fv{k} = {mean}", f"fm{k} = 1.0"]
            if term.floor is not None:
                # What is no number stays none.
                lines[-1] = f"fm{k} = 1.0 if fv{k} >= {term.floor!r} else 0.0"
                lowest = f"{term.floor!r} if fv{k} < {term.floor!r} else fv{k}"
                lines.append(f"fv{k} = {lowest}")
        own = f"{field}{term.channels[0]}"
        lines.append(f"fs = ({own}[{above}] - {own}[{below}]) * B{d}[i{d}]")
        return [*lines, *self._given("T", "ft", j, d)]

    def _change(self, j: int, d: int, field: str) -> list[str]:
        """Lines with the change of F's arguments."""
        term, (below, above) = self.terms[j], self._sides(d)
        lines = [
            f"gv{k} = fm{k} * ({field}{c}[{below}] + {field}{c}[{above}]) * 0.5"
            for k, c in enumerate(term.channels)
        ]
        own = f"{field}{term.channels[0]}"
        lines.append(f"gs = ({own}[{above}] - {own}[{below}]) * B{d}[i{d}]")
        return [*lines, *self._given("dT", "gt", j, d)]

    def _weight(self, to: str, j: int, d: int, adjoint: str) -> str:
        """A line with A (nu_a - nu_b)."""
        field, parts = f"{adjoint}{self.terms[j].channels[0]}", list[str]()
        for by in (-1, 0):
            value = f"{field}[{self.cells.padded(d, by)}]"
            weight = f"m[{self.cells.padded(d, by, samples=False)}] * "
            parts.append(f"{weight}{value}" if self.weighted else value)
        return f"{to} = fa * ({' - '.join(parts)})"

    def _kept(self, j: int, d: int) -> list[str]:
        """Lines that store what a face gives to cells."""
        term, here = self.terms[j], self.cells.here
        lines = ["fh = fm0 * fp0 * 0.5", f"fb = fp1 * B{d}[i{d}]"]
        lines += [f"X{j}_{d}[{here}] = fh - fb", f"Y{j}_{d}[{here}] = fh + fb"]
        others = [
            f"Z{j}_{k}_{d}[{here}] = fm{k} * fp{k + 1} * 0.5" for k in term.others
        ]
        return [*lines, *others]

    def _added(self, j: int, d: int) -> list[str]:
        """Lines that add to the parameters' sums; of numbers, this rank's share O of faces."""
        term, lines = self.terms[j], list[str]()
        first = len(term.channels) + 1
        for i, field in enumerate(term.fields):
            part = f"fp{first + i}"
            if field:
                lines.append(f"S{j}_{i}_{d}[{self.cells.cell}] += dt * {part}")
            else:
                lines.append(f"fn{i} += O{d}[i{d}] * {part}")
        return lines

    # ---- what limits of steps ask of a state

    def extremes(self) -> list[str]:
        """Lines that find by term, in found[j], the smallest and largest D (NaN where one is no
        number) and Gershgorin's bound of S, of the term's own species."""
        lines = list[str]()
        for j, term in enumerate(self.terms):
            names = [*self._names(j), "fw"]
            code, parts = term.flux.code("pull", names)
            slopes = [f"fp{i} = {parts[i]}" for i in (0, 1)]
            own = dict(zip(term.flux.parameters, range(len(term.fields)), strict=True))
            read = [f"ft{own[n]}" for n in term.diffusivity.parameters]
            state = self._names(j)[: len(term.channels) + 1]
            more, (D,) = term.diffusivity.code("value", [*state, *read])
            lines += ["low = math.inf", "high = -math.inf", "wrong = 0"]
            for d in self._dims:
                kept = self._kept(j, d)[:4]
                body = [*self._around(j, d, "p"), "fw = fa", *code, *slopes]
                body += [f"fp{i} = fp{i} if fa > 0.0 else 0.0" for i in (0, 1)]
                seen = [
                    f"fd = {D}",
                    "if fa > 0.0:",
                    "    low = fd if fd < low else low",
                    "    high = fd if fd > high else high",
                    "    wrong += 0 if fd == fd else 1",
                ]
                lines += self._over_faces(d, [*body, *kept, *more, *seen])
            lines += ["top = 0.0", "lost = 0"]
            lines += self._over_cells(self._rows(j))
            lines += [
                f"found[{j}, 0] = low if wrong == 0 else math.nan",
                f"found[{j}, 1] = high if wrong == 0 else math.nan",
                f"found[{j}, 2] = top if lost == 0 else math.inf",
            ]
        return lines

    def _over_cells(self, body: Sequence[str]) -> list[str]:
        lines = [
            "    " * depth + f"for {i} in range(size{depth}):"
            for depth, i in enumerate(self.cells.loops)
        ]
        return lines + ["    " * len(lines) + line for line in body]

    def _rows(self, j: int) -> list[str]:
        """Lines with the sum of a row's sizes."""
        centre, beside = list[str](), list[str]()
        for d in self._dims:
            lower, upper = (self._samples(self.cells.face(d, by)) for by in (0, 1))
            centre += [f"Y{j}_{d}[{lower}]", f"-X{j}_{d}[{upper}]"]
            beside += [f"abs(X{j}_{d}[{lower}])", f"abs(Y{j}_{d}[{upper}])"]
        row = f"abs({' + '.join(centre)}) + {' + '.join(beside)}"
        scale = f"m[{self.cells.padded(samples=False)}] * " if self.weighted else ""
        return [
            f"row = {scale}({row})",
            "top = row if row > top else top",
            "lost += 0 if row == row else 1",
        ]
