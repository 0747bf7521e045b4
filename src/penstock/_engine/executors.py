"""Which executor takes the jobs of a task runner: most have none, as threads call their tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from penstock.task_runners import ProcessTaskRunner, TaskRunner

if TYPE_CHECKING:
    from multiprocessing.context import SpawnContext

    from penstock._remote.executor import Executor


def start_executor(runner: TaskRunner, environment: Mapping[str, str]) -> Executor | None:
    """What calls the functions of a runner's tasks outside of this process; None: threads do.

    Args:
        runner: the task runner.
        environment: the settings of the engine, as the environment variables `PENSTOCK_*`.
    """
    if isinstance(runner, ProcessTaskRunner):
        return _start_process_pool(runner, environment)
    return None


def _start_process_pool(runner: ProcessTaskRunner, environment: Mapping[str, str]) -> Executor:
    # Imported where it is used, as few runs go to other processes.
    import multiprocessing

    from penstock._remote.pipes.pool import ProcessPool

    # Whatever the method, a context has the same attributes.
    context = cast("SpawnContext", multiprocessing.get_context(runner.start_method))
    return ProcessPool(
        context,
        environment,
        runner.max_threads,
        runner.memory_limit_bytes,
        runner.max_tasks_per_worker,
    )
