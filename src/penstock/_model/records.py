"""Records: runs as the history gives them back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID

import msgspec

from penstock._model.codecs import decode_history
from penstock.states import State, Transition


class StoredValue(Protocol):
    """A result that is read when it is asked for."""

    def load(self) -> object:
        """The value.

        Raises:
            ResultUnavailable: it is gone, or cannot be read.
        """


class FlowRunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A flow run as the history gives it back.

    Attributes:
        id: the run.
        name: such as `attentive-turaco`.
        flow: the flow's name.
        version: the flow's version at that time.
        parent_run_id: the run that called it as a subflow; None: it was not called by a run.
        parameters: its arguments; what msgpack cannot say, as its `repr`.
        tags: of the flow, and of `penstock.tags` around the call.
        run_count: attempts that it started.
        created_at: when it was submitted (UTC, to the millisecond).
        state: the last state; `state.result()` reads the stored value.
        states: all its states, in order.
    """

    id: UUID
    name: str
    flow: str
    version: str | None
    parent_run_id: UUID | None
    parameters: dict[str, object]
    tags: frozenset[str]
    run_count: int
    created_at: datetime
    states: tuple[State[object], ...]

    @property
    def state(self) -> State[object]:
        """The last state."""
        return self.states[-1]


class TaskRunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A task run as the history gives it back.

    Attributes:
        id: the run.
        name: such as `hello_task-e97fb216-0`.
        task: the task's name.
        flow_run_id: the flow run that it belongs to; None: it was run on its own.
        parent_run_id: the run, of a flow or a task, whose code called it.
        tags: of the task, and of `penstock.tags` around the call.
        run_count: attempts that it started; 0: served from the cache, or never ready.
        upstream_ids: the runs whose futures were its arguments.
        created_at: when it was submitted (UTC, to the millisecond).
        states: all its states, in order.
    """

    id: UUID
    name: str
    task: str
    version: str | None
    flow_run_id: UUID | None
    parent_run_id: UUID | None
    tags: frozenset[str]
    run_count: int
    upstream_ids: tuple[UUID, ...]
    created_at: datetime
    states: tuple[State[object], ...]

    @property
    def state(self) -> State[object]:
        """The last state."""
        return self.states[-1]


class Graph(msgspec.Struct, frozen=True):
    """A flow run with all that it ran, and what each run waited for.

    Attributes:
        flow_run: the run.
        task_runs: its task runs, in the order of their submission.
        subflow_runs: the flow runs that it called.
        edges: (upstream, downstream) ids of task runs.
    """

    flow_run: FlowRunRecord
    task_runs: tuple[TaskRunRecord, ...]
    subflow_runs: tuple[FlowRunRecord, ...]
    edges: tuple[tuple[UUID, UUID], ...]


def state_of(
    transition: Transition,
    task_run: bytes | None,
    flow_run: bytes | None,
    *,
    value: object = msgspec.UNSET,
    error: BaseException | None = None,
    child_states: tuple[State[object], ...] = (),
    stored: StoredValue | None = None,
) -> State[Any]:
    """The state that a run has entered, for people."""
    return State(
        transition.type,
        transition.name,
        transition.message,
        datetime.fromtimestamp(transition.timestamp, UTC),
        transition.details,
        child_states,
        value,
        error,
        None if stored is None else stored.load,
        task_run,
        flow_run,
    )


def states_of(
    history: bytes, stored: StoredValue | None, task_run: bytes | None, flow_run: bytes | None
) -> tuple[State[object], ...]:
    """The states in a stored history; the last one gives the stored value."""
    *before, last = decode_history(history)
    return (
        *(state_of(transition, task_run, flow_run) for transition in before),
        state_of(last, task_run, flow_run, stored=stored),
    )
