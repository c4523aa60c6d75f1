"""A network as a forward map: F(m) has the outputs of each sample as a column,

    u_0 = x (or 0),   u_{n+1} = L_n(u_n; k(m)),   F = u_N.

Samples are the experiments of the objective; their layers run as one chain for as many samples as
are asked for at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from petsc4py import PETSc

from npde_opt.errors import InputError
from npde_opt.forward.chain import Adjoint, Chain, Trajectory, Visitors
from npde_opt.forward.interface import Counters
from npde_opt.grids import Grid
from npde_opt.networks.assembled import Assembly
from npde_opt.networks.interface import Weight
from npde_opt.networks.layers import Step
from npde_opt.networks.place import Place, as_rows, from_rows
from npde_opt.networks.template import Sums, Template
from npde_opt.observations import DataBlock, DataLayout, Metric
from npde_opt.parameters import Block, ParameterSpace, PerStep, Shared, Unknown

PATHS = ("fused", "assembled")


class Inputs(Protocol):
    """What samples give to a network. A sample may have several parts: what the first layer gets,
    and what others read as they go."""

    def __len__(self) -> int:
        """Samples of this group of ranks."""

    def part(self, number: int, samples: Sequence[int], place: Place) -> np.ndarray:
        """A part of some samples at this rank's cells [c, s, k, j, i], in double precision or
        single. Raises InputError where it does not fit the place."""


@runtime_checkable
class Drawn(Protocol):
    """Inputs with noise, or changed at random otherwise."""

    def of_epoch(self, epoch: int) -> Inputs:
        """Drawn anew, from the numbers of epoch and samples alone."""


class Network:
    """Layers one after the other, and the weights that they name.

    Args:
        grid: of the samples.
        steps: the layers.
        start: number of the part of a sample that u_0 is; None: u_0 = 0.
        dtype: of states and products; weights and sums are in double precision.
        path: of PATHS, how products with stencils are found: 'fused' box by box in compiled loops
            and BLAS (windows.py), 'assembled' by PETSc's matrices of shifts (assembled.py), in
            double precision. Collective.

    Raises:
        InputError: where a layer does not fit the one before, and weights that share a name
            differ.
    """

    def __init__(
        self,
        grid: Grid,
        steps: Sequence[Template],
        *,
        start: int | None = 0,
        dtype: type[np.floating] = np.float64,
        path: str = "fused",
    ):
        if not steps:
            raise InputError("layers", "none", "at least one")
        self.grid, self.start, self.path = grid, start, path
        self.dtype = np.dtype(dtype)
        self.assembly = _assembly(path, self.dtype)
        if self.assembly is not None:
            steps = [step.with_operators(self.assembly) for step in steps]
        self.steps = [_first(steps[0]), *steps[1:]]
        for n, (one, after) in enumerate(zip(self.steps, self.steps[1:], strict=False)):
            if (
                one.target.channels != after.source.channels
                or not one.target.same_cells(after.source)
            ):
                told = f"{after.source.channels} channels on {after.source.layout.shape} cells"
                allowed = (
                    f"{one.target.channels} on {one.target.layout.shape}, as before it"
                )
                raise InputError(f"layer {n + 1}", told, allowed)
        self.weights = _by_name(w for step in self.steps for w in step.weights)

    @property
    def source(self) -> Place:
        return self.steps[0].source

    @property
    def target(self) -> Place:
        return self.steps[-1].target

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the unknowns, by name."""
        return {name: _whole_shape(every) for name, every in self.weights.items()}

    @property
    def size(self) -> int:
        """Numbers of all weights."""
        return sum(int(np.prod(shape)) for shape in self.shapes.values())

    def space(self) -> ParameterSpace:
        """All weights as unknowns, those of steps as arrays [step, ...]. Collective."""
        return ParameterSpace(
            self.grid,
            [
                Unknown(n, w[0].transform, block=_block(w))
                for n, w in self.weights.items()
            ],
        )

    def initial(self, seed: int, gain: float = 1.0) -> dict[str, np.ndarray]:
        """Normal weights of variance gain * (that of the activation behind them) / inputs, the
        start of those without inputs; the same on any number of ranks (He et al. 2015)."""
        found = {}
        gains = {
            name: value for step in self.steps for name, value in step.gains.items()
        }
        for number, (name, every) in enumerate(self.weights.items()):
            shape, weight = _whole_shape(every), every[0]
            if not weight.inputs:
                found[name] = np.full(shape, weight.start)
                continue
            values = np.random.default_rng([seed, number]).standard_normal(shape)
            found[name] = np.sqrt(gain * gains.get(name, 1.0) / weight.inputs) * values
        return found

    def destroy(self) -> None:
        """Frees what layers hold of PETSc's. Collective."""
        for step in self.steps:
            step.destroy()
        if self.assembly is not None:
            self.assembly.destroy()

    def over(self, inputs: Inputs, space: ParameterSpace | None = None) -> NetworkMap:
        """The forward map from weights to the outputs of samples.

        Args:
            inputs: of this group's samples.
            space: of the weights; None: one of its own. Collective.
        """
        return NetworkMap(self, inputs, space or self.space())


