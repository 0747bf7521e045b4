"""Code that outlives its time on a thread goes on, and is counted until it has come back."""

from __future__ import annotations

import logging
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from penstock import flow, history, task
from penstock._engine.process import shutdown
from penstock.task_runners import abandoned_threads
from tests.contracts.scripts import Script
from tests.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.usefixtures("engine")


def until_all_are_back() -> None:
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while abandoned_threads():
        assert time.monotonic() < ends_at, "some never came back"
        time.sleep(0.001)


def test_an_abandoned_thread_is_counted_until_it_comes_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each warning says how many there are, and what would end such code."""
    gate = threading.Event()

    @task(timeout_seconds=0.02)
    def hangs() -> None:
        assert gate.wait(PATIENCE_SECONDS)

    @flow
    def two() -> str:
        for _ in range(2):
            hangs.submit().wait()
        return "done"

    assert abandoned_threads() == []
    try:
        two()
        first, second = abandoned_threads()
        assert [second.run_name, first.run_name] == [run.name for run in history.task_runs()]
        assert {first.thread_name, second.thread_name} <= {t.name for t in threading.enumerate()}
        assert timedelta(0) <= datetime.now(UTC) - first.since < timedelta(minutes=1)
        warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
        assert ["still run: 1" in warnings[0], "still run: 2" in warnings[1]] == [True, True]
        assert all("ProcessTaskRunner" in warning for warning in warnings)
    finally:
        gate.set()
    until_all_are_back()


def test_threads_whose_code_ends_at_its_deadline_are_not_counted_for_ever() -> None:
    """A hundred of them, some of which end a moment before, some a moment after."""

    @task(timeout_seconds=0.005)
    def close_call(number: int) -> None:
        time.sleep(0.004 + number % 3 / 1000)

    @flow
    def many() -> str:
        close_call.map(range(100)).wait()
        return "done"

    assert many() == "done"
    until_all_are_back()


def test_direct_calls_and_flows_are_counted_too() -> None:
    gate = threading.Event()

    @flow(timeout_seconds=0.02)
    def hangs() -> None:
        assert gate.wait(PATIENCE_SECONDS)

    try:
        state = hangs.call_state()
        assert state.name == "TimedOut"
        assert len(abandoned_threads()) == 1
    finally:
        gate.set()
    until_all_are_back()


def test_what_still_runs_at_the_end_is_named(tmp_path: Path) -> None:
    """The process ends all the same."""
    script = Script(tmp_path / "home")
    result = script.run("""
        import time
        from penstock import task

        @task(timeout_seconds=0.05, task_run_name="slow {number}")
        def slow(number):
            time.sleep(600)

        for number in (1, 2):
            slow.call_state(number)
    """)
    assert result.status == 0
    assert "2 abandoned threads still run: slow 1, slow 2" in result.errors


def test_nothing_is_said_where_there_are_none(caplog: pytest.LogCaptureFixture) -> None:
    shutdown()
    assert "abandoned" not in caplog.text
