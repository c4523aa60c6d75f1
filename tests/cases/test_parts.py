"""What ranks evaluate of a field on their own cells is what one rank makes of all of them."""

import base64
import itertools
import tracemalloc
import zlib

import numpy as np
import pytest
import scipy.io
from mpi4py import MPI

from npde_opt.cases.fields import evaluate, evaluate_part, labels
from npde_opt.cases.parts import Part
from npde_opt.cases.sources import Sources
from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.grids.cuts import even
from npde_opt.io import archives, grdecl_numbers
from npde_opt.io import stored as stored_arrays
from npde_opt.io.fields import open_stored, read_gridded
from npde_opt.io.stored import Streamed
from npde_opt.io.vtk import write_vtk
from npde_opt.io.zarr_writer import write_zarr

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


def zarr(folder):
    grid = Grid(SHAPE, edges=OWN, comm=MPI.COMM_SELF)
    return {"file": write_zarr(folder / "f", grid, {"a": VALUES}).name}


def ascii_vti(folder):
    numbers = " ".join(map(repr, VALUES.ravel(order="F").tolist()))
    (folder / "t.vti").write_text(
        '<VTKFile type="ImageData"><ImageData Spacing="1 1 1"><Piece Extent="0 6 0 5 0 4">'
        f'<CellData><DataArray type="Float64" Name="a" format="ascii">{numbers}</DataArray>'
        "</CellData></Piece></ImageData></VTKFile>"
    )
    return {"file": "t.vti"}


def npz(name, values, packed=False):
    def write(folder):
        save = np.savez_compressed if packed else np.savez
        save(folder / name, b=np.ones(3), a=values)
        return {"file": name, "key": "a"}

    return write


def mat(folder):
    scipy.io.savemat(folder / "a.mat", {"a": VALUES, "b": np.ones(3)})
    return {"file": "a.mat", "key": "a"}


def grdecl(name, values=VALUES, above="", below=""):
    words = list(map(repr, values.ravel(order="F").tolist()))
    rows = [" ".join(words[i : i + 7]) for i in range(0, len(words), 7)]

    def write(folder):
        text = f"{above}DX\n120*2 /\nPERMX -- mD\n" + "\n".join(rows) + f" /\n{below}"
        (folder / name).write_text(text)
        flat = {} if above else {"shape": list(SHAPE)}
        return {"file": name, "key": "PERMX", **flat}

    return write


def bare(folder):
    np.savetxt(folder / "n.dat", VALUES.ravel(order="F").reshape(-1, 6), fmt="%.17g")
    return {"file": "n.dat", "shape": list(SHAPE)}


def packed(values, blocks, order):
    """As VTK packs: counts and blocks that are packed each."""
    raw = values.tobytes()
    each = -(-len(raw) // blocks)
    parts = [zlib.compress(raw[i : i + each]) for i in range(0, len(raw), each)]
    head = [len(parts), each, len(raw) % each, *map(len, parts)]
    return np.array(head, order + "u4").tobytes(), b"".join(parts)


def encoded(name, order="<", coded=True, blocks=0, inline=False):
    """A .vti in one of the encodings of binary values."""

    def write(folder):
        values = VALUES.ravel(order="F").astype(order + "f8")
        head, body = np.array([values.nbytes], order + "u4").tobytes(), values.tobytes()
        if blocks:
            head, body = packed(values, blocks, order)
        content = head + body
        if coded and blocks:
            content = base64.b64encode(head) + base64.b64encode(body)
        elif coded:
            content = base64.b64encode(head + body)
        pack = ' compressor="vtkZLibDataCompressor"' if blocks else ""
        big = "BigEndian" if order == ">" else "LittleEndian"
        own = "binary" if inline else "appended"
        text = (
            f'<VTKFile type="ImageData" byte_order="{big}"{pack}><ImageData>'
            '<Piece Extent="0 6 0 5 0 4"><CellData>'
            f'<DataArray type="Float64" Name="a" format="{own}" offset="0">'
        ).encode()
        text += (
            content if inline else b""
        ) + b"</DataArray></CellData></Piece></ImageData>"
        if not inline:
            kind = b"base64" if coded else b"raw"
            text += b'<AppendedData encoding="' + kind + b'">_' + content
            text += b"</AppendedData>"
        (folder / name).write_bytes(text + b"</VTKFile>")
        return {"file": name}

    return write


def legacy(name, binary):
    def write(folder):
        flat = VALUES.ravel(order="F")
        values = (
            flat.astype(">f8").tobytes()
            if binary
            else b"\n".join(repr(v).encode() for v in flat.tolist())
        )
        head = (
            f"# vtk DataFile Version 3.0\nt\n{'BINARY' if binary else 'ASCII'}\n"
            "DATASET STRUCTURED_POINTS\nDIMENSIONS 7 6 5\nORIGIN 0 0 0\nSPACING 1 1 1\n"
            "CELL_DATA 120\nSCALARS a double\nLOOKUP_TABLE default\n"
        )
        (folder / name).write_bytes(head.encode() + values + b"\n")
        return {"file": name}

    return write


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
    "zarr": zarr,
    "vti, big-endian": encoded("big.vti", ">", coded=False),
    "vtk, binary": legacy("l.vtk", binary=True),
    "npz": npz("a.npz", VALUES),
    "npz, x fastest": npz("f.npz", np.asfortranarray(VALUES)),
}
BY_STREAM = {
    "npz, packed": npz("p.npz", VALUES, packed=True),
    "npz, packed, x fastest": npz("q.npz", np.asfortranarray(VALUES), packed=True),
    "grdecl": grdecl("a.grdecl"),
    "grdecl, with a size": grdecl("s.grdecl", above="SPECGRID\n6 5 4 /\n"),
    "numbers alone": bare,
    "vti, base64": encoded("b.vti"),
    "vti, base64 inside": encoded("i.vti", ">", inline=True),
    "vti, packed": encoded("p.vti", coded=False, blocks=7),
    "vti, packed, base64": encoded("q.vti", ">", blocks=5),
}
BY_ONE = {
    "vti, text": ascii_vti,
    "vtk, text": legacy("t.vtk", binary=False),
    "mat": mat,
    "grdecl that changes": grdecl(
        "c.grdecl",
        above="SPECGRID\n6 5 4 /\n",
        below="MULTIPLY\nPERMX 2 /\nPERMX 0.5 /\n/\n",
    ),
    "table": table,
}
ALL = BY_WINDOW | BY_STREAM | BY_ONE
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
        if i % 9 == 0:
            yield tuple(slice(*part) for part in parts)


