"""A run that finds equations of observed states: their terms, coefficients, and a case of each.

The case holds the data and the coefficients as unknowns that start from what was found, so that
`drivers/identify.py --case CASE` fits them to the states themselves. Equations with other terms
than diffusion, powers of u and potentials have none.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from mpi4py import MPI

from npde_opt.aliases import Record
from npde_opt.errors import InputError, collective
from npde_opt.figures.fields import plot_fields
from npde_opt.figures.terms import plot_band, plot_terms
from npde_opt.io.fields import list_fields, read_field, read_gridded
from npde_opt.io.files import whole_file
from npde_opt.pseudoinverse.equation_error import Observed, Term, library
from npde_opt.pseudoinverse.selection import FORMS, Selected, only, select
from npde_opt.pseudoinverse.varying import Varying, fit_fields, pieces
from npde_opt.runs.equation import Equation, Varied, numbers
from npde_opt.runs.equation_case import FIRST, case_text, start_of, unknown_of
from npde_opt.runs.grid_discovery import grid_equation, has_axes
from npde_opt.runs.solved_run import SolvedRun

STATES, TIMES, PLACES = ("u", "uu", "usol"), ("t", "tt"), ("x",)
FOLDERS = (".", "pde")
WINDOW = 30
"""Half the width of test functions in steps, where the data are long enough."""
LEAST, POLYNOMIAL = 4, 3
"""The narrowest of them, and half the width of polynomials whose derivatives are taken: wider
ones are wrong by more than the noise of clean data."""
ENOUGH = 2
"""Rows a term: of fewer any terms explain u_t."""


class Discovery(SolvedRun):
    """One run of the driver; the work, which takes seconds, is rank 0's."""

    driver = "discover_equation"

    def __init__(
        self, options: argparse.Namespace, world: MPI.Intracomm, started: float
    ):
        self.found: list[Equation] = []
        super().__init__(options, world, started)

    def check(self) -> None:
        given = self.options
        if not 0 <= given.noise < np.inf:
            raise InputError("--noise", given.noise, "a share of u, at least 0")
        if given.vary and given.form != "weak":
            raise InputError("--vary with --form", given.form, "weak")
        if given.pieces is not None and not given.vary:
            raise InputError("--pieces", given.pieces, "terms that --vary names")
        self.files = {Path(name).stem: _find(given.data, name) for name in given.file}

    def find(self) -> None:
        """The equation of each file."""
        for name, path in self.files.items():
            on_grid = False
            with collective(self.world):
                if self.world.rank == 0:
                    on_grid = has_axes(path)
                    if not on_grid:
                        self.found.append(self._one(name, path))
            if self.world.bcast(on_grid):
                found = grid_equation(name, path, self.options, self.world)
                self.found += [] if found is None else [found]
            if self.world.rank == 0:
                print(f"{name}: {self.found[-1].text}", flush=True)
        self.found = self.world.bcast(self.found)
        self.solved = time.monotonic()

    def _one(self, name: str, path: Path) -> Equation:
        seen = observed(path)
        if self.options.noise:
            seen = seen.with_noise(self.options.noise, self.options.seed)
        terms = library(np.iscomplexobj(seen.u))
        given = self.options.windows or _windows(seen, len(terms), self.options.form)
        windows = given[0], given[1]
        form = FORMS[self.options.form](seen, terms, windows)
        named = self.options.terms
        selected = (
            select(form)
            if named is None
            else only(form, numbers("--terms", terms, named))
        )
        chosen = [terms[j] for j in selected.terms]
        varying = numbers("--vary", chosen, self.options.vary)
        values: list[float | np.ndarray] = list(map(float, selected.coefficients))
        regions: np.ndarray | None = None
        fields: dict[str, Varied] = {}
        if varying:
            if self.options.pieces is not None:
                regions = pieces(seen.x, self.options.pieces)
            found = fit_fields(seen, chosen, windows, varying, regions)
            selected, fields = _varied(selected, found, chosen, varying)
            values = [
                own if j in varying else float(own[0])
                for j, own in enumerate(found.coefficients)
            ]
        noise = selected.noise if self.options.form == "weak" else 0.0
        text = case_text(name, seen, chosen, values, regions, noise)
        return Equation(name, seen, terms, selected, text, fields, regions)

    def report(self) -> None:
        """Cases with their data, figures and the summary."""
        names = [
            f"{name}{end}"
            for name in self.files
            for end in (".toml", ".npz", "_terms.png", "_fields.png")
        ]
        self.out.claim(names)
        with collective(self.world):
            if self.world.rank == 0:
                for equation in self.found:
                    self._write(equation)
        self._summarize()

    def _write(self, equation: Equation) -> None:
        if equation.case is not None:
            with self.out.writing():
                with whole_file(self.out.file(f"{equation.name}.npz")) as file:
                    u = equation.seen.u
                    arrays = (
                        {"re": u.real, "im": u.imag} if np.iscomplexobj(u) else {"u": u}
                    )
                    for field in equation.fields.values():
                        if field.unknown is not None:
                            arrays[field.unknown] = start_of(
                                field.values, field.unknown
                            )
                    if equation.edges:
                        cells = [len(edges) - 1 for edges in equation.edges]
                        arrays[FIRST] = u[0].reshape(cells, order="F")
                    if equation.regions is not None:
                        arrays["regions"] = equation.regions
                    np.savez(file, allow_pickle=False, **arrays)
                with whole_file(self.out.file(f"{equation.name}.toml")) as file:
                    file.write(equation.case.encode())
            print(
                f"start of an identification: {self.out.file(equation.name)}.toml",
                flush=True,
            )
        if self.options.plot:
            self._draw(equation)

    def _draw(self, equation: Equation) -> None:
        file = self.out.file(f"{equation.name}_fields.png")
        if equation.edges:
            # A map each, of the first one where there are several.
            name, field = next(iter(equation.fields.items()))
            told = f"coefficient of {name}"
            plot_fields(file, equation.edges, field.values, name=told, length_unit="1")
        else:
            selected = equation.selected
            plot_terms(
                self.out.file(f"{equation.name}_terms.png"),
                equation.names,
                selected.coefficients,
                selected.errors,
                [len(choice.terms) for choice in selected.path],
                [choice.information for choice in selected.path],
                [choice.residual for choice in selected.path],
            )
            bands = {
                name: (field.values, field.errors)
                for name, field in equation.fields.items()
                if field.errors is not None
            }
            if bands:
                plot_band(file, equation.seen.x, bands)

    def _summarize(self) -> None:
        last = self.found[-1]
        self.write_summary(
            ", ".join(self.files),
            grid=last.seen.u.shape,
            unknowns=int(last.seen.u.size),
            parameters=sum(len(e.selected.terms) for e in self.found),
            objective=max(e.selected.residual for e in self.found),
            metrics={
                "equations": {e.name: _told(e) for e in self.found},
                "noise": self.options.noise,
                "form": self.options.form,
                "meanings": {
                    "objective": "largest residual of an equation over its right hand side",
                    "errors": "standard deviations of coefficients, as far as the residual tells",
                },
            },
        )


