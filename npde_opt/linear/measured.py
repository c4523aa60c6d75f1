"""How good the solves of a block are: |b - A x| / |b| in the 2-norm, of every system solved inside
`measured()`.

It costs a product with A a solve there, and nothing outside: a run measures its answer, not its
way.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from petsc4py import PETSc

from npde_opt.linear.residual import relative

KINDS = ("state", "adjoint", "newton")
"""States and implicit stages; their adjoints; linear systems inside Newton's method."""


@dataclass
class Solves:
    """Systems of one kind: the largest relative residual, how many there were, all their
    iterations."""

    residual: float = 0.0
    count: int = 0
    iterations: int = 0

    def add(self, residual: float, iterations: int) -> None:
        self.residual = float(np.maximum(self.residual, residual))  # max() loses a NaN
        self.count += 1
        self.iterations += iterations


_open: list[dict[str, Solves]] = []


@contextlib.contextmanager
def measured() -> Iterator[dict[str, Solves]]:
    """The systems solved inside the block, by kind."""
    _open.append({kind: Solves() for kind in KINDS})
    try:
        yield _open[-1]
    finally:
        _open.pop()


def measuring() -> bool:
    """Whether a block is open."""
    return bool(_open)


def note(kind: str, residual: float, iterations: int) -> None:
    """Counts a system whose relative residual is at hand; nothing outside `measured()`."""
    if _open:
        _open[-1][kind].add(residual, iterations)


def take(
    kind: str,
    A: PETSc.Mat,
    b: PETSc.Vec,
    x: PETSc.Vec,
    iterations: int,
    transposed: bool = False,
) -> None:
    """Counts A x = b, or A^T x = b, after its solve; nothing outside `measured()`. Collective."""
    if not _open:
        return
    work = b.duplicate()
    residual, _ = relative(A, b, x, work, transposed)
    work.destroy()
    note(kind, residual, iterations)
