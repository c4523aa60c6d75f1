"""The page of the format is that of the structs."""

from pathlib import Path

from npde_opt.cases import sections
from npde_opt.cases.document import FIELDS, INNER, document
from npde_opt.cases.term_tables import TERMS
from npde_opt.cases.typed import keys_of

DOCS = Path(__file__).resolve().parents[2] / "docs"


def part(page, heading):
    """The lines under a heading."""
    return page.split(f"\n{heading}\n")[1].split("\n#")[0]


def test_the_format_names_every_key_of_every_section():
    page = document()
    many = {"unknown", "experiment", "observation", "regularization"}
    for name in keys_of(sections.CaseFile):
        assert part(page, f"## [[{name}]]" if name in many else f"## [{name}]").strip()
    for heading, table in (
        ("[grid]", sections.GridSection),
        ("[equation]", sections.EquationSection),
        ("[time]", sections.TimeSection),
        ("[[experiment]]", sections.ExperimentSection),
        ("[electrodes]", sections.ElectrodesSection),
        ("[[observation]]", sections.ObservationSection),
        ("[[regularization]]", sections.RegularizationSection),
        ("[optimizer]", sections.OptimizerSection),
    ):
        rows = part(page, f"## {heading}")
        assert all(f"| `{key}` |" in rows for key in keys_of(table)), heading


def test_the_format_names_every_key_of_terms_and_fields():
    page = document()
    for table in (*TERMS, *FIELDS, *INNER):
        rows = part(page, f"## {table.__name__}")
        assert all(f"| `{key}` |" in rows for key in keys_of(table)), table


def test_defaults_are_spelt_as_in_a_case():
    rows = part(document(), "## [equation]")
    assert "| `terms` | " in rows and "`[{ diffusion = 'D' }]`" in rows
    assert "required" in part(document(), "## [time]")


def test_the_page_in_docs_is_that_of_the_structs():
    assert (DOCS / "case-format.md").read_text().strip() == document().strip()
    assert not (DOCS / "evolution-format.md").exists()
