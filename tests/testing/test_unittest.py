"""The engine and the clock in tests of unittest."""

from __future__ import annotations

import unittest

from penstock import history, task
from penstock.testing import FakeClock, assert_transitions, engine


@task(retries=1, retry_delay_seconds=60)
async def flaky() -> None:
    raise ConnectionError


class WithClock(unittest.TestCase):
    def setUp(self) -> None:
        self.clock = FakeClock()
        self.enterContext(engine(self.clock))

    def test_sync(self) -> None:
        flaky.run_sync_state()
        assert self.clock.elapsed_seconds == 60
        assert_transitions(
            history.task_runs()[0], ["Pending", "Running", "AwaitingRetry", "Retrying", "Failed"]
        )


class InALoop(unittest.IsolatedAsyncioTestCase):
    def setUp(self) -> None:
        self.clock = FakeClock()
        self.enterContext(engine(self.clock))

    async def test_async(self) -> None:
        state = await flaky.call_state()
        assert state.is_failed()
        assert self.clock.elapsed_seconds == 60
