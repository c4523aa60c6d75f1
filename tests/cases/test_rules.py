"""What keys of different sections say of each other is held to before anything is read."""

import pytest

from npde_opt.cases.rules import (
    check_identifiable,
    is_field,
    regularized,
    simulated,
    sources,
    validated,
)
from npde_opt.errors import InputError

STEADY = {
    "grid": {"shape": [8, 6]},
    "boundaries": {"x-": "dirichlet"},
    "unknown": [{"name": "D", "initial": 1.0}],
    "observation": [{"points": [[0.5, 0.5]]}],
}
EVOLUTION = STEADY | {
    "time": {"times": {"end": 1.0, "steps": 4}},
    "observation": [{"points": [[0.5, 0.5]], "times": [1.0]}],
}
MEASURED = {"file": "y.npy"}
AT = [[0.1, 0.1], [0.9, 0.9]]


def unknown(**more):
    return {"unknown": [{"name": "D", "initial": 1.0} | more]}


def observed(**more):
    return {"observation": [{"points": [[0.5, 0.5]]} | more]}


def refused(case, more):
    with pytest.raises(InputError) as error:
        validated(case | more)
    return str(error.value)


# ---- sections that a run needs -------------------------------------------------------------------


@pytest.mark.parametrize("key", ["unknown", "observation"])
def test_only_what_is_simulated_needs_no_unknowns_and_no_observations(key):
    check_identifiable(validated(STEADY))
    table = validated({k: v for k, v in STEADY.items() if k != key})
    with pytest.raises(
        InputError, match=f"^{key}: got nothing; allowed: at least one .*{key}"
    ):
        check_identifiable(table)


# ---- grid and domain -----------------------------------------------------------------------------

GRIDS = {
    "grid.origin: got given beside edges that are coordinates": {
        "grid": {"origin": [2], "edges": [[0, 1]]}
    },
    "grid.coarsen: got given with domain.mni152 not there": {"grid": {"coarsen": 2}},
    "domain.crop: got given with domain.mni152 not there": {"domain": {"crop": True}},
    "domain.slice: got given with domain.mni152 not there": {"domain": {"slice": 40}},
    "domain.slice: got given with domain.mni152 volume; allowed: domain.mni152 = slice": {
        "domain": {"mni152": "volume", "slice": 40}
    },
    "grid.extent: got given with domain.mni152; allowed: no such key": {
        "domain": {"mni152": "slice"},
        "grid": {"extent": [1, 1]},
    },
    "grid.origin: got given with domain.mni152; allowed: no such key": {
        "domain": {"mni152": "slice"},
        "grid": {"origin": [1, 1]},
    },
}


@pytest.mark.parametrize("message", list(GRIDS))
def test_keys_of_a_grid_that_nothing_would_hear_are_named(message):
    assert refused(STEADY, GRIDS[message]).startswith(message)


def test_edges_that_grow_have_an_origin():
    growing = {"first": 0.5, "equal": 1, "growth": 2.0, "count": 3}
    edges = {"grid": {"origin": [2], "edges": [growing]}}
    assert validated(STEADY | edges).grid.edges[0].count == 3


# ---- names ---------------------------------------------------------------------------------------

NAMES = {
    "unknown[1].name: got 'D'; allowed: a name of its own": {
        "unknown": unknown()["unknown"] * 2
    },
    "unknown[0].name: got '../k'; allowed: a name": unknown(name="../k"),
    "equation.species[1]: got 'u'; allowed: a name of its own": {
        "equation": {"species": ["u", "u"]}
    },
    "equation.known.u: got the name of a species": {"equation": {"known": {"u": 1.0}}},
    "unknown.u: got the name of a species": unknown(name="u"),
    "unknown.D: got known too; allowed: a coefficient that is not in equation.known": {
        "equation": {"known": {"D": 1.0}}
    },
}


@pytest.mark.parametrize("message", list(NAMES))
def test_one_name_means_one_thing(message):
    assert refused(STEADY, NAMES[message]).startswith(message)


