"""Modules that are loaded when they are first used, and what a start with many of them costs.

A few take as long to load as a small run does to solve, and are needed by some runs only.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any


def loaded_lazily(name: str) -> ModuleType:
    """The module of this name, whose file is read when one of its attributes is first asked for.

    Raises:
        ModuleNotFoundError: at once, where it is not installed.
    """
    if name in sys.modules:
        return sys.modules[name]
    found = importlib.util.find_spec(name)
    if found is None or found.loader is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    found.loader = importlib.util.LazyLoader(found.loader)
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    found.loader.exec_module(module)
    return module


def called_lazily(module: str, name: str) -> Callable[..., Any]:
    """A function of a module that is loaded at its first call."""

    def call(*arguments: Any) -> Any:
        return getattr(importlib.import_module(module), name)(*arguments)

    return call


def names_of(package: str, homes: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """The `__getattr__` of a package some of whose names are loaded when one is first asked for,
    with the module that has it.

    Args:
        package: its __name__. homes: the names by their module in it.
    """
    home = {name: module for module, names in homes.items() for name in names}

    def found(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(f"{package}.{home[name]}")
        value = getattr(module, name)
        setattr(sys.modules[package], name, value)
        return value

    return found


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Inside, modules are loaded: nobody looks for garbage there, as what they define stays, and
    the looks take a tenth of the time. Nor is it looked through later."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if on:
            gc.enable()
