"""What a run does at its end, tried before its first iteration, so that hours of work do not end in a wrong name or number."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

from petsc4py import PETSc

from npde_opt.cases import Case, EvolutionCase
from npde_opt.errors import InputError, collective
from npde_opt.grids import Grid
from npde_opt.io.vtk import uniform
from npde_opt.parameters import ParameterSpace
from npde_opt.runs.folder import RunDirectory

Errors = Callable[[Any, ParameterSpace, PETSc.Vec], Mapping[str, float]]


def rehearse(case: Case | EvolutionCase, grid: Grid, errors_of: Errors, out: RunDirectory | None, plot: bool) -> None:
    """Errors against the truth at the starting point, packages for figures, names of files. Collective on the grid's ranks.

    Args:
        errors_of: the report's own (case, space, m) -> errors of the parameters against the truth.

    Raises:
        InputError: for a truth whose error is not defined, packages that are missing, names that cannot be.
    """
    with collective(grid.comm):
        if plot:
            require_figures(isinstance(case, EvolutionCase))
    space = case.space(grid)
    m = case.start(space)
    errors_of(case, space, m)
    m.destroy()
    if out is not None:
        out.claim(report_names(case, grid, plot))


def require_figures(animated: bool) -> None:
    """Raises InputError where a package that draws is missing."""
    for package in ("matplotlib", *(("PIL",) if animated else ())):
        if importlib.util.find_spec(package) is None:
            raise InputError("--plot", f"no {package} package", "pip install 'npde_opt[plot]', or no --plot")


def report_names(case: Case | EvolutionCase, grid: Grid, plot: bool) -> list[str]:
    """The files that a run of this case writes beside those of every run."""
    names = [u["name"] for u in case.table["unknown"]]
    for name in names:
        if "/" in name or name.startswith("."):
            raise InputError("unknown.name", repr(name), "a name that can be that of a file")
    found = ["parameters.vti" if uniform(grid) else "parameters.vtr"]
    return found + ([f"{name}.png" for name in names] if plot else [])
