"""Tasks of a loop begin a few at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

_TASKS_AT_ONCE: Final = 16


class StartLimiter:
    """Lets tasks of a loop begin, so many at a time: one more with each that takes its first step.

    A task that has not begun is several objects of its loop, for which the garbage collector looks
    again and again where there are thousands; whoever waits here is one.
    """

    def __init__(self) -> None:
        self._inside = 0
        self._waiting: deque[Callable[[], None]] = deque()
        self._is_letting_in = False

    def enter(self, begin: Callable[[], None]) -> None:
        """Call `begin`, now or when others have left; in the loop's thread."""
        self._waiting.append(begin)
        self._let_in()

    def leave(self) -> None:
        """Make room for another, once for each that has begun; in the loop's thread."""
        self._inside -= 1
        self._let_in()

    def _let_in(self) -> None:
        if self._is_letting_in:  # one that leaves at once, as thousands may that were cancelled
            return
        self._is_letting_in = True
        try:
            while self._waiting and self._inside < _TASKS_AT_ONCE:
                self._inside += 1
                self._waiting.popleft()()
        finally:
            self._is_letting_in = False
