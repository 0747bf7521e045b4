"""Runs are taken in the order in which they end."""

from __future__ import annotations

import time
from collections import deque

from penstock._drivers.deadlocks import refuse_deadlock
from penstock._rules.run import Run
from penstock._waiting.latch import Latch


class Arrivals:
    """Runs on their way to their end; one consumer takes them.

    Attributes:
        count: how many were added and not taken.
    """

    def __init__(self) -> None:
        self._ended: deque[Run] = deque()
        self._last_added: Run | None = None
        self._bell = Latch()
        self.count = 0

    def add(self, run: Run) -> None:
        """Expect one more."""
        self.count += 1
        self._last_added = run
        run.add_callback(lambda: self._arrive(run))

    def _arrive(self, run: Run) -> None:
        self._ended.append(run)
        self._bell.set()

    def next(self, timeout: float | None = None) -> Run:
        """The next one that ends.

        Raises:
            TimeoutError: none has ended for `timeout` seconds.
            WouldDeadlock: in the thread of the event loop that it needs.
        """
        ends_at = None if timeout is None else time.monotonic() + timeout
        while not self._ended:
            bell = self._new_bell()
            if not self._ended:
                if self._last_added is not None:
                    refuse_deadlock(self._last_added, "`async for`")
                if not bell.wait(None if ends_at is None else max(0.0, ends_at - time.monotonic())):
                    raise self.overdue()
        return self._popped()

    async def next_async(self) -> Run:
        """The same, in an event loop."""
        while not self._ended:
            bell = self._new_bell()
            if not self._ended:
                await bell.wait_async()
        return self._popped()

    def overdue(self) -> TimeoutError:
        """What to raise where the time for all of them is up."""
        return TimeoutError(f"{self.count} of the runs had not ended in time.")

    def _new_bell(self) -> Latch:
        # Who comes appends first and reads the bell after; who waits makes a bell first and looks
        # after: so one of the two sees the other.
        self._bell = Latch()
        return self._bell

    def _popped(self) -> Run:
        self.count -= 1
        return self._ended.popleft()
