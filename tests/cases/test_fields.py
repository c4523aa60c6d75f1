"""What fields and values of a case may be: numbers that are there and finite, of whole files."""

import os

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.cases.fields import evaluate
from npde_opt.cases.sources import Sources
from npde_opt.cases.tables import read_values
from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.io.fields import read_field
from npde_opt.io.vtk import write_vtk


def sources(folder):
    return Sources(folder, None, (None, 0))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([1, "a"], object), "pickle|Object"),
        (np.ones(3, [("a", float)]), "real numbers"),
        (np.array(["a"]), "real numbers"),
        (np.ones(3) + 1j, "choose a part: real, imag, intensity"),
        (
            np.array([1.0, np.nan, np.inf]),
            r"1 NaN and 1 infinite of 3 values, the first at \[1\]",
        ),
    ],
)
def test_what_is_no_real_number_is_refused(values, message, tmp_path):
    np.save(tmp_path / "k.npy", values, allow_pickle=True)
    with pytest.raises(InputError, match=message):
        evaluate("k", {"file": "k.npy"}, [np.arange(4.0)], sources(tmp_path))


def test_integers_booleans_and_parts_of_complex_values_are_numbers(tmp_path):
    edges, here = [np.arange(4.0)], sources(tmp_path)
    for values, more, wanted in (
        (np.array([1, 2, 3], ">u2"), {}, [1, 2, 3]),
        (np.array([True, False, True]), {}, [1, 0, 1]),
        (np.array([3 + 4j, 1, 2j]), {"part": "intensity"}, [25, 1, 4]),
        (np.array([3 + 4j, 1, 2j]), {"part": "imag"}, [4, 0, 2]),
    ):
        np.save(tmp_path / "k.npy", values)
        found = evaluate("k", {"file": "k.npy", **more}, edges, here)
        assert found.dtype == float and found.tolist() == wanted


def test_rows_of_a_single_number_are_refused(tmp_path):
    np.save(tmp_path / "y.npy", np.float64(3))
    with pytest.raises(InputError, match="y.npy holds one number"):
        read_values("data", {"file": "y.npy", "rows": [0, 0, 1]}, sources(tmp_path))


@pytest.mark.parametrize("kind", ["npy", "csv"])
@pytest.mark.parametrize("dtype", ["f8", "i4"])
def test_codes_of_missing_values_that_are_not_declared_are_refused(
    kind, dtype, tmp_path
):
    """In arrays and columns, floats and integers, unless `clip` cuts them off."""
    edges, here, values = (
        [np.arange(4.0)],
        sources(tmp_path),
        np.array([3, -9999, 5], dtype),
    )
    np.save(tmp_path / "k.npy", values)
    (tmp_path / "k.csv").write_text("k\n3\n-9999\n5\n")
    spec = {"file": f"k.{kind}"}
    for more in (
        {},
        {"clip": [-1e5, 1e5]},
        {"clip": [-100.0, 1e9], "scale": 0.01},
        {"missing": ["-1"]},
        {"clip": [0.0, 1e5], "scale": -1.0},
    ):
        with pytest.raises(InputError, match="-9999.*declare it by missing"):
            evaluate("k", spec | more, edges, here)
    with pytest.raises(
        InputError,
        match=f"1 missing value in k.{kind}, the first at .*; allowed: a value everywhere",
    ):
        evaluate("k", spec | {"missing": -9999, "clip": [0.0, 10.0]}, edges, here)
    for more, wanted in (
        ({"clip": [0.0, 4.0]}, [3, 0, 4]),
        ({"missing": []}, [3, -9999, 5]),
        ({"clip": [-0.5, 1.0], "scale": 0.1}, [0.3, -0.5, 0.5]),
    ):
        np.testing.assert_allclose(
            evaluate("k", spec | more, edges, here), wanted, rtol=1e-12
        )


def test_missing_values_of_fields_are_named_and_places_kept(tmp_path):
    sources, edges = Sources(tmp_path, None, (None, 0)), [np.array([0.0, 1.0, 4.0])]
    values = np.array([1.0, -9999.0])
    np.save(tmp_path / "k.npy", values)
    with pytest.raises(InputError, match=r"k.npy: got -9999 at \[1\].*declare it"):
        evaluate("k", {"file": "k.npy"}, edges, sources)
    with pytest.raises(InputError, match="1 missing value in k.npy"):
        evaluate("k", {"file": "k.npy", "missing": -9999}, edges, sources)
    np.testing.assert_array_equal(
        evaluate("k", {"file": "k.npy", "missing": []}, edges, sources), values
    )
    np.testing.assert_array_equal(
        evaluate("k", {"file": "k.npy", "clip": [0, 1]}, edges, sources), [1, 0]
    )
    with pytest.raises(InputError, match="lo <= hi"):
        evaluate("k", {"file": "k.npy", "clip": [1, 0]}, edges, sources)
    write_vtk(
        tmp_path / "k.vti",
        Grid((4,), extent=(4.0,), comm=MPI.COMM_SELF),
        {"K": np.arange(4.0)},
    )
    for more in ({}, {"missing": []}, {"missing": 7}):
        np.testing.assert_allclose(
            evaluate("k", {"file": "k.vti"} | more, edges, sources), [0, 2]
        )
    with pytest.raises(InputError, match="k.rows"):
        evaluate("k", {"file": "k.vti", "rows": [0, 1, 1]}, edges, sources)


def test_files_must_be_regular_and_whole(tmp_path):
    here = sources(tmp_path)
    (tmp_path / "folder.npy").mkdir()
    os.mkfifo(tmp_path / "pipe.npy")
    (tmp_path / "device.npy").symlink_to("/dev/zero")
    for name in ("folder.npy", "pipe.npy", "device.npy"):
        with pytest.raises(InputError, match="regular file"):
            here.find("k", name)
        with pytest.raises(InputError, match="regular file"):
            read_field(tmp_path / name)
    for name in ("", "a\0b"):
        with pytest.raises(InputError, match="name of a file"):
            here.find("k", name)
    np.savez_compressed(tmp_path / "k.npz", k=np.random.default_rng(0).random(1000))
    content = (tmp_path / "k.npz").read_bytes()
    (tmp_path / "k.npz").write_bytes(content[:500] + bytes(300) + content[800:])
    with pytest.raises(InputError, match="k.npz"):
        read_field(tmp_path / "k.npz")
    np.save(tmp_path / "k.npy", np.ones(100))
    (tmp_path / "k.npy").write_bytes((tmp_path / "k.npy").read_bytes()[:300])
    with pytest.raises(InputError, match="k.npy"):
        read_field(tmp_path / "k.npy")


def test_a_file_larger_than_memory_is_said(tmp_path):
    with open(tmp_path / "k.npy", "wb") as file:
        file.truncate(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") + 1)
    with pytest.raises(InputError, match="GB of memory here"):
        read_field(tmp_path / "k.npy")


def test_what_is_wrong_in_a_file_is_told_with_the_key_that_names_it(tmp_path):
    np.save(tmp_path / "k.npy", np.array([1.0, np.nan]))
    (tmp_path / "k.csv").write_text("a\n1\nx3\n")
    edges, here = [np.linspace(0, 1, 3)], sources(tmp_path)
    for name, said in (("k.npy", "1 NaN of 2 values"), ("k.csv", "x3")):
        with pytest.raises(InputError, match=rf"^unknown\.D\.truth: .*{name}.*{said}"):
            evaluate("unknown.D.truth", {"file": name}, edges, here)
