"""Intervals by profile likelihood of a run's numbers, by `--uncertainty profile`: a curve of each,
its ends, and what the data do not bound."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from petsc4py import PETSc

from npde_opt.aliases import Record
from npde_opt.cases import Case
from npde_opt.errors import InputError
from npde_opt.figures.profiles import Curve
from npde_opt.posterior import Laplace
from npde_opt.posterior.profile import Functional, Number, Profile, Profiler
from npde_opt.posterior.pulled import Gradient
from npde_opt.runs.numbers import Numbers, Scalar
from npde_opt.runs.told import PROFILED

FILE, FIGURE = "profiles.csv", "profiles.png"


def chosen(case: Case, numbers: Numbers) -> list[str]:
    """What is profiled: numbers, derived figures and quantities that the case's
    `[posterior.profile]` names, or every value of a scalar.

    Raises:
        InputError: where there is none, and for names of none.
    """
    scalars = [s.name for s in numbers.scalars]
    asked = case.table.posterior.profile.numbers
    if not scalars and not asked:
        allowed = (
            "unknowns with few values (scalars, regions, arrays), or names of derived "
        )
        allowed += "figures and quantities in posterior.profile.numbers"
        raise InputError("--uncertainty", "profile without a number", allowed)
    for i, name in enumerate(asked):
        if name not in numbers.names:
            key = f"posterior.profile.numbers[{i}]"
            allowed = ", ".join(numbers.names) or "none, as the case has no numbers"
            raise InputError(key, repr(name), allowed)
    return [name for name in numbers.names if name in (asked or scalars)]


@dataclass(frozen=True)
class Profiles:
    """Of some numbers, by name, as coefficients; of scalars the profile is of their parameter."""

    scalars: dict[str, Scalar]
    found: dict[str, Profile]

    def value(self, name: str, c: float) -> float:
        """The number at a place of its profile."""
        scalar = self.scalars.get(name)
        return c if scalar is None else float(scalar.unknown.value(np.array([c]))[0])

    def metrics(self) -> dict[str, Record]:
        """By number: ends of 95 %, None where the data do not bound it, and why."""
        told: dict[str, Record] = {}
        for name, p in self.found.items():
            # A transform may turn the order round.
            ends = sorted((p.low, p.high), key=lambda e: self.value(name, e.c))
            values = [self.value(name, e.c) if e.known else None for e in ends]
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
            told[name] = row
        return told

    def csv(self) -> str:
        """A line a point: how much chi^2 is higher there than at the answer, and r, 1.96 at an end
        of 95 %."""
        out = io.StringIO()
        out.write("name,value,parameter,chi_squared_rise,r\n")
        for name, p in self.found.items():
            for c, r in zip(p.c, p.r, strict=True):
                row = (self.value(name, c), c, r * r, r)
                cells = ",".join(f"{x:.10g}" for x in row)
                out.write(f"{name},{cells}\n")
        return out.getvalue()

    def curves(self) -> list[Curve]:
        """For the figure."""
        return [
            Curve(
                name,
                np.array([self.value(name, c) for c in p.c]),
                p.r,
                (p.c - p.answer) / p.deviation,
                [self.value(name, e.c) for e in (p.low, p.high) if e.known],
                [e.why for e in (p.low, p.high) if e.why],
            )
            for name, p in self.found.items()
        ]


def profiles(case: Case, laplace: Laplace, numbers: Numbers) -> Profiles:
    """Of what the case asks for. Collective.

    Raises:
        SolverError: where no state can be found at the answer.
        InputError: for a figure that does not change to first order at the answer.
    """
    names, scalars = chosen(case, numbers), {s.name: s for s in numbers.scalars}
    profiler = Profiler(laplace)
    units = {
        label: (unit, size) for label, unit, size in laplace.space.units(profiler.best)
    }
    found, deviations = dict[str, Profile](), None
    for name in names:
        if name in scalars:
            unit, size = units[name]
            log = scalars[name].unknown.transform.exponential
            found[name] = profiler.of(Number(name, unit, size, log))
            continue
        if deviations is None:
            deviations = _deviations(laplace, numbers, profiler.best)
        figure = Functional(name, _figure(numbers, name, deviations))
        found[name] = profiler.of(figure)
    for unit, _ in units.values():
        unit.destroy()
    profiler.destroy()
    return Profiles(scalars, found)


def _deviations(laplace: Laplace, numbers: Numbers, m: PETSc.Vec) -> np.ndarray:
    """Of base numbers. Collective."""
    _, gradients = numbers.base_gradients(m)
    covariance = laplace.covariance(gradients)
    for g in gradients:
        g.destroy()
    return np.sqrt(np.maximum(np.diag(covariance), 0.0))


def _figure(numbers: Numbers, name: str, deviations: np.ndarray) -> Gradient:
    """A number as a functional of the parameters."""
    place = numbers.names.index(name)

    def of(m: PETSc.Vec) -> tuple[float, PETSc.Vec]:
        z, gradients = numbers.base_gradients(m)
        slope = m.duplicate()
        slope.set(0.0)
        shares = numbers.slopes(z, deviations)[place]
        for share, g in zip(shares, gradients, strict=True):
            slope.axpy(float(share), g)
            g.destroy()
        return float(numbers.told(z)[place]), slope

    return of
