"""A case against its types: defaults, and the path of what is wrong, excluded or unheard."""

import itertools
import typing

import pytest

from npde_opt.cases.experiment_tables import PLACES
from npde_opt.cases.field_tables import Expression, FileField
from npde_opt.cases.grid_tables import BoundaryKind
from npde_opt.cases.old_keys import INSTEAD, refuse_old
from npde_opt.cases.rules import check_identifiable, validated
from npde_opt.cases.sections import CaseFile
from npde_opt.cases.term_tables import (
    Diffusion,
    ExperimentSource,
    Ground,
    NonlinearDiffusion,
)
from npde_opt.cases.typed import bare, is_table, keys_of, limits, options
from npde_opt.errors import InputError

UNKNOWN = {"name": "D", "initial": 1.0}
CASE = {"unknown": [UNKNOWN], "observation": [{"random": 5}]}


def refused(more):
    """The message for a case with other sections."""
    with pytest.raises(InputError) as error:
        validated(CASE | more)
    return str(error.value)


# ---- defaults ------------------------------------------------------------------------------------


def test_defaults_are_filled_in():
    table = validated(CASE)
    assert table.unknown[0].transform == "log"
    assert table.optimizer.max_iterations == 50
    assert table.equation.species == ["u"]
    assert [t.diffusion for t in table.equation.terms] == ["D"]
    assert len(table.experiment) == 1 and table.experiment[0].boundary == {}
    assert table.time is None and table.electrodes is None


def test_defaults_are_not_shared_between_cases():
    validated(CASE).petsc["state_recipe"] = "gamg"
    validated(CASE).equation.terms.clear()
    assert validated(CASE).petsc == {}
    assert len(validated(CASE).equation.terms) == 1


def test_one_table_may_stand_for_a_list_of_one():
    table = validated({"unknown": UNKNOWN, "observation": {"random": 5}})
    assert [u.name for u in table.unknown] == ["D"]
    assert table.observation[0].random == 5


def test_terms_are_told_apart_by_their_first_key():
    given = [
        {"diffusion": "D", "species": "u"},
        {"nonlinear-diffusion": "D*u", "floor": 0.1},
        {"ground": [0.5], "conductance": 2.0},
    ]
    terms = validated(CASE | {"equation": {"terms": given}}).equation.terms
    assert [type(t) for t in terms] == [Diffusion, NonlinearDiffusion, Ground]
    assert terms[1].text == "D*u" and terms[2].radius == 0.0


def test_fields_are_told_apart_by_their_first_key():
    known = {"k": {"file": "k.npy", "scale": 2.0}, "c": {"expression": "x"}, "q": 3.0}
    table = validated(CASE | {"equation": {"known": known}})
    assert table.equation.known == {
        "k": FileField(file="k.npy", scale=2.0),
        "c": Expression(expression="x"),
        "q": 3.0,
    }


# ---- unknown keys --------------------------------------------------------------------------------

MISSPELT = {
    "a section": (
        {"grids": {}},
        "case file section 'grids': got an unknown key",
        "grid",
    ),
    "a key": (
        {"time": {"times": [0, 1], "schem": "heun"}},
        "time: key 'schem'",
        "scheme",
    ),
    "in a list of tables": (
        {"unknown": [UNKNOWN | {"transfrom": "log"}]},
        "unknown[0]: key 'transfrom'",
        "transform",
    ),
    "in an optional section": (
        {"electrodes": {"count": 8, "radios": 1.0}},
        "electrodes: key 'radios'",
        "radius",
    ),
    "in a table of a table": (
        {"experiment": [{"wells": [{"at": [0.5], "rates": 1.0}]}]},
        "experiment[0].wells[0]: key 'rates'",
        "rate",
    ),
    "of a term": (
        {"equation": {"terms": [{"difusion": "D"}]}},
        "equation.terms[0]: got ['difusion']",
        "diffusion",
    ),
    "of a field": (
        {"equation": {"known": {"c": {"fiel": "a.npy"}}}},
        "equation.known.c: got ['fiel']",
        "file",
    ),
    "beside a file": (
        {"observation": [{"points": {"file": "a.csv", "colum": "x"}}]},
        "observation[0].points: key 'colum'",
        "column",
    ),
}


