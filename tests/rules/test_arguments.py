"""Futures in arguments: found at any depth, and replaced by values with nothing else changed."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, UserDict, defaultdict
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from hypothesis import given

from penstock._calls.futures import FutureList, TaskFuture
from penstock._rules.futures_in_arguments import Handle, Upstream, call_replaced, upstreams_in
from penstock.states import Completed, Failed, State
from tests.rules.play import WORK, future_of, put_into, task_run
from tests.strategies import (
    Label,
    Mark,
    MyList,
    Pair,
    Point,
    Size,
    Template,
    form,
    nested_values,
    templates,
)


def replaced(value: object, by: Callable[[Upstream], object]) -> object:
    """An argument with each future and state in it replaced."""
    (one,), _ = call_replaced((value,), {}, by)
    return one


def new_future() -> TaskFuture[Any]:
    run = task_run(WORK)
    put_into(run, "Pending")
    return future_of(run)


class Holes:
    """Fills the holes of a template with futures, and again with a value for each of them."""

    def __init__(self) -> None:
        self.futures: list[TaskFuture[Any]] = []

    def new(self) -> object:
        self.futures.append(new_future())
        return self.futures[-1]

    def values(self) -> Iterator[str]:
        return (f"value {index}" for index in range(len(self.futures)))

    def value_of(self, upstream: Upstream) -> object:
        assert isinstance(upstream, TaskFuture)
        return dict(zip(self.futures, self.values(), strict=True))[upstream]


@given(templates)
def test_every_future_is_found_once_at_any_depth(template: Template) -> None:
    holes = Holes()
    value = template(holes.new)
    assert set(upstreams_in((value, value), {"again": value})) == set(holes.futures)
    assert len(upstreams_in((value, value), {"again": value})) == len(holes.futures)


@given(templates)
def test_every_future_is_replaced_by_its_value_and_nothing_else_changes(
    template: Template,
) -> None:
    """The result is what the same template gives with the values in its holes, types included."""
    holes = Holes()
    result = replaced(template(holes.new), holes.value_of)
    assert form(result) == form(template(holes.values().__next__))


@given(templates)
def test_the_value_given_is_not_changed_itself(template: Template) -> None:
    """The caller's own lists and dicts still hold the futures."""
    holes = Holes()
    value = template(holes.new)
    before = form(value)
    replaced(value, holes.value_of)
    assert form(value) == before


@given(nested_values)
def test_a_value_without_a_future_is_passed_on_as_the_same_object(value: object) -> None:
    assert not upstreams_in((value,), {"value": value})
    assert replaced(value, unasked) is value


@given(templates)
def test_a_part_without_a_future_stays_the_same_object(template: Template) -> None:
    holes = Holes()
    kept: list[object] = [{"plain": [1, 2]}]
    result = cast("list[object]", replaced([template(holes.new), kept, new_future()], str))
    assert result[1] is kept


def unasked(upstream: Upstream) -> object:
    raise AssertionError(f"{upstream!r} was given to nobody")


FUTURE = new_future()
OTHER = new_future()


@dataclasses.dataclass
class Derived:
    """A dataclass with a field that its constructor does not take."""

    of: object
    derived: object = dataclasses.field(init=False, default="derived")


@dataclasses.dataclass
class FromSeed:
    """A dataclass whose constructor takes what is no field."""

    of: object
    seed: dataclasses.InitVar[int]

    def __post_init__(self, seed: int) -> None:
        self.seeded = seed


@dataclasses.dataclass
class Shape:
    """A dataclass with an attribute of its own."""

    of: object


REPLACED: list[tuple[Any, Any]] = [
    (FUTURE, 1),
    ([FUTURE], [1]),
    ((FUTURE, 2), (1, 2)),
    ({FUTURE, 2}, {1, 2}),
    (frozenset({FUTURE}), frozenset({1})),
    ({"key": FUTURE}, {"key": 1}),
    ({FUTURE: "value"}, {1: "value"}),
    ({(FUTURE, "key"): "value"}, {(1, "key"): "value"}),
    ({(FUTURE, "key"): OTHER}, {(1, "key"): 1}),
    ({Mark(FUTURE): "value"}, {Mark(1): "value"}),
    (OrderedDict[str, Any](key=FUTURE), OrderedDict[str, Any](key=1)),
    (defaultdict[str, Any](list, key=FUTURE), defaultdict[str, Any](list, key=1)),
    (MyList([FUTURE]), [1]),
    (Size(FUTURE, 2), Size(1, 2)),
    (Point(FUTURE, 2), Point(1, 2)),
    (Mark(FUTURE), Mark(1)),
    (Pair(FUTURE, 2), Pair(1, 2)),
    (Label(FUTURE), Label(1)),
    (Derived(FUTURE), Derived(1)),
    ([[[[[FUTURE]]]]], [[[[[1]]]]]),
    ([{"a": (Point({FUTURE}, Pair([OTHER], None)),)}], [{"a": (Point({1}, Pair([1], None)),)}]),
    (Completed(data=1), 1),
    ([Completed(data=1), Failed()], [1, 1]),
    ({Completed(data=1): "value"}, {1: "value"}),
]


