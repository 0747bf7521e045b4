"""Hashes of arguments: equal for equal values, in every process; different for all others."""

from __future__ import annotations

import enum
import functools
import json
import os
import re
import subprocess
import sys
import threading
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import Task
from penstock._caching.canonical import canonical_form
from penstock._caching.function_forms import source_of
from penstock._caching.keys import (
    UnhashableParameter,
    hash_inputs,
    hash_parameters,
    task_input_hash,
)
from tests.rules.play import task_run
from tests.strategies import (
    Access,
    Color,
    Label,
    Mark,
    Pair,
    Point,
    Size,
    form,
    nested_values,
    numbers,
    small_values,
)


def hash_of(value: object) -> str:
    return hash_parameters({"value": value})


# Values


@given(small_values, small_values)
def test_two_values_have_one_hash_if_and_only_if_they_are_the_same(
    one: object, other: object
) -> None:
    """Types count: 1, 1.0 and True are three values. The order of dicts and sets does not."""
    assert (hash_of(one) == hash_of(other)) is (form(one) == form(other))


@given(nested_values, nested_values)
def test_the_same_holds_for_values_of_any_kind(one: object, other: object) -> None:
    assert (hash_of(one) == hash_of(other)) is (form(one) == form(other))


@given(nested_values)
def test_an_equal_value_has_its_hash_whatever_the_order_of_its_dicts_and_sets(
    value: object,
) -> None:
    assert hash_of(value) == hash_of(rebuilt(value))


@given(st.lists(nested_values, max_size=4), st.lists(nested_values, max_size=4))
def test_forms_in_a_row_say_where_each_ends(some: list[object], others: list[object]) -> None:
    """So they are hashed one after another: "a" and "bc" are not "ab" and "c"."""
    one, other = (b"".join(map(canonical_form, values)) for values in (some, others))
    assert (one == other) is (form(some) == form(others))


@given(nested_values, nested_values)
def test_no_form_begins_with_that_of_another_value(one: object, other: object) -> None:
    if form(one) != form(other):
        assert not canonical_form(one).startswith(canonical_form(other))


sizes = st.integers(250, 260)


@given(sizes, sizes, st.sampled_from([str, bytes, bytearray]), st.sampled_from([str, bytes]))
def test_long_texts_and_bytes_differ_as_short_ones_do(
    size: int, other_size: int, kind: type[Any], other_kind: type[Any]
) -> None:
    """From a certain length on they are hashed."""
    one, other = (
        make("x" * length) if make is str else make(b"x" * length)
        for make, length in ((kind, size), (other_kind, other_size))
    )
    assert (hash_of(one) == hash_of(other)) is (form(one) == form(other))
    assert (hash_of([one]) == hash_of([other])) is (form(one) == form(other))


def test_the_form_of_a_large_value_is_short() -> None:
    for value in ("x" * 10_000, b"x" * 10_000, list(range(10_000)), {"x" * 1000: "y" * 1000}):
        assert len(canonical_form(value)) == 33


def rebuilt(value: object) -> object:
    """An equal value; its dicts and sets are filled in the opposite order."""
    kind = type(value)
    make = cast("Callable[[Iterable[object]], object]", kind)
    if kind in {list, tuple}:
        return make(map(rebuilt, cast("Iterable[object]", value)))
    if kind in {set, frozenset}:
        return make(map(rebuilt, reversed(list(cast("Iterable[object]", value)))))
    if kind is dict:
        items = cast("dict[object, object]", value).items()
        return {rebuilt(key): rebuilt(part) for key, part in reversed(items)}
    if isinstance(value, Point):
        return Point(rebuilt(value.x), rebuilt(value.y))
    if isinstance(value, Pair):
        return Pair(rebuilt(value.left), rebuilt(value.right))
    return value