@pytest.mark.parametrize("what", list(MISSPELT))
def test_a_key_that_is_not_known_is_named_with_the_one_most_like_it(what):
    more, place, near = MISSPELT[what]
    text = refused(more)
    assert text.startswith(place), text
    assert text.endswith(f"(did you mean '{near}'?)"), text


def test_a_key_like_no_other_gets_the_list_of_all():
    text = refused({"case": {"qqq": 1}})
    assert text == "case: key 'qqq': got an unknown key; allowed: title, length_unit"


# ---- types and ranges ----------------------------------------------------------------------------


def observed(**more):
    return {"observation": [more]}


def experiment(**more):
    return {"experiment": [more]}


def equation(*terms):
    return {"equation": {"terms": list(terms)}}


WRONG = {
    "a section": ({"misfit": 3}, "misfit: got 3; allowed: {kind, "),
    "a bool for a number": (
        {"grid": {"coarsen": True}},
        "grid.coarsen: got True; allowed: an int",
    ),
    "a list for a text": (
        {"unknown": [UNKNOWN | {"name": ["D"]}]},
        "unknown[0].name: got ['D']; allowed: a text",
    ),
    "a word": (
        {"unknown": [UNKNOWN | {"transform": "cube"}]},
        "unknown[0].transform: got 'cube'; allowed: identity, log, bounded",
    ),
    "a range": (
        {"electrodes": {"count": 1}},
        "electrodes.count: got 1; allowed: an integer >= 2",
    ),
    "a number or a word": (
        {"regularization": [{"weight": "much"}]},
        "regularization[0].weight: got 'much'; allowed: a number >= 0 or discrepancy, l-curve",
    ),
    "a value of a side": (
        experiment(boundary={"x+": True}),
        "experiment[0].boundary.x+: got True; allowed: a number or a text or a list",
    ),
    "a number for a table": (
        experiment(boundary=1.0),
        "experiment[0].boundary: got 1.0",
    ),
    "a side": (
        observed(sides=["w-"]),
        "observation[0].sides[0]: got 'w-'; allowed: x-, x+, ",
    ),
    "the name of a side": (
        {"boundaries": {"w-": "robin"}},
        "boundaries, key 'w-': got 'w-'",
    ),
    "a field": (observed(integrals=[1.0, "x"]), "observation[0].integrals[1]: got 'x'"),
    "a place in a list": (
        observed(points=[[0.1], "x"]),
        "observation[0].points[1]: got 'x'",
    ),
    "a number in a place": (
        observed(points=[[1], [1, "x"]]),
        "observation[0].points[1][1]: got",
    ),
    "too many coordinates": (
        observed(points=[[0] * 4]),
        "observation[0].points[0]: got [0, 0",
    ),
    "an empty list": (
        observed(points=[]),
        "observation[0].points: got 0 values; allowed: a list",
    ),
    "a pair": (
        observed(points=[[0]], differences=[[0]]),
        "observation[0].differences[0]: got [0]",
    ),
    "a place of a pair": (
        observed(points=[[0]], differences=[[0, 1], [1, -1]]),
        "observation[0].differences[1][1]: got -1; allowed: an integer >= 0",
    ),
    "a pattern": (
        {"electrodes": {"count": 8, "pattern": "across"}},
        "electrodes.pattern: got 'across'; allowed: opposite, adjacent or a list",
    ),
    "a pair of electrodes": (
        {"electrodes": {"count": 8, "pattern": [[0, 1], [2, 3, 4]]}},
        "electrodes.pattern[1]: got [2, 3, 4]; allowed: a list of 2: an integer >= 0",
    ),
    "no steps": (
        {"time": {"times": {"end": 1.0}}},
        "time.times: got ['end']; allowed: one of steps, first, tolerance",
    ),
    "two kinds of steps": (
        {"time": {"times": {"end": 1.0, "steps": 2, "first": 0.1}}},
        "time.times: got ['end', 'first', 'steps']; allowed: one of",
    ),
    "an option of PETSc": ({"petsc": {"ksp_rtol": 1e-9}}, "petsc.ksp_rtol: got 1e-09"),
}


