"""Where files of a case are looked for, and the anatomy of its domain."""

import dataclasses
from pathlib import Path

import pytest
from mpi4py import MPI

from npde_opt.cases import load_case
from npde_opt.cases.sources import Sources
from npde_opt.errors import InputError

MESHES = Path(__file__).resolve().parents[2] / "meshes"


def test_files_are_looked_for_beside_the_case_then_in_the_data_folder(tmp_path):
    case, data = tmp_path / "case", tmp_path / "data"
    (data / "deep").mkdir(parents=True)
    case.mkdir()
    here = Sources(case, data, (None, 0))
    (data / "deep" / "a.npy").touch()
    assert here.find("k", "a.npy") == data / "deep" / "a.npy"
    (data / "a.npy").touch()
    assert here.find("k", "a.npy") == data / "a.npy"
    (case / "a.npy").touch()
    assert here.find("k", "a.npy") == case / "a.npy"


def test_one_of_several_files_of_a_name_is_not_guessed(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.npy").touch()
    here = Sources(tmp_path, tmp_path, (None, 0))
    with pytest.raises(
        InputError, match="k: got a.npy, of which there are 2: .*one.*two"
    ):
        here.find("k", "a.npy")
    assert here.find("k", "two/a.npy") == tmp_path / "two" / "a.npy"


def test_a_file_that_is_not_there_says_where_it_was_sought(tmp_path):
    with pytest.raises(InputError, match="looked in .*; give the folder .* by --data"):
        Sources(tmp_path, None, (None, 0)).find("k", "a.npy")


def test_an_anatomy_is_cropped_to_its_cells():
    pytest.importorskip("nilearn")
    whole = load_case(MESHES / "brain_tumour.toml", MPI.COMM_SELF).sources
    part = dataclasses.replace(whole, crop=True)
    assert [e.size for e in part.edges] < [e.size for e in whole.edges]
    assert part.voxels("mask").sum() == whole.voxels("mask").sum()
