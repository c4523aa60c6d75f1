"""Text tables of any program give the same numbers, or an error that names file, line and word."""

import re

import numpy as np
import pytest

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
    "quoted decimal commas": ("a,b\n" + "".join(
        f'"{x:f}","{y:f}"\n'.replace(".", ",") for x, y in ROWS), {"decimal": ","}, ["a", "b"]),
    "tab": ("time\thead\n" + POINTS.replace(",", "\t"), {}, ["time", "head"]),
    "blanks": ("time head\n" + POINTS.replace(",", "   "), {}, ["time", "head"]),
    "bar": ("time|head\n" + POINTS.replace(",", " | "), {}, ["time", "head"]),
    "header in a %-comment": ("% time head\n" + POINTS.replace(",", " "), {}, ["time", "head"]),
    "header in a #-comment": ("# made by hand\n# time (min), head (m)\n" + POINTS.replace(",", " "), {},
                              ["time (min)", "head (m)"]),
    "header in a //-comment": ("// time,head\n" + POINTS, {}, ["time", "head"]),
    "comment that is no header": ("# written by a logger\n" + POINTS, {}, []),
    "units": ("time,head\n[d],[m]\n" + POINTS, {}, ["time", "head"]),
    "two rows of units": ("time,head\nd,m\n(days),(metres)\n" + POINTS, {}, ["time", "head"]),
    "skipped": ("A LOGGER, 2020-01-01\nserial 12\ntime,head\n" + POINTS, {"skip": 2}, ["time", "head"]),
    "names given": (POINTS, {"header": ["t", "u"]}, ["t", "u"]),
    "header that is given": ("1,2\n" + POINTS, {"header": True}, ["1", "2"]),
    "empty rows and words at the end": ("time,head,,\n" + POINTS.replace("\n", ",,\n") + ",,,\n\n", {}, ["time", "head"]),
    "quoted": ("\"time\",\"head\"\n" + "".join(f'"{x:f}","{y:f}"\n' for x, y in ROWS), {}, ["time", "head"]),
    "header of one word a column that needs quotes": ('"time, d","head, m"\n' + POINTS, {}, ["time, d", "head, m"]),
    "semicolon, points": (POINTS.replace(",", ";"), {}, []),
    "spreadsheet": ("sep=,\ntime,head\n" + POINTS, {}, ["time", "head"]),
    "line ends": (("time,head\n" + POINTS).replace("\n", "\r\n"), {}, ["time", "head"]),
    "typographic minus and Fortran exponents": ("t,h\n" + POINTS.replace("0.500000", "5D-1"), {}, ["t", "h"]),
}


@pytest.mark.parametrize("way", list(WAYS))
def test_ways_to_write_a_table(way, tmp_path):
    text, layout, names = WAYS[way]
    (tmp_path / "a.csv").write_text(text, newline="")
    table = read_table(tmp_path / "a.csv", Layout(**layout))
    assert table.names == names
    found = np.column_stack([table.numbers(0), table.numbers(1)])
    np.testing.assert_array_equal(found, ROWS)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "utf-32"])
def test_encodings(encoding, tmp_path):
    (tmp_path / "a.csv").write_bytes(("time,head (\xb5m)\n" + POINTS).encode(encoding))
    table = read_table(tmp_path / "a.csv")
    assert table.names == ["time", "head (\xb5m)"]
    np.testing.assert_array_equal(table.numbers(1), [y for _, y in ROWS])
    if encoding in ("latin-1", "utf-16-le"):
        assert read_table(tmp_path / "a.csv", Layout(encoding=encoding)).names == table.names


def test_missing_values(tmp_path):
    (tmp_path / "a.csv").write_text("t,v,w\n0,,NaN\n1,NA,-9999\n2,3,bdl\n")
    table = read_table(tmp_path / "a.csv", Layout(missing=[-9999, "bdl"]))
    np.testing.assert_array_equal(table.numbers(1), [np.nan, np.nan, 3])
    assert np.isnan(table.numbers(2)).all()
    (tmp_path / "a.csv").write_text("t,v\n0,-9999\n1,0.5\n")
    assert read_table(tmp_path / "a.csv", Layout(missing=[])).numbers(1)[0] == -9999
    (tmp_path / "a.csv").write_text("t,v\n0,-9999\n1,-8000\n")
    assert read_table(tmp_path / "a.csv").numbers(1)[0] == -9999


WRONG = {
    "censored": ("t,v\n1,0.5\n2,<0.3\n", {}, r"a\.csv, line 3: got '<0.3'"),
    "not determined": ("t,v\n1,0.5\n2,n.d.\n", {}, r"line 3: got 'n\.d\.'"),
    "date": ("t,v\n1,0.5\n2,2020-01-01\n", {}, r"line 3: got '2020-01-01'"),
    "date in the first row": ("2020-01-01,0.5\n2020-01-02,0.6\n3,0.1\n", {}, r"line 1: got '2020-01-01'"),
    "censored first row": ("<0.3\n0.5\n0.6\n", {}, r"line 1: got '<0.3'"),
    "censored row below the header": ("t,v\nn.d.,<0.3\n1,0.5\n", {}, r"line 2: got '(n\.d\.|<0\.3)'"),
    "infinite": ("t,v\n1,inf\n2,0.5\n", {}, r"line 2: got 'inf'"),
    "too large": ("t,v\n1,1e400\n2,0.5\n", {}, r"line 2: got '1e400'"),
    "underscores": ("t,v\n1,1_000\n2,0.5\n", {}, r"line 2: got '1_000'"),
    "ragged": ("t,v\n1,0.5\n2,0.5,ok\n", {}, r"line 3: got 3 words.*allowed: 2"),
    "short row": ("t,v\n1,0.5\n2\n", {}, r"line 3: got 1 words.*allowed: 2"),
    "-9999 among heights": ("t,v\n1,1500\n2,-9999\n", {}, r"line 3: got '-9999'.*missing"),
    "-9999": ("t,v\n1,0.5\n2,-9999\n", {}, r"line 3: got '-9999'.*missing"),
    "-999.25": ("t,v\n1,0.5\n2,-999.25\n", {}, r"line 3: got '-999.25'.*missing"),
    "1e30": ("t,v\n1,0.5\n2,1e30\n", {}, r"line 3: got '1e30'.*missing"),
    "mixed decimals": ("t;v\n1,5;0.5\n2;0.5\n", {}, r"line 2: got '1,5'.*decimal = ','"),
    "commas of two meanings": ("0,5\n0,7\n", {}, r"delimiter of .*a\.csv"),
    "thousands": ('a,b\n"1,234",5\n"2,345",6\n', {}, r"decimal of .*a\.csv: got '1,234'"),
    "no rows": ("\n# t\n", {}, "no rows"),
    "header alone": ("time,head\n", {}, "without rows|no rows|'time'"),
    "binary": (b"\x00\x01\x02" * 30, {}, r"a\.csv: got bytes"),
    "wrong encoding": ("t,v\xb5\n1,2.5\n".encode("latin-1"), {"encoding": "utf-8"}, r"encoding of .*a\.csv"),
    "unknown encoding": ("t,v\n1,2.5\n", {"encoding": "utf-99"}, r"encoding of .*a\.csv"),
    "wrong delimiter": ("t,v\n1,2.5\n", {"delimiter": "x"}, "delimiter of"),
}


@pytest.mark.parametrize("what", list(WRONG))
def test_what_is_wrong_is_named(what, tmp_path):
    content, layout, message = WRONG[what]
    (tmp_path / "a.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
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
