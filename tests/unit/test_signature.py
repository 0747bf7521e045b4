"""Signatures: arguments by name and back, and values held against their annotations."""

from __future__ import annotations

import dataclasses
import enum
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Literal, Protocol, TypeVar
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._calls.signature import Signature, convert
from penstock.exceptions import ConfigurationError, ParameterError
from tests.strategies import FUNCTIONS, arguments, by_name, everything, plain, positional

T = TypeVar("T")


def signature_of(function: Callable[..., object]) -> Signature:
    return Signature(function, f"flow {function.__name__!r}")


def validated(function: Callable[..., object], *args: object, **kwargs: object) -> dict[str, Any]:
    """The arguments of a call after validation, by name."""
    signature = signature_of(function)
    return signature.validated(signature.bind(args, kwargs))


# Binding


@given(st.sampled_from(FUNCTIONS), arguments)
def test_a_call_is_taken_just_as_python_takes_it_and_spread_is_the_inverse_of_bind(
    function: Callable[..., object], call: tuple[list[int], dict[str, int]]
) -> None:
    args, kwargs = call
    signature = signature_of(function)
    try:
        expected = function(*args, **kwargs)
    except TypeError:
        for verb in (signature.check, signature.bind):
            with pytest.raises(ParameterError, match=f"^flow '{function.__name__}': "):
                verb(args, kwargs)
        return
    signature.check(args, kwargs)
    parameters = signature.bind(args, kwargs)
    spread_args, spread_kwargs = signature.spread(parameters)
    assert function(*spread_args, **spread_kwargs) == expected
    assert signature.bind(spread_args, spread_kwargs) == parameters


def test_parameters_are_by_name_with_their_defaults() -> None:
    assert signature_of(plain).bind((1,), {"b": 2}) == {"a": 1, "b": 2, "c": 3}
    assert signature_of(plain).bind((1, 2, 4), {}) == {"a": 1, "b": 2, "c": 4}
    assert signature_of(by_name).bind((1,), {"b": 2, "z": 9}) == (
        {"a": 1, "b": 2, "c": 3, "others": {"z": 9}}
    )
    assert signature_of(everything).bind((1, 2, 4, 6, 7), {"d": 5}) == (
        {"a": 1, "b": 2, "c": 4, "rest": (6, 7), "d": 5, "e": 5, "others": {}}
    )


@pytest.mark.parametrize(
    ("args", "kwargs", "what"),
    [
        ((1,), {}, "missing a required argument: 'b'"),
        ((1, 2, 3, 4), {}, "too many positional arguments"),
        ((1, 2), {"d": 4}, "got an unexpected keyword argument 'd'; there are a, b, c"),
        ((), {"aa": 4}, "got an unexpected keyword argument 'aa'; did you mean a?"),
        ((1, 2), {"a": 4}, "multiple values for argument 'a'"),
    ],
)
def test_a_call_that_does_not_fit_is_refused_by_name(
    args: tuple[int, ...], kwargs: dict[str, int], what: str
) -> None:
    with pytest.raises(ParameterError) as raised:
        signature_of(plain).check(args, kwargs)
    assert str(raised.value).removesuffix(".") == f"flow 'plain': {what}"


def test_a_name_that_no_parameter_has_is_refused_before_what_is_missing() -> None:
    """Where there are `**others`, all names are known."""

    def takes_none() -> None: ...

    with pytest.raises(ParameterError, match=r"keyword argument 'z'; it takes none\.$"):
        signature_of(takes_none).check((), {"z": 1})
    with pytest.raises(ParameterError, match=r"keyword argument 'z'; there are b\.$"):
        signature_of(positional).check((), {"z": 1})
    with pytest.raises(ParameterError, match="missing a required argument: 'a'"):
        signature_of(everything).check((), {"z": 1})


@pytest.mark.parametrize("name", ["return_state", "wait_for"])
def test_a_parameter_with_a_name_of_the_call_is_refused(name: str) -> None:
    scope: dict[str, Any] = {}
    exec(f"def function({name}): ...", scope)
    with pytest.raises(ConfigurationError, match=f"flow 'function': .*{name}"):
        signature_of(scope["function"])


