"""Cases: the shipped ones are well formed, and what is wrong in one is named."""

from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.cases import check_main, load_case
from npde_opt.cases.evolution_schema import document_evolution
from npde_opt.cases.resampling import resample
from npde_opt.cases.schema import SECTIONS, document, validate
from npde_opt.cases.typed import keys_of
from npde_opt.errors import InputError
from npde_opt.grids.overlap import overlap

MESHES = sorted((Path(__file__).resolve().parents[1] / "meshes").glob("*.toml"))
UNKNOWN = {"name": "D", "initial": 1.0}


@pytest.mark.parametrize("file", MESHES, ids=lambda f: f.stem)
def test_shipped_case_is_well_formed(file, tmp_path, capsys):
    if "mni152" in file.read_text():
        pytest.importorskip("nilearn")
    options = []
    if "observations.npz" in file.read_text():
        assert check_main([str(file)]) == 2
        assert "observations.points" in capsys.readouterr().out
        np.savez(tmp_path / "observations.npz", xy=np.full((5, 2), 0.5), data=np.zeros(5))
        options = ["--data", str(tmp_path)]
    code, text = check_main([str(file), *options]), capsys.readouterr().out
    if "an existing file" in text:
        pytest.skip("needs data that are not shipped")
    assert code == 0 and "is well formed" in text


def test_defaults_are_filled_in():
    table = validate({"unknown": [UNKNOWN]})
    assert set(table) == {*SECTIONS, "petsc"}
    assert table["unknown"][0]["transform"] == "log" and table["optimizer"]["max_iterations"] == 50


@pytest.mark.parametrize(("raw", "text"), [
    ({}, "unknown"),
    ({"unknown": [{"name": "D"}]}, "unknown[0].initial"),
    ({"unknown": [UNKNOWN | {"transfrom": "log"}]}, "did you mean 'transform'"),
    ({"unknown": [UNKNOWN | {"transform": "cube"}]}, "identity, log, bounded"),
    ({"unknown": [UNKNOWN], "grid": {"coarsen": True}}, "grid.coarsen"),
    ({"unknown": [UNKNOWN], "grids": {}}, "did you mean 'grid'"),
    ({"unknown": [UNKNOWN], "misfit": 3}, "misfit"),
])
def test_wrong_key_is_named(raw, text):
    with pytest.raises(InputError) as error:
        validate(raw)
    assert text in str(error.value)


@pytest.mark.parametrize(("more", "text"), [
    ({"experiments": {"electrodes": {"count": 8, "radios": 1.0}}}, "did you mean 'radius'"),
    ({"experiments": {"electrodes": {"radius": 1.0}}}, "a count or a list `at`"),
    ({"experiments": {"electrodes": {"count": 1}}}, "an integer >= 2"),
    ({"experiments": {"wells": [[{"at": [0.5]}]]}}, "experiments.wells[0][0].rate"),
    ({"experiments": {"boundary": [{"x+": "much"}]}}, "experiments.boundary"),
    ({"experiments": {"boundary": [1.0]}}, "experiments.boundary"),
    ({"equation": {"ground": {"at": [0.5, 0.5]}}}, "equation.ground.conductance"),
    ({"observations": {"balls": [{"at": [0.5, 0.5]}]}}, "observations.balls[0].radius"),
    ({"observations": {"sides": ["w-"]}}, "observations.sides[0]"),
    ({"observations": {"integrals": ["x"]}}, "observations.integrals"),
    ({"boundaries": {"x-": {"coefficient": 2.0}}}, "boundaries.x-.kind"),
    ({"equation": {"c": {"fiel": "a.npy"}}}, "did you mean 'file'"),
    ({"petsc": {"ksp_rtol": 1e-9}}, "state_, reg_, tao_"),
])
def test_wrong_key_inside_a_section_is_named(more, text):
    with pytest.raises(InputError) as error:
        validate({"unknown": [UNKNOWN]} | more)
    assert text in str(error.value)


