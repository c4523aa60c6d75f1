"""A two-grid cycle as one layer, with chains of layers in place of smoothers and solver:

    u' = post(v + R^T coarse(R v)),   v = pre(u)

R is a fixed restriction and R^T its prolongation; `coarse` may have such a layer again, which makes
a V-cycle of any depth, the network that is known by its U shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from npde_opt.aliases import Coefficients
from npde_opt.errors import InputError
from npde_opt.forward.layer import Layer, Stages
from npde_opt.networks.interface import Values, Weight
from npde_opt.networks.linear_layers import changed
from npde_opt.networks.place import Place
from npde_opt.networks.template import Change, Linear, Sums, Template


class Nested:
    """Args:
    pre, post: layers on the fine grid, which may be none.
    restriction: R, from what `pre` gives.
    coarse: layers from R's target to itself.

    Raises:
        InputError: where a layer does not fit the one before, and where layers read the samples.
    """

    reads: int | None = None
    taken: Place | None = None

    def __init__(
        self,
        pre: Sequence[Template],
        restriction: Linear,
        coarse: Sequence[Template],
        post: Sequence[Template] = (),
    ):
        self.restriction = restriction
        self.chains = [list(pre), list(coarse), list(post)]
        fine, below = restriction.source, restriction.target
        self.source = pre[0].source if pre else fine
        self.target = post[-1].target if post else fine
        for name, chain, ends in zip(
            ("pre", "coarse", "post"),
            self.chains,
            ((self.source, fine), (below, below), (fine, self.target)),
            strict=True,
        ):
            _check(name, chain, *ends)

    @property
    def layers(self) -> list[Template]:
        return [layer for chain in self.chains for layer in chain]

    @property
    def weights(self) -> list[Weight]:
        return [w for layer in self.layers for w in layer.weights]

    @property
    def gains(self) -> Mapping[str, float]:
        return {
            name: gain for layer in self.layers for name, gain in layer.gains.items()
        }

    @property
    def widest(self) -> int:
        """All stages are kept together."""
        return self.source.size + sum(layer.widest for layer in self.layers)

    def at(self, k: Values, x: np.ndarray | None) -> NestedAt:
        chains = [[layer.at(k, None) for layer in chain] for chain in self.chains]
        return NestedAt(self.restriction, chains)

    def with_operators(self, change: Change) -> Nested:
        """The same cycle, of layers and restriction with changed operators."""
        chains = [
            [layer.with_operators(change) for layer in chain] for chain in self.chains
        ]
        pre, coarse, post = chains
        return Nested(pre, changed(self.restriction, change), coarse, post)

    def destroy(self) -> None:
        for layer in self.layers:
            layer.destroy()


def _check(name: str, chain: Sequence[Template], first: Place, last: Place) -> None:
    """Raises InputError where layers do not lead from one place to the other."""
    place = first
    for n, layer in enumerate(chain):
        _check_place(f"{name}[{n}]", layer.source, place)
        if layer.reads is not None:
            raise InputError(f"{name}[{n}]", "a layer that reads the samples", "others")
        place = layer.target
    _check_place(f"the end of {name}", place, last)


def _check_place(name: str, found: Place, wanted: Place) -> None:
    if found.channels != wanted.channels or not found.same_cells(wanted):
        told = f"{found.channels} channels on {found.layout.shape} cells"
        raise InputError(name, told, f"{wanted.channels} on {wanted.layout.shape}")


class NestedAt:
    """A cycle at one point; see forward/layer.py. Its stages are those of all layers one after the
    other, but for the first of each chain, which is the last one before, or R v."""

    def __init__(self, restriction: Linear, chains: Sequence[Sequence[Layer[Sums]]]):
        self.restriction = restriction
        self.pre, self.coarse, self.post = (Series(chain) for chain in chains)

    def step(self, u: np.ndarray) -> Stages:
        R = self.restriction
        pre = self.pre.step(u)
        coarse = self.coarse.step(R.apply(pre[-1]))
        post = self.post.step(pre[-1] + R.transpose(coarse[-1]))
        return [*pre, *coarse, *post]

    def _split(self, stages: Stages) -> tuple[Stages, Stages, Stages]:
        first, second = self.pre.count, self.pre.count + self.coarse.count
        return stages[:first], stages[first:second], stages[second:]

    def tangent(
        self,
        stages: Stages,
        du: np.ndarray,
        dk: Coefficients,
        previous: np.ndarray | None,
    ) -> Stages:
        R, (pre, coarse, post) = self.restriction, self._split(stages)
        dpre = self.pre.tangent(pre, du, dk)
        dcoarse = self.coarse.tangent(coarse, R.apply(dpre[-1]), dk)
        dpost = self.post.tangent(post, dpre[-1] + R.transpose(dcoarse[-1]), dk)
        return [*dpre, *dcoarse, *dpost]

    def adjoint(
        self,
        stages: Stages,
        adjoint: np.ndarray,
        out: Sums | None,
        late: Sequence[Stages],
    ) -> tuple[np.ndarray, Stages]:
        R, (pre, coarse, post) = self.restriction, self._split(stages)
        beside, third = self.post.adjoint(post, adjoint, out)
        below, second = self.coarse.adjoint(coarse, R.apply(beside), out)
        found, first = self.pre.adjoint(pre, beside + R.transpose(below), out)
        return found, [*first, *second, *third]

    def second(
        self,
        stages: Stages,
        changes: Stages,
        multipliers: Stages,
        dadjoint: np.ndarray,
        dk: Coefficients,
        out: Sums,
        late: Sequence[Stages],
    ) -> tuple[np.ndarray, Stages]:
        R, parts, moved = self.restriction, self._split(stages), self._split(changes)
        one, two = self.pre.multipliers, self.pre.multipliers + self.coarse.multipliers
        known = multipliers[:one], multipliers[one:two], multipliers[two:]
        given = list(zip(parts, moved, known, strict=True))
        beside, third = self.post.second(*given[2], dadjoint, dk, out)
        below, second = self.coarse.second(*given[1], R.apply(beside), dk, out)
        found, first = self.pre.second(*given[0], beside + R.transpose(below), dk, out)
        return found, [*first, *second, *third]


class Series:
    """Layers one after the other inside a layer, with all their stages in one list.

    Attributes:
        count, multipliers: how many stages, and multipliers, there are; known after a step and
            after an adjoint that keeps them.
    """

    def __init__(self, layers: Sequence[Layer[Sums]]):
        self.layers = layers
        self._sizes: list[int] = []
        self._known: list[int] = []

    @property
    def count(self) -> int:
        return 1 + sum(self._sizes)

    @property
    def multipliers(self) -> int:
        return sum(self._known)

    def step(self, u: np.ndarray) -> Stages:
        """u and all stages behind it."""
        found: Stages = [u]
        self._sizes = []
        for layer in self.layers:
            stages = layer.step(found[-1])
            self._sizes.append(len(stages) - 1)
            found += stages[1:]
        return found

    def _each(self, stages: Stages) -> list[Stages]:
        """Those of each layer, with what it starts from."""
        ends = np.cumsum([0, *self._sizes])
        return [stages[a : b + 1] for a, b in zip(ends, ends[1:], strict=False)]

    def tangent(self, stages: Stages, du: np.ndarray, dk: Coefficients) -> Stages:
        found: Stages = [du]
        for layer, own in zip(self.layers, self._each(stages), strict=True):
            found += layer.tangent(own, found[-1], dk, None)[1:]
        return found

    def adjoint(
        self, stages: Stages, adjoint: np.ndarray, out: Sums | None
    ) -> tuple[np.ndarray, Stages]:
        kept = list[Stages]()
        for layer, own in reversed(
            list(zip(self.layers, self._each(stages), strict=True))
        ):
            adjoint, multipliers = layer.adjoint(own, adjoint, out, [])
            kept.insert(0, multipliers)
        if out is None:
            self._known = [len(part) for part in kept]
        return adjoint, [mu for part in kept for mu in part]

    def second(
        self,
        stages: Stages,
        changes: Stages,
        multipliers: Stages,
        dadjoint: np.ndarray,
        dk: Coefficients,
        out: Sums,
    ) -> tuple[np.ndarray, Stages]:
        kept = list[Stages]()
        ends = np.cumsum([0, *self._known])
        known = [multipliers[a:b] for a, b in zip(ends, ends[1:], strict=False)]
        parts = zip(
            self.layers, self._each(stages), self._each(changes), known, strict=True
        )
        for layer, own, moved, mu in reversed(list(parts)):
            dadjoint, found = layer.second(own, moved, mu, dadjoint, dk, out, [])
            kept.insert(0, found)
        return dadjoint, [mu for part in kept for mu in part]
