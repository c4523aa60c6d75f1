"""The example in docs/uncertainty.md runs as it stands."""

from pathlib import Path


def test_the_example_runs(capsys):
    page = Path(__file__).parents[2] / "docs" / "uncertainty.md"
    code = page.read_text().split("```python")[1].split("```")[0]
    exec(compile(code, str(page), "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) >= 5
