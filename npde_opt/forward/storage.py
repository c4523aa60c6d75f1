"""What trajectories may take, and forward sweeps whose layers are visited again backward within it.

A sweep advances restart data over layers 0 ... N - 1 and gives what the reverse of each layer
needs. Either all of that is kept, or none of it (there is no way back), or a schedule of the
package checkpoint_schedules stores restart data of some layers in memory or on disk and computes
the rest again. Steps done over N is the recomputation factor (1 without a schedule).
"""

from __future__ import annotations

import contextlib
import functools
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from npde_opt.capacity import memory_available
from npde_opt.errors import InputError
from npde_opt.io.files import disk
from npde_opt.lazily import loaded_lazily
from npde_opt.packages import tempfile

if TYPE_CHECKING:
    import checkpoint_schedules as schedules
    from checkpoint_schedules import Copy, Forward, Move, StorageType
    from checkpoint_schedules.schedule import CheckpointAction
else:
    schedules = loaded_lazily("checkpoint_schedules")

Arrays = tuple[np.ndarray | None, ...]
Advance = Callable[[int, Arrays], tuple[Arrays, Arrays]]
"""(n, restart data of step n) -> (restart data of step n + 1, what the reverse of step n needs
beside them)."""

Several = Callable[[int, int, Arrays, bool], tuple[int, Arrays, list[Arrays]] | None]
"""(n, stop, restart data of step n, keep) -> (a number of steps from n on, not beyond `stop`, the
restart data behind them, what the reverse of each needs, or that of the last one where nothing is
to be kept); None where a single step has to be done by `Advance`."""

Stored = Arrays | Path
"""Arrays in memory, or the file that has them."""

Visit = Callable[[int, Arrays], None]
"""(n, what the reverse of step n needs)."""

TABULATED = 1_000_000_000
"""Steps squared times units up to which the table of an optimal schedule takes about a second
(compiled by numba)."""


@dataclass(frozen=True)
class Plan:
    """How a trajectory of `steps` steps is stored: everything where `memory` and `disk` are 0, else
    so many units; nothing where it goes forward only.

    A unit is the restart data of a step or what its reverse needs. predicted: steps done over
    `steps`, the first sweep included.
    """

    steps: int
    memory: int = 0
    disk: int = 0
    folder: str | None = None
    forward_only: bool = False

    @property
    def keeps_all(self) -> bool:
        return self.memory + self.disk == 0 and not self.forward_only

    def actions(self) -> list[CheckpointAction]:
        """The schedule's actions, for one forward and one reverse sweep."""
        _compile_once()
        units = min(self.memory + self.disk, self.steps - 1)
        if self.disk == 0 and self.steps**2 * units <= TABULATED:
            schedule = schedules.MixedCheckpointSchedule(
                self.steps, units, storage=schedules.StorageType.RAM
            )
        else:
            in_memory = min(self.memory, units)
            schedule = schedules.MultistageCheckpointSchedule(
                self.steps, in_memory, self.disk
            )
        found = []
        for action in schedule:
            found.append(action)
            if isinstance(action, schedules.EndReverse):
                break
        return found

    @property
    def predicted(self) -> float:
        if self.keeps_all or self.forward_only:
            return 1.0
        forward = (a for a in self.actions() if isinstance(a, schedules.Forward))
        return sum(min(a.n1, self.steps) - a.n0 for a in forward) / self.steps


@functools.cache
def _compile_once() -> None:
    """numba keeps on disk what it compiles of the schedules, which takes it some seconds."""
    for function in (
        schedules.mixed.mixed_steps_tabulation,
        schedules.multistage.n_advance,
    ):
        # Where no folder can be written, every process compiles.
        with contextlib.suppress(RuntimeError):
            function.enable_caching()