# ---- unknowns and regularization -----------------------------------------------------------------

SCALAR = {"name": "r", "kind": "scalar", "initial": 1.0}
UNKNOWNS = {
    "unknown.D.smoothness: got 2.0; allowed: 0 with kind 'field'": unknown(
        smoothness=2.0
    ),
    "unknown.D.deviation: got 0.5; allowed: none with a field": unknown(deviation=0.5),
    "unknown.D.length: got nothing; allowed: the number of a history's": unknown(
        kind="history"
    ),
    "regularization[0].unknown: got ''; allowed: an unknown field without regions: there": {
        "unknown": [SCALAR],
        "regularization": [{}],
    },
    "regularization[0].unknown: got 'r'; allowed: an unknown field without regions: D": {
        "unknown": [SCALAR, *unknown()["unknown"]],
        "regularization": [{"unknown": "r"}],
    },
    "regularization[1].unknown: got 'D' again; allowed: one table an unknown": {
        "regularization": [{"unknown": "D"}, {"weight": 2.0}]
    },
}


@pytest.mark.parametrize("message", list(UNKNOWNS))
def test_an_unknown_has_one_prior_that_goes_with_it(message):
    assert refused(STEADY, UNKNOWNS[message]).startswith(message)


def test_a_regularization_is_by_default_of_the_first_field():
    regions = unknown(regions=0)["unknown"][0] | {"name": "c", "deviation": 0.5}
    several = [SCALAR, regions, *unknown()["unknown"]]
    table = validated(STEADY | {"unknown": several, "regularization": [{}]})
    assert regularized(table, 0) == "D"
    assert [is_field(u) for u in table.unknown] == [False, False, True]


# ---- experiments ---------------------------------------------------------------------------------

EXPERIMENTS = {
    "electrodes: got {'count': None, 'at': None}; allowed: a count or a list `at`": {
        "electrodes": {"radius": 1.0}
    },
    "wells: got given beside electrodes": {
        "electrodes": {"at": AT},
        "wells": {"file": "w.csv"},
    },
    "experiment[0].initial: got 'v'; allowed: species u": {
        "experiment": [{"initial": {"v": 1}}]
    },
    "experiment[0].sources[0].times: got nothing; allowed: times, one a value": {
        "experiment": [{"sources": [{"shape": "1", "history": "q"}]}]
    },
    "equation.terms[0].history: got '2*q'; allowed: the name of an unknown history": {
        "equation": {"terms": [{"source": "1", "history": "2*q", "times": [0, 1]}]}
    },
}


@pytest.mark.parametrize("message", list(EXPERIMENTS))
def test_what_is_wrong_in_an_experiment_is_named(message):
    assert refused(EVOLUTION, EXPERIMENTS[message]).startswith(message)


def test_without_electrodes_and_wells_there_is_one_experiment():
    assert len(validated(STEADY).experiment) == 1
    assert validated(STEADY | {"wells": {"file": "w.csv"}}).experiment == []
    assert validated(STEADY | {"electrodes": {"at": AT}}).experiment == []


def test_sources_of_terms_and_experiments_have_keys():
    sourced = {
        "equation": {"terms": [{"diffusion": "D"}, {"source": "x"}]},
        "experiment": [{}, {"sources": [{"shape": "1"}, {"shape": "y"}]}],
    }
    found = [(key, s.shape) for key, s in sources(validated(STEADY | sourced))]
    assert found == [
        ("equation.terms[1]", "x"),
        ("experiment[1].sources[0]", "1"),
        ("experiment[1].sources[1]", "y"),
    ]


# ---- observations and data -----------------------------------------------------------------------

