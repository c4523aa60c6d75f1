"""What this machine can hold: counts that do not fit are refused before anything is made of
them."""

from __future__ import annotations

import math
import resource
from collections.abc import Callable
from pathlib import Path

from npde_opt.errors import InputError

CGROUP = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory_available() -> float:
    """Bytes that this machine can still give, or that this job may have. Unlimited where it does
    not tell."""
    found = [math.inf]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found += [
            1024.0 * int(line.split()[1])
            for line in lines
            if line.startswith("MemAvailable")
        ]
    except (OSError, ValueError, IndexError):
        pass
    for name in CGROUP:
        try:
            found.append(float(Path(name).read_text()))
        except (OSError, ValueError):
            continue
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return min([*found, math.inf if limit == resource.RLIM_INFINITY else float(limit)])


def fits(
    field: str,
    count: float,
    bytes_each: float,
    what: str = "values",
    most: Callable[[float], float] | None = None,
) -> None:
    """Raises InputError where `count` things of so many bytes are more than the machine can
    hold.

    Args:
        most: how many there may be in so many bytes, where they take the more each the more there
            are; None: as many as have `bytes_each`.
    """
    needed, there = float(count) * bytes_each, memory_available()
    if needed > there:
        allowed = most(there) if most is not None else there / bytes_each
        raise InputError(
            field,
            f"{count:,} {what}, at least {needed / 1e9:,.3g} GB",
            f"at most {math.floor(allowed):,} {what}: {there / 1e9:,.3g} GB of memory are there",
        )
