"""Task runners: where the tasks go that a flow submits.

`ConcurrentTaskRunner` is the default. Async tasks run in the flow's own event loop under each.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, cast, get_args, runtime_checkable

import msgspec

from penstock._model import checks
from penstock._model.publishing import publish
from penstock._model.settings import Settings
from penstock._rules.effects import Outcome
from penstock._rules.task_run import TaskRun
from penstock._waiting.lanes import Lanes
from penstock._waiting.loops import LoopThread
from penstock._waiting.threads import AbandonedThread, abandoned_threads
from penstock._waiting.workers import Workers
from penstock.exceptions import ConfigurationError

if TYPE_CHECKING:
    from multiprocessing.context import SpawnContext

__all__ = [
    "AbandonedThread",
    "ConcurrentTaskRunner",
    "ProcessTaskRunner",
    "RemoteCalls",
    "SequentialTaskRunner",
    "StartMethod",
    "TaskRunner",
    "Workers",
    "abandoned_threads",
]

StartMethod: TypeAlias = Literal["spawn", "forkserver", "fork"]
"""How multiprocessing starts a process."""


class RemoteCalls(Protocol):
    """Calls the functions of runs outside of this process."""

    def call(self, run: TaskRun, settings: Settings, is_wanted: Callable[[], bool]) -> Outcome:
        """Call the run's function with its arguments, within its time; in a worker's thread.

        Whoever wants the call no more first lets `is_wanted` give False, and then calls `stop`.
        """
        ...

    def stop(self, run: TaskRun) -> None:
        """End a call that is wanted no more, if there is one; from any thread."""
        ...

    def close(self) -> None:
        """End all that is left of it; no call comes after this."""
        ...


@runtime_checkable
class TaskRunner(Protocol):
    """Says where submitted tasks run; equal ones share their workers."""

    @property
    def name(self) -> str:
        """As the logs call it."""
        ...

    @property
    def is_sequential(self) -> bool:
        """Whether a task starts only after the one submitted before it has ended."""
        ...

    def start_workers(self, host: LoopThread, default_max_workers: int) -> Workers:
        """Make the workers, hosted by the engine's loop."""
        ...


class ConcurrentTaskRunner(msgspec.Struct, frozen=True):
    """Runs tasks side by side: sync ones on anyio's worker threads, async ones on the loop.

    Args:
        max_workers: how many threads at most; None: as the settings say (40).
    """

    max_workers: int | None = None

    def __post_init__(self) -> None:
        checks.integer_or_none(self.max_workers, "max_workers", "ConcurrentTaskRunner", at_least=1)

    @property
    def name(self) -> str:
        """As the logs call it."""
        return type(self).__name__

    @property
    def is_sequential(self) -> bool:
        """It is not."""
        return False

    def start_workers(self, host: LoopThread, default_max_workers: int) -> Workers:
        """See `TaskRunner`."""
        return Lanes(host, self.max_workers or default_max_workers)


class SequentialTaskRunner(msgspec.Struct, frozen=True):
    """Runs tasks one after another, in the order of their submission.

    The tasks that a task submits are a sequence of their own, beside that of their parent.
    """

    @property
    def name(self) -> str:
        """As the logs call it."""
        return type(self).__name__

    @property
    def is_sequential(self) -> bool:
        """It is."""
        return True

    def start_workers(self, host: LoopThread, default_max_workers: int) -> Workers:
        """See `TaskRunner`. Each parent has one task at work; different ones do not wait."""
        return Lanes(host, default_max_workers)


class ProcessTaskRunner(msgspec.Struct, frozen=True):
    """Runs sync tasks in processes of their own, where they can be killed; async ones in the loop.

    The function, its arguments and its result go from process to process, so they have to be
    picklable, and the function has to be found by name: at the top of a module. States, retries,
    caching, hooks and the history stay in the process of the flow.

    Args:
        max_workers: how many processes at most; None: as many as this process may use CPUs.
        start_method: how multiprocessing starts them. `spawn` is safe everywhere; `fork` is not
            where the process has threads, as it has with Penstock.
        memory_limit_bytes: how much memory each process may hold, as Linux counts its private
            data; the task that asks for more gets a `MemoryError`. On Linux alone.
        max_tasks_per_worker: a process ends after so many tasks, and another one takes its place.

    Raises:
        ConfigurationError: an argument has an impossible value, or the platform has no such thing.
    """

    max_workers: int | None = None
    start_method: StartMethod = "spawn"
    memory_limit_bytes: int | None = None
    max_tasks_per_worker: int | None = None

    def __post_init__(self) -> None:
        for argument in ("max_workers", "memory_limit_bytes", "max_tasks_per_worker"):
            checks.integer_or_none(
                getattr(self, argument), argument, "ProcessTaskRunner", at_least=1
            )
        methods = get_args(StartMethod)
        checks.one_of(self.start_method, methods, "start_method", "ProcessTaskRunner")
        if sys.platform == "win32" and self.start_method != "spawn":
            raise ConfigurationError(
                f"ProcessTaskRunner: Windows has no start_method {self.start_method!r}, only spawn."
            )
        if self.memory_limit_bytes is not None and sys.platform != "linux":
            raise ConfigurationError(
                f"ProcessTaskRunner: memory_limit_bytes needs Linux; {sys.platform} does not hold "
                f"processes to such a limit. Leave it out."
            )

    @property
    def name(self) -> str:
        """As the logs call it."""
        return type(self).__name__

    @property
    def is_sequential(self) -> bool:
        """It is not."""
        return False

    def start_workers(self, host: LoopThread, default_max_workers: int) -> Workers:  # noqa: ARG002  # that is a number of threads
        """See `TaskRunner`. Processes are started when there are tasks for them."""
        import multiprocessing

        from penstock._remote.pipes.pool import ProcessPool

        # Whatever the method, a context has the same attributes.
        context = cast("SpawnContext", multiprocessing.get_context(self.start_method))
        pool = ProcessPool(host, context, self.memory_limit_bytes, self.max_tasks_per_worker)
        return Lanes(host, self.max_workers or _usable_cpus(), pool)


def _usable_cpus() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


publish(__name__, __all__)
