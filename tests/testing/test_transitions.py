"""What a test says of the states of a run, and what it reads when they are others."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from penstock import flow, history, task
from penstock.exceptions import ConfigurationError
from penstock.states import Completed
from penstock.testing import FakeClock, assert_transitions, transitions_of

RETRIED = ["Pending", "Running", "AwaitingRetry", "Retrying", "Completed"]


def test_transitions_are_found_by_all_that_stands_for_a_run(clock: FakeClock) -> None:
    outcomes = iter([ConnectionError(), None])

    @task(retries=1)
    def flaky() -> None:
        outcome = next(outcomes)
        if outcome is not None:
            raise outcome

    future = flaky.submit()
    future.wait()
    (record,) = history.task_runs()
    for run in (future, future.state, record, record.id):
        assert transitions_of(run) == RETRIED
        assert_transitions(run, tuple(RETRIED))


def test_transitions_of_flow_runs(clock: FakeClock) -> None:
    @flow
    def fails() -> None:
        raise ValueError

    assert_transitions(fails.call_state(), ["Pending", "Running", "Failed"])
    assert_transitions(history.flow_runs()[0], ["Pending", "Running", "Failed"])


def test_difference_is_readable(clock: FakeClock) -> None:
    @task(task_run_name="the only one")
    def fails() -> None:
        raise ValueError

    state = fails.call_state()
    with pytest.raises(AssertionError) as caught:
        assert_transitions(state, RETRIED)
    assert str(caught.value).splitlines() == [
        "The task run 'the only one' did not enter the expected states (-), but others (+):",
        "    Pending",
        "    Running",
        "  - AwaitingRetry",
        "  - Retrying",
        "  - Completed",
        "  + Failed",
        "Its last state: Failed('Task run encountered an exception.')",
    ]


def test_runs_that_nobody_knows_are_refused(clock: FakeClock) -> None:
    with pytest.raises(ConfigurationError, match="no run for Completed"):
        transitions_of(Completed())
    number: Any = 3
    with pytest.raises(ConfigurationError, match="record, future, state or UUID, not 3"):
        assert_transitions(number, [])
    with pytest.raises(ConfigurationError, match="no run for UUID"):
        assert_transitions(uuid4(), [])
