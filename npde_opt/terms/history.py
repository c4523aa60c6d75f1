"""h(t) from values at given times, which may be unknown:

    linear   between the values at given times; before the first and after the last time h keeps
             the end values
    steps    n values at n times: each holds until the next time, the first before its time too,
             the last to the end;
             n values and n + 1 times: each holds in its interval, and h is 0 outside

Steps of time end at a history's times, so that in each step h is linear, or constant, and its
integral exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from npde_opt.aliases import Coefficients
from npde_opt.errors import InputError

INTERPOLATIONS = ("linear", "steps")


class History:
    """A history.

    Args:
        values: of h, or the name of an unknown with as many.
        times: of the values.
        interpolation: 'linear' or 'steps'.
        field: what stands before the keys `history`, `times` and `interpolation` in messages.

    Raises:
        InputError: for times that do not increase, and another number of values than the times
            ask for.
    """

    def __init__(
        self,
        values: str | Sequence[float],
        times: Sequence[float],
        interpolation: str,
        field: str,
    ):
        self.values, self.times, self.field = values, np.asarray(times, float), field
        if self.times.size == 0 or np.any(np.diff(self.times) <= 0):
            said = "increasing times, one a value of the history"
            raise InputError(f"{field}.times", list(times), said)
        if interpolation not in INTERPOLATIONS:
            said = ", ".join(INTERPOLATIONS)
            raise InputError(f"{field}.interpolation", repr(interpolation), said)
        self.interpolation = interpolation
        self.length = self.times.size
        self.name = values if isinstance(values, str) else None
        if not isinstance(values, str):
            self._take_length(f"{field}.history", len(values))

    @property
    def coefficients(self) -> tuple[str, ...]:
        return (self.name,) if self.name is not None else ()

    def _take_length(self, field: str, length: int) -> None:
        """Sets the number of values. Raises InputError where the times do not go with it."""
        allowed, said = [self.times.size], "one a time"
        if self.interpolation == "steps" and self.times.size > 1:
            allowed, said = (
                [self.times.size, self.times.size - 1],
                "one a time or an interval between times",
            )
        if length not in allowed:
            raise InputError(
                field,
                f"{length} values",
                f"{' or '.join(map(str, allowed))} values, {said}",
            )
        self.length = length

    def take_lengths(self, lengths: Mapping[str, int]) -> None:
        """Sees the numbers of values of all coefficients."""
        if self.name is not None:
            self._take_length(f"{self.field}.history {self.name!r}", lengths[self.name])

    def weights(self, t: float, middle: float) -> np.ndarray:
        """w with h(t) = w . (values of the history), t in the time step around `middle`."""
        w = np.zeros(self.length)
        last = self.times.size - 1
        i = int(np.searchsorted(self.times, middle, side="right")) - 1
        if self.interpolation == "steps" and self.length == last:
            w[i : i + 1] = 1.0 if 0 <= i < last else 0.0
        elif self.interpolation == "steps" or i < 0 or i == last:
            w[max(i, 0)] = 1.0
        else:
            part = (t - self.times[i]) / (self.times[i + 1] - self.times[i])
            w[i], w[i + 1] = 1 - part, part
        return w

    def given(self, k: Coefficients) -> np.ndarray:
        """The values, of coefficients k where they are unknown."""
        values = k[self.name] if self.name is not None else self.values
        return np.atleast_1d(np.asarray(values, float))

    def at(self, t: float, middle: float, k: Coefficients) -> float:
        """h(t)."""
        return float(self.weights(t, middle) @ self.given(k))
