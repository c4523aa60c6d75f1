"""A training case is told in numbers; the example of docs/training.md runs as it stands."""

import re
from pathlib import Path

from small import written

from npde_opt.__main__ import main

PAGE = Path(__file__).resolve().parents[2] / "docs" / "training.md"
MESHES = PAGE.parents[1] / "meshes"


def test_a_case_is_told_in_numbers(tmp_path, capsys):
    file = written(tmp_path)
    assert main(["check", str(file)]) == 0
    said = capsys.readouterr().out
    assert "1 channels on 5 x 6 x 1 cells, 3 classes" in said
    assert "training      27, 9 to 9 of a class" in said
    assert "2, 114 weights" in said and "W1          3 x 1 x 3 x 3" in said
    file.write_text(file.read_text().replace("channels = 3", "channels = 2"))
    assert main(["check", str(file)]) == 2
    assert "layer[1]: got 2 outputs" in capsys.readouterr().err


def test_cases_of_equations_are_checked_as_before(capsys):
    assert main(["check", str(MESHES / "lognormal.toml")]) == 0
    assert "lognormal" in capsys.readouterr().out.lower()


def test_the_example(capsys):
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    exec(block, {})
    assert capsys.readouterr().out == "(21, 1, 1, 8, 8) [7 7 7]\n"
