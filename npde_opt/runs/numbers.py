"""Numbers of a case as functions of its parameters: listed unknowns, value by value, quantities of
interest, and texts of both.

Base numbers z are parameters of scalars and what is observed; all others are functions of them
that cost no solve.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from petsc4py import PETSc

from npde_opt.cases import Case
from npde_opt.cases.learned import is_function
from npde_opt.cases.on_grid import OnGrid
from npde_opt.cases.seen import asked
from npde_opt.forward import Storage
from npde_opt.functions.text import Expressions
from npde_opt.parameters import Unknown
from npde_opt.posterior.quantities import OfCoefficient, OfStates

STEP = 1e-5
"""Relative, of differences of texts."""


@dataclass(frozen=True)
class Scalar:
    """Value `index` of an unknown with few values."""

    name: str
    unknown: Unknown
    index: int


@dataclass(frozen=True)
class Text:
    """A text in scalars, known numbers, and numbers before it."""

    name: str
    expression: Expressions


class Numbers:
    """What has a name and a value in a sample of the parameters. All methods are collective.

    Attributes:
        base: names of base numbers. names: of all.
    """

    def __init__(self, case: Case, on: OnGrid):
        self.case, self.space = case, on.space
        self.scalars = list(_scalars(case, on))
        self.observed = list(_observed(case, on))
        self.known = {
            n: float(v)
            for n, v in case.table.equation.known.items()
            if isinstance(v, int | float)
        }
        self.texts = list(_texts(case))
        seen = [name for group in self.observed for name in group.names]
        self.base = (*(s.name for s in self.scalars), *seen)
        self.names = (*self.base, *(t.name for t in self.texts))
        for k, text in enumerate(self.texts):
            before = self.names[: len(self.base) + k]
            text.expression.check_names({*self.known, *before})

    @property
    def asked(self) -> list[str]:
        """Names of the case's quantities of interest."""
        own = {q.name for q in self.case.table.posterior.quantities}
        seen = self.base[len(self.scalars) :]
        return [*seen, *(t.name for t in self.texts if t.name in own)]

    def values(self, m: PETSc.Vec) -> np.ndarray:
        """(names,)."""
        return self.told(self.base_values(m))

    def base_values(self, m: PETSc.Vec) -> np.ndarray:
        """z."""
        parts = [self._parameters(m), *(group.values(m) for group in self.observed)]
        return np.concatenate(parts)

    def base_gradients(self, m: PETSc.Vec) -> tuple[np.ndarray, list[PETSc.Vec]]:
        """z and dz/dm, which are the caller's."""
        units = {label: unit for label, unit, _ in self.space.units(m)}
        gradients = [units.pop(s.name) for s in self.scalars]
        for unit in units.values():
            unit.destroy()
        values = [self._parameters(m)]
        for group in self.observed:
            found, slopes = group.gradients(m)
            values.append(found)
            gradients += slopes
        return np.concatenate(values), gradients

    def _parameters(self, m: PETSc.Vec) -> np.ndarray:
        """Of scalars."""
        names = dict.fromkeys(s.unknown.name for s in self.scalars)
        own = {name: self.space.values(m, name).ravel() for name in names}
        return np.array([own[s.unknown.name][s.index] for s in self.scalars])

    def told(self, z: np.ndarray) -> np.ndarray:
        """All numbers (names, ...) of base numbers (base, ...)."""
        scalars = zip(self.scalars, z, strict=False)
        found = {s.name: np.asarray(s.unknown.value(p)) for s, p in scalars}
        found |= dict(zip(self.base[len(found) :], z[len(found) :], strict=True))
        for text in self.texts:
            e = text.expression
            value = e.value(*e.values_of({**self.known, **found}))[0]
            found[text.name] = np.broadcast_to(np.asarray(value, float), z.shape[1:])
        return np.array([found[name] for name in self.names])

    def slopes(self, z: np.ndarray, deviations: np.ndarray) -> np.ndarray:
        """d names / d z (names, base), by central differences.

        Args:
            deviations: of z (base,), which tell a small change.
        """
        columns = []
        for j, wide in enumerate(deviations):
            step = np.zeros_like(z)
            step[j] = STEP * (wide or abs(z[j]) or 1.0)
            columns.append((self.told(z + step) - self.told(z - step)) / (2 * step[j]))
        empty = np.empty((len(self.names), 0))
        return np.stack(columns, axis=1) if columns else empty

    def destroy(self) -> None:
        for group in self.observed:
            if isinstance(group, OfCoefficient):
                group.destroy()
            else:
                group.forward.destroy()


def _scalars(case: Case, on: OnGrid) -> Iterator[Scalar]:
    """Of listed unknowns that are no functions, where all of these are few."""
    m = on.space.create_vec()
    units = on.space.units(m)
    known = {label for label, _, _ in units}
    for vec in (m, *(unit for _, unit, _ in units)):
        vec.destroy()
    functions = {u.name for u in case.table.unknown if is_function(u)}
    for u in on.space.unknowns:
        if not u.block.listed or u.name in functions:
            continue
        for i in range(u.block.count):
            if u.label(i) in known:
                yield Scalar(u.label(i), u, i)


def _texts(case: Case) -> Iterator[Text]:
    for name, text in case.table.equation.derived.items():
        yield Text(name, Expressions([text], (), f"equation.derived.{name}"))
    for i, q in enumerate(case.table.posterior.quantities):
        if q.text is not None:
            key = f"posterior.quantities[{i}].text"
            yield Text(q.name, Expressions([q.text], (), key))


def _observed(case: Case, on: OnGrid) -> Iterator[OfStates | OfCoefficient]:
    """Those of states together, which cost one solve, then those of coefficients."""
    every = asked(case)
    of_states = [(q, seen) for q, seen in every if q.of is None]
    if of_states:
        experiments = sorted({q.experiment for q, _ in of_states})
        watched = [seen for _, seen in of_states]
        storage = case.storage(on.grid) if case.evolves else Storage()
        forward = on.forward(experiments, case.times(), storage, watched)
        names, places, first = list[str](), list[tuple[int, int]](), 0
        sizes = forward.observed.observer(0).sizes
        for (q, _), (times, size) in zip(of_states, sizes, strict=True):
            count, column = times * size, experiments.index(q.experiment)
            names += _labels(q.name, count)
            places += [(column, first + k) for k in range(count)]
            first += count
        yield OfStates(forward, names, places)
    for q, seen in every:
        if q.of is not None:
            functionals = seen.functionals(on.grid)
            names = _labels(q.name, functionals.size)
            yield OfCoefficient(on.space, q.of, functionals, names)


def _labels(name: str, count: int) -> list[str]:
    return [name] if count == 1 else [f"{name}_{k + 1}" for k in range(count)]
