"""Whatever the machine does meanwhile, the same runs take the same time of the clock."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from penstock import flow, task
from penstock.settings import SettingsChanges
from penstock.task_runners import ConcurrentTaskRunner
from penstock.testing import FakeClock, engine
from tests.conftest import RunLoop
from tests.patience import PATIENCE_SECONDS


@pytest.fixture(params=["memory", "file", "strict"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> SettingsChanges:
    """Settings of an engine in memory, of one in a file, and of one that waits for its file."""
    if request.param == "memory":
        return {}
    return {
        "home": tmp_path / "home",
        "durability": "strict" if request.param == "strict" else "relaxed",
    }


@contextmanager
def busy_machine() -> Generator[None]:
    """A thread that works beside it all, and is none of the engine's."""
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            sum(range(2000))

    thread = threading.Thread(target=work)
    thread.start()
    yield
    ended.set()
    thread.join()


class Runs:
    """Runs of all kinds that wait for one clock."""

    def __init__(self, clock: FakeClock) -> None:
        @task(retries=2, retry_delay_seconds=[10, 20])
        def flaky() -> None:
            raise ConnectionError

        @task(retries=2, retry_delay_seconds=[10, 20])
        async def flaky_async() -> None:
            raise ConnectionError

        @task(timeout_seconds=7)
        def takes(seconds: float) -> float:
            clock.sleep(seconds)
            return clock.elapsed_seconds

        @task(timeout_seconds=7)
        async def takes_async(seconds: float) -> float:
            await clock.sleep_async(seconds)
            return clock.elapsed_seconds

        @task
        def passes_on(seconds: float) -> float:
            return takes.submit(seconds).result()

        self.tasks = flaky, flaky_async, takes, takes_async, passes_on

    def submit(self) -> list[Any]:
        """Futures of 18 runs."""
        flaky, flaky_async, takes, takes_async, passes_on = self.tasks
        return [
            *(flaky.submit() for _ in range(4)),
            *(flaky_async.submit() for _ in range(4)),
            *(takes.submit(seconds) for seconds in (6, 8, 6, 8)),
            *(takes_async.submit(seconds) for seconds in (6, 8, 6, 8)),
            *(passes_on.submit(seconds) for seconds in (5, 5)),
        ]


ENDS = [*["Failed"] * 8, *["Completed", "TimedOut"] * 4, "Completed", "Completed"]


@pytest.mark.parametrize("number", range(3))
def test_many_runs_from_a_sync_flow(kept: SettingsChanges, number: int) -> None:
    clock = FakeClock(patience_seconds=PATIENCE_SECONDS)
    runs = Runs(clock)

    @flow(task_runner=ConcurrentTaskRunner(max_workers=20))
    def pipeline() -> list[str]:
        futures = runs.submit()
        return [future.state.name for future in futures if future.wait()]

    with busy_machine(), engine(clock, **kept):
        assert pipeline() == ENDS
        assert clock.elapsed_seconds == 30


@pytest.mark.parametrize("number", range(3))
def test_many_runs_from_a_loop(kept: SettingsChanges, number: int, run_loop: RunLoop) -> None:
    clock = FakeClock(patience_seconds=PATIENCE_SECONDS)
    runs = Runs(clock)
    flaky_async = runs.tasks[1]

    @flow
    async def pipeline() -> list[str]:
        futures = runs.submit()
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(flaky_async.call_state)
        assert clock.elapsed_seconds == 30
        await clock.sleep_async(5)
        return [future.state.name for future in futures]

    with busy_machine(), engine(clock, **kept):
        assert run_loop(pipeline) == ENDS
        assert clock.elapsed_seconds == 35


def test_thousand_sleepers(clock: FakeClock, run_loop: RunLoop) -> None:
    """A day of naps in a loop, in the order of their ends."""
    ends: list[float] = []

    @task
    async def naps(seconds: float) -> None:
        await clock.sleep_async(seconds)
        ends.append(clock.elapsed_seconds)

    @flow
    async def pipeline() -> None:
        naps.map([(number * 37) % 1000 + 1 for number in range(1000)])

    run_loop(pipeline)
    assert ends == [float(second) for second in range(1, 1001)]
