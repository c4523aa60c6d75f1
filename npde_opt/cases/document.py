"""The format of a case as a Markdown page, from the structs that read it."""

from __future__ import annotations

import typing

from npde_opt.cases import (
    equation_tables,
    experiment_tables,
    field_tables,
    grid_tables,
    posterior_tables,
)
from npde_opt.cases.old_keys import INSTEAD
from npde_opt.cases.sections import CaseFile
from npde_opt.cases.term_tables import TERMS, ExperimentSource
from npde_opt.cases.typed import (
    Kind,
    Table,
    bare,
    is_table,
    keys_of,
    limits,
    options,
    origin_of,
    rows_of,
)
from npde_opt.grids.locate import PLACES

HEAD = """# The format of a case

A case is a TOML file. It says which equation holds on which grid, what is done in the experiments,
what is observed, and what is unknown:

```toml
[grid]
shape = [32, 32]                  # cells; of a unit square, where nothing else is said

[boundaries]                      # the other sides: no flux
"y-" = "dirichlet"
"y+" = "dirichlet"

[equation]                        # -div(D grad u) = 1
terms = [{ diffusion = "D" }, { source = 1.0 }]

[[unknown]]
name = "D"                        # a field, by its logarithm
initial = 1.0
truth = { expression = "exp(sin(6*x)*cos(5*y))" }

[[experiment]]
boundary = { "y+" = 1.0 }         # 0 on the other Dirichlet side

[[observation]]
random = 200                      # points; their data are simulated on a finer grid
noise = 0.01

[[regularization]]
```

With a section `[time]` the state moves on from an initial one; without, it is the steady state.
Without `[[experiment]]`, `[electrodes]` and `[wells]` there is one experiment, which the equation
alone drives.

A *field* is a number, or one of the tables of fields below, e.g. `{file = 'K.npy'}` or
`{expression = 'exp(x)*y'}`; `scale` and then `clip` apply to its values. Relative files are looked
for beside the case, then in `--data`.
"""
OLD = """# From the older format

Steady states and evolutions had cases of their own kind before. One that still has keys of that
time is refused with these lines:

| older | now |
|---|---|"""

FIELDS = (
    field_tables.FileField,
    field_tables.Expression,
    field_tables.Value,
    field_tables.AnatomyField,
    field_tables.Tissues,
    field_tables.LognormalField,
    field_tables.Contrast,
    field_tables.PictureField,
    field_tables.File,
)
INNER = (
    grid_tables.Growing,
    grid_tables.Outside,
    grid_tables.BoundaryKind,
    equation_tables.EqualSteps,
    equation_tables.DoublingSteps,
    equation_tables.AccurateSteps,
    experiment_tables.Well,
    ExperimentSource,
    experiment_tables.SideValue,
    experiment_tables.SidePart,
    experiment_tables.Box,
    experiment_tables.Ball,
    experiment_tables.CountedTimes,
    posterior_tables.QuantitySection,
    posterior_tables.DesignTable,
    posterior_tables.SamplingTable,
    posterior_tables.ProfileTable,
)


def document() -> str:
    """The page."""
    lines = [HEAD, PLACES, "", *sections_of(CaseFile)]
    lines += ["# Terms of an equation", "", *tables_of(TERMS)]
    lines += ["# Fields and files", "", *tables_of(FIELDS)]
    lines += ["# Tables inside the sections", "", *tables_of(INNER)]
    lines += [OLD, *(f"| `{key}` | {now} |" for key, now in INSTEAD.items()), ""]
    return "\n".join(lines)


def sections_of(file: type[Table]) -> list[str]:
    """All sections of a file."""
    return [
        line
        for name, (kind, _) in keys_of(file).items()
        for line in _section(name, kind)
    ]


def _section(name: str, kind: Kind) -> list[str]:
    """A heading and the keys of a section, or what it holds where these are free."""
    table, many = _table(kind)
    title = f"## [[{name}]]" if many else f"## [{name}]"
    if table is None or not many and issubclass(table, field_tables.File):
        said = str(limits(kind).get("description", ""))
        return [title, "", said[:1].upper() + said[1:] + ".", ""]
    return [title, "", _first_line(table), "", *rows_of(table), ""]


def _table(kind: Kind) -> tuple[type[Table] | None, bool]:
    """The struct of a section, and whether there may be many."""
    for member in options(kind):
        inside = bare(member)
        if is_table(member):
            return inside, False
        if origin_of(inside) is list:
            return typing.get_args(inside)[0], True
    return None, False


def tables_of(tables: typing.Iterable[type[Table]]) -> list[str]:
    """Tables inside sections, by their names."""
    lines = []
    for table in tables:
        lines += [
            f"## {table.__name__}",
            "",
            _first_line(table),
            "",
            *rows_of(table),
            "",
        ]
    return lines


def _first_line(table: type[Table]) -> str:
    first = (table.__doc__ or "").strip().split("\n\n")[0]
    return " ".join(first.split())
