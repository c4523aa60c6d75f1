"""J(w) = sum_s phi(F(x_s; w), y_s) + R(w) of one split of a case's samples: the network, its inputs
and targets, and what it makes of other samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError, collective
from npde_opt.grids import Grid
from npde_opt.misfits import Huber, LeastSquares, Misfit, SoftmaxCrossEntropy
from npde_opt.networks import Network
from npde_opt.networks.normalisation import Normalisation
from npde_opt.objective import Objective
from npde_opt.observations import DataBlock, DataLayout
from npde_opt.parameters.draws import child
from npde_opt.regularizers import Ridge
from npde_opt.training.build import initial, network_of
from npde_opt.training.case import TrainingCase
from npde_opt.training.data import Part
from npde_opt.training.given import Cells, Fresh, Given, box_of, cells_along, noisy
from npde_opt.training.samples import WHOLE, Box, Samples, Shape, Source

AT_ONCE_BYTES, MOST_BYTES = 1 << 25, 1 << 27
"""States of so many samples go through the layers together: at least, of small ones, and at most,
of several large ones."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What a network makes of a part's samples that are this group's.

    Attributes:
        numbers: of the samples in the part, increasing.
        loss: of each.
        squares: of output - target in its own unit, the mean over a sample; of classes 0.
        classes: the most probable one of each; of numbers none.
        outputs: (sample, output) in their own unit, of classes their probabilities; none, where
            nobody asked for them.
    """

    numbers: np.ndarray
    loss: np.ndarray
    squares: np.ndarray
    classes: np.ndarray
    outputs: np.ndarray


class Problem:
    """Args:
    ensemble: groups of ranks that share the samples.
    split: number of the network (see TrainingCase.networks).

    Raises:
        InputError: where samples, network and loss do not fit. Collective.
    """

    def __init__(self, case: TrainingCase, ensemble: Ensemble, split: int = 0):
        self.case, self.ensemble, self.split = case, ensemble, split
        table = case.table
        self.parts = case.parts(split)
        self.source = self.parts.train.source
        self.sequence = table.layer[0].kind == "recurrent"
        self.noise = case.noise(split)
        self._networks: dict[Shape, tuple[Network, Box]] = {}
        with ensemble.together():
            self.network, self.box = self._on(self.source)
            self.space = self.network.space()
        self._samples: dict[str, Samples] = {}
        train = self.samples(self.parts.train)
        self.inputs, self.outputs = self._normalisations(train)
        with ensemble.together():
            forward = self.network.over(self._training(self.parts.train), self.space)
            misfits = [
                self.misfit(train, layout, self.source) for layout in forward.layouts
            ]
            regularizers = self._regularizers()
        self.objective = Objective(
            forward, misfits, regularizers, ensemble, self.at_once
        )

    def _on(self, source: Source) -> tuple[Network, Box]:
        """The network on the cells of a source's samples, and this rank's cells; kept."""
        if source.shape not in self._networks:
            network = self._network(source)
            box = WHOLE if self.sequence else box_of(network.grid)
            self._networks[source.shape] = network, box
        return self._networks[source.shape]

    def _network(self, source: Source) -> Network:
        table = self.case.table
        cells = (1,) if self.sequence else cells_along(source.shape)
        grid = Grid(cells, comm=self.ensemble.space)
        steps = source.shape[2]
        found = network_of(grid, source.channels, table.layer, table.network, steps)
        outputs, wanted = found.target.size, source.target_size
        if self.classifies and wanted < 2:
            raise InputError(
                f"classes of {source.name}", wanted, "at least 2 that are told apart"
            )
        last = f"layer[{len(table.layer) - 1}]"
        if self.classifies and outputs < wanted:
            said = f"{outputs} outputs"
            raise InputError(
                last, said, f"at least {wanted}, one a class of {source.name}"
            )
        if not self.classifies and outputs != wanted:
            said = f"{outputs} outputs ({found.target.channels} channels)"
            raise InputError(
                last, said, f"{wanted}, as the numbers sought in {source.name}"
            )
        if source is not self.source and found.shapes != self.network.shapes:
            said = f"{source.name}, of {' x '.join(map(str, source.shape[1:]))} cells"
            allowed = "the size of the training samples, as dense layers have one"
            raise InputError("data.test", said, allowed)
        return found

    @property
    def classifies(self) -> bool:
        return self.source.labels is not None

    @property
    def at_once(self) -> int:
        """Training samples that go through the layers together."""
        return together(self.network)

    def start(self) -> PETSc.Vec:
        """The weights to start from; the caller's. Collective."""
        table, seed = self.case.table, self.case.seed + self.case.split(self.split)
        return self.space.from_values(
            initial(self.network, table.layer, table.network, seed)
        )

    # ---- samples ---------------------------------------------------------------------------------

    def own(self, part: Part) -> np.ndarray:
        """Numbers in the part of this group's samples."""
        return np.array(self.ensemble.own(part.count), int)

    def samples(self, part: Part) -> Samples:
        """This group's samples of a part, at this rank's cells; they are kept."""
        if part.name not in self._samples:
            with self.ensemble.together():
                numbers = part.numbers[self.own(part)]
                self._samples[part.name] = self._read(part, numbers)
        return self._samples[part.name]

    def try_others(self) -> None:
        """Reads the samples that are not for training, and keeps none: what is wrong with them is
        told before hours of training, not after. Collective over all ranks.

        Raises:
            InputError: as reading them does, and where they do not fit the network.
        """
        for part in self.parts.all[1:]:
            with self.ensemble.together():
                self._read(part, part.numbers[self.own(part)])

    def _read(self, part: Part, numbers: np.ndarray) -> Samples:
        """Inputs at this rank's cells, with noise; targets there, too, where outputs lie on the
        cells of the inputs, else whole."""
        source, dtype = part.source, self.network.dtype.type
        network, box = self._on(source)
        beside = network.target.same_cells(network.source) and np.prod(source.shape) > 1
        found = source.samples(numbers, box, dtype)
        inputs, targets = found.inputs, found.targets
        if not self.classifies and box != WHOLE and not beside:
            targets = source.samples(numbers, WHOLE, dtype).targets
        if self.noise is not None:
            seed = self.case.seed
            inputs = noisy(
                inputs, self.noise, seed, numbers.tolist(), source.shape, box
            )
        return Samples(inputs, targets)

    def _normalisations(self, train: Samples) -> tuple[Normalisation, Normalisation]:
        """Of inputs and of targets. Collective."""
        channels = self.source.channels
        outputs = 1 if self.classifies else train.targets.shape[1]
        kind = self.case.table.data.normalisation
        if kind == "none":
            return Normalisation.none(channels), Normalisation.none(outputs)
        if kind == "noise":
            assert self.noise is not None
            units = [
                Normalisation(np.zeros(n), np.full(n, self.noise))
                for n in (channels, outputs)
            ]
            return units[0], Normalisation.none(1) if self.classifies else units[1]
        world, roots = self.ensemble.world, kind == "roots"
        inputs = Normalisation.standard(world, train.inputs, roots)
        if self.classifies:
            return inputs, Normalisation.none(outputs)
        return inputs, Normalisation.standard(world, train.targets, roots)

    def given(self, part: Part, columns: slice | np.ndarray = slice(None)) -> Given:
        """What some of the group's samples of a part give to the network."""
        inputs = self.samples(part).inputs[columns]
        return Given(self.inputs.apply(inputs), self.sequence)

    def first(self, part: Part, count: int) -> Given:
        """What the first samples of a part give to the network, whichever group's they are.
        Collective over the group's ranks."""
        with collective(self.ensemble.space):
            inputs = self._read(part, part.numbers[:count]).inputs
        return Given(self.inputs.apply(inputs), self.sequence)

    def _training(self, part: Part) -> Given:
        """What the training samples give, with fresh noise in every epoch where that is wanted."""
        given = self.given(part)
        if not self.case.table.data.fresh or self.noise is None:
            return given
        source, deviation, numbers = (
            part.source,
            self.noise,
            part.numbers[self.own(part)],
        )
        _, box = self._on(source)
        clean = source.samples(numbers, box, self.network.dtype.type).inputs

        def draw(inputs: np.ndarray, samples: Sequence[int], epoch: int) -> np.ndarray:
            seed, drawn = (
                child(self.case.seed, epoch + 1),
                numbers[list(samples)].tolist(),
            )
            return self.inputs.apply(
                noisy(inputs, deviation, seed, drawn, source.shape, box)
            )

        return Fresh(given.inputs, clean, draw, self.sequence)

    # ---- loss ------------------------------------------------------------------------------------

    def misfit(self, samples: Samples, layout: DataLayout, source: Source) -> Misfit:
        """The loss of some samples of a source, one a column. Collective."""
        loss = self.case.table.loss
        kind = loss.kind or ("softmax" if self.classifies else "least-squares")
        if (kind == "softmax") != self.classifies:
            allowed = "softmax of classes, least-squares or huber of numbers"
            raise InputError("loss.kind", kind, allowed)
        if kind == "softmax":
            return SoftmaxCrossEntropy(samples.targets, layout)
        targets = self.outputs.apply(samples.targets)
        if loss.margin:
            here = Cells.of(samples, source.shape, self._on(source)[1])
            targets = here.inside(targets, loss.margin)
        own = owned(targets, layout)
        if kind == "huber":
            return Huber(own, loss.sigma, layout, owned=True)
        return LeastSquares(own, loss.sigma, layout, owned=True)

    def _regularizers(self) -> dict[str, Ridge]:
        found: dict[str, Ridge] = {}
        names = list(self.network.shapes)
        for number, section in enumerate(self.case.table.regularization):
            where = f"regularization[{number}].weights"
            for name in section.weights or [n for n in names if n[0] in "WVU"]:
                if name not in names or name in found:
                    said = "given twice" if name in found else repr(name)
                    raise InputError(where, said, ", ".join(names))
                reference = None
                if section.towards == "start":
                    start = self.start()
                    reference = self.space.block_vec(start, name)
                    start.destroy()
                found[name] = Ridge(self.space.blocks[name], section.weight, reference)
        return found

    # ---- other samples ---------------------------------------------------------------------------

    def see(self, m: PETSc.Vec, part: Part, keep: bool = False) -> Seen:
        """What the network with weights m makes of a part's samples. Collective over all ranks.

        Args:
            keep: whether the outputs are kept.
        """
        with self.ensemble.together():
            pieces = list(self._pieces(m, part, keep))
        joined = [np.concatenate(parts) for parts in zip(*pieces, strict=True)]
        if not joined:
            joined = [np.zeros(0)] * 3 + [np.zeros((0, 0))]
        return Seen(self.own(part), *joined)

    def _pieces(
        self, m: PETSc.Vec, part: Part, keep: bool
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """Of so many samples at once: loss, squares, classes, outputs."""
        samples = self.samples(part)
        network, _ = self._on(part.source)
        step = together(network)
        for first in range(0, samples.count, step):
            columns = slice(first, min(first + step, samples.count))
            piece = Samples(samples.inputs[columns], samples.targets[columns])
            at = network.over(self.given(part, columns), self.space).linearize(m)
            d = at.data[0]
            misfit = self.misfit(piece, d.layout, part.source)
            cells = Cells.of(piece, part.source.shape, WHOLE).whole
            found = self._read_off(misfit, d, piece, cells if keep else None)
            yield np.asarray(misfit.values(d)), *found
            at.destroy()

    def _read_off(
        self, misfit: Misfit, d: DataBlock, piece: Samples, cells: Shape | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Squares, classes and outputs of a block of predictions.

        Args:
            cells: of outputs that are numbers; None: outputs are not kept.
        """
        none, nothing = np.zeros(piece.count), np.zeros((piece.count, 0))
        if isinstance(misfit, SoftmaxCrossEntropy):
            outputs = nothing
            if cells is not None:
                outputs = d.like(misfit.probabilities(d)).gather().T
            return none, misfit.classes(d), outputs
        order, size = d.layout.order, d.layout.size
        columns = d.values.T[:, :, None, None, None]
        found = self.outputs.of_outputs(order, size).undo(columns)[..., 0, 0, 0].T
        away = found - owned(piece.targets, d.layout)
        squares = reductions.total(d.layout.comm, (away**2).sum(axis=0)) / d.layout.size
        outputs = nothing
        if cells is not None:
            shape = (piece.count, piece.targets.shape[1], *cells)
            outputs = self.outputs.undo(d.gather().T.reshape(shape)).reshape(
                piece.count, -1
            )
        return squares, none, outputs

    def mean(self, values: np.ndarray) -> float:
        """Over the samples of all groups, of a number each. Collective over all ranks."""
        total = self.ensemble.sum(float(values.sum()))
        return total / max(self.ensemble.sum(float(values.size)), 1.0)

    def destroy(self) -> None:
        self.objective.destroy()
        for network, _ in self._networks.values():
            network.destroy()
            network.grid.destroy()


def together(network: Network) -> int:
    """Samples that go through the layers of a network at once."""
    sizes = [step.widest for step in network.steps]
    size = network.dtype.itemsize * (network.source.size + 3 * sum(sizes))
    # A few small ones together save time, of large ones that memory is dear.
    return max(AT_ONCE_BYTES // size, min(16, MOST_BYTES // size), 1)


def as_outputs(targets: np.ndarray) -> np.ndarray:
    """[sample, channel, k, j, i] as outputs by samples (see Place.order)."""
    return targets.reshape(len(targets), -1).T


def owned(targets: np.ndarray, layout: DataLayout) -> np.ndarray:
    """This rank's outputs by samples, from its own targets or from all."""
    rows = as_outputs(targets)
    return rows if len(rows) == layout.order.size else rows[layout.order]


def wrong(seen: Seen, labels: Sequence[int] | np.ndarray) -> np.ndarray:
    """1 of each sample whose class is another, else 0."""
    return (seen.classes != np.asarray(labels)).astype(float)
