"""What is asked of what the data leave open (see posterior.py, which few runs load)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

LAPLACE, SAMPLES, PROFILE = "laplace", "samples", "profile"
KINDS = (LAPLACE, SAMPLES, PROFILE)


@dataclass(frozen=True)
class Asked:
    """What is asked for.

    Attributes:
        kind: of KINDS.
        groups: of ranks that share the chains.
        identity: of the run.
        nested: whether it begins on a coarser grid.
    """

    kind: str
    seed: int
    groups: int
    identity: Mapping[str, str]
    nested: bool = False
