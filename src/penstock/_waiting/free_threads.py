"""Threads for work that may hold one for long.

That is a sync flow awaited from a loop, or a call with a time limit. There are as many as are
asked for, and an idle one is used again. One whose call has outlived its time limit is abandoned:
nobody waits for it any more, and it is counted until it comes back.

Why: docs/inside/threads.md, "Sync code with a timeout runs on a thread of its own".
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

import msgspec
from typing_extensions import override

from penstock._waiting.thread_reserve import start_thread
from penstock._waiting.workers import Workers

_IDLE_SECONDS = 10.0
_log = logging.getLogger("penstock.engine")


class AbandonedThread(msgspec.Struct, frozen=True):
    """A thread in which code goes on whose run has ended as `TimedOut`.

    Attributes:
        run_name: the name of the run.
        thread_name: the name of the thread.
        since: when the run's time was up (UTC).
    """

    run_name: str
    thread_name: str
    since: datetime


_abandoned: dict[object, AbandonedThread] = {}
"""By their calls. No lock: each function below is one step on the dict."""


def abandoned_threads() -> list[AbandonedThread]:
    """The threads of this process that still run code after its `timeout_seconds`, oldest first.

    A thread cannot be stopped, so such code goes on until it ends by itself, or the process does.
    """
    return list(_abandoned.values())


def abandon(call: object, thread: AbandonedThread) -> None:
    """Count a thread until its call has come back."""
    _abandoned[call] = thread


def forget_abandoned_threads() -> None:
    """Count none, as in a forked child, which has none of these threads."""
    _abandoned.clear()


def has_come_back(call: object) -> None:
    """Count the thread of this call no more, if it is counted."""
    _abandoned.pop(call, None)


class _Thread:
    """A daemon thread that does one piece of work after another.

    While it is idle it stands in the pool's deque, and whoever takes it out has it: the pool, which
    then gives it work or ends it, or the thread itself, which then ends. Taking is a single step of
    the interpreter, so no lock is needed for it, and exactly one of them does.

    The pool says that it is closed, and then takes out all that are idle; a thread puts itself in,
    and then looks whether the pool is closed. So one of the two sees the other.
    """

    __slots__ = ("_gate", "_pool", "_work")

    def __init__(self, pool: FreeThreads, name: str) -> None:
        self._pool = pool
        self._gate = threading.Lock()
        self._gate.acquire()
        self._work: Callable[[], None] | None = None
        start_thread(self._run, name)

    def give(self, work: Callable[[], None]) -> None:
        self._work = work
        self._gate.release()

    def end(self) -> None:
        """Let it end; only for whoever has taken it out of the idle ones."""
        self._gate.release()

    def _run(self) -> None:
        while self._gate.acquire(timeout=self._patience_seconds()) or not self._retire():
            work, self._work = self._work, None
            if work is None:
                return
            try:
                work()
            except BaseException:
                _log.exception("A worker thread met an error")
            del work
            self._pool.idle.append(self)

    def _patience_seconds(self) -> float:
        return 0.0 if self._pool.is_closed else _IDLE_SECONDS

    def _retire(self) -> bool:
        """Leave, unless somebody has just picked this thread, and is about to give it work."""
        try:
            self._pool.idle.remove(self)
        except ValueError:
            self._gate.acquire()
            return False
        return True


class FreeThreads(Workers):
    """A pool without a limit, for work that must not wait for a worker.

    Attributes:
        idle: the threads that have nothing to do.
        is_closed: no thread stays idle any more.
    """

    def __init__(self) -> None:
        self.idle: deque[_Thread] = deque()
        self.is_closed = False
        self._numbers = itertools.count()

    @property
    @override
    def limit(self) -> None:
        return None

    @override
    def run_soon(self, work: Callable[[], None], /) -> None:
        try:
            thread = self.idle.pop()
        except IndexError:
            thread = _Thread(self, f"penstock-thread-{next(self._numbers)}")
        thread.give(work)

    @override
    def run_left_over(self, *, newest: bool) -> bool:
        return False  # whoever asks for a thread that cannot be started is told so

    @override
    def close(self) -> None:
        self.is_closed = True
        with suppress(IndexError):
            while True:
                self.idle.pop().end()
