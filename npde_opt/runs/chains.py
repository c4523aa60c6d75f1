"""Chains of a run, by `--uncertainty samples`: what their traces hold, where they are kept, and
what they say.

    OUT/samples/minimizer/    the point that all of them were started around
    OUT/samples/modes/        the directions along which traces have coordinates
    OUT/samples/chain-K.csv   a row a sample; OUT/samples/chain-K/, checkpoints
    OUT/samples/inference.zarr  the traces of all chains, as arviz has them
    OUT/samples/chain-K.zarr  fields of some samples, where [posterior.sampling] asks for them
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.aliases import Record
from npde_opt.cases import Case
from npde_opt.cases.posterior_tables import SamplingTable
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError, collective
from npde_opt.io.checkpoint import find_checkpoint, save_checkpoint
from npde_opt.objective import Objective, ObjectiveAt
from npde_opt.parameters import ParameterSpace
from npde_opt.posterior import Laplace
from npde_opt.posterior.columns import column, gram, mapped
from npde_opt.runs.folder import RunDirectory
from npde_opt.runs.numbers import Numbers
from npde_opt.runs.told import SAMPLED
from npde_opt.sampling import Kept, SamplingSettings, sample, write_inference
from npde_opt.sampling.chain import Chain, Figures
from npde_opt.sampling.diagnostics import LEAST, MIXED
from npde_opt.sampling.folder import refuse_other_chains
from npde_opt.sampling.groups import (
    There,
    check_groups,
    moved,
    moved_columns,
    sample_in_groups,
)
from npde_opt.sampling.run import Sampled

FOLDER, MINIMIZER, FIRST, FIGURE = "samples", "minimizer", "modes", "samples.png"
INFERENCE = "inference.zarr"
RARE = 0.05
"""Share of exchanges between temperatures that are taken, below which copies are of little use."""
MODES = 4
"""Coordinates along the directions that the data tell most of, in the trace."""


def settings_of(section: SamplingTable, seed: int) -> SamplingSettings:
    """Raises InputError naming the key, for what cannot be."""
    asked = section.temperatures
    return SamplingSettings(
        section.method,
        section.steps,
        section.burn_in,
        section.chains,
        section.step,
        section.every,
        section.checkpoint,
        seed,
        section.leaps,
        asked if isinstance(asked, int) else tuple(asked),
    )


def check(
    case: Case, groups: int, seed: int, out: RunDirectory | None, ensemble: Ensemble
) -> None:
    """Raises InputError on every rank for settings that cannot be, and where the folder has other
    chains. Collective."""
    world = ensemble.world
    with collective(world):
        settings = settings_of(case.table.posterior.sampling, seed)
        if settings.steps // settings.every < LEAST:
            allowed = f"at most {settings.steps // LEAST}: {LEAST} samples of a chain at least"
            raise InputError("posterior.sampling.every", settings.every, allowed)
        check_groups(groups, world.size, settings.chains)
        # With --overwrite those are still there, and go when the run begins.
        if out is not None and out.mode != "overwrite":
            refuse_other_chains(out.file(FOLDER), settings, ensemble.space)


def minimizer(
    at: ObjectiveAt, out: RunDirectory | None, identity: Mapping[str, str]
) -> PETSc.Vec:
    """The point that chains in this folder are started around: of a run that goes on the one that
    it had, which a resumed optimizer meets up to rounding. Collective; the caller's."""
    return _as_before(MINIMIZER, {"m": at.m.copy()}, at.objective, out, identity)["m"]


def modes(
    laplace: Laplace, out: RunDirectory | None, identity: Mapping[str, str]
) -> np.ndarray:
    """Own rows (local, at most MODES) of the directions whose coordinates are traced: of a run that
    goes on those that it had. Found anew, on other numbers of ranks, they differ by their signs,
    and by the tolerance of the search. Collective."""
    space, found = laplace.space, dict[str, PETSc.Vec]()
    for k in range(min(MODES, len(laplace.values))):
        found[f"mode_{k + 1}"] = space.create_vec()
        found[f"mode_{k + 1}"].setArray(laplace.vectors[:, k])
    if not found:
        return np.empty((space.local_size, 0), order="F")
    kept = _as_before(FIRST, found, laplace.objective, out, identity)
    columns = np.empty((space.local_size, len(kept)), order="F")
    for k, vec in enumerate(kept.values()):
        columns[:, k] = vec.getArray(readonly=True)
        vec.destroy()
    return columns


def _as_before(
    name: str,
    vectors: dict[str, PETSc.Vec],
    objective: Objective,
    out: RunDirectory | None,
    identity: Mapping[str, str],
) -> dict[str, PETSc.Vec]:
    """What a run that goes on had under this name, the given vectors at first. Takes them; the
    caller's. Collective."""
    found = None
    with collective(objective.everyone):
        if out is not None:
            out.folder(FOLDER)
            path = _made(out.file(FOLDER) / name, objective.comm)
            found = find_checkpoint(path, objective.comm, identity)
            if found is None:
                state = SimpleNamespace(vectors=vectors, meta={})
                extra = {"identity": dict(identity)}
                space = objective.space
                save_checkpoint(path, objective.comm, space, state, 0, extra)
    found = objective.ensemble.across.bcast(found, root=0)
    if found is None:
        return vectors
    for vec in vectors.values():
        vec.destroy()
    kept: dict[str, PETSc.Vec] = found.load_for_all(objective.space, objective.ensemble)
    return kept


def _made(path: Path, comm: MPI.Intracomm) -> Path:
    if comm.rank == 0:
        path.mkdir(parents=True, exist_ok=True)
    comm.barrier()
    return path


