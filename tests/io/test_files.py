"""Files appear whole or not at all."""

import pytest

from npde_opt.io.files import whole_file


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a"
    with whole_file(path) as file:
        file.write(b"first")
        assert not path.exists()
    with pytest.raises(ZeroDivisionError), whole_file(path) as file:
        file.write(b"second")
        raise ZeroDivisionError
    assert [p.name for p in tmp_path.iterdir()] == [
        "a"
    ] and path.read_bytes() == b"first"
