"""A function travels by name: the process that gets it imports it where the sender found it.

Why: docs/inside/remote.md, "A job goes by the name of its function".
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any, NamedTuple

from penstock.exceptions import NotTransferable


class Name(NamedTuple):
    """Where a function, or the task that was made of it, is found."""

    module: str
    qualname: str


def split(fn: Callable[..., Any]) -> tuple[Callable[..., Any], tuple[object, ...]]:
    """The function without the instance that it is bound to, and that instance."""
    if isinstance(fn, MethodType):
        return fn.__func__, (fn.__self__,)
    return fn, ()


def transferable(fn: Callable[..., Any], owner: str) -> Name | Callable[..., Any]:
    """What to send for a function: its name; a callable object goes as it is.

    Raises:
        NotTransferable: nothing is found under its name, or something else.
    """
    if not isinstance(fn, FunctionType):
        return fn
    name = Name(fn.__module__, fn.__qualname__)
    if "<locals>" in name.qualname:
        raise NotTransferable(
            f"{owner} is defined inside of a function, where a worker process cannot find it. "
            f"Define {fn.__name__!r} at the top of a module, or use a task runner with threads."
        )
    module = sys.modules.get(name.module)
    if module is None or function_in(module, name.qualname) is not fn:
        raise NotTransferable(
            f"{owner} cannot be sent to a worker process by name: {name.module}.{name.qualname} "
            f"is not its function. Give the task the name of its function."
        )
    return name


def function_in(module: object, qualname: str) -> object:
    """The function under that name, or that of the task under it; None: there is none."""
    found: Any = module
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return split(getattr(found, "fn", found))[0]


def import_function(name: Name) -> Callable[..., Any]:
    """The function under that name in this process.

    Raises:
        NotTransferable: there is none.
    """
    fn = function_in(importlib.import_module(name.module), name.qualname)
    if not callable(fn):
        hint = ""
        if name.module == "__main__":
            hint = " What is defined in a notebook or typed into a prompt has to go into a module."
        raise NotTransferable(f"There is no {name.qualname} in {name.module} here.{hint}")
    return fn
