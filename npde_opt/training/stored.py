"""A run that learns from rows of features in files: W = H^+ T, of numbers or of classes.

Files are read a block at a time, a rank its own rows. What a rank has folded is written as it goes,
so that a run which was killed goes on with --resume where it was. Rows come by once: a ridge is
given, or found from what was folded.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mpi4py import MPI

from npde_opt import reductions
from npde_opt.errors import InputError, collective
from npde_opt.figures.spectrum import plot_spectrum
from npde_opt.figures.training import plot_confusion
from npde_opt.io.files import whole_file
from npde_opt.pseudoinverse import METHODS, Rows, StoredRows
from npde_opt.pseudoinverse.files import Pair
from npde_opt.pseudoinverse.learning import HELD
from npde_opt.pseudoinverse.solution import LOO, Solution
from npde_opt.runs.solved_run import SolvedRun
from npde_opt.training.readouts import (
    MODEL,
    SAMPLED,
    SAMPLES,
    Readouts,
    ridge_of,
)
from npde_opt.training.reservoirs import Reservoirs

SPECTRUM, CONFUSION = "singular_values.png", "confusion.png"
METHOD, RIDGE = "qr", "gcv"
"""By default: nothing is known of the rows' condition, and they come by once."""
EVERY = 10
"""Blocks, after which a rank writes what it has."""
SAY = 20.0
"""Seconds, after which the run says how far it is."""


