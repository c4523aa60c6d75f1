"""Fields from files: what is read, and what is said when it cannot be."""

import base64
import builtins
import zlib

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.errors import InputError
from npde_opt.io.fields import list_fields, read_field

FIELD = np.arange(24.0).reshape(2, 3, 4) + 0.25
GRDECL = """-- permeability
SPECGRID
 2 3 2 1 F /
PERMX
  1.5 2*2 -- two of the same
  4 5 6 7D0 8 9 10 11 12 / and a remark
ACTNUM
  10*1 2*0 /
"""


def test_npy_keeps_the_indices_and_values(tmp_path):
    np.save(tmp_path / "k.npy", FIELD)
    read = read_field(tmp_path / "k.npy")
    assert read.dtype == float and read[1, 2, 3] == FIELD[1, 2, 3]
    np.testing.assert_array_equal(read, FIELD)


def test_integers_and_booleans_keep_their_type_and_single_precision_does_not(tmp_path):
    np.savez(
        tmp_path / "k.npz", i=FIELD.astype("i4"), b=FIELD > 3, f=FIELD.astype("f4")
    )
    types = [read_field(tmp_path / "k.npz", key).dtype for key in "ibf"]
    assert types == [np.dtype("i4"), np.dtype(bool), np.dtype("f8")]


def test_mat(tmp_path):
    from scipy.io import savemat

    savemat(tmp_path / "k.mat", {"vp": FIELD, "dz": 10.0})
    np.testing.assert_array_equal(read_field(tmp_path / "k.mat", "vp"), FIELD)
    assert set(list_fields(tmp_path / "k.mat")) == {"vp", "dz"}


@pytest.mark.parametrize("name", ["brain.nii", "brain.nii.gz"])
def test_nifti(tmp_path, name):
    nibabel = pytest.importorskip("nibabel")
    nibabel.save(
        nibabel.Nifti1Image(FIELD[..., None].astype("f4"), np.eye(4)), tmp_path / name
    )
    read = read_field(tmp_path / name, shape=FIELD.shape)
    assert read.dtype == float
    np.testing.assert_array_equal(read, FIELD)


def test_nifti_without_nibabel_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / "brain.nii.gz").write_bytes(b"x")
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "nibabel":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"npde_opt\[examples\]"):
        read_field(tmp_path / "brain.nii.gz")


def test_grdecl_repeats_comments_and_size(tmp_path):
    (tmp_path / "k.grdecl").write_text(GRDECL)
    permeability = read_field(tmp_path / "k.grdecl", "PERMX")
    assert permeability.shape == (2, 3, 2)
    np.testing.assert_array_equal(
        permeability.ravel(order="F"), [1.5, 2, 2, *range(4, 13)]
    )
    active = read_field(tmp_path / "k.grdecl", "ACTNUM")
    assert active.dtype == np.int64 and active.sum() == 10 and active[0, 2, 1] == 0
    assert list_fields(tmp_path / "k.grdecl") == ["PERMX", "ACTNUM"]


def test_a_repeat_count_beyond_the_machine_is_refused_with_its_number(tmp_path):
    (tmp_path / "k.grdecl").write_text(
        "SPECGRID\n 2 2 1 1 F /\nPERMX\n 99999999999999*1 /\n"
    )
    with pytest.raises(InputError, match=r"PERMX: got 99,999,999,999,999 values"):
        read_field(tmp_path / "k.grdecl", "PERMX")


def test_grdecl_without_size_is_folded_x_fastest(tmp_path):
    (tmp_path / "k.INC").write_text("PERMX\n\n 1 2 3\n 4 5 6 /\nPERMY\n6*7\n/\n")
    np.testing.assert_array_equal(
        read_field(tmp_path / "k.INC", "PERMX", (3, 1, 2))[:, 0, :],
        [[1, 4], [2, 5], [3, 6]],
    )


def test_defaults_matter_only_in_the_block_that_is_read(tmp_path):
    (tmp_path / "k.data").write_text(
        "DIMENS\n2 1 3 /\nOIL\n\nEQLDIMS\n 3* /\nDX\n6*25 /\n"
    )
    np.testing.assert_array_equal(
        read_field(tmp_path / "k.data", "DX"), np.full((2, 1, 3), 25)
    )


def test_bare_numbers(tmp_path):
    (tmp_path / "perm.dat").write_text("1 2 3\n4 5 6\n")
    np.testing.assert_array_equal(
        read_field(tmp_path / "perm.dat", shape=(2, 3)), [[1, 3, 5], [2, 4, 6]]
    )


