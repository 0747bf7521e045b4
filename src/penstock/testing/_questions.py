"""A question to an event loop: is there anything that you can go on with? It holds the loop.

The loop answers when all its tasks wait, by blocking its own thread until the question is closed:
so what is known of several loops is true of all of them at once. A real wait of a task, for a
socket or a timer of the loop, is a wait like any other.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sized
from typing import ClassVar, cast

from typing_extensions import override

from penstock._waiting.loops import AsyncioPort, LoopPort

_ROUNDS = 64
"""How often a loop that does not show its queue comes round before it counts as idle."""


class Question(ABC):
    """Asked of one loop, once.

    Attributes:
        shows_what_came: whether `is_quiet` sees what other threads have sent while the loop is
            held.
    """

    shows_what_came: ClassVar[bool]

    def __init__(self) -> None:
        self._holds = threading.Event()
        self._is_closed = threading.Event()

    @abstractmethod
    def ask(self) -> None:
        """Send the question, which holds the loop as soon as it is idle."""

    @abstractmethod
    def is_quiet(self, seconds: float = 0) -> bool:
        """Whether the loop is held and has nothing to go on with; wait `seconds` for it."""

    @abstractmethod
    def is_unanswerable(self) -> bool:
        """Whether the loop does not run any more."""

    def close(self) -> None:
        """Let the loop go on."""
        self._is_closed.set()

    def _hold(self) -> None:
        """In the loop's thread: block it until the question is closed."""
        self._holds.set()
        self._is_closed.wait()


def question_to(port: LoopPort) -> Question:
    """A question to the loop behind a port."""
    return AsyncioQuestion(port) if isinstance(port, AsyncioPort) else TrioQuestion(port)


class AsyncioQuestion(Question):
    """Asked of an asyncio loop."""

    shows_what_came = True

    def __init__(self, port: AsyncioPort) -> None:
        super().__init__()
        self._port = port
        self._rounds = 0

    @override
    def ask(self) -> None:
        self._port.call_soon(self._answer)

    def _answer(self) -> None:
        self._rounds += 1
        queue = self._queue()
        busy = self._rounds < _ROUNDS if queue is None else bool(queue)
        if busy and not self._is_closed.is_set():
            self.ask()
        else:
            self._hold()

    def _queue(self) -> Sized | None:
        """What the loop will call next; loops of other makes may not show it."""
        return cast("Sized | None", getattr(self._port.loop, "_ready", None))

    @override
    def is_quiet(self, seconds: float = 0) -> bool:
        return self._holds.wait(seconds) and not self._queue()

    @override
    def is_unanswerable(self) -> bool:
        return not self._port.loop.is_running()


class TrioQuestion(Question):
    """Asked of a trio run."""

    shows_what_came = False

    def __init__(self, port: LoopPort) -> None:
        super().__init__()
        self._port = port
        self._is_unanswerable = False

    @override
    def ask(self) -> None:
        self._is_unanswerable = not self._port.call_soon(self._spawn)

    def _spawn(self) -> None:
        import trio

        try:
            trio.lowlevel.spawn_system_task(self._answer)
        except RuntimeError:  # the run is about to end
            self._is_unanswerable = True

    async def _answer(self) -> None:
        import trio.testing

        try:
            await trio.testing.wait_all_tasks_blocked()
        except trio.Cancelled:
            self._is_unanswerable = True
            raise
        self._hold()

    @override
    def is_quiet(self, seconds: float = 0) -> bool:
        return self._holds.wait(seconds)

    @override
    def is_unanswerable(self) -> bool:
        return self._is_unanswerable
