"""Ranks that do different things end with one message: no maximum is one with a sum, or with a
maximum of another size or type."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import trials  # noqa: E402

BLOCK = "ends the block"


@pytest.mark.parametrize(
    "first, others, said, ranks",
    [
        ("maximum", "sum", ("forms a maximum", "forms a sum"), 2),
        ("sum", "maximum", ("forms a sum", "forms a maximum"), 4),
        ("maximum", "minimum", ("forms a maximum", "forms a minimum"), 2),
        ("maximum", "two", ("forms a maximum", "forms a maximum"), 3),
        ("many", "two", ("forms a maximum", "forms a maximum"), 2),
        ("maximum", "many", ("forms a maximum", "forms a maximum"), 2),
        ("maximum", "integer", ("forms a maximum", "forms a maximum"), 2),
        ("maximum", "single", ("forms a maximum", "forms a maximum"), 2),
        ("everywhere", "anywhere", ("forms a maximum", "forms a maximum"), 2),
        ("same", "maximum", ("forms a maximum", "forms a maximum"), 2),
        ("block", "maximum", (BLOCK, "forms a maximum"), 2),
        ("maximum", "inside", ("forms a maximum", "forms a maximum"), 2),
    ],
)
def test_ranks_that_do_different_things_are_told_so(first, others, said, ranks):
    ended = trials.launch(ranks, "tests/ranks_apart.py", first, others)
    assert ended.code == 1 and ended.messages == 1, ended.text
    assert "went on" not in ended.text
    assert f"the ranks went different ways: rank 0 {said[0]} at" in ended.text
    assert f"rank 1 {said[1]} at" in ended.text


@pytest.mark.parametrize("at, ranks", [("maximum", 2), ("many", 2), ("two", 3)])
def test_a_rank_that_failed_ends_those_in_a_maximum(at, ranks):
    ended = trials.launch(ranks, "tests/ranks_apart.py", "raise", at)
    assert ended.code == 2 and ended.messages == 1, ended.text
    assert "it failed" in ended.text and "went on" not in ended.text
    assert ended.seconds < 12.0


def test_ranks_that_do_the_same_go_on():
    for name in ("maximum", "many", "same", "inside"):
        ended = trials.launch(2, "tests/ranks_apart.py", name, name)
        assert ended.code == 0 and ended.text.count("went on") == 2, ended.text
