"""COMM_WORLD as experiments x space: sum over e of J_e, each group of ranks solving its own
experiments.

All groups have equally many ranks and hold the same parameters, cut the same way; sums run between
the ranks of equal position, are formed on one and broadcast, so that every group continues with the
same bits.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.errors import InputError, collective

T = TypeVar("T")


@dataclass(frozen=True)
class Ensemble:
    """`space`: the ranks of this group; `across`: those of equal position in all groups; `world`:
    all."""

    space: MPI.Intracomm
    across: MPI.Intracomm
    world: MPI.Intracomm

    @classmethod
    def whole(cls, comm: MPI.Intracomm) -> Ensemble:
        """One group."""
        return cls(comm, MPI.COMM_SELF, comm)

    @classmethod
    def split(
        cls,
        comm: MPI.Intracomm,
        groups: int,
        experiments: int,
        option: str = "--experiment-groups",
    ) -> Ensemble:
        """`groups` groups of equally many ranks. Raises InputError, naming the option, where that
        cannot be, or where processes that were started together do not see each other."""
        _check_launch()
        reductions.same(
            comm, (groups, experiments), "the numbers of groups and of experiments"
        )
        if groups < 1 or comm.size % groups or groups > experiments:
            raise InputError(
                option,
                groups,
                f"a divisor of {comm.size} ranks, at most {experiments} "
                f"(the number of {option.strip('-').partition('-')[0]}s)",
            )
        if groups == 1:
            return cls.whole(comm)
        ranks = comm.size // groups
        inside, across = (
            comm.Split(comm.rank // ranks, comm.rank),
            comm.Split(comm.rank % ranks, comm.rank),
        )
        assert isinstance(inside, MPI.Intracomm) and isinstance(across, MPI.Intracomm)
        return cls(inside, across, comm)

    @property
    def groups(self) -> int:
        return self.across.size

    def own(self, experiments: int) -> range:
        """Numbers of this group's experiments."""
        return range(self.across.rank, experiments, self.across.size)

    def together(self, above: int = 0) -> collective:
        """A block of what every group does by itself, raising on all ranks of all groups what one
        raised.

        A group waits in it for its own ranks for a limited time, and for other groups as long as
        they work. Nothing inside may communicate across groups: sums over groups come after it.
        `above`: see collective.
        """
        return collective(
            self.world, self.space if self.groups > 1 else None, above=above + 1
        )

    def sum(self, value: T) -> T:
        return (
            value
            if self.groups == 1
            else self.across.bcast(self.across.reduce(value, root=0), root=0)
        )

    def all(self, value: bool) -> bool:
        return reductions.everywhere(self.across, value)

    def sum_vec(self, vec: PETSc.Vec) -> None:
        """Sums a Vec over the groups in place."""
        if self.groups == 1:
            return
        own = vec.getArray()
        total = np.empty_like(own)
        self.across.Reduce(np.ascontiguousarray(own), total, root=0)
        self.across.Bcast(total, root=0)
        own[...] = total


def _check_launch() -> None:
    """A launcher of another MPI leaves every process alone, each of which would do the whole run
    into the same folder."""
    launchers = (
        "OMPI_COMM_WORLD_SIZE",
        "PMI_SIZE",
        "SLURM_STEP_NUM_TASKS",
    )  # mpirun within Slurm is the nearer one
    name = next((n for n in launchers if n in os.environ), None)
    if name is None or MPI.COMM_WORLD.size > 1:
        return
    started = os.environ[name]
    if started.isdigit() and int(started) > 1:
        raise InputError(
            "MPI",
            f"1 rank in a process that was started with {name}={started}",
            f"the launcher of this MPI, {MPI.Get_library_version().split(chr(10))[0].strip()}: "
            "its own "
            "mpirun, or srun --mpi=pmix (srun --mpi=list names the others)",
        )