@pytest.mark.parametrize("what", list(WRONG))
def test_a_value_of_a_wrong_type_is_named_by_its_path(what):
    more, message = WRONG[what]
    text = refused(more)
    assert text.startswith(message), text


MISSING = {
    "unknown[0].initial": {"unknown": [{"name": "D"}]},
    "time.times": {"time": {"scheme": "heun"}},
    "experiment[0].wells[0].rate": experiment(wells=[{"at": [0.5]}]),
    "experiment[0].sources[0].shape": experiment(sources=[{"species": "u"}]),
    "equation.terms[0].conductance": equation({"ground": [0.5, 0.5]}),
    "observation[0].balls[0].radius": observed(balls=[{"at": [0.5, 0.5]}]),
    "observation[0].sides[0].side": observed(sides=[{"lower": [0.0]}]),
    "boundaries.x-.kind": {"boundaries": {"x-": {"coefficient": 2.0}}},
}


@pytest.mark.parametrize("place", list(MISSING))
def test_what_is_required_is_named(place):
    assert refused(MISSING[place]).startswith(f"{place}: got nothing; allowed: ")


@pytest.mark.parametrize("key", ["unknown", "observation"])
def test_what_a_case_needs_to_be_identified_is_named(key):
    """Simulated it can be without."""
    table = validated(CASE | {key: []})
    with pytest.raises(InputError, match=f"^{key}: got nothing; allowed: at least one"):
        check_identifiable(table)


# ---- keys beside each other ----------------------------------------------------------------------

KINDS_OF_PLACES = {
    "points": [[0.5, 0.5]],
    "random": 5,
    "electrodes": True,
    "sides": ["x-"],
    "boxes": [{"lower": [0.0, 0.0], "upper": [0.5, 0.5]}],
    "balls": [{"at": [0.5, 0.5], "radius": 0.1}],
    "integrals": [1.0],
    "regions": 0,
}


def test_an_observation_has_places_of_one_kind():
    assert tuple(KINDS_OF_PLACES) == PLACES
    for pair in itertools.permutations(PLACES, 2):
        text = refused(observed(**{key: KINDS_OF_PLACES[key] for key in pair}))
        first, second = pair
        place = f"observation[0].{second}"
        assert (
            text
            == f"{place}: got given beside {first}; allowed: {first} or {second}, not both"
        )


BESIDE = {
    ("grid", "edges", "shape"): {"grid": {"edges": [[0, 1]], "shape": [1]}},
    ("grid", "edges", "extent"): {"grid": {"extent": [1], "edges": [[0, 1]]}},
    ("electrodes", "count", "at"): {"electrodes": {"count": 2, "at": [[0], [1]]}},
    ("observation[0]", "sigma", "noise"): observed(random=5, sigma=1.0, noise=0.1),
    ("simulation", "shape", "refine"): {"simulation": {"shape": [8], "refine": 4}},
}


@pytest.mark.parametrize("keys", list(BESIDE), ids="-".join)
def test_keys_that_exclude_each_other_are_named(keys):
    section, first, second = keys
    text = refused(BESIDE[keys])
    assert text.startswith(
        f"{section}.{second}: got given beside {first}; allowed: "
    ), text