@pytest.mark.parametrize("name", ALL)
def test_windows_of_files_are_parts_of_the_whole(tmp_path, name):
    spec = ALL[name](tmp_path)
    here = sources(tmp_path)
    stored = None
    if name != "table":
        stored = open_stored(tmp_path / spec["file"], spec.get("key"))
    assert (stored is not None) == (name not in BY_ONE)
    assert isinstance(stored, Streamed) == (name in BY_STREAM)
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
    for name, write in ALL.items():
        if "scaled" in name or "compressed" in name:
            continue
        spec = write(tmp_path)
        wanted = VALUES * (2 if spec.get("key") == "b" else 1)
        wanted = np.abs(VALUES + 1j) ** 2 if "complex" in name else wanted
        box = [np.arange(n + 1.0) for n in SHAPE]
        by_itself = any(n in name for n in ("vti", "vtk", "nifti"))
        edges = box if by_itself else OWN
        found = evaluate("k", spec, edges, sources(tmp_path))
        np.testing.assert_allclose(found, wanted, rtol=1e-6, err_msg=name)


@pytest.mark.parallel([1, 2, 3])
def test_ranks_evaluate_their_own_cells(tmp_path):
    comm = MPI.COMM_WORLD
    folder = comm.bcast(tmp_path, root=0)
    specs = dict(SPECS)
    for name, write in ALL.items():
        specs[name] = comm.bcast(write(folder) if comm.rank == 0 else None, root=0)
    for name, spec in specs.items():
        for edges in (OWN, FINER) if name in SPECS else (FINER,):
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


@pytest.mark.parallel([1, 2, 3])
def test_a_damaged_stream_is_told_by_all(tmp_path):
    comm = MPI.COMM_WORLD
    folder, cells = comm.bcast(tmp_path, root=0), [e.size - 1 for e in OWN]
    if comm.rank == 0:
        encoded("d.vti", coded=False, blocks=7)(folder)
        content = bytearray((folder / "d.vti").read_bytes())
        content[-120] ^= 255  # inside of the last blocks
        (folder / "d.vti").write_bytes(content)
        grdecl("d.grdecl", values=VALUES[:5], above="SPECGRID\n6 5 4 /\n")(folder)
    comm.Barrier()
    part = Part(OWN, even(cells, comm).box, comm)
    for spec, said in (
        ({"file": "d.vti"}, "cannot be read"),
        ({"file": "d.grdecl", "key": "PERMX"}, "100 values; allowed: 120 values"),
    ):
        with pytest.raises(InputError, match=said):
            evaluate_part("k", spec, part, sources(folder))


@pytest.mark.parametrize("name", ["a.npz", "a.grdecl"])
def test_a_stream_is_never_whole_in_memory(tmp_path, name, monkeypatch):
    monkeypatch.setattr(stored_arrays, "SLAB", 1000)
    monkeypatch.setattr(grdecl_numbers, "TOGETHER", 500)
    monkeypatch.setattr(archives, "TOGETHER", 8000)
    values = np.random.default_rng(0).integers(0, 9, (30, 40, 50)).astype(float)
    write = {
        "a.npz": npz("a.npz", values, packed=True),
        "a.grdecl": grdecl("a.grdecl", values),
    }
    write[name](tmp_path)
    found = open_stored(tmp_path / name, "a" if name == "a.npz" else "PERMX")
    tracemalloc.start()
    cells = (slice(3, 9), slice(0, 40), slice(20, 22))
    own = found.window(values.shape, cells)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(own, values[cells])
    assert peak < 0.6 * values.nbytes
