"""Calls that every checker understands, with the plugin and without."""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, ParamSpec, assert_type
from uuid import UUID

from typing_extensions import TypeVar

from penstock import (
    AsyncFlow,
    AsyncTask,
    DoneAndNotDone,
    FailureAllowed,
    Flow,
    FutureList,
    Picture,
    ResultStream,
    State,
    Task,
    TaskFuture,
    TaskRunContext,
    allow_failure,
    as_completed,
    cancel_flow_run,
    concurrency,
    flow,
    get_run_context,
    runtime,
    tags,
    task,
    unmapped,
    wait,
    wait_async,
)
from penstock._caching.explanations import CacheExplanation
from penstock._caching.keys import task_input_hash
from penstock._caching.policies import INPUTS, TASK_SOURCE, CacheKeyFnPolicy, CachePolicy
from penstock.caching import explain
from penstock.serializers import CompressedSerializer, Serializer
from tests.typing.library import (
    BiggerMachine,
    Machine,
    by_hand,
    by_hand_later,
    fetch,
    inc,
    listed,
    nothing,
    numbers,
    pipeline,
    report,
    stream,
    total,
)

P = ParamSpec("P")
R = TypeVar("R")


def sync_calls() -> None:
    assert_type(inc(1, by=2), int)
    assert_type(inc.call_state(1), State[int])
    assert_type(fetch.run_sync(1), int)
    assert_type(fetch.run_sync_state(1), State[int])
    assert_type(pipeline(1, [2]), str)
    assert_type(pipeline.call_state(1, [2]), State[str])
    assert_type(stream.run_sync(1), str)
    assert_type(stream.run_sync_state(1), State[str])
    assert_type(nothing.call_state(), State[None])


async def async_calls() -> None:
    assert_type(await inc.run_async(1, by=2), int)
    assert_type(await inc.run_async_state(1), State[int])
    assert_type(await fetch(1), int)
    assert_type(await fetch.call_state(1), State[int])
    assert_type(await pipeline.run_async(1, [2]), str)
    assert_type(await pipeline.run_async_state(1, [2]), State[str])
    assert_type(await stream(1), str)
    assert_type(await stream.call_state(1), State[str])
    assert_type(await inc.submit(1), int)
    assert_type(await inc.map([1, 2]), list[int])
    assert_type(await stream.submit(1), str)
    assert_type(await wait_async(inc.map([1])), DoneAndNotDone[int])
    assert_type([f async for f in as_completed(inc.map([1]))], list[TaskFuture[int]])


def wrong_calls() -> None:
    inc("1")  # type: ignore[arg-type]
    inc()  # type: ignore[call-arg]
    inc(1, to=2)  # type: ignore[call-arg]
    inc.call_state("1")  # type: ignore[arg-type]
    fetch.run_sync("1")  # type: ignore[arg-type]
    fetch.run_sync_state("1")  # type: ignore[arg-type]
    pipeline(1, ["2"])  # type: ignore[list-item]
    stream.run_sync()  # type: ignore[call-arg]
    stream.call_state("1")  # type: ignore[arg-type, unused-coroutine]
    inc.call_state(1).result() + "1"  # type: ignore[operator]
    inc.run_sync(1)  # type: ignore[attr-defined]
    fetch.run_async(1)  # type: ignore[attr-defined]
    pipeline.with_options(task_runner=1)  # type: ignore[arg-type]
    wait([1])  # type: ignore[arg-type]
    as_completed(1)  # type: ignore[arg-type]
    allow_failure(1)  # type: ignore[call-overload]
    cancel_flow_run(1)  # type: ignore[arg-type]


def contexts() -> None:
    context = get_run_context()
    if isinstance(context, TaskRunContext):
        assert_type(context.task, Task[..., Any] | AsyncTask[..., Any])
        assert_type(context.parameters, dict[str, Any])
    else:
        assert_type(context.flow, Flow[..., Any] | AsyncFlow[..., Any])
    assert_type(context.start_time, datetime)
    assert_type(runtime.flow_run.id, UUID | None)
    assert_type(runtime.flow_run.name, str | None)
    assert_type(runtime.task_run.run_count, int)
    assert_type(runtime.task_run.tags, frozenset[str])
    runtime.flow_run.id = None  # type: ignore[misc]


class OwnSerializer:
    def dumps(self, value: object, /) -> bytes:
        return repr(value).encode()

    def loads(self, blob: bytes, /) -> str:
        return blob.decode()


