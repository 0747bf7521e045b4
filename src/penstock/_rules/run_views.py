"""What the user's code is handed of a run: what was known of it at that moment, and no handle.

A view is made where somebody is handed one, and changes no more; who keeps it keeps the arguments.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
from typing_extensions import override

from penstock.states import State, StateType, Transition

if TYPE_CHECKING:  # up: a context has the flow or the task of its run
    from penstock.flows import AsyncFlow, Flow
    from penstock.tasks import AsyncTask, Task


class RunView(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """A run as it was at one moment.

    Views are equal where they are of the same run with the same states, name and tags.

    Attributes:
        id: the run.
        name: as it is shown to people.
        state: the state that it was in.
        tags: of the flow or task, and of `penstock.tags` around the call.
        parameters: the arguments by name, defaults included.
        expected_start_time: when the run was made (UTC, to the millisecond): nothing schedules it
            for later.
    """

    id: UUID
    name: str
    state: State[Any]
    tags: frozenset[str]
    parameters: dict[str, Any]
    expected_start_time: datetime
    _history: tuple[Transition, ...]

    @property
    def state_name(self) -> str:
        """How its state is called, such as `Retrying`."""
        return self.state.name

    @property
    def state_type(self) -> StateType:
        """What its state means."""
        return self.state.type

    @property
    def run_count(self) -> int:
        """Attempts started so far; 1 in the first one."""
        return attempts_in(self._history)

    @property
    def start_time(self) -> datetime | None:
        """When its code was first called (UTC); None: it had not been."""
        for transition in self._history:
            if transition.type is StateType.RUNNING:
                return _moment(transition)
        return None

    @property
    def end_time(self) -> datetime | None:
        """When it ended (UTC); None: it had not ended."""
        last = self._history[-1]
        return _moment(last) if last.is_final else None

    @property
    def total_run_time(self) -> timedelta:
        """How long its attempts have taken that had ended; without the time between them."""
        seconds = sum(
            after.timestamp - before.timestamp
            for before, after in pairwise(self._history)
            if before.type is StateType.RUNNING
        )
        return timedelta(seconds=seconds)

    @override
    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, RunView)
            and (self.id, self._history) == (other.id, other._history)
            and (self.name, self.tags) == (other.name, other.tags)
        )

    @override
    def __hash__(self) -> int:
        return hash(self.id)

    @override
    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.name!r}: {self.state_name}, run_count={self.run_count}>"
        )


def attempts_in(history: tuple[Transition, ...]) -> int:
    """How many attempts have been started."""
    return [transition.type for transition in history].count(StateType.RUNNING)


def _moment(transition: Transition) -> datetime:
    return datetime.fromtimestamp(transition.timestamp, UTC)


class FlowRunView(RunView, frozen=True, eq=False, kw_only=True):
    """A flow run as it was at one moment: what hooks are given, and what a context has.

    Views are equal where they are of the same run with the same states, name and tags.

    Attributes:
        flow_name: the flow's name.
        flow_version: the flow's version; None: it has none.
        parent_flow_run_id: the flow run that called it, itself or in one of its tasks; None: nobody
            did.
        parent_task_run_id: the task run whose code called it; None: no task's code did.
    """

    flow_name: str
    flow_version: str | None
    parent_flow_run_id: UUID | None
    parent_task_run_id: UUID | None


class TaskRunView(RunView, frozen=True, eq=False, kw_only=True):
    """A task run as it was at one moment: what hooks and conditions are given.

    Views are equal where they are of the same run with the same states, name and tags.

    Attributes:
        task_name: the task's name.
        task_key: which function it is: module and qualified name; of a script, the path of its
            file.
        task_version: the task's version; None: it has none.
        flow_run_id: the flow run that it belongs to; None: it is run on its own.
        parent_task_run_id: the task run whose code called it; None: no task's code did.
    """

    task_name: str
    task_key: str
    task_version: str | None
    flow_run_id: UUID | None
    parent_task_run_id: UUID | None


class FlowRunContext(msgspec.Struct, frozen=True):
    """A flow run, as its own code sees it.

    Attributes:
        flow_run: the run, as it was when the context was asked for.
    """

    flow_run: FlowRunView
    _flow: Any

    @property
    def flow(self) -> Flow[..., Any] | AsyncFlow[..., Any]:
        """The flow that runs."""
        return self._flow  # type: ignore[no-any-return]  # only flows make flow runs

    @property
    def parameters(self) -> dict[str, Any]:
        """The arguments by name, defaults included, as they were converted."""
        return self.flow_run.parameters

    @property
    def start_time(self) -> datetime:
        """When the flow's code was first called (UTC)."""
        return self.flow_run.start_time or self.flow_run.expected_start_time


class TaskRunContext(msgspec.Struct, frozen=True):
    """A task run, as its own code sees it, and as a cache key function does.

    Attributes:
        task_run: the run, as it was when the context was asked for.
    """

    task_run: TaskRunView
    _task: Any

    @property
    def task(self) -> Task[..., Any] | AsyncTask[..., Any]:
        """The task that runs."""
        return self._task  # type: ignore[no-any-return]  # only tasks make task runs

    @property
    def parameters(self) -> dict[str, Any]:
        """The arguments by name, defaults included."""
        return self.task_run.parameters

    @property
    def start_time(self) -> datetime:
        """When the task's code was first called (UTC); before that, when it was submitted."""
        return self.task_run.start_time or self.task_run.expected_start_time
