"""Runs that are waited for, and taken in the order of their submission or in that of their ends."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque

from typing_extensions import override

from penstock._drivers.deadlocks import refuse_deadlock
from penstock._rules.run import Run
from penstock._waiting.latch import Latch


class PendingRuns(ABC):
    """Submitted runs, for one consumer that takes them.

    Attributes:
        count: how many were added and not yet taken.
    """

    def __init__(self) -> None:
        self.count = 0

    @abstractmethod
    def add(self, run: Run) -> None:
        """Add a run."""

    @abstractmethod
    def next(self, timeout: float | None = None) -> Run:
        """Take the next run, once it has ended.

        Raises:
            TimeoutError: it has not ended within `timeout` seconds.
            WouldDeadlock: called in the thread of the event loop that it needs.
        """

    @abstractmethod
    async def next_async(self) -> Run:
        """The same, in an event loop."""

    def overdue(self) -> TimeoutError:
        """The error for runs that have not ended in the time for all of them."""
        return TimeoutError(f"{self.count} of the runs had not ended in time.")


class InOrder(PendingRuns):
    """Gives runs in the order of their submission."""

    def __init__(self) -> None:
        super().__init__()
        self._runs: deque[Run] = deque()

    @override
    def add(self, run: Run) -> None:
        self._runs.append(run)
        self.count += 1

    @override
    def next(self, timeout: float | None = None) -> Run:
        run = self._runs[0]
        if not run.is_set():
            refuse_deadlock(run, "`async for`")
            if not run.wait(timeout):
                raise self.overdue()
        return self._popped()

    @override
    async def next_async(self) -> Run:
        await self._runs[0].wait_async()
        return self._popped()

    def _popped(self) -> Run:
        self.count -= 1
        return self._runs.popleft()


class AsTheyEnd(PendingRuns):
    """Gives runs in the order in which they end."""

    def __init__(self) -> None:
        super().__init__()
        self._ended: deque[Run] = deque()
        self._last_added: Run | None = None
        self._arrived = Latch()

    @override
    def add(self, run: Run) -> None:
        self.count += 1
        self._last_added = run
        run.add_callback(lambda: self._arrive(run))

    def _arrive(self, run: Run) -> None:
        self._ended.append(run)
        self._arrived.set()

    @override
    def next(self, timeout: float | None = None) -> Run:
        ends_at = None if timeout is None else time.monotonic() + timeout
        while not self._ended:
            arrived = self._new_latch()
            if not self._ended:
                if self._last_added is not None:
                    refuse_deadlock(self._last_added, "`async for`")
                left = None if ends_at is None else max(0.0, ends_at - time.monotonic())
                if not arrived.wait(left):
                    raise self.overdue()
        return self._popped()

    @override
    async def next_async(self) -> Run:
        while not self._ended:
            arrived = self._new_latch()
            if not self._ended:
                await arrived.wait_async()
        return self._popped()

    def _new_latch(self) -> Latch:
        # There is no lock. A run that ends appends itself first and reads the latch after that; the
        # consumer makes a latch first and looks for runs after that. So either the consumer sees
        # the run, or the run sees this latch and sets it.
        self._arrived = Latch()
        return self._arrived

    def _popped(self) -> Run:
        self.count -= 1
        return self._ended.popleft()
