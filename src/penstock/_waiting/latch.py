"""A latch: something that happens once, and what waits for it.

It costs nothing until somebody waits: no lock, no condition, no list. Callbacks run in the thread
that sets the latch, one after another and never nested, so that a chain of a thousand runs, each
set off by the one before, needs no stack.
"""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from penstock._waiting.loops import LoopPort, current_port

_creating = threading.Lock()
"""Held for the moment in which a latch gets its list of callbacks, so that it gets only one."""
_log = logging.getLogger("penstock.engine")
_POLL_SECONDS = 0.1 if sys.platform == "win32" else None  # a lock there holds Ctrl-C back
_HELP_SECONDS = 0.002
_NOTHING: Final = nullcontext()


class _Trampoline(threading.local):
    """The callbacks that this thread still has to call."""

    def __init__(self) -> None:
        self.due: deque[Callable[[], object]] = deque()
        self.is_calling = False

    def call(self, callback: Callable[[], object]) -> None:
        """Call it; where a callback asks for that, once it and those before have returned."""
        self.due.append(callback)
        if self.is_calling:
            return
        self.is_calling = True
        try:
            while self.due:
                _call_logged(self.due.popleft())
        finally:
            self.is_calling = False


def _call_logged(callback: Callable[[], object]) -> None:
    try:
        callback()
    except Exception:
        _log.exception("A callback raised")


_trampoline = _Trampoline()


class Latch:
    """Unset, then set for good.

    Setting and adding take no lock. Who adds appends the callback first and reads `_set` after; who
    sets writes `_set` first and empties the list after. Whichever order the four steps come in, at
    least one of the two finds the callback in the list of a latch that is set. Both may: `pop` is a
    single step of the interpreter and gives a callback to one thread only, so each is called once.
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
        # A list that comes to be after this line belongs to a thread that reads `_set` after it.
        if self._callbacks is not None:
            self._call_back()

    def add_callback(self, callback: Callable[[], object]) -> None:
        """Have `callback` called once it happened; at once where it has."""
        if self._callbacks is None:
            with _creating:
                if self._callbacks is None:  # another thread may have added one meanwhile
                    self._callbacks = []
        self._callbacks.append(callback)
        if self._set:
            self._call_back()

    def discard_callback(self, callback: Callable[[], object]) -> None:
        """Forget a callback that nobody waits for any more."""
        if self._callbacks is not None:
            with contextlib.suppress(ValueError):  # the setter has taken it out, and calls it
                self._callbacks.remove(callback)

    def _call_back(self) -> None:
        callbacks = self._callbacks
        while callbacks:
            try:
                callback = callbacks.pop(0)
            except IndexError:  # another thread took the last one after the look above
                return
            _trampoline.call(callback)

    def wait(self, timeout: float | None = None, releases_worker: bool = True) -> bool:
        """Block this thread until it happened; False: `timeout` seconds came first.

        Args:
            timeout: how many seconds to wait; None: for ever.
            releases_worker: where this thread is a worker of a pool, another one may work in its
                stead meanwhile.
        """
        if self._set:
            return True
        gate = threading.Lock()
        gate.acquire()
        self.add_callback(gate.release)
        try:
            with (
                _observed(self, releases_worker),
                this_thread.releasing_worker() if releases_worker else _NOTHING,
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
    if this_thread.help is not None:
        return _acquire_helping(gate, timeout, this_thread.help)
    if timeout is None and _POLL_SECONDS is None:
        return gate.acquire()
    ends_at = None if timeout is None else time.monotonic() + timeout
    while True:
        left = threading.TIMEOUT_MAX if ends_at is None else max(0.0, ends_at - time.monotonic())
        if gate.acquire(timeout=min(left, _POLL_SECONDS or threading.TIMEOUT_MAX)):
            return True
        if ends_at is not None and time.monotonic() >= ends_at:
            return False


def _acquire_helping(
    gate: threading.Lock, timeout: float | None, help_once: Callable[[], object]
) -> bool:
    """Acquire it; until then, do what no other thread is there for, which may outlast `timeout`."""
    ends_at = math.inf if timeout is None else time.monotonic() + timeout
    while True:
        left = max(0.0, ends_at - time.monotonic())
        if gate.acquire(timeout=min(left, _HELP_SECONDS)):
            return True
        if time.monotonic() >= ends_at:
            return False
        help_once()


# Who is told of waits


class Observer(ABC):
    """Is told of every wait for a latch, in any thread and loop."""

    @abstractmethod
    def waiting(self, latch: Latch, releases_worker: bool) -> AbstractContextManager[object]:
        """This thread waits for the latch while inside."""

    @abstractmethod
    def awaiting(self, port: LoopPort) -> None:
        """A task of the loop behind the port, which runs in this thread, is about to wait."""

    @abstractmethod
    def expecting(self, latch: Latch) -> None:
        """A thread that it does not see, such as a writer, is about to set the latch."""


class Watch:
    """Who observes; in real time, nobody does."""

    observer: Observer | None = None


watch = Watch()


def expected(latch: Latch) -> Latch:
    """The latch, which a thread of a store sets soon: that thread works for no run."""
    if watch.observer is not None:
        watch.observer.expecting(latch)
    return latch


def _observed(latch: Latch, releases_worker: bool) -> AbstractContextManager[object]:
    observer = watch.observer
    return _NOTHING if observer is None else observer.waiting(latch, releases_worker)


class BlockablePool(ABC):
    """A pool of threads that lets others work in the stead of those which wait."""

    __slots__ = ()

    @abstractmethod
    def releasing_worker(self) -> AbstractContextManager[object]:
        """A worker of the pool waits while inside; it goes on when the pool has room for it."""


class ThisThread(threading.local):
    """What is known of the thread that asks.

    Attributes:
        pool: the one that it is a worker of; None: of none that cares.
        help: does a piece of what no worker is left for; called while this thread waits.
    """

    def __init__(self) -> None:
        self.pool: BlockablePool | None = None
        self.help: Callable[[], object] | None = None

    def releasing_worker(self) -> AbstractContextManager[object]:
        """While inside, the pool may let another thread work in this one's stead."""
        return self.pool.releasing_worker() if self.pool is not None else _NOTHING


this_thread = ThisThread()


def begin_anew_in_forked_child() -> None:
    """Forget the threads that are gone, and what they may have held."""
    global _creating  # noqa: PLW0603  # a lock cannot be released for a thread that is gone
    _creating = threading.Lock()
    this_thread.pool = None
    this_thread.help = None


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