class Greeter:
    """A class with a method."""

    def greet(self, times: int) -> str:
        return "hello " * times


def test_a_bound_method_takes_no_self() -> None:
    assert validated(Greeter().greet, "5") == {"times": 5}


# Validation


class Color(enum.Enum):
    """An enumeration."""

    RED = "red"


class Shade(enum.StrEnum):
    """An enumeration whose members are texts."""

    DARK = "dark"


@dataclasses.dataclass
class Point:
    """A dataclass."""

    x: int
    y: int = 0


class Pair(msgspec.Struct):
    """A Struct."""

    left: int


class Custom:
    """A class that nobody can convert to."""


class Speaks(Protocol):
    """A protocol that cannot be checked at run time."""

    def speak(self) -> str: ...


class Model:
    """Converts as a Pydantic model does."""

    def __init__(self, number: int) -> None:
        self.number = number

    @classmethod
    def model_validate(cls, value: dict[str, Any]) -> Model:
        if not isinstance(value.get("number"), int):
            raise TypeError("number must be an int")
        return cls(value["number"])


def test_the_text_of_a_number_is_that_number() -> None:
    def count(number: int) -> int:
        return number

    assert validated(count, "5") == {"number": 5}


def test_a_value_that_cannot_be_converted_is_refused_with_the_name_of_its_parameter() -> None:
    def count(fine: int, number: int) -> int:
        return number

    with pytest.raises(ParameterError) as raised:
        validated(count, 1, "five")
    message = str(raised.value)
    assert message.startswith("Validation of the parameters of flow 'count' failed: ")
    assert "Parameter 'number'" in message
    assert "'five'" in message
    assert "'fine'" not in message


def test_every_parameter_that_does_not_fit_is_named_at_once() -> None:
    def count(one: int, fine: str, other: float) -> None: ...

    with pytest.raises(ParameterError) as raised:
        validated(count, "one", "fine", "other")
    assert "Parameter 'one'" in str(raised.value)
    assert "Parameter 'other'" in str(raised.value)
    assert "Parameter 'fine'" not in str(raised.value)


def test_a_long_value_is_shown_in_short() -> None:
    def count(number: int) -> None: ...

    with pytest.raises(ParameterError) as raised:
        validated(count, "x" * 10_000)
    assert len(str(raised.value)) < 300


def title(value: object, annotation: Any) -> str:
    """Such as `'5' as int`; an object that shows its address is called by its type."""
    shown = repr(value)
    wanted = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return f"{type(value).__name__ if ' at 0x' in shown else shown} as {wanted}"


ANOTHER = Custom()
NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)
CONVERTED: list[tuple[object, Any, object]] = [
    ("5", int, 5), ("1.5", float, 1.5), (5, float, 5.0), ("true", bool, True),
    ("1.5", Decimal, Decimal("1.5")), ("/a", Path, Path("/a")),
    ("/a", PurePosixPath, PurePosixPath("/a")),
    ("2024-02-29", date, date(2024, 2, 29)), (5, timedelta, timedelta(seconds=5)),
    ("8af63f45-b50c-46ef-b59e-ec19897421cd", UUID, UUID("8af63f45-b50c-46ef-b59e-ec19897421cd")),
    ("red", Color, Color.RED), ("dark", Shade, Shade.DARK), ({"x": 1}, Point, Point(1)),
    ({"x": "1", "y": 2}, Point, Point(1, 2)), ({"left": 1}, Pair, Pair(1)),
    ("5", int | None, 5), ("/a", Path | None, Path("/a")), ([1, 2], tuple[int, ...], (1, 2)),
    ([1, 2], set[int], {1, 2}), ((1, 2), list[int], [1, 2]),
    # In containers just as alone
    (["5"], list[int], [5]), ([1, "2"], list[int], [1, 2]), ({"a": "5"}, dict[str, int], {"a": 5}),
    (("5", "a"), tuple[int, str], (5, "a")), (["/a"], list[Path], [Path("/a")]),
    ({"a": "/a"}, dict[str, Path], {"a": Path("/a")}), (("/a",), tuple[Path, ...], (Path("/a"),)),
    (["2024-02-29"], list[date], [date(2024, 2, 29)]), (["red"], list[Color], [Color.RED]),
    (["dark"], list[Shade], [Shade.DARK]), ({"dark"}, set[Shade], {Shade.DARK}),
    ([{"x": 1}], list[Point], [Point(1)]), ({"a": {"x": 1}}, dict[str, Point], {"a": Point(1)}),
    ([[{"left": 1}]], list[list[Pair]], [[Pair(1)]]), ([1], list[float], [1.0]),
    ([Point(1), {"x": 2}], list[Point], [Point(1), Point(2)]),
    ({"a": ["/a"]}, dict[str, list[Path]] | None, {"a": [Path("/a")]}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "annotation", "expected"), CONVERTED, ids=[title(v, a) for v, a, _ in CONVERTED]
)
def test_a_value_is_converted_to_its_annotation(
    value: object, annotation: Any, expected: object
) -> None:
    result = convert(value, annotation)
    assert (repr(result), result) == (repr(expected), expected)


