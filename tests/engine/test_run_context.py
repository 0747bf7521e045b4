"""Code of a run knows the run: in threads, in loops, in hooks and in all else that a run calls."""

from __future__ import annotations

import contextvars
import threading
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, cast
from uuid import UUID

import anyio
import anyio.lowlevel
import pytest

from penstock import (
    FlowRunContext,
    TaskRunContext,
    flow,
    get_run_context,
    history,
    runtime,
    task,
)
from penstock.context import FlowRunView, TaskRunView
from penstock.exceptions import MissingContextError, UsageError
from penstock.states import State
from tests.conftest import RunLoop

pytestmark = pytest.mark.usefixtures("engine")


def task_context() -> TaskRunContext:
    context = get_run_context()
    assert isinstance(context, TaskRunContext)
    return context


def flow_context() -> FlowRunContext:
    context = get_run_context()
    assert isinstance(context, FlowRunContext)
    return context


@task(tags=["light"])
def whoami(x: int, *, y: int = 2) -> tuple[UUID | None, UUID | None, dict[str, Any], str]:
    assert task_context().task_run.id == runtime.task_run.id
    return (
        runtime.task_run.id,
        runtime.flow_run.id,
        runtime.task_run.parameters,
        threading.current_thread().name,
    )


@task
async def whoami_async(x: int) -> tuple[UUID | None, UUID | None, dict[str, Any]]:
    await anyio.lowlevel.checkpoint()
    return runtime.task_run.id, runtime.flow_run.id, runtime.task_run.parameters


def test_outside_of_runs_the_context_is_an_error_and_the_runtime_is_empty() -> None:
    with pytest.raises(MissingContextError, match=r"penstock\.runtime") as raised:
        get_run_context()
    assert isinstance(raised.value, UsageError)
    run = runtime.flow_run
    assert (run.id, run.name, run.flow_name, run.flow_version) == (None, None, None, None)
    assert (run.scheduled_start_time, run.start_time) == (None, None)
    assert (run.parent_flow_run_id, run.root_flow_run_id) == (None, None)
    assert (run.tags, run.parameters, run.run_count) == (frozenset(), {}, 0)
    of_task = runtime.task_run
    assert (of_task.id, of_task.name, of_task.task_name) == (None, None, None)
    assert (of_task.tags, of_task.parameters, of_task.run_count) == (frozenset(), {}, 0)


def test_a_flow_sees_itself_and_no_task() -> None:
    @flow(version="v1", tags=["a", "b"], flow_run_name="sees {x}")
    def sees(x: int, y: list[int] | None = None) -> UUID | None:
        context, run = flow_context(), runtime.flow_run
        assert context.flow is sees
        assert context.parameters == run.parameters == {"x": 5, "y": None}
        assert (context.flow_run.id, context.flow_run.name) == (run.id, "sees 5")
        assert (run.name, run.flow_name, run.flow_version) == ("sees 5", "sees", "v1")
        assert (run.tags, run.run_count) == (frozenset({"a", "b"}), 1)
        assert context.start_time == run.start_time
        assert run.scheduled_start_time is not None
        assert run.start_time is not None
        assert run.scheduled_start_time.replace(microsecond=0) <= run.start_time
        assert (run.parent_flow_run_id, run.root_flow_run_id) == (None, run.id)
        assert runtime.task_run.id is None
        return run.id

    before = datetime.now(UTC)
    run_id = sees("5")  # type: ignore[arg-type]  # it is converted
    record = history.flow_runs(flow="sees")[0]
    assert record.id == run_id
    assert record.states[1].timestamp >= before


def test_a_task_sees_itself_and_its_flow_wherever_it_runs() -> None:
    @flow
    def calls() -> UUID | None:
        own = runtime.flow_run.id
        direct, submitted = whoami(1, y=3), whoami.submit(whoami.submit(1).wait(), y=4)
        assert direct[1:] == (own, {"x": 1, "y": 3}, threading.current_thread().name)
        assert submitted.result()[:3] == (submitted.task_run_id, own, {"x": True, "y": 4})
        assert submitted.result()[3] != direct[3]
        assert runtime.task_run.id is None
        return own

    run_id = calls()
    assert all(run.flow_run_id == run_id for run in history.task_runs(task="whoami"))
    assert whoami(1)[1] is None


