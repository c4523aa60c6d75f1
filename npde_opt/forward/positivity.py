"""D > 0: where a diffusivity is not, an equation is not elliptic, or runs backward in time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from npde_opt.errors import InputError, SolverError
from npde_opt.grids import Grid
from npde_opt.reductions import smallest, total
from npde_opt.terms.diffusion import Diffusion


def diffusivities(terms: Iterable[Any]) -> list[str]:
    """Names of the coefficients of linear diffusion."""
    return sorted({name for t in terms if isinstance(t, Diffusion) for name in t.names})


def check_diffusivities(grid: Grid, prefix: str, names: Iterable[str], values: Mapping[str, Any]) -> None:
    """Raises SolverError on all ranks where one of `values` is not positive, or no number, in an active cell: at a trial
    point a rejected step. Collective."""
    for name in names:
        wrong, least = _wrong(grid, values[name], zero=False)
        if wrong:
            raise SolverError(prefix, f"the diffusivity {name} is not positive in {wrong} cells, {least:.4g} at the smallest",
                              "Use the transform 'log', or bounds.")


def check_known(grid: Grid, names: Iterable[str], values: Mapping[str, Any], zero: bool) -> None:
    """Raises InputError on all ranks for known diffusivities that are not positive, or negative where they may be `zero`."""
    for name in names:
        wrong, least = _wrong(grid, values[name], zero)
        if wrong:
            raise InputError(f"known.{name}", f"a diffusivity of {least:.4g} in {wrong} cells",
                             "values >= 0" if zero else "values > 0")


def _wrong(grid: Grid, values: Any, zero: bool) -> tuple[int, float]:
    """In how many active cells, and the smallest value."""
    own = np.broadcast_to(np.asarray(values, float), grid.local_shape)[grid.active]
    right = own >= 0 if zero else own > 0
    count = int(total(grid.comm, float(np.count_nonzero(~right))))
    return count, smallest(grid.comm, float(own.min(initial=np.inf))) if count else 0.0
