"""Studies end to end: of a stand-in for a driver, which is quick, and of a real one."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from calling import environment

from npde_opt.errors import InputError
from npde_opt.runs import lock as locks
from npde_opt.runs.lock import RunLock
from npde_opt.scaling import jobs, launch
from npde_opt.scaling.entry import study
from npde_opt.scaling.report import extrap

ROOT = Path(__file__).parents[2]

STAND_IN = """
import json, os, pathlib, signal, sys, time
arguments = sys.argv
ranks = int(os.environ["RANKS"])
out = pathlib.Path(arguments[arguments.index("--out") + 1])
out.mkdir(parents=True)
side = int(arguments[arguments.index("--grid") + 1])
if ranks == int(os.environ.get("FAILS", 0)):
    print("error: it is the rank's fault")
    sys.exit(3)
if os.environ.get("STOPS"):
    pathlib.Path(os.environ["STOPS"]).write_text(str(os.getpid()))
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(5)
if os.environ.get("REFUSES"):
    print("error: case: got nothing; allowed: something")
    sys.exit(2)
table, flames = (v.split(":")[1] for v in arguments[-1].split(","))
seconds = side * side / ranks
row = f"forward,summary,0,1,{seconds},0.,0.,10.,0."
head = "Stage Name,Event Name,Rank,Count,Time,Num Messages,Message Length,Num Reductions,FLOP"
pathlib.Path(table).write_text(head + "\\n" + row + "\\n")
pathlib.Path(flames).write_text("Main Stage 10\\nMain Stage;KSPSolve 30\\n")
(out / "summary.json").write_text(json.dumps({
    "status": "converged", "unknowns": side * side, "iterations": 2, "objective": 1.0,
    "forward_solves": 3, "adjoint_solves": 3, "krylov_iterations_mean": 5.0,
    "seconds": {"total": seconds + 1, "setup": 1.0, "solve": seconds},
    "peak_memory_mb_of_a_rank": 50.0}))
"""


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Calls the study of the stand-in with further options; its exit code."""
    driver = tmp_path / "simulate.py"
    driver.write_text(STAND_IN)
    # The machine's rates are measured by another test.
    rates = dict.fromkeys(("bandwidth", "reduction", "latency", "link"), 1e9)

    def measure(place, ranks):
        place.rates(ranks).write_text(json.dumps(rates))

    monkeypatch.setattr(launch, "measure", measure)
    monkeypatch.setattr(locks, "PATIENCE", 0.0)

    def go(*options, ranks=("1", "2", "4"), out=tmp_path / "study", drawn=False):
        words = ["--out", str(out), "--ranks", *ranks, "--grid", "8", "8", *options]
        words += [] if drawn else ["--no-figures"]
        own = [] if "reframe" in options else ["--launcher", "env RANKS={ranks}"]
        return study("", [*words, *own, "--", str(driver)])

    go.out = tmp_path / "study"
    return go


