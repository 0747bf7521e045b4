"""A live task run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from typing_extensions import override

from penstock._model.codecs import encode_history
from penstock._model.definition import Definition
from penstock._model.rows import TaskRow
from penstock._rules.options import TaskOptions
from penstock._rules.run import Parent, Run
from penstock._rules.run_views import TaskRunContext, TaskRunView, attempts_in
from penstock.exceptions import RunCancelled, StoreError
from penstock.states import StateType


class Slots(Protocol):
    """What a task run has of limits, or has asked for: a latch that is set when it has it."""

    error: StoreError | None
    """Why it never will."""

    def give_back(self) -> None:
        """Give the slots back, or withdraw the request for them."""


class TaskRun(Run[TaskOptions]):
    """A live task run.

    Attributes:
        claimed_key: the cache key that it computes the result of; None: it has claimed none.
        given_name: as the user has named it; empty: its name follows from its number.
        number: how many runs of its task came before it in this process, once it is admitted.
        slots: what it has of limits, or has asked for.
    """

    __slots__ = ("claimed_key", "given_name", "number", "slots")

    def __init__(
        self,
        options: TaskOptions,
        parent: Parent,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        tags: frozenset[str] | None = None,
    ) -> None:
        Run.__init__(self, options, parent, args, kwargs, tags)
        self.claimed_key: str | None = None
        self.given_name: str = ""
        self.number: int = 0
        self.slots: Slots | None = None

    @override
    def take_number(self) -> None:
        self.number = self.options.next_number()

    @override
    def take_over(self, earlier: Run) -> None:
        super().take_over(earlier)
        assert isinstance(earlier, TaskRun), "what is at one position has one definition"
        self.number, self.given_name = earlier.number, earlier.given_name

    @override
    def refuse_calls_after_end(self) -> None:
        if self.history[-1].type is not StateType.COMPLETED:  # which may have left some code
            raise RunCancelled(f"The task run {self.name!r} has ended; it can start nothing more.")

    @property
    @override
    def name(self) -> str:
        """Such as `hello_task-e97fb216-0`."""
        return self.given_name or task_run_name(self.definition, self.number)

    @override
    def view(self) -> TaskRunView:
        definition, flow_run = self.definition, self.flow_run
        return TaskRunView(
            **self._seen(),
            task_name=definition.name,
            task_key=self.options.task_key,
            task_version=definition.version,
            flow_run_id=None if flow_run is None else flow_run.id,
            parent_task_run_id=self.parent_task_run_id,
        )

    def context(self) -> TaskRunContext:
        """What its code is given of it."""
        return TaskRunContext(self.view(), self.options)

    @property
    @override
    def _ids(self) -> tuple[bytes | None, bytes | None]:
        return self.run_id, None if self.flow_run is None else self.flow_run.run_id

    @override
    def row(self, length: int, payload: bytes | None) -> TaskRow:
        history = self.history[:length]
        last, definition = history[-1], self.definition
        flow_run, parent = self.flow_run, self.parent
        return TaskRow(
            self.run_id,
            definition.id,
            None if flow_run is None else flow_run.run_id,
            None if parent is None else parent.run_id,
            self.number,
            self.ordinal,
            last.type._value_,
            last.name,
            attempts_in(history),
            b"".join(self.upstream_run_ids()) if self.upstreams else b"",
            encode_history(history),
            payload,
            self.given_name,
        )

    @override
    def rename(self, name: str) -> None:
        self.given_name = name


def task_run_name(definition: Definition, number: int) -> str:
    """The name of the task run with this number."""
    return f"{definition.name}-{definition.id & 0xFFFFFFFF:08x}-{number}"