def fields(case: Case, space: ParameterSpace, m: PETSc.Vec) -> dict[str, np.ndarray]:
    """Coefficients in the own cells, of fields and of constants of regions. Collective."""
    found, table = space.at(m).coefficients(), case.table.unknown
    return {u.name: np.asarray(found[u.name]) for u in table if u.kind == "field"}


def kept_fields(case: Case, space: ParameterSpace) -> Kept | None:
    """What of samples is kept as fields."""
    every = case.table.posterior.sampling.fields
    if not every or all(u.kind != "field" for u in case.table.unknown):
        return None
    return Kept(lambda m: fields(case, space, m), every, case.table.case.length_unit)


@dataclass(frozen=True)
class Traced:
    """What the trace has of a sample: numbers of the case, and coordinates along the first modes,
    1 the prior's standard deviation.

    Attributes:
        numbers: scalars, derived figures and quantities.
        modes: own rows (local, any) of the directions.
    """

    laplace: Laplace
    numbers: Numbers
    modes: np.ndarray

    @property
    def names(self) -> tuple[str, ...]:
        named = [f"mode_{k + 1}" for k in range(self.modes.shape[1])]
        return (*self.numbers.names, *named)

    def figures(self) -> Figures:
        """Collective when called."""
        laplace = self.laplace
        dual = mapped(laplace.space, laplace.prior.precision, self.modes)

        def of(m: PETSc.Vec) -> np.ndarray:
            away = m.copy()
            away.axpy(-1.0, laplace.at.m)
            along = gram(laplace.space, dual, column(away))[:, 0]
            away.destroy()
            return np.concatenate([self.numbers.values(m), along])

        return of


@dataclass(frozen=True)
class Chains:
    """All chains of a run.

    Args:
        out: the run's folder; None in groups that do not write.
        groups: of ranks that share the chains.
        say: takes a line.
    """

    case: Case
    laplace: Laplace
    numbers: Numbers
    out: RunDirectory | None
    groups: int
    seed: int
    identity: Mapping[str, str]
    say: Callable[[str], None]

    @property
    def settings(self) -> SamplingSettings:
        return settings_of(self.case.table.posterior.sampling, self.seed)

    def run(self) -> Sampled:
        """Collective over all ranks."""
        objective = self.laplace.objective
        path = None if self.out is None else self.out.file(FOLDER)
        path = objective.ensemble.across.bcast(path, root=0)
        found = self._sampled(path)
        with collective(objective.everyone):
            if path is not None and objective.everyone.rank == 0:
                write_inference(path / INFERENCE, found)
        return found

    def _sampled(self, path: Path | None) -> Sampled:
        along = modes(self.laplace, self.out, self.identity)
        if self.groups > 1:
            return sample_in_groups(
                self.laplace,
                self.groups,
                lambda own: self._there(own, along),
                self.settings,
                path,
                self.identity,
                self._watch,
            )
        traced = Traced(self.laplace, self.numbers, along)
        return sample(
            self.laplace,
            self.settings,
            traced.names,
            traced.figures(),
            path,
            self.identity,
            self._watch,
            kept_fields(self.case, self.laplace.space),
        )

    def _there(self, own: MPI.Intracomm, along: np.ndarray) -> There:
        case = self.case
        grid = case.grid(own)
        assert case.data is not None
        data = case.data.moved(own)
        objective, m = case.build(grid, Ensemble.whole(own), data)
        m.destroy()
        laplace = moved(self.laplace, objective)
        numbers = Numbers(case, case.on(grid))
        there = moved_columns(self.laplace.space, laplace.space, along)
        traced = Traced(laplace, numbers, there)

        def destroy() -> None:
            numbers.destroy()
            laplace.at.destroy()
            objective.destroy()

        kept = kept_fields(case, laplace.space)
        return There(laplace, traced.names, traced.figures(), destroy, kept)

    def _watch(self, number: int, chain: Chain) -> None:
        p = chain.progress
        taken = "burn-in" if not p.kept else f"{chain.acceptance:.0%} taken"
        told = f"chain {number + 1} of {chain.settings.chains}"
        self.say(f"{told}: {p.done:,} of {chain.total:,} steps, {taken}")


def metrics(found: Sampled, settings: SamplingSettings) -> Record:
    """For summary.json."""
    told = found.diagnoses()
    figures = {
        d.name: {
            "mean": d.mean,
            "deviation": d.deviation,
            "interval": [d.low, d.high],
            "rhat": d.rhat,
            "autocorrelation_time": d.tau,
            "effective_samples": d.ess,
        }
        for d in told
    }
    worst = max(told, key=lambda d: d.rhat)
    fewest = min(told, key=lambda d: d.ess)
    record: Record = {
        "chains": settings.chains,
        "chain_steps": settings.steps,
        "chain_method": settings.method,
        "acceptance": list(found.acceptance),
        "step_lengths": list(found.steps),
        "largest_rhat": worst.rhat,
        "fewest_effective_samples": fewest.ess,
        SAMPLED: figures,
    }
    if found.swaps:
        record["temperatures"] = list(found.temperatures)
        record["swap_rates"] = list(found.swaps)
        rare = min(found.swaps)
        if rare < RARE:
            hot = found.temperatures[found.swaps.index(rare) + 1]
            record["swaps_note"] = (
                f"only {rare:.1%} of exchanges with the temperature {hot:g} are taken: more "
                "temperatures between 1 and the last one are needed"
            )
    if worst.rhat >= MIXED:
        record["chains_note"] = (
            f"chains do not agree: R-hat of {worst.name} is {worst.rhat:.3g}, {MIXED} at most "
            "is asked; more steps are needed (posterior.sampling.steps, then --resume)"
        )
    if any(found.failed):
        record["failed_steps"] = list(found.failed)
    return record
