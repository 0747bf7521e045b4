"""Where tasks are submitted from: each place is one line of `CALLERS`.

A body is written once, as an async function over `Here`; a caller that is no loop runs it without
one, as nothing in it suspends there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

import anyio

from penstock import TaskFuture, flow
from penstock._engine.engine import Engine
from penstock.task_runners import TaskRunner
from tests.patience import PATIENCE_SECONDS

T = TypeVar("T")


class Here(Protocol):
    """How the code of a body waits, where it runs."""

    async def get(self, future: TaskFuture[T]) -> T:
        """The value of a future, or what its run raised."""
        ...

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let time pass until something holds."""
        ...


async def get_all(here: Here, futures: Sequence[TaskFuture[T]]) -> list[T]:
    """The values of several futures."""
    return [await here.get(future) for future in futures]


class SyncHere:
    """In a thread without a loop."""

    async def get(self, future: TaskFuture[T]) -> T:
        return future.result(PATIENCE_SECONDS)

    async def until(self, condition: Callable[[], bool]) -> None:
        ends_at = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < ends_at, "it never came about"
            time.sleep(0.001)  # noqa: ASYNC251  # there is no loop here


class AsyncHere:
    """In a task of asyncio or trio."""

    async def get(self, future: TaskFuture[T]) -> T:
        with anyio.fail_after(PATIENCE_SECONDS):
            return await future

    async def until(self, condition: Callable[[], bool]) -> None:
        with anyio.fail_after(PATIENCE_SECONDS):
            while not condition():  # noqa: ASYNC110  # any condition will do
                await anyio.sleep(0.001)


Body = Callable[[Here], Coroutine[Any, Any, T]]


class Caller(Protocol):
    """Runs a body in some place, its tasks going to the runner."""

    def __call__(self, body: Body[T], runner: TaskRunner) -> T: ...


def _run_without_loop(body: Body[T]) -> T:
    coroutine = body(SyncHere())
    try:
        coroutine.send(None)
    except StopIteration as stop:
        value: T = stop.value
        return value
    raise AssertionError("a body suspends only where there is a loop")


def _in_thread(call: Callable[[], T]) -> T:
    """Call in a plain thread of the user's."""
    values: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            values.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(2 * PATIENCE_SECONDS)
    if errors:
        raise errors[0]
    assert values, "the thread hangs"
    return values[0]


def _sync_flow(_engine: Engine, body: Body[T], runner: TaskRunner) -> T:
    @flow(task_runner=runner)
    def calling() -> tuple[T]:  # no None: the body alone says what it expects of its tasks
        return (_run_without_loop(body),)

    return calling()[0]


def _async_flow(backend: str, body: Body[T], runner: TaskRunner) -> T:
    @flow(task_runner=runner)
    async def calling() -> tuple[T]:
        return (await body(AsyncHere()),)

    async def main() -> tuple[T]:
        return await calling()

    return anyio.run(main, backend=backend)[0]


def _asyncio_flow(_engine: Engine, body: Body[T], runner: TaskRunner) -> T:
    return _async_flow("asyncio", body, runner)


def _trio_flow(_engine: Engine, body: Body[T], runner: TaskRunner) -> T:
    return _async_flow("trio", body, runner)


def _flow_in_thread(engine: Engine, body: Body[T], runner: TaskRunner) -> T:
    return _in_thread(lambda: _sync_flow(engine, body, runner))


def _outside_of_flows(engine: Engine, body: Body[T], runner: TaskRunner) -> T:
    """A thread that submits on its own; the engine's default runner serves it."""
    engine.default_task_runner = runner
    return _in_thread(lambda: _run_without_loop(body))


class _Place(Protocol):
    def __call__(self, engine: Engine, body: Body[T], runner: TaskRunner, /) -> T: ...


IN_FLOWS: dict[str, _Place] = {
    "sync flow": _sync_flow,
    "asyncio flow": _asyncio_flow,
    "trio flow": _trio_flow,
    "flow in a thread": _flow_in_thread,
}
CALLERS: dict[str, _Place] = {**IN_FLOWS, "outside of flows": _outside_of_flows}


def caller_at(place: str, engine: Engine) -> Caller:
    """The caller of this name, on this engine."""
    run = CALLERS[place]

    def call(body: Body[T], runner: TaskRunner) -> T:
        return run(engine, body, runner)

    return call
