"""Values of files lie where the file says, or are those of the case's own cells."""

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.cases import load_case
from npde_opt.cases.fields import evaluate
from npde_opt.cases.sources import Sources
from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.io.fields import read_gridded
from npde_opt.io.vtk import write_vtk

STRETCHED = [np.array([0.0, 0.1, 0.3, 0.7, 1.5])]
TENTHS = [np.linspace(0, 1, 11), np.linspace(0, 1, 2)]
K = np.array([1.0, 10.0, 100.0, 1000.0])


def sources(folder, homes=(), unit=""):
    return Sources(folder, None, (None, 0), unit=unit, homes=homes)


def data_array(values, name=""):
    named = f' Name="{name}"' if name else ""
    text = " ".join(map(str, values))
    return f'<DataArray type="Float64"{named} format="ascii">{text}</DataArray>'


def vtr(folder, edges, values, section="CellData"):
    """A rectilinear grid with values, flat along the axes that have no edges."""
    flat = [[0]] * (3 - len(edges))
    coordinates = "".join(data_array(e) for e in (*edges, *flat))
    extent = " ".join(f"0 {len(e) - 1}" for e in (*edges, *flat))
    (folder / "k.vtr").write_text(
        f'<VTKFile type="RectilinearGrid"><RectilinearGrid WholeExtent="{extent}">'
        f'<Piece Extent="{extent}"><Coordinates>{coordinates}</Coordinates>'
        f"<{section}>{data_array(values, 'K')}</{section}></Piece></RectilinearGrid></VTKFile>"
    )
    return {"file": "k.vtr"}


def vti(folder, values, extent="0 2 0 1 0 0", section="CellData", **attributes):
    """An image with values."""
    more = "".join(f' {k}="{v}"' for k, v in attributes.items())
    (folder / "k.vti").write_text(
        f'<VTKFile type="ImageData"><ImageData WholeExtent="{extent}"{more}>'
        f'<Piece Extent="{extent}"><{section}>{data_array(values, "K")}</{section}></Piece>'
        "</ImageData></VTKFile>"
    )
    return {"file": "k.vti"}


@pytest.mark.parametrize("nearest", [False, True])
def test_an_array_of_the_grids_shape_is_taken_cell_by_cell(nearest, tmp_path):
    np.save(tmp_path / "k.npy", K)
    np.testing.assert_array_equal(
        evaluate("k", {"file": "k.npy"}, STRETCHED, sources(tmp_path), nearest), K
    )


def test_other_grids_of_a_case_get_means_of_its_cells(tmp_path):
    np.save(tmp_path / "k.npy", K)
    home = sources(tmp_path, (STRETCHED,))
    coarse = evaluate("k", {"file": "k.npy"}, [STRETCHED[0][::2]], home)
    np.testing.assert_allclose(
        coarse, [(1 * 0.1 + 10 * 0.2) / 0.3, (100 * 0.4 + 1000 * 0.8) / 1.2], rtol=1e-14
    )
    fine = evaluate(
        "k",
        {"file": "k.npy"},
        [np.interp(np.arange(9) / 2, np.arange(5), STRETCHED[0])],
        home,
    )
    np.testing.assert_allclose(fine, np.repeat(K, 2), rtol=1e-12)


def test_other_shapes_are_refused_unless_resampled(tmp_path):
    grid = [np.linspace(0, 1, 9), np.linspace(0, 1, 7)]
    wanted = r"allowed: the grid's shape \(8, 6\), 48 cells"
    for shape, message in (
        ((6, 8), rf"shape \(6, 8\) in k.npy, 48 values; {wanted}; it looks transposed"),
        ((4, 3), f"{wanted}; or resample = true"),
        ((48,), r"flat list of 48 values.*shape = \[8, 6\]"),
        ((8, 6, 2), rf"\(8, 6, 2\) in k.npy, 96 values; {wanted}$"),
    ):
        np.save(tmp_path / "k.npy", np.ones(shape))
        with pytest.raises(InputError, match=message):
            evaluate("k", {"file": "k.npy"}, grid, sources(tmp_path))
    np.save(tmp_path / "k.npy", np.arange(12.0).reshape(4, 3))
    found = evaluate("k", {"file": "k.npy", "resample": True}, grid, sources(tmp_path))
    np.testing.assert_allclose(
        found, np.arange(12.0).reshape(4, 3).repeat(2, 0).repeat(2, 1), atol=1e-12
    )
    np.save(tmp_path / "k.npy", np.arange(48.0))
    found = evaluate("k", {"file": "k.npy", "shape": [8, 6]}, grid, sources(tmp_path))
    np.testing.assert_array_equal(found, np.arange(48.0).reshape(8, 6, order="F"))


