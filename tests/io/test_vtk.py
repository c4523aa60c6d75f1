"""VTK files: what is written is read back, the same bytes on any number of ranks."""

import hashlib

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.io.fields import list_fields, read_field
from npde_opt.io.vtk import write_vtk

STRETCHED = (
    np.array([0, 1, 3, 7.0]),
    np.array([0, 0.5, 1, 2, 4.0]),
    np.array([-3, -1, 0.0]),
)


def shared(tmp_path):
    return MPI.COMM_WORLD.bcast(tmp_path, root=0)


def numbers(shape):
    return np.sin(np.arange(np.prod(shape))).reshape(shape, order="F")


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("shape", [(7,), (5, 6), (3, 4, 5)])
def test_uniform_round_trip(tmp_path, shape):
    folder, comm = shared(tmp_path), MPI.COMM_WORLD
    grid = Grid(shape, extent=[2.0, 3.0, 4.0][: len(shape)])
    field = numbers(shape)
    mask = (field > 0)[grid.local_slice]
    vec = grid.from_natural(field)
    path = write_vtk(
        folder / "k", grid, {"log k": vec, "region": mask.astype("i4"), "up": mask}
    )
    comm.Barrier()
    assert path.name == "k.vti"
    np.testing.assert_array_equal(read_field(path, "log k"), field)
    np.testing.assert_array_equal(read_field(path, "region"), (field > 0).astype("i4"))
    assert read_field(path, "up").dtype == np.uint8 and list_fields(path) == [
        "log k",
        "region",
        "up",
    ]


@pytest.mark.parallel([1, 2, 3, 4])
def test_stretched_with_components_and_inactive_cells_gives_the_same_bytes(tmp_path):
    folder, comm = shared(tmp_path), MPI.COMM_WORLD
    active = np.ones((3, 4, 2), bool)
    active[0, 0, 0] = active[2, 1, 1] = False
    paths = []
    for name, on in (("together", comm), ("alone", MPI.COMM_SELF)):
        grid = Grid((3, 4, 2), edges=STRETCHED, active=active, comm=on)
        flux = np.stack([numbers(grid.shape) * (c + 1) for c in range(3)])[
            (slice(None), *grid.local_slice)
        ]
        paths.append(folder / f"{name}{comm.rank if on is MPI.COMM_SELF else ''}")
        paths[-1] = write_vtk(
            paths[-1], grid, {"k": grid.from_natural(numbers(grid.shape)), "flux": flux}
        )
    comm.Barrier()
    together, alone = (hashlib.sha256(p.read_bytes()).hexdigest() for p in paths)
    assert together == alone
    assert paths[0].suffix == ".vtr"
    assert read_field(paths[0], "flux").shape == (3, 3, 4, 2)
    np.testing.assert_array_equal(
        read_field(paths[0], "flux")[2], 3 * numbers((3, 4, 2))
    )
    np.testing.assert_array_equal(read_field(paths[0], "active"), active)


@pytest.mark.parallel([1, 2])
def test_errors_leave_no_file_and_reach_every_rank(tmp_path):
    folder, grid = shared(tmp_path), Grid((6, 6))
    with pytest.raises(InputError, match="nowhere"):
        write_vtk(folder / "nowhere" / "k", grid, {"k": grid.create_vec()})
    with pytest.raises(InputError, match="field k: got shape"):
        write_vtk(folder / "k", grid, {"k": np.zeros((99, 2))})
    with pytest.raises(InputError, match="complex"):
        write_vtk(folder / "k", grid, {"k": np.zeros(grid.local_shape, complex)})
    stretched = Grid((3, 4), edges=STRETCHED[:2])
    with pytest.raises(InputError, match=r"\.vti for a stretched grid"):
        write_vtk(folder / "k.vti", stretched, {"k": stretched.create_vec()})
    MPI.COMM_WORLD.Barrier()
    assert list(folder.iterdir()) == []


def test_a_file_that_is_cut_short_is_refused(tmp_path):
    grid = Grid((6, 6), comm=MPI.COMM_SELF)
    path = write_vtk(tmp_path / "k", grid, {"k": grid.create_vec()})
    content = path.read_bytes()
    start = content.index(b"_", content.index(b"AppendedData")) + 1
    path.write_bytes(
        content[: start + 100] + content[content.index(b"\n  </AppendedData>") :]
    )
    with pytest.raises(InputError, match="cut short"):
        read_field(path)
