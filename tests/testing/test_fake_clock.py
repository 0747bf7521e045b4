"""On a fake clock, time passes for those who wait, in order, and for nobody else."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import anyio
import pytest

from penstock import flow, history, task
from penstock._waiting.latch import Latch
from penstock.concurrency import rate_limit, rate_limit_async, set_limit
from penstock.exceptions import ConfigurationError, RunTimedOut, WouldDeadlock
from penstock.states import State
from penstock.task_runners import ConcurrentTaskRunner
from penstock.tasks import task_input_hash
from penstock.testing import FakeClock, assert_transitions, engine, transitions_of
from tests.conftest import RunLoop
from tests.patience import soon

Main: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
RETRIED = ["Pending", "Running", "AwaitingRetry", "Retrying", "AwaitingRetry", "Retrying", "Failed"]


@task(retries=2, retry_delay_seconds=[60, 3600])
def flaky() -> None:
    raise ConnectionError


@task(retries=2, retry_delay_seconds=[60, 3600])
async def flaky_async() -> None:
    raise ConnectionError


# Retries


def test_retries_of_a_direct_call_take_their_delays_and_no_time(clock: FakeClock) -> None:
    began = time.perf_counter()
    state = flaky.call_state()
    assert clock.elapsed_seconds == 3660
    assert soon(time.perf_counter() - began, 2)
    assert_transitions(state, RETRIED)


def test_states_have_the_times_of_the_clock() -> None:
    start = datetime(2030, 1, 1, tzinfo=UTC)
    with engine(FakeClock(start)):
        flaky.call_state()
        (run,) = history.task_runs()
    offsets = [(state.timestamp - start).total_seconds() for state in run.states]
    assert offsets == [0, 0, 0, 60, 60, 3660, 3660]
    assert run.states[2].details.scheduled_time == start + timedelta(seconds=60)


def test_runs_that_wait_side_by_side_wait_for_the_same_time(clock: FakeClock) -> None:
    futures = [flaky.submit() for _ in range(5)] + [flaky_async.submit() for _ in range(5)]
    assert all(future.wait() for future in futures)
    assert clock.elapsed_seconds == 3660


def test_retries_in_a_loop(clock: FakeClock, run_loop: RunLoop) -> None:
    """Awaited side by side, submitted, and called in a way that blocks the loop."""

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(flaky_async.call_state)
        assert clock.elapsed_seconds == 3660
        submitted = [flaky_async.submit(), flaky.submit()]
        for future in submitted:
            with pytest.raises(ConnectionError):
                await future
        assert clock.elapsed_seconds == 2 * 3660
        assert flaky.call_state().is_failed()
        assert clock.elapsed_seconds == 3 * 3660

    run_loop(main)


def test_a_flow_waits_for_its_retry_with_all_that_it_runs(
    clock: FakeClock, run_loop: RunLoop
) -> None:
    attempts: list[float] = []

    @flow(retries=1, retry_delay_seconds=100)
    async def pipeline() -> str:
        attempts.append(clock.elapsed_seconds)
        flaky.submit()
        if len(attempts) == 1:
            raise ConnectionError
        return "done"

    assert run_loop(pipeline) == "done"
    assert attempts == [0, 3760]


# Code that takes time


def test_code_that_sleeps_takes_that_long(clock: FakeClock, run_loop: RunLoop) -> None:
    @task
    def slow(seconds: float) -> float:
        clock.sleep(seconds)
        return clock.elapsed_seconds

    @task
    async def slow_async(seconds: float) -> float:
        await clock.sleep_async(seconds)
        return clock.elapsed_seconds

    async def main() -> None:
        futures = [task.submit(seconds) for seconds in (30, 10, 20) for task in (slow, slow_async)]
        assert [await future for future in futures] == [30, 30, 10, 10, 20, 20]
        assert await slow_async(5) == 35

    run_loop(main)


def test_sleepers_wake_in_the_order_of_their_times_one_by_one(clock: FakeClock) -> None:
    """The one that woke goes as far as it can before the next one does."""
    told: list[str] = []

    @task
    def sleeps(name: str, seconds: float) -> None:
        clock.sleep(seconds)
        told.append(f"{name} wakes")
        time.sleep(0.002)
        told.append(f"{name} ends")

    names = ["c", "a", "d", "b"]
    sleeps.map(names, [2, 1, 2, 1]).wait()
    assert sorted(told[:4]) == ["a ends", "a wakes", "b ends", "b wakes"]
    assert [told[i].split()[0] == told[i + 1].split()[0] for i in range(0, 8, 2)] == [True] * 4
    assert clock.elapsed_seconds == 2


def test_workers_that_sleep_hold_their_places(clock: FakeClock) -> None:
    """Five pieces of work of 10 s each, two at a time, take 30 s."""

    @task
    def works() -> float:
        clock.sleep(10)
        return clock.elapsed_seconds

    @flow(task_runner=ConcurrentTaskRunner(max_workers=2))
    def pipeline() -> list[float]:
        return [future.result() for future in [works.submit() for _ in range(5)]]

    assert sorted(pipeline()) == [10, 10, 20, 20, 30]


def test_a_worker_that_waits_for_a_run_lets_another_one_work(clock: FakeClock) -> None:
    @task
    def inner() -> float:
        clock.sleep(10)
        return clock.elapsed_seconds

    @task
    def outer() -> float:
        return inner.submit().result()

    @flow(task_runner=ConcurrentTaskRunner(max_workers=1))
    def pipeline() -> list[float]:
        return [future.result() for future in [outer.submit() for _ in range(3)]]

    assert sorted(pipeline()) == [10, 20, 30]


def test_runs_that_wait_for_a_slot_of_a_limit(clock: FakeClock) -> None:
    """A slot that is given back is handed on before the time goes on, whoever else sleeps."""

    @task(tags=["scarce"])
    def works() -> float:
        clock.sleep(10)
        return clock.elapsed_seconds

    @task
    def naps() -> None:
        clock.sleep(1000)

    set_limit("scarce", 2)
    nap = naps.submit()
    ends = [future.result() for future in [works.submit() for _ in range(6)]]
    assert sorted(ends) == [10, 10, 20, 20, 30, 30]
    assert not nap.done()


def test_runs_that_wait_for_a_rate(clock: FakeClock, run_loop: RunLoop) -> None:
    """Time passes until a slot has decayed, and is that of the clock."""

    @task
    def calls() -> float:
        rate_limit("hourly")
        return clock.elapsed_seconds

    @task
    async def calls_later() -> float:
        await rate_limit_async("hourly")
        return clock.elapsed_seconds

    set_limit("hourly", 2, slot_decay_per_second=1 / 3600)
    ends = sorted(future.result() for future in [calls.submit() for _ in range(4)])
    assert ends == pytest.approx([0, 0, 3600, 7200], abs=1)

    @flow
    async def several() -> list[float]:
        return [await future for future in [calls_later.submit() for _ in range(2)]]

    assert sorted(run_loop(several)) == pytest.approx([10_800, 14_400], abs=1)


def test_time_stands_still_while_somebody_works(clock: FakeClock) -> None:
    """Real time that code takes is none of the clock's."""
    future = flaky.submit()
    time.sleep(0.05)
    assert (future.state.name, clock.elapsed_seconds) == ("AwaitingRetry", 0)

    @task
    def works() -> float:
        time.sleep(0.05)
        return clock.elapsed_seconds

    assert works.submit().result() == 0
    future.wait()
    assert clock.elapsed_seconds == 3660


