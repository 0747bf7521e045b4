"""A clock whose time goes on when all have to wait for it, and then at once.

Its time stands still while anybody works. When all that work for the engine wait, it jumps to the
first moment at which somebody has to be woken, wakes that one, and stands still again. It jumps for
those who sleep: a retry that waits, or code in `sleep`. Time limits on the way fire; a time limit
alone makes no time pass, as code that takes no time keeps to it.

Why: docs/inside/testing.md, "A fake clock jumps when all wait".
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import datetime

import anyio
from typing_extensions import override

from penstock._model import checks
from penstock._waiting.clock import Clock
from penstock._waiting.latch import Latch, watch
from penstock._waiting.loops import LoopPort, current_port
from penstock._waiting.workers import Workers
from penstock.exceptions import ConfigurationError, TimeStoodStill, WouldDeadlock
from penstock.testing._activity import Activity

_LOOK_SECONDS = 0.01
_NO_ENGINE = (
    "This FakeClock belongs to no engine, so its time does not go on. Give it to "
    "`penstock.testing.engine(clock=...)`, or use the fixture `fake_clock`."
)
_LIMITS_ALONE = (
    "There are time limits, and nobody sleeps until they are over. Let code that is to take long "
    "call `clock.sleep(...)` or `await clock.sleep_async(...)`, or let the test call "
    "`clock.advance(...)`."
)
_AT_WORK = (
    "Others work, and the time cannot pass before they have ended, or wait for a run or for the "
    "clock. A wait for something else looks like work."
)
_log = logging.getLogger("penstock.engine")


class _Timer:
    """What is to be called at a moment; None: nothing any more.

    Attributes:
        is_sleep: the time jumps for it.
    """

    __slots__ = ("call", "is_sleep")

    def __init__(self, call: Callable[[], object], is_sleep: bool) -> None:
        self.call: Callable[[], object] | None = call
        self.is_sleep = is_sleep


class _Timers:
    """Timers by their moments, in seconds; those of one moment in the order in which they were set.

    Attributes:
        now: the moment at which the last one was due.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._counts = {True: 0, False: 0}
        self._heap: list[tuple[float, bool, int, _Timer]] = []
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    @property
    def sleeping(self) -> int:
        """How many there are for which the time jumps."""
        return self._counts[True]

    def add(self, seconds: float, is_last: bool, timer: _Timer) -> None:
        """Set one; `is_last`: it comes after the others of its moment."""
        with self._lock:
            at = self.now + max(0.0, seconds)
            heapq.heappush(self._heap, (at, is_last, next(self._numbers), timer))
            self._counts[timer.is_sleep] += 1

    def cancel(self, timer: _Timer) -> None:
        """Let it call nothing any more."""
        with self._lock:
            if timer.call is not None:
                timer.call = None
                self._counts[timer.is_sleep] -= 1

    def pop(self, is_due: bool) -> Callable[[], object] | None:
        """What the first one calls, None: there is none. `is_due`: its moment is now."""
        with self._lock:
            while self._heap:
                at, _, _, timer = heapq.heappop(self._heap)
                call, timer.call = timer.call, None
                if call is not None:
                    self._counts[timer.is_sleep] -= 1
                    self.now = at if is_due else self.now
                    return call
        return None

    def may_fire(self) -> bool:
        """Whether somebody sleeps, or something is due already."""
        with self._lock:
            while self._heap and self._heap[0][3].call is None:
                heapq.heappop(self._heap)
            return self._counts[True] > 0 or bool(self._heap and self._heap[0][0] <= self.now)

    def __len__(self) -> int:
        return sum(self._counts.values())


