"""Task runners: where the tasks go that a flow submits.

`ConcurrentTaskRunner` is the default. Async tasks run in the flow's own event loop under each.
"""

from __future__ import annotations

import os
import sys
from typing import Literal, TypeAlias, get_args

import msgspec
from typing_extensions import override

from penstock._model import checks
from penstock._model.publishing import publish
from penstock._waiting.free_threads import AbandonedThread, abandoned_threads
from penstock.exceptions import ConfigurationError

__all__ = [
    "AbandonedThread",
    "ConcurrentTaskRunner",
    "ProcessTaskRunner",
    "SequentialTaskRunner",
    "StartMethod",
    "TaskRunner",
    "abandoned_threads",
]

StartMethod: TypeAlias = Literal["spawn", "forkserver", "fork"]
"""How multiprocessing starts a process."""


class TaskRunner:
    """Says where submitted tasks run.

    A runner is data: runners that are equal share their workers, so a frozen `msgspec.Struct` or
    dataclass that has this as a base serves best.
    """

    __slots__ = ()

    @property
    def name(self) -> str:
        """As the logs call it: the name of its class."""
        return type(self).__name__

    @property
    def is_sequential(self) -> bool:
        """Whether a task starts only after the one that the same parent submitted before."""
        return False

    @property
    def max_threads(self) -> int | None:
        """How many threads of this process run its code at most; None: as the settings say (40)."""
        return None


class ConcurrentTaskRunner(TaskRunner, msgspec.Struct, frozen=True):
    """Runs tasks side by side: sync ones on anyio's worker threads, async ones on the loop.

    Args:
        max_workers: how many threads at most; None: as the settings say (40).
    """

    max_workers: int | None = None

    def __post_init__(self) -> None:
        checks.integer_or_none(self.max_workers, "max_workers", "ConcurrentTaskRunner", at_least=1)

    @property
    @override
    def max_threads(self) -> int | None:
        return self.max_workers


class SequentialTaskRunner(TaskRunner, msgspec.Struct, frozen=True):
    """Runs tasks one after another, in the order of their submission.

    The tasks that a task submits are a sequence of their own, beside that of their parent.
    """

    @property
    @override
    def is_sequential(self) -> bool:
        return True


class ProcessTaskRunner(TaskRunner, msgspec.Struct, frozen=True):
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
    @override
    def max_threads(self) -> int:
        return self.max_workers or _usable_cpus()


def _usable_cpus() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


publish(__name__, __all__)