# Time limits


def test_async_code_that_takes_too_long_is_timed_out(clock: FakeClock, run_loop: RunLoop) -> None:
    @task(timeout_seconds=5)
    async def slow(seconds: float) -> float:
        await clock.sleep_async(seconds)
        return clock.elapsed_seconds

    async def main() -> None:
        assert await slow(4.5) == 4.5
        with pytest.raises(RunTimedOut):
            await slow(60)
        assert (await slow.call_state(60)).name == "TimedOut"

    run_loop(main)
    assert clock.elapsed_seconds == 14.5


def test_sync_code_that_takes_too_long_is_timed_out(clock: FakeClock, run_loop: RunLoop) -> None:
    """Directly, on a worker, and awaited; what is left to itself sleeps on beside the others."""

    @task(timeout_seconds=5)
    def slow(seconds: float) -> float:
        clock.sleep(seconds)
        return clock.elapsed_seconds

    async def main() -> tuple[str, float]:
        return (await slow.run_async_state(60)).name, clock.elapsed_seconds

    assert slow(4.5) == 4.5
    assert slow.call_state(60).name == "TimedOut"
    assert clock.elapsed_seconds == 9.5
    future = slow.submit(60)
    future.wait()
    assert (future.state.name, clock.elapsed_seconds) == ("TimedOut", 14.5)
    assert run_loop(main) == ("TimedOut", 19.5)


def test_attempt_that_is_timed_out_is_tried_again(clock: FakeClock) -> None:
    durations = iter([30, 2])

    @task(timeout_seconds=5, retries=1, retry_delay_seconds=60)
    async def slow() -> None:
        await clock.sleep_async(next(durations))

    slow.run_sync()
    assert clock.elapsed_seconds == 67


