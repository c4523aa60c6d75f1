"""What a forward map F and its linearization offer: all that objectives, optimizers and checks need
of an equation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from mpi4py import MPI
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.grids import Grid
from npde_opt.observations import DataBlock, DataLayout, Metric
from npde_opt.parameters import ParameterSpace


@dataclass
class Counters:
    """Solves with the state operator so far: forward (states and incremental states), adjoint,
    Krylov iterations.

    For an evolution a solve is a whole trajectory.
    """

    forward_solves: int = 0
    adjoint_solves: int = 0
    krylov_iterations: int = 0

    def snapshot(self) -> dict[str, int]:
        return dict(vars(self))


AdjointStates = Any
"""What a linearization knows of its adjoint states; only its own class looks inside."""


class Linearization(Protocol):
    """F at one point, with its derivatives there. What methods return belongs to the caller.

    Attributes:
        data: F, one block of data for each layout of the forward map of which experiments are
            asked for.
    """

    data: list[DataBlock]

    @property
    def forward(self) -> ForwardMap: ...

    def apply(self, dm: PETSc.Vec) -> list[DataBlock]:
        """J dm, blocks as those of `data`."""

    def adjoint_states(self, d: Sequence[DataBlock]) -> AdjointStates:
        """What J^T d and second-order terms with the multipliers d need; only this class looks
        inside."""

    def apply_adjoint(
        self, d: Sequence[DataBlock], adjoints: AdjointStates | None = None
    ) -> PETSc.Vec:
        """J^T d."""

    def hessian(
        self,
        dm: PETSc.Vec,
        metrics: Sequence[Metric],
        out: PETSc.Vec,
        adjoints: AdjointStates,
    ) -> None:
        """Adds J^T W J dm, W one a block, and, where the misfit's adjoint states are given, the
        second-order term."""

    def destroy(self) -> None: ...


@runtime_checkable
class ManyAtOnce(Protocol):
    """A linearization that takes several directions for less than one after the other."""

    def apply_all(self, dms: Sequence[PETSc.Vec]) -> list[list[DataBlock]]:
        """J dm of each."""


def images(at: Linearization, dms: Sequence[PETSc.Vec]) -> list[list[DataBlock]]:
    """J dm of each."""
    if isinstance(at, ManyAtOnce):
        return at.apply_all(dms)
    return [at.apply(dm) for dm in dms]


class ForwardMap(Protocol):
    """A map from parameters to predicted data, blocks of experiments that are observed alike."""

    space: ParameterSpace
    grid: Grid

    @property
    def counters(self) -> Counters: ...

    @property
    def experiments(self) -> Sequence[object]: ...

    @property
    def layouts(self) -> Sequence[DataLayout]:
        """Of the blocks of data; each experiment is a column of one of them."""

    def linearize(
        self, m: PETSc.Vec, columns: Sequence[int] | None = None
    ) -> Linearization:
        """F and its derivatives at m: a Linearization. Raises SolverError where the state cannot be
        found.

        Args:
            columns: numbers of the experiments that are asked for, in increasing order; none at
                all is allowed. None: all.
        """

    def destroy(self) -> None: ...


@runtime_checkable
class Drawing(Protocol):
    """A forward map of inputs that are drawn: anew for every epoch of a training."""

    def of_epoch(self, epoch: int) -> ForwardMap:
        """Of the inputs of an epoch, a function of its number and of the experiments' alone. It
        shares space and counters, and is not to be destroyed."""


class HasBoundary(Protocol):
    @property
    def boundary(self) -> Mapping[str, object]: ...


def check_alike(comm: MPI.Intracomm, experiments: Sequence[HasBoundary]) -> None:
    """Raises NpdeError where ranks have other numbers of experiments, or other boundary values.
    Collective.

    They would solve different systems as one, or wait for ever for the solves that some ranks leave
    out.
    """
    told = [
        sorted((side, _told(value)) for side, value in e.boundary.items())
        for e in experiments
    ]
    reductions.same(comm, told, "the list of boundary values, one an experiment,")


def _told(value: object) -> str:
    """A boundary value, or those of a species by side, as text."""
    if isinstance(value, Mapping):
        return str(sorted((side, _told(v)) for side, v in value.items()))
    return str(value) if isinstance(value, str | float | int) else "values"
