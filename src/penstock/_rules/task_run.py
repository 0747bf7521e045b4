"""A live task run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from penstock._model.codecs import encode_history
from penstock._model.definition import Definition
from penstock._model.rows import TaskRow
from penstock._rules.flow_run import FlowRun
from penstock._rules.options import TaskOptions
from penstock._rules.run import Parent, Run, attempts_in
from penstock.exceptions import RunCancelled, UsageError
from penstock.states import (
    StateType,
)

if TYPE_CHECKING:
    from penstock._rules.flow_run import FlowRun


class TaskRun(Run[TaskOptions]):
    """A live task run."""

    __slots__ = ("claimed_key", "given_name", "number")

    number: int

    def __init__(
        self,
        options: TaskOptions,
        parent: Parent,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        passes: bool = False,
    ) -> None:
        Run.__init__(self, options, parent, args, kwargs, passes)
        self.claimed_key: str | None = None
        self.given_name: str = ""
        earlier = self.earlier
        if isinstance(earlier, TaskRun):
            self.number, self.given_name = earlier.number, earlier.given_name
        else:
            self.number = options.next_number()

    def join_silently(self, parent: Parent) -> None:
        """Belong to the flow run of `parent`, without its knowing of a run that never begins.

        Raises:
            UsageError: an argument is a future that has not ended.
        """
        self.flow_run: FlowRun | None = None if parent is None else parent.flow_run_of_code()
        if not all(run.is_set() for run in self.upstream_runs):
            raise UsageError("An argument is a future that has not ended; wait for it first.")
        self.resolve_arguments()

    def refuse_calls_after_end(self) -> None:
        """See `Run`; one that completed may have left some code."""
        if self.history[-1].type is not StateType.COMPLETED:
            raise RunCancelled(f"The task run {self.name!r} has ended; it can start nothing more.")

    @property
    def name(self) -> str:
        """Such as `hello_task-e97fb216-0`."""
        return self.given_name or task_run_name(self.definition, self.number)

    @property
    def _ids(self) -> tuple[bytes | None, bytes | None]:
        return self.run_id, None if self.flow_run is None else self.flow_run.run_id

    def row(self, length: int, payload: bytes | None) -> TaskRow:
        """See `Source`."""
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

    def rename(self, name: str) -> None:
        """See `Run`."""
        self.given_name = name


def task_run_name(definition: Definition, number: int) -> str:
    """The name of the task run with this number."""
    return f"{definition.name}-{definition.id & 0xFFFFFFFF:08x}-{number}"
