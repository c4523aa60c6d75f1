"""One run a folder: who holds it is said, a killed holder blocks nobody, a folder that changes
under a run is noticed."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys

import pytest

from npde_opt.errors import InputError
from npde_opt.runs import lock
from npde_opt.runs.lock import LOCK, RunLock

HOLD = (
    "import sys, time; from pathlib import Path; from npde_opt.runs.lock import RunLock\n"
    "held = RunLock(Path(sys.argv[1])); print('held', flush=True); time.sleep(600)"
)


@pytest.fixture
def holder(tmp_path):
    """Another process that has the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(lock, "PATIENCE", 0.2)
    monkeypatch.setattr(lock, "WATCH", 1.0)


def test_a_live_holder_is_named(tmp_path, holder):
    with pytest.raises(
        InputError,
        match=f"process {holder.pid} on {socket.gethostname()}.*is at work.*another --out",
    ):
        RunLock(tmp_path)
    assert holder.poll() is None


def test_a_killed_holder_blocks_nobody(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert (tmp_path / LOCK).exists()
    RunLock(tmp_path).release()
    assert not (tmp_path / LOCK).exists()


def test_without_flock_the_process_decides(tmp_path, holder, monkeypatch):
    monkeypatch.setattr(lock, "_flock", lambda descriptor: lock.UNKNOWN)
    with pytest.raises(InputError, match="is at work"):
        RunLock(tmp_path)
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    RunLock(tmp_path).release()


def test_a_number_that_another_process_has_now_is_no_holder(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "_flock", lambda descriptor: lock.UNKNOWN)
    content = {
        "host": socket.gethostname(),
        "boot": lock._boot(),
        "pid": os.getpid(),
        "process_start": "1",
    }
    (tmp_path / LOCK).write_text(json.dumps(content))
    taken = RunLock(tmp_path)
    assert json.loads((tmp_path / LOCK).read_text())["process_start"] != "1"
    taken.release()


@pytest.mark.parametrize("content", ["", "{", "[]", "\x00\x00"])
def test_a_lock_that_was_being_signed_blocks_nobody(tmp_path, content):
    (tmp_path / LOCK).write_text(content)
    taken = RunLock(tmp_path)
    assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    taken.release()


def test_a_holder_on_another_host_counts_while_it_touches_its_lock(
    tmp_path, monkeypatch
):
    (tmp_path / LOCK).write_text(
        json.dumps(
            {"host": "elsewhere", "boot": "1", "pid": 1, "since": "2026", "ranks": 4}
        )
    )
    beating = lock._beats

    def beats(path):
        os.utime(path, (5, 5))
        first = os.stat(path).st_mtime_ns
        monkeypatch.setattr(lock.time, "sleep", lambda seconds: os.utime(path, (6, 6)))
        return beating(path) and first != os.stat(path).st_mtime_ns

    with monkeypatch.context() as patched:
        patched.setattr(lock, "_beats", beats)
        with pytest.raises(
            InputError, match="process 1 on elsewhere.*4 ranks.*is at work"
        ):
            RunLock(tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(lock, "WATCH", 0.3)
    RunLock(tmp_path).release()


def replaced(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def turned_into_a_file(folder):
    shutil.rmtree(folder)
    folder.write_text("")


def unlocked(folder):
    (folder / LOCK).unlink()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (shutil.rmtree, "was removed"),
        (replaced, "replaced by another folder"),
        (turned_into_a_file, "replaced by a file"),
        (unlocked, "lock was taken or removed"),
    ],
)
def test_a_folder_that_changes_under_a_run_is_noticed(tmp_path, change, said):
    folder = tmp_path / "run"
    folder.mkdir()
    held = RunLock(folder)
    held.check()
    change(folder)
    with pytest.raises(InputError, match=f"--out: got {folder}.*{said}.* in mid-run"):
        held.check()
    held.release()
