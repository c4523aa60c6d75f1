"""identify.py --uncertainty: what the data leave open of fields, in files and numbers."""

import csv

import numpy as np
import pytest
from calling import ROOT, identify, summary

from npde_opt.io.fields import list_fields, read_field
from npde_opt.io.vtk_reader import read_xml_vtk


def arrays(path):
    return {name: found.values for name, found in read_xml_vtk(path).items()}


CASE = ROOT / "meshes" / "lognormal.toml"
SMALL = ("--grid", 12, 12, "--levels", 1, "--uncertainty", "laplace")


PLACES = """
[posterior]
modes = 2
places = [[0.25, 0.5], [0.75, 0.5]]
"""


def test_deviations_samples_and_numbers(tmp_path):
    case = tmp_path / "case.toml"
    case.write_text(CASE.read_text() + PLACES)
    run = identify(1, case, tmp_path / "one", *SMALL, "--plot")
    assert "warning" not in run.stdout
    found = summary(run, tmp_path / "one")
    metrics = found["metrics"]
    assert 0 < metrics["determined_numbers"] < 144
    assert metrics["eigenvalues_above_1"] <= metrics["posterior_products"]
    assert metrics["information"] > 0
    fields = arrays(tmp_path / "one" / "posterior.vti")
    D = arrays(tmp_path / "one" / "parameters.vti")["D"]
    prior, after = (
        fields[f"D_parameter_{k}"] for k in ("prior_deviation", "deviation")
    )
    assert (after < prior).all() and (after > 0).all()
    np.testing.assert_allclose(fields["D_deviation"], D * after, rtol=1e-5)
    assert {f"D_mode_{k}" in fields for k in (1, 2)} == {True}
    assert "D_mode_3" not in fields and len(metrics["mode_eigenvalues"]) == 2
    row = metrics["places"]["rows"][0]
    held = after[3, 6]  # the cell that holds (0.25, 0.5)
    assert row["deviation"] == pytest.approx(held, rel=1e-3)
    assert metrics["places"]["correlation"][0][1] < 0.9
    assert "D(0.25, 0.5)" in run.stdout
    assert len((tmp_path / "one" / "places.csv").read_text().splitlines()) == 3
    resolved = fields["D_resolution"].sum()
    along = metrics["determined_along_directions"]
    assert resolved == pytest.approx(along, rel=1e-6)
    room = 5 * metrics.get("determined_numbers_error", 1e-6)
    assert along < metrics["determined_numbers"] + room < along + 3
    samples = np.log([fields[f"D_sample_{k}"] / D for k in range(4)])
    assert 0.5 < np.sqrt(np.mean((samples / after) ** 2)) < 1.5
    for name in ("D.png", "D_coverage.png", "bands.png", "information.png"):
        assert (tmp_path / "one" / name).stat().st_size > 5000
    with open(tmp_path / "one" / "predicted.csv") as file:
        rows = list(csv.DictReader(file))
    # The data are fitted by less numbers than they are.
    wide = np.array(
        [[float(r["predicted_deviation"]), float(r["sigma"])] for r in rows]
    )
    parts = wide[:, 0] ** 2 / wide[:, 1] ** 2
    assert 0 < parts.sum() < 1.1 * 144
    told = [float(r["resolution"]) for r in rows]
    np.testing.assert_allclose(told, parts, rtol=1e-6)
    assert metrics["effective_data"] == pytest.approx(parts.sum(), rel=1e-6)
    out = tmp_path / "groups"
    options = (*SMALL, "--experiment-groups", 2)
    again = summary(identify(2, CASE, out, *options), out)["metrics"]
    assert again["information"] == pytest.approx(metrics["information"], rel=1e-3)
    assert again["eigenvalues_above_1"] == metrics["eigenvalues_above_1"]


def test_what_data_leave_open_by_a_weight_that_a_rule_chose(tmp_path):
    """It was built, to be looked at, before the rule had chosen: an AssertionError."""
    case = tmp_path / "case.toml"
    text = CASE.read_text()
    ruled = text.replace(
        "[[regularization]]", "[[regularization]]\nweight = 'discrepancy'"
    )
    case.write_text(ruled)
    for out, options in (("whole", ()), ("later", ("--resume",))):
        if options:
            identify(1, case, tmp_path / out, *SMALL[:-2])
        run = identify(1, case, tmp_path / out, *SMALL, *options)
        metrics = summary(run, tmp_path / out)["metrics"]
        assert metrics["determined_numbers"] > 0
        assert metrics["regularization_weight"] > 0


def test_an_improper_prior_is_told_before_work_begins(tmp_path):
    text = CASE.read_text()
    start = text.index("[[regularization]]")
    end = text.find("\n[", start + 1)
    case = tmp_path / "case.toml"
    case.write_text(text[:start] + ("" if end < 0 else text[end:]))
    run = identify(1, case, tmp_path / "out", *SMALL)
    assert run.returncode == 2
    assert "the prior of D: got none" in run.stderr
    assert not (tmp_path / "out" / "checkpoint-1").exists()