ALL_DIFFERENT: list[Any] = [
    *(None, True, False, 0, 1, 1.0, -1, 0.0, -0.0, 1j, "1", b"1", bytearray(b"1"), ..., "None"),
    *((), [], {}, set(), frozenset(), [()], ([],), [[], []], [[[]]], "", b""),
    *([1, 2], [2, 1], (1, 2), {1, 2}, frozenset({1, 2}), [1, [2]], [[1], 2], [12], ["1", "2"]),
    *(["ab", "c"], ["a", "bc"], ["abc"], {"a": "b"}, {"b": "a"}, {"a": None}, {"a"}, {1: 2}),
    *({1: "a"}, {"1": "a"}, {True: "a"}, {1.0: "a"}),
    *(Point(1, 2), Point(2, 1), Pair(1, 2), Size(1, 2), Mark(1), Mark(1.0), Label(1), Label("1")),
    *(Color.RED, Color.BLUE, "red", Access(0), Access.READ, Access(3), Color, Point, int, len),
    *(re.compile("a"), re.compile("b"), re.compile("a", re.IGNORECASE), 2**64, 2**64 + 1),
    *(Counter("a"), OrderedDict(a=1), defaultdict(int, a=1), deque([1, 2]), deque([2, 1])),
    *(functools.partial(int, base=2), functools.partial(int, base=3), range(3), range(4)),
]


def test_no_two_of_these_values_have_one_hash() -> None:
    hashes = Counter(map(hash_of, ALL_DIFFERENT))
    assert [value for value in ALL_DIFFERENT if hashes[hash_of(value)] > 1] == []


class Tags(set[object]):
    """A set of the user's own."""


class FrozenTags(frozenset[object]):
    """A frozenset of the user's own."""


@pytest.mark.parametrize("kind", [set, frozenset, Tags, FrozenTags])
def test_the_order_of_a_set_does_not_matter(kind: Callable[[list[int]], Iterable[object]]) -> None:
    """0 and 8 fall into one place of a small table: whichever came first is listed first."""
    one, other = kind([0, 8]), kind([8, 0])
    assert list(one) != list(other)
    assert hash_of(one) == hash_of(other)


def test_the_order_of_a_dict_does_not_matter() -> None:
    assert hash_of({"a": 1, "b": {"c": 2, "d": 3}}) == hash_of({"b": {"d": 3, "c": 2}, "a": 1})
    assert hash_of(defaultdict(int, a=1, b=2)) == hash_of(defaultdict(int, b=2, a=1))


def test_whether_two_parts_are_one_object_does_not_matter() -> None:
    part = [1, 2]
    assert hash_of([part, part]) == hash_of([[1, 2], [1, 2]])


def test_a_value_that_holds_itself_has_a_hash_of_its_shape() -> None:
    one: list[object] = []
    one.append(one)
    other: list[object] = []
    other.append(other)
    deeper: list[object] = [[]]
    deeper[0] = [deeper]
    assert hash_of(one) == hash_of(other)
    assert hash_of(one) != hash_of(deeper)


def test_a_flag_without_a_name_has_a_hash() -> None:
    assert hash_of(Access(0)) == hash_of(Access.READ & Access.WRITE) != hash_of(Access.READ)


class Later(enum.Enum):
    """An enumeration whose member is called as one of another."""

    RED = "red"


def test_members_of_two_enumerations_differ() -> None:
    assert hash_of(Color.RED) != hash_of(Later.RED)


# Functions as arguments


def defined(source: str) -> Callable[..., object]:
    """The function `f` of a source that is in no file, as in a REPL."""
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec(source, scope)
    function: Callable[..., object] = scope["f"]
    return function


def adder(number: int) -> Callable[[int], int]:
    return lambda other: number + other


def hashes_of_lambdas(*sources: str) -> set[str]:
    """Their hashes; neither names nor places differ."""
    return {hash_of(defined(f"f = {source}")) for source in sources}


def test_functions_differ_by_their_code_and_their_defaults() -> None:
    sources = [
        *("lambda x: x", "lambda y: y", "lambda x: x + 1", "lambda x: x + 2", "lambda x: len(x)"),
        *("lambda x: max(x)", "lambda x, y=1: x", "lambda x, y=2: x", "lambda x, *, y=1: x"),
        *("lambda x, *, y=2: x", "lambda: {1, 2}", "lambda: {1, 3}", "lambda: lambda: 1"),
    ]
    assert len(hashes_of_lambdas(*sources)) == len(sources)
    assert len(hashes_of_lambdas("lambda x: x", "lambda  x : x")) == 1


