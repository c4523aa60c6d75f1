"""Packages copied to a folder of the node are those that a run imports."""

import subprocess
import sys
from pathlib import Path

from calling import environment

SCRIPT = Path(__file__).parents[1] / "scripts" / "local-copy"
WHERE = "import msgspec, npde_opt; print(msgspec.__file__, npde_opt.__file__)"


def run(*words, **options):
    return subprocess.run(
        [str(w) for w in words],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def test_a_run_imports_the_copy(tmp_path):
    target = tmp_path / "copy"
    for _ in range(2):  # the second one replaces the first
        made = run(SCRIPT, target, "msgspec", env=environment())
        assert made.returncode == 0, made.stderr
    own = environment() | {"PYTHONPATH": str(target)}
    found = run(sys.executable, "-c", WHERE, cwd=tmp_path, env=own)
    paths = [Path(word) for word in found.stdout.split()]
    assert [p.parents[1] for p in paths] == [target, target], found.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["copy"]


def test_no_other_folder_is_replaced(tmp_path):
    (tmp_path / "kept").touch()
    refused = run(SCRIPT, tmp_path, "msgspec", env=environment())
    assert refused.returncode == 2 and "no copy" in refused.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]
