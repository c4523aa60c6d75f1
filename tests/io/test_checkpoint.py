"""Checkpoints: bit for bit, on any number of ranks, whole or not at all."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.io.checkpoint import find_checkpoint, load_checkpoint, save_checkpoint
from npde_opt.parameters import ParameterSpace, Regions, Unknown

SHAPE = (5, 4, 3)


class GridSpace:
    """The least that a checkpoint needs: one field on a grid."""

    def __init__(self, comm, shape=SHAPE):
        self.grid = Grid(shape, comm=comm)

    def create_vec(self):
        return self.grid.create_vec()

    def write(self, vec, sink):
        sink.field(self.grid, self.grid.view(vec))

    def read(self, vec, source):
        self.grid.view(vec)[...] = source.field(self.grid)


def values(seed):
    return np.random.default_rng(seed).standard_normal(SHAPE) / 3


def state(space, seed):
    return SimpleNamespace(
        vectors={
            "m": space.grid.from_natural(values(seed)),
            "gradient": space.grid.from_natural(values(seed + 100)),
        },
        meta={"radius": 0.1 + seed, "iteration": seed, "weight": np.float64(1 / 3)},
    )


def save(out, comm, seed, **extra):
    space = GridSpace(comm)
    return save_checkpoint(out, comm, space, state(space, seed), seed, extra)


def names(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parallel([1, 2, 3])
def test_round_trip_is_exact(tmp_path):
    comm = MPI.COMM_WORLD
    out = comm.bcast(tmp_path, root=0)
    save(out, comm, 4, identity={"case": "abc"}, level=1, iteration=4)
    space = GridSpace(comm)
    checkpoint, vectors = load_checkpoint(out, comm, space, {"case": "abc"})
    assert checkpoint.number == 4 and checkpoint.extra["level"] == 1
    assert checkpoint.state == {"radius": 4.1, "iteration": 4, "weight": 1 / 3}
    for name, seed in (("m", 4), ("gradient", 104)):
        np.testing.assert_array_equal(space.grid.gather(vectors[name]), values(seed))


@pytest.mark.parallel(3)
def test_written_on_two_ranks_read_on_three_and_one(tmp_path):
    comm = MPI.COMM_WORLD
    out = comm.bcast(tmp_path, root=0)
    two = comm.Split(0 if comm.rank < 2 else 1, comm.rank)
    if comm.rank < 2:
        save(out, two, 7)
    comm.Barrier()
    for on in (comm, MPI.COMM_SELF):
        space = GridSpace(on)
        checkpoint, vectors = load_checkpoint(out, on, space)
        np.testing.assert_array_equal(space.grid.gather(vectors["m"]), values(7))
    assert (
        json.loads((checkpoint.path / "meta.json").read_text().partition("\n")[2])[
            "ranks"
        ]
        == 2
    )
    two.Free()


@pytest.mark.parallel(3)
def test_fields_and_constants_of_a_parameter_space_move_to_other_ranks(tmp_path):
    comm = MPI.COMM_WORLD
    out = comm.bcast(tmp_path, root=0)
    regions = np.arange(60).reshape(SHAPE, order="F") % 4
    active = values(1) > -0.4
    unknowns = [Unknown("D", "log"), Unknown("c", block=Regions(regions))]

    def filled(on):
        space = ParameterSpace(Grid(SHAPE, active=active, comm=on), unknowns)
        field = np.exp(values(3))[space.grid.local_slice]
        return space, space.from_values(
            {"D": field, "c": np.array([0.5, -1.5, 2.5, 1 / 3])}
        )

    two = comm.Split(0 if comm.rank < 2 else 1, comm.rank)
    if comm.rank < 2:
        space, vec = filled(two)
        save_checkpoint(
            out, two, space, SimpleNamespace(vectors={"m": vec}, meta={}), 0
        )
    comm.Barrier()
    space, vec = filled(comm)
    _, vectors = load_checkpoint(out, comm, space)
    np.testing.assert_array_equal(vectors["m"].getArray(), vec.getArray())
    np.testing.assert_array_equal(
        space.values(vectors["m"], "c"), [0.5, -1.5, 2.5, 1 / 3]
    )
    two.Free()


@pytest.mark.parallel([1, 2])
def test_the_last_two_are_kept_and_an_abandoned_future_is_not(tmp_path):
    comm = MPI.COMM_WORLD
    out = comm.bcast(tmp_path, root=0)
    for k in (8, 9, 10, 11):
        save(out, comm, k)
    comm.Barrier()
    assert names(out) == ["checkpoint-10", "checkpoint-11"]
    save(out, comm, 10)
    comm.Barrier()
    assert names(out) == ["checkpoint-10"]


def cut(path):
    path.write_bytes(path.read_bytes()[:-8])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))


def gone(path):
    path.unlink()


@pytest.mark.parametrize("file", ["m.bin", "gradient.bin", "meta.json"])
@pytest.mark.parametrize(
    "damage, said", [(cut, "bytes"), (flip, "does not match"), (gone, "is missing")]
)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, file, damage, said):
    for k in (1, 2):
        save(tmp_path, MPI.COMM_SELF, k)
    damage(tmp_path / "checkpoint-2" / file)
    said = "does not match" if (file, damage) == ("meta.json", cut) else said
    with pytest.warns(RuntimeWarning, match=f"damaged in .*checkpoint-2 .*{said}"):
        assert find_checkpoint(tmp_path, MPI.COMM_SELF).number == 1
    damage(tmp_path / "checkpoint-1" / file)
    each = f"2, all damaged: checkpoint-2 .*{said}.*, checkpoint-1 .*{said}"
    with pytest.raises(InputError, match=each) as error:
        find_checkpoint(tmp_path, MPI.COMM_SELF)
    assert damage is not gone or f"({file} is missing)" in str(error.value)


def test_the_newest_below_a_number_is_found(tmp_path):
    for k in (1, 4):
        save(tmp_path, MPI.COMM_SELF, k)
    found = [find_checkpoint(tmp_path, MPI.COMM_SELF, below=n) for n in (5, 4, 1)]
    assert [c and c.number for c in found] == [4, 1, None]


def test_one_that_was_never_finished_is_not_seen_and_is_cleared(tmp_path):
    save(tmp_path, MPI.COMM_SELF, 1)
    (tmp_path / "checkpoint-1").rename(tmp_path / ".checkpoint-1.tmp")
    assert find_checkpoint(tmp_path, MPI.COMM_SELF) is None
    save(tmp_path, MPI.COMM_SELF, 2)
    assert names(tmp_path) == ["checkpoint-2"]


@pytest.mark.parallel([1, 2])
def test_another_case_or_grid_is_refused_on_every_rank(tmp_path):
    comm = MPI.COMM_WORLD
    out = comm.bcast(tmp_path, root=0)
    save(out, comm, 1, identity={"case": "abc", "file": "1"})
    for given, said in (
        (
            {"case": "xyz", "file": "1"},
            "--resume: case: got xyz, other than in the run of .*allowed: abc",
        ),
        ({"case": "abc", "file": "2"}, "file: got 2.*allowed: 1"),
        ({"case": "abc"}, "file: got nothing"),
    ):
        with pytest.raises(InputError, match=said):
            find_checkpoint(out, comm, given)
    with pytest.raises(InputError, match="60 values; allowed: 120"):
        find_checkpoint(out, comm, {"case": "abc", "file": "1"}).load(
            GridSpace(comm, (5, 4, 6)), comm
        )


@pytest.mark.parallel([1, 2])
def test_a_folder_that_cannot_be_written_is_named_on_every_rank(tmp_path):
    comm = MPI.COMM_WORLD
    out = comm.bcast(tmp_path, root=0)
    with pytest.raises(InputError, match="nowhere"):
        save(out / "nowhere", comm, 1)
    space = GridSpace(comm)
    bad = SimpleNamespace(vectors={"a/b": space.create_vec()}, meta={})
    with pytest.raises(InputError, match="a/b"):
        save_checkpoint(out, comm, space, bad, 1)
