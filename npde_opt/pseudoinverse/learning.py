"""A classifier whose last layer is solved for: scores = h(x) W + b, W = argmin |H W - T|^2 + ridge.

T has 1 for the class of a sample and 0 for the others. Samples lie on any ranks, and their features
are made a batch at a time: H never exists. The ridge is a number, comes from what was folded
('gcv', 'loo'), or is the one with which rows that were held back are told apart best ('held');
these rows are then folded in too, so that nothing is computed twice. Samples may also come over
time, see `Online`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from mpi4py import MPI

from npde_opt import reductions
from npde_opt.aliases import FilePath
from npde_opt.errors import InputError
from npde_opt.pseudoinverse.rows import Rows
from npde_opt.pseudoinverse.solution import GCV, Solution

HELD = "held"
HELD_EVERY = 6
"""One row of so many is held back."""
RIDGES = np.logspace(-8, -4, 5)
"""That are tried, times the number of rows."""
BATCH = 2000
"""Samples whose features are made at once."""

Map = Callable[[np.ndarray], np.ndarray]
"""Samples [sample, ...] to rows of features."""


@dataclass(frozen=True)
class Readout:
    """A trained classifier.

    Attributes:
        solution: W (features, classes), its intercept, and what is known of them.
        tried: ridges and the share of held-back rows that each gets wrong.
    """

    features: Map
    solution: Solution
    tried: tuple[tuple[float, float], ...] = ()

    def scores(self, x: np.ndarray) -> np.ndarray:
        """(samples, classes)"""
        found = [_scores(self.solution, self.features(part)) for part in parts(x)]
        return (
            np.concatenate(found) if found else np.empty((0, self.solution.W.shape[1]))
        )

    def confusion(
        self, x: np.ndarray, labels: np.ndarray, comm: MPI.Intracomm
    ) -> np.ndarray:
        """How many samples of each class were taken for which one, on all ranks (true, found).
        Collective."""
        classes = self.solution.W.shape[1]
        found = self.scores(x).argmax(axis=1)
        counts = np.bincount(classes * labels + found, minlength=classes**2)
        return (
            reductions.total(comm, counts.astype(float))
            .astype(int)
            .reshape(classes, classes)
        )


class Online:
    """A classifier that learns from samples as they come: after any number of them the readout is
    that of all at once.

    Args:
        fit: with as many features and targets as there are features and classes; one that was read
            from a file (`Rows.load`) goes on.
        features: as they were for the samples before.
    """

    def __init__(self, fit: Rows, features: Map):
        self.fit, self.features = fit, features

    def partial_fit(self, x: np.ndarray, labels: np.ndarray) -> Self:
        """Takes own samples in; not collective.

        Args:
            x: [sample, ...]. labels: their classes (samples,).

        Raises:
            InputError: for labels that are no classes, and as `Rows.add`.
        """
        classes, own = self.fit.targets, np.asarray(labels)
        if own.shape != (len(x),) or own.dtype.kind not in "iu":
            told = f"{own.dtype} of shape {own.shape}"
            raise InputError("labels", told, f"{len(x)} whole numbers, one a sample")
        wrong = own[(own < 0) | (own >= classes)]
        if wrong.size:
            raise InputError(
                "labels", int(wrong[0]), f"classes from 0 to {classes - 1}"
            )
        for part, of in zip(parts(x), parts(own), strict=True):
            self.fit.add(self.features(part), np.eye(classes)[of])
        return self

    def save(self, path: FilePath) -> None:
        """Writes a checkpoint of this rank, from which `Rows.load` goes on; not collective."""
        self.fit.save(path)

    def readout(self, ridge: float | str = GCV) -> Readout:
        """Of the samples of all ranks; more may come afterwards. Collective.

        Args:
            ridge: as of `Rows.solve`.
        """
        return Readout(self.features, self.fit.solve(ridge=ridge))


def train(
    fit: Rows,
    features: Map,
    x: np.ndarray,
    labels: np.ndarray,
    ridge: float | str = HELD,
    numbers: np.ndarray | None = None,
) -> Readout:
    """Folds the own samples into `fit` and solves. Collective.

    Args:
        fit: without rows, with as many features and targets as there are features and classes.
        x: own samples [sample, ...]. labels: their classes (samples,).
        ridge: as of `Rows.solve`, or 'held'.
        numbers: of the own samples among those of all ranks (samples,), which decide on those that
            are held back; None: those of a rank follow those of the rank before.

    Raises:
        InputError: where no ridge that is tried gives a solution.
    """
    if ridge != HELD:
        return Online(fit, features).partial_fit(x, labels).readout(ridge)
    if numbers is None:
        numbers = fit.comm.scan(len(x)) - len(x) + np.arange(len(x))
    held: list[tuple[np.ndarray, np.ndarray]] = []
    for part, own, some in zip(parts(x), parts(labels), parts(numbers), strict=True):
        H, T = features(part), np.eye(fit.targets)[own]
        back = some % HELD_EVERY == HELD_EVERY - 1
        held.append((H[back], own[back]))
        fit.add(H[~back], T[~back])
    tried = _tried(fit, held)
    best = min(tried, key=lambda pair: pair[1])[0]
    for H, own in held:
        fit.add(H, np.eye(fit.targets)[own])
    found = fit.solve(ridge=best * reductions.total(fit.comm, fit.count))
    return Readout(features, found, tuple(tried))


def _tried(
    fit: Rows, held: list[tuple[np.ndarray, np.ndarray]]
) -> list[tuple[float, float]]:
    """Shares of held-back rows that each ridge gets wrong."""
    count = reductions.total(fit.comm, fit.count)
    there = reductions.total(fit.comm, sum(len(own) for _, own in held))
    found, refusal = [], None
    for ridge in RIDGES:
        try:
            solution = fit.solve(ridge=float(ridge) * count)
        except InputError as error:
            # Without a ridge that is large enough, products have no solution.
            refusal = error
            continue
        wrong = sum(
            int((_scores(solution, H).argmax(1) != own).sum()) for H, own in held
        )
        found.append((float(ridge), reductions.total(fit.comm, wrong) / max(there, 1)))
    if not found:
        assert refusal is not None
        raise refusal
    return found


def _scores(solution: Solution, H: np.ndarray) -> np.ndarray:
    found: np.ndarray = H @ solution.W.astype(H.dtype) + solution.intercept
    return found


def parts(x: np.ndarray) -> Iterator[np.ndarray]:
    """Samples in batches."""
    for start in range(0, len(x), BATCH):
        yield x[start : start + BATCH]