CHAINS = """
[posterior]
samples = 1
zarr = true
[posterior.sampling]
fields = 3
chains = 2
steps = 8
burn_in = 2
checkpoint = 5
temperatures = 3
"""


def test_a_finished_run_goes_on_for_its_chains(tmp_path):
    case, out = tmp_path / "case.toml", tmp_path / "out"
    case.write_text(CASE.read_text() + CHAINS)
    small = ("--grid", 8, 8, "--levels", 1)
    first = summary(identify(1, case, out, *small), out)
    options = (*small, "--resume", "--uncertainty", "samples", "--plot")
    found = summary(identify(2, case, out, *options, "--chain-groups", 2), out)
    assert found["objective"] == pytest.approx(first["objective"], rel=1e-8)
    metrics = found["metrics"]
    figures = ["objective", "mode_1", "mode_2", "mode_3", "mode_4"]
    assert list(metrics["sampled"]) == figures
    assert metrics["chains"] == 2 and len(metrics["acceptance"]) == 2
    assert metrics["temperatures"][0] == 1 and len(metrics["temperatures"]) == 3
    assert len(metrics["swap_rates"]) == 2 and min(metrics["swap_rates"]) > 0
    fields = arrays(out / "posterior.vti")
    assert "D_sample_0" not in fields
    assert list_fields(out / "posterior.zarr") == ["D[0]"]
    assert (fields["D_parameter_sampled_deviation"] > 0).all()
    for k in range(2):
        lines = (out / "samples" / f"chain-{k}.csv").read_text().splitlines()
        assert lines[2].startswith("lp__,accept_stat__,mode_1") and len(lines) == 11
        D = read_field(out / "samples" / f"chain-{k}.zarr", "D[2]")  # of sample 7
        assert D.shape == (8, 8) and (D > 0).all()
    assert (out / "samples.png").stat().st_size > 5000
    chains = out / "samples" / "inference.zarr"
    last = [line.split(",") for line in lines[3:]]
    for name, column in (("posterior/mode_2", 3), ("sample_stats/lp", 0)):
        stored = np.fromfile(chains / name / "c" / "0" / "0").reshape(2, 8)
        told = [float(row[column]) for row in last]
        np.testing.assert_array_equal(stored[1], told)


TWO = """
[grid]
shape = [4, 6]
[boundaries]
"y-" = "dirichlet"
[equation]
terms = [{ diffusion = "D" }]
known = { S = 1.0 }
[[unknown]]
name = "D"
kind = "scalar"
initial = 1.0
truth = 1.5
[[unknown]]
name = "w"
kind = "scalar"
initial = 1.0
truth = 1.0
[[experiment]]
sources = [{ shape = "w*S" }]
[[observation]]
noise = 0.05
[posterior.profile]
numbers = ["D"]
"""
"""Only w / D is seen."""


FIGURE = """
[[posterior.quantities]]
name = "R"
text = "w / D"
"""


def test_profiles_tell_what_data_do_not_bound(tmp_path):
    case, out = tmp_path / "case.toml", tmp_path / "out"
    known = TWO.replace("{ S = 1.0 }", "{ S = 1.0, w = 1.0 }")
    known = known.replace('["D"]', '["D", "R"]') + FIGURE
    start, end = (known.index(x) for x in ('[[unknown]]\nname = "w"', "[[experiment"))
    case.write_text(known[:start] + known[end:])
    options = ("--levels", 1, "--uncertainty", "profile")
    run = identify(1, case, out, *options, "--plot")
    row = summary(run, out)["metrics"]["numbers"]["D"]
    assert row["profile_interval"] == pytest.approx(row["interval"], rel=0.05)
    ends = summary(run, out)["metrics"]["numbers"]["R"]["profile_interval"]
    turned = [1 / end for end in reversed(row["profile_interval"])]
    assert ends == pytest.approx(turned, rel=2e-3)
    assert "profile_note" not in row and "95 % by profile" in run.stdout
    with open(out / "profiles.csv") as file:
        rows = [r for r in csv.DictReader(file) if r["name"] == "D"]
    points = [(float(r["value"]), float(r["r"])) for r in rows]
    assert points == sorted(points) and points[0][1] < -1.9 and points[-1][1] > 1.9
    assert (out / "profiles.png").stat().st_size > 5000
    case.write_text(TWO)
    run = identify(1, case, out, *options, "--overwrite")
    row = summary(run, out)["metrics"]["numbers"]["D"]
    assert row["profile_interval"] == [None, None]
    assert row["profile_note"].count("not bounded by the data") == 2
    case.write_text(TWO.replace('["D"]', '["E"]'))
    run = identify(1, case, out, *options, "--overwrite")
    assert run.returncode == 2
    assert "posterior.profile.numbers[0]: got 'E'; allowed: D, w" in run.stderr
