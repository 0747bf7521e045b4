"""What the code of a run can know of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock._engine.runs import FlowRun, TaskRun

if TYPE_CHECKING:
    from penstock.tasks import AsyncTask, Task


__all__ = ["FlowRun", "TaskRun", "TaskRunContext"]


class TaskRunContext:
    """A task run, as a cache key function sees it.

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