class FakeClock(Clock):
    """A clock for tests, on which retries, delays, expirations and time limits take no real time.

    Give it to `penstock.testing.engine`, or ask pytest for the fixture `fake_clock`. The times of
    states are read from it. One engine at a time can have it.

    Args:
        start: where its time begins; None: at the present second.
        patience_seconds: real seconds in which somebody waits for the time and nobody does
            anything, after which everybody who waits gets `TimeStoodStill`.

    Raises:
        ConfigurationError: `start` is no datetime with a zone, or `patience_seconds` is not
            above 0.
    """

    def __init__(self, start: datetime | None = None, *, patience_seconds: float = 10.0) -> None:
        if start is None:
            self._start = float(int(time.time()))
        else:
            self._start = checks.datetime_with_zone(start, "start", "FakeClock").timestamp()
        self._patience_seconds = checks.number_above_0(
            patience_seconds, "patience_seconds", "FakeClock"
        )
        self._timers = _Timers()
        self._activity = Activity()
        self._stopped: str | None = _NO_ENGINE

    # For tests and the code that they call

    @property
    def elapsed_seconds(self) -> float:
        """How much of its time has passed since it was made."""
        return self._timers.now

    @override
    def now(self) -> float:
        """Its time, in seconds since 1970."""
        self._note_loop()
        # A run that enters a state asks for the time. No lock: of two that count at once, one may
        # get lost, and it is only asked whether the count has changed.
        self._activity.progress += 1
        return self._start + self._timers.now

    @override
    def sleep(self, seconds: float, /) -> None:
        """Let code in a thread take that long; others go on meanwhile.

        Raises:
            TimeStoodStill: the time cannot go on.
        """
        self._block(seconds, is_last=False)

    @override
    async def sleep_async(self, seconds: float) -> None:
        """`sleep` in a task of asyncio or trio."""
        await self._wait(seconds, is_last=False)

    def advance(self, seconds: float) -> None:
        """Let that much time pass; all that is due by then has happened when this returns.

        Raises:
            TimeStoodStill: the time cannot go on.
            WouldDeadlock: in the thread of an event loop: use `advance_async`.
        """
        if current_port() is not None:
            raise WouldDeadlock(
                "clock.advance() would block the event loop in which runs have to go on. Use "
                "`await clock.advance_async(...)`."
            )
        self._block(seconds, is_last=True)

    async def advance_async(self, seconds: float) -> None:
        """`advance` in a task of asyncio or trio."""
        await self._wait(seconds, is_last=True)

    # For the engine

    @override
    def call_later(self, seconds: float, call: Callable[[], object]) -> None:
        self._set(seconds, call)

    @override
    def call_at_limit(self, seconds: float, call: Callable[[], object]) -> Callable[[], object]:
        timer = self._set(seconds, call, is_sleep=False)
        return lambda: self._timers.cancel(timer)

    @override
    def sleep_unless(self, latch: Latch, seconds: float) -> bool:
        return self._wait_for(latch, seconds, is_sleep=True, releases_worker=False)

    @override
    def wait_for(self, latch: Latch, seconds: float, releases_worker: bool = False) -> bool:
        return self._wait_for(latch, seconds, is_sleep=False, releases_worker=releases_worker)

    def _wait_for(
        self, latch: Latch, seconds: float, *, is_sleep: bool, releases_worker: bool
    ) -> bool:
        either = Latch()
        timer = self._set(seconds, either.set, is_sleep=is_sleep)
        latch.add_callback(either.set)
        try:
            either.wait(releases_worker=releases_worker)
        finally:
            self._timers.cancel(timer)
            latch.discard_callback(either.set)
        in_time = latch.is_set()
        if not in_time:
            self._check()
        return in_time

    @override
    @contextmanager
    def move_on_after(self, seconds: float) -> Generator[None]:
        port = current_port()
        assert port is not None, "only loops cancel"
        with anyio.CancelScope() as scope:
            timer = self._set(seconds, lambda: port.call_soon(scope.cancel), is_sleep=False)
            try:
                yield
            finally:
                self._timers.cancel(timer)
        if scope.cancelled_caught:
            self._check()

    @override
    def watch_workers(self, workers: Workers) -> Workers:
        return self._activity.add_pool(workers)

    @override
    def watch_loop(self, port: LoopPort) -> None:
        self._activity.add_loop(port)

    # Its timers

    def _set(
        self,
        seconds: float,
        call: Callable[[], object],
        *,
        is_sleep: bool = True,
        is_last: bool = False,
    ) -> _Timer:
        self._note_loop()
        timer = _Timer(call, is_sleep)
        with self._activity.changing():
            self._timers.add(seconds, is_last, timer)
        return timer

    def _block(self, seconds: float, is_last: bool) -> None:
        self._check(seconds)
        due = Latch()
        timer = self._set(seconds, due.set, is_last=is_last)
        try:
            due.wait(releases_worker=False)
        finally:
            self._timers.cancel(timer)
        self._check()

    async def _wait(self, seconds: float, is_last: bool) -> None:
        self._check(seconds)
        due = Latch()
        timer = self._set(seconds, due.set, is_last=is_last)
        try:
            await due.wait_async()
        finally:
            self._timers.cancel(timer)
        self._check()

    def _check(self, seconds: float = 0) -> None:
        """Raise where its time cannot go on, or should go back."""
        checks.number(seconds, "seconds", "FakeClock")  # its time does not go back
        if self._stopped is not None:
            raise TimeStoodStill(self._stopped)

    def _note_loop(self) -> None:
        port = current_port()
        if port is not None:
            self._activity.note_loop(port)

    # Its life, and the thread that lets its time go on

    @contextmanager
    def running(self) -> Generator[None]:
        """Its time can go on while inside, and this thread is that of the test.

        Raises:
            ConfigurationError: another engine has it.
            TimeStoodStill: it has stood still, inside.
        """
        if self._stopped != _NO_ENGINE:
            raise ConfigurationError("A FakeClock serves one engine at a time.")
        self._activity, self._stopped = Activity(), None
        keeper = threading.Thread(target=self._keep_time, name="penstock-fake-clock", daemon=True)
        keeper.start()
        before, watch.observer = watch.observer, self._activity
        try:
            with self._activity.taking_part():
                yield
            self._check()
        finally:
            watch.observer = before
            self._stop(_NO_ENGINE)
            keeper.join()

    def _keep_time(self) -> None:
        activity, timers = self._activity, self._timers
        progress, progressed_at = -1, 0.0
        while self._stopped != _NO_ENGINE or timers:
            changes = activity.changes
            if activity.progress != progress:
                progress, progressed_at = activity.progress, time.monotonic()
            if timers and (self._stopped is not None or self._may_jump()):
                self._fire()
            elif timers and time.monotonic() - progressed_at > self._patience_seconds:
                self._stop(self._explanation())
            else:
                activity.wait_for_change(changes, _LOOK_SECONDS if timers else None)

    def _may_jump(self) -> bool:
        activity = self._activity
        return self._timers.may_fire() and activity.may_be_idle() and activity.is_idle()

    def _fire(self) -> None:
        """Wake the first one that is due."""
        call = self._timers.pop(is_due=self._stopped is None)
        if call is None:
            return
        with self._activity.changing():
            pass  # that it fires is a change; what it calls may wait for others
        try:
            call()
        except Exception:
            _log.exception("A timer of the fake clock raised")

    def _stop(self, reason: str) -> None:
        """From now on all timers fire at once, and whoever waits for the time gets an error."""
        with self._activity.changing():
            if self._stopped != _NO_ENGINE:
                self._stopped = reason

    def _explanation(self) -> str:
        first = (
            f"The time of the fake clock stands still: for {self._patience_seconds:g} real seconds "
            "somebody has waited for it, and nobody has moved."
        )
        if not self._timers.sleeping:
            return f"{first} {_LIMITS_ALONE}"
        return "\n".join([f"{first} {_AT_WORK}", *self._activity.threads_at_work()])