def test_async_code_sees_its_own_run_between_others(run_loop: RunLoop) -> None:
    """Many tasks take turns in one loop and on workers, and none sees another's run."""

    @flow
    async def calls() -> None:
        own = runtime.flow_run.id
        mine = [whoami_async.submit(number) for number in range(100)]
        others = [whoami.submit(number) for number in range(100)]
        for number, (one, other) in enumerate(zip(mine, others, strict=True)):
            assert await one == (one.task_run_id, own, {"x": number})
            assert (await other)[:3] == (other.task_run_id, own, {"x": number, "y": 2})
        assert (await whoami_async(1))[1] == own
        assert (await whoami.run_async(1))[1] == own
        assert flow_context().flow_run.id == own

    run_loop(calls)


def test_subflows_know_their_parent_and_their_root() -> None:
    @flow
    def inner() -> tuple[UUID | None, UUID | None, UUID | None]:
        run = runtime.flow_run
        return run.id, run.parent_flow_run_id, run.root_flow_run_id

    @task
    def calls_inner() -> tuple[UUID | None, UUID | None, UUID | None]:
        return inner()

    @flow
    def middle() -> tuple[UUID | None, ...]:
        return (runtime.flow_run.id, *calls_inner())

    @flow
    def outer() -> None:
        own, (middle_id, inner_id, parent, root) = runtime.flow_run.id, middle()
        assert (parent, root) == (middle_id, own)
        assert len({own, middle_id, inner_id}) == 3
        assert runtime.flow_run.id == own

    outer()


def test_names_conditions_keys_and_hooks_see_the_run() -> None:
    seen: dict[str, UUID | None] = {}

    def name() -> str:
        seen["name"] = runtime.task_run.id
        return f"{runtime.task_run.task_name} of {runtime.flow_run.flow_name}"

    def key(context: TaskRunContext, parameters: dict[str, Any]) -> str:
        assert context.start_time <= datetime.now(UTC)
        assert context.parameters == parameters == runtime.task_run.parameters
        seen["key"] = runtime.task_run.id
        return str(runtime.task_run.id)

    def condition(_task: Any, _run: TaskRunView, _state: State[Any]) -> bool:
        seen[f"condition {runtime.task_run.run_count}"] = runtime.task_run.id
        return True

    def hook(_task: Any, run: TaskRunView, state: State[Any]) -> None:
        assert task_context().task_run == run
        assert runtime.task_run.parameters == {"x": 5}
        seen[f"{state.name} {runtime.task_run.run_count}"] = runtime.task_run.id

    @task(
        retries=1,
        task_run_name=name,
        retry_condition_fn=condition,
        cache_key_fn=key,
        on_running=[hook],
        on_failure=[hook],
    )
    def fails(x: int) -> None:
        seen[runtime.task_run.name or ""] = runtime.task_run.id
        raise ValueError("no")

    @flow
    def calls() -> None:
        fails.submit(5).wait()

    calls.call_state()
    assert set(seen) == {
        "name", "key", "condition 1", "Running 1", "Failed 2", "fails of calls"
    }  # fmt: skip
    assert set(seen.values()) == {history.task_runs(task="fails")[0].id}


def test_async_hooks_see_the_run(run_loop: RunLoop) -> None:
    seen: list[UUID | None] = []

    async def hook(_flow: Any, run: FlowRunView, _state: State[Any]) -> None:
        await anyio.sleep(0.001)
        assert flow_context().flow_run == run
        seen.append(runtime.flow_run.id)

    @flow(on_completion=[hook])
    async def works() -> UUID | None:
        return runtime.flow_run.id

    @flow(on_completion=[hook])
    def works_sync() -> UUID | None:
        return runtime.flow_run.id

    run_ids = [run_loop(works), works_sync()]
    assert seen == run_ids


def test_hooks_know_the_attempts_of_a_run_that_is_stored_already() -> None:
    """What a run lets go of once it is stored, it keeps where its hooks may ask for it."""
    told: list[tuple[int, datetime | None]] = []

    def hook(_task: Any, run: TaskRunView, _state: State[Any]) -> None:
        history.task_runs(limit=1)  # after which all that was recorded is stored
        told.append((run.run_count, run.start_time))

    attempts: list[datetime] = []

    @task(retries=2, on_completion=[hook])
    def works() -> None:
        attempts.append(task_context().start_time)
        assert runtime.task_run.run_count == len(attempts)
        if len(attempts) < 3:
            raise ValueError("not yet")

    works()
    assert told == [(3, attempts[0])]
    assert len(set(attempts)) == 1


