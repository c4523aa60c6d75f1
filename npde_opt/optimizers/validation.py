"""Data that were set aside, looked at after every iteration of any method: their loss and figures
go into the history, the best point is kept and is the answer, and a run may end where it no longer
gets better.

    held = [7, 8, 9]
    whole = nd.Objective(...)
    train = whole.over([0, 1, 2, 3, 4, 5, 6])
    aside = Validation(lambda objective: whole.over(held), {"misread": misread})
    minimize(train, m0, Settings("adam", patience=10, validation=aside))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from petsc4py import PETSc

from npde_opt.errors import InputError

LOSS, TRAINING = "validation", "training"


class Seen(Protocol):
    """An objective at a point, as far as it is looked at."""

    @property
    def loss(self) -> float:
        """Misfit a datum."""

    @property
    def misfit(self) -> float: ...
    def destroy(self) -> None: ...


class Held(Protocol):
    """The objective of the data that were set aside; it stays its maker's."""

    def linearize(self, m: PETSc.Vec) -> Seen: ...


@dataclass(frozen=True)
class Validation:
    """What is looked at.

    Args:
        held: gives, for the objective that is minimized, that of the data set aside. It is called
            once a grid.
        figures: further numbers by name, each found from the held objective at the point.
            Collective.
        training: find the figures of the training data too, which costs a pass over them.

    Raises:
        InputError: for a name that is no word.
    """

    held: Callable[..., Held]
    figures: Mapping[str, Callable[..., float]] = field(default_factory=dict)
    training: bool = False

    def __post_init__(self) -> None:
        for name in self.figures:
            if not name.isidentifier():
                raise InputError(
                    "validation.figures", repr(name), "names that are words"
                )

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the history, beside the common ones."""
        sets = (LOSS, TRAINING) if self.training else (LOSS,)
        return (*sets, *(f"{of}_{name}" for of in sets for name in self.figures))
