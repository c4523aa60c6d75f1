"""A block for each of n steps of time, or layers: p_0 ... p_{n-1}; arrays have the step first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np

from npde_opt.aliases import Coefficient, Numbers
from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.io.vectors import Sink, Source
from npde_opt.parameters.arrays import MANY
from npde_opt.parameters.draws import child
from npde_opt.parameters.interface import (
    Block,
    Inverse,
    Lift,
    Placed,
    Transformed,
)

T = TypeVar("T")


class PerStep(Block):
    """`steps` blocks of one kind; terms read an array [step, ...]."""

    def __init__(self, block: Block, steps: int):
        if steps < 1:
            raise InputError("PerStep: steps", steps, "a positive integer")
        self.block, self.steps = block, steps

    @property
    def count(self) -> int:
        return self.steps * self.block.count

    @property
    def listed(self) -> bool:
        return self.block.listed and self.count <= MANY

    @property
    def length(self) -> int | None:
        one = self.block.length
        return None if one is None else self.steps * one

    def on(self, grid: Grid, where: str) -> Placed:
        one = self.block.on(grid, where)
        return one.repeated(self.steps) or PlacedSteps(one, self.steps)


class PlacedSteps(Placed):
    """The blocks one after the other: `one` places each of them."""

    def __init__(self, one: Placed, steps: int):
        axes = (0, *(a + 1 for a in one.axes))
        super().__init__(one.comm, steps * one.count, (steps, *one.shape), axes)
        self.one, self.steps, self.large = one, steps, one.large

    def _each(self, of: Callable[[T], Numbers], given: Iterable[T]) -> np.ndarray:
        return np.stack([np.asarray(of(one)) for one in given])

    @property
    def free(self) -> np.ndarray:
        return np.broadcast_to(self.one.free, (self.steps, *self.one.free.shape))

    def mass(self) -> np.ndarray:
        return self._each(lambda _: self.one.mass(), range(self.steps))

    def noise(self, seed: int) -> np.ndarray:
        return self._each(
            lambda step: self.one.noise(child(seed, step)), range(self.steps)
        )

    def smooth(self, seed: int) -> np.ndarray:
        return self._each(
            lambda step: self.one.smooth(child(seed, step)), range(self.steps)
        )

    def parameters(self, given: Numbers, inverse: Inverse) -> np.ndarray:
        """Of a number, or of an array [step, ...]."""
        each = self._by_step(given)
        return self._each(lambda values: self.one.parameters(values, inverse), each)

    def _by_step(self, given: Numbers) -> Sequence[Numbers]:
        """An array [step, ...] by step; a number is that of all steps."""
        array = np.asarray(given, float)
        return list(array) if array.ndim > 0 else [float(array)] * self.steps

    def values(self, own: np.ndarray) -> np.ndarray:
        return self._each(self.one.values, own)

    def own(self, values: np.ndarray) -> np.ndarray:
        return self._each(self.one.own, values)

    def coefficient(self, k: np.ndarray) -> np.ndarray:
        return self._each(self.one.coefficient, k)

    def change(self, dk: np.ndarray) -> np.ndarray:
        return self._each(self.one.change, dk)

    def sums(self, cotangent: Coefficient) -> np.ndarray:
        return self._each(self.one.sums, np.asarray(cotangent))

    def write(self, own: np.ndarray, sink: Sink) -> None:
        for step in own:
            self.one.write(step, sink)

    def read(self, source: Source) -> np.ndarray:
        return self._each(lambda _: self.one.read(source), range(self.steps))

    def lift(self, coarse: Placed, cubic: bool, matrix: Callable[[bool], Lift]) -> Lift:
        assert isinstance(coarse, PlacedSteps)
        return EachStep(self.one.lift(coarse.one, cubic, matrix), self.steps)

    def squares(
        self, unknown: Transformed, own: np.ndarray, truth: Numbers, start: Numbers
    ) -> np.ndarray:
        steps = range(self.steps)
        truths, starts = self._by_step(truth), self._by_step(start)
        found = [self.one.squares(unknown, own[s], truths[s], starts[s]) for s in steps]
        return np.sum(found, axis=0)


class EachStep:
    """A lift of every step."""

    def __init__(self, lift: Lift, steps: int):
        self.one, self.steps = lift, steps

    def apply(self, rows: np.ndarray, found: np.ndarray) -> None:
        self.one.apply(self._by_step(rows), self._by_step(found))

    def transpose(self, rows: np.ndarray, found: np.ndarray) -> None:
        self.one.transpose(self._by_step(rows), self._by_step(found))

    def _by_step(self, rows: np.ndarray) -> np.ndarray:
        """A row a step: steps lie in memory one after the other."""
        return rows.reshape(len(rows) * self.steps, -1)
