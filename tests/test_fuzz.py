"""300 seeded mutants of the shipped cases end in "well formed" or in one line for each thing that
is wrong."""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import fuzz  # noqa: E402


def test_no_mutant_ends_in_a_traceback_hangs_or_runs_a_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = fuzz.fuzz(seed=11, count=300, run=20, limit=120.0)
    assert not found["failures"], json.dumps(found["failures"], indent=1)[:5000]
    counts = found["counts"]
    assert sum(counts.values()) == 300 and counts["refused"] > 100
    assert counts.get("ran", 0) + counts.get("accepted", 0) > 10


def test_the_cases_that_are_mutated_are_well_formed_themselves(tmp_path):
    (tmp_path / "data").mkdir()
    fuzz.stand_ins(tmp_path / "data")
    worker = fuzz.Worker()
    for name, case in fuzz.shipped().items():
        if "mni152" in json.dumps(case) or "picture" in json.dumps(case):
            continue  # their packages are optional
        (tmp_path / "case.toml").write_text(fuzz.written(case))
        job = {
            "path": str(tmp_path / "case.toml"),
            "data": str(tmp_path / "data"),
            "run": False,
        }
        assert worker.ask(job, 120.0)["kind"] == "accepted", name
    worker.end()
