"""What the decorators have in common: reading and checking their arguments."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

from penstock.exceptions import ConfigurationError
from penstock.records import Definition, RunKind

T = TypeVar("T")


def name_or_default(name: object, default: str, owner: str) -> str:
    """The name given, or the default one.

    Raises:
        ConfigurationError: it is no name.
    """
    if name is None:
        return default
    if not isinstance(name, str) or not name.strip():
        raise ConfigurationError(f"{owner}: name must be a text that is not empty, not {name!r}.")
    return name


def text_or_none(value: object, argument: str, owner: str) -> str | None:
    """A text given, or None.

    Raises:
        ConfigurationError: it is something else.
    """
    if value is not None and not isinstance(value, str):
        raise ConfigurationError(f"{owner}: {argument} must be a text, not {value!r}.")
    return value


def flag(value: object, argument: str, owner: str) -> bool:
    """True or False.

    Raises:
        ConfigurationError: it is something else.
    """
    if not isinstance(value, bool):
        raise ConfigurationError(f"{owner}: {argument} must be True or False, not {value!r}.")
    return value


def seconds_or_none(value: object, argument: str, owner: str) -> float | None:
    """A time in seconds, or None.

    Raises:
        ConfigurationError: it is no positive number and no timedelta.
    """
    if value is None:
        return None
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e12:
        raise ConfigurationError(
            f"{owner}: {argument} must be a time above 0, in seconds or as a timedelta, "
            f"not {value!r}."
        )
    return float(value)


def tag_tuple(tags: object, owner: str) -> tuple[str, ...]:
    """The tags, sorted, each once.

    Raises:
        ConfigurationError: they are no list of texts.
    """
    if tags is None:
        return ()
    if isinstance(tags, str) or not isinstance(tags, Iterable):
        raise ConfigurationError(f"{owner}: tags must be a list of texts, not {tags!r}.")
    given = list(cast("Iterable[object]", tags))
    if not all(isinstance(tag, str) and tag for tag in given):
        raise ConfigurationError(f"{owner}: tags must be a list of texts, not {given!r}.")
    return tuple(sorted(set(cast("list[str]", given))))


def function_or_refuse(fn: object, decorator: str) -> Callable[..., Any]:
    """What was decorated, unless it cannot be.

    Raises:
        ConfigurationError: it is no function, or a generator function.
    """
    if isinstance(fn, classmethod | staticmethod):
        raise ConfigurationError(
            f"@{decorator} goes below @staticmethod or @classmethod: write those first."
        )
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
    """What the function is called."""
    return getattr(fn, "__name__", type(fn).__name__)


def function_key(fn: Callable[..., Any]) -> str:
    """Which function it is: module and qualified name."""
    return f"{fn.__module__}.{getattr(fn, '__qualname__', type(fn).__qualname__)}"


def is_coroutine_function(fn: Callable[..., Any]) -> bool:
    """Whether calling it gives a coroutine."""
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(
        getattr(fn, "__call__", None)  # noqa: B004  # the method itself is asked for
    )


def docstring_of(fn: Callable[..., Any]) -> str | None:
    """The docstring, without the indentation."""
    return inspect.getdoc(fn) if getattr(fn, "__doc__", None) else None


def duplicate(original: T) -> T:
    """A shallow copy, also of what pickles by name."""
    copy = object.__new__(type(original))
    copy.__dict__.update(original.__dict__)
    return copy


def make_definition(
    kind: RunKind,
    name: str,
    key: str,
    version: str | None,
    description: str | None,
    tags: Sequence[str],
) -> Definition:
    """A definition with the id that follows from all the rest."""
    text = repr((kind.value, name, key, version, description, tuple(tags)))
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    id_ = int.from_bytes(digest[:8], "big") >> 1
    return Definition(id_, kind, name, key, version, description, tuple(tags))


def hash_of_defining_file(fn: Callable[..., Any]) -> str | None:
    """A hash of the .py file that defines the function; None where there is none (a REPL)."""
    try:
        path = inspect.getsourcefile(inspect.unwrap(fn))
    except TypeError:
        return None
    return _hash_of_file(path) if path is not None else None


@lru_cache(maxsize=1024)
def _hash_of_file(path: str) -> str | None:
    # Once a process: the code that runs is the code that was imported.
    try:
        content = Path(path).read_bytes()
    except OSError:
        return None
    return hashlib.sha256(content).hexdigest()[:32]
