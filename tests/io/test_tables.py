"""Text tables of any program give the same numbers, or an error that names file, line and word."""

import csv
import re

import numpy as np
import pytest
from written_tables import POINTS, ROWS, WAYS, WRONG

from npde_opt.cases.sources import Sources
from npde_opt.cases.tables import read_values
from npde_opt.errors import InputError
from npde_opt.io.tables import Layout, read_table


@pytest.mark.parametrize("way", list(WAYS))
def test_ways_to_write_a_table(way, tmp_path):
    text, layout, names = WAYS[way]
    (tmp_path / "a.csv").write_text(text, newline="")
    table = read_table(tmp_path / "a.csv", Layout(**layout))
    assert table.names == names
    found = np.column_stack([table.numbers(0), table.numbers(1)])
    np.testing.assert_array_equal(found, ROWS)


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "utf-32"],
)
def test_encodings(encoding, tmp_path):
    (tmp_path / "a.csv").write_bytes(("time,head (\xb5m)\n" + POINTS).encode(encoding))
    table = read_table(tmp_path / "a.csv")
    assert table.names == ["time", "head (\xb5m)"]
    np.testing.assert_array_equal(table.numbers(1), [y for _, y in ROWS])
    if encoding in ("latin-1", "utf-16-le"):
        assert (
            read_table(tmp_path / "a.csv", Layout(encoding=encoding)).names
            == table.names
        )


def test_missing_values(tmp_path):
    (tmp_path / "a.csv").write_text("t,v,w\n0,,NaN\n1,NA,-9999\n2,3,bdl\n")
    table = read_table(tmp_path / "a.csv", Layout(missing=[-9999, "bdl"]))
    np.testing.assert_array_equal(table.numbers(1), [np.nan, np.nan, 3])
    assert np.isnan(table.numbers(2)).all()
    (tmp_path / "a.csv").write_text("t,v\n0,-9999\n1,0.5\n")
    assert read_table(tmp_path / "a.csv", Layout(missing=[])).numbers(1)[0] == -9999
    (tmp_path / "a.csv").write_text("t,v\n0,-9999\n1,-8000\n")
    assert read_table(tmp_path / "a.csv").numbers(1)[0] == -9999


def test_whole_numbers_between_commas_and_blanks_have_no_decimal_commas(tmp_path):
    (tmp_path / "a.csv").write_text("0 ,1 ,2\n1 ,2 ,3\n")
    assert read_table(tmp_path / "a.csv").numbers(1).tolist() == [1, 2]
    (tmp_path / "a.csv").write_text("0, 1.5\n1, 2.5\n")
    assert read_table(tmp_path / "a.csv").numbers(1).tolist() == [1.5, 2.5]


@pytest.mark.parametrize("code", ["-9999", -9999, "-9999.000", "-9999,0"])
def test_a_code_that_is_a_number_is_found_however_it_is_written(code, tmp_path):
    (tmp_path / "a.csv").write_text("t,v\n0,-9999.0\n1,-9999\n2,0.5\n")
    values = read_table(tmp_path / "a.csv", Layout(missing=[code])).numbers(1)
    np.testing.assert_array_equal(values, [np.nan, np.nan, 0.5])


def test_errors_of_spreadsheets_are_words_also_in_the_first_column(tmp_path):
    (tmp_path / "a.csv").write_text("v,t\n#N/A,0\n0.5,1\n")
    table = read_table(tmp_path / "a.csv", Layout(missing=["#N/A"]))
    np.testing.assert_array_equal(table.numbers(0), [np.nan, 0.5])
    with pytest.raises(InputError, match="line 2: got '#N/A'"):
        read_table(tmp_path / "a.csv").numbers(0)


def test_codes_of_single_precision_arrays(tmp_path):
    sources = Sources(tmp_path, None, (None, 0))
    for code in (-9999.9, 1e20):
        np.save(tmp_path / "a.npy", np.array([0.5, code], np.float32))
        found = read_values("data", {"file": "a.npy", "missing": [code]}, sources)
        np.testing.assert_array_equal(found, [0.5, np.nan])
        for undeclared in ({}, {"missing": ["-1"]}):
            with pytest.raises(InputError, match="declare it by missing"):
                read_values("data", {"file": "a.npy"} | undeclared, sources)
        assert read_values("data", {"file": "a.npy", "missing": []}, sources)[
            1
        ] == np.float32(code)


