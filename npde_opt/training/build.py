"""From the [[layer]] tables of a case to the layers of a network.

Weights are named by their letter and the number of the layer, from 1: W1, V1, U1, K1, b1, theta1.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.networks import (
    ACTIVATIONS,
    EXPANSIONS,
    Activation,
    Aperture,
    Applied,
    Bilinear,
    Dense,
    Detectors,
    Mixing,
    Network,
    Part,
    PiecewiseLinear,
    Place,
    RadialBasis,
    Stencil,
    Step,
    Template,
    Transposed,
    UnitPower,
    Weight,
    masks,
    opposed,
    propagation,
)
from npde_opt.networks.stencil import Sizes
from npde_opt.training.sections import LayerSection, NetworkSection, StartSection
from npde_opt.training.starts import cosines, delay, nearest, slope

WAVENUMBER = 2 * np.pi
"""Of light, where lengths are in wavelengths."""
ANGLE = 0.25
"""Tangent of the angle at which light leaves cells of one wavelength, half of the largest."""
PRECISIONS: dict[str, type[np.floating]] = {"double": np.float64, "single": np.float32}


def network_of(
    grid: Grid,
    channels: int,
    layers: Sequence[LayerSection],
    section: NetworkSection,
    steps: int = 1,
) -> Network:
    """The network of a case.

    Args:
        grid: of the samples; one cell, where the first layer is recurrent.
        channels: of a sample.
        steps: of its sequence, for recurrent layers.

    Raises:
        InputError: naming the layer, where it cannot be.
    """
    found: list[Template] = []
    place = Place.on(grid, channels)
    for number, layer in enumerate(layers, 1):
        with _named(number):
            found += _Layer(
                number, layer, place, Place.on(grid, channels), steps
            ).steps()
        place = found[-1].target
    start = None if layers[0].kind == "recurrent" else 0
    kind = PRECISIONS[section.precision]
    return Network(grid, found, start=start, dtype=kind, path=section.path)


def initial(
    network: Network,
    layers: Sequence[LayerSection],
    section: NetworkSection,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Weights to start from: normal ones (see Network.initial), activations that are learnt as
    tanh, what holds on to the input as its `fidelity` says, and what starts.py has.

    Args:
        seed: of the run; [network] seed changes the weights alone.

    Raises:
        InputError: naming the layer, where it cannot start so.
    """
    found = network.initial(int(section.seed + seed), section.gain)
    for number, layer in enumerate(layers, 1):
        if layer.activation in EXPANSIONS:
            activation = EXPANSIONS[layer.activation](layer.knots, layer.reach)
            _start_activation(found[f"theta{number}"], activation, layer.start)
        if layer.fidelity is not None:
            whole = found[f"K{number}"]
            whole[...] = layer.fidelity * np.eye(whole.shape[-1])
        if layer.start is not None:
            w = found[f"W{number}"]
            taps = w.shape[-network.grid.dim :]
            count, before = w.shape[-network.grid.dim - 2 : -network.grid.dim]
            with _named(number):
                w[...] = cosines(count, taps)[:, None] / np.sqrt(before)
        if layer.linear:
            found[f"K{number}"], found[f"B{number}"] = delay(*found[f"B{number}"].shape)
    return found


def _start_activation(
    theta: np.ndarray,
    activation: PiecewiseLinear | RadialBasis,
    start: StartSection | None,
) -> None:
    """Fills theta [channel, m], or [step, channel, m]."""
    if start is None:
        theta[...] = nearest(activation, np.tanh)
        return
    steps = theta if theta.ndim == 3 else theta[None]
    for n, own in enumerate(steps):
        width = start.width * start.narrowing**n
        own[...] = nearest(activation, slope(start.strength, width))


@contextlib.contextmanager
def _named(number: int) -> Iterator[None]:
    """Adds the number of a layer, from 1, to what is raised."""
    try:
        yield
    except InputError as error:
        where = f"layer[{number - 1}]: {error.field}"
        raise InputError(where, error.value, error.allowed) from error


