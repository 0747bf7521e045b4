"""Checks of arguments: one wording for each kind of bound, which names the owner and the argument.

Each check gives back what it was given, or raises a `ConfigurationError` such as
`task 'double': retries must be an integer of at least 0, not -1.` The owner is whatever has the
argument: `task 'double'`, `set_limit()`, `ConcurrentTaskRunner`; a setting has none.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar, cast
from uuid import UUID

from typing_extensions import TypeIs

from penstock.exceptions import ConfigurationError

T = TypeVar("T")
A_STRING_THAT_IS_NOT_BLANK: Final = "a string that is not blank"
"""What `is_not_blank` requires."""
_LONGEST_SECONDS: Final = 1e12
"""Some 30,000 years; the clocks of operating systems do not take much more."""


def refusal(
    given: object, argument: str, owner: str, requirement: str, hint: str = ""
) -> ConfigurationError:
    """The error that says what an argument must be, shows what was given, and says what to do."""
    of_owner = f"{owner}: " if owner else ""
    advice = f" {hint}" if hint else ""
    return ConfigurationError(f"{of_owner}{argument} must be {requirement}, not {given!r}.{advice}")


def instance(given: object, type_: type[T], argument: str, owner: str, requirement: str) -> T:
    """An instance of a type, which `requirement` describes.

    Raises:
        ConfigurationError: it is something else.
    """
    if not isinstance(given, type_):
        raise refusal(given, argument, owner, requirement)
    return given


# Strings


def string(given: object, argument: str, owner: str) -> str:
    """A string.

    Raises:
        ConfigurationError: it is something else.
    """
    return instance(given, str, argument, owner, "a string")


def string_or_none(given: object, argument: str, owner: str) -> str | None:
    """The same, or None where none was given.

    Raises:
        ConfigurationError: it is something else.
    """
    return None if given is None else string(given, argument, owner)


def is_not_blank(given: object) -> TypeIs[str]:
    """Whether it is a string that has more than whitespace."""
    return isinstance(given, str) and bool(given.strip())


def string_not_blank(given: object, argument: str, owner: str) -> str:
    """A string that has more than whitespace.

    Raises:
        ConfigurationError: it is something else.
    """
    if not is_not_blank(given):
        raise refusal(given, argument, owner, A_STRING_THAT_IS_NOT_BLANK)
    return given


def distinct_strings(
    given: object,
    argument: str,
    owner: str,
    requirement: str = "a list of strings that are not blank",
) -> tuple[str, ...]:
    """Strings that are not blank, sorted, each once; given by any iterable but a string.

    Raises:
        ConfigurationError: they are something else.
    """
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise refusal(given, argument, owner, requirement)
    strings = list(cast("Iterable[object]", given))
    if not all(map(is_not_blank, strings)):
        raise refusal(strings, argument, owner, requirement)
    return tuple(sorted(set(cast("list[str]", strings))))


def one_of(given: object, choices: Collection[str], argument: str, owner: str) -> None:
    """Refuse what is none of the choices.

    Raises:
        ConfigurationError: it is none of them.
    """
    if given not in choices:
        raise refusal(given, argument, owner, f"one of {', '.join(map(repr, choices))}")


# Numbers


def flag(given: object, argument: str, owner: str) -> bool:
    """True or False.

    Raises:
        ConfigurationError: it is something else.
    """
    if not isinstance(given, bool):
        raise refusal(given, argument, owner, "True or False")
    return given


def integer(given: object, argument: str, owner: str, *, at_least: int) -> int:
    """An integer that is not below a bound.

    Raises:
        ConfigurationError: it is something else.
    """
    if isinstance(given, bool) or not isinstance(given, int) or given < at_least:
        raise refusal(given, argument, owner, f"an integer of at least {at_least}")
    return given


def integer_or_none(given: object, argument: str, owner: str, *, at_least: int) -> int | None:
    """The same, or None where none was given.

    Raises:
        ConfigurationError: it is something else.
    """
    return None if given is None else integer(given, argument, owner, at_least=at_least)


def is_number(given: object, *, below: float = math.inf) -> bool:
    """Whether it is a number of at least 0, below a bound, and neither a bool nor a NaN."""
    is_one = isinstance(given, int | float) and not isinstance(given, bool)
    return is_one and 0 <= cast("float", given) < below


def number(given: object, argument: str, owner: str, *, below: float = math.inf) -> float:
    """A finite number of at least 0.

    Raises:
        ConfigurationError: it is something else.
    """
    if not is_number(given, below=below):
        bound = "" if below == math.inf else f" and below {below:g}"
        raise refusal(given, argument, owner, f"a number of at least 0{bound}")
    return float(cast("float", given))


def number_above_0(given: object, argument: str, owner: str) -> float:
    """A finite number above 0.

    Raises:
        ConfigurationError: it is something else.
    """
    if not is_number(given) or not given:
        raise refusal(given, argument, owner, "a number above 0")
    return float(cast("float", given))


def duration_or_none(given: object, argument: str, owner: str) -> float | None:
    """A duration in seconds, or None where none was given.

    Raises:
        ConfigurationError: it is something else.
    """
    if given is None:
        return None
    seconds = given.total_seconds() if isinstance(given, timedelta) else given
    if not is_number(seconds, below=_LONGEST_SECONDS) or not seconds:
        raise refusal(given, argument, owner, "a duration above 0, in seconds or as a timedelta")
    return float(cast("float", seconds))


# Paths, times and ids


def path(given: object, argument: str, owner: str) -> Path:
    """A path, given as one or as its text; `~` is the home of the user.

    Raises:
        ConfigurationError: it is something else.
    """
    if not isinstance(given, str | Path):
        raise refusal(given, argument, owner, "a path")
    return Path(given).expanduser()


def datetime_or_none(given: object, argument: str, owner: str) -> datetime | None:
    """A point in time, or None where none was given.

    Raises:
        ConfigurationError: it is something else.
    """
    return None if given is None else instance(given, datetime, argument, owner, "a datetime")


def datetime_with_zone(given: object, argument: str, owner: str) -> datetime:
    """A point in time that says its time zone.

    Raises:
        ConfigurationError: it is something else.
    """
    if not isinstance(given, datetime) or given.tzinfo is None:
        raise refusal(given, argument, owner, "a datetime with a time zone")
    return given


def uuid(given: object, argument: str, owner: str) -> UUID:
    """A UUID, given as one or as its text.

    Raises:
        ConfigurationError: it is something else.
    """
    try:
        return given if isinstance(given, UUID) else UUID(cast("str", given))
    except (ValueError, TypeError, AttributeError):
        raise refusal(given, argument, owner, "a UUID, or its text") from None


# Functions


def sync_function(
    given: object, argument: str, owner: str, parameters: Collection[str]
) -> Callable[..., Any]:
    """A function that can be called with so many arguments and gives no coroutine.

    Raises:
        ConfigurationError: it is something else.
    """
    if not accepts(given, len(parameters)) or inspect.iscoroutinefunction(given):
        raise refusal(given, argument, owner, f"a sync function of ({', '.join(parameters)})")
    return cast("Callable[..., Any]", given)


def accepts(function: object, count: int) -> bool:
    """Whether it can be called with so many arguments by position."""
    if not callable(function):
        return False
    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:  # a builtin without a signature
        return True
    return True