def _windows(seen: Observed, terms: int, form: str) -> list[int]:
    """Half widths that are used where none are given: of test functions WINDOW steps, or as many
    as leave ENOUGH rows, which are half a width apart."""
    if form != "weak":
        return [POLYNOMIAL, POLYNOMIAL]
    lengths = [len(axis) - 1 for axis in (seen.t, seen.x)]
    halves = [min(WINDOW, n // 2) for n in lengths]
    wanted = ENOUGH * terms / (2 if np.iscomplexobj(seen.u) else 1)

    def rows() -> int:
        return math.prod(n // half - 1 for n, half in zip(lengths, halves, strict=True))

    while rows() < wanted and max(halves) > LEAST:
        wide = [d for d, half in enumerate(halves) if half > LEAST]
        widest = max(wide, key=lambda d: halves[d] / lengths[d])
        halves[widest] -= 1
    return halves


def _varied(
    selected: Selected, found: Varying, terms: Sequence[Term], varying: Sequence[int]
) -> tuple[Selected, dict[str, Varied]]:
    """What is told of constants, with means of fields; and the fields."""
    fields = {
        terms[j].name: Varied(
            found.coefficients[j], found.errors[j], unknown_of(terms[j])
        )
        for j in varying
    }
    means = np.array([c.mean() for c in found.coefficients])
    errors = np.array([e.mean() for e in found.errors])
    told = replace(
        selected,
        coefficients=means,
        errors=errors,
        residual=found.residual,
        noise=found.noise,
    )
    return told, fields


def _told(equation: Equation) -> Record:
    selected = equation.selected
    return {
        "terms": equation.names,
        "coefficients": selected.coefficients,
        "errors": None if equation.edges else selected.errors,
        "residual": selected.residual,
        "fields": {
            name: {"values": field.values, "errors": field.errors}
            for name, field in equation.fields.items()
        },
    }


def _find(folder: str | None, name: str) -> Path:
    """Raises InputError where there is no such file."""
    if Path(name).is_file():
        return Path(name)
    if folder is None:
        raise InputError("--data", "nothing", f"the folder of {name}, or NPDE_DATA")
    for place in FOLDERS:
        if (Path(folder) / place / name).is_file():
            return Path(folder) / place / name
    raise InputError("--file", name, f"a file in {folder} or its folder pde")


def observed(path: Path) -> Observed:
    """Times, places and states of a file, whichever of its axes is which.

    Raises:
        InputError: for a file without them, and states of another shape.
    """
    there = list_fields(path)
    keys = [
        next((k for k in names if k in there), None)
        for names in (TIMES, PLACES, STATES)
    ]
    if None in keys:
        wanted = "arrays t or tt, x, and u, uu or usol"
        raise InputError(str(path), f"arrays {', '.join(there)}", wanted)
    t, x = (np.ravel(read_field(path, key)) for key in keys[:2])
    u = _complex(path, keys[2])
    if u.shape != (len(t), len(x)) and u.shape == (len(x), len(t)):
        u = u.T
    return Observed(t, x, np.ascontiguousarray(u))


def _complex(path: Path, key: str | None) -> np.ndarray:
    """Values of an array, complex where they are."""
    try:
        return np.squeeze(read_gridded(path, key).values)
    except InputError:
        real, imaginary = (
            read_gridded(path, key, part=p).values for p in ("real", "imag")
        )
        both: np.ndarray = np.squeeze(real + 1j * imaginary)
        return both
