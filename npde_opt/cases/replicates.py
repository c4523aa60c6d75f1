"""Measurements that were repeated, y_1 ... y_n of one datum: the mean of those that are fitted, the
one that is held out, and the noise that their spread tells:

    variance of one = sum_k (y_k - mean)^2 / (n - 1),   of a mean of k of them that over k.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from npde_opt.aliases import Plain
from npde_opt.cases.field_tables import File
from npde_opt.cases.sections import CaseFile
from npde_opt.cases.tables import fitted
from npde_opt.errors import InputError


@dataclass(frozen=True)
class Repeated:
    """The data of one observation.

    Args:
        values: by replicate's name and experiment, flat by time and place (NaN: not observed).
        held_out: name of the one that is not fitted, '' for none.
    """

    values: Mapping[str, Sequence[np.ndarray]]
    held_out: str

    @property
    def fitted(self) -> list[str]:
        return [name for name in self.values if name != self.held_out]

    def means(self) -> list[np.ndarray]:
        """What is fitted, by experiment."""
        return [
            _mean(np.array(own)) for own in zip(*self._of(self.fitted), strict=True)
        ]

    def variances(self, of_all: bool) -> list[np.ndarray]:
        """Of one replicate by experiment, NaN where fewer than two are there.

        Args:
            of_all: from the spread of the one that is held out, too.
        """
        names = list(self.values) if of_all else self.fitted
        return [_variance(np.array(own)) for own in zip(*self._of(names), strict=True)]

    def counts(self) -> list[np.ndarray]:
        """How many make the mean, at least 1, by experiment and datum."""
        by_experiment = zip(*self._of(self.fitted), strict=True)
        return [np.maximum(np.isfinite(own).sum(axis=0), 1) for own in by_experiment]

    def _of(self, names: Sequence[str]) -> list[Sequence[np.ndarray]]:
        return [self.values[name] for name in names]


def _mean(values: np.ndarray) -> np.ndarray:
    """Over the first axis, of what is there."""
    there = np.isfinite(values)
    total = np.where(there, values, 0.0).sum(axis=0)
    count = there.sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _variance(values: np.ndarray) -> np.ndarray:
    count = np.isfinite(values).sum(axis=0)
    around = np.where(np.isfinite(values), values - _mean(values), 0.0)
    square = (around**2).sum(axis=0)
    return np.where(count > 1, square / np.maximum(count - 1, 1), np.nan)


def columns_of(field: str, spec: Plain) -> list[str | int]:
    """The columns of an observation's replicates; none where it has none.

    Raises:
        InputError: for files with others.
    """
    listed = spec if isinstance(spec, list) else [spec]
    found = [s.replicates or [] for s in listed]
    for e, columns in enumerate(found):
        if columns != found[0]:
            raise InputError(
                f"{field}[{e}].replicates", columns, f"{found[0]}, as of the first"
            )
    return found[0]


def only(spec: Plain, column: str | int) -> Plain:
    """The files with one of their replicates."""
    if isinstance(spec, list):
        return [only(s, column) for s in spec]
    assert isinstance(spec, File)
    return msgspec.structs.replace(spec, column=column, replicates=None)


def check_replicates(table: CaseFile) -> None:
    """Raises InputError for a replicate to hold out that is none, and for too few that are left to
    tell the noise."""
    name = "" if table.validation is None else table.validation.replicate
    known: list[str] = []
    for i, o in enumerate(table.observation):
        field = f"observation[{i}]"
        columns = columns_of(f"{field}.data", o.data) if o.data is not None else []
        known += [str(c) for c in columns if str(c) not in known]
        left = len(fitted(columns, name))
        if o.data is not None and o.sigma is None and o.noise is None and left < 2:
            said = "a positive number or a file with measured data, or their relative noise, or two"
            raise InputError(
                f"{field}.sigma", "nothing", f"{said} replicates that are fitted"
            )
    if name and name not in known:
        there = ", ".join(known) or "'': no observation has replicates"
        raise InputError("validation.replicate", repr(name), there)
