"""Tasks of a loop begin a few at a time.

Why: docs/inside/threads.md, "Tasks of a loop begin 16 at a time".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

_NOT_BEGUN_AT_MOST: Final = 16


class StartLimiter:
    """Starts tasks of a loop, one more with each that takes its first step.

    A task that has been started and has not begun is several objects of its loop, for which the
    garbage collector looks again and again where there are thousands; one that waits here is one.

    It has no lock, as all of it is called in the thread of the loop.
    """

    __slots__ = ("_is_starting", "_not_begun", "_waiting")

    def __init__(self) -> None:
        self._not_begun = 0
        self._waiting: deque[Callable[[], None]] = deque()
        self._is_starting = False

    def start(self, start: Callable[[], None]) -> None:
        """Call `start`, now or when tasks before it have begun; in the loop's thread."""
        self._waiting.append(start)
        self._start_some()

    def note_begun(self) -> None:
        """A task that was started here has begun, or ended; in the loop's thread, once for each."""
        self._not_begun -= 1
        self._start_some()

    def _start_some(self) -> None:
        # What is started here may end at once, and say so before `start` returns. Thousands may
        # that were cancelled, so the call goes on in the loop below, and not one inside the other.
        if self._is_starting:
            return
        self._is_starting = True
        try:
            while self._waiting and self._not_begun < _NOT_BEGUN_AT_MOST:
                self._not_begun += 1
                self._waiting.popleft()()
        finally:
            self._is_starting = False