def pictures() -> None:
    assert_type(pipeline.visualize(1, [2]), Picture)
    assert_type(stream.visualize_sync(1), Picture)
    assert_type(pipeline.visualize(1, [2]).svg, str)
    pipeline.visualize("1", [2])  # type: ignore[arg-type]
    pipeline.visualize(1)  # type: ignore[call-arg]
    pipeline.visualize_sync(1, [2])  # type: ignore[attr-defined]
    stream.visualize_sync("1")  # type: ignore[arg-type]
    inc.with_options(viz_return_value=5)


async def pictures_of_async_flows() -> None:
    assert_type(await stream.visualize(1), Picture)


def serializers() -> None:
    @task(result_serializer="json")
    def by_name(x: int) -> tuple[int]:
        return (x,)

    @flow(result_serializer=CompressedSerializer(OwnSerializer(), "lzma"))
    def by_own(x: int) -> str:
        return str(x)

    assert_type(by_name(1), tuple[int])
    assert_type(by_own(1), str)
    assert_type(by_own.result_serializer, Serializer | None)
    inc.with_options(result_serializer=OwnSerializer())
    inc.with_options(result_serializer=5)  # type: ignore[arg-type]
    CompressedSerializer("json", "zip")  # type: ignore[arg-type]


def futures() -> None:
    future = inc.submit(1)
    assert_type(future, TaskFuture[int])
    assert_type(future.result(), int)
    assert_type(future.result(timeout=1), int)
    assert_type(future.result(raise_on_failure=False), int | BaseException)
    assert_type(future.state, State[int])
    assert_type(future.state.result(), int)
    assert_type(future.state.result(raise_on_failure=False), int | BaseException)
    assert_type(fetch.submit(1), TaskFuture[int])
    assert_type(fetch.wait_for(future).submit(1), TaskFuture[int])
    assert_type(nothing.submit(), TaskFuture[None])
    several = inc.map([1, 2])
    assert_type(several, FutureList[int])
    assert_type(pipeline.submit(1, [2]), TaskFuture[str])
    assert_type(stream.submit(1), TaskFuture[str])
    assert_type(stream.map([1, 2]), FutureList[str])
    assert_type(pipeline.wait_for(future).submit(1, [2]), TaskFuture[str])
    assert_type(pipeline.imap([1], [[2]]), ResultStream[str])
    assert_type(wait(several), DoneAndNotDone[int])
    assert_type(wait(several, timeout=1).done.result(), list[int])
    assert_type(list(as_completed(several)), list[TaskFuture[int]])
    assert_type(allow_failure(future), FailureAllowed[int])
    assert_type(allow_failure(several), list[FailureAllowed[int]])
    assert_type(inc.wait_for(allow_failure(future)).submit(1), TaskFuture[int])
    assert_type(
        inc.wait_for(inc.map([1]), [allow_failure([future]), None]).submit(1), TaskFuture[int]
    )
    assert_type(cancel_flow_run(future.run_id), bool)
    assert_type(several[0], TaskFuture[int])
    assert_type(several.result(), list[int])
    assert_type(several.result(raise_on_failure=False), list[int | BaseException])
    as_objects: TaskFuture[object] = future
    state_of_object: State[object] = future.state
    as_texts: TaskFuture[str] = future  # type: ignore[assignment]
    del as_objects, state_of_object, as_texts


def futures_as_arguments() -> None:
    future = inc.submit(1)
    assert_type(inc.submit(future, by=future.state), TaskFuture[int])
    assert_type(total.submit([1, future]), TaskFuture[int])
    assert_type(total.submit(inc.map([1, future])), TaskFuture[int])
    assert_type(report.submit({"a": inc.map([1]), "b": [future]}), TaskFuture[str])
    assert_type(inc.submit(1, wait_for=[future]), TaskFuture[int])
    assert_type(inc.map(inc.map(numbers.submit()), by=unmapped(future)), FutureList[int])
    assert_type(inc.map([1, 2], by=3, wait_for=[future]), FutureList[int])


