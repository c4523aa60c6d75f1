"""The terms of a case on a grid, their known coefficients, and the names that they use."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from npde_opt import terms as kinds
from npde_opt.aliases import Plain
from npde_opt.cases import term_tables as tables
from npde_opt.cases.domain import Domain
from npde_opt.cases.experiment_tables import SideValue
from npde_opt.cases.field_tables import File
from npde_opt.cases.fields import evaluate_part
from npde_opt.cases.learned import functions
from npde_opt.cases.parts import Part
from npde_opt.cases.patches import patch
from npde_opt.cases.quantities import where
from npde_opt.cases.rules import histories, sides
from npde_opt.cases.sections import CaseFile
from npde_opt.errors import InputError
from npde_opt.functions.text import Expressions, gamma_of
from npde_opt.grids import AXES, Grid
from npde_opt.registry import registered
from npde_opt.terms import Diffusion, Source
from npde_opt.terms.boundary import TIME
from npde_opt.terms.interface import LinearTerm, Term


class Terms:
    """Those of a case on one grid.

    Args:
        truth: unknown functions are the true ones (see learned.py).

    Attributes:
        terms: in the case's order.
        storage: the name of S or text in coefficients, or None.
        functions: that texts may call.
        known: coefficients by name: owned arrays [i, j, k] of fields, arrays () of numbers.
    """

    def __init__(
        self, table: CaseFile, domain: Domain, grid: Grid, truth: bool = False
    ):
        self.table, self.domain, self.grid = table, domain, grid
        self.functions = functions(table, truth)
        self.species = tuple(table.equation.species)
        self.gamma = gamma_of("equation.gamma", table.equation.gamma or 1.0)
        self.known = {
            name: self._known(name, spec) for name, spec in table.equation.known.items()
        }
        self.storage = self._storage()
        self.terms = [
            self._placed_term(f"equation.terms[{i}]", t)
            for i, t in enumerate(table.equation.terms)
        ]

    def _storage(self) -> str | None:
        """A number and a field have a name of their own."""
        given = self.table.equation.storage
        if given is None or isinstance(given, str):
            return given
        name = "equation_storage"
        while name in self.table.equation.known:
            name += "_"
        self.known[name] = self._placed("equation.storage", given)
        return name

    def _known(self, name: str, spec: Plain) -> np.ndarray:
        return self._placed(f"equation.known.{name}", spec)

    def _placed(self, field: str, spec: Plain) -> np.ndarray:
        """A number as an array (), a field's owned cells [i, j, k]."""
        if isinstance(spec, int | float):
            return np.asarray(float(spec))
        return evaluate_part(field, spec, Part.of(self.grid), self.domain.sources)

    def _placed_term(self, field: str, t: tables.Term) -> Term:
        """With its species checked, those of linear terms."""
        term, key = self._term(field, t), f"{field}.species"
        if not isinstance(term, LinearTerm):
            return term
        names = [term.row, term.column]
        if self.gamma.imag != 0:
            if names != [None, None]:
                said = "none where gamma is imaginary: linear terms act on both"
                raise InputError(key, term.row, said)
            return term
        for name in names:
            if name not in self.species and (name is not None or len(self.species) > 1):
                raise InputError(key, name or "none", ", ".join(self.species))
        return term

    def _term(self, field: str, t: tables.Term) -> Term:
        grid, names = self.grid, self.species
        complex_state = self.gamma.imag != 0
        match t:
            case tables.Diffusion():
                return Diffusion(grid, t.diffusion, t.species)
            case tables.TensorDiffusion():
                return kinds.TensorDiffusion(
                    grid, t.tensor, t.species, f"{field}.diffusion-tensor"
                )
            case tables.NonlinearDiffusion():
                return self._nonlinear_diffusion(f"{field}.nonlinear-diffusion", t)
            case tables.GradientDiffusion():
                one, key = t.species or names[0], f"{field}.gradient-diffusion"
                return kinds.GradientDiffusion(grid, names, one, t.text, key)
            case tables.Convolution():
                return kinds.Convolution(grid, _weights(field, t, grid.dim), t.species)
            case tables.Advection():
                return self._advection(f"{field}.advection", t)
            case tables.Reaction():
                return kinds.Reaction(
                    grid, t.reaction, t.species, field=f"{field}.reaction"
                )
            case tables.Ground():
                if complex_state:
                    raise InputError(field, "a ground", "none where gamma is imaginary")
                return kinds.Reaction(grid, self._ground(field, t), None, named=True)
            case tables.Absorbing():
                return kinds.Absorbing(grid, self._absorbing(t), named=True)
            case tables.Kinetics():
                return self._kinetics(f"{field}.kinetics", t)
            case tables.Registered():
                made = registered(
                    "term", f"{field}.registered", t.registered, t.options
                )
                term: Term = made(grid, t.species, **t.options)
                return term
            case tables.Source():
                return source(grid, names, field, t, "source")

    def _kinetics(self, field: str, t: tables.Kinetics) -> Term:
        made = kinds.Kinetics(
            self.grid, self.species, t.kinetics, field, self.functions
        )
        self._check_timed(field, made)
        return made

    def _nonlinear_diffusion(self, field: str, t: tables.NonlinearDiffusion) -> Term:
        one = t.species or self.species[0]
        made = kinds.NonlinearDiffusion(
            self.grid, self.species, one, t.text, t.floor, field, self.functions
        )
        self._check_timed(field, made)
        return made

    def _check_timed(self, field: str, term: Term) -> None:
        if term.timed and self.table.time is None:
            raise InputError(
                field, "a text that reads t", "a section [time], or a text without t"
            )

    def _advection(self, field: str, t: tables.Advection) -> Term:
        grid, names, v = self.grid, self.species, t.advection
        if self.table.time is None or not any(
            _reads_time(x, grid.dim, field) for x in v
        ):
            return kinds.Advection(grid, v, t.scheme, t.species, t.conservative, field)
        if t.scheme != "upwind":
            raise InputError(
                field, f"{t.scheme} with a velocity that reads t", "upwind"
            )
        return kinds.TimedAdvection(
            grid, names, t.species or names[0], v, t.conservative, field
        )

    def _ground(self, field: str, t: tables.Ground) -> str:
        """The name of its reaction coefficient, the conductance over the volumes of its cells."""
        grid = self.grid
        nearest = not self.domain.is_own(grid)
        conductance = np.zeros(grid.local_shape, order="F")
        found = patch(grid, t.ground, t.radius, f"{field}.ground", nearest)
        found.add(grid, t.conductance, conductance)
        return self._named("ground", conductance / grid.volume)

    def _absorbing(self, t: tables.Absorbing) -> str:
        from npde_opt.terms.absorbing import absorbing_rate

        widths = {str(side): width for side, width in t.absorbing.items()}
        rate = absorbing_rate(self.grid, widths, t.speed, t.depth)
        return self._named("absorbing rate", abs(self.gamma) * rate)

    def _named(self, what: str, values: np.ndarray) -> str:
        """A coefficient under a name that no case can give."""
        name = f"{what} {len(self.known)}"
        self.known[name] = values
        return name


