"""The folder of chains, which the first group of ranks writes and reads for all.

OUT/chain-K.csv        one line a kept step: lp__ (log density without its constant),
                       accept_stat__, and the figures, as Stan's files have them (arviz reads
                       them by from_cmdstan)
OUT/chain-K/           its checkpoints
OUT/chain-K.zarr       fields of some of the samples, where they are asked for
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.aliases import Record
from npde_opt.errors import InputError, collective
from npde_opt.io.checkpoint import (
    Checkpoint,
    check_identity,
    find_checkpoint,
    save_checkpoint,
)
from npde_opt.io.files import disk, whole_file
from npde_opt.io.zarr_growing import GrowingStore
from npde_opt.objective import Objective
from npde_opt.sampling.chain import Chain, Look
from npde_opt.sampling.settings import SamplingSettings

COLUMNS = ("lp__", "accept_stat__")
TRACE = "trace.npy"
LEAST = "objective at the minimizer"
SAME = {"rel_tol": 1e-6, "abs_tol": 1e-6}
"""Differences up to which values of J at minimizers are those of one problem: they differ in their
last digits between numbers of ranks."""


@dataclass(frozen=True)
class Kept:
    """What of samples is kept as fields, in Zarr's format.

    Args:
        of: own values [i, j, k] by name, of the parameters' grid; collective.
        every: of the samples that make rows of the trace one in so many, the first one too.
        length_unit: of the grid's coordinates.
    """

    of: Callable[[PETSc.Vec], Mapping[str, np.ndarray]]
    every: int = 1
    length_unit: str = ""

    def __post_init__(self) -> None:
        if self.every < 1:
            raise InputError("sampling.fields", self.every, "a number >= 1")

    def numbers(self, settings: SamplingSettings) -> np.ndarray:
        """Steps after the burn-in, of all samples of a chain whose fields are kept."""
        first, every = settings.every, settings.every * self.every
        return np.arange(first, settings.steps + 1, every)


@dataclass(frozen=True)
class Folder:
    """All methods are collective over the ranks of all groups.

    Args:
        least: J at the minimizer. identity: of the run, in the caller's words.
        kept: of samples as fields.
    """

    out: Path
    objective: Objective
    settings: SamplingSettings
    names: tuple[str, ...]
    least: float
    identity: Mapping[str, str]
    kept: Kept | None = None

    @property
    def _writes(self) -> bool:
        """Whether this rank's group has the folder."""
        return self.objective.ensemble.across.rank == 0

    @property
    def _told(self) -> Record:
        """What chains that go on have in common with what they were."""
        return {
            **_told(self.settings),
            "names of the figures": list(self.names),
            LEAST: self.least,
        }

    def resume(self, chain: Chain, number: int) -> None:
        """Lets the chain go on from its last checkpoint, if there is one.

        Raises:
            InputError: naming what is not as in the run that wrote it.
        """
        objective, path, found = self.objective, self.out / f"chain-{number}", None
        with collective(objective.everyone):
            if self._writes:
                found = self._find(path)
        found = objective.ensemble.across.bcast(found, root=0)
        if found is None:
            return
        self._check(found)
        rows = self._rows(found)
        vectors = found.load_for_all(objective.space, objective.ensemble)
        chain.restore(vectors, dict(found.state), rows)

    def _find(self, path: Path) -> Checkpoint | None:
        comm = self.objective.comm
        with collective(comm), disk("the samples", path):
            if comm.rank == 0:
                path.mkdir(parents=True, exist_ok=True)
        return find_checkpoint(path, comm)

    def _check(self, found: Checkpoint) -> None:
        check_identity(found, self.identity)
        _refuse(found, self.settings, self._told)

    def _rows(self, found: Checkpoint) -> np.ndarray:
        """The trace up to there."""
        rows = np.load(io.BytesIO(found.attachments[TRACE]))
        wanted = (found.state["kept"], len(COLUMNS) + len(self.names))
        if rows.shape != wanted:
            where = f"{found.path / TRACE}, rows and columns"
            raise InputError(where, rows.shape, f"{wanted}, or another folder")
        return np.asarray(rows)

    def look(self, number: int) -> Look | None:
        """What keeps fields of a chain's samples, given each with its number from 0; None where
        none are kept.

        Raises:
            InputError: for fields of another grid, or of other samples, in the folder.
        """
        kept, store = self.kept, None
        if kept is None:
            return None
        grid, everyone = self.objective.space.grid, self.objective.everyone
        with collective(everyone):
            if self._writes:
                leading = {"sample": kept.numbers(self.settings)}
                store = GrowingStore(
                    self.out / f"chain-{number}.zarr",
                    grid,
                    leading,
                    length_unit=kept.length_unit,
                )

        def keep(sample: int, m: PETSc.Vec) -> None:
            at, rest = divmod(sample, kept.every)
            if rest:
                return
            fields = kept.of(m)
            with collective(everyone):
                if store is not None:
                    store.append(fields, (at,))

        return keep

    def save(self, chain: Chain, number: int) -> None:
        """Writes a checkpoint and the trace."""
        with collective(self.objective.everyone):
            if self._writes:
                self._save(chain, self.out / f"chain-{number}")

    def _save(self, chain: Chain, path: Path) -> None:
        comm, rows = self.objective.comm, io.BytesIO()
        table = np.array(chain.rows).reshape(-1, len(COLUMNS) + len(self.names))
        np.save(rows, table)
        save_checkpoint(
            path,
            comm,
            self.objective.space,
            chain,
            chain.progress.done,
            extra={"identity": dict(self.identity), "sampling": self._told},
            attachments={TRACE: rows.getvalue()},
        )
        with collective(comm), disk("the samples", path):
            if comm.rank == 0:
                with whole_file(path.with_suffix(".csv")) as file:
                    text = csv_text(self.names, table, chain.progress.s)
                    file.write(text.encode())


