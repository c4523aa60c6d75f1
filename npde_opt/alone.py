"""MPI of a program that no launcher started.

Open MPI starts a daemon beside such a program, for processes that this might start, and looks
through drivers of networks that it has no use for: half a second in which nothing happens. A
program of one rank needs neither. Nothing but the standard library is imported here.
"""

from __future__ import annotations

import os

WITHOUT = {"OMPI_MCA_ess_singleton_isolated": "1", "OMPI_MCA_pml": "ob1"}
"""Settings that whoever set them keeps."""
LAUNCHED = ("OMPI_", "PMIX_", "PMI_", "MPI_LOCALNRANKS", "SLURM_", "PALS_", "FLUX_")
"""What begins so in the environment says that a launcher, or a batch system, is there."""
OWN = ("OMPI_MCA_", "OMPI_ALLOW_")
"""Settings of users, which begin like a launcher's."""


def launched() -> bool:
    """Whether this process may be one of several."""
    names = [n for n in os.environ if n.startswith(LAUNCHED)]
    return any(n.startswith("OMPI_MCA_orte_") or not n.startswith(OWN) for n in names)


def start_mpi() -> None:
    """Starts MPI. The environment is what it was after that: programs that this one starts may
    have other ranks."""
    given = {} if launched() else WITHOUT
    added = {name: value for name, value in given.items() if name not in os.environ}
    os.environ.update(added)
    try:
        from mpi4py import MPI  # noqa: F401
    finally:
        for name in added:
            del os.environ[name]
