"""What a run of pytest covers."""

import pytest
from mpi4py import MPI


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "fewer(ranks, name=[values]): from so many ranks on, of a parameter only these values",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = [item for item in items if _runs(item)]


def _runs(item: pytest.Item) -> bool:
    given = item.callspec.params if hasattr(item, "callspec") else {}
    ranks = given.get("_nprocs", 1)
    for mark in item.iter_markers("fewer"):
        (least,) = mark.args
        for name, values in mark.kwargs.items():
            if ranks >= least and str(given[name]) not in map(str, values):
                return False
    return True


def pytest_report_header() -> str:
    here = f"the tests for {MPI.COMM_WORLD.size} of 1, 2, 3, 4 and 8 ranks"
    return f"npde_opt: {here}; the others: scripts/pytest-ranks N, or make test"
