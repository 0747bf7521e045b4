"""A test that would wait for ever for the clock gets an error that says why."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import anyio
import pytest

from penstock import flow, history, task
from penstock.testing import FakeClock, TimeStoodStill, engine
from tests.conftest import RunLoop
from tests.patience import PATIENCE_SECONDS

LIMITS_ALONE = "There are time limits, and nobody sleeps until they are over."


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    """The clock of an engine, which loses patience soon, and says at the end that it has."""
    clock = FakeClock(patience_seconds=0.2)
    with pytest.raises(TimeStoodStill, match="The time of the fake clock stands still"):  # noqa: SIM117  # the end of the engine raises it
        with engine(clock):
            yield clock


@task(retries=1, retry_delay_seconds=60)
def flaky() -> None:
    raise ConnectionError


def test_async_code_that_hangs_in_its_time_limit(clock: FakeClock, run_loop: RunLoop) -> None:
    @task(timeout_seconds=5)
    async def hangs() -> None:
        await anyio.sleep_forever()

    with pytest.raises(TimeStoodStill, match=LIMITS_ALONE):
        run_loop(hangs)


def test_sync_code_that_hangs_in_its_time_limit(clock: FakeClock) -> None:
    released = threading.Event()

    @task(timeout_seconds=5)
    def hangs() -> None:
        released.wait()

    try:
        with pytest.raises(TimeStoodStill, match=LIMITS_ALONE):
            hangs()
    finally:
        released.set()


def test_sleep_beside_a_thread_that_waits_for_something_unknown(clock: FakeClock) -> None:
    """The message says where the thread is."""
    released = threading.Event()

    @task
    def waits() -> None:
        released.wait()  # for the sleeper below

    @flow
    def pipeline() -> None:
        waits.submit()
        try:
            clock.sleep(5)
        finally:
            released.set()

    with pytest.raises(TimeStoodStill, match=r"test_time_stood_still.py.*waits: released.wait\(\)"):
        pipeline()


def test_retry_beside_a_thread_that_waits_for_it_goes_on_all_the_same(clock: FakeClock) -> None:
    """A retry holds no thread that could get an error; the end of the engine says it."""
    ended = threading.Event()
    future = flaky.submit()
    future.add_done_callback(lambda _future: ended.set())
    assert ended.wait(PATIENCE_SECONDS)


def test_after_it_stood_still_nothing_waits_for_it_any_more(clock: FakeClock) -> None:
    released = threading.Event()

    @task(timeout_seconds=5)
    def hangs() -> None:
        released.wait()

    try:
        with pytest.raises(TimeStoodStill):
            hangs()
    finally:
        released.set()
    assert history.task_runs()[0].state.is_crashed()
    with pytest.raises(TimeStoodStill):
        clock.advance(5)
    with pytest.raises(TimeStoodStill):
        flaky()


def test_run_that_hangs_at_the_end_of_its_engine(clock: FakeClock) -> None:
    """The engine waits for what was submitted; that it looks again and again moves nobody."""

    @task(timeout_seconds=5)
    async def hangs() -> None:
        await anyio.sleep_forever()

    hangs.submit()


# Without an engine


def test_clock_without_an_engine_says_so(run_loop: RunLoop) -> None:
    clock = FakeClock()

    async def main() -> None:
        await clock.sleep_async(1)

    with pytest.raises(TimeStoodStill, match="belongs to no engine"):
        clock.advance(1)
    with pytest.raises(TimeStoodStill, match="belongs to no engine"):
        run_loop(main)


def test_code_that_was_left_to_itself_ends_with_its_engine() -> None:
    """Code past its time limit sleeps on in its thread; at the end of the engine it is woken."""
    woken = threading.Event()
    clock = FakeClock()

    @task(timeout_seconds=1)
    def slow() -> None:
        try:
            clock.sleep(3600)
        except TimeStoodStill:
            woken.set()

    with engine(clock):
        assert slow.call_state().name == "TimedOut"
        assert not woken.is_set()
    assert woken.wait(PATIENCE_SECONDS)
    assert clock.elapsed_seconds == 1
