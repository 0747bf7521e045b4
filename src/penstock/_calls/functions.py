"""Functions that are decorated: which can be, and what is known of one without a call."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from penstock.exceptions import ConfigurationError


def function_or_refuse(fn: object, decorator: str) -> Callable[..., Any]:
    """The function that was decorated, also below `@classmethod` and `@staticmethod`.

    Raises:
        ConfigurationError: it is not a function, or is a generator function.
    """
    if isinstance(fn, classmethod | staticmethod):
        method = cast("classmethod[Any, ..., Any] | staticmethod[..., Any]", fn)
        return function_or_refuse(method.__func__, decorator)
    if not callable(fn) or isinstance(fn, type):
        raise ConfigurationError(
            f"@{decorator} takes a function, not {fn!r}. Options are given by keyword: "
            f"@{decorator}(name=...)."
        )
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise ConfigurationError(
            f"@{decorator}: {getattr(fn, '__name__', fn)!r} is a generator; return a list instead."
        )
    return cast("Callable[..., Any]", fn)


def function_name(fn: Callable[..., Any]) -> str:
    """The name of the function; of an object that is called, that of its class."""
    return getattr(fn, "__name__", type(fn).__name__)


def qualified_name(fn: Callable[..., Any]) -> str:
    """The same with the classes and functions that it is defined in."""
    return getattr(fn, "__qualname__", type(fn).__qualname__)


def is_coroutine_function(fn: Callable[..., Any]) -> bool:
    """Whether a call of it gives a coroutine."""
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(
        getattr(fn, "__call__", None)  # noqa: B004  # the method itself is asked for
    )


def docstring_of(fn: Callable[..., Any]) -> str | None:
    """The docstring without its indentation."""
    return inspect.getdoc(fn) if getattr(fn, "__doc__", None) else None


def hash_of_defining_file(fn: Callable[..., Any]) -> str | None:
    """A hash of the .py file that defines the function; None where there is none, as in a REPL."""
    try:
        path = inspect.getsourcefile(inspect.unwrap(fn))
    except TypeError:
        return None
    return _hash_of_file(path) if path is not None else None


@lru_cache(maxsize=1024)
def _hash_of_file(path: str) -> str | None:
    # Read once in a process, as the code that runs is the code that was imported.
    try:
        content = Path(path).read_bytes()
    except OSError:
        return None
    return hashlib.sha256(content).hexdigest()[:32]