def plan(
    steps: int,
    step_bytes: int,
    unit_bytes: int,
    budget: float | None,
    disk: float = 0.0,
    folder: str | None = None,
) -> Plan:
    """The plan for a trajectory within `budget` bytes of memory and `disk` bytes of disk.

    Args:
        step_bytes: a step where all is kept.
        unit_bytes: a stored unit.
        budget: None keeps all.

    Raises:
        InputError: where the budget does not hold a single unit.
    """
    if budget is None or steps * step_bytes <= budget or steps < 2:
        return Plan(steps)
    memory, on_disk = int(budget // unit_bytes), int(disk // unit_bytes)
    if memory < 1:
        least = f"at least {unit_bytes:,} bytes a rank for one checkpoint"
        raise InputError("memory", f"{budget:.4g} bytes", least)
    memory = min(memory, steps - 1)
    return Plan(steps, memory, min(on_disk, steps - 1 - memory), folder)


@dataclass(frozen=True)
class Plans:
    """How the trajectories of a chain are stored.

    Args:
        states: the plan for states. both: for states and increments together.
        multipliers: whether those of all layers are kept for second derivatives, beside all states
            and increments.
    """

    states: Plan
    both: Plan
    multipliers: bool = True

    @classmethod
    def all(cls, steps: int) -> Plans:
        """Everything is kept."""
        return cls(Plan(steps), Plan(steps))


@dataclass(frozen=True)
class Storage:
    """What trajectories may take: bytes of memory a rank (None: all states are kept) and of disk,
    and where.

    forward_only: no adjoint is wanted, and no state is kept whatever the budget.
    """

    memory: float | None = None
    disk: float = 0.0
    folder: str | None = None
    forward_only: bool = False

    def plans(
        self, steps: int, state: int, stages: int, runs: int, ranks: int
    ) -> Plans:
        """The plans for `runs` trajectories, which share the budget; multipliers and increments are
        kept where thrice the states fit.

        Args:
            state: bytes of a state. stages: states a step.

        Raises:
            InputError: where the budget does not hold one checkpoint a trajectory, or this machine
                not all states where there is none.
        """
        if self.forward_only:
            forward = Plan(steps, forward_only=True)
            return Plans(forward, forward, False)
        unit = state * stages
        budget = None if self.memory is None else self.memory / runs
        if budget is None:
            _check_room(steps, unit * runs)
        if budget is not None and budget < unit:
            least = f"at least {unit * runs * ranks:,} bytes for one checkpoint an experiment"
            given = f"{budget * runs * ranks:.4g} bytes"
            raise InputError(
                "memory", given, f"{least} ({runs}) on all ranks ({ranks})"
            )
        # To start again an increment needs the state, itself and the one before.
        both = max(2 * unit, 3 * state)
        least_both = None if budget is None else max(budget, both)
        share = self.disk / runs
        return Plans(
            plan(steps, unit, unit, budget, share, self.folder),
            plan(steps, 2 * unit, both, least_both, share, self.folder),
            budget is None or 3 * steps * unit <= budget,
        )


def _check_room(steps: int, step_bytes: int) -> None:
    """Raises InputError where all states are more than one rank of this machine can have."""
    needed, there = float(steps) * step_bytes, memory_available()
    if needed > there:
        raise InputError(
            "--memory",
            f"none, for {steps:,} steps whose states take {needed / 1e9:,.3g} GB a rank",
            f"a budget below the {there / 1e9:,.3g} GB that are there, such as --memory "
            f"{there / 2e9:.1f}GB for all ranks: other states are computed again where they are "
            "needed",
        )


class Sweep:
    """One trajectory, forward once and backward.

    Args:
        plan: how it is stored.
        advance: does a step.
        start: restart data of step 0.
        several: does some steps in one call where that goes; where nothing is kept, it may write
            over the restart data that it gave before, but over no others.

    `last` has the restart data after the last step; `exhausted` says that a reverse needs another
    forward sweep.
    """

    def __init__(
        self,
        plan: Plan,
        advance: Advance,
        start: Arrays,
        several: Several | None = None,
    ):
        self.plan, self._advance, self._restart = plan, advance, start
        self._several = several
        self.steps_done = 0
        self._kept: list[Arrays] = []
        self._actions: Iterator[CheckpointAction] | None = None
        self.last = start
        self._stored: dict[tuple[StorageType, int], dict[str, Stored]] = {}
        self._work: Arrays | None = None
        self._folder: Path | None = None
        self.exhausted = False

    def forward(self) -> None:
        """The first sweep, up to the last step."""
        if self.plan.keeps_all:
            self._go(0, self.plan.steps, self._kept)
        elif self.plan.forward_only:
            self._go(0, self.plan.steps)
        else:
            self._actions = iter(self.plan.actions())
            self._run(lambda n, needed: None, schedules.EndForward)
        self.last = self._restart

    def reverse(self, visit: Visit) -> None:
        """Calls visit(n, needed) for n = N - 1 ... 0; a scheduled sweep once only, whether or not
        the visits fail.

        Raises:
            ValueError: where the sweep was to go forward only.
        """
        if self.plan.forward_only:
            raise ValueError(
                "nothing is kept of a sweep that goes forward only: no adjoint"
            )
        if self.plan.keeps_all:
            for n in range(self.plan.steps - 1, -1, -1):
                visit(n, self._kept[n])
            return
        self.exhausted = True
        try:
            self._run(visit, schedules.EndReverse)
        finally:
            self.destroy()

    def kept(self, n: int) -> Arrays:
        """What the reverse of step n needs, where all is kept."""
        return self._kept[n]

    def _go(self, n: int, stop: int, kept: list[Arrays] | None = None) -> Arrays:
        """Does the steps n ... stop - 1. What the reverse of the last one needs; that of all goes
        to `kept`."""
        needed: Arrays = ()
        while n < stop:
            done, self._restart, found = self._steps(n, stop, kept is not None)
            n, needed = n + done, found[-1]
            self.steps_done += done
            if kept is not None:
                kept += found
        return needed

    def _steps(self, n: int, stop: int, keep: bool) -> tuple[int, Arrays, list[Arrays]]:
        """Of `Several`, or a single step."""
        if self._several is not None:
            found = self._several(n, stop, self._restart, keep)
            if found is not None:
                return found
        restart, needed = self._advance(n, self._restart)
        return 1, restart, [needed]

    def _run(self, visit: Visit, until: type) -> None:
        assert self._actions is not None
        for action in self._actions:
            if isinstance(action, schedules.Forward):
                self._forward(action)
            elif isinstance(action, schedules.Reverse):
                for n in action:
                    assert self._work is not None
                    visit(n, self._work)
            elif isinstance(action, schedules.Copy | schedules.Move):
                self._load(action)
            if isinstance(action, until):
                return

    def _forward(self, action: Forward) -> None:
        """Restart data are stored as those of the first step, needed data as those of the last."""
        if action.write_ics:
            self._put(action.storage, action.n0, {"restart": self._restart})
        needed = self._forth(action)
        if action.write_adj_deps:
            if action.storage == schedules.StorageType.WORK:
                self._work = needed
            else:
                self._put(action.storage, action.n0, {"needed": needed})

    def _forth(self, action: Forward) -> Arrays:
        """Does an action's steps; what the reverse of the last one needs. The last two are done one
        by one: what may be stored is of them, and where nothing is kept, several steps write over
        what they begin with."""
        stop = min(action.n1, self.plan.steps)
        apart = max(action.n0, stop - 2)
        needed = self._go(action.n0, apart)
        for n in range(apart, stop):
            self._restart, needed = self._advance(n, self._restart)
            self.steps_done += 1
        return needed

    def _put(self, storage: StorageType, n: int, data: Mapping[str, Arrays]) -> None:
        if storage == schedules.StorageType.DISK:
            self._stored[storage, n] = {
                k: self._write(f"{n}_{k}", v) for k, v in data.items()
            }
        else:
            self._stored[storage, n] = dict(data)

    def _load(self, action: Copy | Move) -> None:
        key, last = (action.from_storage, action.n), isinstance(action, schedules.Move)
        data = self._stored.pop(key) if last else self._stored[key]
        for kind, value in data.items():
            arrays = self._read(value, last) if isinstance(value, Path) else value
            if kind == "restart":
                self._restart = arrays
            else:
                self._work = arrays

    def _write(self, name: str, arrays: Arrays) -> Path:
        given: dict[str, Any] = {}
        for i, a in enumerate(arrays):
            if a is not None:
                given[f"a{i}"] = np.ascontiguousarray(a.T)
        with self._on_disk():
            if self._folder is None:
                self._folder = Path(
                    tempfile.mkdtemp(prefix="npde_opt_", dir=self.plan.folder)
                )
            path = self._folder / f"{name}.npz"
            np.savez(path, count=len(arrays), **given)
        return path

    def _read(self, path: Path, remove: bool) -> Arrays:
        with self._on_disk(), np.load(path) as file:
            names = [f"a{i}" for i in range(int(file["count"]))]
            arrays = tuple(
                layout(file[name].T) if name in file else None for name in names
            )
            if remove:
                path.unlink()
        return arrays

    def _on_disk(self) -> contextlib.AbstractContextManager[None]:
        folder = self._folder or self.plan.folder or tempfile.gettempdir()
        allowed = "a folder with space that can be written, or less of Storage.disk"
        return disk("storage of trajectories", folder, allowed)

    def destroy(self) -> None:
        """Frees what is stored, on disk too."""
        self._kept, self._stored, self._work = [], {}, None
        self._restart = self.last = ()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def layout(a: np.ndarray) -> np.ndarray:
    """The array [c, i, j, k] with each channel stored x fastest."""
    axes = (0, *range(a.ndim - 1, 0, -1))
    return np.ascontiguousarray(a.transpose(axes)).transpose(axes)