@pytest.mark.parametrize(
    "text, said",
    [
        ("PERMX\n1 2 3\n", "PERMX without an end"),
        ("PERMX\n1 2* 3 /\n", "defaulted"),
        ("PERMX\n1 2 x3 /\n", "PERMX.*x3"),
    ],
)
def test_grdecl_errors(tmp_path, text, said):
    (tmp_path / "k.prop").write_text(text)
    with pytest.raises(InputError, match=said):
        read_field(tmp_path / "k.prop")


DECK = "SPECGRID\n2 2 1 1 F /\nPERMX\n1 2 3 4 /\n"
CHANGE = "MULTIPLY\nPERMX 10 /\n/\n"


@pytest.mark.parametrize(
    "rest",
    [
        f"SKIP\n{CHANGE}ENDSKIP\n",
        f"SKIP\n{CHANGE}SKIP100\n{CHANGE}END\nENDSKIP\n",
        "SKIP\nPERMX\n9 9 9 9 /\nENDSKIP\n",
        f"END\n{CHANGE}",
        f"INCLUDE\n'rest.inc' /\n{CHANGE}",
    ],
)
def test_what_a_deck_leaves_out_does_nothing(rest, tmp_path):
    (tmp_path / "rest.inc").write_text(f"END\n{CHANGE}")
    (tmp_path / "k.grdecl").write_text(DECK + rest)
    np.testing.assert_array_equal(
        read_field(tmp_path / "k.grdecl", "PERMX").ravel(order="F"), [1, 2, 3, 4]
    )


@pytest.mark.parametrize("skip", ["SKIP100", "skip300"])
@pytest.mark.parametrize(
    "what",
    [
        CHANGE,
        "PERMX\n9 9 9 9 /\n",
        "COPY\nPORO PERMX /\n/\n",
        "OPERATE\nPERMX 6* MULTX PORO 2 /\n/\n",
        "INCLUDE\n'rest.inc' /\n",
    ],
)
def test_what_one_simulator_skips_and_another_reads_is_refused(skip, what, tmp_path):
    (tmp_path / "rest.inc").write_text(CHANGE)
    (tmp_path / "k.grdecl").write_text(
        f"{DECK}PORO\n4*0.5 /\nPERMZ\n4*3 /\n{skip}\n{what}ENDSKIP\nADD\nPERMZ 1 /\n/\n"
    )
    with pytest.raises(
        InputError, match=f"array PERMX: got .*between {skip.upper()} and ENDSKIP"
    ):
        read_field(tmp_path / "k.grdecl", "PERMX")
    assert read_field(tmp_path / "k.grdecl", "PERMZ").ravel().tolist() == [4, 4, 4, 4]


@pytest.mark.parametrize(
    "what",
    ["BOX\n1 1 1 1 1 1 /\n", "ENDBOX\n", "END\n", "ENDINC\n", "DIMENS\n1 1 1 /\n"],
)
def test_what_the_rest_of_a_deck_means_does_not_depend_on_the_simulator(what, tmp_path):
    (tmp_path / "k.grdecl").write_text(f"{DECK}SKIP100\n{what}ENDSKIP\n")
    with pytest.raises(
        InputError, match=rf"line 6: got {what.split()[0]} between SKIP100 and ENDSKIP"
    ):
        read_field(tmp_path / "k.grdecl", "PERMX")


@pytest.mark.parametrize(
    "end", ["/\nEND\n", "/\nENDINC\n", "/ \nSKIP\nENDSKIP\nEND\n", "\nEND\n", "/\n"]
)
def test_a_file_that_is_included_last_is_read(end, tmp_path):
    (tmp_path / "rest.inc").write_text(CHANGE)
    (tmp_path / "k.grdecl").write_text(
        f"{DECK}INCLUDE\n'rest.inc' {end}{CHANGE if 'END' in end else ''}"
    )
    np.testing.assert_array_equal(
        read_field(tmp_path / "k.grdecl", "PERMX").ravel(order="F"), [10, 20, 30, 40]
    )


@pytest.mark.parametrize("last", ["END", "ENDINC", ""])
def test_a_file_that_an_included_file_includes_last_is_read(last, tmp_path):
    (tmp_path / "rest.inc").write_text(CHANGE)
    (tmp_path / "some.inc").write_text(f"INCLUDE\n'rest.inc' /\n{last}\n")
    (tmp_path / "k.grdecl").write_text(f"{DECK}INCLUDE\n'some.inc' /\n{CHANGE}")
    factor = 10 if last == "END" else 100
    found = read_field(tmp_path / "k.grdecl", "PERMX").ravel(order="F")
    np.testing.assert_array_equal(found, factor * np.arange(1, 5))


