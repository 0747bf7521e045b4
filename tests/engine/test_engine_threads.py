"""The user's code never runs in the threads of the engine's own, whoever a run has waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from penstock import TaskFuture, flow, history, task
from penstock._engine.engine import Engine
from tests.conftest import RunLoop

pytestmark = pytest.mark.usefixtures("engine")
OWN = {"penstock-engine", "penstock-async", "penstock-writer", "penstock-slots"}


class Seen:
    """The threads in which methods of the user's were called, by method."""

    threads: list[tuple[str, str]] = []  # noqa: RUF012  # emptied by the fixture


def called(method: str) -> None:
    Seen.threads.append((method, threading.current_thread().name))


@pytest.fixture(autouse=True)
def seen() -> Callable[[], set[str]]:
    """The methods that were called, none of them in a thread of the engine's own."""
    Seen.threads = []

    def methods() -> set[str]:
        assert not [where for where in Seen.threads if where[1] in OWN]
        return {method for method, _ in Seen.threads}

    return methods


class Result:
    """Told where it is pickled."""

    def __reduce__(self) -> tuple[type[Result], tuple[()]]:
        called("reduce")
        return Result, ()


class Trouble(Exception):
    """Told where it is shown."""

    def __str__(self) -> str:
        called("str")
        return "trouble"


@dataclass
class Box:
    """Told where it is copied, for a value where a future was."""

    content: object

    def __copy__(self) -> Box:
        called("copy")
        return Box(self.content)


@task
async def waits_in_loop(seconds: float = 0.05) -> int:
    await anyio.sleep(seconds)
    return 1


def test_the_result_of_a_flow_that_has_joined_async_code(seen: Callable[[], set[str]]) -> None:
    @flow
    def joins() -> Result:
        waits_in_loop.submit()
        return Result()

    assert isinstance(joins.submit().result(), Result)
    assert seen() == {"reduce"}


def test_the_exception_of_a_flow_that_has_joined_async_code(seen: Callable[[], set[str]]) -> None:
    @flow
    def fails() -> None:
        waits_in_loop.submit()
        raise Trouble

    future = fails.submit()
    future.wait()
    assert future.state.message == "Flow run encountered an exception. Trouble: trouble"
    assert "trouble" in (future.state.details.traceback or "")
    assert seen() == {"str"}


def test_the_exception_of_a_member_that_a_flow_ends_by(seen: Callable[[], set[str]]) -> None:
    @task
    async def fails() -> None:
        await anyio.sleep(0.05)
        raise Trouble

    @flow
    def ends_by_members() -> None:
        waits_in_loop.submit(0.1)
        fails.submit().wait()
        Seen.threads.clear()  # the task's own code runs in the loop for async code

    future = ends_by_members.submit()
    future.wait()
    assert future.state.is_failed()
    assert seen() == {"str"}


def test_arguments_in_which_there_were_futures(seen: Callable[[], set[str]]) -> None:
    @task
    def unpacks(box: Box) -> object:
        return box.content

    @flow
    def opens(box: Box) -> object:
        return unpacks(box)

    @flow
    def calls() -> list[object]:
        return [unpacks.submit(Box(waits_in_loop.submit())).result(),
                opens.submit(Box(waits_in_loop.submit())).result()]  # fmt: skip

    assert calls() == [1, 1]
    assert seen() == {"copy"}


def test_a_key_that_an_async_run_computes_is_waited_for_and_taken_on_a_worker(
    seen: Callable[[], set[str]],
) -> None:
    """The run that waited goes on where its code may run, not where the owner has ended."""

    def key(_context: object, _parameters: object) -> str:
        return "the key"

    @task(cache_key_fn=key)
    async def owner() -> int:
        await anyio.sleep(0.1)
        raise ValueError("nothing to take")

    @task(cache_key_fn=key)
    def takes() -> int:
        called("code")
        return 2

    @flow
    def calls() -> int:
        owned = owner.submit()
        time.sleep(0.03)  # until it owns the key
        taken = takes.submit().result()
        owned.wait()
        return taken

    calls.call_state()
    assert seen() == {"code"}


def test_the_inputs_of_what_is_called_again_in_a_retry(seen: Callable[[], set[str]]) -> None:
    class Input:
        def __reduce__(self) -> tuple[type[int], tuple[()]]:
            called("reduce")
            return int, ()

    attempts: list[int] = []

    @task
    def works(_upstream: int, _other: object) -> int:
        return 1

    @flow(retries=1)
    def retried() -> None:
        attempts.append(1)
        works.submit(waits_in_loop.submit(), Input()).result()
        if len(attempts) < 2:
            raise ValueError("not yet")

    retried.call_state()
    assert seen() <= {"reduce"}
    assert len(history.task_runs(task="works")) == 1


def test_async_code_encodes_where_it_runs(
    engine: Engine, run_loop: RunLoop, seen: Callable[[], set[str]]
) -> None:
    del engine

    @flow
    async def gives() -> Result:
        waits_in_loop.submit()
        return Result()

    assert isinstance(run_loop(gives), Result)
    assert seen() == {"reduce"}
    assert {thread for _, thread in Seen.threads} == {threading.current_thread().name}


def test_a_flow_cancelled_while_its_result_waits_for_a_worker_ends_as_cancelled() -> None:
    encodes, go_on = threading.Event(), threading.Event()

    class Slow:
        def __reduce__(self) -> tuple[type[Slow], tuple[()]]:
            encodes.set()
            go_on.wait(10)
            return Slow, ()

    @flow
    def joins() -> Slow:
        waits_in_loop.submit()
        return Slow()

    future: TaskFuture[Any] = joins.submit()
    assert encodes.wait(10)
    future.cancel()
    assert future.wait(10)
    go_on.set()
    assert future.state.name == "Cancelled"
    assert [state.name for state in history.flow_runs()[0].states].count("Cancelled") == 1
