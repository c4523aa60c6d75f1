"""Tables of a case against their types: msgspec structs, one a table, with a description beside
each key.

Modules of tables have no `from __future__ import annotations`: msgspec would evaluate every
hint as text when it is asked for keys, in 25 ms a run.

`read` gives the struct with defaults filled in, or an InputError that names the path of what is
wrong. A union of structs is told apart by the first required key of each.

Keys that exclude each other, or that nothing would hear, say so beside their type, in
`Meta(extra=...)`:

    kinds = (...)      heard only where `kind` of the same table is one of these
    not_with = (...)   keys that must not stand beside this one
    needs = "KEY"      says nothing without that key
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from npde_opt.aliases import Plain, Record
from npde_opt.errors import InputError
from npde_opt.packages import difflib

SHOWN = 100
Kind = Any
"""The type of a key as a struct spells it: a class, a union, an Annotated ..."""


class Table(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A table of a case; keys without a default are required."""


T = TypeVar("T", bound=Table)


def shown(value: Plain) -> str:
    """A value in an error message."""
    text = repr(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


@functools.cache
def keys_of(table: type[Table]) -> dict[str, tuple[Kind, msgspec.structs.FieldInfo]]:
    """Type (with its Annotated) and field of each key, as a case spells it."""
    # msgspec has read the hints, which takes a while.
    return {f.encode_name: (f.type, f) for f in msgspec.structs.fields(table)}


def origin_of(kind: Kind) -> object:
    """The class or form that a type is made from: list of list[int]; None of a plain class."""
    return typing.get_origin(kind)


def bare(kind: Kind) -> Kind:
    """A type without its Annotated."""
    return typing.get_args(kind)[0] if origin_of(kind) is typing.Annotated else kind


def limits(kind: Kind) -> Record:
    """What an Annotated type says."""
    found: Record = {}
    names = ("ge", "gt", "le", "lt", "min_length", "max_length", "description", "extra")
    for meta in (
        typing.get_args(kind)[1:] if origin_of(kind) is typing.Annotated else ()
    ):
        found |= {n: getattr(meta, n) for n in names if getattr(meta, n) is not None}
    return found


def options(kind: Kind) -> list[Plain]:
    """The members of a union, but None."""
    inside = bare(kind)
    if origin_of(inside) in (typing.Union, types.UnionType):
        return [
            part
            for member in typing.get_args(inside)
            if member is not type(None)
            for part in options(member)
        ]
    return [kind]


def is_table(kind: Kind) -> bool:
    return isinstance(bare(kind), type) and issubclass(bare(kind), Table)


def plain(kind: Kind) -> bool:
    """Whether msgspec checks values of a type by itself: no table in it, whose keys would be
    named."""
    if any(origin_of(bare(member)) is dict for member in options(kind)):
        return False
    inner = [
        part
        for member in options(kind)
        for part in typing.get_args(bare(member))
        if part is not type(None)
    ]
    return not any(is_table(member) for member in options(kind)) and all(
        plain(part)
        for part in inner
        if isinstance(part, type) or origin_of(part) is not None
    )


def allowed(kind: Kind) -> str:
    """A type in words."""
    return " or ".join(dict.fromkeys(_words(member) for member in options(kind)))


def _words(kind: Kind) -> str:
    inside, origin, says = bare(kind), origin_of(bare(kind)), limits(kind)
    parts = typing.get_args(inside)
    if origin is typing.Literal:
        return ", ".join(map(str, parts))
    if is_table(kind):
        return "{" + ", ".join(keys_of(inside)) + "}"
    if origin is tuple:
        return f"a list of {len(parts)}: " + ", ".join(allowed(p) for p in parts)
    if origin is list:
        low, high = says.get("min_length", 0), says.get("max_length")
        size = f" of {low} to {high}" if high else f" of at least {low}" if low else ""
        return f"a list{size} ({allowed(parts[0])} each)"
    if origin is dict:
        return f"a table ({allowed(parts[1])} each)"
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    ranges = " and".join(
        f" {sign} {says[name]:g}" for name, sign in signs.items() if name in says
    )
    names = {int: "an integer", float: "a number", str: "a text", bool: "true or false"}
    return names.get(inside, "a value") + ranges


def read(where: str, given: Plain, table: type[T]) -> T:
    """The table as a struct with defaults filled in.

    Raises:
        InputError: for keys and values that it cannot have, and keys that nothing would hear.
    """
    if not isinstance(given, Mapping):
        raise InputError(where, shown(given), "a table " + _words(table))
    keys = keys_of(table)
    if where:
        known_keys(f"{where}: key", given, keys)
    else:
        known_keys("case file section", given, keys, driver_of(given, keys))
    out: Record = {}
    for name, (kind, field) in keys.items():
        place = path(where, name)
        if name in given:
            out[field.name] = value_of(place, given[name], kind)
        elif field.required:
            said = limits(kind).get("description", allowed(kind))
            raise InputError(place, "nothing", f"a value: {said}")
        else:
            out[field.name] = default(field)
    _check_heard(where, given, keys, out)
    return table(**out)


def as_dict(value: object) -> Plain:
    """A struct as a dict of the keys that say something, at any depth; other values as they are."""
    if not isinstance(value, Table):
        return value
    found = {
        name: getattr(value, f.name) for name, (_, f) in keys_of(type(value)).items()
    }
    return {name: as_dict(v) for name, v in found.items() if v is not None}


def spelt(table: Table) -> Record:
    """The keys of a table that are not as by default, which `read` reads as they are."""
    keys = keys_of(type(table))
    given = {name: getattr(table, f.name) for name, (_, f) in keys.items()}
    return {
        n: as_dict(v)
        for n, v in given.items()
        if keys[n][1].required or v != default(keys[n][1])
    }


def path(where: str, key: str) -> str:
    """The path of a key of the table at `where`; '' is the case itself."""
    return f"{where}.{key}" if where else key


def default(field: msgspec.structs.FieldInfo) -> Plain:
    """Of a key that is not given."""
    if field.default is not msgspec.NODEFAULT:
        return field.default
    return None if field.required else field.default_factory()


def _check_heard(
    where: str,
    given: Mapping[str, Plain],
    keys: Mapping[str, tuple[Kind, msgspec.structs.FieldInfo]],
    out: Mapping[str, Plain],
) -> None:
    """Raises InputError for a key that another one excludes, or that has no effect.

    Looked at are the keys that the case gives: what a default says excludes nothing.
    """
    for name in given:
        says = limits(keys[name][0]).get("extra", {})
        for other in says.get("not_with", ()):
            if other in given:
                said = f"{name} or {other}, not both"
                raise InputError(path(where, other), f"given beside {name}", said)
        kinds = says.get("kinds")
        if kinds and out["kind"] not in kinds:
            said = f"the kind {' or '.join(kinds)}, or no {name}"
            raise InputError(
                path(where, name), f"given with the kind {out['kind']!r}", said
            )
        needed = says.get("needs")
        if needed and needed not in given:
            said = f"a {needed}, or no {name}"
            raise InputError(path(where, name), f"given without {needed}", said)


DRIVERS = {
    "reservoir": "train_pseudoinverse.py",
    "layer": "train_classifier.py and other train_*.py",
    "grid": "identify.py and simulate.py",
}
"""Sections that every case of a kind has, and the drivers of these."""


def driver_of(given: Container[str], known: Container[str]) -> str:
    """Where the sections are those of another kind of case: whose they are, else ''."""
    there = [key for key in DRIVERS if key in given]
    own = any(key in known for key in there)
    return "" if own or not there else f"drivers/{DRIVERS[there[0]]}"


def known_keys(
    where: str, given: Iterable[str], known: Iterable[str], drivers: str = ""
) -> None:
    """Raises InputError for a key that is not known, with the one that is most like it, or with
    the `drivers` whose case this is."""
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean '{near[0]}'?" if near else ""
            hint = f"this is a case of {drivers}" if drivers else hint
            raise InputError(
                f"{where} {shown(key)}",
                "an unknown key",
                ", ".join(known) + (f" ({hint})" if hint else ""),
            )


def value_of(where: str, given: Plain, kind: Kind) -> Plain:
    """A value of a key. Raises InputError, with the path to the part that is wrong."""
    if plain(kind):
        return _checked(where, given, kind)
    tables = [bare(member) for member in options(kind) if is_table(member)]
    others = [member for member in options(kind) if not is_table(member)]
    free = any(origin_of(bare(member)) is dict for member in others)
    if isinstance(given, dict) and tables and not (free and _none_of(given, tables)):
        return read(where, given, _chosen(where, given, tables))
    if isinstance(given, dict) and any(_lists_tables(member) for member in others):
        given = [given]  # [unknown] for [[unknown]]
    for member in others:
        origin, parts, says = (
            origin_of(bare(member)),
            typing.get_args(bare(member)),
            limits(member),
        )
        if origin is list and isinstance(given, list):
            if (
                not says.get("min_length", 0)
                <= len(given)
                <= says.get("max_length", len(given))
            ):
                raise InputError(where, f"{len(given)} values", allowed(member))
            return [value_of(f"{where}[{i}]", x, parts[0]) for i, x in enumerate(given)]
        if origin is dict and isinstance(given, dict):
            for name in given:
                _checked(f"{where}, key {shown(name)}", name, parts[0])
            return {
                name: value_of(f"{where}.{name}", x, parts[1])
                for name, x in given.items()
            }
    leaves = [
        member for member in others if origin_of(bare(member)) not in (list, dict)
    ]
    if not leaves:
        raise InputError(where, shown(given), allowed(kind))
    for member in leaves:
        if _fits(given, member):
            return given
    raise InputError(where, shown(given), allowed(kind))


def _lists_tables(kind: Kind) -> bool:
    parts = typing.get_args(bare(kind))
    return (
        origin_of(bare(kind)) is list
        and isinstance(parts[0], type)
        and is_table(parts[0])
    )


def _chosen(
    where: str, given: Mapping[str, Plain], tables: Sequence[type[Table]]
) -> type[Table]:
    """The one of `tables` whose first required key is given."""
    if len(tables) == 1:
        return tables[0]
    first = {
        next(name for name, (_, f) in keys_of(t).items() if f.required): t
        for t in tables
    }
    found = [name for name in first if name in given]
    if len(found) != 1:
        near = [n for key in given for n in difflib.get_close_matches(key, first, 1)]
        raise InputError(
            where,
            shown(sorted(given)),
            "one of "
            + ", ".join(first)
            + (f" (did you mean '{near[0]}'?)" if near and not found else ""),
        )
    return first[found[0]]


def _none_of(given: Mapping[str, Plain], tables: Sequence[type[Table]]) -> bool:
    """Whether no required key of these tables is given: a table with free keys."""
    required = {
        name for t in tables for name, (_, f) in keys_of(t).items() if f.required
    }
    return not required & set(given)


def _fits(given: Plain, kind: Kind) -> bool:
    try:
        msgspec.convert(given, kind)
    except msgspec.ValidationError:
        return False
    return True


def _checked(where: str, given: Plain, kind: Kind) -> Plain:
    """The value as it is, where msgspec takes it for the type."""
    try:
        msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        path = (
            str(error).rpartition(" - at `$")[2].rstrip("`")
            if " - at `$" in str(error)
            else ""
        )
        place, found, inner = _descend(path, given, kind)
        raise InputError(where + place, shown(found), allowed(inner)) from None
    return given


def _descend(path: str, given: Plain, kind: Kind) -> tuple[str, Plain, Kind]:
    """The place, value and type at msgspec's path, as far as it leads through lists."""
    place = ""
    for text in path.replace("]", "").split("[")[1:]:
        parts = [
            typing.get_args(bare(m))
            for m in options(kind)
            if origin_of(bare(m)) in (list, tuple)
        ]
        if not text.isdigit() or not isinstance(given, list) or not parts:
            break
        index, place = int(text), f"{place}[{text}]"
        given, kind = given[index], parts[0][min(index, len(parts[0]) - 1)]
    return place, given, kind


def rows_of(table: type[Table]) -> list[str]:
    """A Markdown table of the keys."""
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, (kind, field) in keys_of(table).items():
        value = default(field)
        said = (
            "required"
            if field.required
            else ""
            if value is None
            else f"`{_toml(value)}`"
        )
        cells = [
            f"`{name}`",
            _type(kind),
            said,
            str(limits(kind).get("description", "")),
        ]
        lines.append("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |")
    return lines


def _toml(value: Plain) -> str:
    """A default as a case would spell it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, Table):
        keys = keys_of(type(value))
        given = {name: getattr(value, f.name) for name, (_, f) in keys.items()}
        value = {name: v for name, v in given.items() if v != default(keys[name][1])}
    if isinstance(value, dict):
        inner = ", ".join(f"{name} = {_toml(v)}" for name, v in value.items())
        return "{ " + inner + " }" if inner else "{}"
    return repr(value)


def _type(kind: Kind) -> str:
    """A type in the documentation: tables by their names."""
    names = []
    for member in options(kind):
        inside, parts = bare(member), typing.get_args(bare(member))
        origin = origin_of(inside)
        if is_table(member):
            names.append(inside.__name__)
        elif origin is list:
            names.append(f"list of {_type(parts[0])}")
        elif origin is dict:
            names.append(f"table of {_type(parts[1])}")
        else:
            names.append(_words(member))
    if "Expression" in names:
        names = [
            "field",
            *[
                n
                for n in names
                if not n.endswith("Field")
                and n not in ("Expression", "Value", "a number")
            ],
        ]
    return " or ".join(dict.fromkeys(names))
