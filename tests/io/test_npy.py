"""Cell fields as .npy files: the bytes of numpy.save, on any number of ranks."""

import io

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.io.npy import write_npy


def saved(array):
    content = io.BytesIO()
    np.save(content, np.asfortranarray(array))
    return content.getvalue()


@pytest.mark.parallel([1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(9,), (2, 9, 8), (5, 4, 6)])
@pytest.mark.parametrize("kind", ["f8", "i2", "c16"])
def test_bytes_are_those_of_numpy(tmp_path, shape, kind):
    comm = MPI.COMM_WORLD
    folder = comm.bcast(tmp_path, root=0)
    # Two channels of a grid in the plane.
    grid = Grid(shape[1:] if shape[0] == 2 else shape)
    array = np.arange(np.prod(shape)).reshape(shape).astype(kind)
    path = write_npy(folder / "u", grid, array[(..., *grid.local_slice)])
    comm.Barrier()
    assert path.name == "u.npy" and path.read_bytes() == saved(array)


@pytest.mark.parallel([1, 2])
def test_what_cannot_be_written_is_told_on_every_rank(tmp_path):
    comm = MPI.COMM_WORLD
    folder, grid = comm.bcast(tmp_path, root=0), Grid((6, 6))
    with pytest.raises(InputError, match="nowhere.*No such file"):
        write_npy(folder / "nowhere" / "u", grid, np.zeros(grid.local_shape))
    with pytest.raises(InputError, match="values: got shape"):
        write_npy(folder / "u", grid, np.zeros((99, 2)))
    comm.Barrier()
    assert list(folder.iterdir()) == []


@pytest.mark.parallel([1, 2, 3])
def test_a_full_disk_is_told(tmp_path, monkeypatch):
    comm = MPI.COMM_WORLD
    folder, grid = comm.bcast(tmp_path, root=0), Grid((6, 6))

    def full(descriptor, offset, size):
        assert size == len(saved(np.zeros((6, 6))))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(InputError, match="u.npy.*No space left on device"):
        write_npy(folder / "u", grid, np.zeros(grid.local_shape))
    comm.Barrier()
    assert list(folder.iterdir()) == []
