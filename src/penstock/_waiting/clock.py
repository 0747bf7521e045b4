"""The clock of an engine: all that it does with time goes through this port.

Rules ask for time as effects, and drivers ask the clock of their engine: so an engine with another
clock lives in another time. The patience of locks, files and lanes is real time, and none of this.
To sleep and to keep to a limit are two things here, as a clock may jump for the one alone.

Why: docs/inside/threads.md, "Time is a port".
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager

import anyio
from typing_extensions import override

from penstock._waiting.latch import Latch
from penstock._waiting.loops import LoopPort, LoopThread
from penstock._waiting.workers import Workers


class Clock(ABC):
    """What an engine asks of time."""

    @abstractmethod
    def now(self) -> float:
        """The time, in seconds since 1970."""

    @abstractmethod
    def sleep(self, seconds: float, /) -> None:
        """Block this thread for that long."""

    @abstractmethod
    def sleep_unless(self, latch: Latch, seconds: float) -> bool:
        """Block this thread for that long, or until the latch is set; whether it is."""

    @abstractmethod
    async def sleep_async(self, seconds: float) -> None:
        """Wait for that long in a task of asyncio or trio."""

    @abstractmethod
    def call_later(self, seconds: float, call: Callable[[], object]) -> None:
        """Call `call` after that long, in a thread that it must not keep for long."""

    @abstractmethod
    def call_at_limit(self, seconds: float, call: Callable[[], object]) -> Callable[[], object]:
        """Call `call` after that long, unless what this returns is called before."""

    @abstractmethod
    def wait_for(self, latch: Latch, seconds: float, releases_worker: bool = False) -> bool:
        """Block this thread until the latch is set, at the latest after that long; whether it is.

        `releases_worker`: see `Latch.wait`.
        """

    @abstractmethod
    def move_on_after(self, seconds: float) -> AbstractContextManager[object]:
        """What is awaited inside is cancelled after that long; the code below goes on."""

    @abstractmethod
    def watch_workers(self, workers: Workers) -> Workers:
        """The same workers; a clock that jumps has to know whether they are at work."""

    @abstractmethod
    def watch_loop(self, port: LoopPort) -> None:
        """A loop of the engine's own begins to run the user's code."""


class RealClock(Clock):
    """The time of the machine.

    Args:
        host: the loop that keeps the timers of `call_later`.
    """

    # With no method of its own around it, as a run asks for the time at each of its states.
    now = staticmethod(time.time)  # pyright: ignore[reportAssignmentType]  # it is called alike

    def __init__(self, host: LoopThread) -> None:
        self._host = host

    @override
    def sleep(self, seconds: float, /) -> None:
        time.sleep(seconds)

    @override
    def sleep_unless(self, latch: Latch, seconds: float) -> bool:
        return latch.wait(seconds, releases_worker=False)

    @override
    async def sleep_async(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    @override
    def call_later(self, seconds: float, call: Callable[[], object]) -> None:
        self._host.call_later(seconds, call)

    @override
    def call_at_limit(self, seconds: float, call: Callable[[], object]) -> Callable[[], object]:
        # Of the timer and whoever calls what this returns, one empties the list: a single step.
        calls = [call]
        self.call_later(seconds, lambda: calls.pop()() if calls else None)
        return calls.clear

    @override
    def wait_for(self, latch: Latch, seconds: float, releases_worker: bool = False) -> bool:
        return latch.wait(seconds, releases_worker)

    @override
    def move_on_after(self, seconds: float) -> AbstractContextManager[object]:
        return anyio.move_on_after(seconds)

    @override
    def watch_workers(self, workers: Workers) -> Workers:
        return workers

    @override
    def watch_loop(self, port: LoopPort) -> None:
        """It has to know of none."""