@dataclass(frozen=True)
class Stream:
    """Blocks of rows as the fold takes them.

    Args:
        classes: of which T is the number, one target each; 0: T are numbers.
        told: what says how far the run is.
    """

    rows: StoredRows
    classes: int
    told: SolvedRun

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return self.after(0)

    def after(self, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Blocks from number `count` on."""
        own = self.rows.own[1] - self.rows.own[0]
        done, said = min(count * self.rows.block, own), time.monotonic()
        for H, T in self.rows.after(count):
            yield H, np.eye(self.classes)[T[:, 0].astype(int)] if self.classes else T
            done += len(H)
            if time.monotonic() - said > SAY:
                said = time.monotonic()
                self.told.say(f"{done:,} of {own:,} rows of rank 0")


@dataclass(frozen=True)
class Tested:
    """What W makes of other rows.

    Attributes:
        errors: root mean square of each target, or, of classes, the share that is misread.
        confusion: (class, class that was found), of classes.
    """

    errors: np.ndarray
    confusion: np.ndarray | None


class StoredReadout(SolvedRun):
    """A run that solves for the readout of features that lie in files."""

    can_resume = True

    def check(self) -> None:
        given = self.options
        for option in ("recipe", "features", "repeats"):
            value = getattr(given, option)
            if value is not None:
                told = f"{value} with files of rows"
                raise InputError(f"--{option}", told, "--samples digits or mnist")
        if given.ridge == HELD:
            wanted = "a number, gcv, gcv-each, loo, loo-each: rows come by once"
            raise InputError("--ridge", HELD, wanted)
        self.method = given.method or METHOD
        self.ridge = ridge_of(given.ridge or RIDGE)
        self.names = [files_of(name, given.data) for name in given.samples]
        self.test_names = [files_of(name, given.data) for name in given.test or []]

    def prepare(self) -> None:
        """Opens the files, and what an earlier run has of their rows."""
        self.rows = StoredRows(_paired("--samples", self.names), self.world)
        self.classes = self.rows.classes() if self.options.classes else 0
        self.tests = self._tests() if self.test_names else None
        self.kept = [f"checkpoint-rows-{r}.npz" for r in range(self.world.size)]
        figures = [SPECTRUM, CONFUSION] if self.options.plot else []
        identity = self._identity()
        if self.options.resume:
            there = self.out.file(self.kept[self.world.rank]).exists()
            begun = reductions.total(self.world, int(there)) > 0
            self.out.refuse_another(identity, begun)
        self.out.claim([MODEL, *self.kept, *figures])
        self.out.sign(identity)
        files, ranks = len(self.rows.files), self.world.size
        self.say(
            f"{self.rows.count:,} rows of {self.rows.features} features in {files} files, "
            f"{self.targets} {'classes' if self.classes else 'targets'}; {ranks} ranks"
        )
        self.ready = time.monotonic()

    def _tests(self) -> StoredRows:
        tests = StoredRows(_paired("--test", self.test_names), self.world)
        sizes = [(r.features, r.targets) for r in (tests, self.rows)]
        if sizes[0] != sizes[1]:
            told = f"{sizes[0][0]} features and {sizes[0][1]} targets"
            allowed = f"{sizes[1][0]} and {sizes[1][1]}, as --samples has"
            raise InputError("--test", told, allowed)
        if self.classes and tests.classes() > self.classes:
            told, last = f"class {tests.classes() - 1}", self.classes - 1
            raise InputError("--test", told, f"classes up to {last}, as --samples has")
        return tests

    @property
    def targets(self) -> int:
        return self.classes or self.rows.targets

    def _identity(self) -> dict[str, str]:
        """What the folded rows depend on."""
        sampled = self._sampled()
        return {
            "files": ", ".join(str(name) for name in self.names),
            "rows": f"{self.rows.count} of {self.rows.features}, {self.targets} targets",
            "method": f"{self.method}, {sampled} rows kept",
            "ranks": str(self.world.size),
        }

    def _sampled(self) -> int:
        return SAMPLED if str(self.ridge).startswith(LOO) else 0

    def train(self) -> None:
        """Folds the own rows, and solves."""
        settings = (self.rows.features, self.targets, True, self.world, self.rows.block)
        fit: Rows = METHODS[self.method](*settings, sampled=self._sampled())
        stream = Stream(self.rows, self.classes, self)
        with collective(self.world):
            own = self.out.file(self.kept[self.world.rank])
            fit.add_all(stream, own, EVERY)
        self.found = fit.solve(ridge=self.ridge)
        self.tested = None if self.tests is None else self._tested(self.tests)
        self.solved = time.monotonic()

    def _tested(self, rows: StoredRows) -> Tested:
        """W on the rows of the test. Collective."""
        squares = np.zeros(self.targets)
        counts = np.zeros((self.classes, self.classes))
        with collective(self.world):
            for H, T in rows:
                scores = H @ self.found.W + self.found.intercept
                if self.classes:
                    np.add.at(counts, (T[:, 0].astype(int), scores.argmax(axis=1)), 1)
                else:
                    squares += ((scores - T) ** 2).sum(axis=0)
        if self.classes:
            counts = reductions.total(self.world, counts)
            wrong = 1 - np.trace(counts) / counts.sum()
            return Tested(np.array([wrong]), counts.astype(int))
        return Tested(np.sqrt(reductions.total(self.world, squares) / rows.count), None)

    def report(self) -> None:
        """The readout, figures and the summary."""
        self._say_found()
        with collective(self.world):
            if self.world.rank == 0:
                self._write(self.found)
                if self.options.plot:
                    self._draw(self.found)
        self._summarize()

    def _say_found(self) -> None:
        found = self.found
        self.say(
            f"rank {found.rank} of {len(found.W)}, condition {found.condition:.1e}, ridge "
            f"{found.ridge.min():.2e}; root mean square of what is missed "
            f"{np.sqrt((found.residual**2).mean()):.4g}"
        )
        if self.tested is not None and self.classes:
            self.say(f"{100 * self.tested.errors[0]:.2f} % of the test misread")
        elif self.tested is not None:
            missed = np.sqrt((self.tested.errors**2).mean())
            self.say(f"root mean square of what is missed of the test {missed:.4g}")

    def _write(self, found: Solution) -> None:
        with self.out.writing(), whole_file(self.out.file(MODEL)) as file:
            np.savez(file, allow_pickle=False, W=found.W, intercept=found.intercept)

    def _draw(self, found: Solution) -> None:
        ridge = float(found.ridge.min())
        plot_spectrum(self.out.file(SPECTRUM), found.singular_values, found.cut, ridge)
        if self.tested is not None and self.tested.confusion is not None:
            names = [str(c) for c in range(self.classes)]
            plot_confusion(self.out.file(CONFUSION), self.tested.confusion, names)

    def _summarize(self) -> None:
        found, tested = self.found, self.tested
        kind = "share misread" if self.classes else "root mean square, one a target"
        self.write_summary(
            self.names[0].stem,
            grid=(self.rows.features,),
            unknowns=self.rows.count,
            parameters=int(found.W.size),
            objective=float((found.residual**2).sum()),
            metrics={
                "files": [str(name) for name in self.names],
                "rank": found.rank,
                "condition": found.condition,
                "cut": found.cut,
                "ridge": found.ridge,
                "residual": found.residual,
                "error": None if tested is None else tested.errors,
                "confusion": None if tested is None else tested.confusion,
                "meanings": {
                    "error": f"of the rows of --test: {kind}",
                    "residual": "root mean square of H W + intercept - T, one a target",
                    "objective": "its mean square, summed over targets",
                },
            },
        )


def kind_of(options: argparse.Namespace, world: MPI.Intracomm) -> type[SolvedRun]:
    """What the options ask for: a series, pictures that are named, or rows of files. Collective.

    Raises:
        InputError: for names beside others, and options of files without them; on all ranks.
    """
    given = options.samples
    named = [name for name in given if name in SAMPLES]
    with collective(world):
        if not options.case and named and len(given) > 1:
            wanted = f"one of {', '.join(SAMPLES)}, or files of rows"
            raise InputError("--samples", " ".join(given), wanted)
        if not (options.case or named):
            return StoredReadout
        for option in ("test", "classes", "resume"):
            if getattr(options, option):
                told = f"--{option} with {options.case or named[0]}"
                raise InputError(f"--{option}", told, "it with --samples of files")
        return Reservoirs if options.case else Readouts


def files_of(name: str, folder: str | None) -> Path:
    """The file of a name, here or in --data.

    Raises:
        InputError: where there is none.
    """
    for path in (Path(name), Path(folder or ".") / name):
        if path.is_file():
            return path
    where = f"a file, here or in {folder or '--data'}"
    raise InputError("--samples, --test", name, f"digits, mnist, or {where}")


def _paired(option: str, names: Sequence[Path]) -> list[Path | Pair]:
    """Each .npz by itself, every two .npy as H and T."""
    found: list[Path | Pair] = []
    left = iter(names)
    for name in left:
        if name.suffix == ".npz":
            found.append(name)
            continue
        second = next(left, None)
        if name.suffix != ".npy" or second is None or second.suffix != ".npy":
            told = f"{name} {second or ''}".strip()
            raise InputError(option, told, ".npz with H and T, or pairs H.npy T.npy")
        found.append((name, second))
    return found
