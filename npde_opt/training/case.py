"""A training case: its samples, network, loss and optimizers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.aliases import FilePath
from npde_opt.cases.load import raw_case
from npde_opt.cases.optimizing import settings_of
from npde_opt.cases.sources import Sources
from npde_opt.errors import InputError, collective
from npde_opt.optimizers import Settings
from npde_opt.optimizers.validation import Validation
from npde_opt.training.data import Data, Parts
from npde_opt.training.rules import validated
from npde_opt.training.sections import TrainingFile


class TrainingCase:
    """Args:
    table: checked. path: of its file.
    data: the folder of --data.
    seed: of splits, weights and noise.
    """

    def __init__(
        self, table: TrainingFile, path: Path, data: Path | None, seed: int = 0
    ):
        self.table, self.path, self.seed = table, path, seed
        self.sources = Sources(path.parent, data, (None, 0))

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def title(self) -> str:
        return self.table.case.title or self.name

    @cached_property
    def data(self) -> Data:
        """Its samples. Raises InputError for files that are wrong."""
        return Data(self.table.data, self.sources, self.seed)

    @property
    def denoises(self) -> bool:
        """Whether pictures are to be found again in noise."""
        return self.table.data.kind in ("pictures", "skimage")

    @property
    def networks(self) -> int:
        """That are trained: one a split, or a noise."""
        noise = self.table.data.noise
        return len(noise) if isinstance(noise, list) else self.table.data.splits

    def split(self, network: int) -> int:
        """Whose samples a network has; networks of several noises have the same."""
        return 0 if isinstance(self.table.data.noise, list) else network

    def called(self, network: int) -> str:
        """A network, in words."""
        several = isinstance(self.table.data.noise, list)
        return f"{'noise' if several else 'split'} {network + 1}"

    def parts(self, network: int = 0) -> Parts:
        """The samples of a network."""
        return self.data.parts(self.split(network))

    def noise(self, network: int) -> float | None:
        """Of the samples of a network."""
        noise = self.table.data.noise
        return noise[network] if isinstance(noise, list) else noise

    def settings(self, validation: Validation | None = None) -> list[Settings]:
        """Of the optimizers, one after the other.

        Args:
            validation: what is looked at after every iteration.

        Raises:
            InputError: for what cannot be.
        """
        return [
            settings_of(section, seed=self.seed, validation=validation)
            for section in self.table.optimizer
        ]

    def set_petsc_options(self) -> None:
        """Puts [petsc] into the options database, where the command line says nothing else."""
        options = PETSc.Options()
        for name, value in self.table.petsc.items():
            if not options.hasName(name):
                options.setValue(name, value)


def load_training(
    path: FilePath,
    comm: MPI.Intracomm = MPI.COMM_WORLD,
    *,
    data: FilePath | None = None,
    seed: int = 0,
    variables: Mapping[str, str] | None = None,
) -> TrainingCase:
    """Reads and validates a training case on every rank. Collective.

    Args:
        path: a TOML file.
        data: a folder with the case's data.
        seed: of splits, weights and noise.
        variables: replace those of the case's [variables].

    Raises:
        InputError: naming the key that is wrong.
    """
    with collective(comm):
        file = Path(path)
        raw = raw_case(file, variables or {})
        if data is not None and not Path(data).is_dir():
            raise InputError("--data", data, "an existing folder")
        return TrainingCase(validated(raw), file, Path(data) if data else None, seed)
