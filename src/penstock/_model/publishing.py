"""Publishing: what a public module offers shows that module as its home, wherever it is defined.

Why: docs/inside/typing.md, "Public names show their public module".
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Iterable
from types import FunctionType
from typing import Any


def publish(module: str, names: Iterable[str]) -> None:
    """Let the classes and functions that a public module takes from private ones show its path.

    So `repr`, `help`, tracebacks and pickles name what users can import.

    Args:
        module: the public module, which calls this once all names are defined.
        names: what it offers. What another public module has published keeps its home, and so does
            what is neither a class nor a function.
    """
    namespace = vars(sys.modules[module])
    for name in names:
        offered = namespace[name]
        if not isinstance(offered, type | FunctionType) or "._" not in offered.__module__:
            continue
        if isinstance(offered, type):
            _evaluate_annotations(offered)
        offered.__module__ = module
        offered.__name__ = offered.__qualname__ = name


def _evaluate_annotations(kind: type[Any]) -> None:
    """Replace the annotations of a class, which are strings, by what they stand for.

    `typing.get_type_hints` and msgspec evaluate strings in the module that the class names as its
    own, where soon other names are known. What is imported for type checkers alone stays a string.
    """
    if vars(kind).get("__annotations__"):
        with contextlib.suppress(NameError):
            # Half of the time of `typing.get_type_hints`, which evaluates those of the bases, too.
            kind.__annotations__ = inspect.get_annotations(kind, eval_str=True)
