"""Chains of a posterior, one after the other, with checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.aliases import FilePath
from npde_opt.errors import InputError, collective
from npde_opt.objective import Objective
from npde_opt.parameters.draws import child
from npde_opt.posterior import Laplace
from npde_opt.sampling.chain import Chain, Figures
from npde_opt.sampling.diagnostics import Diagnosis, diagnose
from npde_opt.sampling.folder import COLUMNS, Folder, Kept
from npde_opt.sampling.moves import Moves
from npde_opt.sampling.reference import AroundPosterior, AroundPrior, Reference
from npde_opt.sampling.settings import SamplingSettings
from npde_opt.sampling.trajectories import Trajectories

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
    kept: Kept | None = None,
) -> Sampled:
    """Runs the chains. Collective over the objective's ranks.

    Args:
        laplace: at the minimizer; chains begin at samples of it, moved into the bounds.
        names: of the figures, unique. figures: their values for a sample, one a name.
        out: folder for traces and checkpoints, from which a run that was stopped or had fewer steps
            goes on; None: nothing is written.
        identity: of the run, which a checkpoint has to have too, beside method, seed, step,
            burn_in, every, names and the objective at the minimizer.
        watch: called with a chain's number after every `settings.checkpoint` steps.
        kept: fields of samples that go to `out`, into chain-K.zarr.

    Raises:
        InputError: for names that cannot be, figures that do not go with them, and checkpoints of
            another run or of more steps.
        SolverError: where a solve fails at the start of a chain.
    """
    names = tuple(names)
    every = range(settings.chains)
    chains = ended(laplace, settings, names, figures, every, out, identity, watch, kept)
    found = joined(names, [told(chain) for chain in chains])
    for chain in chains:
        chain.moves.destroy()
        chain.destroy()
    return found


def ended(
    laplace: Laplace,
    settings: SamplingSettings,
    names: tuple[str, ...],
    figures: Figures,
    numbers: Iterable[int],
    out: FilePath | None = None,
    identity: Mapping[str, str] | None = None,
    watch: Callable[[int, Chain], None] = lambda number, chain: None,
    kept: Kept | None = None,
) -> list[Chain]:
    """The chains of these numbers at their ends; arguments as of `sample`. They belong to the
    caller, with their moves."""
    objective = laplace.objective
    around = (
        AroundPrior(laplace.prior)
        if settings.method == "pcn"
        else AroundPosterior(laplace)
    )
    with collective(objective.everyone):
        check_names(names)
    _check_figures(laplace, names, figures)
    folder = None
    if out is not None:
        least, words = laplace.at.value, dict(identity or {})
        folder = Folder(Path(out), objective, settings, names, least, words, kept)
    chains = []
    for number in numbers:
        seed = child(settings.seed, number)
        moves = _moves(objective, around, settings, seed)
        start = laplace.change(child(seed, STARTS))
        start.axpy(1.0, laplace.at.m)
        moves.cut(start)
        chain = Chain(moves, settings, start, figures)
        start.destroy()
        _to_its_end(chain, folder, number, watch)
        chains.append(chain)
    return chains


def _moves(
    objective: Objective, around: Reference, settings: SamplingSettings, seed: int
) -> Moves:
    if settings.method == "hmc":
        return Trajectories(objective, around, settings.leaps, seed)
    return Moves(objective, around, settings.method == "mala", seed)


def check_names(names: tuple[str, ...]) -> None:
    """Raises InputError for names that cannot head columns of a table."""
    if len(set(names)) < len(names):
        raise InputError("names of the figures", ", ".join(names), "each once")
    for name in names:
        if name in COLUMNS or not name.strip() or set(name) & set(',"\r\n'):
            allowed = (
                f"no commas, quotes and line ends, and none of {', '.join(COLUMNS)}"
            )
            raise InputError("names of the figures", repr(name), allowed)


def _check_figures(laplace: Laplace, names: tuple[str, ...], figures: Figures) -> None:
    """At the minimizer; a number a name, the same on every rank."""
    everyone = laplace.objective.everyone
    with collective(everyone):
        values = np.atleast_1d(figures(laplace.at.m))
        shape = values.shape
        if shape != (len(names),):
            allowed = f"({len(names)},), a number for each name: {', '.join(names)}"
            raise InputError("shape of the figures", shape, allowed)
    for name, value in zip(names, values, strict=True):
        reductions.same(everyone, float(value), f"the figure {name}")


def _to_its_end(
    chain: Chain,
    folder: Folder | None,
    number: int,
    watch: Callable[[int, Chain], None],
) -> None:
    if folder is not None:
        folder.resume(chain, number)
        chain.look = folder.look(number)
    while chain.progress.done < chain.total:
        chain.run(chain.settings.checkpoint)
        if folder is not None:
            folder.save(chain, number)
        watch(number, chain)


@dataclass(frozen=True)
class Ended:
    """What of a chain goes into the answer.

    Attributes:
        mean, squares: of its parameters; they stay the chain's.
    """

    rows: np.ndarray
    mean: PETSc.Vec
    squares: PETSc.Vec
    kept: int
    step: float
    acceptance: float
    failed: int


def told(chain: Chain) -> Ended:
    """Of a chain at its end."""
    p = chain.progress
    rows = np.array(chain.rows)
    return Ended(
        rows, chain.mean, chain.squares, p.kept, p.s, chain.acceptance, p.failed
    )


def joined(names: tuple[str, ...], chains: Sequence[Ended]) -> Sampled:
    """Means over all chains; the variance has that between their means too."""
    count, kept = len(chains), chains[0].kept
    mean = chains[0].mean.duplicate()
    mean.set(0.0)
    for chain in chains:
        mean.axpy(1 / count, chain.mean)
    variance, away = mean.duplicate(), mean.duplicate()
    variance.set(0.0)
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
        tuple(chain.step for chain in chains),
        tuple(chain.acceptance for chain in chains),
        tuple(chain.failed for chain in chains),
    )
