"""Right calls that nothing but the plugin knows to be right, and their types."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, assert_type

from typing_extensions import TypeVar

from penstock import (
    AsyncTask,
    FutureList,
    ResultStream,
    State,
    Task,
    TaskFuture,
    allow_failure,
    flow,
    task,
    unmapped,
)
from tests.typing.library import (
    JSON,
    Box,
    Crate,
    Machine,
    abscissa,
    anything,
    decoded,
    dumped,
    fetch,
    inc,
    length,
    listed,
    longest,
    name_of,
    nothing,
    numbers,
    optioned,
    pair,
    pipeline,
    positional,
    report,
    stream,
    told,
    total,
    unboxed,
    various,
)

T = TypeVar("T")


@task
def first(values: list[T]) -> T:
    return values[0]


@task(retries=1)
async def same(x: T) -> T:
    return x


@flow
def either(x: T, y: T) -> T:
    return x or y


@task
def untold(x: int) -> Any:
    return x


@task(retries=1)
async def untold_later(x: int) -> Any:
    return x


future, text = inc.submit(1), name_of.submit(1)
state = future.state


def direct_calls() -> None:
    assert_type(inc(future, by=state), int)
    assert_type(inc(1, wait_for=[future, state]), int)
    assert_type(inc.call_state(future), State[int])
    assert_type(fetch.run_sync(future), int)
    assert_type(fetch.run_sync_state(future, wait_for=future), State[int])
    assert_type(inc(1, wait_for=None), int)
    assert_type(inc(1, wait_for=[inc.map([1]), (text, None), {state}]), int)
    assert_type(inc(1, wait_for=[allow_failure(inc.map([1])), future]), int)
    assert_type(pipeline(future, [future, 1]), str)
    assert_type(Machine().work(future), str)
    assert_type(Machine.make(future), str)
    assert_type(Machine.help(future), str)


async def awaited_calls() -> None:
    assert_type(await inc.run_async(future), int)
    assert_type(await fetch(future, wait_for=[text]), int)
    assert_type(await fetch.call_state(future), State[int])
    assert_type(await stream(future), str)


async def states_in_place_of_values(asked: bool) -> None:
    assert_type(inc(1, return_state=True), State[int])
    assert_type(inc(1, return_state=False), int)
    assert_type(inc(1, return_state=asked), int | State[int])
    assert_type(await inc.run_async(1, return_state=True), State[int])
    assert_type(await fetch(1, return_state=True), State[int])
    assert_type(fetch.run_sync(1, return_state=True), State[int])
    assert_type(pipeline(1, [], return_state=True), State[str])
    assert_type(await stream(1, return_state=True), State[str])
    assert_type(stream.run_sync(1, return_state=True), State[str])


def submitted_flows() -> None:
    assert_type(pipeline.submit(future, [1, future]), TaskFuture[str])
    assert_type(pipeline.wait_for(text).map([1], [[future]]), FutureList[str])
    assert_type(stream.map([future, 1], wait_for=text), FutureList[str])
    assert_type(stream.imap_unordered(numbers.submit()), ResultStream[str])
    assert_type(pipeline(1, [1], wait_for=[future]), str)


def failures_that_are_allowed() -> None:
    assert_type(told.submit(allow_failure(future)), TaskFuture[str])
    assert_type(told.map(allow_failure(inc.map([1, 2]))), FutureList[str])
    assert_type(anything.submit(allow_failure(future)), TaskFuture[bool])
    assert_type(inc.submit(1, wait_for=[allow_failure(text)]), TaskFuture[int])


def containers(values: list[TaskFuture[int]], mixed: list[int | TaskFuture[int]]) -> None:
    by_name = {"a": values}
    total.submit([])
    total.submit([1, future, state])
    total.submit([True, future])
    total.submit(values)
    total.submit(mixed)
    total.submit(inc.map([1]))
    total.submit(numbers.submit())
    total.submit([n for n in values if n.done()])
    total.submit([*range(3), *values])
    longest.submit((text, "b"))
    longest.submit(name_of.map([1]), {"b": future})
    longest.submit([text], by={"b": 1})
    report.submit(by_name, seen={1, future})
    report.submit({"a": values, "b": mixed, "c": inc.map([1]), "d": [1], "e": numbers.submit()})
    report.submit({"a": values}, None)
    pair.submit((future, text), (future, 1))
    pair.submit((1, "a"), (future, state, future))
    unboxed.submit(Box(future), Crate(state))
    unboxed.submit(box=Box(1))
    abscissa.submit({"x": future})
    abscissa.submit({"x": 1})


def unions_and_anything(tree: JSON, unknown: Any, texts: list[str]) -> None:
    length.submit("a")
    length.submit(text)
    length.submit([text, "a"])
    length.submit(texts)
    dumped.submit({"a": [1, future], "b": {"c": [text, None]}})
    dumped.submit(tree)
    anything.submit(future, [future])
    total.submit(unknown)
    inc.submit(unknown)


def various_parameters(values: list[TaskFuture[int]], labels: dict[str, str]) -> None:
    various.submit(1, future, label=text)
    various.submit(*values, **labels)
    various.submit(1, wait_for=[future])
    positional.submit(future, text, 1, future)
    optioned.submit(future, label=text, size=1)
    nothing.submit(wait_for=text)


def mapped(values: list[TaskFuture[int]], texts: Mapping[str, int]) -> None:
    assert_type(inc.map([1, future]), FutureList[int])
    inc.map(range(3))
    inc.map(values)
    inc.map(inc.map([1]), by=future)
    inc.map((n for n in range(3)), by=[state])
    inc.map(numbers.submit(), by=2)
    inc.map([1], by=unmapped(future))
    inc.map([1], wait_for=[text])
    total.map([[1], [future], values, inc.map([1]), numbers.submit()])
    total.map(numbers.map([1, 2]))
    length.map(["a", ["b", text]])
    length.map([["a"]])
    longest.map([["a"]], unmapped({"a": 1}))
    report.map([{"a": [future]}, {"b": values}])
    pair.map([(future, "a")], more=[(1, 2)])
    decoded.map([b"a"])
    optioned.map(values, label="the same", size=[1])
    various.map([1], values, label=["a"], other=text)
    anything.map([1], "the same")
    inc.map(texts.values())
    Machine().work.map([future])
    inc.map(*[[1, 2]])


def streamed(values: list[TaskFuture[int]], lines: AsyncIterator[int]) -> None:
    assert_type(inc.imap([1, future]), ResultStream[int])
    assert_type(inc.imap_unordered(lines, by=unmapped(future)), ResultStream[int])
    inc.imap(values, wait_for=[text])
    inc.imap(numbers.submit(), by=2)
    assert_type(first.imap([[1], [2]]), ResultStream[int])
    assert_type(inc.imap([1]).states(), ResultStream[State[int]])
    for value in inc.imap(range(3)).with_window(2):
        assert_type(value, int)


def generic(values: list[TaskFuture[int]]) -> None:
    assert_type(first([1]), int)
    assert_type(first.submit([1]), TaskFuture[int])
    assert_type(first.submit([future]), TaskFuture[int])
    assert_type(first.submit(values), TaskFuture[int])
    assert_type(first.submit(inc.map([1])), TaskFuture[int])
    assert_type(first.submit(numbers.submit()), TaskFuture[int])
    assert_type(first.map([[1], [2]]), FutureList[int])
    assert_type(first.map([values]), FutureList[int])
    assert_type(same.submit(text), TaskFuture[str])
    assert_type(same.run_sync(future), int)
    assert_type(same.map(inc.map([1])), FutureList[int])
    assert_type(listed.submit(text), TaskFuture[list[str]])
    assert_type(either(1, 2), int)
    assert_type(either.call_state(future, future), State[int])


async def results_that_are_not_told() -> None:
    sync_task: Task[[int], Any] = untold
    async_task: AsyncTask[[int], Any] = untold_later
    assert_type(untold.submit(future), TaskFuture[Any])
    assert_type(await untold_later(1, return_state=True), State[Any])
    del sync_task, async_task
