"""D > 0, and what is finite: where a diffusivity is not positive, an equation is not elliptic, or
runs backward in time; no step goes on from what is no number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from npde_opt.aliases import Coefficients, Numbers
from npde_opt.errors import InputError, SolverError
from npde_opt.grids import Grid
from npde_opt.reductions import smallest, total
from npde_opt.terms.interface import TermAt
from npde_opt.terms.state import State


def check_diffusivities(
    grid: Grid, prefix: str, names: Iterable[str], values: Coefficients
) -> None:
    """Raises SolverError on all ranks where one of `values` is not positive, or no number, in an
    active cell: at a trial point a rejected step. Collective."""
    for name in names:
        wrong, least = wrong_cells(grid, values[name], zero=False)
        if wrong:
            raise SolverError(
                prefix,
                f"the diffusivity {name} is not positive in {wrong} cells, {least:.4g} at the "
                "smallest",
                "Use the transform 'log', or bounds.",
            )


def check_known(
    grid: Grid, names: Iterable[str], values: Coefficients, zero: bool
) -> None:
    """Raises InputError on all ranks for known diffusivities that are not positive, or negative
    where they may be `zero`."""
    for name in names:
        wrong, least = wrong_cells(grid, values[name], zero)
        if wrong:
            raise InputError(
                f"known.{name}",
                f"a diffusivity of {least:.4g} in {wrong} cells",
                "values >= 0" if zero else "values > 0",
            )


def not_finite(
    grid: Grid, species: Sequence[str], values: np.ndarray, what: str = ""
) -> str:
    """Which species of [c, i, j, k], or of columns [c, s, i, j, k], are no numbers, and in how many
    active cells; '' where all are numbers. Collective."""
    own = np.array(
        [float(np.count_nonzero(~np.isfinite(v[..., grid.active]))) for v in values]
    )
    counts = total(grid.comm, own)
    return " and ".join(
        f"{what}{s} is not finite in {int(c)} cells"
        for s, c in zip(species, counts, strict=True)
        if c
    )


def rates_not_finite(
    species: Sequence[str], state: State, points: Iterable[TermAt]
) -> str:
    """The same of the rates that terms give at a state. Collective."""
    return not_finite(
        state.grid,
        species,
        sum((p.residual(state) for p in points), start=np.zeros_like(state.u)),
        "the rate of ",
    )


def wrong_cells(grid: Grid, values: Numbers, zero: bool) -> tuple[int, float]:
    """In how many active cells, and the smallest value."""
    if np.ndim(values) == 0:
        # Of a number, once for all cells.
        number = float(values)
        good = number >= 0 if zero else number > 0
        wrong = 0 if good else grid.active_size
        return (wrong, number) if wrong else (0, 0.0)
    own = np.broadcast_to(np.asarray(values, float), grid.local_shape)
    if grid.mask is not None:
        own = own[grid.active]
    right = own >= 0 if zero else own > 0
    count = int(total(grid.comm, float(np.count_nonzero(~right))))
    return count, smallest(grid.comm, float(own.min(initial=np.inf))) if count else 0.0