def _reads_time(given: float | str, dim: int, field: str) -> bool:
    names = (*AXES[:dim], TIME)
    return isinstance(given, str) and Expressions([given], names, field).reads(TIME)


def _weights(
    field: str, t: tables.Convolution, dim: int
) -> dict[tuple[int, ...], str | float]:
    """By offset. Raises InputError for one that is there twice or has another number of axes."""
    found: dict[tuple[int, ...], str | float] = {}
    for i, w in enumerate(t.convolution):
        key, offset = f"{field}.convolution[{i}].offset", tuple(w.offset)
        if len(offset) != dim:
            raise InputError(key, w.offset, f"{dim} integers, one an axis")
        if offset in found:
            raise InputError(key, f"{w.offset} again", "each neighbour once")
        found[offset] = w.weight
    return found


def source(
    grid: Grid,
    species: tuple[str, ...],
    field: str,
    t: tables.AnySource,
    shape_key: str,
) -> Source:
    """A source of a case; its history and times are lists or names by now."""
    assert isinstance(t, tables.Source | tables.ExperimentSource)
    history, times = t.history, t.times
    assert not isinstance(history, File) and not isinstance(times, File)
    one = t.species or species[0]
    return Source(
        grid, species, one, t.shape, history, times, t.interpolation, field, shape_key
    )


# ---- names ---------------------------------------------------------------------------------------


