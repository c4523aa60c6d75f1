"""Files that can be read at all: regular ones that fit into memory."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from npde_opt.errors import InputError

STORE = ".zarr"
"""Of folders that are read like a file."""


def check_file(field: str, path: Path) -> None:
    """Raises InputError naming `field` unless a regular file that fits into memory is there (no
    folder, device or pipe), or a store of Zarr's format."""
    if path.suffix.lower() == STORE and (path / "zarr.json").is_file():
        return  # whose arrays are looked at one by one
    try:
        status = path.stat()
    except OSError:
        there = (
            sorted(p.name for p in path.parent.glob("*") if p.is_file())[:8]
            if path.parent.is_dir()
            else []
        )
        near = f"; in {path.parent}: {', '.join(there)}" if there else ""
        raise InputError(
            field,
            "no such file" if field == str(path) else str(path),
            f"an existing file{near}",
        ) from None
    named = "" if field == str(path) else f"{path}, "
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a device or pipe"
        raise InputError(
            field, f"{named}{kind}", "a regular file: files must be regular files"
        )
    check_size(field, f"{named}a file of", status.st_size)


def check_size(field: str, what: str, size: int) -> None:
    """Raises InputError naming `field` where `what` of so many bytes is more than the memory of
    this machine."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if size > memory:
        raise InputError(
            field,
            f"{what} {size / 1e9:.3g} GB",
            f"at most the {memory / 1e9:.3g} GB of memory here",
        )
