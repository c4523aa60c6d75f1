"""Text tables of any program give the same numbers, or an error that names file, line and word."""

import csv
import re

import numpy as np
import pytest

from npde_opt.cases.sources import Sources
from npde_opt.cases.tables import read_values
from npde_opt.errors import InputError
from npde_opt.io.tables import Layout, read_table

ROWS = [(0.5, 0.781344), (1.0, 0.610498), (1.5, 0.477009)]
POINTS = "0.500000,0.781344\n1.000000,0.610498\n1.500000,0.477009\n"
COMMAS = POINTS.replace(",", ";").replace(".", ",")

WAYS = {
    "comma": ("time,head\n" + POINTS, {}, ["time", "head"]),
    "no header": (POINTS, {}, []),
    "semicolon, decimal comma": ("time;head\n" + COMMAS, {}, ["time", "head"]),
    "semicolon, decimal comma, no header": (COMMAS, {}, []),
    "tab, decimal comma": (COMMAS.replace(";", "\t"), {}, []),
    "blanks, decimal comma": (COMMAS.replace(";", "  "), {}, []),
    "quoted decimal commas": (
        "a,b\n" + "".join(f'"{x:f}","{y:f}"\n'.replace(".", ",") for x, y in ROWS),
        {"decimal": ","},
        ["a", "b"],
    ),
    "tab": ("time\thead\n" + POINTS.replace(",", "\t"), {}, ["time", "head"]),
    "blanks": ("time head\n" + POINTS.replace(",", "   "), {}, ["time", "head"]),
    "bar": ("time|head\n" + POINTS.replace(",", " | "), {}, ["time", "head"]),
    "header in a %-comment": (
        "% time head\n" + POINTS.replace(",", " "),
        {},
        ["time", "head"],
    ),
    "header in a #-comment": (
        "# made by hand\n# time (min), head (m)\n" + POINTS.replace(",", " "),
        {},
        ["time (min)", "head (m)"],
    ),
    "header in a //-comment": ("// time,head\n" + POINTS, {}, ["time", "head"]),
    "comment that is no header": ("# written by a logger\n" + POINTS, {}, []),
    "units": ("time,head\n[d],[m]\n" + POINTS, {}, ["time", "head"]),
    "two rows of units": (
        "time,head\nd,m\n(days),(metres)\n" + POINTS,
        {},
        ["time", "head"],
    ),
    "skipped": (
        "A LOGGER, 2020-01-01\nserial 12\ntime,head\n" + POINTS,
        {"skip": 2},
        ["time", "head"],
    ),
    "names given": (POINTS, {"header": ["t", "u"]}, ["t", "u"]),
    "header that is given": ("1,2\n" + POINTS, {"header": True}, ["1", "2"]),
    "empty rows and words at the end": (
        "time,head,,\n" + POINTS.replace("\n", ",,\n") + ",,,\n\n",
        {},
        ["time", "head"],
    ),
    "quoted": (
        '"time","head"\n' + "".join(f'"{x:f}","{y:f}"\n' for x, y in ROWS),
        {},
        ["time", "head"],
    ),
    "header of one word a column that needs quotes": (
        '"time, d","head, m"\n' + POINTS,
        {},
        ["time, d", "head, m"],
    ),
    "semicolon, points": (POINTS.replace(",", ";"), {}, []),
    "spreadsheet": ("sep=,\ntime,head\n" + POINTS, {}, ["time", "head"]),
    "line ends": (("time,head\n" + POINTS).replace("\n", "\r\n"), {}, ["time", "head"]),
    "comma and blank": (
        "time, head\n" + POINTS.replace(",", ", "),
        {},
        ["time", "head"],
    ),
    "comma and tab": (POINTS.replace(",", ",\t"), {}, []),
    "blank and comma": (POINTS.replace(",", " ,"), {}, []),
    "typographic minus and Fortran exponents": (
        "t,h\n" + POINTS.replace("0.500000", "5D-1"),
        {},
        ["t", "h"],
    ),
}


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


