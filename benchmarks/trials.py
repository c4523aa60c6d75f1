"""What goes wrong in a run, many times: scripts/npde-env python benchmarks/trials.py --parts errors

Every trial is a small run under mpirun that has to end in a stated way. Prints a line a failure and
the counts; exit code 1 where a trial failed.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import disturbed

ROOT = Path(__file__).parents[1]
LIMIT = 240
MESSAGE = re.compile(r"^error( \(rank \d+ of \d+\))?: ", re.MULTILINE)
"""How the one message of a failed run begins."""


@dataclass(frozen=True)
class Trial:
    """`check` runs it and says what is wrong (nothing where it is right)."""

    name: str
    check: Callable[[], str]


@dataclass(frozen=True)
class Ended:
    """How a run ended: exit code (None: it had to be killed), all that it said, seconds."""

    code: int | None
    text: str
    seconds: float

    @property
    def messages(self) -> int:
        return len(MESSAGE.findall(self.text))


def launch(ranks: int, *arguments: str, limit: float = LIMIT) -> Ended:
    """Runs python with these arguments on so many ranks."""
    env = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("OMPI_COMM", "PMIX_", "PMI_", "ORTE_"))
    }
    command = [
        "mpirun",
        "--allow-run-as-root",
        "--oversubscribe",
        "-n",
        str(ranks),
        sys.executable,
        *arguments,
    ]
    start = time.monotonic()
    process = subprocess.Popen(
        command,
        env=env,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        text, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        process.terminate()
        text, _ = process.communicate()
        return Ended(None, text, time.monotonic() - start)
    return Ended(process.returncode, text, time.monotonic() - start)


@dataclass(frozen=True)
class OneRankFails:
    """The last rank fails in tests/failing_rank.py."""

    where: str
    what: str
    when: str = "first"
    groups: int = 1
    ranks: int = 2

    @property
    def name(self) -> str:
        where = f"{self.what} in {self.where}, {self.when} call"
        return f"{where}, {self.groups} groups on {self.ranks} ranks"

    def codes(self) -> set[int]:
        """Exit codes that are right."""
        if self.what == "nan":
            # A state or derivative that is not finite is a failed solve; a value on one rank only
            # is a difference.
            return {
                "value": {1},
                "regularizer": {1},
                "monitor": {1},
                "norm": {1, 3},
            }.get(self.where, {3})
        if self.what == "SolverError":
            return {3}
        return {"exit5": {5}, "KeyboardInterrupt": {130}}.get(self.what, {1})

    def may_go_on(self) -> bool:
        """Whether a trial step may be rejected instead: all ranks of a group agree that there is no
        state."""
        undefined = self.what == "nan" and self.where == "forward"
        alone = (
            self.groups == self.ranks
            and self.what in ("nan", "SolverError")
            and self.where in ("forward", "value")
        )
        unused = self.what == "nan" and self.where == "norm"
        return self.when == "later" and (undefined or alone or unused)

    def check(self) -> str:
        ended = launch(
            self.ranks,
            "tests/failing_rank.py",
            self.where,
            self.what,
            self.when,
            str(self.groups),
        )
        if self.may_go_on() and ended.code == 0:
            return ""
        if ended.code not in self.codes():
            how = f"exit code {ended.code} after {ended.seconds:.0f} s"
            return f"{how}, not {self.codes()}: {ended.text[-300:]!r}"
        return (
            ""
            if ended.messages == 1
            else f"{ended.messages} messages: {ended.text[-600:]!r}"
        )


WHERE = (
    "before",
    "value",
    "gradient",
    "weights",
    "regularizer",
    "regularizer-gradient",
    "regularizer-hessian",
    "forward",
    "adjoint",
    "norm",
    "monitor",
    "after",
)
WHAT = (
    "ValueError",
    "unpicklable",
    "nostr",
    "code0",
    "exit256",
    "exit5",
    "exit0",
    "exittext",
    "KeyboardInterrupt",
    "MemoryError",
    "PETSc",
    "SolverError",
)


def one_rank_errors() -> Iterable[Trial]:
    """Each error in each place, in turn at the first and a later call, with one and two groups, on
    2 and 3 ranks."""
    for i, where in enumerate(WHERE):
        for j, what in enumerate(WHAT):
            when = "first" if where in ("before", "after") or (i + j) % 2 else "later"
            groups = 1 + (i + j // 2) % 2
            ranks = 2 if groups == 2 or (i + j) % 3 else 3
            fails = OneRankFails(where, what, when, groups, ranks)
            yield Trial(fails.name, fails.check)
        for groups in (1, 2):
            if where not in ("before", "after"):
                fails = OneRankFails(where, "nan", "later", groups)
                yield Trial(fails.name, fails.check)


def disturbed_runs() -> Iterable[Trial]:
    """Runs that are killed, signalled or robbed of their disk and folder, then resumed (see
    disturbed.py)."""
    return (Trial(name, check) for name, check in disturbed.checks())


PARTS: dict[str, Callable[[], Iterable[Trial]]] = {
    "errors": one_rank_errors,
    "runs": disturbed_runs,
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--parts", nargs="+", choices=sorted(PARTS), default=sorted(PARTS)
    )
    parser.add_argument("--only", default="", help="trials whose name contains this")
    options = parser.parse_args()
    failed = 0
    for part in options.parts:
        count = wrong = 0
        longest = 0.0
        for trial in PARTS[part]():
            if options.only not in trial.name:
                continue
            count += 1
            start = time.monotonic()
            problem = trial.check()
            longest = max(longest, time.monotonic() - start)
            if problem:
                wrong += 1
                print(f"{part}: {trial.name}: {problem}", flush=True)
        print(
            f"{part}: {count - wrong} of {count} trials ended as they should, the longest after "
            f"{longest:.0f} s",
            flush=True,
        )
        failed += wrong
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
