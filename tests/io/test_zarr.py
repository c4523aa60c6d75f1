"""Stores of Zarr's format: what is written on any ranks is read by windows, and by zarr-python."""

import json

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.io import zarr_writer
from npde_opt.io.fields import list_fields, open_stored, read_field
from npde_opt.io.zarr_growing import GrowingStore
from npde_opt.io.zarr_reader import window_of
from npde_opt.io.zarr_writer import ZarrStore, write_zarr

SHAPE = (7, 5, 6)
EDGES = [np.linspace(0, 1, 8), np.array([0, 0.4, 1, 2, 3.5, 5.0]), np.linspace(0, 3, 7)]
WHOLE = np.random.default_rng(0).normal(size=SHAPE)
BOXES = [
    (slice(0, 7), slice(0, 5), slice(0, 6)),
    (slice(2, 7), slice(1, 2), slice(3, 5)),
    (slice(6, 7), slice(0, 5), slice(0, 1)),
    (slice(3, 3), slice(0, 5), slice(2, 4)),
]


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(zarr_writer, "CHUNKS", {1: 4, 2: 3, 3: 2})


def made(tmp_path, **options):
    """A store with a field, its part of whole numbers, and two components."""
    comm = MPI.COMM_WORLD
    folder = comm.bcast(tmp_path, root=0)
    grid = Grid(SHAPE, edges=EDGES, active=WHOLE > -2, comm=comm)
    own = WHOLE[grid.local_slice]
    fields = {"u": own, "n": (9 * own).astype("i4"), "both": np.stack([own, 2 * own])}
    path = write_zarr(folder / "f", grid, fields, length_unit="mm", **options)
    comm.Barrier()
    return path


@pytest.mark.parallel([1, 2, 3, 4])
@pytest.mark.parametrize("packed", [False, True])
def test_windows_are_parts_of_what_was_written(tmp_path, small_chunks, packed):
    path = made(tmp_path, packed=packed)
    assert list_fields(path) == ["active", "both[0]", "both[1]", "n", "u"]
    for key, values in (
        ("u", WHOLE),
        ("both[1]", 2 * WHOLE),
        ("n", (9 * WHOLE).astype("i4")),
    ):
        np.testing.assert_array_equal(read_field(path, key), values)
        stored = open_stored(path, key)
        assert stored.unit == "mm" and stored.dtype == values.dtype
        np.testing.assert_array_equal(stored.edges[1], EDGES[1])
        for box in BOXES:
            np.testing.assert_array_equal(stored.window(SHAPE, box), values[box])
    np.testing.assert_array_equal(read_field(path, "active"), WHOLE > -2)


@pytest.mark.parallel([1, 3])
def test_zarr_python_and_xarray_read_it(tmp_path, small_chunks):
    zarr, xarray = pytest.importorskip("zarr"), pytest.importorskip("xarray")
    path = made(tmp_path, packed=True)
    group = zarr.open_group(str(path), mode="r")
    np.testing.assert_array_equal(group["u"][:], WHOLE)
    np.testing.assert_array_equal(group["both"][1, 2:5, :, 3], 2 * WHOLE[2:5, :, 3])
    found = xarray.open_zarr(str(path))
    np.testing.assert_array_equal(found["u"].sel(y=1.5, method="nearest"), WHOLE[:, 2])
    assert found["u"].dims == ("x", "y", "z") and found["x"].attrs["units"] == "mm"


@pytest.mark.parallel([1, 2])
def test_states_of_a_trajectory_are_read_by_their_indices(tmp_path, small_chunks):
    comm = MPI.COMM_WORLD
    folder = comm.bcast(tmp_path, root=0)
    grid = Grid((6, 5), comm=comm)
    whole = np.arange(30.0).reshape(6, 5)
    times = np.array([0, 0.5, 2.0])
    with ZarrStore(
        folder / "s.zarr", grid, {"experiment": np.arange(2), "t": times}
    ) as store:
        for e in range(2):
            for n, t in enumerate(times):
                store.put("u", t * whole[grid.local_slice] + e, (e, n))
    np.testing.assert_array_equal(
        read_field(folder / "s.zarr", "u[1, 2]"), 2 * whole + 1
    )
    said = "got 'u'; allowed: in the file: "
    with pytest.raises(InputError, match=said):
        read_field(folder / "s.zarr", "u")
    meta = json.loads((folder / "s.zarr" / "u" / "zarr.json").read_text())
    assert meta["dimension_names"] == ["experiment", "t", "x", "y"]


