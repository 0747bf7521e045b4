"""The current run, attribute by attribute: `runtime.flow_run.name`.

Each attribute is looked up when it is read. Where there is no such run, collections are empty,
`run_count` is 0, and all others are None; so the code can be called outside of runs, too.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from penstock._model.ids import id_time
from penstock._rules.current_run import current_run
from penstock._rules.flow_run import FlowRun
from penstock._rules.task_run import TaskRun

__all__ = ["CurrentFlowRun", "CurrentTaskRun", "flow_run", "task_run"]


class CurrentFlowRun:
    """The flow run whose code, or whose task's code, reads this."""

    __slots__ = ()

    @property
    def id(self) -> UUID | None:
        """The run."""
        run = _flow_run()
        return None if run is None else run.id

    @property
    def name(self) -> str | None:
        """Such as `attentive-turaco`."""
        run = _flow_run()
        return None if run is None else run.name

    @property
    def tags(self) -> frozenset[str]:
        """The run's tags."""
        run = _flow_run()
        return frozenset() if run is None else run.tags

    @property
    def parameters(self) -> dict[str, Any]:
        """The arguments by name, defaults included, as they were converted."""
        run = _flow_run()
        return {} if run is None else run.parameters

    @property
    def run_count(self) -> int:
        """Attempts started so far; 1 in the first one."""
        run = _flow_run()
        return 0 if run is None else run.run_count

    @property
    def flow_name(self) -> str | None:
        """The flow's name."""
        run = _flow_run()
        return None if run is None else run.definition.name

    @property
    def flow_version(self) -> str | None:
        """The flow's version."""
        run = _flow_run()
        return None if run is None else run.definition.version

    @property
    def scheduled_start_time(self) -> datetime | None:
        """When the run was made (UTC, to the millisecond), as runs are not scheduled for later."""
        run = _flow_run()
        return None if run is None else id_time(run.run_id)

    @property
    def start_time(self) -> datetime | None:
        """When the flow's code was first called (UTC)."""
        run = _flow_run()
        return None if run is None else run.start_time

    @property
    def parent_flow_run_id(self) -> UUID | None:
        """The flow run that called this one, itself or in one of its tasks; None: there is none."""
        run = _flow_run()
        return None if run is None or run.flow_run is None else run.flow_run.id

    @property
    def root_flow_run_id(self) -> UUID | None:
        """The outermost flow run around this one; its own id where no other flow run called it."""
        run = _flow_run()
        while run is not None and run.flow_run is not None:
            run = run.flow_run
        return None if run is None else run.id


class CurrentTaskRun:
    """The task run whose code reads this."""

    __slots__ = ()

    @property
    def id(self) -> UUID | None:
        """The run."""
        run = _task_run()
        return None if run is None else run.id

    @property
    def name(self) -> str | None:
        """Such as `hello_task-e97fb216-0`."""
        run = _task_run()
        return None if run is None else run.name

    @property
    def tags(self) -> frozenset[str]:
        """The run's tags."""
        run = _task_run()
        return frozenset() if run is None else run.tags

    @property
    def parameters(self) -> dict[str, Any]:
        """The arguments by name, defaults included; futures as their values."""
        run = _task_run()
        return {} if run is None else run.parameters

    @property
    def run_count(self) -> int:
        """Attempts started so far; 1 in the first one."""
        run = _task_run()
        return 0 if run is None else run.run_count

    @property
    def task_name(self) -> str | None:
        """The task's name."""
        run = _task_run()
        return None if run is None else run.definition.name


def _flow_run() -> FlowRun | None:
    run = current_run.get()
    return run.flow_run if isinstance(run, TaskRun) else run


def _task_run() -> TaskRun | None:
    run = current_run.get()
    return run if isinstance(run, TaskRun) else None


flow_run: Final = CurrentFlowRun()
"""The current flow run."""
task_run: Final = CurrentTaskRun()
"""The current task run."""
