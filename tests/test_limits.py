"""What a case may hold at all: every wrong file, number, count and nesting is one InputError with the place and the limit."""

import os

import pytest

from npde_opt import capacity
from npde_opt.cases import check_main, load_case
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
[experiments]
boundary = [{ "x-" = 1.0 }]
[observations]
random = 10
"""
EVOLUTION = """
[grid]
shape = [8]
[evolution]
terms = [{ diffusion = "k" }]
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
WRONG = {
    "nan": (STEADY, "initial = 1.0", "initial = nan", r"unknown\[0\].initial: got nan; allowed: a finite number"),
    "inf": (STEADY, "random = 10", "random = 10\nnoise = inf", "observations.noise: got inf"),
    "a date": (STEADY, "random = 10", "random = 1979-05-27", "observations.random: got 1979-05-27 .a date"),
    "65 bits": (STEADY, "random = 10", "random = 18446744073709551616", "observations.random: got an integer of 65 bits"),
    "5000 digits": (STEADY, "random = 10", "random = " + "9" * 5000, "random: got an integer of 5,000 digits"),
    "nesting": (STEADY, "random = 10", "random = " + "[" * 900 + "]" * 900, "deep"),
    "points": (STEADY, "random = 10", "random = 100000000000",
               r"observations.random: got 100,000,000,000 points, at least .* GB"),
    "cells": (STEADY, "[8, 8]", "[16000, 16000]", "grid.shape: got 256,000,000 cells"),
    "refine": (STEADY, "random = 10", "random = 10\nrefine = 1000000", "cells|indices"),
    "list of names": (STEADY, 'name = "D"', 'name = ["D"]', r"unknown\[0\].name: got \['D'\]; allowed: a text"),
    "path as a name": (EVOLUTION, 'name = "k"', 'name = "../k"', r"unknown\[0\].name: got '../k'; allowed: a name"),
    "two of a name": (STEADY, "[experiments]", '[[unknown]]\nname = "D"\ninitial = 1.0\n[experiments]', "a name of its own"),
    "steps": (EVOLUTION, "steps = 2", "steps = 1000000000000", "evolution.times.steps: got 1,000,000,000,000 steps"),
    "doubling": (EVOLUTION, "steps = 2", "first = 1e-9, repeats = 1000000000000", "evolution.times: got .* steps"),
    "times": (EVOLUTION, "times = [1.0]", "times = { start = 0.0, end = 1.0, count = 1000000000000 }", "times.count: got 1,000,"),
    "count": (EVOLUTION, "times = [1.0]", "times = { start = 0.0, end = 1.0, count = 'x' }",
              r"observation\[0\].times.count: got 'x'; allowed: an integer >= 1"),
    "history": (EVOLUTION, 'kind = "scalar"', 'kind = "history"\nlength = 100000000000', "unknown"),
    "variables": (EVOLUTION, "[grid]", "variables = 3\n[grid]", "variables: got 3; allowed: a table"),
    "variable": (EVOLUTION, "[grid]", "[variables]\nq = [1]\n[grid]", "variables.q"),
    "memory": (EVOLUTION, "steps = 2 }", "steps = 2 }\nmemory = 'nanGB'", "memory: got nanGB"),
    "a text of code": (EVOLUTION, '"x"', '"__import__(1)"', "__import__"),
    "regions": (STEADY, "truth = 2.0", "truth = 2.0\nregions = 1000000000", "region 1,000,000,000"),
    "half a region": (STEADY, "truth = 2.0", "truth = 2.0\nregions = 0.5", "got 0.5; allowed: integers"),
    "a long name": (STEADY, "truth = 2.0", f"truth = {{ file = '{'x' * 3000}' }}", "3,000 characters"),
    "a pattern": (STEADY, "truth = 2.0", "truth = { file = '*.npy' }", "an existing file"),
    "a device": (STEADY, "truth = 2.0", "truth = { file = '/dev/zero' }", "truth"),
}


@pytest.mark.parametrize("what", list(WRONG))
def test_one_line_names_what_is_wrong(what, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(capacity, "memory_available", lambda: 8e9)
    text, old, new, message = WRONG[what]
    assert old in text
    (tmp_path / "case.toml").write_text(text.replace(old, new, 1))
    assert check_main([str(tmp_path / "case.toml"), "--data", str(tmp_path)]) == 2
    said = capsys.readouterr().out.splitlines()
    assert all(line.startswith("error: ") for line in said)
    with pytest.raises(InputError, match=message):
        raise InputError("", "", said[0])


def test_cases_that_are_no_regular_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "bom.toml").write_text("\ufeff" + EVOLUTION, encoding="utf-8")
    for name in ("pipe.toml", "missing.toml", "", "x" * 3000):
        with pytest.raises(InputError, match="--case"):
            load_case(tmp_path / name)
    assert load_case(tmp_path / "bom.toml").species == ("u",)


def test_what_fits_is_said_with_the_numbers(monkeypatch):
    monkeypatch.setattr(capacity, "memory_available", lambda: 1e9)
    capacity.fits("n", 1e6, 1000.0)
    with pytest.raises(InputError, match="n: got 2,000,000 cells, at least 2 GB; allowed: at most 1,000,000 cells"):
        capacity.fits("n", 2_000_000, 1000.0, "cells")
