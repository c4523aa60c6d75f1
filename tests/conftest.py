"""What a run of pytest covers."""

from mpi4py import MPI


def pytest_report_header() -> str:
    here = f"the tests for {MPI.COMM_WORLD.size} of 1, 2, 3, 4 and 8 ranks"
    return f"npde_opt: {here}; the others: scripts/pytest-ranks N, or make test"
