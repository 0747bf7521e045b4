"""Runs in the order in which they end."""

from __future__ import annotations

import time
from collections import deque

from penstock._drivers.deadlocks import refuse_deadlock
from penstock._rules.run import Run
from penstock._waiting.latch import Latch


class Arrivals:
    """Runs that are going to end, for one consumer that takes them.

    Attributes:
        count: how many were added and not yet taken.
    """

    def __init__(self) -> None:
        self._ended: deque[Run] = deque()
        self._last_added: Run | None = None
        self._arrived = Latch()
        self.count = 0

    def add(self, run: Run) -> None:
        """Expect one more."""
        self.count += 1
        self._last_added = run
        run.add_callback(lambda: self._arrive(run))

    def _arrive(self, run: Run) -> None:
        self._ended.append(run)
        self._arrived.set()

    def next(self, timeout: float | None = None) -> Run:
        """The next one that ends.

        Raises:
            TimeoutError: none has ended within `timeout` seconds.
            WouldDeadlock: called in the thread of the event loop that it needs.
        """
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

    async def next_async(self) -> Run:
        """The same, in an event loop."""
        while not self._ended:
            arrived = self._new_latch()
            if not self._ended:
                await arrived.wait_async()
        return self._popped()

    def overdue(self) -> TimeoutError:
        """The error for runs that have not ended in the time for all of them."""
        return TimeoutError(f"{self.count} of the runs had not ended in time.")

    def _new_latch(self) -> Latch:
        # There is no lock. A run that ends appends itself first and reads the latch after that; the
        # consumer makes a latch first and looks for runs after that. So either the consumer sees
        # the run, or the run sees this latch and sets it.
        self._arrived = Latch()
        return self._arrived

    def _popped(self) -> Run:
        self.count -= 1
        return self._ended.popleft()
