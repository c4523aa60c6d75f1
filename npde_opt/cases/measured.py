"""Measured data: their values are never touched, and their shape says which datum is which.

An array is experiments x observations (steady cases) or times x places (evolution cases). Axes of
length 1 may be missing or extra, since they leave no doubt; an array of another shape is refused,
even where it has as many values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from mpi4py import MPI

from npde_opt import reductions
from npde_opt.errors import InputError
from npde_opt.io.fields import hint, thick


def by_experiment(
    field: str, values: np.ndarray, experiments: int, observations: int, columns: bool
) -> np.ndarray:
    """Values as (experiments, observations).

    Args:
        columns: the values come from a text table, with a row an observation and a column an
            experiment.

    Raises:
        InputError: for another shape, naming `field`, with a hint where it looks transposed.
    """
    wanted = (experiments, observations)
    given = values.T if columns and values.ndim == 2 else values
    if thick(given.shape) == thick(wanted):
        return given.reshape(wanted)
    if columns:
        raise InputError(
            field,
            f"{values.shape[0]} rows and {values[0].size} columns",
            f"{observations} rows, one an observation, and {experiments} columns, one an "
            "experiment "
            "(column = [...])",
        )
    raise InputError(
        field,
        f"an array of shape {values.shape}",
        f"shape {wanted}: {experiments} experiments x "
        f"{observations} observations{hint(values.shape, wanted, '[experiment, observation]')}",
    )


def by_time(
    field: str,
    values: np.ndarray,
    times: int,
    places: int,
    cells: Sequence[int] | None,
    own: slice = slice(None),
) -> np.ndarray:
    """Values as (times, places), cells with x fastest; a view, but of boxes of cells.

    Args:
        own: a run of the places, which alone is read of a memory map.
        cells: the shape of the grid where every cell is observed: then an array may be (times,
            *cells) too.

    Raises:
        InputError: for another shape, naming `field`, with a hint where it looks transposed.
    """
    flat = values.ndim == 1 and values.size == times * places
    if flat or thick(values.shape) == thick((times, places)):
        return values.reshape(times, places)[:, own]
    boxes = (times, *cells) if cells is not None else ()
    if cells is not None and thick(values.shape) == thick(boxes):
        numbers = np.unravel_index(np.arange(places)[own], tuple(cells), order="F")
        index: tuple[slice | np.ndarray, ...] = (slice(None), *numbers)
        return np.asarray(values.reshape(boxes)[index])
    listed = f"{times * places} values"
    listed += (
        f" by time and place, or shape {(times, places)}: times x places"
        if times > 1
        else ", one a place"
    )
    if cells is not None and len(cells) > 1:
        listed += f", or {boxes}"
    near = hint(values.shape, (times, places), "[time, place]") or (
        hint(values.shape, boxes, "[time, x, y, z]") if boxes else ""
    )
    raise InputError(field, f"an array of shape {values.shape}", listed + near)


def deviation(field: str, noise: float, total: float, count: float) -> float:
    """`noise` times the root mean square of so many values, the sum of whose squares is `total`;
    NaN of none.

    Raises:
        InputError: where that is 0, since no datum can be weighed by it.
    """
    if not count:
        return math.nan
    found = float(noise) * float(np.sqrt(total / count))
    if not found > 0:
        allowed = "a positive standard deviation"
        raise InputError(
            f"{field}.sigma", "none, and data that are 0 everywhere", allowed
        )
    return found


def positive(
    field: str, sigma: np.ndarray, observed: np.ndarray, comm: MPI.Intracomm
) -> np.ndarray:
    """Standard deviations, 1 where nothing was observed. Collective.

    Raises:
        InputError: for one that is not positive or missing where there is a datum.
    """
    needed = ~np.isnan(observed)
    bad = needed & ~(sigma > 0)
    count = int(reductions.total(comm, float(bad.sum())))
    if count:
        first = np.concatenate(comm.allgather(sigma[bad][:1]))[0]
        allowed = f"positive standard deviations ({count} are not)"
        raise InputError(field, float(first), allowed)
    return np.where(needed, sigma, 1.0)


def some(field: str, observed: Sequence[np.ndarray], comm: MPI.Intracomm) -> None:
    """Raises InputError where no datum was observed at all, on any rank. Collective."""
    there = sum(int(np.isfinite(values).sum()) for values in observed)
    own = np.array([there, sum(v.size for v in observed)], float)
    there, count = reductions.total(comm, own).astype(int)
    if not there:
        raise InputError(field, f"NaN only ({count} values)", "at least one value")