def refuse_other_chains(
    out: Path, settings: SamplingSettings, comm: MPI.Intracomm
) -> None:
    """Raises InputError where a folder has chains that these settings do not go on with.
    Collective."""
    found = None
    with collective(comm):
        if (out / "chain-0").is_dir():
            found = find_checkpoint(out / "chain-0", comm)
    if found is not None:
        _refuse(found, settings, _told(settings))


def _told(s: SamplingSettings) -> Record:
    """What chains that go on have in common with what they were, of their settings."""
    told: Record = {
        "method": s.method,
        "seed": s.seed,
        "step": s.step,
        "burn_in": s.burn_in,
        "every": s.every,
    }
    # Other methods and chains have none: those from before there were any go on.
    if s.method == "hmc":
        told["leaps"] = s.leaps
    if s.tempered:
        asked = s.temperatures
        told["temperatures"] = asked if isinstance(asked, int) else list(asked)
    return told


def _refuse(found: Checkpoint, settings: SamplingSettings, told: Record) -> None:
    before = found.extra.get("sampling", {})
    # Chains without copies do not go on with those of some.
    told = {"temperatures": 1} | told
    before = {"temperatures": 1} | before
    for key, now in told.items():
        was = before.get(key)
        if key == LEAST and was is not None and math.isclose(was, now, **SAME):
            continue
        if was != now:
            allowed = f"{was}, as in {found.path}, or another folder"
            raise InputError(f"sampling: {key}", now, allowed)
    steps = found.state["done"] - settings.burn_in
    if steps > settings.steps:
        allowed = f"at least {steps}, as {found.path} has, or another folder"
        raise InputError("sampling.steps", settings.steps, allowed)


def csv_text(names: Sequence[str], rows: np.ndarray, step: float) -> str:
    """A chain as Stan's files have it."""
    lines = ["# num_warmup = 0", f"# step = {step!r}", ",".join([*COLUMNS, *names])]
    for row in rows:
        density = [repr(float(-row[0])), *(repr(float(v)) for v in row[1:])]
        lines.append(",".join(density))
    return "\n".join(lines) + "\n"