def test_columns_of_coordinates_say_which_cell_a_row_is(tmp_path):
    grid = [np.array([0.0, 0.5, 2.0]), np.array([0.0, 1.0, 2.0, 3.0])]
    wanted = np.arange(6.0).reshape(2, 3)
    rows = [
        (x, y, wanted[i, j])
        for i, x in enumerate((0.25, 1.0))
        for j, y in enumerate((0.5, 1.5, 2.5))
    ]
    here, spec = sources(tmp_path, (grid,)), {"file": "k.csv", "column": "K"}
    for some in (rows, rows[::-1]):
        (tmp_path / "k.csv").write_text(
            "x,y,K\n" + "".join(f"{x},{y},{k}\n" for x, y, k in some)
        )
        np.testing.assert_array_equal(evaluate("k", spec, grid, here), wanted)
    (tmp_path / "k.csv").write_text(
        "X [m],Y (m),K\n" + "".join(f"{x},{y},{k}\n" for x, y, k in rows[::-1])
    )
    np.testing.assert_array_equal(evaluate("k", spec, grid, here), wanted)
    named = spec | {"header": ["a", "b", "K"]}
    np.testing.assert_array_equal(
        evaluate("k", named, grid, here), wanted.ravel()[::-1].reshape(2, 3, order="F")
    )
    for change in (("0.25,", "0.75,"), ("0.25,0.5", "-1,0.5")):
        (tmp_path / "k.csv").write_text(
            ("x,y,K\n" + "".join(f"{x},{y},{k}\n" for x, y, k in rows)).replace(*change)
        )
        with pytest.raises(
            InputError, match="columns x, y of k.csv over .*one row in every cell"
        ):
            evaluate("k", spec, grid, here)


def test_a_file_with_edges_keeps_them(tmp_path):
    found = evaluate(
        "k", vtr(tmp_path, [[0, 0.1, 1], [0, 1]], [1, 10]), TENTHS, sources(tmp_path)
    )
    np.testing.assert_allclose(found[:, 0], [1] + 9 * [10], rtol=1e-12)
    back = evaluate(
        "k", vtr(tmp_path, [[1, 0.1, 0], [0, 1]], [10, 1]), TENTHS, sources(tmp_path)
    )
    np.testing.assert_allclose(back, found, rtol=1e-12)
    with pytest.raises(InputError, match="x coordinates do not increase"):
        evaluate(
            "k", vtr(tmp_path, [[0, 2, 1], [0, 1]], [10, 1]), TENTHS, sources(tmp_path)
        )


def test_a_file_larger_than_the_grid_is_cut_and_a_smaller_one_refused(tmp_path):
    found = evaluate(
        "k", vtr(tmp_path, [[-1, 0.5, 7], [-3, 4]], [1, 10]), TENTHS, sources(tmp_path)
    )
    np.testing.assert_allclose(found[:, 0], 5 * [1] + 5 * [10], rtol=1e-12)
    for x in ([0, 0.5, 0.9], [0.1, 0.5, 1], [10, 11, 12]):
        with pytest.raises(
            InputError,
            match=r"k.vtr on the box \[.*\] x \[0, 1\]; allowed: a file that covers the grid's "
            r"box \[0, 1\] x \[0, 1\]",
        ):
            evaluate(
                "k", vtr(tmp_path, [x, [0, 1]], [1, 10]), TENTHS, sources(tmp_path)
            )
    nearly = vtr(tmp_path, [[1e-7, 0.5, 1 - 1e-7], [0, 1]], [1, 10])
    np.testing.assert_allclose(
        evaluate("k", nearly, TENTHS, sources(tmp_path)), found, rtol=1e-12
    )