OBSERVATIONS = {
    "observation[0].sigma: got a file; allowed: a number": observed(
        sigma={"file": "s.npy"}
    ),
    "observation[0].sigma: got nothing; allowed: a positive number": observed(
        data=MEASURED
    ),
    "observation[0].electrodes: got True; allowed: false, or a section [electrodes]": {
        "observation": [{"electrodes": True}]
    },
    "observation[0].times: got [1.0]; allowed: no times: without a section [time]": observed(
        times=[1.0]
    ),
    "misfit.kind: got 'correlated'; allowed: a section [time]": {
        "misfit": {"kind": "correlated"}
    },
    "misfit.kind: got 'correlated' with several": {
        "misfit": {"kind": "correlated"},
        "observation": observed()["observation"] * 2,
    },
    "simulation: got refine; allowed: no such section where all data are measured": observed(
        data=MEASURED, noise=0.1
    )
    | {"simulation": {"refine": 2}},
    "simulation.steps: got 3; allowed: a section [time]": {"simulation": {"steps": 3}},
}


@pytest.mark.parametrize("message", list(OBSERVATIONS))
def test_what_is_wrong_in_an_observation_is_named(message):
    assert refused(STEADY, OBSERVATIONS[message]).startswith(message)


def test_observations_of_an_evolution_have_times():
    text = refused(EVOLUTION, observed())
    assert text.startswith(
        "observation[0].times: got nothing; allowed: the times at which states are seen"
    )


def test_some_data_may_be_measured_and_others_simulated():
    measured = {"points": [[0.2, 0.2]], "data": MEASURED, "noise": 0.1}
    both = {"observation": [measured, {"sides": ["x+"]}], "simulation": {"refine": 3}}
    assert simulated(validated(STEADY | both).observation)
    assert not simulated(validated(STEADY | {"observation": [measured]}).observation)


# ---- steady states -------------------------------------------------------------------------------

ONLY_WITH_TIME = {
    "equation.gamma": {"equation": {"gamma": 1.0}},
    "equation.terms[0].history": {
        "equation": {"terms": [{"source": "1", "history": [1.0, 2.0], "times": [0, 1]}]}
    },
    "experiment[0].sources[0].history": {
        "experiment": [{"sources": [{"shape": "1", "history": [1.0], "times": [0]}]}]
    },
}


@pytest.mark.parametrize("key", list(ONLY_WITH_TIME))
def test_keys_that_say_something_only_with_time_are_refused_without(key):
    text = refused(STEADY, ONLY_WITH_TIME[key])
    assert text.startswith(f"{key}: got ") and text.endswith("a section [time]")
    validated(EVOLUTION | ONLY_WITH_TIME[key])


def test_states_of_single_precision_are_of_explicit_euler():
    single = EVOLUTION["time"] | {"precision": "single"}
    text = refused(EVOLUTION, {"time": single})
    assert text.startswith("time.precision: got single with the scheme ars222")
    explicit = single | {"scheme": "explicit-euler"}
    assert validated(EVOLUTION | {"time": explicit}).time.precision == "single"


# ---- options and derived figures -----------------------------------------------------------------


def test_options_of_petsc_become_texts():
    options = {"state_ksp_rtol": 1e-9, "state_ksp_monitor": True, "reg_pc_type": "gamg"}
    assert validated(STEADY | {"petsc": options}).petsc == {
        "state_ksp_rtol": "1e-09",
        "state_ksp_monitor": "true",
        "reg_pc_type": "gamg",
    }
    for wrong in ({"ksp_rtol": 1}, {"-state_ksp_rtol": 1}, {"state_a": [1]}):
        text = refused(STEADY, {"petsc": wrong})
        assert text.startswith(f"petsc.{next(iter(wrong))}: got ")
        assert text.endswith("a value, and a name that starts with state_, reg_, tao_")


def test_derived_figures_are_of_scalars():
    unknowns = {"unknown": [*unknown()["unknown"], SCALAR]}
    known = {"q": 2.0, "k": {"expression": "x"}}
    derived = {"equation": {"known": known, "derived": {"w": "r*q"}}}
    assert validated(STEADY | unknowns | derived).equation.derived == {"w": "r*q"}
    for name in ("D", "k"):
        wrong = {"equation": {"known": known, "derived": {"w": f"r*{name}"}}}
        text = refused(STEADY | unknowns, wrong)
        assert text.startswith("equation.derived.w") and "the scalars q, r" in text
