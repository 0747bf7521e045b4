"""The clock of an engine: all that it does with time goes through this port.

Rules ask for time as effects, and drivers ask the clock of their runtime: so an engine with another
clock lives in another time. The patience of locks, files and lanes is real time, and none of this.
To sleep and to keep to a limit are two things here, as a clock may jump for the one alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

import anyio

from penstock._waiting.latch import Latch
from penstock._waiting.loops import LoopPort, LoopThread

if TYPE_CHECKING:
    from penstock._waiting.workers import Workers


class Clock(Protocol):
    """What an engine asks of time."""

    def now(self) -> float:
        """The time, in seconds since 1970."""
        ...

    def sleep(self, seconds: float, /) -> None:
        """Block this thread for that long."""
        ...

    def sleep_unless(self, latch: Latch, seconds: float) -> bool:
        """Block this thread for that long, or until the latch is set; whether it is."""
        ...

    async def sleep_async(self, seconds: float) -> None:
        """Wait for that long in a task of asyncio or trio."""
        ...

    def call_later(self, seconds: float, call: Callable[[], object]) -> None:
        """Call `call` after that long, in a thread that it must not keep for long."""
        ...

    def call_at_limit(self, seconds: float, call: Callable[[], object]) -> Callable[[], object]:
        """Call `call` after that long, unless what this returns is called before."""
        ...

    def wait_for(self, latch: Latch, seconds: float, gives_up_place: bool = False) -> bool:
        """Block this thread until the latch is set, at the latest after that long; whether it is.

        A worker keeps its place in its pool, unless told otherwise.
        """
        ...

    def move_on_after(self, seconds: float) -> AbstractContextManager[object]:
        """What is awaited inside is cancelled after that long; the code below goes on."""
        ...

    def watch_workers(self, workers: Workers) -> Workers:
        """The same workers; a clock that jumps has to know whether they are at work."""
        ...

    def watch_loop(self, port: LoopPort) -> None:
        """A loop of the engine's own begins to run the user's code."""
        ...


class RealClock:
    """The time of the machine.

    Args:
        host: the loop that keeps the timers of `call_later`.
    """

    def __init__(self, host: LoopThread) -> None:
        # No methods of its own around these: a run asks for the time at each of its states.
        self.now: Callable[[], float] = time.time
        self.sleep: Callable[[float], None] = time.sleep
        self.call_later = host.call_later

    def sleep_unless(self, latch: Latch, seconds: float) -> bool:
        """See `Clock`."""
        return latch.wait(seconds, gives_up_place=False)

    async def sleep_async(self, seconds: float) -> None:
        """See `Clock`."""
        await anyio.sleep(seconds)

    def call_at_limit(self, seconds: float, call: Callable[[], object]) -> Callable[[], object]:
        """See `Clock`."""
        calls = [call]
        self.call_later(seconds, lambda: calls.pop()() if calls else None)
        return calls.clear

    def wait_for(self, latch: Latch, seconds: float, gives_up_place: bool = False) -> bool:
        """See `Clock`."""
        return latch.wait(seconds, gives_up_place)

    def move_on_after(self, seconds: float) -> AbstractContextManager[object]:
        """See `Clock`."""
        return anyio.move_on_after(seconds)

    def watch_workers(self, workers: Workers) -> Workers:
        """See `Clock`."""
        return workers

    def watch_loop(self, port: LoopPort) -> None:
        """See `Clock`."""