WRONG = {
    "undeclared beside declared": (
        "t,v\n1,ND\n2,-9999\n3,0.5\n",
        {"missing": ["ND"]},
        "line 3: got '-9999'",
    ),
    "-999999": ("t,v\n1,0.5\n2,-999999\n", {}, r"line 3: got '-999999'.*missing"),
    "-99": ("t,v\n1,0.5\n2,-99\n", {}, r"line 3: got '-99'.*missing"),
    "-32768": ("t,v\n1,0.5\n2,-32768\n", {}, r"line 3: got '-32768'.*missing"),
    "thousands between tabs": (
        "a\tb\n1,234\t5\n2,345\t6\n",
        {},
        r"decimal of .*a\.csv: got '1,234'",
    ),
    "numbers of columns": (
        ",0,1\n0,0.5,0.6\n1,0.7,0.8\n",
        {},
        "line 1: got 0 1 beside an empty word",
    ),
    "a codec that is none": (
        "t,v\n1,2.5\n",
        {"encoding": "undefined"},
        r"encoding of .*a\.csv",
    ),
    "an encoding with a null": (
        "t,v\n1,2.5\n",
        {"encoding": "a\0b"},
        r"encoding of .*a\.csv",
    ),
    "a very long word": (
        't,v\n1,0.5\n2,"' + "a" * 140_000 + '"\n',
        {},
        r"line 3: got 'a{60}'... \(140,000",
    ),
    "censored": ("t,v\n1,0.5\n2,<0.3\n", {}, r"a\.csv, line 3: got '<0.3'"),
    "not determined": ("t,v\n1,0.5\n2,n.d.\n", {}, r"line 3: got 'n\.d\.'"),
    "date": ("t,v\n1,0.5\n2,2020-01-01\n", {}, r"line 3: got '2020-01-01'"),
    "date in the first row": (
        "2020-01-01,0.5\n2020-01-02,0.6\n3,0.1\n",
        {},
        r"line 1: got '2020-01-01'",
    ),
    "censored first row": ("<0.3\n0.5\n0.6\n", {}, r"line 1: got '<0.3'"),
    "censored row below the header": (
        "t,v\nn.d.,<0.3\n1,0.5\n",
        {},
        r"line 2: got '(n\.d\.|<0\.3)'",
    ),
    "infinite": ("t,v\n1,inf\n2,0.5\n", {}, r"line 2: got 'inf'"),
    "too large": ("t,v\n1,1e400\n2,0.5\n", {}, r"line 2: got '1e400'"),
    "underscores": ("t,v\n1,1_000\n2,0.5\n", {}, r"line 2: got '1_000'"),
    "ragged": ("t,v\n1,0.5\n2,0.5,ok\n", {}, r"line 3: got 3 words.*allowed: 2"),
    "short row": ("t,v\n1,0.5\n2\n", {}, r"line 3: got 1 words.*allowed: 2"),
    "-9999 among heights": (
        "t,v\n1,1500\n2,-9999\n",
        {},
        r"line 3: got '-9999'.*missing",
    ),
    "-9999": ("t,v\n1,0.5\n2,-9999\n", {}, r"line 3: got '-9999'.*missing"),
    "-999.25": ("t,v\n1,0.5\n2,-999.25\n", {}, r"line 3: got '-999.25'.*missing"),
    "1e30": ("t,v\n1,0.5\n2,1e30\n", {}, r"line 3: got '1e30'.*missing"),
    "mixed decimals": (
        "t;v\n1,5;0.5\n2;0.5\n",
        {},
        r"line 2: got '1,5'.*decimal = ','",
    ),
    "commas of two meanings": ("0,5\n0,7\n", {}, r"delimiter of .*a\.csv"),
    "thousands": (
        'a,b\n"1,234",5\n"2,345",6\n',
        {},
        r"decimal of .*a\.csv: got '1,234'",
    ),
    "no rows": ("\n# t\n", {}, "no rows"),
    "header alone": ("time,head\n", {}, "without rows|no rows|'time'"),
    "binary": (b"\x00\x01\x02" * 30, {}, r"a\.csv: got bytes"),
    "wrong encoding": (
        "t,v\xb5\n1,2.5\n".encode("latin-1"),
        {"encoding": "utf-8"},
        r"encoding of .*a\.csv",
    ),
    "unknown encoding": (
        "t,v\n1,2.5\n",
        {"encoding": "utf-99"},
        r"encoding of .*a\.csv",
    ),
    "wrong delimiter": ("t,v\n1,2.5\n", {"delimiter": "x"}, "delimiter of"),
}


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
