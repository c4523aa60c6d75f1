"""What makes a training the training that it is: see runs/identity.py."""

from __future__ import annotations

import msgspec
from mpi4py import MPI

from npde_opt.aliases import Record
from npde_opt.errors import collective
from npde_opt.runs.identity import contents, sections
from npde_opt.training.case import TrainingCase


def identity(case: TrainingCase, comm: MPI.Intracomm) -> dict[str, str]:
    """Names and short texts or hashes, in the order in which they are compared. Collective; rank 0
    reads the files."""
    found: dict[str, str] = {}
    with collective(comm):
        if comm.rank == 0:
            table: Record = msgspec.to_builtins(case.table)
            del table["variables"]
            found = {"--seed": str(case.seed)}
            found |= sections(table, extendable=case.networks == 1)
            sources = [case.data.source, *case.data.others]
            files = [("data", path) for source in sources for path in source.files]
            found |= contents(files)
    known: dict[str, str] = comm.bcast(found, root=0)
    return known
