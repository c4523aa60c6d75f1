"""Intervals by profile likelihood of a run's numbers, by `--uncertainty profile`: a curve of each,
its ends, and what the data do not bound."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np

from npde_opt.aliases import Record
from npde_opt.cases import Case
from npde_opt.errors import InputError
from npde_opt.figures.profiles import Curve
from npde_opt.posterior import Laplace
from npde_opt.posterior.profile import Number, Profile, Profiler
from npde_opt.runs.numbers import Numbers, Scalar
from npde_opt.runs.told import PROFILED

FILE, FIGURE = "profiles.csv", "profiles.png"


def chosen(case: Case, numbers: Numbers) -> list[Scalar]:
    """What is profiled: of the case's `[posterior.profile]`, or every value.

    Raises:
        InputError: where there is none, and for names of none.
    """
    names = [s.name for s in numbers.scalars]
    asked = case.table.posterior.profile.numbers
    if not names:
        allowed = "unknowns with few values (scalars, regions, arrays)"
        raise InputError("--uncertainty", "profile without a number", allowed)
    for i, name in enumerate(asked):
        if name not in names:
            key = f"posterior.profile.numbers[{i}]"
            raise InputError(key, repr(name), ", ".join(names))
    wanted = asked or names
    return [s for s in numbers.scalars if s.name in wanted]


@dataclass(frozen=True)
class Profiles:
    """Of some numbers, as coefficients."""

    scalars: list[Scalar]
    found: list[Profile]

    def metrics(self) -> dict[str, Record]:
        """By number: ends of 95 %, None where the data do not bound it, and why."""
        told: dict[str, Record] = {}
        for scalar, p in zip(self.scalars, self.found, strict=True):
            # A transform may turn the order round.
            ends = sorted((p.low, p.high), key=lambda e: _value(scalar, e.c))
            values = [_value(scalar, e.c) if e.known else None for e in ends]
            row: Record = {PROFILED: values}
            notes = [
                f"{side}: {end.why}"
                for side, end in zip(("low", "high"), ends, strict=True)
                if end.why
            ]
            if p.lower:
                notes.append(
                    f"chi^2 is lower by {p.lower:.3g} along the profile: the answer is no minimum"
                )
            if notes:
                row["profile_note"] = "; ".join(notes)
            told[scalar.name] = row
        return told

    def csv(self) -> str:
        """A line a point: how much chi^2 is higher there than at the answer, and r, 1.96 at an end
        of 95 %."""
        out = io.StringIO()
        out.write("name,value,parameter,chi_squared_rise,r\n")
        for scalar, p in zip(self.scalars, self.found, strict=True):
            for c, r in zip(p.c, p.r, strict=True):
                row = (_value(scalar, c), c, r * r, r)
                cells = ",".join(f"{x:.10g}" for x in row)
                out.write(f"{scalar.name},{cells}\n")
        return out.getvalue()

    def curves(self) -> list[Curve]:
        """For the figure."""
        return [
            Curve(
                scalar.name,
                scalar.unknown.value(p.c),
                p.r,
                (p.c - p.answer) / p.deviation,
                [_value(scalar, e.c) for e in (p.low, p.high) if e.known],
                [e.why for e in (p.low, p.high) if e.why],
            )
            for scalar, p in zip(self.scalars, self.found, strict=True)
        ]


def profiles(case: Case, laplace: Laplace, numbers: Numbers) -> Profiles:
    """Of what the case asks for. Collective.

    Raises:
        SolverError: where no state can be found at the answer.
    """
    scalars = chosen(case, numbers)
    profiler = Profiler(laplace)
    units = {
        label: (unit, size) for label, unit, size in laplace.space.units(profiler.best)
    }
    found = []
    for s in scalars:
        unit, size = units[s.name]
        log = s.unknown.transform.exponential
        found.append(profiler.of(Number(s.name, unit, size, log)))
    for unit, _ in units.values():
        unit.destroy()
    profiler.destroy()
    return Profiles(scalars, found)


def _value(scalar: Scalar, c: float) -> float:
    """The coefficient of a parameter."""
    return float(scalar.unknown.value(np.array([c]))[0])