def test_an_included_file_ends_at_endinc(tmp_path):
    (tmp_path / "rest.inc").write_text(f"{CHANGE}ENDINC\n{CHANGE}")
    (tmp_path / "k.grdecl").write_text(f"{DECK}INCLUDE\n'rest.inc' /\n{CHANGE}")
    np.testing.assert_array_equal(
        read_field(tmp_path / "k.grdecl", "PERMX").ravel(order="F"),
        [100, 200, 300, 400],
    )


@pytest.mark.parametrize("size", ["0 2 1", "-2 -2 1", "99999999 99999999 1"])
def test_a_size_that_is_none_is_refused(size, tmp_path):
    (tmp_path / "k.grdecl").write_text(DECK.replace("2 2 1 1 F", size))
    with pytest.raises(InputError, match="line 1"):
        read_field(tmp_path / "k.grdecl", "PERMX")


def test_missing_file_lists_the_folder(tmp_path):
    np.save(tmp_path / "here.npy", FIELD)
    with pytest.raises(InputError, match=r"there\.npy: got no such file.*here\.npy"):
        read_field(tmp_path / "there.npy")
    with pytest.raises(InputError, match="a folder"):
        read_field(tmp_path)


def test_unknown_extension_lists_the_known(tmp_path):
    (tmp_path / "k.xlsx").write_text("1")
    with pytest.raises(
        InputError, match=r"'\.xlsx'; allowed: \.npy, .*\.vti.*\.grdecl"
    ):
        read_field(tmp_path / "k.xlsx")


def test_keys(tmp_path):
    np.savez(tmp_path / "k.npz", kx=FIELD, ky=FIELD)
    with pytest.raises(InputError, match="got 'kz'; allowed: in the file: kx, ky"):
        read_field(tmp_path / "k.npz", "kz")
    with pytest.raises(
        InputError, match="got none; allowed: one of the 2 arrays in the file: kx, ky"
    ):
        read_field(tmp_path / "k.npz")
    np.savez(tmp_path / "one.npz", kx=FIELD)
    np.testing.assert_array_equal(read_field(tmp_path / "one.npz"), FIELD)


def test_not_a_number_counts_and_places(tmp_path):
    bad = FIELD.copy()
    bad[1, 0, 2], bad[1, 2, 3] = np.nan, np.inf
    np.save(tmp_path / "k.npy", bad)
    with pytest.raises(
        InputError, match=r"1 NaN and 1 infinite of 24 values, the first at \[1, 0, 2\]"
    ):
        read_field(tmp_path / "k.npy")
    with pytest.raises(
        InputError, match=r"1 infinite of 24 values, the first at \[1, 2, 3\]"
    ):
        read_field(tmp_path / "k.npy", allow_nan=True)
    bad[1, 2, 3] = 0
    np.save(tmp_path / "k.npy", bad)
    assert np.isnan(read_field(tmp_path / "k.npy", allow_nan=True)[1, 0, 2])


def test_shape(tmp_path):
    np.save(tmp_path / "k.npy", FIELD)
    with pytest.raises(
        InputError,
        match=r"shape \(2, 3, 4\), 24 values; allowed: shape \(2, 3, 5\), 30 values$",
    ):
        read_field(tmp_path / "k.npy", shape=(2, 3, 5))
    with pytest.raises(InputError, match="transposed"):
        read_field(tmp_path / "k.npy", shape=(4, 3, 2))
    np.save(tmp_path / "k.npy", FIELD[:, :1])
    np.testing.assert_array_equal(
        read_field(tmp_path / "k.npy", shape=(2, 4)), FIELD[:, 0]
    )


@pytest.mark.parametrize("name", ["k.npy", "k.npz", "k.mat", "k.vti", "k.vtk", "k.nii"])
def test_damaged_files_are_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x93NUMPY not at all")
    with pytest.raises(InputError, match=name):
        read_field(tmp_path / name)


def test_text_is_no_field(tmp_path):
    np.save(tmp_path / "k.npy", np.array(["a", "b"]))
    with pytest.raises(InputError, match="real numbers"):
        read_field(tmp_path / "k.npy")


def vti(array, appended="", encoding="raw", **attributes):
    extra = "".join(f' {k}="{v}"' for k, v in attributes.items())
    head = (
        '<?xml version="1.0"?><VTKFile type="ImageData" '
        f'byte_order="LittleEndian"{extra}><ImageData '
        'WholeExtent="0 3 0 2 0 0"><Piece Extent="0 3 0 2 0 '
        f'0"><CellData>{array}</CellData></Piece></ImageData>'
    )
    tail = (
        f'<AppendedData encoding="{encoding}">_{appended}</AppendedData>'
        if appended
        else ""
    )
    return (head + tail + "</VTKFile>").encode()