@pytest.mark.parametrize(
    ("kind", "value", "code"),
    [
        ("f8", 1000.0005, 1000.0),
        ("f4", 1000.0005, 1000.0),
        ("f8", -87.30000305175781, -87.3),
        ("i8", 1000001, 1000000),
        ("f8", 3.0, np.inf),
        ("f4", 3.0, -np.inf),
        ("f8", 3.0, np.nan),
        ("f4", 3.0, 1e300),
        ("u1", 1, 0.9999999),
    ],
)
def test_a_code_is_no_value_near_it(kind, value, code, tmp_path):
    """Also where it is not finite, or is not in single precision."""
    sources = Sources(tmp_path, None, (None, 0))
    np.save(tmp_path / "a.npy", np.array([2, value], kind))
    found = read_values("data", {"file": "a.npy", "missing": [code, -5]}, sources)
    np.testing.assert_array_equal(found, np.array([2, value], kind))


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("f8", -9999.9),
        ("f4", -9999.9),
        ("f2", -99.9),
        (">f4", 1e20),
        ("i4", -9999),
        ("u1", 255),
        ("f4", 16777217),
        ("f8", 0.0),
    ],
)
def test_a_code_is_found_in_the_precision_of_the_file(kind, code, tmp_path):
    sources = Sources(tmp_path, None, (None, 0))
    np.save(tmp_path / "a.npy", np.array([2, code], float).astype(kind))
    found = read_values("data", {"file": "a.npy", "missing": code}, sources)
    np.testing.assert_array_equal(found, [2, np.nan])


@pytest.mark.parametrize(("slope", "raw"), [(0.1, -99), (0.001, -9999), (1 / 3, 32766)])
def test_a_code_is_found_among_integers_that_a_file_scales(slope, raw, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    nibabel.save(
        nibabel.Nifti1Image(np.array([[[raw, 1, raw + 1]]], "i2"), np.eye(4)),
        tmp_path / "a.nii",
    )
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[112:116] = np.array(slope, "<f4").tobytes()  # scl_slope
    (tmp_path / "a.nii").write_bytes(bytes(content))
    sources = Sources(tmp_path, None, (None, 0))
    found = read_values("data", {"file": "a.nii", "missing": raw * slope}, sources)
    np.testing.assert_allclose(
        found.ravel(), [np.nan, slope, (raw + 1) * slope], rtol=1e-6
    )


def test_the_limit_of_the_csv_module_is_left_as_it_was(tmp_path):
    before = csv.field_size_limit(1000)
    try:
        (tmp_path / "a.csv").write_text("t,v\n1,0.5\n2," + "0" * 5000 + "7\n")
        assert read_table(tmp_path / "a.csv").numbers(1).tolist() == [0.5, 7.0]
        (tmp_path / "a.csv").write_text("")
        with pytest.raises(InputError, match="no rows"):
            read_table(tmp_path / "a.csv")
        assert csv.field_size_limit() == 1000
    finally:
        csv.field_size_limit(before)


def test_units_of_columns(tmp_path):
    (tmp_path / "a.csv").write_text(
        "x [mm],y (m),t,k [1] (log)\n,d,[s],\n,(days),,\n0,1,2,3\n"
    )
    table = read_table(tmp_path / "a.csv")
    said = [[unit for unit in table.units(column) if unit] for column in range(4)]
    assert said == [["mm"], ["m", "d", "days"], ["s"], ["1", "log"]]
    assert (
        read_table(tmp_path / "a.csv", Layout(header=["x", "y", "t", "k"])).units(1)
        == []
    )


@pytest.mark.parametrize("what", list(WRONG))
def test_what_is_wrong_is_named(what, tmp_path):
    content, layout, message = WRONG[what]
    (tmp_path / "a.csv").write_bytes(
        content if isinstance(content, bytes) else content.encode()
    )
    with pytest.raises(InputError) as error:
        table = read_table(tmp_path / "a.csv", Layout(**layout))
        for column in (0, len(table.rows[0]) - 1):
            table.numbers(column)
    assert re.search(message, str(error.value)), str(error.value)


def test_columns(tmp_path):
    (tmp_path / "a.csv").write_text("well,t,h,h\nA,0,1,2\nB,1,3,4\n")
    table = read_table(tmp_path / "a.csv")
    assert table.numbers(table.index("data", "t")).tolist() == [0, 1]
    with pytest.raises(InputError, match=r"'h', the name of 2 columns.*2, 3"):
        table.index("data", "h")
    with pytest.raises(InputError, match="got 'u'; allowed: well, t, h, h"):
        table.index("data", "u")
    for column in (4, -1, True):
        with pytest.raises(InputError, match="allowed: well"):
            table.index("data", column)
    with pytest.raises(InputError, match="line 2: got 'A'"):
        table.numbers(0)
