"""The monitor: what it prints, how it estimates, and how a run is stopped and resumed."""

import io
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from mpi4py import MPI
from sums import made

from npde_opt.errors import InputError, Interrupted
from npde_opt.grids import Grid
from npde_opt.io.checkpoint import find_checkpoint, load_checkpoint
from npde_opt.io.results import Seconds, Summary
from npde_opt.optimizers import OptimizerState, Settings, minimize
from npde_opt.runs.folder import RunDirectory
from npde_opt.runs.monitor import Monitor
from npde_opt.runs.progress import (
    Level,
    LiveTable,
    Progress,
    clock,
    closing_text,
    terminal_width,
)


class GridSpace:
    def __init__(self, comm=MPI.COMM_WORLD):
        self.grid = Grid((6, 5), comm=comm)

    def create_vec(self):
        return self.grid.create_vec()

    def write(self, vec, sink):
        sink.field(self.grid, self.grid.view(vec))

    def read(self, vec, source):
        self.grid.view(vec)[...] = source.field(self.grid)


def row(i, **more):
    return {
        "iteration": i,
        "objective": 100.0 / (i + 1),
        "misfit": 90.0 / (i + 1),
        "gradient_norm": 10.0**-i,
        "step": 1.0,
        "forward_solves": 2 * i + 1,
        "adjoint_solves": i + 1,
        "krylov_iterations": 20 * i,
    } | more


def state(space, i):
    return SimpleNamespace(
        vectors={"m": space.grid.from_natural(np.full((6, 5), i + 1 / 3))},
        meta={"iteration": i},
    )


def folder(tmp_path):
    return MPI.COMM_WORLD.bcast(tmp_path, root=0)


SUMMARY = Summary(
    driver="identify",
    case="a.toml",
    ranks=2,
    grid=[64, 64],
    unknowns=4096,
    parameters=4096,
    status="max_iterations",
    iterations=9,
    objective=152.95,
    objective_initial=3e4,
    gradient_norm=1e-3,
    gradient_norm_initial=1e3,
    forward_solves=24,
    adjoint_solves=40,
    krylov_iterations_mean=7.25,
    seconds=Seconds(1.0, 100.0, 101.0),
    peak_memory_mb=1234.0,
    peak_memory_mb_of_a_rank=617.0,
    metrics={"relative_error": 0.125},
    versions={},
)


@pytest.mark.parallel([1, 2])
def test_plain_lines_on_rank_zero_with_repeated_header():
    stream = io.StringIO()
    monitor = Monitor(stream=stream)
    monitor.start_level((6, 5), gradient_rtol=1e-6, max_iterations=50)
    for i in range(25):
        monitor(row(i), state(GridSpace(MPI.COMM_SELF), i))
    lines = stream.getvalue().splitlines()
    if MPI.COMM_WORLD.rank:
        assert lines == []
        return
    headers = [i for i, line in enumerate(lines) if "objective" in line]
    assert headers == [0, 21] and len(lines) == 27
    assert len({len(line) for line in lines}) == 1
    assert lines[3].split()[:9] == [
        "6x5",
        "2",
        "3.3333333e+01",
        "3.0000e+01",
        "1.00e-02",
        "1.0e-02",
        "1.0e+00",
        "8",
        "40",
    ]


def test_missing_values_are_dashes():
    progress = Progress(
        row={"iteration": 0, "objective": np.inf},
        elapsed=1.0,
        left=None,
        at_most=False,
        relative=float("nan"),
        level=Level(1, 3, (32, 16)),
    )
    stream = io.StringIO()
    from npde_opt.runs.progress import PlainLines

    PlainLines(stream).add(progress)
    assert stream.getvalue().splitlines()[1].split() == [
        "2/3",
        "32x16",
        "0",
        *"-------",
        "1.0s",
        "-",
    ]


@pytest.fixture
def terminal(monkeypatch):
    """One that can move its cursor, whatever runs the tests."""
    monkeypatch.setenv("TERM", "xterm")


def test_live_table_shows_the_rows(terminal):
    stream = io.StringIO()
    monitor = Monitor(MPI.COMM_SELF, stream=stream, live=True)
    monitor.start_level((6, 5), level=1, levels=2)
    with monitor:
        for i in range(3):
            monitor(row(i), state(GridSpace(MPI.COMM_SELF), i))
    assert "\x1b[" in stream.getvalue() and "3.3333333e+01" in stream.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 105, 200])
