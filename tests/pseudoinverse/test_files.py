"""Rows from files: the same W as from memory, each rank its own rows, and clear errors."""

import re

import numpy as np
import pytest
from least_squares import folded
from mpi4py import MPI

from npde_opt.errors import InputError
from npde_opt.pseudoinverse import Fold, StoredRows

WORLD = MPI.COMM_WORLD


@pytest.fixture
def folder(tmp_path):
    """The same one on all ranks."""
    return WORLD.bcast(tmp_path)


def problem(rows=47, columns=5):
    rng = np.random.default_rng(0)
    return rng.standard_normal((rows, columns)), rng.standard_normal((rows, 2))


def written(folder, H, T, **how):
    """One file of each kind; rows of no file are missed, one file has none."""
    pair = (folder / "H.npy", folder / "T.npy")
    files = [pair, *(folder / f"{name}.npz" for name in ("stored", "none", "packed"))]
    if WORLD.rank == 0:
        np.save(pair[0], np.asfortranarray(H[:9]))
        np.save(pair[1], T[:9])
        np.savez(files[1], T=T[9:30], H=np.asfortranarray(H[9:30]))
        np.savez(files[2], H=H[:0], T=T[:0])
        np.savez_compressed(files[3], H=H[30:], T=T[30:], more=np.zeros(3))
    WORLD.Barrier()
    return files


@pytest.mark.parallel([1, 2, 3, 4])
def test_w_is_that_of_rows_in_memory(folder):
    H, T = problem()
    stored = StoredRows(written(folder, H, T), WORLD, block=4)
    assert (stored.features, stored.targets, stored.count) == (5, 2, 47)
    blocks = list(stored)
    assert max(len(h) for h, _ in blocks) <= 4
    start, end = stored.own
    np.testing.assert_array_equal(np.concatenate([h for h, _ in blocks]), H[start:end])
    np.testing.assert_array_equal(np.concatenate([t for _, t in blocks]), T[start:end])
    fit = Fold(5, 2, comm=WORLD)
    stored.add_to(fit)
    wanted = folded(H, T).solve().W
    np.testing.assert_allclose(fit.solve().W, wanted, atol=1e-12)


def test_a_stream_of_files_goes_on_from_its_checkpoint(tmp_path):
    H, T = problem()
    files, checkpoint = written(tmp_path, H, T), tmp_path / "kept.npz"
    begun = Fold(5, 2)
    StoredRows(files[:2], block=4).add_to(begun, checkpoint)
    later = Fold(5, 2)
    StoredRows(files, block=4).add_to(later, checkpoint)
    assert later.count == 47
    np.testing.assert_allclose(later.solve().W, folded(H, T).solve().W, atol=1e-12)


def test_one_target_and_other_numbers(tmp_path):
    H, T = problem()
    for name, save in (("a", np.savez), ("b", np.savez_compressed)):
        save(tmp_path / f"{name}.npz", X=(10 * H).astype(np.int16), y=T[:, 0] > 0)
        stored = StoredRows([tmp_path / f"{name}.npz"], block=10, names=("X", "y"))
        assert stored.targets == 1
        found = np.concatenate([h for h, _ in stored])
        np.testing.assert_array_equal(found, (10 * H).astype(np.int16))
        found = np.concatenate([t for _, t in stored])[:, 0]
        np.testing.assert_array_equal(found, T[:, 0] > 0)


def missing(folder, H, T):
    return [folder / "nowhere.npz"]


def cut_off(folder, H, T):
    (folder / "cut.npz").write_bytes(b"")
    return [folder / "cut.npz"]


def other_arrays(folder, H, T):
    np.savez(folder / "other.npz", H=H)
    return [folder / "other.npz"]


def other_rows(folder, H, T):
    np.savez(folder / "rows.npz", H=H, T=T[1:])
    return [folder / "rows.npz"]


def other_columns(folder, H, T):
    np.savez(folder / "a.npz", H=H, T=T)
    np.savez(folder / "b.npz", H=H[:, 1:], T=T)
    return [folder / "a.npz", folder / "b.npz"]


def texts(folder, H, T):
    np.savez(folder / "text.npz", H=H.astype(str), T=T)
    return [folder / "text.npz"]


def objects(folder, H, T):
    np.save(folder / "H.npy", H.astype(object))
    np.save(folder / "T.npy", T)
    return [(folder / "H.npy", folder / "T.npy")]


def turned(folder, H, T):
    np.savez_compressed(folder / "turned.npz", H=np.asfortranarray(H), T=T)
    return [folder / "turned.npz"]


def empty(folder, H, T):
    np.savez(folder / "empty.npz", H=H[:0], T=T[:0])
    return [folder / "empty.npz"]


def none(folder, H, T):
    return []


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize(
    ("make", "told"),
    [
        (missing, "nowhere.npz .*a pair of .npy, or a .npz with H and T"),
        (cut_off, "cut.npz "),
        (other_arrays, "other.npz .*T.npy"),
        (other_rows, r"rows.npz: T.*46 rows.*47 rows"),
        (other_columns, r"b.npz: H.*4 columns.*5, as .*a.npz: H has"),
        (texts, "text.npz: H.*real numbers"),
        (objects, "H.npy"),
        (turned, "turned.npz: H.*compressed.*numpy.savez"),
        (empty, "1 files without rows"),
        (none, "none.*at least one"),
    ],
)
def test_files_that_cannot_be_are_told_on_all_ranks(folder, make, told):
    H, T = problem()
    files = WORLD.bcast(make(folder, H, T) if WORLD.rank == 0 else None)
    with pytest.raises(InputError, match=told):
        StoredRows(files, WORLD)


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("pack", [np.savez, np.savez_compressed])
def test_a_row_that_is_not_finite_is_told_on_all_ranks(folder, pack):
    H, T = problem()
    H[40, 1] = np.nan
    if WORLD.rank == 0:
        pack(folder / "nan.npz", H=H, T=T)
    WORLD.Barrier()
    told = re.escape("nan.npz: H: got row 40 is not finite")
    stored = StoredRows([folder / "nan.npz"], WORLD, block=7)
    with pytest.raises(InputError, match=told):
        stored.add_to(Fold(5, 2, comm=WORLD))
    with pytest.raises(InputError, match="5 features and 2 targets.*4 and 2"):
        StoredRows([folder / "nan.npz"], WORLD).add_to(Fold(4, 2, comm=WORLD))
