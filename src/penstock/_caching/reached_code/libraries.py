"""Whose code it is: the user's, the standard library's, or that of another library."""

from __future__ import annotations

import pathlib
import sys
import types
from functools import lru_cache
from typing import Final

from penstock._model.modules import name_of_module

_UNCOUNTED: Final = sys.stdlib_module_names | {"penstock", "", "__main__"}
_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})


def module_of(value: object) -> str:
    """The module that code runs in, also where a decorator has changed its `__module__`."""
    if isinstance(value, types.FunctionType):
        return name_of_module(str(value.__globals__.get("__name__", "")))
    return name_of_module(str(getattr(value, "__module__", "")))


def package_of(module: str) -> str:
    """The top-level package of a module."""
    return module.partition(".")[0]


def is_users(module: str) -> bool:
    """Whether a module is the user's, by the rule that the folder states."""
    if module != "__main__" and package_of(module) in _UNCOUNTED:
        return module == ""
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is None or _INSTALLED.isdisjoint(pathlib.Path(file).parts)


def is_counted(package: str) -> bool:
    """Whether the version of a library counts: not the standard library's, nor Penstock's."""
    return package not in _UNCOUNTED


@lru_cache(maxsize=1024)
def version_of(package: str) -> str:
    """The version of a library; empty where it says none."""
    own = vars(sys.modules[package]).get("__version__") if package in sys.modules else None
    if isinstance(own, str):
        return own
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return ""
