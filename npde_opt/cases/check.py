"""`python -m npde_opt check CASE`: reads a case, builds its grid and starting point, and says what a run would need."""

from __future__ import annotations

import argparse

from mpi4py import MPI

from npde_opt.errors import NpdeError


def check_main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m npde_opt check", description=__doc__)
    parser.add_argument("case", nargs="?", help="a TOML file")
    parser.add_argument("--data", help="folder with the case's data files")
    parser.add_argument("--format", action="store_true", help="print the format of a case instead")
    options = parser.parse_args(argv)
    if options.format:
        from npde_opt.cases.schema import document

        print(document())
        return 0
    if not options.case:
        parser.error("a case file is needed")
    from npde_opt.cases.case import load_case

    comm = MPI.COMM_WORLD
    try:
        case = load_case(options.case, comm, data=options.data)
        grid = case.grid(comm)
        space = case.space(grid)
        case.start(space).destroy()
        case.terms(grid)
        count = len(case.points())
        case.observation(grid).destroy()
        case.experiments(grid, range(case.experiment_count))
    except NpdeError as error:
        print(f"error: {error}")
        return error.exit_code
    size = space.size
    gigabytes = grid.size * (120 + 70 * grid.dim) / 1e9
    print(f"{options.case} is well formed")
    print(f"  grid          {' x '.join(map(str, grid.shape))}, {grid.active_size:,} of {grid.size:,} cells active")
    print(f"  unknowns      {', '.join(u.name + ' (' + u.transform + ')' for u in space.unknowns)}: {size:,} values")
    print(f"  experiments   {case.experiment_count}, {count} observations each")
    print(f"  memory        about {gigabytes:.2g} GB for operator and hierarchy, all ranks together")
    return 0
