"""Named stages for -log_view: setup, assemble, forward, adjoint, hessian, regularization, io."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from petsc4py import PETSc

NOTHING = contextlib.nullcontext()
NAMES = ("setup", "assemble", "forward", "adjoint", "hessian", "regularization", "io")


def stage(name: str) -> contextlib.AbstractContextManager[None]:
    """Attributes what PETSc does inside the block to the stage of that name, where it logs."""
    if name not in NAMES:
        raise ValueError(f"stage {name!r} is none of {NAMES}")
    return _stage(name) if PETSc.Log.isActive() else NOTHING


@contextlib.contextmanager
def _stage(name: str) -> Iterator[None]:
    log = PETSc.Log.Stage(name)
    log.push()
    try:
        yield
    finally:
        log.pop()
