"""Task runners: where the tasks go that a flow submits.

`ConcurrentTaskRunner` is the default. Async tasks run in the flow's own event loop under either.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import msgspec

from penstock._engine.lanes import Lanes, Workers
from penstock._engine.loops import LoopThread
from penstock.exceptions import ConfigurationError

__all__ = ["ConcurrentTaskRunner", "SequentialTaskRunner", "TaskRunner", "Workers"]


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
        workers = self.max_workers
        if workers is not None and (type(workers) is not int or workers < 1):
            raise ConfigurationError(
                f"ConcurrentTaskRunner: max_workers must be a whole number ≥ 1, not {workers!r}."
            )

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
