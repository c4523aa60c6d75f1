"""One run a folder: a lock that the operating system frees with the process, and that says who
holds it.

`.lock` is held by flock from the run's start to its end, so that a killed run leaves nothing that
blocks the next one. Where the file system knows no flock, or keeps it to each host, the file's
content decides: on the same host whether its process (number and start) is alive, from another host
whether its holder still touches the file, every BEAT seconds.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import platform
import stat
import threading
import time
from pathlib import Path

from npde_opt.aliases import Record
from npde_opt.errors import InputError
from npde_opt.io.files import disk

LOCK = ".lock"
BEAT = 8.0
WATCH = 3 * BEAT
"""Seconds after which a holder on another host that did not touch its lock counts as gone."""

PATIENCE = 2.0
"""Seconds for a run that was killed just now to be gone."""

FREE, HELD, UNKNOWN = "free", "held", "unknown"
NO_FLOCK = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class RunLock:
    """The folder is this process's from `RunLock(folder)` to `release`. Local; rank 0 of a run has
    it.

    Raises:
        InputError: naming the holder, where another run has the folder.
    """

    def __init__(self, folder: Path, ranks: int = 1):
        self.folder, self.path = folder, folder / LOCK
        self._identity = _place(os.stat(folder))
        # Held open, so that no other folder can get the same number while this run goes on.
        self._folder = os.open(folder, os.O_RDONLY)
        self._file = -1
        self._stop = threading.Event()
        try:
            self._acquire()
            self._sign(ranks)
        except BaseException:
            self._close()
            raise
        threading.Thread(
            target=_beat, args=(self._file, self._stop), daemon=True
        ).start()

    def _acquire(self) -> None:
        until = time.monotonic() + PATIENCE
        while True:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            state, holder = _flock(self._file), _read(self._file)
            if state == FREE and not self._is_ours():
                # Unlinked by its holder between our opening and locking it: there is a new one.
                state = HELD
            if state != HELD and _alive(holder, self.path, state == FREE):
                state = HELD
            if state != HELD:
                return
            os.close(self._file)
            self._file = -1
            if time.monotonic() > until:
                raise InputError(
                    "--out",
                    f"{self.folder}, in which {describe(holder)} is at work",
                    "another --out, or wait for its end (where it is gone for certain, remove "
                    f"{self.path})",
                )
            time.sleep(0.1)

    def _sign(self, ranks: int) -> None:
        content = json.dumps(
            {
                "host": platform.node(),
                "boot": _boot(),
                "pid": os.getpid(),
                "process_start": _process_start(os.getpid()),
                "since": time.strftime("%F %T"),
                "ranks": ranks,
            }
        )
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, content.encode(), 0)
        os.fsync(self._file)

    def _is_ours(self) -> bool:
        try:
            return _place(os.stat(self.path)) == _place(os.fstat(self._file))
        except OSError:
            return False

    def check(self) -> None:
        """Raises InputError where the folder was removed, replaced, or taken by another run
        since."""
        field, again = "--out", "a folder that stays as it is while the run goes on"
        try:
            now = os.stat(self.folder)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise InputError(
                field, f"{self.folder}, which was removed in mid-run", again
            ) from error
        except OSError as error:
            raise InputError(
                field, f"{self.folder} ({error.strerror}) in mid-run", again
            ) from error
        if not stat.S_ISDIR(now.st_mode):
            raise InputError(
                field, f"{self.folder}, which was replaced by a file in mid-run", again
            )
        if _place(now) != self._identity:
            raise InputError(
                field,
                f"{self.folder}, which was replaced by another folder in mid-run",
                again,
            )
        if not self._is_ours():
            raise InputError(
                field,
                f"{self.folder}, of which the lock was taken or removed in mid-run",
                again,
            )

    def release(self) -> None:
        """Frees the folder; once is enough."""
        if self._file >= 0 and self._is_ours():
            with contextlib.suppress(OSError):
                os.unlink(self.path)
        self._close()

    def _close(self) -> None:
        self._stop.set()
        for descriptor in (self._file, self._folder):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._folder = -1


def take_lock(folder: Path, ranks: int) -> RunLock:
    """The lock of a folder; what the disk refuses is an InputError too."""
    with disk("--out", folder):
        return RunLock(folder, ranks)


def describe(holder: Record) -> str:
    """'the run of process 12 on node3 (since 2026-01-31 12:00:00, 4 ranks)'"""
    if not holder:
        return "another run"
    return (
        f"the run of process {holder.get('pid')} on {holder.get('host')} (since "
        f"{holder.get('since')}, "
        f"{holder.get('ranks')} rank{'' if holder.get('ranks') == 1 else 's'})"
    )


def _place(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _flock(descriptor: int) -> str:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return HELD
    except OSError as error:
        if error.errno not in NO_FLOCK:
            raise
        return UNKNOWN
    return FREE


def _read(descriptor: int) -> Record:
    """Who signed the file; nothing where nobody did, or was killed while signing."""
    try:
        found = json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _alive(holder: Record, path: Path, locked: bool) -> bool:
    """Whether the one who signed still runs, as far as flock has not told (`locked`: it was free on
    this host)."""
    if not holder:
        return False
    if (holder.get("host"), holder.get("boot")) == (platform.node(), _boot()):
        return not locked and _process_start(int(holder.get("pid", 0))) == holder.get(
            "process_start"
        )
    return _beats(path)


def _beats(path: Path) -> bool:
    """Whether anybody touches the file while we watch; clocks of hosts may differ, so that its age
    says little."""
    first, until = os.stat(path).st_mtime_ns, time.monotonic() + WATCH
    while time.monotonic() < until:
        time.sleep(min(1.0, WATCH / 4))
        # Opening makes network file systems look again.
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_mtime_ns != first:
                return True
    return False


def _beat(descriptor: int, stop: threading.Event) -> None:
    while not stop.wait(BEAT):
        with contextlib.suppress(OSError):
            os.utime(descriptor)


def _process_start(pid: int) -> str | None:
    """When a process of this host started, in clock ticks since boot; None where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    zombie = fields[0] in ("Z", "X")
    return None if zombie else fields[19]


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
