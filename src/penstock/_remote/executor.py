"""The port of whatever runs jobs elsewhere: many are in flight, and none of them holds a thread.

Why: docs/inside/remote.md, "A job is started and its end is called back".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from penstock._remote.jobs import Job
from penstock._remote.outcomes import JobOutcome


class Executor(ABC):
    """Runs jobs elsewhere; its methods may be called from any thread.

    Capacity is reserved for a run first: its states say that it runs when its job goes out, and not
    while it waits for its turn. Each reservation is used up by one `start`, or given back by one
    `release`.
    """

    def reserve(self, begin: Callable[[], object], /) -> None:
        """Call `begin` when another job can be taken: at once, or later in any thread.

        It is called once, also when the executor is closed, and must return soon.
        """
        begin()

    def release(self) -> None:  # noqa: B027  # where capacity has no limit there is nothing to do
        """Give a reservation back that no job has come of."""

    @abstractmethod
    def start(self, job: Job, done: Callable[[JobOutcome], object], /) -> None:
        """Have the job run, and return at once.

        `done` is called once, whatever happens, in any thread; it must return soon. It is not
        called where this raises.

        Raises:
            NotTransferable: the job cannot be sent.
            RuntimeError: no thread can be started any more, as the interpreter ends.
        """

    @abstractmethod
    def stop(self, job: Job, /) -> None:
        """End a job that nobody wants any more; one that has ended, or never began, is left alone.

        Its outcome is `Stopped`, unless it has come before.
        """

    @abstractmethod
    def close(self) -> None:
        """End all that it has started; the outcome of every job that is left is `Stopped`."""