def _assembly(path: str, dtype: np.dtype) -> Assembly | None:
    """Raises InputError."""
    if path not in PATHS:
        raise InputError("path", repr(path), ", ".join(PATHS))
    if path == PATHS[0]:
        return None
    if dtype != np.float64:
        raise InputError("precision", dtype.name, "float64 on the path 'assembled'")
    return Assembly()


def _first(step: Template) -> Template:
    """The layer where nobody asks for the multiplier of what it starts from."""
    return replace(step, first=True) if isinstance(step, Step) else step


def _by_name(weights: Iterable[Weight]) -> dict[str, list[Weight]]:
    """All mentions of each name. Raises InputError where they differ."""
    found = dict[str, list[Weight]]()
    for weight in weights:
        every = found.setdefault(weight.name, [])
        every.append(weight)
        first = every[0]
        same = first.shape == weight.shape and (first.step is None) == (
            weight.step is None
        )
        if not same or first.transform != weight.transform:
            told = f"{weight.name} of shape {weight.shape}"
            told += f" ({weight.transform})"
            allowed = f"{first.shape} ({first.transform}), as where it is named first"
            raise InputError("weight", told, allowed)
    return found


def _steps(every: Sequence[Weight]) -> int | None:
    numbers = [w.step for w in every if w.step is not None]
    return max(numbers) + 1 if numbers else None


def _whole_shape(every: Sequence[Weight]) -> tuple[int, ...]:
    steps = _steps(every)
    return every[0].shape if steps is None else (steps, *every[0].shape)


def _block(every: Sequence[Weight]) -> Block:
    one, steps = Shared(every[0].shape), _steps(every)
    return one if steps is None else PerStep(one, steps)


class NetworkMap:
    """A network over samples; see ForwardMap."""

    def __init__(self, network: Network, inputs: Inputs, space: ParameterSpace):
        self.network, self.inputs, self.space = network, inputs, space
        self.grid, self.counters = network.grid, Counters()
        self.experiments = range(len(inputs))
        target = network.target
        layout = DataLayout(
            target.comm, target.size, target.order(), tuple(range(len(inputs)))
        )
        self.layouts = [layout] if len(inputs) else []

    def linearize(
        self, m: PETSc.Vec, columns: Sequence[int] | None = None
    ) -> NetworkAt:
        """The outputs of some samples, or all, and their derivatives. Collective."""
        return NetworkAt(self, m, self.experiments if columns is None else columns)

    def of_epoch(self, epoch: int) -> NetworkMap:
        """With the inputs of an epoch of training, where they are drawn; else itself."""
        if not isinstance(self.inputs, Drawn):
            return self
        found = NetworkMap(self.network, self.inputs.of_epoch(epoch), self.space)
        found.counters = self.counters
        return found

    def destroy(self) -> None:
        """Nothing to give back."""


@dataclass
class Adjoints:
    """What the adjoint of data multipliers leaves: these, the cotangents of weights, and the
    multipliers of all layers, where they are kept."""

    data: list[DataBlock]
    gradient: Sums
    kept: Adjoint | None = None


