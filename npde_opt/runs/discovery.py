"""A run that finds equations of observed states: their terms, coefficients, and a case of each.

The case holds the data and the coefficients as unknowns that start from what was found, so that
`drivers/identify.py --case CASE` fits them to the states themselves. Equations with other terms
than diffusion, powers of u and potentials have none.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mpi4py import MPI

from npde_opt.aliases import Record
from npde_opt.errors import InputError, collective
from npde_opt.figures.terms import plot_terms
from npde_opt.io.fields import list_fields, read_field, read_gridded
from npde_opt.io.files import whole_file
from npde_opt.io.results import (
    Seconds,
    Summary,
    peak_memory_mb,
    peak_memory_mb_of_a_rank,
)
from npde_opt.pseudoinverse.equation_error import Observed, Term, library
from npde_opt.pseudoinverse.selection import FORMS, Selected, select
from npde_opt.runs.equation_case import case_text
from npde_opt.runs.solved_run import SolvedRun

STATES, TIMES, PLACES = ("u", "uu", "usol"), ("t", "tt"), ("x",)
FOLDERS = (".", "pde")
WINDOW = 30
"""Half the width of test functions in steps, where the data are long enough."""


@dataclass(frozen=True)
class Equation:
    """What was found of one file."""

    name: str
    seen: Observed
    terms: list[Term]
    selected: Selected
    case: str | None

    @property
    def names(self) -> list[str]:
        return [self.terms[j].name for j in self.selected.terms]

    @property
    def text(self) -> str:
        pairs = zip(self.names, self.selected.coefficients, strict=True)
        return "u_t = " + " ".join(f"{value:+.6g} {name}" for name, value in pairs)


class Discovery(SolvedRun):
    """One run of the driver; the work, which takes seconds, is rank 0's."""

    def __init__(
        self, options: argparse.Namespace, world: MPI.Intracomm, started: float
    ):
        self.found: list[Equation] = []
        super().__init__(options, world, started)

    def check(self) -> None:
        given = self.options
        if given.noise < 0:
            raise InputError("--noise", given.noise, "a share of u, at least 0")
        self.files = {Path(name).stem: _find(given.data, name) for name in given.file}

    def find(self) -> None:
        """The equation of each file."""
        with collective(self.world):
            if self.world.rank == 0:
                for name, path in self.files.items():
                    self.found.append(self._one(name, path))
                    print(f"{name}: {self.found[-1].text}", flush=True)
        self.found = self.world.bcast(self.found)
        self.solved = time.monotonic()

    def _one(self, name: str, path: Path) -> Equation:
        seen = observed(path)
        if self.options.noise:
            seen = seen.with_noise(self.options.noise, self.options.seed)
        terms = library(np.iscomplexobj(seen.u))
        longest = [(len(axis) - 1) // 2 for axis in (seen.t, seen.x)]
        given = self.options.windows or [min(WINDOW, half) for half in longest]
        selected = select(FORMS[self.options.form](seen, terms, (given[0], given[1])))
        chosen = [terms[j] for j in selected.terms]
        text = case_text(name, seen, chosen, selected.coefficients)
        return Equation(name, seen, terms, selected, text)

    def report(self) -> None:
        """Cases with their data, figures and the summary."""
        names = [
            f"{name}{end}"
            for name in self.files
            for end in (".toml", ".npz", "_terms.png")
        ]
        self.out.claim(names)
        with collective(self.world):
            if self.world.rank == 0:
                for equation in self.found:
                    self._write(equation)
        now = time.monotonic()
        seconds = Seconds(0.0, self.solved - self.started, now - self.started)
        self.out.write_summary(self._summary(seconds))

    def _write(self, equation: Equation) -> None:
        if equation.case is not None:
            with self.out.writing():
                with whole_file(self.out.file(f"{equation.name}.npz")) as file:
                    u = equation.seen.u
                    if np.iscomplexobj(u):
                        np.savez(file, re=u.real, im=u.imag)
                    else:
                        np.savez(file, u=u)
                with whole_file(self.out.file(f"{equation.name}.toml")) as file:
                    file.write(equation.case.encode())
            print(
                f"start of an identification: {self.out.file(equation.name)}.toml",
                flush=True,
            )
        if self.options.plot:
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

    def _summary(self, seconds: Seconds) -> Summary:
        last = self.found[-1]
        return Summary(
            driver="discover_equation",
            case=", ".join(self.files),
            ranks=self.world.size,
            grid=last.seen.u.shape,
            unknowns=int(last.seen.u.size),
            parameters=sum(len(e.selected.terms) for e in self.found),
            status="converged",
            iterations=0,
            objective=max(e.selected.residual for e in self.found),
            objective_initial=1.0,
            gradient_norm=0.0,
            gradient_norm_initial=0.0,
            forward_solves=0,
            adjoint_solves=0,
            krylov_iterations_mean=0.0,
            seconds=seconds,
            peak_memory_mb=peak_memory_mb(self.world),
            peak_memory_mb_of_a_rank=peak_memory_mb_of_a_rank(self.world),
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


def _told(equation: Equation) -> Record:
    selected = equation.selected
    return {
        "terms": equation.names,
        "coefficients": selected.coefficients,
        "errors": selected.errors,
        "residual": selected.residual,
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