class _Layer:
    """The steps of one table.

    Args:
        place: what comes before it.
        given: where samples lie.
    """

    def __init__(
        self, number: int, section: LayerSection, place: Place, given: Place, steps: int
    ):
        self.number, self.section, self.place = number, section, place
        self.given, self.length = given, steps

    def steps(self) -> Sequence[Template]:
        make: dict[str, Callable[[], Sequence[Template]]] = {
            "convolution": self._convolution,
            "dense": self._dense,
            "residual": self._residual,
            "recurrent": self._recurrent,
            "diffractive": self._diffractive,
        }
        return make[self.section.kind]()

    def _weight(
        self, letter: str, operator: Bilinear, step: int | None = None
    ) -> Weight:
        return Weight(f"{letter}{self.number}", operator.shape, step, operator.inputs)

    def _activation(self) -> Activation:
        s = self.section
        if s.activation in EXPANSIONS:
            return EXPANSIONS[s.activation](s.knots, s.reach)
        return ACTIVATIONS[s.activation]()

    def _step(
        self, inner: Bilinear, step: int | None = None, source: Place | None = None
    ) -> Step:
        """sigma(W u + b)"""
        channels, activation = inner.target.channels, self._activation()
        bias = (
            Weight(f"b{self.number}", (channels,), step) if self.section.bias else None
        )
        theta = None
        if activation.count:
            theta = Weight(f"theta{self.number}", (channels, activation.count), step)
        return Step(
            source or self.place,
            Part(inner, self._weight("W", inner, step)),
            activation,
            bias,
            theta,
        )

    def _stencil(self, place: Place, channels: int) -> Stencil | Mixing:
        s = self.section
        kernel, stride = _along(s.kernel, place.dim), _along(s.stride, place.dim)
        padding = None if s.padding is None else _along(s.padding, place.dim)
        # Padding makes more cells of any kernel.
        widened = padding is not None and np.any(padding)
        if _all_one(kernel) and _all_one(stride) and not widened:
            return Mixing(place, channels)
        return Stencil(
            place,
            channels,
            kernel,
            stride=stride,
            dilation=_along(s.dilation, place.dim),
            padding=padding,
            mode=s.outside,
        )

    def _channels(self) -> int:
        assert self.section.channels is not None
        return self.section.channels

    def _convolution(self) -> list[Step]:
        return [self._step(self._stencil(self.place, self._channels()))]

    def _dense(self) -> list[Step]:
        return [self._step(Dense(self.place, self._channels()))]

    def _residual(self) -> list[Step]:
        """u' = u + dt V sigma(W u + b), and perhaps dt l (x - u)."""
        s = self.section
        inner = self._stencil(self.place, s.channels or self.place.channels)
        found = []
        for n in range(s.repeat):
            own = n if s.repeat > 1 and not s.shared else None
            layer = self._step(inner, own)
            if s.symmetric:
                outer = Part(Transposed(inner), layer.inner.weight, -1.0)
            else:
                back = self._stencil(inner.target, self.place.channels)
                outer = Part(back, self._weight("V", back, own))
            layer = replace(layer, outer=outer, residual=True, dt=s.dt)
            found.append(self._held(layer, own) if s.fidelity is not None else layer)
        return found

    def _held(self, layer: Step, step: int | None) -> Step:
        """A layer that holds on to the input."""
        if self.given.channels != self.place.channels or not self.given.same_cells(
            self.place
        ):
            allowed = "only where states have the channels and cells of the input"
            raise InputError("fidelity", self.section.fidelity, allowed)
        mixing = Mixing(self.place, self.place.channels)
        # A pull towards the input, never away from it.
        kept = self.place.channels == 1 and self.section.fidelity
        transform = "log" if kept else "identity"
        weight = Weight(f"K{self.number}", mixing.shape, step, transform=transform)
        pull = Part(mixing, weight, -1.0)
        return replace(layer, linear=[pull], driven_outer=Part(mixing, weight), reads=0)

    def _recurrent(self) -> list[Step]:
        """One layer for all steps of the sequence, from u = 0."""
        s, states = self.section, self._channels()
        source = self.place.with_channels(states)
        hidden = (s.hidden or states) if s.linear else states
        inner, driving = Mixing(source, hidden), Mixing(self.given, hidden)
        layer = self._step(inner, source=source)
        layer = replace(layer, driven_inner=Part(driving, self._weight("U", driving)))
        if s.linear:
            outer, linear = Mixing(inner.target, states), Mixing(source, states)
            given = Mixing(self.given, states)
            layer = replace(
                layer,
                outer=Part(outer, self._weight("V", outer)),
                linear=[Part(linear, self._weight("K", linear))],
                driven_outer=Part(given, self._weight("B", given)),
            )
        return [replace(layer, reads=n) for n in range(self.length)]

    def _diffractive(self) -> list[Template]:
        """Light from the sample through masks to pairs of detectors."""
        s, dim = self.section, self.place.dim
        if dim != 2:
            raise InputError("cells", f"samples of {dim} axes", "pictures")
        width = s.cells * s.spacing
        grid = Grid((s.cells,) * 2, extent=(width,) * 2, comm=self.place.comm)
        sides = dict.fromkeys(grid.boundaries, s.margin * s.spacing) if s.margin else {}
        step = propagation(grid, s.distance, WAVENUMBER, sides, ANGLE / s.spacing)
        light = Aperture(self.place, step.source, s.margin)
        way = masks([step] * (s.masks + 1), f"phi{self.number}")
        regions = opposed((s.cells, s.cells), self._channels(), s.contrast, s.margin)
        ends = Detectors(step.target, regions)
        return [Applied(light), UnitPower(light.target), *way, ends]


def _along(given: int | Sequence[int], dim: int) -> Sizes:
    """One number for all axes, or those of the axes that there are."""
    if isinstance(given, int):
        return given
    if len(given) != dim:
        raise InputError("numbers by axis", list(given), f"one, or {dim}")
    return given


def _all_one(sizes: Sizes) -> bool:
    return sizes == 1 if isinstance(sizes, int) else set(sizes) == {1}
