"""Softmax cross-entropy: the outputs d of a column are the logarithms, up to a constant, of the
probabilities of the classes, one an output,

    p = exp(d) / sum_k exp(d_k),   phi = -log p_y,   dphi/dd = p - e_y,   W = diag(p) - p p^T,

y the column's label. W is never negative: it is also that of Gauss-Newton.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np

from npde_opt import reductions
from npde_opt.errors import InputError
from npde_opt.misfits.interface import Misfit
from npde_opt.observations.data import ALL, DataBlock, DataLayout, Metric


class SoftmaxCrossEntropy(Misfit):
    """Args:
        labels: the class of each column, from 0, on every rank (columns,); NaN: not known.
        layout: of the predicted data; its outputs, by sampling, time and place, are the classes.

    The outputs of a column may lie on several ranks: what these have of all columns is summed at
    once.

    Raises:
        InputError: for another number of labels, labels that are no whole numbers from 0, and
            more classes than outputs.
    """

    def __init__(self, labels: np.ndarray, layout: DataLayout):
        y = _numbers(labels)
        _check(y, layout)
        super().__init__(layout, np.isfinite(y).astype(int))
        self.labels = y

    def over(self, columns: Sequence[int] | np.ndarray) -> Self:
        part = super().over(columns)
        part.labels = self.labels[list(columns)]
        return part

    @property
    def _hot(self) -> np.ndarray:
        """Whether an owned output is its column's class."""
        return self.layout.order[:, None] == self.labels

    def _of_ranks(self, *rows: np.ndarray) -> np.ndarray:
        """What each rank has: (ranks, rows, columns)."""
        comm = self.layout.comm
        found = np.zeros((comm.size, len(rows), self.layout.columns))
        found[comm.rank] = rows
        return reductions.total(comm, found)

    def _normalised(self, d: DataBlock) -> tuple[np.ndarray, np.ndarray]:
        """log sum_k exp(d_k) and the output of its class, of each column."""
        largest = d.values.max(axis=0, initial=-np.inf)
        with np.errstate(invalid="ignore"):
            shares = np.exp(d.values - largest).sum(axis=0)
        own = np.where(self._hot, d.values, 0.0).sum(axis=0)
        tops, sums, labelled = np.moveaxis(self._of_ranks(largest, shares, own), 1, 0)
        top = tops.max(axis=0)
        return top + np.log((sums * np.exp(tops - top)).sum(axis=0)), labelled.sum(
            axis=0
        )

    def probabilities(self, d: DataBlock) -> np.ndarray:
        """p of the owned outputs (outputs here, columns)."""
        return np.asarray(np.exp(d.values - self._normalised(d)[0]))

    def classes(self, d: DataBlock) -> np.ndarray:
        """The most probable class of each column, the first of equal ones, on every rank."""
        size, order = self.layout.size, self.layout.order
        top = d.values.max(axis=0, initial=-np.inf)
        places = np.where(d.values == top, order[:, None], size)
        tops, firsts = np.moveaxis(
            self._of_ranks(top, places.min(axis=0, initial=size)), 1, 0
        )
        return np.where(tops == tops.max(axis=0), firsts, size).min(axis=0).astype(int)

    def misread(self, d: DataBlock) -> float:
        """The share of the labelled columns whose most probable class is another."""
        wrong = (self.classes(d) != self.labels) & np.isfinite(self.labels)
        return float(wrong.sum()) / max(self.count, 1)

    def values(self, d: DataBlock) -> np.ndarray:
        total, labelled = self._normalised(d)
        return np.where(self.counts > 0, total - labelled, 0.0)

    def chi_squared(self, d: DataBlock) -> float:
        """The deviance 2 phi a label."""
        return 2 * self.value(d) / max(self.count, 1)

    def gradient(self, d: DataBlock) -> DataBlock:
        return d.like((self.probabilities(d) - self._hot) * (self.counts > 0))

    def hessian_metric(self, d: DataBlock) -> Metric:
        return Covariance(self.layout, self.probabilities(d) * (self.counts > 0))

    def gauss_newton_metric(self, d: DataBlock) -> Metric:
        return self.hessian_metric(d)


class Covariance:
    """W = diag(p) - p p^T of each column; `p` has the owned outputs (outputs here, columns)."""

    def __init__(self, layout: DataLayout, p: np.ndarray):
        self.layout, self.p = layout, p

    def apply(self, d: DataBlock, columns: slice = ALL) -> None:
        p, values = self.p[:, columns], d.values[:, columns]
        mean = reductions.total(self.layout.comm, (p * values).sum(axis=0))
        values[...] = p * (values - mean)


def _numbers(labels: np.ndarray) -> np.ndarray:
    """(columns,)"""
    try:
        return np.asarray(labels, float).ravel()
    except (TypeError, ValueError) as error:
        raise InputError(
            "labels", labels, "whole numbers, or NaN where not known"
        ) from error


def _check(labels: np.ndarray, layout: DataLayout) -> None:
    if labels.size != layout.columns:
        raise InputError(
            "labels", f"{labels.size} labels", f"{layout.columns}, one a column"
        )
    known = labels[~np.isnan(labels)]
    wrong = known[(known < 0) | (known != np.floor(known)) | np.isinf(known)]
    if wrong.size:
        allowed = f"whole numbers from 0 to {layout.size - 1}, or NaN where not known"
        raise InputError("labels", float(wrong[0]), allowed)
    if known.size and known.max() >= layout.size:
        classes = f"{int(known.max()) + 1} classes (a label is {int(known.max())})"
        raise InputError("labels", classes, f"at most {layout.size}, one an output")
