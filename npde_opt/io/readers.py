"""The readers of single formats, each loaded where a file of its format is read: together they take
a twentieth of the start of a run."""

from npde_opt.lazily import called_lazily

open_mat, open_npz, stored_npz = (
    called_lazily("npde_opt.io.archives", name)
    for name in ("open_mat", "open_npz", "stored_npz")
)
included, open_grdecl, stream_grdecl = (
    called_lazily("npde_opt.io.grdecl", name)
    for name in ("included", "open_grdecl", "stream_grdecl")
)
open_nifti, sliced_nifti, whole_nifti = (
    called_lazily("npde_opt.io.nifti", name)
    for name in ("open_nifti", "sliced_nifti", "whole_nifti")
)
read_legacy_vtk, stored_legacy_vtk = (
    called_lazily("npde_opt.io.vtk_legacy", name)
    for name in ("read_legacy_vtk", "stored_legacy_vtk")
)
open_xml_vtk, read_xml_vtk = (
    called_lazily("npde_opt.io.vtk_reader", name)
    for name in ("open_xml_vtk", "read_xml_vtk")
)
open_zarr, stored_zarr = (
    called_lazily("npde_opt.io.zarr_reader", name)
    for name in ("open_zarr", "stored_zarr")
)