def test_columns_fit_the_terminal(width, terminal):
    stream = io.StringIO()
    table = LiveTable(stream, width)
    table.add(
        Progress(
            row=row(7),
            elapsed=3700.0,
            left=1e5,
            at_most=True,
            relative=1e-7,
            level=Level(1, 3, (128, 128)),
        )
    )
    table.close()
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())
    assert (
        "1.2500000e+01" in plain
        and "<1d 03h" in plain
        and "1.00e-07" in plain
        and "…" not in plain
    )
    assert max(map(len, plain.splitlines())) <= width
    assert ("krylov" in plain) == (width >= 105)


def test_a_file_is_no_terminal(tmp_path):
    with open(tmp_path / "log", "w") as log:
        assert terminal_width(log) == 0
    assert terminal_width(io.StringIO()) == 0


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("converged", None),
        ("stopped_at_tolerance", "stopped at the gradient tolerance"),
        ("max_iterations", "stopped at the last iteration"),
        ("stalled", "stalled"),
        ("undetermined", "undetermined"),
        ("of_a_monitor", "of a monitor"),
    ],
)
def test_all_that_is_not_converged_says_so_first(status, words):
    text = closing_text(
        replace(SUMMARY, status=status, metrics={"reason": "because"})
    ).strip()
    assert text.startswith(f"NOT CONVERGED: {words}") == (words is not None)
    assert words is None or "after 9 iterations: because" in text.splitlines()[0]


@pytest.mark.parametrize(
    "seconds, text",
    [
        (1.25, "1.2s"),
        (59.7, "1:00"),
        (184, "3:04"),
        (3661, "1:01:01"),
        (2 * 86400 + 3 * 3600, "2d 03h"),
    ],
)
def test_clock(seconds, text):
    assert clock(seconds) == text


def test_a_resumed_run_is_measured_against_its_first_gradient():
    stream = io.StringIO()
    Monitor(MPI.COMM_SELF, stream=stream)(
        row(4), SimpleNamespace(vectors={}, meta={"gradient_norm_initial": 10.0})
    )
    assert stream.getvalue().splitlines()[1].split()[5] == "1.0e-05"


def test_discrepancy_stops():
    monitor = Monitor(MPI.COMM_SELF, stream=None, misfit_target=45.0)
    answers = [monitor(row(i), SimpleNamespace(vectors={}, meta={})) for i in range(2)]
    assert answers == [None, "stop:discrepancy"]


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT]
)
def test_a_signal_to_one_rank_stops_all_after_a_checkpoint(tmp_path, number):
    comm, space = MPI.COMM_WORLD, GridSpace()
    out = RunDirectory(folder(tmp_path) / "run")
    before = signal.getsignal(number)
    monitor = Monitor(
        comm,
        out,
        space=space,
        identity={"case": "abc"},
        stream=None,
        checkpoint_seconds=1e9,
    )
    with (
        pytest.raises(
            Interrupted,
            match=rf"{number.name} after iteration 1; .*checkpoint-1.*--resume",
        ),
        monitor,
    ):
        monitor(row(0), state(space, 0))
        assert find_checkpoint(out.path, comm) is None
        if comm.rank == comm.size - 1:
            os.kill(os.getpid(), number)
        monitor(row(1), state(space, 1))
        monitor(row(2), state(space, 2))
    assert signal.getsignal(number) == before
    checkpoint = find_checkpoint(out.path, comm, {"case": "abc"})
    assert (checkpoint.number, checkpoint.extra["iteration"], checkpoint.state) == (
        1,
        1,
        {"iteration": 1},
    )
    m = checkpoint.load(space, comm)["m"]
    np.testing.assert_array_equal(space.grid.gather(m), np.full((6, 5), 4 / 3))


