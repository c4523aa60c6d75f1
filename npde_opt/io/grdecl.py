"""Eclipse (GRDECL) property blocks: `KEYWORD  v v n*v ... /`, x fastest, comments from `--`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial

import numpy as np

from npde_opt.errors import InputError

KEYWORD = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*\Z")
SIZES = ("SPECGRID", "DIMENS")
INTEGERS = ("ACTNUM", "SATNUM", "FIPNUM", "EQLNUM", "PVTNUM", "FLUXNUM", "MULTNUM", "ENDNUM", "IMBNUM")


def open_grdecl(path: str | os.PathLike) -> dict[str, Callable[[], np.ndarray]]:
    """The numeric blocks of a file by keyword, each as a function that gives its array.

    An array is [i, j, k] where the file gives its size (SPECGRID or DIMENS) and it has that many values, else flat.
    A file of bare numbers gives one block, `values`.

    Raises:
        InputError: for a block that is not closed by `/`; from the functions for defaulted values (`3*`).
    """
    blocks: dict[str, list[str]] = {}
    name = ""
    tokens: list[str] = []
    with open(path, encoding="latin-1") as file:
        for line in file:
            words = line.split("--", 1)[0].split()
            if len(words) == 1 and KEYWORD.match(words[0]):
                name, tokens = words[0].upper(), []
                continue
            for word in words:
                value, slash, _ = word.partition("/")
                if value:
                    tokens.append(value)
                if slash:
                    blocks[name], name, tokens = tokens, "", []
                    break
    if tokens and not name and not blocks:
        blocks["values"] = tokens
    elif tokens and name and KEYWORD.match(tokens[0]) is None:
        raise InputError(str(path), f"block {name} without an end", "blocks that end with /")
    numeric = {n: t for n, t in blocks.items() if t and n and _numeric(t[0])}
    size = next((tuple(_numbers(path, n, numeric[n]).tolist()[:3]) for n in SIZES if n in numeric), None)
    return {n: partial(_array, path, n, t, size) for n, t in numeric.items() if n not in SIZES}


def _array(path: str | os.PathLike, name: str, tokens: list[str], size: tuple[int, ...] | None) -> np.ndarray:
    values = _numbers(path, name, tokens)
    return values.reshape(size, order="F") if size and values.size == np.prod(size) else values


def _numeric(token: str) -> bool:
    return token[0] in "+-.0123456789"


def _numbers(path: str | os.PathLike, name: str, tokens: list[str]) -> np.ndarray:
    if name == "SPECGRID":
        tokens = tokens[:3]
    if not any("*" in t for t in tokens):
        values = _floats(path, name, tokens)
    else:
        pairs = [t.rpartition("*") for t in tokens]
        if any(star and not value for _, star, value in pairs):
            raise InputError(str(path), f"defaulted values in block {name}", "a value in every cell")
        counts = [int(count) if star else 1 for count, star, _ in pairs]
        values = np.repeat(_floats(path, name, [value for _, _, value in pairs]), counts)
    return values.astype(np.int64) if name in (*INTEGERS, *SIZES) else values


def _floats(path: str | os.PathLike, name: str, tokens: list[str]) -> np.ndarray:
    try:
        return np.array(tokens, dtype=float)
    except ValueError:
        pass
    try:
        return np.array([t.replace("D", "E").replace("d", "e") for t in tokens], dtype=float)
    except ValueError as error:
        raise InputError(str(path), f"in block {name}: {error}", "numbers") from None