def test_values_at_points_and_components_are_refused(tmp_path):
    with pytest.raises(InputError, match="values at the points of k.vti"):
        evaluate(
            "k",
            vti(tmp_path, [1, 1.5, 2] * 2, section="PointData", Spacing="0.5 1 1"),
            TENTHS,
            sources(tmp_path),
        )
    with pytest.raises(InputError, match="2 components in k.vti"):
        evaluate(
            "k",
            vti(tmp_path, [1, 1, 2, 2], Spacing="0.5 1 1"),
            TENTHS,
            sources(tmp_path),
        )


@pytest.mark.parametrize(
    ("extent", "attributes", "values"),
    [
        ("0 2 0 1 0 0", {"Spacing": "0.5 1 1"}, [1, 2]),
        ("4 6 -1 0 0 0", {"Spacing": "0.5 1 1", "Origin": "-2 1 0"}, [1, 2]),
        (
            "0 2 0 1 0 0",
            {
                "Spacing": "0.5 1 1",
                "Origin": "1 0 0",
                "Direction": "-1 0 0 0 1 0 0 0 1",
            },
            [2, 1],
        ),
        (
            "0 1 0 2 0 0",
            {"Spacing": "1 0.5 1", "Direction": "0 1 0 1 0 0 0 0 1"},
            [1, 2],
        ),
    ],
)
def test_images_lie_where_extent_origin_spacing_and_direction_say(
    extent, attributes, values, tmp_path
):
    found = evaluate(
        "k", vti(tmp_path, values, extent, **attributes), TENTHS, sources(tmp_path)
    )
    np.testing.assert_allclose(found[:, 0], 5 * [1] + 5 * [2], rtol=1e-12)


def test_oblique_images_are_refused(tmp_path):
    with pytest.raises(InputError, match="oblique"):
        evaluate(
            "k",
            vti(
                tmp_path,
                [1, 2],
                Spacing="0.5 1 1",
                Direction="0.8 -0.6 0 0.6 0.8 0 0 0 1",
            ),
            TENTHS,
            sources(tmp_path),
        )


@pytest.mark.parametrize(
    "kind",
    [
        "STRUCTURED_POINTS\nDIMENSIONS 3 2 1\nORIGIN 0 0 0\nSPACING 0.5 1 1",
        "RECTILINEAR_GRID\nDIMENSIONS 3 2 1\nX_COORDINATES 3 float\n0 0.1 1\n"
        "Y_COORDINATES 2 float\n0 1\nZ_COORDINATES 1 float\n0",
    ],
)
def test_legacy_files_lie_where_they_say(kind, tmp_path):
    (tmp_path / "k.vtk").write_text(
        f"# vtk DataFile Version 3.0\nk\nASCII\nDATASET {kind}\nCELL_DATA 2\nSCALARS K float 1\n"
        "LOOKUP_TABLE default\n1 10\n"
    )
    first = 5 if "SPACING" in kind else 1
    found = evaluate("k", {"file": "k.vtk"}, TENTHS, sources(tmp_path))
    np.testing.assert_allclose(
        found[:, 0], first * [1] + (10 - first) * [10], rtol=1e-6
    )


def test_what_is_written_is_read_at_its_place(tmp_path):
    edges = [np.array([2.0, 2.1, 2.5, 4.0]), np.array([-1.0, 0.0, 0.5])]
    grid = Grid((3, 2), edges=edges, comm=MPI.COMM_SELF)
    values = np.arange(6.0).reshape(3, 2)
    write_vtk(tmp_path / "k.vtr", grid, {"K": values})
    np.testing.assert_array_equal(
        evaluate("k", {"file": "k.vtr"}, edges, sources(tmp_path)), values
    )