@pytest.mark.parallel([1, 2])
def test_a_signal_between_two_batches_loses_nothing(tmp_path):
    """The run goes on to the bit, and so does its history."""
    comm, path = MPI.COMM_WORLD, folder(tmp_path) / "run"
    J, m, _ = made("implicit")
    settings = Settings("adam", rate=0.05, batch=2, max_iterations=3, decrement=None)
    expected = minimize(J, m, settings)

    class Signalled(Monitor):
        """After the fourth batch, which is the first of the second epoch."""

        def between(self, state):
            if state.meta["memory"]["steps"] == 4 and comm.rank == 0:
                os.kill(os.getpid(), signal.SIGUSR1)
            super().between(state)

    first = Signalled(comm, RunDirectory(path), space=J.space, stream=None)
    said = "SIGUSR1 within the iteration after 1; .*checkpoint-1 holds it"
    with pytest.raises(Interrupted, match=said), first:
        minimize(J, m, settings, first)
    first.close()
    checkpoint, vectors = load_checkpoint(path, comm, J.space)
    assert checkpoint.state["within"]["batch"] == 1
    second = Monitor(
        comm, RunDirectory(path, mode="resume"), space=J.space, stream=None
    )
    second.resume(checkpoint)
    state = OptimizerState(vectors, dict(checkpoint.state))
    found = minimize(J, m, settings, second, resume=state)
    assert (found.m.getArray() == expected.m.getArray()).all()
    rows = second.out.history()
    for key in (
        "iteration",
        "objective",
        "gradient_norm",
        "step",
        "evaluations",
        "passes",
    ):
        assert [r[key] for r in rows] == [r[key] for r in expected.history]
    second.close()


@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_checkpoints_between_two_batches_are_kept_where_the_last_is_old(
    tmp_path, seconds, monkeypatch
):
    monkeypatch.setattr("npde_opt.runs.monitor.WITHIN_SECONDS", seconds)
    space = GridSpace(MPI.COMM_SELF)
    out = RunDirectory(tmp_path, MPI.COMM_SELF)
    monitor = Monitor(MPI.COMM_SELF, out, space=space, stream=None)
    monitor(row(0), state(space, 0))
    monitor.between(state(space, 1))
    found = find_checkpoint(tmp_path, MPI.COMM_SELF)
    assert (found.number, found.state["iteration"]) == (0, 0 if seconds else 1)


def test_a_second_interrupt_ends_at_once():
    with pytest.raises(KeyboardInterrupt), Monitor(MPI.COMM_SELF, stream=None):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_interrupted_without_a_folder_says_so():
    monitor = Monitor(MPI.COMM_SELF, stream=None)
    with pytest.raises(Interrupted, match="no checkpoint"), monitor:
        os.kill(os.getpid(), signal.SIGUSR1)
        monitor(row(0), state(GridSpace(MPI.COMM_SELF), 0))


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("repeat", [False, True])
def test_resume_continues_history_and_numbers(tmp_path, repeat):
    comm, space = MPI.COMM_WORLD, GridSpace()
    path = folder(tmp_path) / "run"
    monitor = Monitor(comm, RunDirectory(path), space=space, stream=None)
    for level in range(2):
        monitor.start_level((6, 5), level=level, levels=2)
        for i in range(3):
            monitor(row(i), state(space, i))
    monitor.out.append(row(3, level=1))
    monitor.close()
    comm.Barrier()
    monitor = Monitor(comm, RunDirectory(path, mode="resume"), space=space, stream=None)
    checkpoint = find_checkpoint(path, comm)
    assert checkpoint.number == 5 and (
        checkpoint.extra["level"],
        checkpoint.extra["iteration"],
    ) == (1, 2)
    monitor.start_level((6, 5), level=1, levels=2)
    monitor.resume(checkpoint)
    for i in range(2 if repeat else 3, 5):
        monitor(row(i), state(space, i))
    assert [(r["level"], r["iteration"]) for r in monitor.out.history()] == [
        (0, 0),
        (0, 1),
        (0, 2),
        (1, 0),
        (1, 1),
        (1, 2),
        (1, 3),
        (1, 4),
    ]
    assert find_checkpoint(path, comm).number == 7
    monitor.close()


@pytest.mark.parametrize("seconds, written", [(0.0, 2), (None, None), (1e9, None)])
def test_cadence_of_checkpoints(tmp_path, seconds, written):
    space = GridSpace(MPI.COMM_SELF)
    monitor = Monitor(
        MPI.COMM_SELF,
        RunDirectory(tmp_path, MPI.COMM_SELF),
        space=space,
        stream=None,
        checkpoint_seconds=seconds,
    )
    for i in range(3):
        monitor(row(i), state(space, i))
    found = find_checkpoint(tmp_path, MPI.COMM_SELF)
    assert (found and found.number) == written


