"""A latch: something that happens once, and what waits for it.

It costs nothing until somebody waits: no lock, no condition, no list. Callbacks run in the thread
that sets the latch, one after another and never nested, so that a chain of a thousand runs, each
set off by the one before, needs no stack.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Protocol

from penstock._waiting.loops import LoopPort, current_port

_creating = threading.Lock()
_log = logging.getLogger("penstock.engine")
_POLL_SECONDS = 0.1 if sys.platform == "win32" else None  # a lock there holds Ctrl-C back


class _Trampoline(threading.local):
    """The callbacks that this thread still has to call."""

    def __init__(self) -> None:
        self.waiting: deque[Callable[[], object]] = deque()
        self.bouncing = False

    def call(self, callback: Callable[[], object]) -> None:
        self.waiting.append(callback)
        if self.bouncing:
            return
        self.bouncing = True
        try:
            while self.waiting:
                _call_logged(self.waiting.popleft())
        finally:
            self.bouncing = False


def _call_logged(callback: Callable[[], object]) -> None:
    try:
        callback()
    except Exception:
        _log.exception("A callback raised")


_trampoline = _Trampoline()


class Latch:
    """Unset, then set for good.

    Setting and adding need no lock: a callback is appended first and `_set` is read after, while
    the setter sets first and empties the list after, so one of the two calls each callback.
    """

    __slots__ = ("__weakref__", "_callbacks", "_set")

    def __init__(self) -> None:
        self._set = False
        self._callbacks: list[Callable[[], object]] | None = None

    def is_set(self) -> bool:
        """Whether it happened."""
        return self._set

    def set(self) -> None:
        """Let it happen; the second time changes nothing."""
        self._set = True
        if self._callbacks is not None:
            self._call_back()

    def add_callback(self, callback: Callable[[], object]) -> None:
        """Have `callback` called once it happened; at once where it has."""
        if self._callbacks is None:
            with _creating:
                if self._callbacks is None:
                    self._callbacks = []
        self._callbacks.append(callback)
        if self._set:
            self._call_back()

    def discard_callback(self, callback: Callable[[], object]) -> None:
        """Forget a callback that nobody waits for any more."""
        if self._callbacks is not None and callback in self._callbacks:
            # The setter may be faster.
            with contextlib.suppress(ValueError, IndexError, RuntimeError):
                self._callbacks.remove(callback)

    def _call_back(self) -> None:
        callbacks = self._callbacks
        while callbacks:
            try:
                callback = callbacks.pop(0)
            except IndexError:  # another thread was faster
                return
            _trampoline.call(callback)

    def wait(self, timeout: float | None = None, gives_up_place: bool = True) -> bool:
        """Block this thread until it happened; False: `timeout` seconds came first.

        A worker gives up its place in its pool for that time, unless told otherwise.
        """
        if self._set:
            return True
        gate = threading.Lock()
        gate.acquire()
        self.add_callback(gate.release)
        try:
            with (
                _watched(self, gives_up_place),
                occupation.blocked() if gives_up_place else _NOT_A_WORKER,
            ):
                return _acquire(gate, timeout)
        finally:
            if not self._set:
                self.discard_callback(gate.release)

    async def wait_async(self) -> None:
        """Wait in a task of asyncio or trio until it happened."""
        if self._set:
            return
        port = current_port()
        assert port is not None, "an awaiting task has a loop"
        if watch.observer is not None:
            watch.observer.awaiting(port)
        parked, wake = port.parking()
        self.add_callback(wake)
        try:
            await parked
        finally:
            if not self._set:
                self.discard_callback(wake)


def _acquire(gate: threading.Lock, timeout: float | None) -> bool:
    if timeout is None and _POLL_SECONDS is None:
        return gate.acquire()
    ends_at = None if timeout is None else time.monotonic() + timeout
    while True:
        left = threading.TIMEOUT_MAX if ends_at is None else max(0.0, ends_at - time.monotonic())
        if gate.acquire(timeout=min(left, _POLL_SECONDS or threading.TIMEOUT_MAX)):
            return True
        if ends_at is not None and time.monotonic() >= ends_at:
            return False


class Observer(Protocol):
    """Who is told of every wait for a latch, in any thread and loop."""

    def waiting(self, latch: Latch, gives_up_place: bool) -> AbstractContextManager[object]:
        """This thread waits for the latch while inside."""
        ...

    def awaiting(self, port: LoopPort) -> None:
        """A task of the loop behind the port, which runs in this thread, is about to wait."""
        ...

    def expecting(self, latch: Latch) -> None:
        """A thread that it does not see, such as a writer, is about to set the latch."""
        ...


class Watch:
    """Who observes; in real time, nobody does."""

    observer: Observer | None = None


watch = Watch()


def expected(latch: Latch) -> Latch:
    """The latch, which a thread of a store sets soon: that thread works for no run."""
    if watch.observer is not None:
        watch.observer.expecting(latch)
    return latch


def _watched(latch: Latch, gives_up_place: bool) -> AbstractContextManager[object]:
    observer = watch.observer
    return _NOT_A_WORKER if observer is None else observer.waiting(latch, gives_up_place)


class Worker(threading.local):
    """What a blocking wait tells the pool whose thread it blocks."""

    def __init__(self) -> None:
        self.pool: BlockablePool | None = None

    def blocked(self) -> AbstractContextManager[object]:
        """While inside, the pool may let another thread work in this one's place."""
        return self.pool.blocked() if self.pool is not None else _NOT_A_WORKER


class BlockablePool:
    """A pool of threads that replaces those which wait."""

    def blocked(self) -> AbstractContextManager[object]:
        """A worker of the pool waits while inside."""
        raise NotImplementedError


class _NotAWorker:
    def __enter__(self) -> None: ...
    def __exit__(self, *exc: object) -> None: ...


_NOT_A_WORKER = _NotAWorker()
occupation = Worker()
"""The pool that this thread works for."""


def _begin_anew_in_a_forked_child() -> None:
    """The threads are gone, with whatever they held."""
    global _creating  # noqa: PLW0603  # a lock cannot be let go of for another thread
    _creating = threading.Lock()
    occupation.pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew_in_a_forked_child)


def wait_unless(latch: Latch, other: Latch) -> bool:
    """Block this thread until `latch` is set; False: `other` came first."""
    if not latch.is_set():
        either = Latch()
        latch.add_callback(either.set)
        other.add_callback(either.set)
        try:
            either.wait()
        finally:
            latch.discard_callback(either.set)
            other.discard_callback(either.set)
    return latch.is_set()


def when_all(latches: Iterable[Latch], callback: Callable[[], object]) -> None:
    """Have `callback` called once all of them are set; at once where they are."""
    waiting = [latch for latch in latches if not latch.is_set()]
    if not waiting:
        callback()
        return
    left: list[Callable[[], object] | None] = [callback, *[None] * (len(waiting) - 1)]

    def count() -> None:
        last = left.pop()  # in one step: of two threads, one gets the callback
        if last is not None:
            last()

    for latch in waiting:
        latch.add_callback(count)