AXES = {
    "upright": (np.diag([2.0, 3.0, 4.0]), lambda v: v),
    "x runs backwards": (np.diag([-2.0, 3.0, 4.0]), lambda v: v[::-1]),
    "y and z swapped, z backwards": (
        np.array([[2.0, 0, 0], [0, 0, 3], [0, -4, 0]]),
        lambda v: v.transpose(0, 2, 1)[:, ::-1],
    ),
}


def nifti(folder, name, values, steps, unit, corner, form="sform"):
    nibabel = pytest.importorskip("nibabel")
    affine = np.eye(4)
    affine[:3, :3] = steps
    # the lower corner of the box is `corner`, whichever way the axes run
    back = np.where(steps < 0, -steps * (values.shape - np.ones(3)), 0)
    affine[:3, 3] = corner + back.sum(axis=1) + np.abs(steps).sum(axis=1) / 2
    image = nibabel.Nifti1Image(values, None)
    (image.set_sform if form == "sform" else image.set_qform)(
        affine, code=1 if form != "none" else 0
    )
    image.header.set_xyzt_units(unit)
    nibabel.save(image, folder / name)


@pytest.mark.parametrize("way", list(AXES))
@pytest.mark.parametrize("form", ["sform", "qform"])
@pytest.mark.parametrize(
    ("unit", "case_unit", "factor"),
    [
        ("mm", "m", 1e-3),
        ("mm", "mm", 1),
        ("unknown", "m", 1),
        ("meter", "mm", 1e3),
        ("micron", "um", 1),
    ],
)
def test_nifti_lies_where_its_affine_says(way, form, unit, case_unit, factor, tmp_path):
    steps, turned = AXES[way]
    world = np.random.default_rng(0).random((2, 3, 4))
    corner = np.array([10.0, -20.0, 5.0])
    nifti(tmp_path, "k.nii", turned(world), steps, unit, corner, form)
    edges = [
        factor * (c + s * np.arange(n + 1))
        for c, s, n in zip(corner, (2, 3, 4), world.shape, strict=True)
    ]
    np.testing.assert_allclose(
        evaluate("k", {"file": "k.nii"}, edges, sources(tmp_path, unit=case_unit)),
        world,
        rtol=1e-6,
    )
    with pytest.raises(InputError, match="covers the grid's box"):
        evaluate(
            "k",
            {"file": "k.nii"},
            [e + 10 * factor for e in edges],
            sources(tmp_path, unit=case_unit),
        )


def test_a_unit_of_the_case_that_is_not_known_is_refused_with_a_file_that_names_its_own(
    tmp_path,
):
    world = np.arange(24.0).reshape(2, 3, 4)
    nifti(tmp_path, "k.nii", world, np.eye(3), "mm", np.zeros(3))
    edges = [np.arange(n + 1.0) for n in world.shape]
    for unit in ("metre", "inch", "MM"):
        with pytest.raises(
            InputError,
            match=f"case.length_unit: got '{unit}', with k in mm; allowed: km, m",
        ):
            evaluate("k", {"file": "k.nii"}, edges, sources(tmp_path, unit=unit))
    np.testing.assert_array_equal(
        evaluate("k", {"file": "k.nii"}, edges, sources(tmp_path)), world
    )


def test_nifti_that_is_oblique_or_without_a_place(tmp_path):
    values = np.random.default_rng(0).random((2, 3, 4))
    turn = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
    nifti(tmp_path, "oblique.nii", values, turn, "mm", np.zeros(3))
    with pytest.raises(InputError, match="oblique"):
        read_gridded(tmp_path / "oblique.nii")
    nifti(tmp_path, "none.nii", values, np.eye(3), "mm", np.zeros(3), "none")
    found = read_gridded(tmp_path / "none.nii")
    assert found.edges is None
    np.testing.assert_array_equal(found.values, values)