def test_slow_checkpoints_become_rare(tmp_path, monkeypatch):
    monkeypatch.setattr("npde_opt.runs.monitor.SLOW_SECONDS", 0.0)
    monkeypatch.setattr("npde_opt.runs.monitor.SLOW_RATIO", 1e6)
    space = GridSpace(MPI.COMM_SELF)
    monitor = Monitor(
        MPI.COMM_SELF, RunDirectory(tmp_path, MPI.COMM_SELF), space=space, stream=None
    )
    for i in range(3):
        monitor(row(i), state(space, i))
    assert find_checkpoint(tmp_path, MPI.COMM_SELF).number == 0


def test_checkpoints_need_the_space(tmp_path):
    monitor = Monitor(MPI.COMM_SELF, RunDirectory(tmp_path, MPI.COMM_SELF), stream=None)
    with pytest.raises(InputError, match="monitor.space"):
        monitor(row(0), state(GridSpace(MPI.COMM_SELF), 0))


def test_an_end_of_an_interval_may_be_open():
    metrics = {
        "w_interval": [1.6, None],
        "D_interval": [[1.0, 2.0], None],
        "r_interval": None,
    }
    text = closing_text(replace(SUMMARY, status="converged", metrics=metrics))
    assert "[1.6, open]" in text
    assert "[[1, 2], not determined by the data]" in text
    assert text.count("not determined by the data") == 2


def test_intervals_away_from_a_minimum_are_said_to_be_so():
    metrics = {"r": 1.2, "r_interval": [1.1, 1.3]}
    stopped = closing_text(
        replace(SUMMARY, status="stopped_at_tolerance", metrics=metrics)
    )
    converged = closing_text(replace(SUMMARY, status="converged", metrics=metrics))
    assert "INTERVALS    are of the point where the run stopped" in stopped
    assert "INTERVALS" not in converged


def test_closing_summary(tmp_path):
    stream = io.StringIO()
    monitor = Monitor(
        MPI.COMM_SELF, RunDirectory(tmp_path, MPI.COMM_SELF), stream=stream
    )
    monitor.finish(SUMMARY)
    text = stream.getvalue()
    assert text.rstrip() == closing_text(SUMMARY, tmp_path).rstrip()
    for part in (
        "identify, a.toml: max iterations after 9 iterations on 2 ranks",
        "30000 -> 152.95",
        "1.0e-06 of the start",
        "24 forward, 40 adjoint, 7.2 Krylov",
        "1:41 (setup 1.0s, solve 1:40)",
        "1,234 MB",
        "relative error 0.125",
        str(tmp_path),
    ):
        assert part in text
    assert (tmp_path / "summary.json").exists()


def test_a_signal_before_the_first_iteration_ends_with_75():
    code = (
        "import os, signal, time\nfrom npde_opt import errors\n"
        "errors.run(lambda: (os.kill(os.getpid(), signal.SIGUSR1), time.sleep(20)) and 0)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=900
    )
    assert (
        run.returncode == 75
        and "stopped by SIGUSR1 before the first iteration" in run.stderr
    )


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_a_second_signal_does_not_keep_the_ranks_from_ending(second):
    code = (
        "import os, signal, time\nfrom mpi4py import MPI\nfrom npde_opt import errors\n"
        "def main():\n    if MPI.COMM_WORLD.rank:\n        MPI.COMM_WORLD.Barrier()\n"
        f"    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), {int(second)}))\n"
        "    try:\n        os.kill(os.getpid(), signal.SIGTERM)\n        time.sleep(20)\n"
        # While the first one is on its way to the ranks.
        "    finally:\n        signal.setitimer(signal.ITIMER_REAL, 0.5)\n"
        "errors.run(main)"
    )
    env = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("OMPI_COMM", "PMIX_", "PMI_", "ORTE_"))
    }
    run = subprocess.run(
        [
            "mpirun",
            "--allow-run-as-root",
            "--oversubscribe",
            "-n",
            "2",
            sys.executable,
            "-c",
            code,
        ],
        env=env,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert run.returncode == 75 and "stopped by SIGTERM" in run.stderr