class NetworkAt:
    """The outputs of samples at one point; see Linearization."""

    def __init__(self, forward: NetworkMap, m: PETSc.Vec, samples: Sequence[int]):
        self.forward, self.samples = forward, list(samples)
        self.parameters = forward.space.at(m)
        self.k = {n: np.asarray(v) for n, v in self.parameters.coefficients().items()}
        network = forward.network
        self.data: list[DataBlock] = []
        self.trajectory: Trajectory[Sums] | None = None
        if not self.samples:
            return
        layers = [step.at(self.k, self._part(step)) for step in network.steps]
        chain = Chain[Sums](layers, counts=None, columns=len(self.samples))
        self.trajectory = chain.run(self._start())
        layout = forward.layouts[0].over(self.samples)
        self.data = [DataBlock(layout, as_rows(self.trajectory.last).astype(float))]
        forward.counters.forward_solves += len(self.samples)

    def _part(self, step: Template) -> np.ndarray | None:
        """What a layer reads of the samples."""
        if step.reads is None or step.taken is None:
            return None
        found = self.forward.inputs.part(step.reads, self.samples, step.taken)
        return np.ascontiguousarray(found, self.forward.network.dtype)

    def _start(self) -> np.ndarray:
        network = self.forward.network
        if network.start is None:
            return np.zeros(network.source.shape(len(self.samples)), network.dtype)
        found = self.forward.inputs.part(network.start, self.samples, network.source)
        return np.ascontiguousarray(found, network.dtype)

    def apply(self, dm: PETSc.Vec) -> list[DataBlock]:
        """J dm"""
        if self.trajectory is None:
            return []
        dk = self.parameters.push(dm)
        du = self.trajectory.tangent(np.zeros_like(self.trajectory.first), dk, _nothing)
        self.forward.counters.forward_solves += len(self.samples)
        return [self.data[0].like(as_rows(du).astype(float))]

    def adjoint_states(self, d: Sequence[DataBlock]) -> Adjoints:
        """The adjoint with data multipliers d."""
        found = Adjoints([b.copy() for b in d], Sums(self.forward.network.shapes))
        self._adjoint(d, found.gradient)
        return found

    def _adjoint(self, d: Sequence[DataBlock], out: Sums | None) -> Adjoint | None:
        if self.trajectory is None:
            return None
        last = len(self.forward.network.steps)

        def before(n: int, u: np.ndarray, adjoint: np.ndarray) -> None:
            if n == last:
                adjoint += from_rows(d[0].values, u.shape, u.dtype)

        self.forward.counters.adjoint_solves += len(self.samples)
        return self.trajectory.adjoint(before, out, keep=out is None)

    def apply_adjoint(
        self, d: Sequence[DataBlock], adjoints: Adjoints | None = None
    ) -> PETSc.Vec:
        """J^T d. The caller destroys the Vec."""
        gradient = (
            Sums(self.forward.network.shapes) if adjoints is None else adjoints.gradient
        )
        if adjoints is None:
            self._adjoint(d, gradient)
        out = self.forward.space.create_vec()
        self.parameters.pull(gradient.values, out)
        return out

    def hessian(
        self,
        dm: PETSc.Vec,
        metrics: Sequence[Metric],
        out: PETSc.Vec,
        adjoints: Adjoints | None,
    ) -> None:
        """Adds J^T W J dm and, where the misfit's adjoint states are given, the second-order
        term."""
        total = Sums(self.forward.network.shapes)
        if adjoints is not None and self.trajectory is not None:
            if adjoints.kept is None:
                adjoints.kept = self._adjoint(adjoints.data, None)
            self._second(dm, metrics, adjoints, total)
            self.parameters.pull_second(adjoints.gradient.values, dm, out)
        elif self.trajectory is not None:
            images = self.apply(dm)
            metrics[0].apply(images[0])
            self._adjoint(images, total)
        self.parameters.pull(total.values, out)

    def _second(
        self, dm: PETSc.Vec, metrics: Sequence[Metric], adjoints: Adjoints, out: Sums
    ) -> None:
        assert self.trajectory is not None
        last, dk = len(self.forward.network.steps), self.parameters.push(dm)
        image = self.data[0].like(np.zeros_like(self.data[0].values))

        def after(n: int, u: np.ndarray, du: np.ndarray) -> None:
            if n == last:
                image.values[...] = as_rows(du)

        def turn() -> None:
            metrics[0].apply(image)

        def before(n: int, u: np.ndarray, adjoint: np.ndarray) -> None:
            if n == last:
                adjoint += from_rows(adjoints.data[0].values, u.shape, u.dtype)

        def before_change(
            n: int, u: np.ndarray, du: np.ndarray, dadjoint: np.ndarray
        ) -> None:
            if n == last:
                dadjoint += from_rows(image.values, u.shape, u.dtype)

        visitors = Visitors(after, turn, before, before_change)
        start = np.zeros_like(self.trajectory.first)
        self.trajectory.second(start, dk, visitors, out, adjoints.kept)
        self.forward.counters.forward_solves += len(self.samples)
        self.forward.counters.adjoint_solves += len(self.samples)

    def destroy(self) -> None:
        if self.trajectory is not None:
            self.trajectory.destroy()


def _nothing(n: int, u: np.ndarray, du: np.ndarray) -> None:
    """Nobody looks at states between."""
