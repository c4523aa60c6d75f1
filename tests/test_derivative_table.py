"""The table of derivatives in docs: it has every registered part, and its script finds all of them
right."""

import importlib.util
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from npde_opt.cases.experiment_tables import MisfitSection
from npde_opt.forward.schemes import SCHEMES
from npde_opt.misfits import MISFITS
from npde_opt.regularizers import REGULARIZERS

ROOT = Path(__file__).parents[1]
TERMS = (
    "diffusion",
    "diffusion-tensor",
    "nonlinear-diffusion",
    "gradient-diffusion",
    "convolution",
    "advection",
    "reaction",
    "absorbing",
    "kinetics",
    "source",
)


def script():
    spec = importlib.util.spec_from_file_location(
        "derivatives", ROOT / "benchmarks" / "derivatives.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["derivatives"] = module
    spec.loader.exec_module(module)
    return module


def listed():
    lines = (ROOT / "docs" / "derivatives.md").read_text().splitlines()
    cells = [
        [c.strip() for c in line.strip("|").split("|")]
        for line in lines
        if line.startswith("| ")
    ]
    return cells[1:]


def test_every_part_is_in_the_table_and_right():
    found = {(row[0], row[1]) for row in listed()}
    kinds = set(get_args(get_type_hints(MisfitSection)["kind"])) - {"registered"}
    wanted = [
        *(("term", t) for t in TERMS),
        *(("boundary", b) for b in ("prescribed", "flux", "prescribed in time")),
        *(("storage", s) for s in ("crank-nicolson", "ars222", "heun")),
        *(("scheme", s) for s in SCHEMES),
        *(("misfit", k) for k in (*MISFITS, *kinds)),
        *(("regularizer", r) for r in REGULARIZERS),
    ]
    assert [w for w in wanted if w not in found] == []
    assert {row[-1] for row in listed()} == {"right"}
    assert {(p, n) for p, n, _ in script().problems()} == found


@pytest.mark.parallel([1, 2])
def test_derivatives_are_right():
    short = {
        "term": None,
        "boundary": ("prescribed in time",),
        "storage": ("ars222",),
        "scheme": ("heun", "ars222"),
        "misfit": ("correlated", "student-t"),
        "regularizer": None,
    }
    rows = list(
        script().rows(lambda part, name: short[part] is None or name in short[part])
    )
    assert len(rows) > 15
    for row in rows:
        assert row.problems == () and row.gradient < 1e-6 and row.hessian < 1e-6, row