CASE = """
[grid]
file = "grids/box.toml"
shape = [8, 6]

[boundaries]
"x-" = "dirichlet"

[equation]
c = { file = "reaction.npy" }

[[unknown]]
name = "D"
initial = 1.0
truth = { file = "truth.npy", resample = true }
regions = { file = "regions.npy", resample = true }

[experiments]
source = 1.0

[observations]
points = { file = "points.npy" }

[[unknown]]
name = "c"
initial = 1.0
truth = 2.0

[[regularization]]
unknown = "c"
reference = { file = "reference.npy" }
"""
ARRAYS = {"truth": np.ones((4, 3)), "regions": np.repeat([0, 2], 2)[:, None] * np.ones(3, int), "reference": np.ones((8, 6)),
          "points": np.full((3, 2), 0.5)}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "grids").mkdir()
    (tmp_path / "grids" / "box.toml").write_text("shape = [4, 3]\nextent = [2.0, 1.0]\n")
    (tmp_path / "case.toml").write_text(CASE)
    for name, values in ARRAYS.items():
        np.save(tmp_path / f"{name}.npy", values)
    return tmp_path


def test_a_grid_file_is_shared_and_overridden(folder):
    case = load_case(folder / "case.toml")
    assert [e.size - 1 for e in case.domain.edges] == [8, 6] and case.domain.edges[0][-1] == 2.0
    (folder / "case.toml").write_text(CASE.replace("box", "bax"))
    with pytest.raises(InputError, match="grid.file"):
        load_case(folder / "case.toml")
    (folder / "case.toml").write_text(CASE)
    (folder / "grids" / "box.toml").write_text("shap = [4, 3]\n")
    with pytest.raises(InputError, match="did you mean 'shape'"):
        load_case(folder / "case.toml")


def test_regions_are_not_averaged(folder):
    case = load_case(folder / "case.toml", cells=(5, 3))
    regions = case.space(case.grid(MPI.COMM_SELF)).unknown("D").block.numbers
    assert regions[:, 0].tolist() == [0, 0, 2, 2, 2]


def test_check_reads_what_a_run_reads_and_names_all_that_is_wrong(folder, capsys):
    assert check_main([str(folder / "case.toml")]) == 0
    assert "is well formed" in capsys.readouterr().out
    np.save(folder / "truth.npy", -np.ones((4, 3)))
    np.save(folder / "reference.npy", np.full((8, 6), np.nan))
    np.save(folder / "points.npy", np.full((3, 2), 1.5))
    assert check_main([str(folder / "case.toml")]) == 2
    text = capsys.readouterr().out
    assert text.count("error: ") == 3
    assert "unknown.D.truth" in text and "reference.npy" in text and "observations.points[0]" in text
    (folder / "points.npy").unlink()
    assert check_main([str(folder / "case.toml")]) == 2
    assert "points.npy" in capsys.readouterr().out


def test_check_reads_measured_data(folder, capsys):
    text = CASE.replace("points.npy\" }", "points.npy\" }\ndata = { file = 'd.npy' }\nsigma = { file = 's.npy' }")
    (folder / "case.toml").write_text(text)
    for data, sigma, wrong in ((np.ones(3), np.ones(3), ""), (np.ones(4), np.ones(3), "observations.data"),
                               (np.ones(3), np.zeros(3), "observations.sigma"), (np.full(3, np.nan), np.ones(3), "NaN only")):
        np.save(folder / "d.npy", data)
        np.save(folder / "s.npy", sigma)
        assert check_main([str(folder / "case.toml")]) == (2 if wrong else 0)
        assert wrong in capsys.readouterr().out


def test_the_format_names_every_key():
    page = document()
    for section, table in SECTIONS.items():
        assert f"[{section}]" in page
        assert all(f"| `{key}` |" in page for key in keys_of(table))


def test_the_pages_in_docs_are_those_of_the_structs():
    docs = MESHES[0].parents[1] / "docs"
    assert (docs / "case-format.md").read_text().strip() == document().strip()
    assert (docs / "evolution-format.md").read_text().strip() == document_evolution().strip()


def test_resampling_keeps_the_mean():
    fine, coarse = [np.linspace(0, 1, 13), np.linspace(0, 2, 9)], [np.linspace(0, 1, 6), np.linspace(0, 2, 4)]
    values = np.random.default_rng(0).random((12, 8))
    assert resample(values, fine, coarse).mean() == pytest.approx(values.mean(), rel=1e-13)
    assert overlap(fine[0], coarse[0]).sum(axis=1) == pytest.approx(1.0)
    assert (resample(values, fine, fine) == pytest.approx(values))