def test_limit_of_a_flow_covers_what_it_joins(clock: FakeClock, run_loop: RunLoop) -> None:
    """Called, awaited and submitted; where it is kept, it is gone."""

    @task
    def slow(seconds: float) -> None:
        clock.sleep(seconds)

    @flow(timeout_seconds=10)
    def pipeline(seconds: float) -> None:
        slow.submit(seconds)

    @flow(timeout_seconds=10)
    async def pipeline_async(seconds: float) -> None:
        slow.submit(seconds)

    async def awaited(seconds: float) -> list[State[None]]:
        return [await pipeline.run_async_state(seconds), await pipeline_async.call_state(seconds)]

    for seconds in (9, 60):
        states = [pipeline.call_state(seconds), pipeline_async.run_sync_state(seconds)]
        states += run_loop(awaited, seconds)
        names = [state.name for state in states]
        assert names == [("Completed" if seconds == 9 else "TimedOut")] * 4
    assert clock.elapsed_seconds == 4 * 9 + 4 * 10


def test_limit_whose_moment_is_there_already(clock: FakeClock) -> None:
    assert not clock.wait_for(Latch(), 0)
    assert clock.elapsed_seconds == 0


def test_flow_that_waits_for_its_retry_can_be_cancelled(clock: FakeClock) -> None:
    @flow(retries=1, retry_delay_seconds=60)
    def pipeline() -> None:
        raise ConnectionError

    future = pipeline.submit()
    clock.advance(30)
    future.cancel()
    future.wait()
    assert (future.state.name, clock.elapsed_seconds) == ("Cancelled", 30)


def test_time_does_not_pass_for_a_limit_alone(clock: FakeClock, run_loop: RunLoop) -> None:
    """Code that really waits for a while, as for a socket, has taken no time of the clock."""

    @task(timeout_seconds=0.001)
    async def waits() -> float:
        await anyio.sleep(0.03)
        return clock.elapsed_seconds

    @task(timeout_seconds=0.001)
    def works() -> float:
        time.sleep(0.03)
        return clock.elapsed_seconds

    assert run_loop(waits) == 0
    assert works() == 0


# Advancing


def test_advance_lets_happen_what_is_due_and_no_more(clock: FakeClock) -> None:
    future = flaky.submit()
    clock.advance(59)
    assert transitions_of(future) == RETRIED[:3]
    clock.advance(1)
    assert transitions_of(future) == RETRIED[:5]
    clock.advance(3599)
    assert not future.done()
    clock.advance(1)
    assert future.done()
    assert clock.elapsed_seconds == 3660


def test_advance_in_a_loop(clock: FakeClock, run_loop: RunLoop) -> None:
    async def main() -> None:
        futures = [flaky.submit(), flaky_async.submit()]
        await clock.advance_async(59)
        assert [len(transitions_of(future)) for future in futures] == [3, 3]
        await clock.advance_async(1)
        assert [len(transitions_of(future)) for future in futures] == [5, 5]
        await clock.advance_async(4000)
        assert [future.done() for future in futures] == [True, True]
        with pytest.raises(WouldDeadlock, match="advance_async"):
            clock.advance(1)

    run_loop(main)
    assert clock.elapsed_seconds == 4060


def test_advance_fires_time_limits(clock: FakeClock) -> None:
    """Code that would wait for ever is timed out when its time is over."""

    @task(timeout_seconds=5)
    async def hangs() -> None:
        await anyio.sleep_forever()

    future = hangs.submit()
    clock.advance(4)
    assert not future.done()
    clock.advance(1)
    assert future.state.name == "TimedOut"


def test_cached_results_expire(clock: FakeClock) -> None:
    computed: list[int] = []

    @task(cache_key_fn=task_input_hash, cache_expiration=timedelta(minutes=1))
    def square(number: int) -> int:
        computed.append(number)
        return number * number

    square(3)
    clock.advance(59)
    square(3)
    assert computed == [3]
    clock.advance(1)
    square(3)
    assert computed == [3, 3]


def test_clock_goes_on_from_one_engine_to_the_next() -> None:
    clock = FakeClock(datetime(2030, 1, 1, tzinfo=UTC))
    for hours in (1, 2):
        with engine(clock):
            clock.advance(3600)
        assert clock.elapsed_seconds == 3600 * hours
    assert datetime.fromtimestamp(clock.now(), UTC) == datetime(2030, 1, 1, 2, tzinfo=UTC)


# Bad input


def test_bad_input_is_refused(clock: FakeClock) -> None:
    with pytest.raises(ConfigurationError, match="start must be a datetime with a time zone"):
        FakeClock(datetime(2030, 1, 1))  # noqa: DTZ001  # that is what is refused
    number: Any = 3
    with pytest.raises(ConfigurationError, match=r"start must be a datetime .*, not 3"):
        FakeClock(start=number)
    with (
        pytest.raises(ConfigurationError, match="clock must be a FakeClock, not 3"),
        engine(number),
    ):
        pass
    with pytest.raises(ConfigurationError, match="patience_seconds must be a number above 0"):
        FakeClock(patience_seconds=0)
    with pytest.raises(ConfigurationError, match="seconds must be a number of at least 0, not -1"):
        clock.advance(-1)
    with pytest.raises(ConfigurationError, match="one engine at a time"), engine(clock):
        raise AssertionError
