"""Limits: no more at once than there are slots, and whoever waits can be ended at any moment."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from penstock import cancel_flow_run, concurrency, flow, history, shutdown, tags, task
from penstock._engine.engine import Engine
from penstock._engine.process import use_settings
from penstock.concurrency import (
    Limit,
    delete_limit,
    get_limit,
    get_limits,
    rate_limit,
    rate_limit_async,
    set_limit,
)
from penstock.exceptions import ConfigurationError, RunCancelled, StoreError, UnknownLimit
from penstock.settings import load_settings
from penstock.task_runners import ConcurrentTaskRunner
from tests.conftest import RunLoop
from tests.patience import PATIENCE_SECONDS, soon

pytestmark = pytest.mark.usefixtures("engine")


class Meter:
    """How many are inside, and how many there ever were at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.inside = 0
        self.most = 0

    def __enter__(self) -> None:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)

    def __exit__(self, *exc: object) -> None:
        with self._lock:
            self.inside -= 1


def until(condition: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < ends_at, "it never came about"
        time.sleep(0.001)


def taken(name: str = "database") -> float:
    limit = get_limit(name)
    assert limit is not None
    return limit.taken


def all_are_free() -> bool:
    return all(limit.taken == 0 for limit in get_limits())


# Task runs with tags


def test_no_more_tasks_run_at_once_than_the_limit_of_their_tag_has_slots(run_loop: RunLoop) -> None:
    """Submitted, called, sync and async ones together."""
    set_limit("database", 3)
    meter = Meter()

    @task(tags=["database"])
    def query() -> int:
        with meter:
            time.sleep(0.002)
        return 1

    @task(tags=["database"])
    async def query_async() -> int:
        with meter:
            await anyio.sleep(0.002)
        return 1

    @flow(task_runner=ConcurrentTaskRunner(max_workers=20))
    async def queries() -> int:
        futures = [query.submit() for _ in range(20)] + [query_async.submit() for _ in range(20)]
        direct = [await query_async(), await query.run_async()]
        return sum(direct) + sum([await future for future in futures])

    assert run_loop(queries) == 42
    assert meter.most == 3
    until(all_are_free)


def test_tasks_start_in_the_order_in_which_they_asked(run_loop: RunLoop) -> None:
    """Those of a loop ask in the order of their submission."""
    set_limit("database", 1)
    started: list[int] = []

    @task(tags=["database"])
    async def query(number: int) -> None:
        started.append(number)

    @flow
    async def queries() -> None:
        query.map(range(50))

    run_loop(queries)
    assert started == list(range(50))


def test_a_waiting_run_is_pending_and_holds_no_thread() -> None:
    set_limit("database", 1)
    release = threading.Event()

    @task(tags=["database"])
    def query() -> None:
        assert release.wait(PATIENCE_SECONDS)

    @task
    def other() -> int:
        return 1

    @flow(task_runner=ConcurrentTaskRunner(max_workers=2))
    def queries() -> None:
        futures = [query.submit() for _ in range(30)]
        until(lambda: any(future.state.is_running() for future in futures))
        assert [other.submit().result(PATIENCE_SECONDS) for _ in range(5)] == [1] * 5
        assert sum(future.state.is_pending() for future in futures) == 29
        release.set()

    queries()


def test_a_tag_around_a_call_counts_as_those_of_the_task() -> None:
    set_limit("around", 1)
    meter = Meter()

    @task
    def query() -> None:
        with meter:
            time.sleep(0.002)

    @flow
    def queries() -> None:
        with tags("around"):
            for _ in range(5):
                query.submit()

    queries()
    assert meter.most == 1


def test_a_run_with_several_limited_tags_has_a_slot_of_each() -> None:
    set_limit("database", 5)
    set_limit("network", 1)
    seen: list[tuple[float, float]] = []

    @task(tags=["database", "network", "free"])
    def query() -> None:
        seen.append((taken("database"), taken("network")))

    @flow
    def queries() -> None:
        for _ in range(3):
            query.submit()

    queries()
    assert seen == [(1, 1)] * 3


def test_tags_of_a_flow_limit_nothing() -> None:
    set_limit("database", 0)

    @flow(tags=["database"])
    def f() -> int:
        return 1

    assert f() == 1


def test_a_limit_set_later_holds_and_one_deleted_holds_no_more() -> None:
    meter = Meter()

    @task(tags=["database"])
    def query() -> None:
        with meter:
            time.sleep(0.001)

    @flow(task_runner=ConcurrentTaskRunner(max_workers=8))
    def queries() -> int:
        meter.most = 0
        for future in [query.submit() for _ in range(8)]:
            future.result()
        return meter.most

    queries()
    set_limit("database", 1)
    assert queries() == 1
    delete_limit("database")
    set_limit("database", 0)
    delete_limit("database")
    queries()


def test_a_limit_without_slots_keeps_runs_waiting_until_it_has_some() -> None:
    set_limit("database", 0)

    @task(tags=["database"])
    def query() -> int:
        return 1

    future = query.submit()
    assert not future.wait(0.1)
    set_limit("database", 1)
    assert future.result(PATIENCE_SECONDS) == 1


def test_a_retry_gives_its_slot_to_others_while_it_waits() -> None:
    set_limit("database", 1)
    steps: list[str] = []

    @task(tags=["database"], retries=1, retry_delay_seconds=0.1)
    def fails_once() -> None:
        steps.append("attempt")
        if len(steps) == 1:
            raise ValueError

    @task(tags=["database"])
    def other() -> None:
        steps.append("other")

    @flow
    def f() -> None:
        fails_once.submit()
        other.submit()

    f()
    assert steps == ["attempt", "other", "attempt"]


# Cancellation


def test_a_waiting_run_that_is_cancelled_leaks_no_slot(run_loop: RunLoop) -> None:
    set_limit("database", 1)
    running, release = threading.Event(), threading.Event()

    @task(tags=["database"])
    def query() -> None:
        running.set()
        assert release.wait(PATIENCE_SECONDS)

    @task(tags=["database"])
    async def query_async() -> None: ...

    @flow
    async def f() -> list[str]:
        query.submit()
        await anyio.to_thread.run_sync(until, running.is_set)
        waiting = [query.submit(), query_async.submit(), query.submit()]
        await anyio.sleep(0.01)
        for future in waiting:
            future.cancel()
        for future in waiting:
            with pytest.raises(RunCancelled):
                await future
        release.set()
        await query.submit()
        return [future.state.name for future in waiting]

    assert run_loop(f) == ["Cancelled"] * 3
    until(all_are_free)


def test_a_loop_that_is_cancelled_at_any_moment_leaks_no_slot(run_loop: RunLoop) -> None:
    """Tasks that wait, tasks that are just served, and code inside `async with`."""
    set_limit("database", 2)

    @task(tags=["database"])
    async def query() -> None:
        await anyio.sleep(0.001)

    @flow
    async def f() -> None:
        for _ in range(4):
            query.submit()
        async with concurrency.concurrency("database"):
            await query()

    async def main() -> None:
        for number in range(40):
            with anyio.move_on_after(number * 0.0005):
                await f()

    run_loop(main)
    until(all_are_free)
    run_loop(query)


def test_a_call_that_waits_ends_when_its_flow_is_cancelled() -> None:
    set_limit("database", 1)

    @task(tags=["database"])
    def query() -> None: ...

    @flow
    def f() -> None:
        query()

    def find_and_cancel() -> None:
        until(lambda: bool(history.task_runs(task="query", state="PENDING")))
        cancel_flow_run(history.flow_runs(flow="f")[0].id)

    thread = threading.Thread(target=find_and_cancel)
    with concurrency.concurrency("database"):
        thread.start()
        assert f.call_state().name == "Cancelled"
    thread.join()
    assert history.task_runs(task="query")[0].state.name == "Cancelled"
    until(all_are_free)


def test_a_flow_that_is_interrupted_leaks_no_slot() -> None:
    set_limit("database", 1)

    @task(tags=["database"])
    def interrupts() -> None:
        raise KeyboardInterrupt

    @task(tags=["database"])
    def query() -> None: ...

    @flow
    def f() -> None:
        interrupts()

    with pytest.raises(KeyboardInterrupt):
        f()
    until(all_are_free)
    query()


@pytest.mark.parametrize("what", ["task", "with", "rate"])
def test_ctrl_c_while_waiting_leaks_no_slot(what: str) -> None:
    set_limit("database", 1)
    set_limit("rate", 1, slot_decay_per_second=0.001)
    rate_limit("rate")
    held = concurrency.concurrency("database")
    held.__enter__()

    @task(tags=["database"])
    def query() -> None: ...

    def wait() -> None:
        if what == "task":
            query()
        elif what == "with":
            with concurrency.concurrency("database"):
                pass
        else:
            rate_limit("rate")

    timer = threading.Timer(0.1, os.kill, (os.getpid(), 2))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        wait()
    timer.join()
    held.__exit__()
    until(lambda: taken("database") == 0)
    if what == "task":
        assert history.task_runs(task="query")[0].state.name == "Cancelled"


# Code


def test_a_block_has_slots_while_it_is_inside(run_loop: RunLoop) -> None:
    set_limit("database", 5)
    set_limit("network", 5)

    async def main() -> None:
        async with concurrency.concurrency(["network", "database"], occupy=2):
            assert (taken("database"), taken("network")) == (2, 2)

    run_loop(main)
    until(all_are_free)
    with concurrency.concurrency("database", 3):
        assert taken("database") == 3
    until(all_are_free)


def test_blocks_give_back_whatever_ends_them() -> None:
    set_limit("database", 1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), concurrency.concurrency("database"):
            raise ZeroDivisionError
    until(all_are_free)


def test_one_object_serves_many_threads_and_tasks(run_loop: RunLoop) -> None:
    set_limit("database", 2)
    meter, limited = Meter(), concurrency.concurrency("database")

    def use() -> None:
        with limited, meter:
            time.sleep(0.001)

    async def use_async() -> None:
        async with limited:
            with meter:
                await anyio.sleep(0.001)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(use_async)
                group.start_soon(anyio.to_thread.run_sync, use)

    run_loop(main)
    assert meter.most == 2
    until(all_are_free)


def test_a_block_that_waits_too_long_raises(run_loop: RunLoop) -> None:
    set_limit("database", 1)

    async def main() -> None:
        async with concurrency.concurrency("database"):
            with pytest.raises(TimeoutError, match=r"'database' were free within 0.01 seconds"):
                async with concurrency.concurrency("database", timeout_seconds=0.01):
                    raise AssertionError("it is not entered")

    run_loop(main)
    with (
        concurrency.concurrency("database"),
        pytest.raises(TimeoutError, match=r"'database' were free within 0.01 seconds"),
        concurrency.concurrency("database", timeout_seconds=0.01),
    ):
        raise AssertionError("it is not entered")
    until(all_are_free)


def test_no_name_is_no_limit(run_loop: RunLoop) -> None:
    async def main() -> None:
        async with concurrency.concurrency([]):
            await rate_limit_async([])

    run_loop(main)
    with concurrency.concurrency([]):
        rate_limit([])


def test_a_rate_is_kept_to(run_loop: RunLoop) -> None:
    """The first go at once, as many as there are slots; then so many a second."""
    set_limit("rate", 5, slot_decay_per_second=100)
    began = time.monotonic()
    for _ in range(10):
        rate_limit("rate")

    async def main() -> None:
        for _ in range(5):
            await rate_limit_async("rate", 2)

    run_loop(main)
    took = time.monotonic() - began
    assert took >= 0.14 and soon(took, 5)


def test_a_rate_that_is_waited_for_too_long_raises(run_loop: RunLoop) -> None:
    set_limit("rate", 1, slot_decay_per_second=0.01)
    rate_limit("rate")
    with pytest.raises(TimeoutError):
        rate_limit("rate", timeout_seconds=0.01)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await rate_limit_async("rate", timeout_seconds=0.01)

    run_loop(main)
    assert 0.9 < taken("rate") <= 1


def test_a_cancelled_wait_of_asyncio_is_passed_on() -> None:
    set_limit("database", 1)

    async def wait() -> None:
        async with concurrency.concurrency("database"):
            raise AssertionError("it is not entered")

    async def main() -> None:
        async with concurrency.concurrency("database"):
            waiting = asyncio.create_task(wait())
            await asyncio.sleep(0.02)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

    asyncio.run(main())
    until(all_are_free)


# Limits


@pytest.mark.needs_file("an engine made later finds the limits")
def test_limits_are_kept_and_listed(engine: Engine) -> None:
    set_limit("b", 2)
    set_limit("a", 1, slot_decay_per_second=2)
    with use_settings(engine.settings):
        assert get_limits() == [Limit("a", 1, 2.0), Limit("b", 2)]
        assert get_limit("b") == Limit("b", 2)
        assert get_limit("c") is None
        assert delete_limit("b")
        assert not delete_limit("b")
    assert get_limits() == [Limit("a", 1, 2.0)]


def test_limits_in_memory_hold_as_well() -> None:
    with use_settings(load_settings({"PENSTOCK_DATABASE_URL": "memory:"})):
        set_limit("database", 1)
        meter = Meter()

        @task(tags=["database"])
        def query() -> None:
            with meter:
                time.sleep(0.001)

        @flow
        def queries() -> None:
            for _ in range(10):
                query.submit()

        queries()
        assert meter.most == 1
        until(all_are_free)


def test_an_engine_that_is_shut_down_lets_nobody_wait() -> None:
    set_limit("database", 1)
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            with concurrency.concurrency("database"):
                pass
        except StoreError as error:
            errors.append(error)

    with concurrency.concurrency("database"):
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.05)
        shutdown()
        thread.join(PATIENCE_SECONDS)
    assert "shut down" in str(errors[0])


# Bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: set_limit("", 1),
            r"set_limit\(\): name must be a string that is not blank, not ''",
        ),
        (
            lambda: set_limit("a", -1),
            r"set_limit\(\): slots must be an integer of at least 0, not -1",
        ),
        (lambda: set_limit("a", True), r"slots must be an int"),
        (
            lambda: set_limit("a", 1, slot_decay_per_second=-1),
            r"set_limit\(\): slot_decay_per_second must be a number of at least 0, not -1",
        ),
        (lambda: concurrency.concurrency(5), r"concurrency\(\): names must be the name"),  # type: ignore[arg-type]  # as it says
        (lambda: concurrency.concurrency(["a", ""]), r"concurrency\(\): names must be"),
        (
            lambda: concurrency.concurrency("a", occupy=0),
            r"concurrency\(\): occupy must be an integer of at least 1, not 0",
        ),
        (
            lambda: concurrency.concurrency("a", timeout_seconds=-1),
            r"concurrency\(\): timeout_seconds must be a number of at least 0, not -1",
        ),
        (lambda: rate_limit("a", occupy=0), r"rate_limit\(\): occupy must be an int"),
        (lambda: rate_limit("rate", timeout_seconds=-1), r"rate_limit\(\): timeout_seconds"),
        (lambda: rate_limit("plain"), r"'plain' is not a rate limit: set it with slot_decay"),
        (
            lambda: rate_limit("rate", 2),
            r"rate_limit\(\): occupy must be at most 1, .* limit 'rate', not 2",
        ),
        (
            lambda: enter("plain", 2),
            r"concurrency\(\): occupy must be at most 1, .* limit 'plain', not 2",
        ),
    ],
)
def test_bad_input_names_the_argument(call: Callable[[], Any], message: str) -> None:
    set_limit("plain", 1)
    set_limit("rate", 1, slot_decay_per_second=1)
    with pytest.raises(ConfigurationError, match=message):
        call()


def enter(name: str, occupy: int) -> None:
    with concurrency.concurrency(name, occupy):
        pass


def test_code_that_asks_for_no_limit_that_there_is_is_refused(run_loop: RunLoop) -> None:
    async def main() -> None:
        with pytest.raises(UnknownLimit):
            await rate_limit_async("databse")
        with pytest.raises(UnknownLimit):
            async with concurrency.concurrency("databse"):
                pass

    run_loop(main)
    with (
        pytest.raises(UnknownLimit, match=r"no concurrency limit 'databse'.*set_limit\('databse'"),
        concurrency.concurrency("databse"),
    ):
        pass
