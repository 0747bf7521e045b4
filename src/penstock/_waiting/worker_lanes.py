"""Lanes: anyio worker threads, each of which drains one shared queue of calls.

Threads that contend for the GIL are slower than one, and threads that wait are not: so one lane
works alone until its items are seen to take long, then lanes are added, twice as many at a time, up
to the limit; when they are quick again, lanes rest. While the item of a lane waits for the result
of another run, another lane works in its stead, so a limited pool cannot fill up with waiting.

Why: docs/inside/threads.md, "Lanes are added while code is slow".
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager

import anyio
import anyio.to_thread
from typing_extensions import override

from penstock._waiting.latch import BlockablePool, this_thread
from penstock._waiting.loops import LoopThread
from penstock._waiting.thread_reserve import start_from_reserve
from penstock._waiting.workers import Workers

_SLOW_SECONDS = 0.0005
"""An item that takes longer counts as one that another lane could work beside."""
_TICK_SECONDS = 0.004
_IDLE_SECONDS = 5.0
_log = logging.getLogger("penstock.engine")


class _Lane:
    """What one thread of the pool tells the watcher.

    The lane writes its counts and the watcher sets them back, with no lock between them: an item
    that ends in that moment may be counted twice or not at all. They are statistics.

    Attributes:
        gate: what the lane waits for while it rests; released by whoever wakes it.
        started_at: when its present item began; 0.0: it has none.
        done: items ended since the last look.
        slow: those of them that took long.
    """

    __slots__ = ("done", "gate", "slow", "started_at")

    def __init__(self) -> None:
        self.gate = threading.Lock()
        self.gate.acquire()
        self.started_at = 0.0
        self.done = 0
        self.slow = 0


class Lanes(Workers, BlockablePool):
    """A pool of at most `limit` lanes at work.

    `_awake` counts the lanes that take items, and `_width` says how many should. The one is changed
    under the lock, the other by the watcher alone, and items come and go without a lock: a lane
    about to rest lowers `_awake` first and reads the queue after; a caller appends first and reads
    `_awake` after. So where the caller still finds the lane awake, the lane has yet to read the
    queue, and finds the item: none is left behind.
    """

    def __init__(self, host: LoopThread, limit: int) -> None:
        self._host = host
        self._limit = limit
        self._queue: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()
        self._lanes: set[_Lane] = set()
        self._idle: list[_Lane] = []
        self._returning: deque[threading.Lock] = deque()
        self._awake = 0
        self._width = 1
        self._watched = False
        self._is_closed = False
        self._has_no_threads = False
        self._releasing_worker = _ReleasingWorker(self)

    @property
    @override
    def limit(self) -> int:
        return self._limit

    @override
    def run_soon(self, work: Callable[[], None], /) -> None:
        self._queue.append(work)
        if self._awake < self._width:
            self._wake()
        elif not self._watched:
            # Two callers may come here at once. Then the watcher looks twice a tick, until the
            # queue is empty.
            self._watched = True
            self._host.call_later(_TICK_SECONDS, self._watch)

    @override
    def releasing_worker(self) -> AbstractContextManager[object]:
        return self._releasing_worker

    def _wake(self) -> bool:
        """Let one more lane work; False: there are enough."""
        with self._lock:
            if self._awake >= self._width:
                return False
            self._awake += 1
            if self._idle:
                self._idle.pop().gate.release()
                return True
        self._host.spawn(self._host_lane)
        return True

    async def _host_lane(self) -> None:
        try:
            await anyio.to_thread.run_sync(
                self._run_lane, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1)
            )
        except RuntimeError:  # no thread can be started, as at the interpreter's end
            if start_from_reserve(self._run_lane, "penstock-lane"):
                return
            with self._lock:
                self._stop_working()
            self._has_no_threads = True

    @override
    def run_left_over(self, *, newest: bool) -> bool:
        if not self._has_no_threads:
            return False
        try:
            work = self._queue.pop() if newest else self._queue.popleft()
        except IndexError:
            return False
        work()
        return True

    @override
    def close(self) -> None:
        with self._lock:
            # A lane that rests later sees this; those that rest already are woken as for work.
            self._is_closed = True
            woken, self._idle = self._idle, []
            self._awake += len(woken)
        for lane in woken:
            lane.gate.release()

    # In a lane's thread

    def _run_lane(self) -> None:
        lane = _Lane()
        self._lanes.add(lane)
        this_thread.pool = self
        try:
            while self._work_on(lane) or self._rest(lane):
                pass
        finally:
            this_thread.pool = None
            self._lanes.discard(lane)

    def _work_on(self, lane: _Lane) -> bool:
        """Take items while there are any; False: this lane should rest."""
        clock, take = time.perf_counter, self._queue.popleft
        began = clock()
        while self._awake <= self._width and not self._returning:
            try:
                work = take()
            except IndexError:
                lane.started_at = 0.0
                return False
            lane.started_at = began
            try:
                work()
            except BaseException:
                _log.exception("A task runner's worker met an error")
            del work
            ended = clock()
            lane.done += 1
            if ended - began > _SLOW_SECONDS:
                lane.slow += 1
            began = ended
        lane.started_at = 0.0
        return False

    def _rest(self, lane: _Lane) -> bool:
        """Sleep until there is work; False: for too long, or not at all once the pool is closed."""
        with self._lock:
            # The queue is read after `_awake` was lowered; the law of the class needs that.
            if not self._stop_working() and self._queue and self._awake < self._width:
                self._awake += 1
                return True
            if self._is_closed:
                return False
            self._idle.append(lane)
        return lane.gate.acquire(timeout=_IDLE_SECONDS) or not self._retire(lane)

    def _stop_working(self) -> bool:
        """Under the lock: count one lane less, or let one whose wait is over take its turn.

        Gives whether there was such a lane.
        """
        self._awake -= 1
        if not self._returning or self._awake >= self._limit:
            return False
        self._awake += 1
        self._returning.popleft().release()
        return True

    def _retire(self, lane: _Lane) -> bool:
        """Whether the lane may end: not if somebody has picked it, who is about to wake it."""
        with self._lock:
            if lane in self._idle:
                self._idle.remove(lane)
                return True
        lane.gate.acquire()
        return False

    # In the host's thread

    def _watch(self) -> None:
        """Look at what the lanes did since the last look, and have more or fewer of them."""
        slow, quick = self._observed()
        if slow > quick:
            self._width = min(self._limit, self._width * 2)
        elif quick > 8 * slow and self._width > 1:
            self._width = max(1, self._width // 2)
        if self._queue:
            while self._wake():
                pass
            self._host.call_later(_TICK_SECONDS, self._watch)
            return
        self._watched = False
        # A caller that came before the line above found the pool watched, and left its item to the
        # watcher. So the queue is read once more after it; one that comes later asks for a watch.
        if self._queue and not self._watched:
            self._watched = True
            self._host.call_later(_TICK_SECONDS, self._watch)

    def _observed(self) -> tuple[int, int]:
        """How many items were slow and how many quick since the last look."""
        slow = quick = 0
        before = time.perf_counter() - _TICK_SECONDS
        for lane in tuple(self._lanes):  # a copy in one step, as lanes come and go
            started_at = lane.started_at
            slow += lane.slow + (0.0 < started_at < before)
            quick += lane.done - lane.slow
            lane.done = lane.slow = 0
        return slow, quick


class _ReleasingWorker:
    """While inside, a lane waits and another may work in its stead."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes

    def __enter__(self) -> None:
        lanes = self._lanes
        with lanes._lock:
            lanes._stop_working()
        if lanes._queue:
            lanes._wake()

    def __exit__(self, *exc: object) -> None:
        lanes = self._lanes
        with lanes._lock:
            if lanes._awake < lanes._limit:
                lanes._awake += 1
                return
            # All the others are at work: the first that stops lets this one go on.
            gate = threading.Lock()
            gate.acquire()
            lanes._returning.append(gate)
        gate.acquire()