ON_ANATOMY = """
[domain]
mni152 = "volume"
[grid]
coarsen = 32
[[unknown]]
name = "D"
initial = 1.0
truth = { file = "k.nii" }
[[observation]]
"""


def test_nifti_in_mni_coordinates_lies_on_the_anatomy(tmp_path):
    pytest.importorskip("nilearn")
    (tmp_path / "case.toml").write_text(ON_ANATOMY)
    left_half = np.zeros((2, 1, 1))
    left_half[0] = 1
    nifti(
        tmp_path,
        "k.nii",
        left_half + 1,
        np.diag([200.0, 500, 500]),
        "unknown",
        np.array([-200.0, -250, -250]),
    )
    case = load_case(tmp_path / "case.toml", MPI.COMM_SELF)
    x = (case.domain.edges[0][1:] + case.domain.edges[0][:-1]) / 2 - 0.0985
    found = evaluate("truth", {"file": "k.nii"}, case.domain.edges, case.sources)[
        :, 0, 0
    ]
    np.testing.assert_allclose(
        found[np.abs(x) > 0.02], np.where(x < 0, 2.0, 1.0)[np.abs(x) > 0.02], rtol=1e-12
    )


def test_damaged_compressed_images_are_refused(tmp_path):
    nifti(tmp_path, "k.nii.gz", np.zeros((20, 20, 20)), np.eye(3), "mm", np.zeros(3))
    content = bytearray((tmp_path / "k.nii.gz").read_bytes())
    content[-8] ^= 1  # of the checksum
    (tmp_path / "k.nii.gz").write_bytes(bytes(content))
    with pytest.raises(InputError, match="k.nii.gz"):
        read_gridded(tmp_path / "k.nii.gz")


@pytest.mark.parametrize("count", [5, 7])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("k.GRDECL", "SPECGRID\n 3 2 1 1 F /\nPERMX\n {}*1.5 /\n"),
        ("k.inc", "PERMX\n {}*1.5 /\n"),
        ("k.npy", ""),
        ("k.csv", ""),
    ],
)
def test_too_few_or_too_many_values_say_how_many_and_how_many_cells(
    name, text, count, tmp_path
):
    """The wrong number of values is no case for `resample`, which does not help either."""
    np.save(tmp_path / "k.npy", np.ones(count))
    (tmp_path / "k.csv").write_text("k\n" + "1.5\n" * count)
    if text:
        (tmp_path / name).write_text(text.format(count))
    grid = [np.linspace(0, 1, 4), np.linspace(0, 1, 3)]
    spec = {"file": name} | ({"column": "k"} if name == "k.csv" else {})
    for more in ({}, {"resample": True}) if "SPECGRID" in text else ({},):
        with pytest.raises(
            InputError, match=f"{count} values.*6 .*one a cell"
        ) as error:
            evaluate("k", spec | more, grid, sources(tmp_path))
        assert "resample" not in str(error.value)
    with pytest.raises(
        InputError, match="axes with resample|6 values for the 3 x 2 x 1 cells"
    ):
        evaluate("k", spec | {"resample": True}, grid, sources(tmp_path))
    with pytest.raises(InputError, match=rf"{count} values.*6 values"):
        evaluate("k", spec | {"shape": [3, 2]}, grid, sources(tmp_path))


def test_a_list_of_values_on_a_line_can_be_laid_evenly_on_request(tmp_path):
    np.save(tmp_path / "k.npy", np.arange(1.0, 3.0))
    with pytest.raises(
        InputError,
        match="2 values in k.npy; allowed: 4 values, one a cell of the grid 4; or resample = true",
    ):
        evaluate("k", {"file": "k.npy"}, [np.linspace(0, 1, 5)], sources(tmp_path))
    found = evaluate(
        "k",
        {"file": "k.npy", "resample": True},
        [np.linspace(0, 1, 5)],
        sources(tmp_path),
    )
    np.testing.assert_allclose(found, [1.0, 1.0, 2.0, 2.0], rtol=1e-12)
