"""What is asked of what the data leave open (see posterior.py, which few runs load)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from npde_opt.cases.posterior_tables import PosteriorSection

LAPLACE, SAMPLES, PROFILE = "laplace", "samples", "profile"
KINDS = (LAPLACE, SAMPLES, PROFILE)


def digest(section: PosteriorSection) -> str:
    """Short, of all keys but those of chains, which go on by rules of their own."""
    keys = msgspec.to_builtins(section)
    del keys["sampling"]
    text = json.dumps(keys, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


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