def test_a_retried_flow_counts_its_attempts() -> None:
    @flow(retries=1)
    def counts() -> int:
        if runtime.flow_run.run_count < 2:
            raise ValueError("not yet")
        return runtime.flow_run.run_count

    assert counts() == 2


def test_code_that_goes_on_after_its_run_knows_the_run_and_no_arguments() -> None:
    """As a thread that the user's code has started in a copy of its context."""
    copies: list[contextvars.Context] = []

    @flow
    def leaves_behind(x: int) -> UUID | None:
        copies.append(contextvars.copy_context())
        return runtime.flow_run.id

    run_id = leaves_behind(5)
    assert copies[0].run(lambda: (runtime.flow_run.id, runtime.flow_run.parameters)) == (run_id, {})
    assert copies[0].run(lambda: flow_context().flow.name) == "leaves-behind"


def test_what_is_kept_of_a_run_stays_as_it_was() -> None:
    contexts: list[TaskRunContext] = []
    told: list[TaskRunView] = []

    def hook(_task: Any, run: TaskRunView, _state: State[Any]) -> None:
        told.append(run)

    @task(retries=1, on_running=[hook], on_completion=[hook], tags=["a"], version="2")
    def works(x: int, y: int = 2) -> int:
        contexts.append(task_context())
        if len(contexts) < 2:
            raise ValueError("not yet")
        return x + y

    @flow
    def calls() -> int:
        return works(5)

    assert calls() == 7
    history.task_runs(limit=1)  # after which all is stored, and let go of
    first, second = (context.task_run for context in contexts)
    running, completed = told
    assert (first.state_name, first.run_count, second.state_name) == ("Running", 1, "Retrying")
    assert first.parameters == completed.parameters == contexts[0].parameters == {"x": 5, "y": 2}
    assert running == first
    assert len({running, first, second, completed}) == 3
    assert (completed.run_count, completed.state.result(), first.end_time) == (2, 7, None)
    record = history.task_runs(task="works")[0]
    assert completed.id == record.id
    assert completed.start_time == record.states[1].timestamp == contexts[1].start_time
    assert completed.end_time == record.state.timestamp
    assert completed.expected_start_time == record.created_at
    took = [after.timestamp - at.timestamp for at, after in pairwise(record.states)]
    assert abs(completed.total_run_time - (took[1] + took[3])) < timedelta(milliseconds=1)
    assert (completed.task_name, completed.task_version) == ("works", "2")
    assert completed.task_key == works.task_key
    assert completed.flow_run_id == record.flow_run_id
    assert completed.parent_task_run_id is None
    assert repr(completed) == f"<TaskRunView {completed.name!r}: Completed, run_count=2>"


def test_a_view_has_nothing_that_changes_its_run() -> None:
    contexts: list[TaskRunContext] = []

    @task
    def works() -> None:
        contexts.append(task_context())

    works()
    view: Any = contexts[0].task_run
    assert not {"end", "cancel", "enter", "driver", "options"} & set(dir(view))
    with pytest.raises(AttributeError):
        view.name = "other"
    with pytest.raises(AttributeError):
        cast("Any", contexts[0]).task_run = view


def test_the_view_of_a_subflow_names_the_runs_around_it() -> None:
    told: list[FlowRunView] = []

    @flow(version="v3")
    def inner() -> None:
        told.append(flow_context().flow_run)

    @task
    def calls_inner() -> UUID | None:
        inner()
        return runtime.task_run.id

    @flow
    def outer() -> tuple[UUID | None, UUID | None]:
        inner()
        return runtime.flow_run.id, calls_inner()

    own, in_task = outer()
    by_flow, by_task = told
    assert by_flow.parent_flow_run_id == by_task.parent_flow_run_id == own
    assert (by_flow.parent_task_run_id, by_task.parent_task_run_id) == (None, in_task)
    assert (by_flow.flow_name, by_flow.flow_version) == ("inner", "v3")


def test_code_with_a_timeout_on_a_thread_of_its_own_sees_the_run() -> None:
    @task(timeout_seconds=5)
    def sees() -> UUID | None:
        return task_context().task_run.id

    state = sees.call_state()
    assert state.result() == state.task_run_id
