"""Modules that are loaded when they are first used.

A few take as long to load as a small run does to solve, and are needed by some runs only.
"""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType


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