@pytest.mark.parallel([1, 2])
def test_a_store_appears_whole_or_not_at_all(tmp_path):
    comm = MPI.COMM_WORLD
    folder = comm.bcast(tmp_path, root=0)
    grid = Grid((6, 5), comm=comm)
    field = np.ones(grid.local_shape)
    write_zarr(folder / "s", grid, {"u": field})
    for fields, said in (
        ({"u": field, "v": field[:1]}, "field v: got shape"),
        ({"u": field.astype("f2")}, "got type float16"),
        ({"u": np.stack([np.stack([field])])}, "got shape"),
    ):
        with pytest.raises(InputError, match=said):
            write_zarr(folder / "s", grid, fields)
    np.testing.assert_array_equal(read_field(folder / "s.zarr", "u"), 1)
    comm.Barrier()
    assert [p.name for p in folder.iterdir()] == ["s.zarr"]
    comm.Barrier()
    if comm.rank == 0:
        (folder / "mine.zarr").mkdir()
    comm.Barrier()
    with pytest.raises(InputError, match="no store"):
        write_zarr(folder / "mine", grid, {"u": field})
    store = ZarrStore(folder / "t", grid, {"t": np.arange(3)})
    with pytest.raises(InputError, match="indices"), store:
        store.put("u", field, (3,))


def test_stores_of_others(tmp_path):
    zarr = pytest.importorskip("zarr")
    for name, options in {
        "zstd": {},
        "big": {
            "compressors": None,
            "serializer": zarr.codecs.BytesCodec(endian="big"),
        },
        "shards": {"shards": (8, 6, 6), "compressors": zarr.codecs.GzipCodec()},
        "F": {
            "compressors": None,
            "filters": [zarr.codecs.TransposeCodec(order=(2, 0, 1))],
        },
    }.items():
        path = tmp_path / f"{name}.zarr"
        array = zarr.create_array(
            str(path), shape=SHAPE, chunks=(4, 3, 2), dtype="f8", **options
        )
        array[:] = WHOLE
        stored = open_stored(path)
        for box in BOXES:
            np.testing.assert_array_equal(stored.window(SHAPE, box), WHOLE[box])


def test_axes_are_turned_by_their_names_and_holes_are_filled(tmp_path):
    folder = tmp_path / "a.zarr"
    (folder / "c" / "0").mkdir(parents=True)
    record = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [3, 4],
        "data_type": "float32",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [3, 2]}},
        "chunk_key_encoding": {"name": "default"},
        "fill_value": 7,
        "codecs": [{"name": "bytes", "configuration": {"endian": "big"}}],
        "dimension_names": ["y", "x"],
    }
    (folder / "zarr.json").write_text(json.dumps(record))
    numbers = np.arange(6, dtype=">f4").reshape(3, 2)
    (folder / "c" / "0" / "1").write_bytes(numbers.tobytes())
    wanted = np.concatenate([np.full((3, 2), 7), numbers], axis=1).T
    np.testing.assert_array_equal(read_field(folder), wanted)
    record["codecs"].append({"name": "unheard"})
    (folder / "zarr.json").write_text(json.dumps(record))
    with pytest.raises(InputError):
        read_field(folder)
    record["zarr_format"] = 2
    (folder / "zarr.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="format 2"):
        read_field(folder)


@pytest.mark.parallel([1, 2, 3])
def test_a_store_that_grows_goes_on_on_other_ranks_and_with_more(
    tmp_path, small_chunks
):
    comm = MPI.COMM_WORLD
    path = comm.bcast(tmp_path, root=0) / "g.zarr"
    whole = np.arange(30.0).reshape(6, 5)

    def opened(count, ranks):
        grid = Grid((6, 5), comm=ranks)
        return GrowingStore(path, grid, {"sample": 10 + np.arange(count)}), grid

    if comm.rank == 0:
        store, _ = opened(3, MPI.COMM_SELF)
        store.append({"D": whole, "k": -whole}, (0,))
        store.append({"D": 3 * whole, "k": whole}, (2,))
    comm.Barrier()
    store, grid = opened(5, comm)  # all that was there
    np.testing.assert_array_equal(read_field(path, "D[2]"), 3 * whole)
    comm.Barrier()
    store.append(dict.fromkeys("Dk", 5 * whole[grid.local_slice]), (4,))
    comm.Barrier()
    for at, factor in ((0, 1), (2, 3), (4, 5)):
        np.testing.assert_array_equal(read_field(path, f"D[{at}]"), factor * whole)
    window = window_of(path / "k", (slice(1, 2), slice(0, 6), slice(0, 5)))
    assert np.isnan(window).all()  # as of what was never written
    comm.Barrier()
    with pytest.raises(InputError, match=r"g.zarr: sample: got \[10, 12\]"):
        GrowingStore(path, grid, {"sample": np.array([10, 12])})
    other = Grid((5, 5), comm=comm)
    with pytest.raises(InputError, match=r"g.zarr: cells: got \(6, 5\)"):
        GrowingStore(path, other, {"sample": 10 + np.arange(5)})