def test_functions_differ_by_what_they_enclose() -> None:
    assert hash_of(adder(1)) == hash_of(adder(1))
    assert hash_of(adder(1)) != hash_of(adder(2))


def test_functions_differ_by_their_names() -> None:
    assert len({hash_of(function) for function in (add, other_add, len, max)}) == 4


def test_functions_differ_by_the_kind_of_their_parameters() -> None:
    """`x` and `*x` compile to the same instructions."""
    sources = ["lambda x: x", "lambda *x: x", "lambda **x: x", "lambda *, x: x", "lambda x, /: x"]
    assert len(hashes_of_lambdas(*sources)) == len(sources)


def test_methods_differ_by_the_object_that_they_are_bound_to() -> None:
    """The methods of built-in types too: `"x".join` is not `"y".join`."""
    assert hash_of(Mark(1).__repr__) != hash_of(Mark(2).__repr__)
    assert hash_of("x".join) != hash_of("y".join)
    assert hash_of(re.compile("a").match) != hash_of(re.compile("b").match)
    assert hash_of("x".join) == hash_of("x".join)


# What has no hash


def holding(lock: object) -> Callable[[], object]:
    return lambda: lock


@pytest.mark.parametrize(
    "value",
    [
        threading.Lock(),
        numbers(),
        sys.stdout,
        [{"deep": threading.Lock()}],
        holding(threading.Lock()),
        Point(1, threading.Lock()),
    ],
    ids=["lock", "generator", "file", "deep", "closure", "field"],
)
def test_an_argument_without_a_canonical_form_is_named(value: object) -> None:
    with pytest.raises(UnhashableParameter, match="parameter 'bad' cannot be hashed") as raised:
        hash_parameters({"fine": 1, "bad": value})
    assert raised.value.parameter == "bad"


# Arguments by name


@given(st.dictionaries(st.text(max_size=3), small_values, max_size=3), st.randoms())
def test_the_order_of_the_arguments_does_not_matter(
    parameters: dict[str, object], random: Any
) -> None:
    names = list(parameters)
    random.shuffle(names)
    assert hash_parameters(parameters) == hash_parameters({n: parameters[n] for n in names})


def test_arguments_differ_by_their_names() -> None:
    hashes = {
        hash_parameters(parameters)
        for parameters in ({}, {"a": 1}, {"b": 1}, {"a": 1, "b": 1}, {"a": 1, "b": 2}, {"ab": 1})
    }
    assert len(hashes) == 6


PROCESS = """
import re, sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import PurePosixPath
from penstock._caching.function_forms import source_of
from penstock.caching import hash_parameters
from tests.strategies import Access, Color, Label, Mark, Pair, Point, Size, plain
values = {
    "set": {"a", "b", "c", "d", ("e", "f")},
    "nested": {"x": frozenset({"a", "b"}), "y": [{"p", "q"}, (1, 2.5, None)]},
    "objects": [Point(1, {"a", "b"}), Pair(Mark("x"), {Label("y")}), Size(1, 2)],
    "others": [Color.RED, Access(3), re.compile("a+"), Decimal("1.5"), PurePosixPath("/a")],
    "time": datetime(2024, 2, 29, tzinfo=UTC),
    "code": [plain, len, int, lambda x: {"a", "b", "c"}],
}
hashes = {name: hash_parameters({name: value}) for name, value in values.items()}
hashes["source"] = source_of(plain)
"""


