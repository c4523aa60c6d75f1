"""The house stands: imports run downward only, and in no circle, those inside functions
included."""

import ast
from collections.abc import Iterator
from pathlib import Path

import npde_opt

ROOT = Path(npde_opt.__file__).parent

FLOORS = (
    ("__main__",),
    ("scaling",),
    ("training",),
    ("runs", "doctor"),
    ("cases",),
    ("restarts",),
    ("nested", "weight_choice", "uncertainty"),
    ("sampling",),
    ("posterior",),
    ("verify", "scores", "curvatures"),
    ("pseudoinverse",),
    ("networks", "optimizers"),
    ("objective",),
    ("data_term", "formed"),
    ("forward", "regularizers", "misfits", "seen"),
    ("observations", "terms"),
    ("linear",),
    ("parameters", "functions", "figures", "differences"),
    ("io", "operators"),
    ("grids", "ensemble"),
    ("reductions", "petsc_options", "capacity", "registry", "stages"),
    ("machine_code",),
    ("compiling",),
    ("errors",),
    (
        "agreement",
        "aliases",
        "alone",
        "deadline",
        "distinct",
        "draws",
        "ordered",
        "signals",
        "turns",
    ),
    ("packages",),
    ("lazily",),
    ("traffic",),
    ("",),
)
"""Rooms from the top down: a room imports from itself and from floors below it."""


def modules() -> dict[str, Path]:
    """Modules by name, without the package's own."""
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(p for p in parts if p != "__init__")
        found[name] = path
    return found


def imported(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """Modules of the package that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [
                n if n.removeprefix("npde_opt.") in known else node.module
                for n in whole
            ]
        else:
            continue
        for name in names:
            if name == "npde_opt" or name.startswith("npde_opt."):
                yield name.removeprefix("npde_opt").removeprefix(".")


def graph() -> dict[str, set[str]]:
    known = modules()
    return {name: set(imported(path, known)) - {name} for name, path in known.items()}


def circles(edges: dict[str, set[str]]) -> list[str]:
    """Modules that are on a circle or between two of them.

    Those that import nothing, or that nothing imports, are taken away, again and again.
    """
    left = {name: set(to) for name, to in edges.items()}
    while True:
        used = set().union(*left.values())
        ends = [
            name for name, to in left.items() if not to & set(left) or name not in used
        ]
        if not ends:
            return sorted(left)
        for name in ends:
            del left[name]


def room(name: str) -> str:
    return name.partition(".")[0]


def floor(name: str) -> int:
    """Raises StopIteration for a room without a floor."""
    return next(i for i, rooms in enumerate(FLOORS) if room(name) in rooms)


def test_every_room_has_a_floor():
    placed = {name for rooms in FLOORS for name in rooms}
    assert {room(name) for name in modules()} == placed


def test_no_import_goes_upward():
    upward = [
        f"{name} -> {other}"
        for name, others in graph().items()
        for other in others
        if room(name) != room(other) and floor(other) <= floor(name)
    ]
    assert upward == []


def test_no_circle_of_imports():
    assert circles(graph()) == []


def test_a_circle_would_be_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a", "e"}, "d": {"a"}}) == [
        "a",
        "b",
        "c",
    ]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
