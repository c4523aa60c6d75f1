"""Rows [1 H T] that come in blocks, on any ranks, of which each keeps (n + k + 1)^2 numbers.

Methods differ in what they keep: a triangle R with R^T R = A^T A (see fold.py), or A^T A itself
(see gram.py), A being all the rows; from either

    R = [ r  h  t ]        r, h, t: of the column of ones, where there is an intercept
        [    R  C ]        |H W - T|^2 = |R W - C|^2 + |S|^2
        [       S ]

What is kept can be written to a file and read, so that a stream of rows that was killed goes on.
"""

from __future__ import annotations

import itertools
import math
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

import numpy as np
from mpi4py import MPI

from npde_opt import reductions
from npde_opt.aliases import FilePath, Numbers
from npde_opt.capacity import fits
from npde_opt.errors import InputError, collective
from npde_opt.io.files import disk, whole_file
from npde_opt.pseudoinverse import triangle
from npde_opt.pseudoinverse.sample import AllSampled, Sample
from npde_opt.pseudoinverse.settings import agree_on, matrix, roots_of, size
from npde_opt.pseudoinverse.solution import LOO, Reduced, Solution

ROWS = 2000
"""Rows that are taken at once."""
TILE = 256
"""Rows that are copied at once where their order in memory changes: they stay in the cache."""
GONE = 1e-8
"""The share of a row that may lie outside what was folded where it is taken out."""
UNREADABLE = OSError, KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile
"""What reading a damaged file raises."""
FORMAT = 1
"""Of the files of `save`; others are refused."""


@runtime_checkable
class Resumable(Protocol):
    """Blocks that can be had from any number on."""

    def after(self, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]: ...


Solver = Callable[
    [AllSampled | None, int, float | None, Numbers | str],
    Solution,
]
"""The solution, of the sampled rows, the number of all rows, the tolerance and the ridge."""