def test_hashes_are_the_same_in_every_process() -> None:
    """The order in which sets of texts are listed differs with the seed of each process."""
    here: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(PROCESS, "<process>", "exec", dont_inherit=True), here)
    environ = {**os.environ, "PYTHONHASHSEED": "20240229", "PYTHONPATH": os.pathsep.join(sys.path)}
    script = f"{PROCESS}\nimport json\nprint(json.dumps(hashes))"
    ran = subprocess.run(
        [sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True
    )
    assert json.loads(ran.stdout) == here["hashes"]


# The key of a task run


def key_of(task: Task[..., Any], *args: object, **kwargs: Any) -> str:
    run = task_run(task, *args, **kwargs)
    return task_input_hash(run.context(), run.parameters)


def add(a: object, b: object = 2, *rest: object, **others: object) -> object:
    return a, b, rest, others


def other_add(a: object, b: object = 2, *rest: object, **others: object) -> object:
    return a, b, rest, others


def test_a_call_has_one_key_however_it_is_written() -> None:
    task = Task[..., Any](add)
    assert key_of(task, 1) == key_of(task, 1, 2) == key_of(task, a=1) == key_of(task, b=2, a=1)
    assert key_of(task, 1, c=3, d=4) == key_of(task, 1, d=4, c=3)


def test_keys_differ_by_the_arguments() -> None:
    task = Task[..., Any](add)
    calls = [key_of(task, 1), key_of(task, 2), key_of(task, True), key_of(task, 1, 3)]
    calls += [key_of(task, 1, 2, 3), key_of(task, 1, c=3), key_of(task, 1.0), key_of(task, "1")]
    assert len(set(calls)) == len(calls)


def test_keys_differ_by_the_function() -> None:
    assert key_of(Task[..., Any](add), 1) != key_of(Task[..., Any](other_add), 1)


def test_keys_differ_by_the_code_that_a_function_was_given_later() -> None:
    """As a reloader does it: the function is the same object."""
    function = defined("def f(x): return x + 1")
    task = Task[..., Any](function)
    before = key_of(task, 1)
    cast("Any", function).__code__ = cast("Any", defined("def f(x): return x + 2")).__code__
    assert key_of(task, 1) != before == key_of(Task[..., Any](defined("def f(x): return x + 1")), 1)


def test_keys_differ_by_the_plain_values_that_a_function_encloses() -> None:
    assert key_of(Task[..., Any](adder(1)), 5) == key_of(Task[..., Any](adder(1)), 5)
    assert key_of(Task[..., Any](adder(1)), 5) != key_of(Task[..., Any](adder(2)), 5)
    assert hash_inputs(adder(1), {"other": 5}) != hash_inputs(adder(2), {"other": 5})


def test_keys_differ_by_what_a_wrapped_function_wraps() -> None:
    """Both have the code of the wrapper."""

    def wrapped(function: Callable[..., object]) -> Task[..., Any]:
        wrapper = functools.wraps(function)(lambda *args: (function(*args),))
        wrapper.__qualname__ = "wrapper"
        return Task[..., Any](wrapper)

    assert key_of(wrapped(add), 1) != key_of(wrapped(other_add), 1)
    assert key_of(wrapped(add), 1) == key_of(wrapped(add), 1)


def test_keys_do_not_differ_by_what_is_only_said_about_the_task() -> None:
    named = Task[..., Any](add, name="other", tags=["x"], retries=3, description="?")
    assert key_of(named, 1) == key_of(Task[..., Any](add), 1)


class Model:
    """A class with a task in it."""

    def __init__(self, weight: int) -> None:
        self.weight = weight

    def plain(self, x: int) -> int:
        return self.weight * x

    predict = Task[..., Any](plain, cache_key_fn=task_input_hash)


def test_the_key_of_a_method_is_over_the_object_as_well() -> None:
    """`self` is an argument: two objects that differ give different results."""
    assert key_of(Model(1).predict, 5) == key_of(Model(1).predict, 5)
    assert key_of(Model(1).predict, 5) != key_of(Model(2).predict, 5)


def test_the_source_of_a_method_or_a_wrapped_function_is_that_of_the_function_itself() -> None:
    assert source_of(Model(1).plain) == source_of(Model.plain)
    assert source_of(functools.wraps(add)(lambda: None)) == source_of(add)


def test_a_function_without_a_source_is_known_by_its_code() -> None:
    one = defined("def f(x): return x + 1")
    assert source_of(one) == source_of(defined("def f(x): return x + 1"))
    assert source_of(one) != source_of(defined("def f(x): return x + 2"))
    assert source_of(one) != source_of(defined("def f(*x): return x + 1"))


def test_an_object_that_is_called_is_known_by_the_code_of_its_call() -> None:
    source = "class C:\n    def __call__(self, x): return x + {}\nf = C()"
    one = defined(source.format(1))
    assert source_of(one) == source_of(defined(source.format(1)))
    assert source_of(one) != source_of(defined(source.format(2)))
