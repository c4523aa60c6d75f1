"""The parts of a layer u' = a u + dt (K u + V sigma(W u + U x + b; theta) + B x), which fit each
other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from npde_opt.errors import InputError
from npde_opt.networks.activations import Activation, Identity
from npde_opt.networks.interface import Weight
from npde_opt.networks.parts import Part, check_fit, fits
from npde_opt.networks.place import Place


@dataclass(frozen=True)
class Form:
    """What a layer is made of; see layers.py.

    Args:
        source: where u lies.
        inner: W. outer: V; None: the identity.
        driven_inner, driven_outer: U and B.
        linear: K, any number of them.
        bias: b, of shape (channels,). theta: of a trainable activation (channels, m).
        residual: whether a is 1, else 0.
        dt: the step.
        reads: number of the part of a sample that is x; None where there is none.
        first: whether nobody asks for the multiplier of what the layer starts from.

    Raises:
        InputError: where the parts do not fit each other.
    """

    source: Place
    inner: Part
    activation: Activation = field(default_factory=Identity)
    bias: Weight | None = None
    theta: Weight | None = None
    outer: Part | None = None
    linear: Sequence[Part] = ()
    driven_inner: Part | None = None
    driven_outer: Part | None = None
    residual: bool = False
    dt: float = 1.0
    reads: int | None = None
    first: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.dt < np.inf:
            raise InputError("dt", self.dt, "a number > 0")
        if self.residual and not fits(self.target, self.source):
            raise InputError(
                "residual", "channels or cells that change", "those of its states"
            )
        hidden = self.inner.operator.target
        pairs = [(self.inner.operator.source, self.source, "W")]
        pairs += [(p.operator.source, self.source, "K") for p in self.linear]
        pairs += [(p.operator.target, self.target, "K") for p in self.linear]
        if self.outer is not None:
            pairs.append((self.outer.operator.source, hidden, "V"))
        if self.driven_inner is not None:
            pairs.append((self.driven_inner.operator.target, hidden, "U"))
        if self.driven_outer is not None:
            pairs.append((self.driven_outer.operator.target, self.target, "B"))
        for found, wanted, of in pairs:
            check_fit(found, wanted, of)
        if (self.activation.count > 0) != (self.theta is not None):
            raise InputError(
                "theta", self.theta, "weights of trainable activations, only"
            )

    @property
    def target(self) -> Place:
        last = self.outer if self.outer is not None else self.inner
        return last.operator.target

    @property
    def recomputes(self) -> bool:
        """Whether v is computed again on the way back, which where cells do not read each other
        costs less than to keep it does."""
        return self.inner.operator.local and self.activation.cheap

    @property
    def given(self) -> list[Part]:
        """U and B, where there are any."""
        return [p for p in (self.driven_inner, self.driven_outer) if p is not None]

    @property
    def weights(self) -> list[Weight]:
        """All that the layer reads; one that it reads twice is named twice."""
        parts = [self.inner, *self.linear, *self.given]
        if self.outer is not None:
            parts.append(self.outer)
        more = [w for w in (self.bias, self.theta) if w is not None]
        return [*(p.weight for p in parts), *more]

    @property
    def taken(self) -> Place | None:
        """Where x lies."""
        return self.given[0].operator.source if self.given else None

    @property
    def widest(self) -> int:
        """Values of a sample of v."""
        return self.inner.operator.target.size

    @property
    def gains(self) -> Mapping[str, float]:
        return {self.inner.weight.name: self.activation.gain}
