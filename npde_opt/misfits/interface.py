"""What a misfit phi(d) offers: a sum over the columns of a block d, and its derivatives there.

Columns do not depend on each other; the outputs of one may.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

import numpy as np

from npde_opt.observations.data import ALL, DataBlock, DataLayout, Metric


class Misfit(ABC):
    """Args:
        layout: of the block of data.
        counts: numbers of data by column, on every rank.

    All methods that take a block are collective over the ranks that share its outputs.
    """

    def __init__(self, layout: DataLayout, counts: np.ndarray):
        self.layout, self.counts = layout, counts

    @property
    def count(self) -> int:
        """Data of all columns."""
        return int(self.counts.sum())

    def over(self, columns: Sequence[int] | np.ndarray) -> Self:
        """The misfit of some of the columns alone."""
        part = copy.copy(self)
        part.layout = self.layout.over(columns)
        part.counts = self.counts[list(columns)]
        return part

    @abstractmethod
    def values(self, d: DataBlock) -> np.ndarray:
        """phi of each column, on every rank."""

    def value(self, d: DataBlock) -> float:
        return float(self.values(d).sum())

    @abstractmethod
    def chi_squared(self, d: DataBlock) -> float:
        """Squared scaled residuals a datum; about 1 at the noise level."""

    @abstractmethod
    def gradient(self, d: DataBlock) -> DataBlock:
        """dphi/dd."""

    @abstractmethod
    def hessian_metric(self, d: DataBlock) -> Metric:
        """W of the second derivative."""

    @abstractmethod
    def gauss_newton_metric(self, d: DataBlock) -> Metric:
        """A W that is never negative, and the Hessian's where the data are fitted exactly."""


class Scaled:
    """a W."""

    def __init__(self, metric: Metric, factor: float):
        self.metric, self.factor = metric, factor

    def apply(self, d: DataBlock, columns: slice = ALL) -> None:
        self.metric.apply(d, columns)
        d.values[:, columns] *= self.factor
