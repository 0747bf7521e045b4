"""What the code of a run can know of the run: a context only looks, and changes nothing."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from penstock._model.publishing import publish
from penstock._rules.current import current_run
from penstock._rules.flow_run import FlowRun
from penstock._rules.task_run import TaskRun
from penstock.exceptions import MissingContextError

if TYPE_CHECKING:
    from penstock.flows import AsyncFlow, Flow
    from penstock.tasks import AsyncTask, Task


__all__ = ["FlowRun", "FlowRunContext", "TaskRun", "TaskRunContext", "get_run_context"]


class FlowRunContext:
    """A flow run, as its own code sees it.

    Attributes:
        flow_run: the run; it has an `id`, a `name`, `tags`, `parameters` and a `run_count`.
    """

    __slots__ = ("flow_run",)
    flow_run: FlowRun

    def __init__(self, flow_run: FlowRun) -> None:
        self.flow_run = flow_run

    @property
    def flow(self) -> Flow[..., Any] | AsyncFlow[..., Any]:
        """The flow that runs."""
        return self.flow_run.options  # type: ignore[return-value]  # only flows make flow runs

    @property
    def parameters(self) -> dict[str, Any]:
        """The arguments by name, defaults included, as they were converted."""
        return self.flow_run.parameters

    @property
    def start_time(self) -> datetime:
        """When the flow's code was first called (UTC)."""
        return self.flow_run.start_time


class TaskRunContext:
    """A task run, as its own code sees it, and as a cache key function does.

    Attributes:
        task_run: the run; it has an `id`, a `name`, `tags`, `parameters` and a `run_count`.
    """

    __slots__ = ("task_run",)
    task_run: TaskRun

    def __init__(self, task_run: TaskRun) -> None:
        self.task_run = task_run

    @property
    def task(self) -> Task[..., Any] | AsyncTask[..., Any]:
        """The task that runs."""
        return self.task_run.options  # type: ignore[return-value]  # only tasks make task runs

    @property
    def parameters(self) -> dict[str, Any]:
        """The arguments by name, defaults included."""
        return self.task_run.parameters

    @property
    def start_time(self) -> datetime:
        """When the task's code was first called (UTC); before that, when it was submitted."""
        return self.task_run.start_time


def get_run_context() -> FlowRunContext | TaskRunContext:
    """The task run or flow run whose code calls this: its function, a hook, a name function.

    Raises:
        MissingContextError: called outside of runs; `penstock.runtime` gives None there.
    """
    run = current_run.get()
    if run is None:
        raise MissingContextError(
            "There is no run here: get_run_context() is for the code of flows and tasks, and for "
            "their hooks. Code that runs outside of them too can ask penstock.runtime, which "
            "gives None where there is no run."
        )
    return FlowRunContext(run) if isinstance(run, FlowRun) else TaskRunContext(run)


publish(__name__, __all__)
