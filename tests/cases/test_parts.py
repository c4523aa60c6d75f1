"""What ranks evaluate of a field on their own cells is what one rank makes of all of them."""

import itertools

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.cases.fields import evaluate, evaluate_part, labels
from npde_opt.cases.parts import Part, even
from npde_opt.cases.sources import Sources
from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.io.fields import open_stored, read_gridded
from npde_opt.io.vtk import write_vtk

OWN = [np.linspace(0, 6, 7), np.array([0, 0.4, 1, 2, 3.5, 5.0]), np.linspace(0, 4, 5)]
FINER = [np.linspace(0, 6, 10), np.linspace(0, 5, 6), np.array([0, 0.2, 2, 4.0])]
SHAPE = (6, 5, 4)
VALUES = np.random.default_rng(0).normal(size=SHAPE)
NUMBERS = np.random.default_rng(1).integers(0, 7, SHAPE)


def nifti(name, turn, slope=None):
    def write(folder):
        nibabel = pytest.importorskip("nibabel")
        # Index 0 runs along y, index 1 down along x, index 2 along z.
        stored = VALUES.transpose(1, 0, 2)[:, ::-1] if turn else VALUES
        affine = np.eye(4)
        affine[:3, 3] = 0.5
        if turn:
            affine[:3, :2] = [[0, -1], [1, 0], [0, 0]]
            affine[0, 3] = 5.5
        kept = np.rint(stored * 50).astype("i2") if slope else stored
        image = nibabel.Nifti1Image(kept, affine)
        if slope:
            image.header.set_slope_inter(slope, 1.0)
        nibabel.save(image, folder / name)
        return {"file": name}

    return write


def array(name, values, **more):
    def write(folder):
        np.save(folder / name, values)
        return {"file": name, **more}

    return write


def vtk(edges):
    def write(folder):
        grid = Grid(SHAPE, edges=edges, comm=MPI.COMM_SELF)
        path = write_vtk(folder / "f", grid, {"a": VALUES, "b": 2 * VALUES})
        return {"file": path.name, "key": "b"}

    return write


def ascii_vti(folder):
    numbers = " ".join(map(repr, VALUES.ravel(order="F").tolist()))
    (folder / "t.vti").write_text(
        '<VTKFile type="ImageData"><ImageData Spacing="1 1 1"><Piece Extent="0 6 0 5 0 4">'
        f'<CellData><DataArray type="Float64" Name="a" format="ascii">{numbers}</DataArray>'
        "</CellData></Piece></ImageData></VTKFile>"
    )
    return {"file": "t.vti"}


def npz(folder):
    np.savez(folder / "a.npz", a=VALUES)
    return {"file": "a.npz"}


def grdecl(folder):
    numbers = " ".join(map(repr, VALUES.ravel(order="F").tolist()))
    (folder / "a.grdecl").write_text(f"PERMX\n{numbers} /\n")
    return {"file": "a.grdecl", "shape": list(SHAPE)}


def table(folder):
    np.savetxt(folder / "a.csv", VALUES.ravel(order="F"), header="v", comments="")
    return {"file": "a.csv", "column": "v"}


BY_WINDOW = {
    "npy": array("c.npy", VALUES),
    "npy, x fastest": array("f.npy", np.asfortranarray(VALUES)),
    "npy, flat": array("l.npy", VALUES.ravel(order="F"), shape=list(SHAPE)),
    "npy, single": array("s.npy", VALUES.astype(">f4")),
    "npy, complex": array("z.npy", VALUES + 1j, part="intensity"),
    "nifti": nifti("a.nii", turn=True),
    "nifti, scaled": nifti("b.nii", turn=False, slope=0.02),
    "nifti, compressed": nifti("c.nii.gz", turn=True, slope=0.5),
    "vti": vtk([np.arange(n + 1.0) for n in SHAPE]),
    "vtr": vtk(OWN),
}
BY_ONE = {"vti, text": ascii_vti, "npz": npz, "grdecl": grdecl, "table": table}
SPECS = {
    "number": 2.0,
    "text": {"expression": "sin(3*x) + y*z", "scale": 2.0, "clip": [0.0, 5.0]},
    "random": {"lognormal": {"contrast": 10.0, "seed": 3}},
}


def sources(folder):
    return Sources(folder, None, (None, 0), homes=(OWN,))


