"""Columns that a run's history has beside the common ones: the start of several, a learning rate,
an epoch, a misfit of data that were set aside.

    Monitor(..., columns=[Column("rate"), Column("validation", check, ".4e")])

The number is what the optimizer's row has under the column's name, or what `value` makes of row and
state. It stands in history.csv and in the table of a run. Checkpoints keep the history with its
columns, so that a resumed run goes on with the same ones or is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from npde_opt.aliases import Record
from npde_opt.errors import InputError
from npde_opt.io.checkpoint import State
from npde_opt.io.history import COLUMNS, Row

NARROWEST = 8


@dataclass(frozen=True)
class Column:
    """A column of a run's own.

    Args:
        name: a plain word, which heads it.
        value: called with the row and the optimizer's state after every iteration, collectively;
            None in place of a number leaves the cell empty. Without it the row has the number.
        pattern: the format in the table, which the file does not follow: it has all digits.

    Raises:
        InputError: for a name that is no word, or that of a common column.
    """

    name: str
    value: Callable[[Row, State], float | None] | None = None
    pattern: str = ".3e"

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise InputError("column of the history", repr(self.name), "a word")
        if self.name in COLUMNS:
            others = ", ".join(COLUMNS)
            raise InputError(
                "column of the history", repr(self.name), f"none of {others}"
            )

    @property
    def width(self) -> int:
        """Characters in the table."""
        return max(len(self.name), NARROWEST) + 2


def filled(row: Row, state: State, columns: Sequence[Column]) -> Record:
    """The row with the numbers that columns make themselves. Collective."""
    own = {c.name: c.value(row, state) for c in columns if c.value is not None}
    return {**row, **own}
