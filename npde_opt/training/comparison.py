"""A table of what the networks are worth beside what is known to be simple or good: one row a
method, one column a test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from npde_opt.training import baselines
from npde_opt.training.case import TrainingCase
from npde_opt.training.data import Part, Parts
from npde_opt.training.given import noisy
from npde_opt.training.problem import Seen
from npde_opt.training.samples import WHOLE

NETWORK = "network"


@dataclass
class Comparison:
    """Args:
    title: what the numbers are.
    columns: names of the tests.
    rows: numbers by method; NaN where there is none.
    notes: lines below.
    """

    title: str
    columns: list[str]
    rows: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def content(self) -> str:
        """The table as a file."""
        rows = [
            [name, *(f"{v:.6g}" for v in values)] for name, values in self.rows.items()
        ]
        return "\n".join(map(",".join, [["method", *self.columns], *rows])) + "\n"

    def lines(self) -> list[str]:
        """The table as text."""
        width = max(map(len, (*self.rows, self.title)))
        wide = [max(len(c), 8) for c in self.columns]
        head = "  ".join(c.rjust(w) for c, w in zip(self.columns, wide, strict=True))
        found = [f"{self.title:{width}}  {head}"]
        for name, values in self.rows.items():
            cells = ("-" if np.isnan(v) else f"{v:.2f}" for v in values)
            told = "  ".join(c.rjust(w) for c, w in zip(cells, wide, strict=True))
            found.append(f"{name:{width}}  {told}")
        return found + self.notes


class Collected:
    """What the networks of a case make of its tests, as far as it is compared."""

    def __init__(self, case: TrainingCase):
        self.case = case
        self.series = case.table.data.until is not None
        self.pictures = case.denoises and case.table.data.splits == 1
        self.seen: list[dict[str, Seen]] = []

    def add(self, tests: Mapping[str, Seen]) -> None:
        """What a network makes of all samples of the tests, by their names."""
        if self.series or self.pictures:
            self.seen.append(dict(tests))

    def table(self) -> Comparison | None:
        """The table, where there is something to compare with."""
        tests = self.case.parts().tests
        if not self.seen or not tests:
            return None
        if self.series:
            every = [[own[part.name].outputs for own in self.seen] for part in tests]
            return of_series(self.case, [np.mean(outputs, axis=0) for outputs in every])
        squares = [
            np.concatenate([own[p.name].squares for p in tests]) for own in self.seen
        ]
        decibels = [
            (-10 * np.log10(np.maximum(own, 1e-30))).tolist() for own in squares
        ]
        return of_pictures(self.case, tests, decibels)


def of_series(case: TrainingCase, mean: Sequence[np.ndarray]) -> Comparison:
    """Predictions of the values that follow windows.

    Args:
        mean: of the networks, what they predict for each test [sample, channel].
    """
    parts = case.parts()
    source = parts.train.source
    samples = source.samples()
    windows, wanted = samples.inputs, samples.targets[:, :, 0, 0, 0]
    order, fit = windows.shape[-1], _known(parts)
    methods = {
        "persistence": baselines.persistence(windows),
        f"AR({order})": baselines.autoregression(windows, wanted, fit),
    }
    if min(windows.min(), wanted.min()) >= 0:
        rooted = baselines.autoregression(windows, wanted, fit, roots=True)
        methods[f"AR({order}) of roots"] = rooted
    found = Comparison("RMSE", [part.name for part in parts.tests])
    for name, predicted in methods.items():
        found.rows[name] = [
            _rmse(predicted[p.numbers], wanted[p.numbers]) for p in parts.tests
        ]
    together = f"mean of {case.networks} networks" if case.networks > 1 else NETWORK
    found.rows[together] = [
        _rmse(own, wanted[p.numbers]) for own, p in zip(mean, parts.tests, strict=True)
    ]
    return found


def _known(parts: Parts) -> np.ndarray:
    """Numbers of the windows for training and validation."""
    held = [] if parts.validation is None else [parts.validation.numbers]
    return np.concatenate([parts.train.numbers, *held])


def _rmse(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.sqrt(np.mean((found - wanted) ** 2)))


def of_pictures(
    case: TrainingCase, tests: Sequence[Part], found: Sequence[Sequence[float]]
) -> Comparison:
    """Mean PSNR over the pictures of all tests, a column each noise.

    Args:
        found: of the networks, one a noise, the PSNR of each picture.
    """
    noises = [case.noise(n) for n in range(case.networks)]
    table = Comparison("PSNR, dB", [f"noise {_of_white(noise)}" for noise in noises])
    names = ("with noise", "total variation", "BM3D", NETWORK)
    table.rows = {name: [] for name in names}
    for noise, own in zip(noises, found, strict=True):
        given = pairs(case, tests, noise or 0.0)
        told = _others(case, given, noise or 0.0, table.notes)
        for name, value in zip(names, (*told, float(np.mean(own))), strict=True):
            table.rows[name].append(value)
    return table


def _of_white(noise: float | None) -> str:
    return f"{baselines.WHITE * (noise or 0.0):.4g}/{baselines.WHITE}"


def pairs(case: TrainingCase, tests: Sequence[Part], noise: float) -> baselines.Pairs:
    """All pictures with the noise that the network saw, and without."""
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for part in tests:
        clean = part.source.samples(part.numbers).inputs
        numbers = part.numbers.tolist()
        seen = (
            noisy(clean, noise, case.seed, numbers, part.source.shape, WHOLE)
            if noise
            else clean
        )
        found += zip(seen[:, 0, 0], clean[:, 0, 0], strict=True)
    return found


def _others(
    case: TrainingCase, given: baselines.Pairs, noise: float, notes: list[str]
) -> tuple[float, float, float]:
    """Mean PSNR with noise, of total variation and of BM3D; says where they are from."""
    plain = float(np.mean([baselines.psnr(seen, clean) for seen, clean in given]))
    of = _of_white(noise)
    smooth, best = (
        float("nan"),
        baselines.total_variation(given, noise) if noise else None,
    )
    if best is None:
        notes.append("total variation: pip install 'npde_opt[learning]' (scikit-image)")
    else:
        smooth = float(np.mean(best[0]))
        notes.append(
            f"total variation, noise {of}: weight {best[1]:.3g}, the best of these tests"
        )
    test = case.table.data.test
    computed = baselines.bm3d(given, noise)
    if computed is not None:
        return plain, smooth, float(np.mean(computed))
    known = baselines.published(test, noise) if isinstance(test, str) else None
    if known is not None:
        notes.append(
            f"BM3D, noise {of}: published, with other noise (bm3d is not installed)"
        )
    else:
        notes.append(
            f"BM3D, noise {of}: bm3d is not installed, and no figure of {test} is known"
        )
    return plain, smooth, float("nan") if known is None else known
