"""Threads for work that may hold one for long.

That is a sync flow awaited from a loop, or a call with a time limit. There are as many as are
asked for, and an idle one is used again.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable

_IDLE_SECONDS = 10.0
_log = logging.getLogger("penstock.engine")


class _Thread:
    """A daemon thread that does one piece of work after another."""

    __slots__ = ("_gate", "_idle", "_work")

    def __init__(self, idle: deque[_Thread], name: str) -> None:
        self._idle = idle
        self._gate = threading.Lock()
        self._gate.acquire()
        self._work: Callable[[], None] | None = None
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def give(self, work: Callable[[], None]) -> None:
        self._work = work
        self._gate.release()

    def _run(self) -> None:
        while self._gate.acquire(timeout=_IDLE_SECONDS) or not self._retire():
            work, self._work = self._work, None
            if work is None:
                continue
            try:
                work()
            except BaseException:
                _log.exception("A worker thread met an error")
            del work
            self._idle.append(self)

    def _retire(self) -> bool:
        """Leave, unless somebody has just picked this thread, and is about to give it work."""
        try:
            self._idle.remove(self)
        except ValueError:
            self._gate.acquire()
            return False
        return True


class FreeThreads:
    """A pool without a limit, for work that must not wait for a worker.

    Attributes:
        remote: see `Workers`; it calls everything here.
    """

    remote: None = None

    def __init__(self) -> None:
        self._idle: deque[_Thread] = deque()
        self._numbers = itertools.count()

    def run_soon(self, work: Callable[[], None]) -> None:
        """Call `work` in a thread of its own."""
        try:
            thread = self._idle.pop()
        except IndexError:
            thread = _Thread(self._idle, f"penstock-thread-{next(self._numbers)}")
        thread.give(work)

    def rescue(self) -> None:
        """See `Workers`: a thread that cannot be started is told to who asks for it."""
