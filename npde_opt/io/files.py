"""Files that appear whole or not at all: written beside their place, flushed to the disk, then
renamed.

Whatever the disk refuses (no space, quota, permission, a folder that is gone) is an InputError that
names folder and cause.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from npde_opt.aliases import FilePath
from npde_opt.errors import InputError

KEPT = (
    "a folder with space that can be written; "
    "what was complete stays, and --resume, where a driver has it, goes on from it"
)


def content_of(path: FilePath) -> bytes:
    """What a regular file holds. Raises OSError for a pipe too, of which the reading would wait for
    ever."""
    # Without O_NONBLOCK already the opening of a pipe waits.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, f"{Path(path).name} is no regular file")
        return file.read()


@contextlib.contextmanager
def whole_file(path: FilePath) -> Iterator[BinaryIO]:
    """A binary file that replaces `path` when the block ends, and leaves `path` untouched when the
    block raises."""
    target = Path(path)
    temporary = beside(target)
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        # A folder that is gone or read-only must not hide the first cause.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


def beside(target: Path) -> Path:
    """The name under which a file is written before it is complete; the suffix stays, by which some
    writers go."""
    return target.with_name(f".{target.stem}.{os.getpid()}.tmp{target.suffix}")


def sync_folder(path: FilePath) -> None:
    """Makes renames inside a folder last through a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def disk(field: str, folder: FilePath, allowed: str = KEPT) -> Iterator[None]:
    """Raises what the operating system refuses inside the block as an InputError of `field`, folder
    and cause."""
    try:
        yield
    except OSError as error:
        raise InputError(field, f"{folder} ({cause(error)})", allowed) from error


def cause(error: OSError) -> str:
    """'No space left on device'"""
    return error.strerror or str(error) or type(error).__name__
