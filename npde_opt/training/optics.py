"""Light in a diffractive network: where it is between its masks, and how much of it arrives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from npde_opt import reductions
from npde_opt.figures.optics import plot_fields, plot_masks
from npde_opt.networks import Detectors, Mask, Network
from npde_opt.networks.place import Place
from npde_opt.runs.folder import RunDirectory
from npde_opt.training.given import Given

MASKS, FIELDS = "masks.png", "fields.png"
FIGURES = (MASKS, FIELDS)
SAMPLES = 64
"""So many are sent through for the figures of power."""


class Light:
    """The fields of some samples behind every layer.

    Args:
        weights: by name.
        given: samples, of which the first are taken.
    """

    def __init__(
        self, network: Network, weights: Mapping[str, np.ndarray], given: Given
    ):
        self.network = network
        numbers = range(min(len(given), SAMPLES))
        u = np.ascontiguousarray(given.part(0, numbers, network.source), network.dtype)
        self.fields: list[tuple[Place, np.ndarray]] = []
        """Before each mask, and at the detectors."""
        for layer in network.steps:
            if isinstance(layer, Mask | Detectors):
                self.fields.append((layer.source, u))
            if isinstance(layer, Detectors):
                self.ends = layer
                return
            u = layer.at(weights, None).step(u)[-1]

    def power(self) -> dict[str, float]:
        """Shares of the light, means over the samples: behind the last mask, and on detectors.
        Collective."""
        place, last = self.fields[-1]
        on = np.abs(self.ends.regions).max(axis=0) > 0
        here = place.own(on.reshape(place.layout.shape[::-1]))
        intensity = (last.astype(float) ** 2).sum(axis=(0, 1)) / max(last.shape[1], 1)
        sums = np.array([intensity.sum(), intensity[here].sum()])
        found = reductions.total(place.comm, sums)
        return {"power_arriving": float(found[0]), "power_detected": float(found[1])}

    def intensities(self, sample: int) -> list[np.ndarray]:
        """|u|^2 [j, i] of a sample before each mask and at the detectors, on every rank.
        Collective."""
        found = []
        for place, u in self.fields:
            whole = np.zeros(place.layout.shape[::-1])
            own = place.own(whole)
            own += (u[:, sample].astype(float) ** 2).sum(axis=0)
            found.append(reductions.total(place.comm, whole))
        return found


def optical(network: Network) -> bool:
    """Whether there is light to look at."""
    return any(isinstance(layer, Detectors) for layer in network.steps)


def draw_optics(
    out: RunDirectory,
    network: Network,
    weights: Mapping[str, np.ndarray],
    given: Given,
    classes: Sequence[str],
    titles: Sequence[str],
) -> None:
    """Masks, and the light of some samples. Collective; rank 0 draws.

    Args:
        given: the samples. titles: of each.
        classes: names of the outputs.
    """
    light = Light(network, weights, given)
    fields = [light.intensities(s) for s in range(len(given))]
    if out.comm.rank > 0:
        return
    phases = [
        layer.phase.of(weights) for layer in network.steps if isinstance(layer, Mask)
    ]
    plot_masks(out.file(MASKS), phases)
    regions = light.ends.regions.reshape(-1, *light.ends.source.layout.shape[::-1])
    plot_fields(out.file(FIELDS), fields, regions, classes, titles)
