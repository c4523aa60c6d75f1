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
from npde_opt.sampling.tempering import LEVELS, Ladder, ladder
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
        temperatures: of every chain's copies, itself the first. swaps: rates of exchanges between
            neighbours among them, means over the chains.
    """

    names: tuple[str, ...]
    traces: np.ndarray
    mean: PETSc.Vec
    variance: PETSc.Vec
    steps: tuple[float, ...]
    acceptance: tuple[float, ...]
    failed: tuple[int, ...]
    temperatures: tuple[float, ...] = (1.0,)
    swaps: tuple[float, ...] = ()

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
    ends = [told(chain) for chain in chains]
    found = joined(names, ends, levels(laplace, settings))
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
    with collective(objective.everyone):
        check_names(names)
    _check_figures(laplace, names, figures)
    folder = None
    if out is not None:
        least, words = laplace.at.value, dict(identity or {})
        folder = Folder(Path(out), objective, settings, names, least, words, kept)
    temperatures = levels(laplace, settings)
    around = [_around(laplace, settings, t) for t in temperatures]
    chains = []
    for number in numbers:
        seed = child(settings.seed, number)
        chain = _begun(laplace, around, settings, temperatures, seed, figures)
        _to_its_end(chain, folder, number, watch)
        chains.append(chain)
    return chains


def levels(laplace: Laplace, settings: SamplingSettings) -> tuple[float, ...]:
    """Temperatures of every chain's copies, itself the first."""
    asked = settings.temperatures
    return ladder(laplace.values, asked) if isinstance(asked, int) else asked


def _around(laplace: Laplace, settings: SamplingSettings, t: float) -> Reference:
    if settings.method == "pcn":
        return AroundPrior(laplace.prior)
    return AroundPosterior(laplace, t)


def _begun(
    laplace: Laplace,
    around: Sequence[Reference],
    settings: SamplingSettings,
    temperatures: tuple[float, ...],
    seed: int,
    figures: Figures,
) -> Chain:
    """A chain, at samples of the Laplace posterior that are moved into the bounds."""
    moves, starts = list[Moves](), list[PETSc.Vec]()
    for level, t in enumerate(temperatures):
        own = child(seed, LEVELS + level) if level else seed
        moves.append(_moves(laplace.objective, around[level], settings, own, t))
        start = laplace.change(child(own, STARTS))
        start.axpy(1.0, laplace.at.m)
        moves[0].cut(start)
        starts.append(start)
    if len(moves) > 1:
        chain: Chain = Ladder(moves, settings, starts, figures)
    else:
        chain = Chain(moves[0], settings, starts[0], figures)
    for start in starts:
        start.destroy()
    return chain


def _moves(
    objective: Objective,
    around: Reference,
    settings: SamplingSettings,
    seed: int,
    temperature: float,
) -> Moves:
    if settings.method == "hmc":
        return Trajectories(objective, around, settings.leaps, seed, temperature)
    return Moves(objective, around, settings.method == "mala", seed, temperature)


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
    swaps: tuple[float, ...] = ()


def told(chain: Chain) -> Ended:
    """Of a chain at its end."""
    p = chain.progress
    rows = np.array(chain.rows)
    taken = chain.acceptance
    vectors = chain.mean, chain.squares
    return Ended(rows, *vectors, p.kept, p.s, taken, p.failed, chain.swaps)


def joined(
    names: tuple[str, ...], chains: Sequence[Ended], temperatures: tuple[float, ...]
) -> Sampled:
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
        temperatures,
        tuple(np.mean([chain.swaps for chain in chains], axis=0).tolist()),
    )
