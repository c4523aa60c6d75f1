"""What a case may hold at all: every wrong file, number, count and nesting is one InputError with
the place and the limit."""

import pytest

from npde_opt import capacity
from npde_opt.cases import check_main
from npde_opt.errors import InputError

STEADY = """
[grid]
shape = [8, 8]
[boundaries]
"x-" = "dirichlet"
[[unknown]]
name = "D"
initial = 1.0
truth = 2.0
[[experiment]]
boundary = { "x-" = 1.0 }
[[observation]]
random = 10
[simulation]
refine = 2
"""
EVOLUTION = """
[grid]
shape = [8]
[equation]
terms = [{ diffusion = "k" }]
[time]
times = { end = 1.0, steps = 2 }
[[unknown]]
name = "k"
kind = "scalar"
initial = 1.0
truth = 1.0
[[experiment]]
initial = { u = "x" }
[[observation]]
times = [1.0]
"""
NUMBERS = {
    "nan": (
        ("initial = 1.0", "initial = nan"),
        r"unknown\[0\].initial: got nan; allowed: a finite number",
    ),
    "inf": (
        ("random = 10", "random = 10\nnoise = inf"),
        r"observation\[0\].noise: got inf",
    ),
    "too large": (
        ('"x-" = 1.0', '"x-" = 1e300'),
        r"experiment\[0\].boundary.x-: got 1e\+300; allowed: a number of at most 1e\+100 in size",
    ),
    "a date": (
        ("random = 10", "random = 1979-05-27"),
        r"observation\[0\].random: got 1979-05-27 .a date",
    ),
    "65 bits": (
        ("random = 10", "random = 18446744073709551616"),
        r"observation\[0\].random: got an integer of 65 bits",
    ),
    "5000 digits": (
        ("random = 10", "random = " + "9" * 5000),
        "random: got an integer of 5,000 digits",
    ),
    "nesting": (("random = 10", "random = " + "[" * 900 + "]" * 900), "deep"),
}
COUNTS = {
    "points": (
        ("random = 10", "random = 100000000000"),
        r"observation\[0\].random: got 100,000,000,000 points, at least .* GB",
    ),
    "cells": (("[8, 8]", "[16000, 16000]"), "grid.shape: got 256,000,000 cells"),
    "refine": (("refine = 2", "refine = 1000000"), "cells|indices"),
    "regions": (
        ("truth = 2.0", "truth = 2.0\nregions = 1000000000"),
        "region 1,000,000,000",
    ),
    "half a region": (
        ("truth = 2.0", "truth = 2.0\nregions = 0.5"),
        "got 0.5; allowed: integers",
    ),
}
NAMES = {
    "list of names": (
        ('name = "D"', 'name = ["D"]'),
        r"unknown\[0\].name: got \['D'\]; allowed: a text",
    ),
    "two of a name": (
        ("[[experiment]]", '[[unknown]]\nname = "D"\ninitial = 1.0\n[[experiment]]'),
        "a name of its own",
    ),
    "a long name": (
        ("truth = 2.0", f"truth = {{ file = '{'x' * 3000}' }}"),
        "3,000 characters",
    ),
    "a pattern": (("truth = 2.0", "truth = { file = '*.npy' }"), "an existing file"),
    "a device": (("truth = 2.0", "truth = { file = '/dev/zero' }"), "truth"),
}
OF_TIME = {
    "path as a name": (
        ('name = "k"', 'name = "../k"'),
        r"unknown\[0\].name: got '../k'; allowed: a name",
    ),
    "steps": (
        ("steps = 2", "steps = 1000000000000"),
        "time.times.steps: got 1,000,000,000,000 steps",
    ),
    "doubling": (
        ("steps = 2", "first = 1e-9, repeats = 1000000000000"),
        "time.times: got .* steps",
    ),
    "times": (
        ("times = [1.0]", "times = { start = 0.0, end = 1.0, count = 1000000000000 }"),
        "times.count: got 1,000,",
    ),
    "count": (
        ("times = [1.0]", "times = { start = 0.0, end = 1.0, count = 'x' }"),
        r"observation\[0\].times.count: got 'x'; allowed: an integer >= 1",
    ),
    "history": (
        ('kind = "scalar"', 'kind = "history"\nlength = 100000000000'),
        "unknown.k.length: got 100,000,000,000 values",
    ),
    "variables": (
        ("[grid]", "variables = 3\n[grid]"),
        "variables: got 3; allowed: a table",
    ),
    "variable": (("[grid]", "[variables.q]\na = 1\n[grid]"), "variables.q"),
    "memory": (("steps = 2 }", "steps = 2 }\nmemory = 'nanGB'"), "memory: got nanGB"),
    "a text of code": (('"x"', '"__import__(1)"'), "__import__"),
}
WRONG = {what: (STEADY, *wrong) for what, wrong in (NUMBERS | COUNTS | NAMES).items()}
WRONG |= {what: (EVOLUTION, *wrong) for what, wrong in OF_TIME.items()}


@pytest.mark.parametrize("what", list(WRONG))
def test_one_line_names_what_is_wrong(what, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(capacity, "memory_available", lambda: 8e9)
    text, (old, new), message = WRONG[what]
    assert old in text
    (tmp_path / "case.toml").write_text(text.replace(old, new, 1))
    assert check_main([str(tmp_path / "case.toml"), "--data", str(tmp_path)]) == 2
    said = capsys.readouterr().out.splitlines()
    assert all(line.startswith("error: ") for line in said)
    with pytest.raises(InputError, match=message):
        raise InputError("", "", said[0])


@pytest.mark.parametrize("text", [STEADY, EVOLUTION])
def test_what_is_changed_there_is_well_formed(text, tmp_path, capsys):
    (tmp_path / "case.toml").write_text(text)
    assert check_main([str(tmp_path / "case.toml")]) == 0
    assert "is well formed" in capsys.readouterr().out
