"""What a run does at its end, tried before its first iteration, so that hours of work do not end in
a wrong name or number."""

from __future__ import annotations

import importlib.util

from npde_opt.cases import Case
from npde_opt.cases.learned import is_function
from npde_opt.errors import InputError, collective
from npde_opt.grids import Grid
from npde_opt.io.vtk import uniform
from npde_opt.runs import states
from npde_opt.runs.report import truth_errors


def rehearse(
    case: Case,
    grid: Grid,
    plot: bool,
    uncertainty: str | None = None,
) -> list[str]:
    """Errors against the truth at the starting point, further starts, packages for figures; the
    names of the files that the run will write. Collective on the grid's ranks.

    Raises:
        InputError: for a truth whose error is not defined, packages that are missing, names that
            cannot be.
    """
    with collective(grid.comm):
        if plot:
            require_figures(case.evolves)
    on = case.on(grid)
    m = on.start()
    truth_errors(on, on.space, m)
    m.destroy()
    for move in case.moves():
        start = on.start()
        move(on.space, start)
        start.destroy()
    names = report_names(case, grid, plot)
    if uncertainty is not None:
        from npde_opt.runs import posterior  # few runs need it

        names += posterior.names(case, grid, plot, uncertainty)
    return names


def require_figures(animated: bool) -> None:
    """Raises InputError where a package that draws is missing."""
    for package in ("matplotlib", *(("PIL",) if animated else ())):
        if importlib.util.find_spec(package) is None:
            allowed = "pip install 'npde_opt[plot]', or no --plot"
            raise InputError("--plot", f"no {package} package", allowed)


def report_names(case: Case, grid: Grid, plot: bool) -> list[str]:
    """The files that a run of this case writes beside those of every run."""
    names = [u.name for u in case.table.unknown]
    for name in names:
        if "/" in name or name.startswith("."):
            raise InputError(
                "unknown.name", repr(name), "a name that can be that of a file"
            )
    found = ["parameters.vti" if uniform(grid) else "parameters.vtr"]
    found += states.files(case, grid) if case.experiment_count > 1 else []
    found += [f"{u.name}.csv" for u in case.table.unknown if is_function(u)]
    drawn = [u.name for u in case.table.unknown if u.kind != "scalar"]
    return found + ([f"{name}.png" for name in drawn] if plot else [])