class Rows(ABC):
    """Rows of features H (n columns) and targets T (k columns), taken as they come.

    Args:
        features, targets: n and k.
        intercept: also find a constant for every target, on which no ridge acts.
        comm: the ranks among which the rows lie; each adds its own, also none.
        block: rows that are taken at once.
        sampled: rows that a rank keeps for ridge='loo': all where it has no more, else as many
            drawn at random.

    Raises:
        InputError: for sizes that are no positive integers, an intercept that is neither True nor
            False, and more columns than memory.
    """

    method: str
    """By which files tell whose they are."""
    copies = 2
    """Of what is kept, while it is worked on."""
    single = False
    """Whether rows are multiplied in single precision."""

    def __init__(
        self,
        features: int,
        targets: int,
        intercept: bool = False,
        comm: MPI.Intracomm = MPI.COMM_SELF,
        block: int = ROWS,
        sampled: int = 0,
    ):
        self.features, self.targets = (
            size("features", features),
            size("targets", targets),
        )
        self.block, sampled = size("block", block), size("sampled", sampled, 0)
        if not isinstance(intercept, bool | np.bool_):
            raise InputError("pseudoinverse: intercept", intercept, "True or False")
        self.first = int(intercept)
        self.comm, self.count, self.blocks = comm, 0, 0
        self.width = self.first + features + targets
        others = sampled + block
        needed = 8.0 * self.width / features * (self.copies * self.width + others)

        def most(there: float) -> float:
            """Columns whose width w has 8 w (copies w + others) = there."""
            root = math.sqrt(others**2 + self.copies * there / 2)
            return (root - others) / (2 * self.copies) - self.first - targets

        fits("pseudoinverse: features", features, needed, "columns", most)
        self.kept = triangle.empty(self.width)
        self._buffer = np.empty(0, self.number)
        self.sample = Sample(sampled, self.width, comm.rank)

    @property
    def number(self) -> type[np.floating]:
        return np.float32 if self.single else np.float64

    @abstractmethod
    def _take(self, H: np.ndarray, T: np.ndarray, roots: np.ndarray | None) -> None:
        """Takes rows in, each times the root of its weight."""

    @abstractmethod
    def _gathered(self) -> Solver | None:
        """Solves with what all ranks keep, as one; on rank 0, None on others. Collective."""

    def add(
        self, H: np.ndarray, T: np.ndarray, weights: np.ndarray | None = None
    ) -> None:
        """Takes rows in; not collective.

        Args:
            H: (m, n). T: (m, k), or (m,) of one target.
            weights: (m,) of the squared errors; None: 1.

        Raises:
            InputError: for other shapes, numbers that are not finite, and weights below 0.
        """
        H, T = self._shaped(H, T)
        roots = roots_of(weights, len(H))
        self._begin(H, T, roots)
        for start in range(0, len(H), self.block):
            rows = slice(start, start + self.block)
            some = None if roots is None else roots[rows]
            if self.sample.size:
                self.sample.offer(self._joined(H[rows], T[rows], some))
            self._take(H[rows], T[rows], some)
        self.count += len(H)
        self.blocks += 1

    def _refuse_sampled(self) -> None:
        """Rows that are kept for leave-one-out cannot be taken out."""
        if self.sample.size:
            told = "rows are sampled"
            raise InputError("pseudoinverse: rows to take out", told, "sampled=0")

    def add_all(
        self,
        blocks: Iterable[tuple[np.ndarray, np.ndarray]] | Resumable,
        checkpoint: FilePath | None = None,
        every: int = 10,
    ) -> None:
        """Takes (H, T) of an iterator in, one after the other; not collective.

        Args:
            blocks: the same, and in the same order, where a stream starts again. Of a `Resumable`
                those before are not even read.
            checkpoint: a file of this rank alone, written after `every` blocks and after the last.
                Where it is there, the blocks that it holds are passed over.

        Raises:
            InputError: as `add`; for a file of other sizes or of another method, and an `every`
                that is no positive integer.
        """
        size("every", every)
        if checkpoint is not None and Path(checkpoint).exists():
            self._restore(checkpoint)
        if isinstance(blocks, Resumable):
            left = blocks.after(self.blocks)
        else:
            left = itertools.islice(blocks, self.blocks, None)
        for H, T in left:
            self.add(H, T)
            if checkpoint is not None and self.blocks % every == 0:
                self.save(checkpoint)
        if checkpoint is not None:
            self.save(checkpoint)

    def _joined(
        self, H: np.ndarray, T: np.ndarray, roots: np.ndarray | None
    ) -> np.ndarray:
        """Rows of [1 H T], each times the root of its weight, whole columns one after the other;
        until the next such call."""
        count = len(H) * self.width
        if self._buffer.size < count:
            self._buffer = np.empty(count, self.number)
        out = self._buffer[:count].reshape((len(H), self.width), order="F")
        out[:, : self.first] = 1.0
        step = len(H) if H.flags.f_contiguous else TILE
        for start in range(0, len(H), max(step, 1)):
            rows = slice(start, start + step)
            out[rows, self.first : self.first + self.features] = H[rows]
        out[:, self.first + self.features :] = T
        if roots is not None:
            out *= roots[:, None]
        return out

    def _shaped(self, H: np.ndarray, T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        H, T = matrix("H", H, self.number), matrix("T", T, self.number)
        if T.ndim == 1:
            T = T[:, None]
        rows = len(H) if H.ndim else 0
        for name, array, columns in (("H", H, self.features), ("T", T, self.targets)):
            if array.ndim != 2 or array.shape != (rows, columns):
                wanted = f"{rows or 'any'} rows of {columns} numbers"
                raise InputError(
                    f"pseudoinverse: {name}", f"shape {array.shape}", wanted
                )
        return H, T

    def _begin(self, H: np.ndarray, T: np.ndarray, roots: np.ndarray | None) -> None:
        """Before any of these rows is taken in: all must be finite."""
        for name, array in (("H", H), ("T", T)):
            # Of what is finite the sum may overflow, but it is never finite with what is not.
            with np.errstate(over="ignore", invalid="ignore"):
                whole = array.sum()
            if np.isfinite(whole):
                continue
            wrong = ~np.isfinite(array).all(axis=1)
            if wrong.any():
                row = self.count + int(np.argmax(wrong))
                told = f"{int(wrong.sum())} rows that are not finite, the first is row {row}"
                raise InputError(f"pseudoinverse: {name}", told, "finite numbers")

    def solve(
        self, tolerance: float | None = None, ridge: Numbers | str = 0.0
    ) -> Solution:
        """W of the rows of all ranks; more rows may be added afterwards. Collective.

        Args:
            tolerance: singular values of H up to so many times the largest are taken for 0; None:
                n times the rounding of a number.
            ridge: adds ridge |W|^2, a number, one a target, or chosen: 'gcv' by generalised
                cross-validation, 'loo' by leave-one-out over the rows that were sampled;
                'gcv-each' and 'loo-each' choose one a target.

        Raises:
            InputError: for a tolerance or ridge that is none, where there are no rows, or none
                whose weight is above 0, and for a W or residual that a number cannot hold.
            NpdeError: where ranks differ in sizes or settings.
        """
        sizes = self.method, self.features, self.targets, self.first
        agree_on(self.comm, sizes, self.targets, tolerance, ridge)
        count = int(reductions.total(self.comm, self.count))
        if count == 0:
            raise InputError("pseudoinverse", "no rows", "at least one")
        sample: AllSampled | None = None
        if isinstance(ridge, str) and ridge.startswith(LOO):
            if not reductions.total(self.comm, len(self.sample.rows)):
                wanted = "rows that were sampled: the argument `sampled`"
                raise InputError(f"pseudoinverse: ridge {ridge!r}", "no rows", wanted)
            sample = self.sample.of_all(self.comm)
        found: Solution | None = None
        solver = self._gathered()
        with collective(self.comm):
            # Of numbers that overflow the answer tells.
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                if solver is not None:
                    found = solver(sample, count, tolerance, ridge)
            if found is not None:
                _check_finite(found)
        sent = replace(found, problem=None) if found is not None else None
        told = self.comm.bcast(sent)
        return found if found is not None else told

    def _reduced(self, R: np.ndarray, sample: AllSampled | None, count: int) -> Reduced:
        """The problem of the features alone. R: as the head of the module has it."""
        first, last = self.first, self.first + self.features
        C, S = R[first:last, last:], R[last:, last:]
        rest = (S**2).sum(axis=0)
        triangle_of_H = np.asfortranarray(R[first:last, first:last])
        centred = sample.centred(R, first, last) if sample is not None else None
        return Reduced(triangle_of_H, C, rest, count, first, centred)

    def _with_intercept(self, found: Solution, R: np.ndarray) -> Solution:
        """R: its first row counts."""
        if not self.first:
            return found
        if not R[0, 0]:
            raise no_weight()
        last = self.first + self.features
        missing = R[0, last:] - R[0, self.first : last] @ found.W
        return replace(found, intercept=missing / R[0, 0])

    def save(self, path: FilePath) -> None:
        """Writes what is kept here into a file (.npz), whole or not at all: `format`, `method`,
        `sizes` (features, targets, intercept, block, sampled), `counts` (rows, blocks), `kept`
        (the upper triangle, column by column), `rows`, `keys` and `seen` of the sample."""
        target = Path(path)
        with disk("pseudoinverse: file", target.parent), whole_file(target) as file:
            np.savez(
                file,
                format=FORMAT,
                method=self.method,
                sizes=self._sizes(),
                counts=[self.count, self.blocks],
                kept=triangle.pack(self.kept),
                rows=self.sample.rows,
                keys=self.sample.keys,
                seen=self.sample.seen,
            )

    def _sizes(self) -> list[int]:
        return [self.features, self.targets, self.first, self.block, self.sample.size]

    def _restore(self, path: FilePath) -> None:
        """Goes on from a file, which must be of the same sizes."""
        before = type(self).load(path, self.comm)
        if before._sizes() != self._sizes():
            wanted = f"{self._sizes()} (features, targets, intercept, block, sampled)"
            raise InputError(
                "pseudoinverse: file", f"{path} of sizes {before._sizes()}", wanted
            )
        self.kept, self.sample = before.kept, before.sample
        self.count, self.blocks = before.count, before.blocks

    @classmethod
    def load(cls, path: FilePath, comm: MPI.Intracomm = MPI.COMM_SELF) -> Self:
        """What `save` wrote.

        Raises:
            InputError: for a file that is not there, or is none of these.
        """
        try:
            with np.load(path) as file:
                if int(file["format"]) != FORMAT or str(file["method"]) != cls.method:
                    raise ValueError(
                        f"format {file['format']}, method {file['method']}"
                    )
                features, targets, first, block, sampled = (
                    int(x) for x in file["sizes"]
                )
                found = cls(features, targets, bool(first), comm, block, sampled)
                found.kept = triangle.unpack(file["kept"], found.width)
                found.count, found.blocks = (int(x) for x in file["counts"])
                rows, keys = file["rows"], file["keys"]
                if rows.shape != (len(keys), found.width):
                    raise ValueError(f"rows of shape {rows.shape}")
                found.sample.go_on(rows, keys, int(file["seen"]))
                if not np.isfinite(found.kept).all():
                    raise ValueError("numbers that are not finite")
        except UNREADABLE as error:
            # Of a file that is no archive numpy says how to trust it.
            told = "no archive" if "pickle" in str(error) else error
            allowed = f"a file that {cls.__name__}.save wrote"
            raise InputError(
                "pseudoinverse: file", f"{path} ({told})", allowed
            ) from error
        return found


def never_added(rows: int) -> InputError:
    """Of rows to take out."""
    allowed = "rows that were added here"
    return InputError("pseudoinverse: rows to take out", f"{rows} rows", allowed)


def no_weight() -> InputError:
    """Where there is no row whose mean an intercept could be."""
    told, allowed = "0 for each row", "one above 0"
    return InputError("pseudoinverse: weights", told, allowed)


def _check_finite(found: Solution) -> None:
    parts = {"W": found.W, "intercept": found.intercept, "residual": found.residual}
    for name, numbers in parts.items():
        if not np.isfinite(numbers).all():
            allowed = "what a number can hold: H and T in other units, or 'qr' (Fold)"
            raise InputError(f"pseudoinverse: {name}", "an overflow", allowed)
