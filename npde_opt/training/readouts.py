"""A run that learns classes by least squares: splits, numbers of features, and what it leaves.

Features are recipes of pseudoinverse/features.py; the layer behind them is solved for. Of digits
each repeat has another split (stratified, 70 % to learn from) and other random weights; MNIST has
its own test samples, and repeats differ in the weights only.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from npde_opt.errors import InputError, collective
from npde_opt.figures.spectrum import plot_depths, plot_errors, plot_spectrum
from npde_opt.figures.training import plot_confusion
from npde_opt.io.files import whole_file
from npde_opt.pseudoinverse import METHODS, Gram, Rows
from npde_opt.pseudoinverse.autoencoders import grow
from npde_opt.pseudoinverse.features import (
    Feature,
    Features,
    Oriented,
    RandomLayer,
    deskewed,
    flat,
    receptive,
)
from npde_opt.pseudoinverse.learning import HELD, Readout, train
from npde_opt.pseudoinverse.solution import CHOICES, LOO
from npde_opt.runs.solved_run import SolvedRun
from npde_opt.training.digits import digits
from npde_opt.training.idx import mnist
from npde_opt.training.samples import Source
from npde_opt.training.splits import split

TRAINING_SHARE = 0.7
SAMPLES = ("digits", "mnist")
DEFAULT_FEATURES, REPEATS = 2000, 5
RECIPE, METHOD = "oriented", "gram"
MODEL = "model.npz"
FIGURES = ("confusion.png", "errors.png", "singular_values.png")
DEPTHS = "depth.png"
"""Of layers that grow."""
LOOK = 2000
"""Samples by which random weights are scaled."""
SAMPLED = 1000
"""Rows that a rank keeps for leave-one-out."""


@dataclass(frozen=True)
class Recipe:
    """How features are made of pictures.

    Attributes:
        scale, bias: of random weights (RandomLayer.of_rows).
        samples: cells along each axis that oriented derivatives end with; 0 for none.
        time: of their heat equation, cells^2.
        upright: whether pictures are deskewed.
        least: of receptive fields, cells; 0 for none.
        grows: whether layers are autoencoders, as many as help, in place of random weights.
    """

    scale: float
    bias: float
    samples: int = 0
    time: float = 1.5
    upright: bool = False
    least: int = 0
    grows: bool = False


RECIPES = {
    "random": {"mnist": Recipe(0.8, 1.3), "digits": Recipe(0.5, 0.5)},
    "receptive": {
        "mnist": Recipe(0.8, 1.0, least=7),
        "digits": Recipe(0.5, 0.5, least=3),
    },
    "oriented": {
        "mnist": Recipe(0.4, 0.5, 7, 1.5, True),
        "digits": Recipe(0.4, 0.5, 4, 0.25, False),
    },
    "autoencoders": {
        "mnist": Recipe(0.0, 0.0, 7, 1.5, True, grows=True),
        "digits": Recipe(0.0, 0.0, 4, 0.25, False, grows=True),
    },
}
ORIENTATIONS = 8


@dataclass(frozen=True)
class Found:
    """One trained readout.

    Attributes:
        features: of a layer.
        layers: before the readout.
        by_depth: shares of held-back samples that are misread, of stacks that were grown.
    """

    features: int
    layers: Sequence[RandomLayer]
    readout: Readout
    confusion: np.ndarray
    by_depth: tuple[float, ...] = ()

    @property
    def error(self) -> float:
        return 1 - float(np.trace(self.confusion)) / int(self.confusion.sum())


class Readouts(SolvedRun):
    """A run that learns classes of pictures."""

    def check(self) -> None:
        options = self.options
        (self.name,) = options.samples
        self.recipe, self.method = options.recipe or RECIPE, options.method or METHOD
        self.repeats = REPEATS if options.repeats is None else options.repeats
        self.sizes = options.features or [DEFAULT_FEATURES]
        self.found: list[Found] = []
        self.ridge = ridge_of(options.ridge or HELD)
        if self.repeats < 1 or min(self.sizes) < 1:
            told = f"repeats {self.repeats}, features {self.sizes}"
            raise InputError("--repeats, --features", told, "positive numbers")
        if self._recipe.grows and self.ridge != HELD:
            told = f"{options.ridge} with the recipe autoencoders"
            raise InputError("--ridge", told, f"{HELD}, as it chooses the depth too")

    def prepare(self) -> None:
        """Reads the samples."""
        name, data = self.name, self.options.data
        with collective(self.world):
            self.source: Source = digits() if name == "digits" else mnist(data, "train")
            self.tests: Source | None = (
                None if name == "digits" else mnist(data, "test")
            )
            self.pictures = _pictures(self.source)
            self.test_pictures = None if self.tests is None else _pictures(self.tests)
        self.out.claim([MODEL, *self._figures])
        self.say(
            f"{self.source.name}: {self.source.count:,} samples, recipe {self.recipe}, "
            f"{self.world.size} ranks"
        )
        self.ready = time.monotonic()

    @property
    def _figures(self) -> tuple[str, ...]:
        if not self.options.plot:
            return ()
        return (*FIGURES, DEPTHS) if self._recipe.grows else FIGURES

    def train(self) -> None:
        """All numbers of features, all repeats."""
        for size in self.sizes:
            for repeat in range(self.repeats):
                found = self._one(size, repeat)
                self.found.append(found)
                solution = found.readout.solution
                self.say(
                    f"{size} features, repeat {repeat}: {100 * found.error:.2f} % of the test "
                    f"misread (ridge {solution.ridge[0]:.2e}, condition {solution.condition:.1e})"
                )

    def _one(self, size: int, repeat: int) -> Found:
        labels = self.source.labels
        assert labels is not None
        everything = np.arange(self.source.count)
        learnt, tested = everything, everything
        pictures, wanted = self.pictures, labels
        if self.tests is None:
            shares = (TRAINING_SHARE, 1 - TRAINING_SHARE)
            learnt, tested = split(labels, shares, [self.options.seed, repeat])
        else:
            assert self.test_pictures is not None and self.tests.labels is not None
            pictures, wanted = self.test_pictures, self.tests.labels
            tested = np.arange(self.tests.count)
        layers, readout, by_depth = self._trained(learnt, size, repeat)
        mine = tested[self.world.rank :: self.world.size]
        confusion = readout.confusion(pictures[mine], wanted[mine], self.world)
        return Found(size, layers, readout, confusion, by_depth)

    def _trained(
        self, learnt: np.ndarray, size: int, repeat: int
    ) -> tuple[Sequence[RandomLayer], Readout, tuple[float, ...]]:
        """Layers, the readout behind them, and errors by depth."""
        assert self.source.labels is not None
        before = Features(self._maps())
        numbers = np.arange(len(learnt))[self.world.rank :: self.world.size]
        mine = learnt[numbers]
        x, labels = self.pictures[mine], self.source.labels[mine]
        if self._recipe.grows:
            seed = self._seed(repeat)
            grown = grow(self._rows, before, x, labels, size, seed, numbers=numbers)
            return grown.stack.layers, grown.readout, grown.errors
        layer = self._layer(learnt, size, repeat, before)
        features = Features([*before.maps, layer])
        rows = self._rows(size)
        return [layer], train(rows, features, x, labels, self.ridge, numbers), ()

    def _rows(self, size: int) -> Rows:
        classes, sampled = len(self.source.classes), 0
        if isinstance(self.ridge, str) and self.ridge.startswith(LOO):
            sampled = SAMPLED
        settings = (size, classes, True, self.world)
        if self.method == "gram":
            # Products of many rows in single precision: their noise is far above its rounding.
            return Gram(*settings, sampled=sampled, single=self.tests is not None)
        return METHODS[self.method](*settings, sampled=sampled)

    @property
    def _recipe(self) -> Recipe:
        return RECIPES[self.recipe][self.name]

    @property
    def _shape(self) -> tuple[int, int]:
        return self.pictures.shape[1], self.pictures.shape[2]

    def _maps(self) -> list[Feature]:
        """What comes before the random layer."""
        recipe = self._recipe
        maps: list[Feature] = [deskewed] if recipe.upright else []
        if not recipe.samples:
            return [*maps, flat]
        return [*maps, Oriented(self._shape, ORIENTATIONS, recipe.time, recipe.samples)]

    def _layer(
        self, learnt: np.ndarray, size: int, repeat: int, before: Features
    ) -> RandomLayer:
        """The same on all ranks: weights are scaled by the first samples to learn from."""
        recipe = self._recipe
        seed = self._seed(repeat)
        mask = (
            receptive(self._shape, size, recipe.least, seed) if recipe.least else None
        )
        look = before(self.pictures[learnt[:LOOK]])
        return RandomLayer.of_rows(look, size, recipe.scale, seed, recipe.bias, mask)

    def _seed(self, repeat: int) -> int:
        return int(self.options.seed << 16) + repeat

    def report(self) -> None:
        """The summary, the readout of the first repeat with most features, and figures."""
        self.solved = time.monotonic()
        errors = np.array([found.error for found in self.found])
        errors = errors.reshape(len(self.sizes), -1)
        best = self.found[int(np.argmax(self.sizes)) * self.repeats]
        with collective(self.world):
            if self.world.rank == 0:
                self._write(best)
                if self.options.plot:
                    self._draw(best, errors)
        for size, own in zip(self.sizes, errors, strict=True):
            self.say(
                f"{size} features: {100 * own.mean():.2f} % misread, mean of {len(own)} "
                f"({100 * own.min():.2f} to {100 * own.max():.2f})"
            )
        self._summarize(best, errors)

    def _write(self, best: Found) -> None:
        solution = best.readout.solution
        arrays = {"W": solution.W, "intercept": solution.intercept}
        for number, layer in enumerate(best.layers):
            arrays |= {f"A{number}": layer.A, f"b{number}": layer.b}
        with self.out.writing(), whole_file(self.out.file(MODEL)) as file:
            np.savez(file, allow_pickle=False, **arrays)

    def _draw(self, best: Found, errors: np.ndarray) -> None:
        confusion, by_features, values = (self.out.file(name) for name in FIGURES)
        every = sum(
            (f.confusion for f in self.found if f.features == best.features),
            np.zeros_like(best.confusion),
        )
        plot_confusion(confusion, every, self.source.classes)
        plot_errors(by_features, np.array(self.sizes), errors)
        if self._recipe.grows:
            by_depth = {
                size: [f.by_depth for f in self.found if f.features == size]
                for size in self.sizes
            }
            plot_depths(self.out.file(DEPTHS), by_depth)
        solution = best.readout.solution
        plot_spectrum(
            values, solution.singular_values, solution.cut, float(solution.ridge[0])
        )

    def _summarize(self, best: Found, errors: np.ndarray) -> None:
        solution = best.readout.solution
        objective = float((solution.residual**2).sum())
        self.write_summary(
            self.name,
            grid=self.source.shape,
            unknowns=self.source.count,
            parameters=int(solution.W.size),
            objective=objective,
            metrics={
                "recipe": self.recipe,
                "features": self.sizes,
                "layers": len(best.layers),
                "held_back_error_by_depth": best.by_depth,
                "error": errors.mean(axis=1),
                "errors": errors,
                "ridge": solution.ridge[0],
                "ridges_tried": best.readout.tried,
                "condition": solution.condition,
                "confusion": best.confusion,
                "meanings": {
                    "error": "share of the test samples whose class is another, by features, "
                    "mean over repeats",
                    "objective": "mean square of scores - targets, summed over classes",
                },
            },
        )


def _pictures(source: Source) -> np.ndarray:
    """[sample, y, x] in single precision."""
    inputs = source.samples(dtype=np.float32).inputs
    return inputs[:, 0, 0]


def ridge_of(text: str) -> float | str:
    """Of the option --ridge; InputError for what is none."""
    if text == HELD or text in CHOICES:
        return text
    try:
        ridge = float(text)
    except ValueError:
        ridge = math.nan
    if not 0 <= ridge < math.inf:
        wanted = ", ".join(["a number >= 0", HELD, *CHOICES])
        raise InputError("--ridge", repr(text), wanted)
    return ridge
