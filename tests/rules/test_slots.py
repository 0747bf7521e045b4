"""When a task run has slots: from before it is Running until it is no more."""

from __future__ import annotations

from typing import Any

import pytest

from penstock import Task
from penstock._rules.effects import AcquireSlots, DeadlinePassed, Error, Interrupted, Value
from penstock.exceptions import StoreError
from tests.rules.play import (
    BAD_CODE,
    CACHED,
    FLOW,
    WORK,
    PlayedSlots,
    Stage,
    flow_run,
    task_run,
    work,
)

TAGGED = Task[..., Any](work, tags=["limited", "other"])
FAILS = Error(BAD_CODE)


@pytest.fixture
def stage() -> Stage:
    """A stage with one limit."""
    made = Stage()
    made.limits = {"limited"}
    return made


def test_a_run_without_tags_asks_for_no_slot(stage: Stage) -> None:
    assert stage.play(task_run(WORK)).effects_of(AcquireSlots) == []


def test_a_flow_run_asks_for_no_slot(stage: Stage) -> None:
    """Limits hold task runs."""
    flow = FLOW.with_options(tags=["limited"])
    assert stage.play(flow_run(flow), invoke=[Value(1)]).effects_of(AcquireSlots) == []


def test_a_run_goes_on_where_its_tags_have_no_limit() -> None:
    played = Stage().play(task_run(TAGGED))
    assert played.steps == ["Pending", "acquire", "acquire slots", "Running", "invoke", "Completed"]
    assert played.effects_of(AcquireSlots) == [AcquireSlots(("limited", "other"))]


def test_a_run_has_its_slot_while_it_is_running(stage: Stage) -> None:
    """It waits for it without a worker, and asks for one again."""
    run, seen = task_run(TAGGED), list[int]()
    played = stage.play(run, invoke=[lambda: seen.append(stage.taken["limited"])])
    assert seen == [1]
    assert stage.taken["limited"] == 0
    assert run.slots is None
    assert played.steps == [
        "Pending",
        "acquire",
        "acquire slots",
        "wait",
        "acquire",
        "Running",
        "invoke",
        "Completed",
        "release slots",
    ]


@pytest.mark.parametrize("outcome", [FAILS, DeadlinePassed(), Interrupted()])
def test_slots_are_given_back_however_a_run_ends(stage: Stage, outcome: Any) -> None:
    played = stage.play(task_run(TAGGED), invoke=[outcome])
    assert played.steps[-1] == "release slots"
    assert stage.taken["limited"] == 0


def test_slots_are_given_back_before_a_commit_is_waited_for() -> None:
    stage = Stage(strict=True)
    stage.limits = {"limited"}
    assert stage.play(task_run(TAGGED)).steps[-3:] == ["Completed", "release slots", "commit"]


def test_a_run_has_no_slot_between_its_attempts(stage: Stage) -> None:
    run = task_run(TAGGED.with_options(retries=1, retry_delay_seconds=5))
    seen: list[int] = []
    played = stage.play(
        run, invoke=[FAILS, None], sleep=[lambda: seen.append(stage.taken["limited"])]
    )
    assert seen == [0]
    assert played.steps[4:] == [
        "acquire",
        "Running",
        "invoke",
        "AwaitingRetry",
        "release slots",
        "sleep 5",
        "acquire",
        "acquire slots",
        "wait",
        "acquire",
        "Retrying",
        "invoke",
        "Completed",
        "release slots",
    ]


def test_a_run_has_its_slot_while_its_condition_is_asked(stage: Stage) -> None:
    """It is still Running."""
    seen: list[int] = []

    def condition(*_: object) -> bool:
        seen.append(stage.taken["limited"])
        return False

    stage.play(
        task_run(TAGGED.with_options(retries=1, retry_condition_fn=condition)),
        invoke=[FAILS, None],
    )
    assert (seen, stage.taken["limited"]) == ([1], 0)


def test_a_cached_result_needs_no_slot(stage: Stage) -> None:
    cached = CACHED.with_options(tags=["limited"])
    stage.play(task_run(cached))
    assert stage.play(task_run(cached)).effects_of(AcquireSlots) == []


def test_a_run_that_is_ended_while_it_waits_asks_no_more(stage: Stage) -> None:
    played = stage.play(task_run(TAGGED), wait=[Interrupted()])
    assert played.steps[-3:] == ["wait", "Cancelled", "release slots"]
    assert stage.taken["limited"] == 0


@pytest.mark.parametrize("attempts", [1, 2])
def test_a_run_that_can_never_have_a_slot_has_crashed(stage: Stage, attempts: int) -> None:
    """In its first attempt and in a later one."""
    error = StoreError("the disk is gone")

    def refused() -> Value:
        slots = PlayedSlots(["limited"], stage.taken)
        slots.error = error
        return Value(slots)

    played = stage.play(
        task_run(TAGGED.with_options(retries=1)),
        invoke=[FAILS] * (attempts - 1),
        acquire_slots=[None] * (attempts - 1) + [refused],
    )
    assert played.steps[-3:] == ["wait", "Crashed", "release slots"]
    assert played.state.message == "The run could not go on: the disk is gone"
    assert played.state.result(raise_on_failure=False) is error
