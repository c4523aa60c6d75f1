"""Chains over groups of ranks: each group takes its share of them on a grid of its own, and what
they found comes together on the ranks of all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.aliases import FilePath
from npde_opt.errors import InputError, collective
from npde_opt.io.vectors import Boxed, gather_slab
from npde_opt.objective import Objective
from npde_opt.parameters import ParameterSpace
from npde_opt.posterior import Laplace
from npde_opt.sampling.chain import Chain, Figures
from npde_opt.sampling.folder import Kept
from npde_opt.sampling.run import Ended, Sampled, ended, joined, levels, told
from npde_opt.sampling.settings import SamplingSettings

OPTION = "--chain-groups"


class Taken:
    """A Sink that has a vector's parts in natural order, whole on every rank."""

    def __init__(self, comm: MPI.Intracomm):
        self.comm, self.arrays = comm, list[np.ndarray]()

    def field(self, grid: Boxed, owned: np.ndarray) -> None:
        boxes, shape = self.comm.allgather(grid.local_slice), grid.shape
        whole = gather_slab(self.comm, boxes, shape, owned, (0, shape[-1]))
        self.arrays.append(self.comm.bcast(whole, root=0))


class Given:
    """A Source of such parts."""

    def __init__(self, arrays: Sequence[np.ndarray]):
        self._next = iter(arrays)

    def field(self, grid: Boxed) -> np.ndarray:
        return np.asfortranarray(next(self._next)[grid.local_slice])


def taken(space: ParameterSpace, vec: PETSc.Vec) -> list[np.ndarray]:
    """A vector's parts, whole on every rank of the space. Collective on them."""
    sink = Taken(space.comm)
    space.write(vec, sink)
    return sink.arrays


def given(space: ParameterSpace, arrays: Sequence[np.ndarray]) -> PETSc.Vec:
    """The vector of these parts; the caller's."""
    vec = space.create_vec()
    space.read(vec, Given(arrays))
    return vec


def check_groups(groups: int, ranks: int, chains: int) -> None:
    """Raises InputError for numbers of groups that cannot be."""
    if groups < 1 or ranks % groups or groups > chains:
        allowed = f"a divisor of {ranks} ranks, at most {chains}, the chains"
        raise InputError(OPTION, groups, allowed)


@dataclass(frozen=True)
class There:
    """The posterior on a group's own ranks.

    Attributes:
        laplace: with the pairs that all ranks found.
        names, figures: of its trace, kept: of samples as fields, see `sample`.
        destroy: gives back what was made for it.
    """

    laplace: Laplace
    names: tuple[str, ...]
    figures: Figures
    destroy: Callable[[], None]
    kept: Kept | None = None


def moved_columns(
    here: ParameterSpace, there: ParameterSpace, columns: np.ndarray
) -> np.ndarray:
    """Own rows (local, any) on the ranks of another space of the same parameters. Collective on all
    ranks of the first one."""
    work = here.create_vec()
    found = np.empty((there.local_size, columns.shape[1]), order="F")
    for j in range(columns.shape[1]):
        work.setArray(columns[:, j])
        vec = given(there, taken(here, work))
        found[:, j] = vec.getArray(readonly=True)
        vec.destroy()
    work.destroy()
    return found


def moved(laplace: Laplace, objective: Objective) -> Laplace:
    """The posterior on the ranks of another objective of the same problem: its point, pairs and
    known entries. Collective on all ranks of the first one."""
    here, there = laplace.space, objective.space
    m = given(there, taken(here, laplace.at.m))
    at = objective.linearize(m)
    m.destroy()
    fixed = None
    if laplace.fixed is not None:
        known = laplace.fixed.astype(float)[:, None]
        fixed = moved_columns(here, there, known)[:, 0] > 0.5
    vectors = moved_columns(here, there, laplace.vectors)
    pairs = replace(laplace.pairs, vectors=vectors, duals=None, seen=None)
    return Laplace(at, laplace.settings, fixed=fixed, pairs=pairs)


def sample_in_groups(
    laplace: Laplace,
    groups: int,
    make: Callable[[MPI.Intracomm], There],
    settings: SamplingSettings,
    out: FilePath | None = None,
    identity: Mapping[str, str] | None = None,
    watch: Callable[[int, Chain], None] = lambda number, chain: None,
) -> Sampled:
    """As `sample`, chain k by group k % groups. Collective over the ranks of `laplace`.

    Args:
        laplace: of an objective with all its experiments on all ranks.
        make: the posterior on the ranks of a group; called on all ranks together.
        watch: called in the chain's own group.

    Raises:
        InputError: for numbers of groups that cannot be; else as `sample`.
    """
    world = laplace.objective.everyone
    with collective(world):
        check_groups(groups, world.size, settings.chains)
    number = world.rank // (world.size // groups)
    own = world.Split(number, world.rank)
    assert isinstance(own, MPI.Intracomm)
    there = make(own)
    mine = range(number, settings.chains, groups)
    chains: list[Chain] = []
    with collective(world, own):
        chains = ended(
            there.laplace,
            settings,
            there.names,
            there.figures,
            mine,
            out,
            identity,
            watch,
            there.kept,
        )
    space = there.laplace.space
    found = {k: _packed(space, c) for k, c in zip(mine, chains, strict=True)}
    mine_to_tell = found if own.rank == 0 else {}
    whole = {k: p for part in world.allgather(mine_to_tell) for k, p in part.items()}
    for chain in chains:
        chain.moves.destroy()
        chain.destroy()
    names = there.names
    there.destroy()
    own.Free()
    parts = [_unpacked(laplace.space, whole[k]) for k in range(settings.chains)]
    answer = joined(names, parts, levels(laplace, settings))
    for part in parts:
        part.mean.destroy()
        part.squares.destroy()
    return answer


@dataclass(frozen=True)
class Packed:
    """A chain's end without its vectors, and these as parts."""

    end: Ended
    mean: list[np.ndarray]
    squares: list[np.ndarray]


def _packed(space: ParameterSpace, chain: Chain) -> Packed:
    end = told(chain)
    mean, squares = taken(space, end.mean), taken(space, end.squares)
    return Packed(replace(end, mean=None, squares=None), mean, squares)


def _unpacked(space: ParameterSpace, packed: Packed) -> Ended:
    mean, squares = given(space, packed.mean), given(space, packed.squares)
    return replace(packed.end, mean=mean, squares=squares)
