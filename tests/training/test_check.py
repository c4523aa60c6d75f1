"""A training case is told in numbers; the example of docs/training.md runs as it stands."""

import re
from pathlib import Path

import numpy as np
import pytest
from small import samples, trained, written

from npde_opt.__main__ import main
from npde_opt.errors import InputError

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


def test_samples_of_the_test_are_looked_at_before_a_training(tmp_path, capsys):
    file = written(tmp_path, data='test = "b.npz"')
    file.write_text(file.read_text().replace("test = 0.25\n", ""))
    inputs, labels = samples(4)
    inputs[2, 1, 1] = np.nan
    np.savez(tmp_path / "b.npz", inputs=inputs, labels=labels)
    assert main(["check", str(file)]) == 2
    assert "b.npz: got nan in the input of sample 2" in capsys.readouterr().err
    with pytest.raises(InputError, match="nan in the input of sample 2"):
        trained(file, tmp_path / "out")
    assert not (tmp_path / "out" / "run.json").exists()


def test_cases_of_equations_are_checked_as_before(capsys):
    assert main(["check", str(MESHES / "lognormal.toml")]) == 0
    assert "lognormal" in capsys.readouterr().out.lower()


def test_a_misspelt_layer_is_that_of_a_training_case(tmp_path, capsys):
    file = written(tmp_path)
    file.write_text(file.read_text().replace("[[layer]]", "[[layers]]"))
    assert main(["check", str(file)]) == 2
    assert "did you mean 'layer'" in capsys.readouterr().err


def test_a_case_of_reservoirs_is_told_as_such(capsys):
    assert main(["check", str(MESHES / "sunspots_reservoir.toml")]) == 2
    assert "a case of drivers/train_pseudoinverse.py" in capsys.readouterr().out


def test_the_example(capsys):
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    exec(block, {})
    assert capsys.readouterr().out == "(21, 1, 1, 8, 8) [7 7 7]\n"
