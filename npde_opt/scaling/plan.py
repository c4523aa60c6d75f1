"""The runs of a scaling study: one driver's command on many numbers of ranks.

strong  the same grid on every number of ranks
weak    the given grid on the fewest ranks, and as many cells a rank on the others: axes grow by
        (ranks / fewest)^(1/d), to multiples of what keeps the grid's halving
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from npde_opt.aliases import Record
from npde_opt.capacity import fits
from npde_opt.errors import InputError

KINDS = ("strong", "weak")
HALVED = 8
"""Axes of weak runs stay multiples of this, where the given ones are: three halvings."""
LEAST_BYTES = 100.0
"""A cell needs at least so many bytes in a run that does anything with it."""
WITH_GRID = ("identify.py", "simulate.py")
"""Drivers of cases with a grid that a study may change."""


@dataclass(frozen=True)
class Run:
    """One start of the driver.

    Attributes:
        grid: cells along each axis; empty: the case's own.
        groups: of experiments.
        repeat: 0, 1, ... of runs that are alike.
    """

    kind: str
    ranks: int
    groups: int
    grid: tuple[int, ...]
    repeat: int

    @property
    def name(self) -> str:
        """Of its folder, which a strong and a weak run may share."""
        cells = "x".join(str(n) for n in self.grid) or "case"
        return f"{cells}-r{self.ranks}-g{self.groups}-{self.repeat}"

    def options(self) -> list[str]:
        """What it adds to the driver's command."""
        grid = ["--grid", *map(str, self.grid)] if self.grid else []
        groups = ["--experiment-groups", str(self.groups)] if self.groups > 1 else []
        return grid + groups


@dataclass(frozen=True)
class Plan:
    """What a study was asked to run; study.json of its folder.

    Attributes:
        command: the driver's file and its options, without --out and --grid.
        grids: of strong runs, and of weak runs on the fewest ranks.
        where: the folder in which the command is given.
    """

    command: tuple[str, ...]
    kinds: tuple[str, ...]
    ranks: tuple[int, ...]
    groups: tuple[int, ...]
    grids: tuple[tuple[int, ...], ...]
    repeats: int
    where: str

    def check(self, here: bool = True) -> None:
        """Raises InputError for a study that cannot be run.

        Args:
            here: on this machine, whose memory has to hold every run.
        """
        if not self.command or not Path(self.where, self.command[0]).is_file():
            there = "the file of a driver and its options, after --"
            raise InputError("the command", " ".join(self.command) or "none", there)
        for taken in ("--out", "--grid", "--experiment-groups", "--resume"):
            if taken in self.command:
                raise InputError(
                    "the command", taken, "options that the study leaves free"
                )
        _counts("--ranks", self.ranks)
        _counts("--groups", self.groups)
        _counts("--repeats", [self.repeats])
        for grid in self.grids:
            _counts("--grid", grid, distinct=False)
        self._with_grid()
        runs = list(self.runs())
        for run in runs:
            cells = math.prod(run.grid)
            if run.grid and cells < run.ranks:
                raise InputError("--ranks", run.ranks, f"at most the {cells} cells")
            if here:
                fits(f"--grid of {run.ranks} ranks", cells, LEAST_BYTES, "cells")
        if not runs:
            raise InputError("--groups", self.groups, "divisors of a number of ranks")

    def _with_grid(self) -> None:
        driver = Path(self.command[0]).name
        if "weak" in self.kinds and not self.grids:
            raise InputError(
                "--kinds", "weak", "with --grid, the cells of the fewest ranks"
            )
        if self.groups != (1,) and driver.startswith("train_"):
            allowed = f"none with {driver}, which has no experiments"
            raise InputError("--groups", self.groups, allowed)
        if self.grids and driver.startswith("train_"):
            raise InputError(
                "--grid", driver, f"a driver with a grid: {', '.join(WITH_GRID)}"
            )

    def runs(self) -> Iterator[Run]:
        """Every run, those on few ranks first. Groups that do not divide the ranks are left
        out."""
        seen = set()
        for repeat in range(self.repeats):
            for ranks in sorted(self.ranks):
                for kind in self.kinds:
                    for grid in self.grids or ((),):
                        for groups in self.groups:
                            if ranks % groups:
                                continue
                            sized = self._grown(grid, ranks) if kind == "weak" else grid
                            run = Run(kind, ranks, groups, sized, repeat)
                            if run not in seen:
                                seen.add(run)
                                yield run

    def _grown(self, grid: tuple[int, ...], ranks: int) -> tuple[int, ...]:
        factor = (ranks / min(self.ranks)) ** (1 / len(grid))
        return tuple(_multiple(n * factor, math.gcd(n, HALVED)) for n in grid)

    def goes_on_with(self, other: Plan) -> bool:
        """Whether it has all runs of another one of the same command."""
        same = (self.command, self.where) == (other.command, other.where)
        return same and set(self.runs()) >= set(other.runs())

    def text(self) -> str:
        """study.json."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @staticmethod
    def of(record: Record) -> Plan:
        """What study.json holds."""
        return Plan(
            command=tuple(record["command"]),
            kinds=tuple(record["kinds"]),
            ranks=tuple(record["ranks"]),
            groups=tuple(record["groups"]),
            grids=tuple(tuple(g) for g in record["grids"]),
            repeats=record["repeats"],
            where=record["where"],
        )


def _multiple(value: float, of: int) -> int:
    return max(of, of * round(value / of))


def _counts(field: str, values: Sequence[int], distinct: bool = True) -> None:
    wrong = [n for n in values if n < 1]
    if not values or wrong:
        raise InputError(
            field, wrong[0] if wrong else "none", "whole numbers from 1 on"
        )
    if distinct and len(set(values)) < len(values):
        raise InputError(field, " ".join(map(str, values)), "each number once")
