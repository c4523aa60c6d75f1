"""What callers give beside rows: weights, tolerances and ridges, and what is allowed of them."""

from __future__ import annotations

import numpy as np

from npde_opt.aliases import Numbers
from npde_opt.errors import InputError
from npde_opt.pseudoinverse.solution import CHOICES


def roots_of(weights: np.ndarray | None, rows: int) -> np.ndarray | None:
    """Of weights of rows; None for none."""
    if weights is None:
        return None
    given = np.asarray(weights, float)
    if given.shape != (rows,) or not (np.isfinite(given) & (given >= 0)).all():
        said = f"shape {given.shape}, least {np.min(given, initial=np.inf)}"
        raise InputError("pseudoinverse: weights", said, f"{rows} finite numbers >= 0")
    roots: np.ndarray = np.sqrt(given)
    return roots


def check_settings(tolerance: float | None, ridge: Numbers | str, targets: int) -> None:
    """Raises InputError for a tolerance or a ridge that is none."""
    if tolerance is not None and not 0 <= tolerance < 1:
        raise InputError(
            "pseudoinverse: tolerance", tolerance, "a number in [0, 1), or None"
        )
    if isinstance(ridge, str):
        if ridge not in CHOICES:
            wanted = ", ".join(["numbers", *map(repr, CHOICES)])
            raise InputError("pseudoinverse: ridge", repr(ridge), wanted)
        return
    given = np.asarray(ridge, float)
    if (
        given.shape not in ((), (targets,))
        or not (np.isfinite(given) & (given >= 0)).all()
    ):
        wanted = f"a number >= 0, or one a target ({targets})"
        raise InputError("pseudoinverse: ridge", given.tolist(), wanted)
