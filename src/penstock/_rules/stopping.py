"""Stopping: a flow run has to end in some way, whatever its code still does."""

from __future__ import annotations

import threading
from typing import TypeAlias

from penstock._rules.effects import Error, Interrupted
from penstock._waiting.latch import Latch

StopOutcome: TypeAlias = Error | Interrupted


class Stopping:
    """How a flow run has to end; requested by anybody, taken by its rules.

    A request notes the outcome first and sets the latch after, so whoever is woken by the latch
    finds the outcome. The latch is the one that was there when the outcome was noted: were it read
    later, the rules might have taken the outcome meanwhile, and the request would wake the waits of
    the next attempt, which nobody has stopped.

    Attributes:
        outcome: the end that was requested; None: the run ends as its code says.
        latch: set when an end is requested; the waits of the flow run look at it.
    """

    __slots__ = ("_lock", "latch", "outcome")

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler that cancels may come while it is held
        self.outcome: StopOutcome | None = None
        self.latch: Latch = Latch()

    def request(self, outcome: StopOutcome) -> bool:
        """Have the flow run end in this way; False: an end that counts as much was requested.

        A cancellation counts more than a failure.
        """
        with self._lock:
            before = type(self.outcome)
            if before is Interrupted or before is type(outcome):
                return False
            self.outcome, latch = outcome, self.latch
        latch.set()
        return True

    def take(self) -> StopOutcome | None:
        """The end that was requested, once; after it the flow run can go on, as with a retry."""
        if self.outcome is None:
            return None
        with self._lock:
            outcome, self.outcome, self.latch = self.outcome, None, Latch()
        return outcome
