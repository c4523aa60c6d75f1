"""What callers give: arrays, sizes, weights, tolerances and ridges, and what is allowed of them."""

from __future__ import annotations

import numpy as np
from mpi4py import MPI

from npde_opt import reductions
from npde_opt.aliases import Numbers
from npde_opt.errors import InputError, collective
from npde_opt.pseudoinverse.solution import CHOICES


def matrix(name: str, given: object, number: type[np.floating]) -> np.ndarray:
    """An array of real numbers, in a precision; those that a mask hides are NaN.

    Raises:
        InputError: for words, complex numbers, and rows of different lengths.
    """
    mask = getattr(given, "mask", None) if isinstance(given, np.ndarray) else None
    try:
        found = np.asarray(given)
        if mask is not None:
            found = np.where(mask, np.nan, found)
        told = f"{found.dtype} of shape {found.shape}"
        if found.dtype.kind in "fiubO":
            # Numbers above those of single precision become inf, which is told.
            with np.errstate(over="ignore"):
                real: np.ndarray = found.astype(number, copy=False)
            return real
    except (TypeError, ValueError) as error:
        told = str(error)
    raise InputError(f"pseudoinverse: {name}", told, "an array of real numbers")


def size(name: str, given: int, least: int = 1) -> int:
    """A whole number.

    Raises:
        InputError: for another.
    """
    if not isinstance(given, int | np.integer) or given < least:
        wanted = "a positive integer" if least else "an integer from 0 on"
        raise InputError(f"pseudoinverse: {name}", given, wanted)
    return int(given)


def roots_of(weights: np.ndarray | None, rows: int) -> np.ndarray | None:
    """Of weights of rows; None for none."""
    if weights is None:
        return None
    given = matrix("weights", weights, np.float64)
    if given.shape != (rows,) or not (np.isfinite(given) & (given >= 0)).all():
        said = f"shape {given.shape}, least {np.min(given, initial=np.inf)}"
        raise InputError("pseudoinverse: weights", said, f"{rows} finite numbers >= 0")
    roots: np.ndarray = np.sqrt(given)
    return roots


def agree_on(
    comm: MPI.Intracomm,
    sizes: tuple[object, ...],
    targets: int,
    tolerance: float | None,
    ridge: Numbers | str,
) -> None:
    """Raises InputError for a tolerance or a ridge that is none, and NpdeError where ranks differ
    in them or in sizes. Collective."""
    with collective(comm):
        check_settings(tolerance, ridge, targets)
    kind = ridge if isinstance(ridge, str) else np.shape(ridge)
    told = (*sizes, tolerance is None, kind)
    reductions.same(comm, str(told), "pseudoinverse: sizes and settings")
    reductions.same(comm, float(tolerance or 0), "pseudoinverse: tolerance")
    weights = ridge if isinstance(ridge, str) else np.ravel(ridge).tolist()
    reductions.same(comm, str(weights), "pseudoinverse: ridge")


def check_settings(tolerance: float | None, ridge: Numbers | str, targets: int) -> None:
    """Raises InputError for a tolerance or a ridge that is none."""
    if tolerance is not None:
        relative = matrix("tolerance", tolerance, np.float64)
        if relative.shape or not 0 <= relative < 1:
            allowed = "a number in [0, 1), or None"
            raise InputError("pseudoinverse: tolerance", tolerance, allowed)
    if isinstance(ridge, str):
        if ridge not in CHOICES:
            wanted = ", ".join(["numbers", *map(repr, CHOICES)])
            raise InputError("pseudoinverse: ridge", repr(ridge), wanted)
        return
    given = matrix("ridge", ridge, np.float64)
    if (
        given.shape not in ((), (targets,))
        or not (np.isfinite(given) & (given >= 0)).all()
    ):
        wanted = f"a number >= 0, or one a target ({targets})"
        raise InputError("pseudoinverse: ridge", given.tolist(), wanted)