def named_coefficients(table: CaseFile) -> Iterator[tuple[str, str]]:
    """Coefficients that terms and sources have by name: (key, name)."""
    for i, t in enumerate(table.equation.terms):
        key = f"equation.terms[{i}]"
        if isinstance(t, tables.Diffusion):
            names = [t.diffusion] if isinstance(t.diffusion, str) else t.diffusion
            yield from ((f"{key}.diffusion", n) for n in names)
        if isinstance(t, tables.Advection):
            yield from _plain(f"{key}.advection", t.advection)
        if isinstance(t, tables.TensorDiffusion):
            for d, row in enumerate(t.tensor):
                yield from _plain(f"{key}.diffusion-tensor[{d}]", row)
        if isinstance(t, tables.Convolution):
            weights = [(j, w.weight) for j, w in enumerate(t.convolution)]
            named = [(j, w) for j, w in weights if isinstance(w, str)]
            yield from ((f"{key}.convolution[{j}].weight", w) for j, w in named)
        if isinstance(t, tables.Reaction) and t.reaction.isidentifier():
            yield f"{key}.reaction", t.reaction
    for key, s in histories(table):
        if isinstance(s.history, str):
            yield f"{key}.history", s.history
    storage = table.equation.storage
    if isinstance(storage, str) and storage.isidentifier():
        yield "equation.storage", storage


def _plain(key: str, row: list[float | str]) -> Iterator[tuple[str, str]]:
    """Entries that are names of coefficients, with their keys."""
    for d, v in enumerate(row):
        if isinstance(v, str) and v.isidentifier() and v not in (*AXES, TIME):
            yield f"{key}[{d}]", v


def check_coefficients(table: CaseFile, used: set[str], dim: int) -> None:
    """Raises InputError for names that have no value, and for coefficients that nothing reads.

    Args:
        used: names that the equation reads.
    """
    unknown = [u.name for u in table.unknown]
    given = [*table.equation.known, *unknown]
    there = ", ".join(given) or "there is none"
    for key, name in named_coefficients(table):
        if name not in given:
            allowed = f"a coefficient of equation.known or an [[unknown]]: {there}"
            raise InputError(key, repr(name), allowed)
    used = used | {n for key, text in _texts(table) for n in _names(text, key, dim)}
    used |= {
        n
        for key, text in _side_texts(table)
        for n in _names(text, key, dim, timed(table))
    }
    used |= {s.history for _, s in histories(table) if isinstance(s.history, str)}
    for name in unknown:
        if name not in used:
            seen = ", ".join(sorted(used)) or "there is none"
            said = "a name that no term, initial state, source or boundary value reads"
            allowed = f"a coefficient of theirs: {seen}"
            raise InputError(f"unknown.{name}", said, allowed)
    derived = table.equation.derived.items()
    figures = [(f"equation.derived.{key}", text) for key, text in derived]
    asked = enumerate(table.posterior.quantities)
    figures += [(f"{where(i)}.text", q.text) for i, q in asked if q.text is not None]
    used |= {n for key, text in figures for n in _names(text, key, dim)}
    for name in table.equation.known:
        if name not in used:
            said = (
                "a name that no term, initial state, source, boundary value or derived "
                "figure reads"
            )
            seen = ", ".join(sorted(used - set(unknown)))
            allowed = f"a coefficient of theirs: {seen or 'all are unknowns'}"
            raise InputError(f"equation.known.{name}", said, allowed)


def _texts(table: CaseFile) -> Iterator[tuple[str, str]]:
    """Texts of initial states and sources: (key, text)."""
    for e, x in enumerate(table.experiment):
        for s, text in x.initial.items():
            if isinstance(text, str):
                yield f"experiment[{e}].initial.{s}", text
        for i, y in enumerate(x.sources):
            if isinstance(y.shape, str):
                yield f"experiment[{e}].sources[{i}].shape", y.shape


def timed(table: CaseFile) -> tuple[str, ...]:
    """The name of time in texts that may read it, where there is one."""
    return () if table.time is None else (TIME,)


def _side_texts(table: CaseFile) -> Iterator[tuple[str, str]]:
    """Texts of boundary values: (key, text)."""
    for key, _, value in sides(table):
        text = value.value if isinstance(value, SideValue) else value
        if isinstance(text, str):
            yield key, text


def _names(
    text: str, key: str, dim: int, timed: tuple[str, ...] = ()
) -> tuple[str, ...]:
    return Expressions([text], (*AXES[:dim], *timed), key).parameters
