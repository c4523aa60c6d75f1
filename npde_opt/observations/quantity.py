"""g(u): what is observed of a state, pointwise in its species and given as text in their names.

    "u",   "re**2 + im**2" (an intensity),   "1/(1 + exp(-(u - 0.3)/0.05))" (a smooth threshold).

States are arrays [c, i, j, k] of the owned cells. With multipliers w [i, j, k]:

    value g(u),   push g'(u) du,   pull g'(u)^T w,   second (w g''(u)) du.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from npde_opt.functions.text import Expressions


class Quantity:
    """Args:
        text: g; empty for the first species.
        species: names.
        field: the key of the text in error messages.

    Raises:
        InputError: for a text that is none, or has other names.
    """

    def __init__(self, text: str, species: Sequence[str], field: str = "quantity"):
        name = text.strip() or species[0]
        # A species itself is seen as it is: its values are copied nowhere, and g'' is 0.
        self.channel = species.index(name) if name in species else None
        self._g = Expressions([name], species, field)
        self._g.check_names((), "the species " + ", ".join(species))

    @property
    def is_species(self) -> bool:
        return self.channel is not None

    def value(self, u: np.ndarray) -> np.ndarray:
        if self.channel is not None:
            return u[self.channel]
        return np.asarray(self._g.value(*u)[0])

    def push(self, u: np.ndarray, du: np.ndarray) -> np.ndarray:
        if self.channel is not None:
            return du[self.channel]
        return np.asarray(self._g.push(*u, *du)[0])

    def pull(self, u: np.ndarray, w: np.ndarray, out: np.ndarray) -> None:
        """Adds g'(u)^T w to `out` [c, i, j, k]."""
        if self.channel is not None:
            out[self.channel] += w
        else:
            _add_where(w, self._g.pull(*u, w), out)

    def second(
        self, u: np.ndarray, w: np.ndarray, du: np.ndarray, out: np.ndarray
    ) -> None:
        """Adds (w g''(u)) du to `out` [c, i, j, k]."""
        if self.channel is None:
            _add_where(w, self._g.second(*u, w, *du), out)


@functools.lru_cache(maxsize=64)
def quantity_of(
    text: str, species: tuple[str, ...], field: str = "quantity"
) -> Quantity:
    """The quantity of a text: the same one for all experiments, which then is made ready once."""
    return Quantity(text, species, field)


def _add_where(
    w: np.ndarray, parts: Sequence[np.ndarray | float], out: np.ndarray
) -> None:
    """Adds one part a species, where w is not 0: g need not have a slope where it is not seen."""
    seen = w != 0
    for channel, part in zip(out, parts, strict=True):
        channel += np.where(seen, part, 0.0)