@pytest.mark.parametrize(
    "coding", ["ascii", "inline", "inline zlib", "appended base64 zlib"]
)
def test_encodings_of_vti(tmp_path, coding):
    values = np.arange(6.0, dtype="f4")
    raw, packed = (
        values.tobytes(),
        [zlib.compress(values.tobytes()[:16]), zlib.compress(values.tobytes()[16:])],
    )
    head = np.array([2, 16, 8, *map(len, packed)], "u4").tobytes()
    blocks = (base64.b64encode(head) + base64.b64encode(b"".join(packed))).decode()
    plain = base64.b64encode(np.array(24, "u4").tobytes() + raw).decode()
    name = 'DataArray type="Float32" Name="k"'
    contents = {
        "ascii": vti(f'<{name} format="ascii"> 0 1 2 3 4 5 </DataArray>'),
        "inline": vti(f'<{name} format="binary">{plain}</DataArray>'),
        "inline zlib": vti(
            f'<{name} format="binary">{blocks}</DataArray>',
            compressor="vtkZLibDataCompressor",
        ),
        "appended base64 zlib": vti(
            f'<{name} format="appended" offset="0"/>',
            blocks,
            "base64",
            compressor="vtkZLibDataCompressor",
        ),
    }
    (tmp_path / "k.vti").write_bytes(contents[coding])
    np.testing.assert_array_equal(
        read_field(tmp_path / "k.vti"), values.reshape(3, 2, order="F")
    )


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("kind", ["POINT_DATA", "CELL_DATA"])
def test_legacy_structured_points(tmp_path, binary, kind):
    shape = (3, 2, 2) if kind == "POINT_DATA" else (2, 1, 1)
    values = np.arange(np.prod(shape), dtype=">f4")
    data = (
        values.tobytes() + b"\n"
        if binary
        else (" ".join(str(v) for v in values) + "\n").encode()
    )
    head = (
        f"# vtk DataFile Version 3.0\nsomething\n{'BINARY' if binary else 'ASCII'}\nDATASET "
        "STRUCTURED_POINTS\n"
        f"DIMENSIONS 3 2 2\nORIGIN 0 0 0\nSPACING 1 1 1\n{kind} {values.size}\nSCALARS k float 1\n"
        "LOOKUP_TABLE default\n"
    )
    data += (
        b"METADATA\nINFORMATION 1\nNAME L2 LOCATION v\nDATA 1 3\n\nFIELD f 1\nn%20t 1 1 int\n"
        + (b"\0\0\0\7\n" if binary else b"7\n")
    )
    shapes = {"k": shape, "n t": (1,)}
    (tmp_path / "k.vtk").write_bytes(head.encode() + data)
    assert {
        n: read_field(tmp_path / "k.vtk", n).shape
        for n in list_fields(tmp_path / "k.vtk")
    } == shapes
    np.testing.assert_array_equal(
        read_field(tmp_path / "k.vtk", "k"), values.reshape(shape, order="F")
    )
    assert read_field(tmp_path / "k.vtk", "n t") == 7
    (tmp_path / "k.vtk").write_bytes(head.encode() + data[:3])
    with pytest.raises(InputError, match="cut short"):
        read_field(tmp_path / "k.vtk")


@pytest.mark.parametrize(
    ("kind", "values"),
    [("Int32", "0.5 1 2 3 4 5"), ("UInt8", "0 1 2 3 4 300"), ("UInt8", "0 1 2 3 4 -1")],
)
def test_numbers_that_are_not_of_the_type_that_a_file_names_are_refused(
    kind, values, tmp_path
):
    (tmp_path / "k.vti").write_bytes(
        vti(f'<DataArray type="{kind}" Name="k" format="ascii">{values}</DataArray>')
    )
    with pytest.raises(InputError, match=f"values that are no {kind.lower()}"):
        read_field(tmp_path / "k.vti")


def test_a_negative_number_of_components_is_refused(tmp_path):
    (tmp_path / "k.vtk").write_text(
        "# vtk DataFile Version 3.0\nx\nASCII\nDATASET STRUCTURED_POINTS\nDIMENSIONS 3 2 1\n"
        "CELL_DATA 2\nSCALARS k float -1\nLOOKUP_TABLE default\n1 2\n"
    )
    with pytest.raises(InputError, match="-2 values"):
        read_field(tmp_path / "k.vtk")


@pytest.mark.parallel([1, 2, 3])
def test_every_rank_gets_the_field_or_the_error(tmp_path):
    comm = MPI.COMM_WORLD
    folder = comm.bcast(tmp_path, root=0)
    if comm.rank == 0:
        np.save(folder / "k.npy", FIELD)
    np.testing.assert_array_equal(read_field(folder / "k.npy", comm=comm), FIELD)
    with pytest.raises(InputError, match="no such file"):
        read_field(folder / "none.npy", comm=comm)
