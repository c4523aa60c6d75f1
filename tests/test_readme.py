"""The README's Python and the cases in docs/ run as they stand; no page names an older section."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mpi4py import MPI

from npde_opt import nested
from npde_opt.cases import load_case
from npde_opt.ensemble import Ensemble
from npde_opt.runs.monitor import Monitor
from npde_opt.runs.report import truth_errors

README = Path(__file__).resolve().parents[1] / "README.md"
DOCS = README.parent / "docs"
LAUNCHED = ("OMPI_COMM", "PMIX_", "PMI_", "ORTE_")


def printed(page):
    """The words that the (first) Python of a page prints."""
    code = re.search(r"```python\n(.*?)```", page.read_text(), re.DOTALL).group(1)
    env = {k: v for k, v in os.environ.items() if not k.startswith(LAUNCHED)}
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=env,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


def test_the_identification_in_the_readme_converges():
    status, objective = printed(README)
    assert status == "converged"
    assert float(objective) == pytest.approx(70.84145, rel=1e-5)


def test_minibatches_of_docs_how_it_works_learn_two_classes():
    loss, misread = map(float, printed(DOCS / "how-it-works.md"))
    assert loss < 0.2 and misread == 0


def fitted(page, folder, cells=None):
    """The whole case of a page in docs/: how its run ended, and the errors against the truth."""
    found = re.findall(r"```toml\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    (text,) = (t for t in found if "[grid]" in t)
    path = folder / "case.toml"
    path.write_text(text)
    case = load_case(path, MPI.COMM_WORLD, cells=cells)
    ensemble, monitor = Ensemble.whole(MPI.COMM_WORLD), Monitor(MPI.COMM_WORLD, None)
    case.prepare(ensemble)
    found = nested.identify(
        case.grid(MPI.COMM_WORLD),
        lambda grid: case.build(grid, ensemble),
        case.settings(),
        1,
        monitor,
    )
    space = found.objective.space
    return found.result.status, truth_errors(case.on(space.grid), space, found.result.m)


def test_the_case_in_docs_evolution_is_fitted(tmp_path):
    status, errors = fitted("evolution.md", tmp_path, (12, 12))
    assert status == "converged"
    assert errors["relative_error_r"] < 0.01


def test_the_case_in_docs_case_format_is_fitted(tmp_path):
    status, errors = fitted("case-format.md", tmp_path)
    assert status == "converged"
    assert errors["relative_error_D"] < 0.5


@pytest.mark.parametrize("section", ["evolution", "experiments", "observations"])
def test_no_page_names_a_section_of_the_older_format(section):
    for page in (README, *DOCS.glob("*.md")):
        assert f"[{section}]" not in page.read_text(), page.name
