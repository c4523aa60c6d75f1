"""A run's folder on disks that refuse, and what --overwrite takes away."""

import errno
import os
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.io import vectors
from npde_opt.io.checkpoint import find_checkpoint, save_checkpoint
from npde_opt.parameters import ParameterSpace, Shared, Unknown
from npde_opt.runs.folder import RunDirectory

ROWS = [{"level": 0, "iteration": i, "objective": 1.0 / (i + 3)} for i in range(400)]


@pytest.fixture(autouse=True)
def owned():
    """Vecs to be freed at the end, on all ranks together: an error on one rank may keep them alive
    there."""
    OWNED.clear()
    yield
    for vec in OWNED:
        vec.destroy()


OWNED = []


def own(vec):
    OWNED.append(vec)
    return vec


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 64 KB, on every rank."""
    comm = MPI.COMM_WORLD
    place = comm.bcast(tmp_path, root=0) / "disk"
    if comm.rank == 0:
        place.mkdir()
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], check=True
        )
    comm.Barrier()
    yield place
    comm.Barrier()
    if comm.rank == 0:
        subprocess.run(["umount", "-l", str(place)], check=True)


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def state(space, value):
    m = own(space.from_values({"D": value, "s": 2.0}))
    return SimpleNamespace(vectors={"m": m, "g": own(m.copy())}, meta={"value": value})


def parameters(comm, shape=(48, 48)):
    return ParameterSpace(
        Grid(shape, comm=comm), [Unknown("D", "log"), Unknown("s", block=Shared())]
    )


needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="a small disk is mounted by root"
)


@needs_root
@pytest.mark.parallel([1, 2, 3])
def test_a_full_disk_is_named_and_what_was_complete_stays(small_disk):
    comm, space = MPI.COMM_WORLD, parameters(MPI.COMM_WORLD)
    save_checkpoint(small_disk, comm, space, state(space, 0.5), 0)
    with pytest.raises(
        InputError, match=f"checkpoint: got {small_disk}.*No space left on device"
    ):
        save_checkpoint(small_disk, comm, space, state(space, 0.25), 1)
    comm.Barrier()
    assert names(small_disk) == ["checkpoint-0"]
    found = find_checkpoint(small_disk, comm)
    loaded = {name: own(vec) for name, vec in found.load(space, comm).items()}
    assert (loaded["m"].getArray() == state(space, 0.5).vectors["m"].getArray()).all()


@needs_root
@pytest.mark.parallel([1, 2])
def test_a_history_on_a_full_disk_keeps_whole_lines_only(small_disk):
    out = RunDirectory(small_disk / "run")
    with pytest.raises(InputError, match="--out: got .*run.*No space left on device"):
        for row in ROWS * 10:
            out.append(row)
    MPI.COMM_WORLD.Barrier()
    content = (out.path / "history.csv").read_bytes()
    assert (
        content.endswith(b"\r\n")
        and content.decode().count("\n") == len(out.history()) + 1
    )
    out.close()


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("number", [errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EIO])
def test_whatever_the_disk_refuses_while_vectors_are_written(
    tmp_path, monkeypatch, number
):
    """On rank 0 only, where the others wait for it inside the vector."""
    comm, space = MPI.COMM_WORLD, parameters(MPI.COMM_WORLD, (6, 5))
    out = comm.bcast(tmp_path, root=0)

    def refuse(self, values):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(vectors.VectorWriter, "_write", refuse)
    with pytest.raises(InputError, match=os.strerror(number)):
        save_checkpoint(out, comm, space, state(space, 0.5), 0)
    comm.Barrier()
    assert names(out) == []


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("shape", [(7,), (6, 5), (4, 3, 5)])
def test_slabs_of_any_size_give_the_same_file(tmp_path, monkeypatch, shape):
    comm, space = MPI.COMM_WORLD, parameters(MPI.COMM_WORLD, shape)
    out = comm.bcast(tmp_path, root=0)
    values = np.arange(1.0, 1 + np.prod(shape)).reshape(shape, order="F")
    m = own(space.from_values({"D": values[space.grid.local_slice], "s": 0.125}))
    contents = []
    for size in (1, 7, 10_000):
        monkeypatch.setattr(vectors, "SLAB", size)
        path = save_checkpoint(
            out, comm, space, SimpleNamespace(vectors={"m": m}, meta={}), size
        )
        loaded = own(find_checkpoint(out, comm).load(space, comm)["m"])
        assert (loaded.getArray() == m.getArray()).all()
        contents.append((path / "m.bin").read_bytes())
    assert contents[0] == contents[1] == contents[2]
    # the layout of PETSc's own binary vectors
    assert contents[0][:8] == np.array([1211214, np.prod(shape)], ">i4").tobytes()
    np.testing.assert_array_equal(
        np.frombuffer(contents[0], ">f8", np.prod(shape), 8),
        np.log(values).ravel(order="F"),
    )


@pytest.mark.parallel([1, 2])
def test_a_checkpoint_that_goes_while_it_is_read_is_named(tmp_path):
    comm, space = MPI.COMM_WORLD, parameters(MPI.COMM_WORLD, (6, 5))
    out = comm.bcast(tmp_path, root=0)
    save_checkpoint(out, comm, space, state(space, 0.5), 0)
    found = find_checkpoint(out, comm)
    comm.Barrier()
    if comm.rank == 0:
        (found.path / "g.bin").unlink()
    comm.Barrier()
    with pytest.raises(InputError, match="--resume: got .*g.bin.*No such file"):
        found.load(space, comm)


def test_overwrite_takes_all_that_a_run_wrote_and_nothing_else(tmp_path):
    out = RunDirectory(tmp_path, MPI.COMM_SELF)
    out.claim(["D.png", "parameters.vti"])
    out.close()
    for name in (
        "D.png",
        "weight.json",
        "state.gif",
        ".D.12.tmp.png",
        ".summary.12.tmp.json",
        "parameters.vti",
        "summary.json",
    ):
        (tmp_path / name).write_text("x")
    for name in ("checkpoint-3", ".checkpoint-4.tmp", "spectrum"):
        (tmp_path / name).mkdir()
    for name in ("notes.txt", "E.png", ".hidden", "checkpoint-mine"):
        (tmp_path / name).write_text("mine")
    before = names(tmp_path)
    out = RunDirectory(tmp_path, MPI.COMM_SELF, "overwrite")
    assert names(tmp_path) == sorted([".lock", *before])  # its input may be wrong yet
    out.append(ROWS[0])
    out.close()
    assert names(tmp_path) == [
        ".hidden",
        "E.png",
        "checkpoint-mine",
        "history.csv",
        "notes.txt",
    ]


def test_overwrite_that_is_killed_at_any_moment_leaves_what_the_next_one_knows(
    tmp_path, monkeypatch
):
    """It is stopped before the n-th removal; the next run sees no finished run, and nothing is left
    in the end."""
    for n in range(7):
        folder = tmp_path / str(n)
        out = RunDirectory(folder, MPI.COMM_SELF)
        out.begin_history()
        out.sign({"--seed": "0"})
        out.claim(["D.png"])
        out.write(
            "summary.json", '{"status": "converged", "iterations": 1, "objective": 2.0}'
        )
        out.close()
        for name in ("D.png", "weight.json", "parameters.vti"):
            (folder / name).write_text("x")
        removed = []

        def killed(entry, n=n, removed=removed):
            if len(removed) == n:
                raise KeyboardInterrupt
            removed.append(entry.name)
            os.unlink(entry)

        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr("npde_opt.runs.folder._unlink", killed)
            RunDirectory(folder, MPI.COMM_SELF, "overwrite").append(ROWS[0])
        (folder / ".lock").unlink()
        out = RunDirectory(folder, MPI.COMM_SELF, "resume")
        assert n == 0 or out.finished() is None
        out.sign({"--seed": "1"})
        assert not (folder / "weight.json").exists()
        out.close()
        out = RunDirectory(folder, MPI.COMM_SELF, "overwrite")
        out.append(ROWS[0])
        out.close()
        assert names(folder) == ["history.csv"]


def test_resume_clears_what_was_half_written(tmp_path):
    out = RunDirectory(tmp_path, MPI.COMM_SELF)
    out.append(ROWS[0])
    out.close()
    (tmp_path / ".checkpoint-0.tmp").mkdir()
    (tmp_path / ".summary.7.tmp.json").write_text("{")
    out = RunDirectory(tmp_path, MPI.COMM_SELF, "resume")
    assert out.history() == ROWS[:1] and names(tmp_path) == [".lock", "history.csv"]
    out.close()


def test_a_run_that_was_refused_is_no_earlier_run(tmp_path):
    """Its table has a head and no row, and it was not signed."""
    row = {"level": 0, "iteration": 0, "objective": 1.0}
    for begun in (False, False, True):
        out = RunDirectory(tmp_path, MPI.COMM_SELF)
        out.begin_history()
        out.claim(["posterior.vti"])
        if begun:
            out.append(row)
        out.close()
    with pytest.raises(InputError, match="holds an earlier run \\(history.csv\\)"):
        RunDirectory(tmp_path, MPI.COMM_SELF)
    (tmp_path / "history.csv").write_text("level,iteration\n")
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(InputError, match="holds an earlier run.*--resume"):
        RunDirectory(tmp_path, MPI.COMM_SELF)


@pytest.mark.parallel([1, 2])
def test_resume_begins_where_there_is_nothing(tmp_path):
    folder = MPI.COMM_WORLD.bcast(tmp_path, root=0) / "new"
    out = RunDirectory(folder, mode="resume")
    assert out.finished() is None and out.history() == []
    out.restart_history()
    out.append(ROWS[0])
    assert out.history() == ROWS[:1]
    out.close()


@pytest.mark.parametrize("name", ["n" * 300, "long/" * 1000], ids=["part", "whole"])
def test_a_name_that_the_disk_cannot_have_is_wrong_input(tmp_path, name):
    with pytest.raises(InputError, match="--out: got .*File name too long"):
        RunDirectory(tmp_path / name, MPI.COMM_SELF)


def test_what_others_wrote_into_its_notes_stops_no_run(tmp_path):
    for mode in ("new", "resume", "overwrite"):
        folder = tmp_path / mode
        folder.mkdir()
        for name in (".written", "run.json", "summary.json"):
            (folder / name).write_bytes(b"\xff\xfe\x00")
        if mode == "new":
            (folder / "summary.json").unlink()
        out = RunDirectory(folder, MPI.COMM_SELF, mode)
        out.claim(["D.png"])
        out.sign({"--seed": "0"})
        assert out.finished() is None
        out.close()
        assert "D.png" in (folder / ".written").read_bytes().decode(errors="replace")


@pytest.mark.parallel([1, 2])
def test_what_another_run_kept_before_its_first_checkpoint_is_not_used(tmp_path):
    comm = MPI.COMM_WORLD
    folder = comm.bcast(tmp_path, root=0)
    for seed, stays in (("0", True), ("0", True), ("1", False)):
        out = RunDirectory(folder, comm, "resume")
        out.sign({"--seed": seed})
        assert comm.bcast((folder / "weight.json").exists(), root=0) == (
            stays and seed == "0" and out.file("seen").exists()
        )
        comm.Barrier()
        out.write("weight.json", "{}")
        out.write("seen", "")
        out.folder("spectrum")
        out.close()


@pytest.mark.parallel([1, 2])
def test_a_run_that_finished_is_not_taken_for_another(tmp_path):
    comm = MPI.COMM_WORLD
    folder = comm.bcast(tmp_path, root=0)
    out = RunDirectory(folder, comm)
    out.sign({"--seed": "0"})
    out.write(
        "summary.json", '{"status": "converged", "iterations": 1, "objective": 2.0}'
    )
    out.close()
    out = RunDirectory(folder, comm, "resume")
    out.sign({"--seed": "0"})
    out.refuse_another({"--seed": "0"})
    with pytest.raises(
        InputError, match="--resume: --seed: got 1, other than in the run of"
    ):
        out.refuse_another({"--seed": "1"})
    assert out.finished()["status"] == "converged"
    out.close()


def test_a_pipe_in_place_of_a_file_is_named_and_nobody_waits_for_it(tmp_path):
    for name, mode in (("history.csv", "resume"), (".written", "overwrite")):
        folder = tmp_path / mode
        folder.mkdir()
        os.mkfifo(folder / name)
        with pytest.raises(InputError, match=f"--out: got .*{name} is no regular file"):
            RunDirectory(folder, MPI.COMM_SELF, mode).append(ROWS[0])
    os.mkfifo(tmp_path / "summary.json")
    (tmp_path / "checkpoint-1").mkdir()
    os.mkfifo(tmp_path / "checkpoint-1" / "meta.json")
    out = RunDirectory(tmp_path, MPI.COMM_SELF, "resume")
    assert out.finished() is None
    with pytest.raises(InputError, match="all damaged.*no regular file"):
        find_checkpoint(tmp_path, MPI.COMM_SELF)
    out.close()