def table(out):
    with (out / "study.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_study_leaves_its_table_figures_and_page(call, capsys):
    assert call("--kinds", "strong", "weak", "--predict", "4x4", drawn=True) == 0
    rows = table(call.out)
    assert [(r["kind"], r["ranks"], r["grid"]) for r in rows] == [
        ("strong", "1", "8x8"),
        ("weak", "1", "8x8"),
        ("strong", "2", "8x8"),
        ("weak", "2", "8x8"),
        ("strong", "4", "8x8"),
        ("weak", "4", "16x16"),
    ]
    assert [float(r["seconds_forward"]) for r in rows] == [64, 64, 32, 32, 16, 64]
    page = (call.out / "index.html").read_text()
    assert page.count("data:image/png;base64") == 5 and "http" not in page
    told = capsys.readouterr().out
    assert "strong 8x8: 4 ranks take 16 s, 1 take 64 s (4.00 times)" in told
    assert "what other recipes send" in told
    record = json.loads((call.out / "results.json").read_text())
    assert record["predicted"][0]["ranks"][-1] == 16 and record["failed"] == {}
    lines = (call.out / "extrap.txt").read_text().splitlines()
    assert lines[:3] == ["PARAMETER p", "POINTS (1) (2) (4)", "REGION forward"]
    assert lines[4:] == ["DATA 64", "DATA 32", "DATA 16"]


def test_a_study_that_died_goes_on(call, capsys):
    assert call() == 0
    done = call.out / "runs" / "8x8-r2-g1-0" / launch.COST
    kept = call.out / "runs" / "8x8-r4-g1-0" / launch.COST
    done.unlink()
    before = kept.stat().st_mtime_ns
    capsys.readouterr()
    assert call() == 0
    told = capsys.readouterr().out
    assert "2 of 3: 8x8-r2-g1-0" in told and "r4-g1" not in told.split("\n")[0]
    assert done.exists() and kept.stat().st_mtime_ns == before


def test_a_failed_run_is_told_and_tried_again(call, capsys, monkeypatch):
    monkeypatch.setenv("FAILS", "2")
    assert call() == 0
    told = capsys.readouterr().out
    assert "failed: 8x8-r2-g1-0: code 3: error: it is the rank's fault" in told
    assert [r["ranks"] for r in table(call.out)] == ["1", "4"]
    monkeypatch.delenv("FAILS")
    assert call() == 0
    assert [r["ranks"] for r in table(call.out)] == ["1", "2", "4"]


def test_a_damaged_record_is_told(call, capsys):
    assert call() == 0
    (call.out / launch.STUDY).write_text("{")
    assert call() == 2
    assert "what a study wrote" in capsys.readouterr().err


def test_a_stopped_study_stops_its_run(call, tmp_path, capsys, monkeypatch):
    kept = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    monkeypatch.setenv("STOPS", str(tmp_path / "pid"))
    assert call(ranks=("1", "2")) == 75
    assert signal.signal(signal.SIGTERM, kept) is signal.SIG_IGN
    assert "the same command goes on" in capsys.readouterr().err
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    monkeypatch.delenv("STOPS")
    assert call(ranks=("1", "2")) == 0
    assert [r["ranks"] for r in table(call.out)] == ["1", "2"]


def test_a_driver_that_outlived_its_study_is_left_alone(call, capsys):
    own = call.out / "runs" / "8x8-r1-g1-0" / launch.FOLDER
    assert call(ranks=("1",)) == 0
    (own.parent / launch.COST).unlink()
    driver = RunLock(own)
    assert call(ranks=("1",)) == 2
    assert "is at work" in capsys.readouterr().err and own.exists()
    driver.release()
    assert call(ranks=("1",)) == 0


def test_a_study_that_is_at_work_is_left_alone(call, capsys):
    assert call() == 0
    lock = RunLock(call.out)
    assert call("--overwrite") == 2
    assert (call.out / "study.csv").exists()
    lock.release()


def test_a_run_that_another_job_is_at_is_left_alone(call):
    assert call() == 0
    own = call.out / "runs" / "8x8-r2-g1-0"
    lock = RunLock(own)
    place = launch.Place(call.out, launch.begun(call.out), "env RANKS={ranks}")
    (run,) = [r for r in place.plan.runs() if r.name == own.name]
    with pytest.raises(InputError):
        launch.one(place, run)
    assert (own / launch.COST).exists()
    lock.release()


def test_counters_of_energy_begin_again(tmp_path):
    counter = tmp_path / "intel-rapl:0"
    counter.mkdir()
    (counter / "max_energy_range_uj").write_text("100000000")
    assert launch._since({counter: 95.0}, {counter: 10.0}) == pytest.approx(15.0)
    assert launch._since({}, {}) is None


def test_batch_systems_take_no_blanks(call, capsys):
    assert call("--by", "slurm", out=call.out.parent / "my study") == 2
    assert "without blanks" in capsys.readouterr().err
    assert not (call.out.parent / "my study").exists()


def test_refused_input_ends_the_study(call, capsys, monkeypatch):
    monkeypatch.setenv("REFUSES", "1")
    assert call() == 1
    assert "got nothing; allowed: something" in capsys.readouterr().err
    monkeypatch.delenv("REFUSES")
    assert call() == 0


def test_another_study_needs_another_folder(call, capsys):
    assert call() == 0
    assert call(ranks=("1",)) == 2
    assert "a folder of the same study" in capsys.readouterr().err
    assert call("--overwrite", ranks=("1",)) == 0
    (call.out.parent / "other").mkdir()
    (call.out.parent / "other" / "thesis.tex").write_text("years")
    assert call(out=call.out.parent / "other") == 2


def test_a_study_grows(call, capsys):
    """More numbers of ranks go to what is there."""
    assert call(ranks=("1", "2")) == 0
    capsys.readouterr()
    assert call() == 0
    told = capsys.readouterr().out
    assert "3 of 3: 8x8-r4-g1-0" in told and "2 of 3" not in told
    assert [r["ranks"] for r in table(call.out)] == ["1", "2", "4"]


def test_a_refused_command_may_be_mended(call, capsys, monkeypatch):
    """Another command in the same folder, where no run of the first came to a good end."""
    monkeypatch.setenv("REFUSES", "1")
    assert call(ranks=("1", "4")) == 1
    monkeypatch.delenv("REFUSES")
    assert call(ranks=("1", "2")) == 0
    assert call(ranks=("1", "4")) == 2
    assert "some of its runs" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_told(call, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert call(out=tmp_path / "file" / "study") == 2
    assert "--out: got" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("launcher", "said"),
    [
        ("no-such-launcher -n {ranks}", "a program that is installed"),
        ("mpirun", "with {ranks}"),
        ("mpirun 'x {ranks}", "No closing quotation"),
    ],
)
def test_a_missing_launcher_is_told(tmp_path, capsys, launcher, said):
    driver = str(ROOT / "drivers" / "identify.py")
    words = ["--out", str(tmp_path / "o"), "--ranks", "1", "--launcher", launcher]
    assert study("", [*words, "--", driver, "--case", "a"]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "ranks", "said"),
    [
        (["--predict", "4x4", "--predict-groups", "3"], ["1", "2"], "a divisor of the 16"),
        (["--predict", "4x4"], ["1"], "some on several"),
        (["--load", "inf"], ["1"], "a number of unknowns"),
        (["--by", "none"], ["1"], "the folder of a study"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_before_anything_runs(
    call, capsys, options, ranks, said
):
    assert call(*options, ranks=ranks) == 2
    assert said in capsys.readouterr().err
    assert not call.out.exists()


def test_under_a_launcher_it_is_told_that_runs_are_started_by_the_study(
    call, capsys, monkeypatch
):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    assert call() == 2
    assert "a study starts its runs itself" in capsys.readouterr().err


def test_a_study_without_a_run_that_ended_well_is_no_success(call, monkeypatch):
    monkeypatch.setenv("FAILS", "2")
    assert call(ranks=("2",)) == 1
    assert call("--by", "none", ranks=("2",)) == 1


def test_job_arrays_start_what_is_left(call, capsys):
    assert call("--by", "slurm", "--repeats", "2") == 0
    script = (call.out / "jobs" / "slurm-4.sh").read_text()
    assert "#SBATCH --ntasks=4" in script and "#SBATCH --array=0-1" in script
    assert "names=(8x8-r4-g1-0 8x8-r4-g1-1)" in script
    assert "submit: sbatch" in capsys.readouterr().out
    done = subprocess.run(
        ["bash", str(call.out / "jobs" / "slurm-1.sh")],
        env={"SLURM_ARRAY_TASK_ID": "1", "PATH": "/usr/bin:/bin"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (call.out / "runs" / "8x8-r1-g1-1" / launch.COST).exists()
    assert call("--by", "pbs", "--repeats", "2") == 0
    told = capsys.readouterr().out
    assert "qsub -J 0-1" in told and "pbs-4.sh" in told


def test_without_reframe_it_is_told(call, capsys, monkeypatch):
    monkeypatch.setattr(
        jobs.shutil, "which", lambda name: name if name == "env" else None
    )
    monkeypatch.setattr(jobs.sys, "executable", "/nowhere/python")
    assert call("--by", "reframe") == 2
    assert "reframe-hpc" in capsys.readouterr().err


def test_extrap_of_one_kind():
    assert extrap([]) == "PARAMETER p\nPOINTS \n"


def test_the_driver_runs_real_cases(tmp_path):
    words = ["--out", str(tmp_path / "o"), "--ranks", "1", "2", "--grid", "8", "8"]
    case = ["--case", str(ROOT / "meshes" / "lognormal.toml"), "--levels", "1"]
    words += ["--no-figures", "--", str(ROOT / "drivers" / "identify.py"), *case]
    driver = str(ROOT / "drivers" / "scaling_study.py")
    found = subprocess.run(
        [sys.executable, driver, *words],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    assert found.returncode == 0, found.stderr
    one, two = table(tmp_path / "o")
    assert float(one["objective"]) == pytest.approx(float(two["objective"]), rel=1e-4)
    assert float(two["messages"]) > 0 and float(two["memory"]) > 1e7
    assert float(one["seconds_forward"]) > 0 and int(one["unknowns"]) == 64
    rates = json.loads((tmp_path / "o" / "machine-r2.json").read_text())
    assert rates["latency"] > 0 and rates["bandwidth"] > 1e7


def test_a_driver_without_a_summary_has_its_log(call, tmp_path):
    driver = tmp_path / "simulate.py"
    text = driver.read_text()
    driver.write_text(text[: text.index("(out / ")])
    assert call() == 0
    rows = table(call.out)
    assert [float(r["solve"]) for r in rows] == [64, 32, 16]
    assert [r["status"] for r in rows] == ["ended"] * 3 and rows[0]["unknowns"] == "64"
