"""Case files: TOML with variables and a shared grid, read by one rank into every rank's Case."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from mpi4py import MPI

from npde_opt.aliases import FilePath, Plain, Record
from npde_opt.cases.case import Case
from npde_opt.cases.limits import FILE_BYTES, check_raw
from npde_opt.cases.old_keys import refuse_old
from npde_opt.cases.rules import validated
from npde_opt.cases.typed import shown
from npde_opt.errors import InputError, collective
from npde_opt.functions.parser import check_name

HUGE = re.compile(r"""^\s*["']?([\w.+-]+)["']?\s*=\s*[-+]?(\d{1000,})""", re.MULTILINE)
"""A key with more digits than Python reads."""

HIDDEN = {
    "edges": ("shape", "extent", "origin"),
    "shape": ("edges",),
    "extent": ("edges",),
}
"""A key of [grid], and those of the grid's file that it replaces beside its own."""

LONGEST = 1000
"""Characters of a variable."""


def load_case(
    path: FilePath,
    comm: MPI.Intracomm = MPI.COMM_WORLD,
    *,
    cells: Sequence[int] | None = None,
    data: FilePath | None = None,
    seed: int = 0,
    variables: Mapping[str, str] | None = None,
    memory: str | None = None,
) -> Case:
    """Reads a case on rank 0, and validates it on every rank. Collective.

    Args:
        path: a TOML file.
        cells: numbers of cells along the axes, in place of the case's own.
        data: a folder with the case's data.
        seed: of noise and random points.
        variables: replace those of the case's [variables].
        memory: replaces the budget of its [time].

    Raises:
        InputError: naming the key that is wrong.
    """
    file, raw = Path(path), dict[str, Plain]()
    with collective(comm):
        if comm.rank == 0:
            raw = raw_case(file, variables or {})
            if data is not None and not Path(data).is_dir():
                raise InputError("--data", data, "an existing folder")
    raw = comm.bcast(raw, root=0)
    with collective(comm):
        table = validated(raw)
        if memory and table.time is None:
            raise InputError("--memory", memory, "a case with a [time] section")
        if memory and table.time is not None:
            table.time.memory = memory
        return Case(table, file, cells, Path(data) if data else None, seed, comm)


def raw_case(file: Path, variables: Mapping[str, str]) -> Record:
    """The tables of a case file, with its grid's file and its variables put in."""
    raw = read_toml(file, "--case")
    check_raw("", {k: v for k, v in raw.items() if k != "variables"})
    refuse_old(raw)
    grid = raw.get("grid")
    if isinstance(grid, dict) and isinstance(grid.get("file"), str):
        raw["grid"] = _with_file(grid, file.parent)
    values = _variables(raw, variables)
    kept = {"variables": values} if "variables" in raw else {}
    found: Record = substituted(
        {k: v for k, v in raw.items() if k != "variables"}, values
    )
    return found | kept


def _with_file(grid: Mapping[str, Plain], folder: Path) -> Record:
    """[grid] with the keys of its file that it does not replace."""
    shared = read_toml(folder / grid["file"], "grid.file")
    hidden = {
        k
        for key, others in HIDDEN.items()
        if key in grid
        for k in others
        if k not in grid
    }
    kept = {k: v for k, v in shared.items() if k not in hidden}
    return kept | {k: v for k, v in grid.items() if k != "file"}


def _variables(raw: Mapping[str, Plain], given: Mapping[str, str]) -> Record:
    known = raw.get("variables", {})
    if not isinstance(known, dict):
        raise InputError("variables", shown(known), "a table {name = text or number}")
    for name, value in known.items():
        check_name(name, "variables: name")
        if not isinstance(value, str) and not _numeric(value):
            allowed = "a text, a number or a list of numbers"
            raise InputError(f"variables.{name}", shown(value), allowed)
    check_raw("variables", known)
    values = dict(known)
    for name, text in given.items():
        if name not in known:
            there = ", ".join(known) or "nothing: the case has no [variables]"
            raise InputError("--set", name, there)
        if len(text) > LONGEST or not text.isprintable():
            allowed = f"a printable text of at most {LONGEST:,} characters"
            raise InputError(f"--set {name}", shown(text), allowed)
        values[name] = text if isinstance(known[name], str) else _number(name, text)
    return values


def _numeric(value: Plain) -> bool:
    """Whether it is a number, or a list of numbers."""
    every = value if isinstance(value, list) else [value]
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in every)


def _number(name: str, text: str) -> Plain:
    """The value of a variable that is not a text in the case. Raises InputError."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = None
    if not _numeric(value):
        allowed = "a number or a list of numbers, as the case has one there"
        raise InputError(f"--set {name}", shown(text), allowed)
    return value


def substituted(raw: Plain, variables: Mapping[str, Plain]) -> Plain:
    """The tables with {NAME} in texts replaced by the values of variables; a text that is nothing
    else is the value itself, which may be a number or a list of them."""
    if isinstance(raw, dict):
        return {k: substituted(v, variables) for k, v in raw.items()}
    if isinstance(raw, list):
        return [substituted(v, variables) for v in raw]
    if isinstance(raw, str):
        if raw[1:-1] in variables and raw == "{" + raw[1:-1] + "}":
            return variables[raw[1:-1]]
        for name, value in variables.items():
            raw = raw.replace("{" + name + "}", str(value))
    return raw


def read_toml(file: Path, field: str) -> Record:
    """A TOML file's tables. Raises InputError naming `field`."""
    try:
        if not file.is_file():
            raise InputError(field, str(file), "an existing TOML file")
        size = file.stat().st_size
        if size > FILE_BYTES:
            raise InputError(
                f"{field} {file}", f"{size:,} bytes", f"at most {FILE_BYTES:,}"
            )
        text = file.read_text(encoding="utf-8-sig")
        if huge := HUGE.search(text):
            digits = f"an integer of {len(huge[2]):,} digits"
            raise InputError(huge[1], digits, "integers of 64 bits")
        return tomllib.loads(text)
    except RecursionError:
        said = "lists or tables too deep in each other"
        raise InputError(f"{field} {file}", said, "a shallow TOML file") from None
    except (ValueError, OSError) as error:  # of TOML, of the encoding
        said = str(error).splitlines()[0][:200]
        raise InputError(f"{field} {file}", said, "valid TOML") from error
