"""The form of a function: its names and its source, remembered while it has the same code."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from functools import lru_cache
from typing import cast

from penstock._caching.canonical import canonical_form, text_form


def form_of_function(key: str, function: Callable[..., object]) -> bytes:
    """What a task is, whatever its arguments: its key and the source of its function."""
    if type(function) is types.FunctionType and "__wrapped__" not in function.__dict__:
        return _known_function(key, function).form(function)
    return text_form(key) + text_form(source_of(function))


class _KnownFunction:
    """The form of a function, remembered as long as it has the same code.

    Saves a call of `inspect` for each key, which took longer than the rest of a small key.
    """

    __slots__ = ("_code", "_form", "_key")

    def __init__(self, key: str) -> None:
        self._key = key
        self._code: types.CodeType | None = None
        self._form = b""

    def form(self, function: types.FunctionType) -> bytes:
        """The form of the function as it is now."""
        code = function.__code__
        if code is not self._code:
            self._form = text_form(self._key) + text_form(source_of(function))
            self._code = code
        return self._form


@lru_cache(maxsize=4096)
def _known_function(key: str, _function: types.FunctionType) -> _KnownFunction:
    return _KnownFunction(key)


def source_of(function: Callable[..., object]) -> str:
    """The source of a function; where there is none, as in a REPL, its compiled code as text."""
    defined = _defined_as(inspect.unwrap(function))
    return _source(getattr(defined, "__code__", defined), defined)


def _defined_as(function: Callable[..., object]) -> Callable[..., object]:
    """The function behind a method, or behind an object that is called."""
    call = getattr(type(function), "__call__", None)  # noqa: B004  # the method itself is asked for
    if inspect.isfunction(call):
        return call
    return cast("Callable[..., object]", getattr(function, "__func__", function))


@lru_cache(maxsize=4096)
def _source(code: object, function: Callable[..., object]) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        if isinstance(code, types.CodeType):
            return canonical_form(code).hex()
        return f"{function.__module__}.{type(function).__qualname__}"
