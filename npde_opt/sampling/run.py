"""Chains of a posterior, one after the other, with checkpoints.

OUT/chain-K.csv        one line a kept step: lp__ (log density without its constant),
                       accept_stat__, and the figures, as Stan's files have them (arviz reads
                       them by from_cmdstan)
OUT/chain-K/           its checkpoints
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from petsc4py import PETSc

from npde_opt.aliases import FilePath
from npde_opt.errors import InputError, collective
from npde_opt.io.checkpoint import load_checkpoint, save_checkpoint
from npde_opt.io.files import disk, whole_file
from npde_opt.objective import Objective
from npde_opt.parameters.draws import child
from npde_opt.posterior import Laplace
from npde_opt.sampling.chain import Chain, Figures
from npde_opt.sampling.diagnostics import Diagnosis, diagnose
from npde_opt.sampling.moves import Moves
from npde_opt.sampling.reference import AroundPosterior, AroundPrior
from npde_opt.sampling.settings import SamplingSettings

COLUMNS = ("lp__", "accept_stat__")
TRACE = "trace.npy"
STARTS = 1 << 20
"""Far from the numbers of steps: seeds of the chains' starts."""


@dataclass(frozen=True)
class Sampled:
    """What chains found.

    Attributes:
        names: of the figures. traces: (chains, kept steps, 2 + figures): J, probability, figures.
        mean, variance: of the parameters over all chains; they belong to this.
        steps: length of a chain's step. acceptance: of every chain. failed: steps of every chain
            that were not taken as a solve failed.
    """

    names: tuple[str, ...]
    traces: np.ndarray
    mean: PETSc.Vec
    variance: PETSc.Vec
    steps: tuple[float, ...]
    acceptance: tuple[float, ...]
    failed: tuple[int, ...]

    def diagnoses(self) -> list[Diagnosis]:
        """Of every figure, and of the objective first."""
        found = [diagnose("objective", self.traces[:, :, 0])]
        for k, name in enumerate(self.names):
            found.append(diagnose(name, self.traces[:, :, 2 + k]))
        return found

    def destroy(self) -> None:
        self.mean.destroy()
        self.variance.destroy()


def sample(
    laplace: Laplace,
    settings: SamplingSettings,
    names: Sequence[str],
    figures: Figures,
    out: FilePath | None = None,
    identity: Mapping[str, str] | None = None,
    watch: Callable[[int, Chain], None] = lambda number, chain: None,
) -> Sampled:
    """Runs the chains. Collective over the objective's ranks.

    Args:
        laplace: at the minimizer; chains begin at samples of it.
        names: of the figures, unique. figures: their values for a sample.
        out: folder for traces and checkpoints, from which a run that was stopped goes on; None:
            nothing is written.
        identity: of the run, which a checkpoint has to have too.
        watch: called with a chain's number after every `settings.checkpoint` steps.

    Raises:
        InputError: for names that are not unique, and for checkpoints of another run.
    """
    if len(set(names)) < len(names):
        raise InputError("names of the figures", ", ".join(names), "each once")
    objective = laplace.objective
    around = (
        AroundPrior(laplace.prior)
        if settings.method == "pcn"
        else AroundPosterior(laplace)
    )
    drift = settings.method == "mala"
    chains = []
    for number in range(settings.chains):
        seed = child(settings.seed, number)
        moves = Moves(objective, around, drift, seed)
        start = laplace.change(child(seed, STARTS))
        start.axpy(1.0, laplace.at.m)
        moves.cut(start)
        chain = Chain(moves, settings, start, figures)
        start.destroy()
        folder = None if out is None else Path(out) / f"chain-{number}"
        _to_its_end(objective, chain, folder, tuple(names), number, identity, watch)
        chains.append(chain)
    found = _joined(chains, tuple(names))
    for chain in chains:
        chain.moves.destroy()
        chain.destroy()
    return found


def _to_its_end(
    objective: Objective,
    chain: Chain,
    folder: Path | None,
    names: tuple[str, ...],
    number: int,
    identity: Mapping[str, str] | None,
    watch: Callable[[int, Chain], None],
) -> None:
    if folder is not None:
        _resume(objective, chain, folder, identity)
    while chain.progress.done < chain.total:
        chain.run(chain.settings.checkpoint)
        if folder is not None:
            _save(objective, chain, folder, names, identity)
        watch(number, chain)


def _resume(
    objective: Objective, chain: Chain, folder: Path, identity: Mapping[str, str] | None
) -> None:
    comm = objective.comm
    with collective(comm), disk("the samples", folder):
        if comm.rank == 0:
            folder.mkdir(parents=True, exist_ok=True)
    found = load_checkpoint(folder, comm, objective.space, identity)
    if found is None:
        return
    checkpoint, vectors = found
    rows = np.load(io.BytesIO(checkpoint.attachments[TRACE]))
    chain.restore(vectors, dict(checkpoint.state), rows)


def _save(
    objective: Objective,
    chain: Chain,
    folder: Path,
    names: tuple[str, ...],
    identity: Mapping[str, str] | None,
) -> None:
    comm, rows = objective.comm, io.BytesIO()
    table = np.array(chain.rows).reshape(-1, len(COLUMNS) + len(names))
    np.save(rows, table)
    save_checkpoint(
        folder,
        comm,
        objective.space,
        chain,
        chain.progress.done,
        extra={} if identity is None else {"identity": dict(identity)},
        attachments={TRACE: rows.getvalue()},
    )
    with collective(comm), disk("the samples", folder):
        if comm.rank == 0:
            with whole_file(folder.with_suffix(".csv")) as file:
                file.write(csv_text(names, table, chain.progress.s).encode())


def csv_text(names: Sequence[str], rows: np.ndarray, step: float) -> str:
    """A chain as Stan's files have it."""
    lines = ["# num_warmup = 0", f"# step = {step!r}", ",".join([*COLUMNS, *names])]
    for row in rows:
        density = [repr(float(-row[0])), *(repr(float(v)) for v in row[1:])]
        lines.append(",".join(density))
    return "\n".join(lines) + "\n"


def _joined(chains: Sequence[Chain], names: tuple[str, ...]) -> Sampled:
    """Means over all chains; the variance has that between their means too."""
    count = len(chains)
    mean = chains[0].mean.duplicate()
    mean.set(0.0)
    for chain in chains:
        mean.axpy(1 / count, chain.mean)
    kept = chains[0].progress.kept
    variance = mean.duplicate()
    variance.set(0.0)
    away = mean.duplicate()
    for chain in chains:
        variance.axpy(1.0, chain.squares)
        away.waxpy(-1.0, mean, chain.mean)
        away.pointwiseMult(away, away)
        variance.axpy(float(kept), away)
    variance.scale(1 / max(count * kept - 1, 1))
    away.destroy()
    return Sampled(
        names,
        np.array([chain.rows for chain in chains]),
        mean,
        variance,
        tuple(chain.progress.s for chain in chains),
        tuple(chain.acceptance for chain in chains),
        tuple(chain.progress.failed for chain in chains),
    )
