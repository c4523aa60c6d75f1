"""A training case says what it wants; what it cannot want is told by its key."""

from pathlib import Path

import pytest

from npde_opt.errors import InputError
from npde_opt.training.case import load_training
from npde_opt.training.document import document
from npde_opt.training.rules import validated

DOCS = Path(__file__).resolve().parents[2] / "docs"
RAW = {
    "data": {"kind": "digits", "test": 0.3},
    "layer": [
        {"kind": "convolution", "channels": 8, "activation": "relu"},
        {"kind": "dense", "channels": 10},
    ],
}


def test_defaults_are_filled_in():
    table = validated(RAW)
    first, last = table.layer
    assert (first.kernel, first.bias, last.activation) == (3, True, "identity")
    assert (
        table.data.splits == 1 and len(table.optimizer) == 1 and table.loss.kind is None
    )


def test_one_table_and_a_list_of_them_are_alike():
    one = validated(RAW | {"optimizer": {"method": "newton"}, "layer": RAW["layer"][1]})
    assert [o.method for o in one.optimizer] == ["newton"] and len(one.layer) == 1


@pytest.mark.parametrize(
    "section, change, said",
    [
        ("data", {"kind": "digit"}, r"data.kind: got 'digit'; allowed: digits"),
        ("data", {"test": 1.0}, r"data.test: got 1.0; allowed: a number > 0 and < 1"),
        ("data", {"folder": "x"}, "data.folder: got given with the kind 'digits'"),
        ("data", {"tets": 0.1}, r"unknown key.*did you mean 'test'"),
        ("data", {"kind": "pictures"}, "data.folder: got nothing"),
        (
            "data",
            {"kind": "table", "file": "t.csv"},
            "data.targets, data.label: got neither",
        ),
        ("layer", {"kernels": 3}, r"layer\[0\]: key 'kernels'.*did you mean 'kernel'"),
        ("layer", {"kernel": 0}, r"layer\[0\].kernel: got 0"),
        ("layer", {"dt": 0.1}, r"layer\[0\].dt: got given with the kind 'convolution'"),
        ("layer", {"knots": 5}, r"layer\[0\].knots: got given with relu"),
        ("layer", {"kind": "dense", "stride": 2}, r"layer\[0\].stride"),
        (
            "loss",
            {"kind": "softmax", "sigma": 1.0},
            "loss.sigma: got given with softmax",
        ),
        ("petsc", {"mat_type": "aij"}, "petsc.mat_type"),
        (
            "optimizer",
            {"restarts": 3},
            r"optimizer\[0\].restarts: got 3; allowed: nothing",
        ),
        ("optimizer", {"metod": "lbfgs"}, "did you mean 'method'"),
        (
            "optimizer",
            {"method": "lbfgs", "batch": 3},
            r"\[0\].batch: got 3; allowed: with .*adam",
        ),
    ],
)
def test_what_cannot_be_is_told_by_its_key(section, change, said):
    before = RAW.get(section, {})
    if section == "layer":
        raw = RAW | {"layer": [before[0] | change, before[1]]}
        if change.get("kind") == "dense":
            raw["layer"][0] = {"kind": "dense", "channels": 3} | change
    else:
        raw = RAW | {section: before | change}
        if change.get("kind") in ("pictures", "table"):
            raw["data"] = change
    with pytest.raises(InputError, match=said):
        validated(raw)


def test_a_recurrent_layer_comes_first_and_channels_are_needed():
    recurrent = {"kind": "recurrent", "channels": 3}
    with pytest.raises(InputError, match=r"layer\[1\].kind: got recurrent"):
        validated(RAW | {"layer": [RAW["layer"][1], recurrent]})
    with pytest.raises(InputError, match=r"layer\[0\].channels: got nothing"):
        validated(RAW | {"layer": [{"kind": "dense"}]})


def test_variables_and_a_data_folder(tmp_path):
    path = tmp_path / "case.toml"
    path.write_text(
        "[variables]\nkind = 'digits'\n[data]\nkind = '{kind}'\n"
        "[[layer]]\nkind = 'dense'\nchannels = 10\n"
    )
    assert load_training(path).table.data.kind == "digits"
    assert load_training(path, variables={"kind": "mnist"}).table.data.kind == "mnist"
    with pytest.raises(InputError, match="--set: got sort; allowed: kind"):
        load_training(path, variables={"sort": "mnist"})
    with pytest.raises(InputError, match="--data: got .*none"):
        load_training(path, data=tmp_path / "none")


def test_the_page_in_docs_is_that_of_the_structs():
    assert (DOCS / "training-format.md").read_text().strip() == document().strip()