def test_a_dict_becomes_a_model_that_validates_itself() -> None:
    result = convert({"number": 5}, Model)
    assert isinstance(result, Model)
    assert result.number == 5
    with pytest.raises(msgspec.ValidationError, match="number must be an int"):
        convert({"number": "x"}, Model)


FITTING: list[tuple[object, Any]] = [
    (5, int), (True, int), (1.5, float), ("5", str), (b"x", bytes), (None, None),
    (None, int | None),
    ("5", int | str), (5, object), (1 + 2j, complex), (Decimal(1), Decimal),
    (Path("/a"), Path), (Color.RED, Color), (Point(1), Point), (Pair(1), Pair), (ANOTHER, Custom),
    (ANOTHER, Custom | None), (ANOTHER, Custom | Point | int), (Model(1), Model),
    (NOON, datetime), (NOON, date), (len, Callable),
    ("x", Literal["x", "y"]), (5, T),
    # Containers of what fits
    ([1, 2], list[int]), ([1, 2], list), ([], list[int]), ([[1], []], list[list[int]]),
    ((1, "a"), tuple[int, str]), ({1, 2}, set[int]), (frozenset({1}), frozenset[int]),
    ({"a": 1}, dict[str, int]), ({"a": [1]}, dict[str, list[int]]), ([Point(1)], list[Point]),
    ([Pair(1)], list[Pair]), ([Path("/a")], list[Path]), ([ANOTHER], list[Custom]),
    ([True], list[int]), ([None, 1], list[int | None]), ([Color.RED], list[Color]),
    (OrderedDict(a=1), dict[str, int]), (defaultdict(list, a=[1]), dict[str, list[int]]),
    # What the abstract types of containers stand for
    ([1], Sequence[int]), ((1, 2), Sequence[int]), (range(3), Sequence[int]),
    ("abc", Sequence[str]),
    (deque([1]), Sequence[int]), ([1], Iterable[int]), ((1,), Iterable[int]), ({1}, Iterable[int]),
    ({"a": 1}, Mapping[str, int]), (MappingProxyType({"a": 1}), Mapping[str, int]),
    ({1}, AbstractSet[int]), (frozenset({1}), AbstractSet[int]), (iter([1]), Iterator[int]),
    ((item for item in [1]), Iterable[int]), ((item for item in [1]), Iterator[int]),
    (len, Callable[[list[int]], int]), (len, Callable[..., int]), (int, type[int]), (Point, type),
    (Greeter(), Speaks),
]  # fmt: skip


@pytest.mark.parametrize(("value", "annotation"), FITTING, ids=[title(v, a) for v, a in FITTING])
def test_what_fits_is_passed_on_as_the_very_same_object(value: object, annotation: Any) -> None:
    """Whatever a type checker lets through; True is an int and stays True."""
    assert convert(value, annotation) is value


