"""Numbers of a case as functions of its parameters: listed unknowns, value by value, and the case's
derived figures of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from petsc4py import PETSc

from npde_opt.cases import Case
from npde_opt.cases.learned import is_function
from npde_opt.functions.text import Expressions
from npde_opt.parameters import ParameterSpace, Unknown

MOST = 40
"""Values of an unknown that are told one by one."""


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
    """What has a name and a value in a sample of the parameters. All methods are collective."""

    def __init__(self, case: Case, space: ParameterSpace):
        self.case, self.space = case, space
        self.scalars = list(_scalars(case, space))
        equation = case.table.equation
        self.known = {
            n: float(v) for n, v in equation.known.items() if isinstance(v, int | float)
        }
        self.texts = [
            Text(name, Expressions([text], (), f"equation.derived.{name}"))
            for name, text in equation.derived.items()
        ]

    @property
    def names(self) -> tuple[str, ...]:
        return (*(s.name for s in self.scalars), *(t.name for t in self.texts))

    def values(self, m: PETSc.Vec) -> np.ndarray:
        """(names,)."""
        found = self.coefficients(m)
        for text in self.texts:
            found[text.name] = self._value(text, found)
        return np.array([found[name] for name in self.names])

    def coefficients(self, m: PETSc.Vec) -> dict[str, float]:
        """Scalars by name."""
        values = {
            u.name: u.value(self.space.values(m, u.name)).ravel()
            for u in {s.unknown.name: s.unknown for s in self.scalars}.values()
        }
        return {s.name: float(values[s.unknown.name][s.index]) for s in self.scalars}

    def _value(self, text: Text, values: Mapping[str, float]) -> float:
        e = text.expression
        return float(e.value(*e.values_of({**self.known, **values}))[0])


def _scalars(case: Case, space: ParameterSpace) -> list[Scalar]:
    functions = {u.name for u in case.table.unknown if is_function(u)}
    return [
        Scalar(u.label(i), u, i)
        for u in space.unknowns
        if u.block.listed and u.name not in functions and u.block.count <= MOST
        for i in range(u.block.count)
    ]
