"""Decks are applied in their order, or refused where they do what is not known."""

import numpy as np
import pytest

from npde_opt.errors import InputError
from npde_opt.io.fields import read_field

DECKS = {
    "MULTIPLY": ("MULTIPLY\n PERMX 0.001 /\n/\n", [0.1, 0.2, 0.3, 0.4]),
    "quoted": ("MULTIPLY\n 'PERMX' 0.001 /\n/\n", [0.1, 0.2, 0.3, 0.4]),
    "in a box": ("MULTIPLY\n PERMX 2 1 1 1 2 1 1 /\n/\n", [200, 200, 600, 400]),
    "box of defaults": ("MULTIPLY\n PERMX 2 2* 2 2 2* /\n/\n", [100, 200, 600, 800]),
    "two records, the box kept": (
        "ADD\n PERMX 1 1 1 1 1 1 1 /\n PERMX 10 /\n/\n",
        [111, 200, 300, 400],
    ),
    "BOX": (
        "BOX\n 2 2 1 2 1 1 /\nPERMX\n 5 6 /\nENDBOX\nADD\n PERMX 1 /\n/\n",
        [101, 6, 301, 7],
    ),
    "BOX of a change": (
        "BOX\n 1 2 1 1 1 1 /\nEQUALS\n PERMX 7 /\n/\nENDBOX\n",
        [7, 7, 300, 400],
    ),
    "EQUALS then MULTIPLY": (
        "EQUALS\n PERMX 3 /\n/\nMULTIPLY\n PERMX 2 /\n/\n",
        [6, 6, 6, 6],
    ),
    "COPY": (
        "EQUALS\n PERMY 5 /\n/\nCOPY\n PERMY PERMX 1 1 1 1 1 1 /\n/\n",
        [5, 200, 300, 400],
    ),
    "COPY takes what was there": (
        "COPY\n PERMX PERMY /\n/\nMULTIPLY\n PERMX 2 /\n/\nCOPY\n PERMY PERMX 1 1 1 1 1 1 /\n/\n",
        [100, 400, 600, 800],
    ),
    "MAXVALUE": (
        "MAXVALUE\n PERMX 250 /\n/\nMINVALUE\n PERMX 150 /\n/\n",
        [150, 200, 250, 250],
    ),
    "another array": (
        "MULTREGT\n PORO 1 /\n/\nOPERATE\n PORO 1 2 /\n/\n",
        [100, 200, 300, 400],
    ),
    "given again": ("MULTIREG\n PORO 1 1 /\n/\nPERMX\n 4*8 /\n", [8, 8, 8, 8]),
}


@pytest.mark.parametrize("what", list(DECKS))
def test_a_deck_is_applied_in_its_order(what, tmp_path):
    more, values = DECKS[what]
    (tmp_path / "k.GRDECL").write_text(
        "SPECGRID\n 2 2 1 1 F /\nPERMX\n 100 200 300 400 /\n" + more
    )
    np.testing.assert_allclose(
        read_field(tmp_path / "k.GRDECL", "PERMX").ravel(order="F"), values, rtol=1e-14
    )


def test_an_included_file_is_read(tmp_path):
    (tmp_path / "more.inc").write_text("MULTIPLY\n PERMX 0.5 /\n/\n")
    (tmp_path / "k.grdecl").write_text("PERMX\n 2*4 /\nINCLUDE\n 'more.inc' /\n")
    assert read_field(tmp_path / "k.grdecl", "PERMX").tolist() == [2, 2]
    (tmp_path / "more.inc").unlink()
    with pytest.raises(InputError, match=r"k.grdecl, line 3: got INCLUDE more.inc"):
        read_field(tmp_path / "k.grdecl", "PERMX")
    (tmp_path / "k.grdecl").write_text("PERMX\n 2*4 /\nINCLUDE\n k.grdecl /\n")
    with pytest.raises(InputError, match="include each other"):
        read_field(tmp_path / "k.grdecl", "PERMX")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            "MULTIREG\n PERMX 2 1 M /\n/\n",
            r"line 5, array PERMX: got MULTIREG, which is not applied here",
        ),
        ("OPERATE\n PERMX 6* MULTX PERMX 2 /\n/\n", "line 5, array PERMX: got OPERATE"),
        ("EQUALREG\n PORO 1 1 /\n PERMX 2 1 M /\n/\n", "got EQUALREG"),
        (
            "PERMX\n 1 2 3 4 /\n 5 6 7 8 /\n",
            "line 5, array PERMX: got block PERMX of several records",
        ),
        ("PERMX\n 1 2 3 4\n", "PERMX without an end"),
        ("PERMX\n 1 2 3 4\nPORO\n 1 2 3 4 /\n", "PERMX without an end"),
        ("BOX\n 1 3 1 1 1 1 /\n", r"line 5: got a box .*inside \(2, 2, 1\)"),
        ("MULTIPLY\n PERMX 2\nPORO\n 4*1 /\n", "MULTIPLY without an end"),
        ("MULTIPLY\n PERMX /\n/\n", "line 5: got MULTIPLY PERMX"),
        ("MULTIPLY\n PERMX two /\n/\n", "TWO"),
        ("COPY\n PERMZ PERMX /\n/\n", "array PERMZ: got no values"),
        ("BOX\n 1 2 1 1 1 1 /\nPERMX\n 1 2 3 4 /\n", "got 4 values; allowed: 2"),
    ],
)
def test_what_a_deck_does_that_is_not_known_is_refused(more, message, tmp_path):
    (tmp_path / "k.GRDECL").write_text(
        "SPECGRID\n 2 2 1 1 F /\nPERMX\n 100 200 300 400 /\n" + more
    )
    with pytest.raises(InputError, match=message):
        read_field(tmp_path / "k.GRDECL", "PERMX")
