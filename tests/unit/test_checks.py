"""Checks of arguments: what each accepts, and the one wording of its refusal."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID

import pytest

from penstock._model import checks
from penstock.exceptions import ConfigurationError

Check: TypeAlias = Callable[[object], object]
MOMENT = datetime(2026, 1, 2, tzinfo=UTC)
ID = UUID(int=7)


def of(check: Callable[..., object], **options: Any) -> Check:
    """The check of an argument `x` of an owner `f()`."""
    return lambda given: check(given, "x", "f()", **options)


STRING = of(checks.string)
STRING_OR_NONE = of(checks.string_or_none)
NOT_BLANK = of(checks.string_not_blank)
STRINGS = of(checks.distinct_strings)
FLAG = of(checks.flag)
INTEGER = of(checks.integer, at_least=1)
INTEGER_OR_NONE = of(checks.integer_or_none, at_least=0)
NUMBER = of(checks.number)
ABOVE_0 = of(checks.number_above_0)
SHORT = of(checks.number, below=10)
DURATION = of(checks.duration_or_none)
MOMENTS = of(checks.datetime_or_none)
ZONED = of(checks.datetime_with_zone)
PATH = of(checks.path)
UUIDS = of(checks.uuid)


def two(first: object, second: object) -> None: ...


async def waits(first: object, second: object) -> None: ...


FUNCTION = of(checks.sync_function, parameters=("first", "second"))


@pytest.mark.parametrize(
    ("check", "given", "result"),
    [
        (STRING_OR_NONE, None, None),
        (STRING, "", ""),
        (NOT_BLANK, "name", "name"),
        (STRINGS, ["b", "a", "b"], ("a", "b")),
        (STRINGS, iter(["a"]), ("a",)),
        (STRINGS, [], ()),
        (FLAG, False, False),
        (INTEGER, 1, 1),
        (INTEGER_OR_NONE, None, None),
        (INTEGER_OR_NONE, 0, 0),
        (NUMBER, 0, 0.0),
        (NUMBER, 2.5, 2.5),
        (SHORT, 9.9, 9.9),
        (DURATION, None, None),
        (DURATION, 3, 3.0),
        (DURATION, timedelta(minutes=1), 60.0),
        (MOMENTS, None, None),
        (MOMENTS, MOMENT, MOMENT),
        (ZONED, MOMENT, MOMENT),
        (PATH, "a/b", Path("a/b")),
        (PATH, Path("~"), Path.home()),
        (ABOVE_0, 2, 2.0),
        (UUIDS, ID, ID),
        (UUIDS, str(ID), ID),
        (FUNCTION, two, two),
        (FUNCTION, max, max),
    ],
)
def test_what_fits_is_given_back(check: Check, given: object, result: object) -> None:
    assert check(given) == result


@pytest.mark.parametrize(
    ("check", "given", "requirement"),
    [
        (STRING, 5, "a string"),
        (NOT_BLANK, " ", "a string that is not blank"),
        (NOT_BLANK, None, "a string that is not blank"),
        (STRINGS, "ab", "a list of strings that are not blank"),
        (STRINGS, 5, "a list of strings that are not blank"),
        (STRINGS, ["a", ""], "a list of strings that are not blank"),
        (STRINGS, ["a", " "], "a list of strings that are not blank"),
        (STRING, None, "a string"),
        (PATH, b"a", "a path"),
        (PATH, None, "a path"),
        (ABOVE_0, 0, "a number above 0"),
        (ABOVE_0, math.nan, "a number above 0"),
        (ABOVE_0, True, "a number above 0"),
        (ZONED, MOMENT.replace(tzinfo=None), "a datetime with a time zone"),
        (ZONED, None, "a datetime with a time zone"),
        (FLAG, 1, "True or False"),
        (INTEGER, 0, "an integer of at least 1"),
        (INTEGER, 1.0, "an integer of at least 1"),
        (INTEGER, True, "an integer of at least 1"),
        (INTEGER_OR_NONE, -1, "an integer of at least 0"),
        (NUMBER, -1, "a number of at least 0"),
        (NUMBER, math.inf, "a number of at least 0"),
        (NUMBER, math.nan, "a number of at least 0"),
        (NUMBER, False, "a number of at least 0"),
        (NUMBER, "1", "a number of at least 0"),
        (SHORT, 10, "a number of at least 0 and below 10"),
        (DURATION, 0, "a duration above 0, in seconds or as a timedelta"),
        (DURATION, timedelta(0), "a duration above 0, in seconds or as a timedelta"),
        (DURATION, math.inf, "a duration above 0, in seconds or as a timedelta"),
        (DURATION, True, "a duration above 0, in seconds or as a timedelta"),
        (MOMENTS, MOMENT.date(), "a datetime"),
        (UUIDS, "7", "a UUID, or its text"),
        (UUIDS, None, "a UUID, or its text"),
        (FUNCTION, len, "a sync function of (first, second)"),
        (FUNCTION, waits, "a sync function of (first, second)"),
        (FUNCTION, "two", "a sync function of (first, second)"),
    ],
)
def test_a_refusal_names_the_owner_and_the_argument_and_shows_what_was_given(
    check: Check, given: object, requirement: str
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        check(given)
    assert str(raised.value) == f"f(): x must be {requirement}, not {given!r}."


def test_a_choice_is_one_of_those_that_the_refusal_lists() -> None:
    checks.one_of("a", ("a", "b"), "x", "f()")
    with pytest.raises(ConfigurationError) as raised:
        checks.one_of("c", ("a", "b"), "x", "f()")
    assert str(raised.value) == "f(): x must be one of 'a', 'b', not 'c'."


def test_a_setting_has_no_owner() -> None:
    assert str(checks.refusal(5, "X", "", "a string")) == "X must be a string, not 5."


def test_a_builtin_without_a_signature_is_believed_to_accept_the_arguments() -> None:
    assert checks.accepts(max, 2)
    assert not checks.accepts(len, 2)
