"""Columns of large tables, read some rows at a time, are those of tables that are read as a whole,
or it is left to these."""

import tracemalloc

import numpy as np
import pytest
from written_tables import WAYS, WRONG

from npde_opt.cases import tables
from npde_opt.cases.sources import Sources
from npde_opt.cases.tables import read_values
from npde_opt.errors import InputError
from npde_opt.io import streamed
from npde_opt.io.streamed import Chosen, Odd
from npde_opt.io.tables import Layout, read_table


@pytest.fixture
def few(monkeypatch):
    """All tables are large, beside what is held."""
    monkeypatch.setattr(streamed, "LARGE", 0)
    monkeypatch.setattr(streamed, "HEAD", 5)
    monkeypatch.setattr(streamed, "SLAB", 2)


def found(path, layout):
    """The numbers of the first and last column, None where it is left to others."""
    try:
        return streamed.columns(path, layout, lambda t: Chosen([0, t.width - 1]))
    except Odd:
        return None


def test_ways_to_write_a_table(few, tmp_path):
    """Most are read so."""
    taken = 0
    for text, layout, names in WAYS.values():
        path, given = tmp_path / "a.csv", Layout(**layout)
        path.write_text(text, newline="")
        values, table = found(path, given), read_table(path, given)
        if values is None:
            continue
        taken += 1
        assert streamed.head(path, given).names == names
        np.testing.assert_array_equal(values[:, 0], table.numbers(0))
        np.testing.assert_array_equal(values[:, 1], table.numbers(table.width - 1))
    assert taken >= 18


def test_what_is_wrong_is_left_to_others(few, tmp_path):
    for content, layout, _ in WRONG.values():
        path, given = tmp_path / "a.csv", Layout(**layout)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        assert found(path, given) is None


def lines(rng):
    """A table of some kind, perhaps with a row far down that is not like the others."""
    delimiter = rng.choice([",", ";", "\t", "|", " "])
    comma, width = rng.random() < 0.3 and delimiter != ",", rng.integers(1, 4)
    whole, blanks = rng.random() < 0.2, rng.random() < 0.2

    def word():
        value = rng.integers(-50, 9999) if whole else rng.normal()
        text = f"{value:.6g}" if rng.random() < 0.98 else rng.choice(["NaN", "", "NA"])
        return text.replace(".", ",") if comma else text

    def row(words):
        return (delimiter + " " * blanks).join(words)

    rows = [row([word() for _ in range(width)]) for _ in range(rng.integers(4, 14))]
    if rng.random() < 0.7:
        names = [f"h{d} [m]"[: int(rng.choice([2, 6]))] for d in range(width)]
        names[0] = rng.choice([names[0], "3", '"h, 0"', "", "n.a"])
        rows.insert(0, row(names))
        if rng.random() < 0.2:
            rows.insert(1, row(["m"] * width))
    if rng.random() < 0.3:
        rows.insert(0, rng.choice(["# made by hand", "% a b", "# x,y"]))
    late = ["1,5;2", "0.5", '"0,5"', "-9999", "1e999", "a", "1,2,3", "# 1", "", "0,5"]
    if rng.random() < 0.6:
        odd = [str(rng.choice(late)) for _ in range(rng.integers(1, width + 1))]
        rows.append(row(odd))
    return rows


def read(path, spec):
    """The values, or what is said."""
    sources = Sources(path.parent, None, (None, 0))
    try:
        return read_values("data", {"file": path.name, **spec}, sources)
    except InputError as error:
        return str(error)


def test_random_tables_are_read_as_by_the_whole(few, monkeypatch, tmp_path):
    """The same numbers, and the same errors."""
    path, read_so = tmp_path / "a.csv", 0
    for seed in range(800):
        rng = np.random.default_rng(seed)
        path.write_text("\n".join(lines(rng)), newline="")
        spec = {"column": [0]} if rng.random() < 0.6 else {"column": 0}
        spec |= rng.choice(
            [{}, {"where": {0: [-1, 1e4]}}, {"missing": [-9999]}, {"header": False}]
        )
        layout = tables._layout(spec)
        read_so += found(path, layout) is not None
        by_slabs = read(path, spec)
        with monkeypatch.context() as whole:
            whole.setattr(streamed, "LARGE", 1 << 60)
            expected = read(path, spec)
        if isinstance(expected, str):
            assert by_slabs == expected, (seed, path.read_text())
        else:
            np.testing.assert_array_equal(by_slabs, expected, err_msg=path.read_text())
    assert read_so > 150


def test_memory_does_not_grow_with_the_table(monkeypatch, tmp_path):
    """Beside the rows of a slab: neither in words nor in numbers."""
    monkeypatch.setattr(streamed, "SLAB", 2_000)
    monkeypatch.setattr(streamed, "LARGE", 0)
    rows = 60_000
    values = np.random.default_rng(0).normal(size=(rows, 3))
    np.savetxt(tmp_path / "a.csv", values, "%.17g", ",", header="x,y,h", comments="")
    spec = {"column": [0, 2], "scale": 2.0}
    tracemalloc.start()
    try:
        found = read(tmp_path / "a.csv", spec)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(found, 2.0 * values[:, [0, 2]])
    assert peak < 5e6  # read as a whole: 39 MB