@pytest.mark.parametrize(
    ("value", "expected"), REPLACED, ids=[type(v).__name__ for v, _ in REPLACED]
)
def test_futures_and_states_are_found_and_replaced_in(value: Any, expected: Any) -> None:
    found = upstreams_in((value,), {})
    assert found
    assert found == upstreams_in((), {"name": value})
    result = replaced(value, lambda _: 1)
    assert type(result) is type(expected)
    assert result == expected


def test_a_dataclass_keeps_what_its_constructor_made_of_other_arguments() -> None:
    result = replaced(FromSeed(FUTURE, seed=5), lambda _: 1)
    assert isinstance(result, FromSeed)
    assert (result.of, result.seeded) == (1, 5)


def test_an_object_keeps_the_attributes_that_are_no_fields() -> None:
    shape = Shape(FUTURE)
    shape.__dict__["name"] = "mine"
    assert vars(replaced(shape, lambda _: 1)) == {"of": 1, "name": "mine"}


def test_a_default_dict_keeps_its_default() -> None:
    result: Any = replaced(defaultdict[str, Any](list, key=FUTURE), lambda _: 1)
    assert result["missing"] == []


def test_what_map_returned_becomes_a_plain_list_of_values() -> None:
    """A list of futures has methods that a list of values has no use for; so has any such list."""
    result: Any = replaced([FutureList([FUTURE, OTHER])], lambda _: 1)
    assert result == [[1, 1]]
    assert type(result[0]) is list


def test_futures_are_found_in_the_order_of_the_arguments() -> None:
    futures = [new_future() for _ in range(6)]
    a, b, c, d, e, f = futures
    assert upstreams_in((a, [b, {"x": c}]), {"y": Point(d, (e,)), "z": f}) == futures


@pytest.mark.parametrize(
    "value", [UserDict(key=FUTURE), iter([FUTURE]), (FUTURE for _ in ()), lambda: FUTURE], ids=type
)
def test_nothing_is_looked_for_in_other_objects(value: object) -> None:
    """To look into an iterator would use it up."""
    assert not upstreams_in((value,), {})
    assert replaced(value, unasked) is value


def test_a_type_is_no_container() -> None:
    for kind in (Point, Pair, Size, list):
        assert not upstreams_in((kind,), {})
        assert replaced([kind, FUTURE], lambda _: 1) == [kind, 1]


# Parts in common, and cycles


def test_a_part_in_two_places_is_replaced_once_and_stays_in_common() -> None:
    part = [FUTURE]
    asked: list[Upstream] = []

    def ask(upstream: Upstream) -> object:
        asked.append(upstream)
        return 1

    result: Any = replaced({"a": part, "b": part}, ask)
    assert result == {"a": [1], "b": [1]}
    assert result["a"] is result["b"]
    assert asked == [FUTURE]


def test_a_value_that_holds_itself_and_no_future_is_passed_on() -> None:
    values: list[Any] = [[], {}, Point(1, 2), Pair(1, 2)]
    values[0].append(values[0])
    values[1]["self"] = values[1]
    values[2].x = values[2]
    values[3].left = values[3]
    for value in values:
        assert not upstreams_in((value,), {})
        assert replaced(value, unasked) is value


def test_futures_beside_a_cycle_are_found_and_replaced() -> None:
    value: list[Any] = [FUTURE]
    value.append({"up": value, "other": OTHER})
    assert upstreams_in((value,), {}) == [FUTURE, OTHER]
    result: Any = replaced(value, lambda _: 1)
    assert result[0] == 1
    assert result[1]["other"] == 1


def test_a_deep_value_is_looked_through() -> None:
    deep: object = FUTURE
    for _ in range(100):
        deep = [deep]
    assert upstreams_in((deep,), {}) == [FUTURE]
    result: Any = replaced(deep, lambda _: 1)
    for _ in range(100):
        (result,) = result
    assert result == 1


def test_handles_of_any_kind_are_found() -> None:
    handle = Handle(task_run(WORK))
    state: State[int] = Completed(data=5)
    assert upstreams_in((handle,), {"state": state}) == [handle, state]
