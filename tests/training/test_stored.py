"""The run that learns from rows in files: what it finds, a stream that was killed, wrong inputs."""

import json
from argparse import Namespace

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.errors import InputError
from npde_opt.pseudoinverse import Fold
from npde_opt.pseudoinverse import files as files_of_rows
from npde_opt.training import stored
from npde_opt.training.readouts import Readouts

WORLD = MPI.COMM_WORLD
BLOCK = 8


class Killed(Exception):
    pass


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Of all ranks, which read few rows at once and write after every block."""
    rows = stored.StoredRows
    monkeypatch.setattr(stored, "StoredRows", lambda f, c: rows(f, c, BLOCK))
    monkeypatch.setattr(stored, "EVERY", 1)
    return WORLD.bcast(tmp_path)


def problem(rows=90):
    rng = np.random.default_rng(3)
    H = rng.standard_normal((rows, 5)) * [1, 1, 1, 1, 1e-3]
    T = H @ np.arange(10.0).reshape(5, 2) + [2, -1]
    return H, T + 0.01 * rng.standard_normal(T.shape)


def labels(H):
    return (H[:, :3] @ np.ones((3, 3)) + H[:, :3]).argmax(axis=1)


def written(folder, H, T):
    """A pair of .npy and a .npz."""
    if WORLD.rank == 0:
        np.save(folder / "H.npy", H[:50])
        np.save(folder / "T.npy", T[:50])
        np.savez_compressed(folder / "more.npz", H=H[50:], T=T[50:])
    WORLD.Barrier()
    return ["H.npy", "T.npy", "more.npz"]


def options(folder, samples, **others):
    given = {
        "case": None,
        "test": None,
        "classes": False,
        "resume": False,
        "overwrite": False,
        "method": None,
        "ridge": None,
        "recipe": None,
        "features": None,
        "repeats": None,
        "plot": False,
        "seed": 0,
    }
    given |= {"samples": samples, "data": str(folder), "out": str(folder / "out")}
    return Namespace(**(given | others))


def run(folder, samples, **others):
    given = options(folder, samples, **others)
    with stored.kind_of(given, WORLD)(given, WORLD, 0.0) as found:
        found.prepare()
        found.train()
        found.report()
    WORLD.Barrier()
    kept = np.load(folder / "out" / "model.npz")
    told = json.loads((folder / "out" / "summary.json").read_text())
    return kept["W"], kept["intercept"], told["metrics"]


def folded(H, T, **how):
    fit = Fold(H.shape[1], T.shape[1], intercept=True)
    fit.add(H, T)
    return fit.solve(**how)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize(
    ("given", "how"),
    [
        ({}, {"ridge": "gcv"}),
        ({"method": "gram", "ridge": "0.5"}, {"ridge": 0.5}),
        ({"ridge": "gcv-each"}, {"ridge": "gcv-each"}),
    ],
)
def test_numbers_are_predicted_as_from_memory(folder, given, how):
    H, T = problem()
    files = written(folder, H, T)
    W, intercept, told = run(folder, files, test=["more.npz"], **given)
    wanted = folded(H, T, **how)
    np.testing.assert_allclose(W, wanted.W, atol=1e-6)
    np.testing.assert_allclose(intercept, wanted.intercept, atol=1e-6)
    missed = H[50:] @ wanted.W + wanted.intercept - T[50:]
    np.testing.assert_allclose(
        told["error"], np.sqrt((missed**2).mean(axis=0)), rtol=1e-5
    )


@pytest.mark.parallel([1, 2])
def test_classes_are_told_apart(folder):
    pytest.importorskip("matplotlib")
    H, _ = problem()
    files = written(folder, H, labels(H))
    given = {"classes": True, "ridge": "loo", "plot": WORLD.size == 1}
    W, _, told = run(folder, files, test=files, **given)
    assert W.shape == (5, 3)
    confusion = np.array(told["confusion"])
    assert confusion.sum() == 90
    assert told["error"][0] == pytest.approx(1 - np.trace(confusion) / 90)
    assert told["error"][0] < 0.1
    drawn = {p.name for p in (folder / "out").glob("*.png")}
    assert drawn == ({stored.SPECTRUM, stored.CONFUSION} if given["plot"] else set())


@pytest.mark.parallel([1, 2])
def test_a_killed_stream_goes_on_without_reading_again(folder, monkeypatch):
    H, T = problem()
    files = written(folder, H, T)
    add, count = Fold.add, []

    def killed(self, H, T, weights=None):
        if len(count) == 3:
            raise Killed
        count.append(len(H))
        add(self, H, T, weights)

    monkeypatch.setattr(Fold, "add", killed)
    with pytest.raises(Killed):
        run(folder, files)
    monkeypatch.setattr(Fold, "add", add)
    with pytest.raises(InputError, match="--resume to continue"):
        run(folder, files)
    with pytest.raises(InputError, match="--resume: method: got gram"):
        run(folder, files, resume=True, method="gram")
    with pytest.raises(InputError, match="--resume: files: got .*more.npz, other"):
        run(folder, files[2:], resume=True)

    read, checked = [], files_of_rows._Array._checked

    def counted(self, *where):
        read.append(self)
        return checked(self, *where)

    monkeypatch.setattr(files_of_rows._Array, "_checked", counted)
    W, _, _ = run(folder, files, resume=True)
    np.testing.assert_allclose(W, folded(H, T, ridge="gcv").W, atol=1e-9)
    own = 90 * (WORLD.rank + 1) // WORLD.size - 90 * WORLD.rank // WORLD.size
    assert len(read) <= 2 * (-(-own // BLOCK) + 1 - 3)
    # One that came to its end reads no rows.
    read.clear()
    run(folder, files, resume=True)
    assert not read


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize(
    ("samples", "given", "told"),
    [
        (["digits", "H.npy"], {}, "--samples: got digits H.npy"),
        (["none.npz"], {}, "--samples, --test: got none.npz"),
        (["H.npy"], {}, "--samples: got .*H.npy; allowed: .npz with H and T"),
        (["H.npy", "more.npz"], {}, "--samples: got .*H.npy .*more.npz"),
        (["more.npz"], {"ridge": "held"}, "--ridge: got held.*rows come by once"),
        (["more.npz"], {"ridge": "best"}, "--ridge: got 'best'"),
        (["more.npz"], {"features": [3]}, "--features: got .3. with files"),
        (["more.npz"], {"classes": True}, "more.npz: T: got 2 columns; allowed: one"),
        (["H.npy", "H.npy"], {"test": ["more.npz"]}, "--test: got 5 features and 2"),
        (["digits"], {"resume": True}, "--resume: got --resume with digits"),
    ],
)
def test_what_cannot_be_is_told_on_all_ranks(folder, samples, given, told):
    written(folder, *problem())
    with pytest.raises(InputError, match=told):
        run(folder, samples, **given)


@pytest.mark.parallel([1, 2])
def test_labels_that_are_none_are_told_on_all_ranks(folder):
    H, _ = problem()
    for wrong, told in ((0.5, "got 0.5"), (-1, "got -1.0")):
        T = labels(H).astype(float)
        T[80] = wrong
        files = written(folder, H, T)
        with pytest.raises(InputError, match=f"T: {told}; allowed: classes"):
            run(folder, files, classes=True)
    if WORLD.rank == 0:
        np.savez(folder / "test.npz", H=H, T=labels(H) + 1)
    WORLD.Barrier()
    files = written(folder, H, labels(H))
    with pytest.raises(InputError, match="--test: got class 3; allowed: classes up to"):
        run(folder, files, classes=True, test=["test.npz"])


def test_pictures_that_are_named_have_their_own_run(tmp_path):
    assert stored.kind_of(options(tmp_path, ["digits"]), WORLD) is Readouts