MISFITS: list[tuple[object, Any]] = [
    ("five", int), (5.5, int), (None, int), ("x", float), (5, str), (b"x", str), ([], int),
    ("text", bytes), ("abcd", bytes), (5, list[int]), ("abc", list[str]), (["five"], list[int]),
    ([1], list[str]), ({"a": "x"}, dict[str, int]), ((1, 2, 3), tuple[int, int]), (5, Custom),
    ([5], list[Custom]), (5, Custom | None), (5, Path), ("blue", Color), ({"y": 1}, Point),
    ({"x": "one"}, Point), (5, Point), ("z", Literal["x", "y"]), ("not a date", date),
    (5, Model), (5, Sequence[int]), (5, Mapping[str, int]),
]  # fmt: skip


@pytest.mark.parametrize(("value", "annotation"), MISFITS, ids=[title(v, a) for v, a in MISFITS])
def test_what_does_not_fit_is_refused(value: object, annotation: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        convert(value, annotation)


def test_an_iterator_is_not_used_up_by_validation() -> None:
    def total(numbers: Iterable[int]) -> int:
        return sum(numbers)

    numbers = iter([1, 2, 3])
    assert total(**validated(total, numbers)) == 6


def test_the_items_of_args_and_kwargs_are_held_against_their_annotation() -> None:
    def total(*numbers: int, **named: float) -> None: ...

    assert validated(total, "1", 2, a="1.5", b=2.5) == {
        "numbers": (1, 2),
        "named": {"a": 1.5, "b": 2.5},
    }
    assert validated(total) == {"numbers": (), "named": {}}
    with pytest.raises(ParameterError, match=r"'numbers'.*five"):
        validated(total, 1, "five")
    with pytest.raises(ParameterError, match=r"'named'.*five"):
        validated(total, a="five")


def test_a_parameter_without_an_annotation_or_with_any_takes_anything() -> None:
    def take(a: Any, b: Any = "5") -> None: ...

    value = object()
    assert validated(take, value) == {"a": value, "b": "5"}
    assert validated(plain, "1", [value], c=value) == {"a": "1", "b": [value], "c": value}


def test_a_default_is_not_held_against_its_annotation() -> None:
    """The author wrote both; nobody passed anything wrong."""
    scope: dict[str, Any] = {}
    exec("def greet(name: str = None, times: int = '3'): ...", scope)
    assert validated(scope["greet"]) == {"name": None, "times": "3"}
    with pytest.raises(ParameterError, match="'times'"):
        validated(scope["greet"], times="three")


def test_annotations_that_cannot_be_resolved_take_anything_and_say_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As those that are imported for type checkers only; all others are held against."""

    def take(known: int, unknown: object, *rest: int, among: object = None) -> object: ...

    take.__annotations__ |= {"unknown": "NotThere", "among": "list[NotThere]", "return": "NotThere"}
    value = object()
    expected = {"known": 5, "unknown": value, "rest": (6,), "among": "7"}
    for _ in range(2):
        assert validated(take, "5", value, "6", among="7") == expected
    with pytest.raises(ParameterError, match="Parameter 'known'"):
        validated(take, "five", value)
    assert signature_of(take).returned_type is Any
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "of flow 'take' are not validated" in record.getMessage()
    assert record.getMessage().endswith(": 'unknown', 'among'.")


def test_the_annotations_of_a_decorated_function_are_those_of_the_function_itself() -> None:
    import functools

    def count(number: int) -> int:
        return number

    @functools.wraps(count)
    def wrapper(*args: Any, **kwargs: Any) -> int:
        return count(*args, **kwargs)

    assert validated(wrapper, "5") == {"number": 5}


@given(st.lists(st.integers() | st.integers().map(str)))
def test_validation_is_done_once_and_for_all(numbers: list[int | str]) -> None:
    """What came out of it fits, so it would come out of it again as the same object."""

    def total(numbers: list[int]) -> None: ...

    once = validated(total, numbers)
    assert once["numbers"] == list(map(int, numbers))
    assert validated(total, once["numbers"])["numbers"] is once["numbers"]