def boxes(edges):
    """Some boxes of cells, empty ones and ones of one cell among them."""
    ends = [[(0, n), (n // 2, n), (1, 2), (n, n)] for n in (e.size - 1 for e in edges)]
    for i, parts in enumerate(itertools.product(*ends)):
        if i % 5 == 0:
            yield tuple(slice(*part) for part in parts)


@pytest.mark.parametrize("name", BY_WINDOW | BY_ONE)
def test_windows_of_files_are_parts_of_the_whole(tmp_path, name):
    spec = (BY_WINDOW | BY_ONE)[name](tmp_path)
    here = sources(tmp_path)
    stored = open_stored(tmp_path / spec["file"], spec.get("key"))
    assert (stored is not None) == (name in BY_WINDOW)
    if stored is not None:
        found = read_gridded(
            tmp_path / spec["file"], spec.get("key"), part=spec.get("part")
        )
        whole = tuple(slice(0, n) for n in found.shape)
        assert (stored.shape, stored.unit) == (found.shape, found.unit)
        if not spec.get("part"):
            np.testing.assert_array_equal(
                stored.window(stored.shape, whole), found.values
            )
    for edges, nearest in ((OWN, False), (FINER, False), (FINER, True)):
        whole = evaluate("k", spec, edges, here, nearest)
        for box in boxes(edges):
            part = Part(edges, box, MPI.COMM_SELF)
            own = evaluate_part("k", spec, part, here, nearest)
            np.testing.assert_array_equal(own, whole[box])


def test_values_are_those_of_the_file(tmp_path):
    for name, write in (BY_WINDOW | BY_ONE).items():
        if "scaled" in name or "compressed" in name:
            continue
        spec = write(tmp_path)
        wanted = VALUES * (2 if spec.get("key") == "b" else 1)
        wanted = np.abs(VALUES + 1j) ** 2 if "complex" in name else wanted
        box = [np.arange(n + 1.0) for n in SHAPE]
        edges = OWN if "vti" not in name and "nifti" not in name else box
        found = evaluate("k", spec, edges, sources(tmp_path))
        np.testing.assert_allclose(found, wanted, rtol=1e-6, err_msg=name)


@pytest.mark.parallel([1, 2, 3])
def test_ranks_evaluate_their_own_cells(tmp_path):
    comm = MPI.COMM_WORLD
    folder = comm.bcast(tmp_path, root=0)
    specs = dict(SPECS)
    for name in ("npy", "nifti, compressed", "vtr", "grdecl", "table"):
        made = BY_WINDOW | BY_ONE
        specs[name] = comm.bcast(made[name](folder) if comm.rank == 0 else None, root=0)
    for name, spec in specs.items():
        for edges in (OWN, FINER):
            alone, shared = sources(folder), sources(folder)
            whole = evaluate("k", spec, edges, alone)
            box = even([e.size - 1 for e in edges], comm).box
            own = evaluate_part("k", spec, Part(edges, box, comm), shared)
            np.testing.assert_allclose(own, whole[box], rtol=1e-14, err_msg=name)
            one, all_ranks = alone.log.readings["k"], shared.log.readings["k"]
            assert (one.shape, one.low, one.high) == (
                all_ranks.shape,
                all_ranks.low,
                all_ranks.high,
            )
            assert one.mean == pytest.approx(all_ranks.mean)


@pytest.mark.parallel([1, 2, 3])
def test_what_one_rank_sees_is_told_by_all(tmp_path):
    comm = MPI.COMM_WORLD
    folder, cells = comm.bcast(tmp_path, root=0), [e.size - 1 for e in OWN]
    if comm.rank == 0:
        lost = VALUES.copy()
        lost[0, 0, 0] = np.nan
        np.save(folder / "n.npy", lost)
        np.save(folder / "m.npy", np.where(VALUES[5, 4, 3] == VALUES, -9999, VALUES**2))
        np.save(folder / "r.npy", np.where(NUMBERS[5, 4, 3] == NUMBERS, 0.5, NUMBERS))
    comm.Barrier()
    part = Part(OWN, even(cells, comm).box, comm)
    for name, said in (
        ("n.npy", r"1 NaN of 120 values, the first at \[0, 0, 0\]"),
        ("m.npy", r"-9999 at \[5, 4, 3\], 1 of 120 values"),
    ):
        with pytest.raises(InputError, match=said):
            evaluate_part("k", {"file": name}, part, sources(folder))
    with pytest.raises(InputError, match=r"k: got 0\.5"):
        labels("k", {"file": "r.npy"}, part, sources(folder))
    with pytest.raises(InputError, match="not finite"):
        evaluate_part("k", {"expression": "1/(x - 0.5)"}, part, sources(folder))