def methods(machine: Machine, bigger: BiggerMachine) -> None:
    assert_type(machine.work(1), str)
    assert_type(bigger.work(1), str)
    assert_type(Machine.work(machine, 1), str)
    assert_type(machine.work.submit(1), TaskFuture[str])
    assert_type(machine.work.map([1]), FutureList[str])
    assert_type(machine.work_later.run_sync(1), str)
    assert_type(machine.run(1), str)
    assert_type(machine.run.call_state(1), State[str])
    assert_type(Machine.make(1), str)
    assert_type(machine.make.submit(1), TaskFuture[str])
    assert_type(BiggerMachine.make(1), str)
    assert_type(Machine.help(1), str)
    assert_type(machine.help(1), str)
    assert_type(bigger.help.submit(1), TaskFuture[str])
    assert_type(Machine.start.run_sync(1), str)
    assert_type(Machine.tell.submit(1), TaskFuture[str])
    assert_type(machine.tell(1), str)
    machine.work("1")  # type: ignore[arg-type]
    machine.work()  # type: ignore[call-arg]
    Machine.work(1)  # type: ignore[call-arg, arg-type]
    Machine.make("1")  # type: ignore[arg-type]
    machine.help("1")  # type: ignore[arg-type]


def generic_functions() -> None:
    assert_type(listed(1), list[int])
    assert_type(listed.call_state("1"), State[list[str]])


async def states_made_by_hand() -> None:
    assert_type(by_hand(), str)
    assert_type(by_hand.call_state(), State[str])
    assert_type(await by_hand_later(), str)
    assert_type(await by_hand_later.submit(), str)


def decorated() -> None:
    def plain(x: int) -> str:
        return str(x)

    async def later(x: int) -> str:
        return str(x)

    sync_task: Task[[int], str] = task(retries=1)(plain)
    sync_flow: Flow[[int], str] = flow(retries=1)(plain)
    async_task: AsyncTask[[int], str] = task(later)
    async_flow: AsyncFlow[[int], str] = flow(later)
    wrong: Task[[int], str] = task(later)  # type: ignore[assignment]
    del sync_task, sync_flow, async_task, async_flow, wrong


def any_task(what: Task[P, R], *args: P.args, **kwargs: P.kwargs) -> tuple[R, TaskFuture[R]]:
    return what(*args, **kwargs), what.submit(*args, **kwargs)


def any_parameters(what: Task[..., int]) -> None:
    assert_type(what("anything", at=1), int)
    assert_type(what.submit("anything", at=1), TaskFuture[int])
    assert_type(what.map(["anything"], at=1), FutureList[int])


def tags_and_limits() -> None:
    with tags("a", "b") as inside:
        assert_type(inside, frozenset[str])
    with concurrency.concurrency(["a", "b"], occupy=2) as given:
        assert_type(given, None)
    assert_type(concurrency.get_limit("a"), concurrency.Limit | None)
    concurrency.concurrency("a", "2")  # type: ignore[arg-type]
    tags(["a"])  # type: ignore[arg-type]


async def limits_in_a_loop() -> None:
    async with concurrency.concurrency("a", timeout_seconds=1) as given:
        assert_type(given, None)
    assert_type(await concurrency.rate_limit_async("a"), None)


def as_functions() -> None:
    function: Callable[[int], int] = inc
    assert_type(list(map(inc, [1, 2])), list[int])
    assert_type(any_task(inc, 1, by=2), tuple[int, TaskFuture[int]])
    any_task(inc, "1")  # type: ignore[arg-type]
    del function


def caching(machine: Machine) -> None:
    """Policies, and explanations that take what the task takes."""

    def plain(x: int) -> str:
        return str(x)

    assert_type(INPUTS - "by" + TASK_SOURCE, CachePolicy)
    assert_type(CacheKeyFnPolicy(task_input_hash) + INPUTS, CachePolicy)
    INPUTS + "by"  # type: ignore[operator]
    INPUTS - 5  # type: ignore[operator]
    CacheKeyFnPolicy(lambda: "key")  # type: ignore[arg-type]
    cached: Task[[int], str] = task(cache_policy=INPUTS)(plain)
    assert_type(inc.with_options(cache_policy=INPUTS)(1), int)
    task(cache_policy="INPUTS")  # type: ignore[call-overload]
    inc.with_options(cache_policy="INPUTS")  # type: ignore[arg-type]
    assert_type(explain(inc, 1, by=2), CacheExplanation)
    assert_type(explain(fetch, 1), CacheExplanation)
    assert_type(explain(machine.work, 1), CacheExplanation)
    explain(inc, "1")  # type: ignore[arg-type]
    explain(inc)  # type: ignore[call-arg]
    del cached