UNHEARD = {
    "electrodes.rings: got given without count": {
        "electrodes": {"at": [[0], [1]], "rings": 2}
    },
    "experiment[0].sources[0].times: got given without history": experiment(
        sources=[{"shape": "x", "times": [0, 1]}]
    ),
    "equation.terms[0].interpolation: got given without history": equation(
        {"source": "x", "interpolation": "steps"}
    ),
    "observation[0].add_noise: got given without data": observed(
        random=5, add_noise=True
    ),
    "misfit.nu: got given with the kind 'least-squares'; allowed: the kind student-t": {
        "misfit": {"nu": 3}
    },
    "unknown[0].regions: got given with the kind 'scalar'": {
        "unknown": [UNKNOWN | {"kind": "scalar", "regions": 0}]
    },
    "unknown[0].known: got given with the kind 'history'": {
        "unknown": [UNKNOWN | {"kind": "history", "length": 2, "known": 1}]
    },
    "unknown[0].length: got given with the kind 'field'": {
        "unknown": [UNKNOWN | {"length": 3}]
    },
    "boundaries.x+.coefficient: got given with the kind 'dirichlet'": {
        "boundaries": {"x+": {"kind": "dirichlet", "coefficient": 2.0}}
    },
    "regularization[0].gamma: got given with the kind 'gradient'": {
        "regularization": [{"gamma": 1.0}]
    },
}


@pytest.mark.parametrize("message", list(UNHEARD))
def test_keys_that_nothing_would_hear_are_named(message):
    text = refused(UNHEARD[message])
    assert text.startswith(message), text


def test_a_default_excludes_nothing():
    section = validated(CASE | observed(points=[[0.5]], sigma=0.1)).observation[0]
    assert section.random is None and section.noise is None
    driven = equation({"source": "x", "history": "q", "times": [0, 1]})
    steps = {"time": {"times": [0, 1]}} | observed(random=5, times=[1])
    assert validated(CASE | driven | steps).equation.terms[0].interpolation == "linear"


def test_excluded_and_needed_keys_are_keys_of_the_same_table():
    tables, seen = [CaseFile], set()
    while tables:
        table = tables.pop()
        seen.add(table)
        keys = keys_of(table)
        for kind, _ in keys.values():
            says = _says(kind)
            named = {*says.get("not_with", ()), says.get("needs")} - {None}
            assert named <= set(keys), (table, named)
            if "kinds" in says:
                assert set(says["kinds"]) <= _words(keys["kind"][0]), (table, says)
            tables += [t for t in _tables(kind) if t not in seen]
    assert {ExperimentSource, Ground, BoundaryKind} <= seen


def _says(kind):
    return limits(kind).get("extra", {})


def _words(kind):
    """Those that a key may be."""
    return {word for member in options(kind) for word in typing.get_args(bare(member))}


def _tables(kind):
    """Structs anywhere in a type."""
    if is_table(kind):
        yield bare(kind)
    for part in typing.get_args(bare(kind)):
        yield from _tables(part)


# ---- keys of the old format ----------------------------------------------------------------------


def test_each_key_of_the_old_format_has_a_line_that_says_what_it_is_now():
    old = {
        "equation": {"D": 1.0, "velocity": [1.0, 0.0]},
        "unknown": [UNKNOWN],
        "experiments": {"boundary": [{"x-": 1.0}], "source": 1.0},
        "observations": {"points": [[0.5, 0.5]], "sigma": 0.1},
        "evolution": {"times": {"end": 1.0, "steps": 2}},
    }
    with pytest.raises(InputError) as error:
        refuse_old(old)
    lines = [line.strip() for line in str(error.value).splitlines()[1:]]
    keys = [line.partition(" is now ")[0] for line in lines]
    assert keys == [
        "equation.D",
        "equation.velocity",
        "experiments.boundary",
        "experiments.source",
        "observations.points",
        "observations.sigma",
        "evolution",
    ]
    assert lines[0] == "equation.D is now equation.known.D"


def test_an_old_section_without_an_old_key_is_named_as_a_whole():
    for section in ("experiments", "observations", "evolution"):
        with pytest.raises(InputError, match=f"(?m)^  {section} is now "):
            refuse_old({section: {}})


def test_no_key_of_the_format_is_refused_as_an_old_one():
    sections = keys_of(CaseFile)
    for path in INSTEAD:
        section, _, key = path.partition(".")
        tables = list(_tables(sections[section][0])) if section in sections else []
        assert all(key and key not in keys_of(table) for table in tables), path
    refuse_old(
        CASE | {"equation": {"known": {"D": 1.0}}, "experiment": [{}], "time": {}}
    )
