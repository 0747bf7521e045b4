"""A question to an event loop: is there anything that you can go on with? It holds the loop.

The loop answers when all its tasks wait, by blocking its own thread until the question is closed:
so what is known of several loops is true of all of them at once. A real wait of a task, for a
socket or a timer of the loop, is a wait like any other.
"""

from __future__ import annotations

import threading
from collections.abc import Sized
from typing import Protocol, cast

from penstock._waiting.loops import AsyncioPort, LoopPort

_ROUNDS = 64
"""How often a loop that does not show its queue comes round before it counts as at rest."""


class Question(Protocol):
    """Asked of one loop, once."""

    shows_what_came: bool
    """Whether `is_quiet` sees what other threads have sent while the loop is held."""

    def ask(self) -> None:
        """Send the question, which holds the loop as soon as it is at rest."""
        ...

    def is_quiet(self, seconds: float = 0) -> bool:
        """Whether the loop is held and has nothing to go on with; wait `seconds` for it."""
        ...

    def is_void(self) -> bool:
        """Whether the loop does not run any more."""
        ...

    def close(self) -> None:
        """Let the loop go on."""
        ...


def question_to(port: LoopPort) -> Question:
    """A question to the loop behind a port."""
    return AsyncioQuestion(port) if isinstance(port, AsyncioPort) else TrioQuestion(port)


class _Hold:
    """Blocks the thread of a loop."""

    def __init__(self) -> None:
        self.holds: threading.Event = threading.Event()
        self._closed = threading.Event()

    def hold(self) -> None:
        """In the loop's thread: block it."""
        self.holds.set()
        self._closed.wait()

    def close(self) -> None:
        """See `Question`."""
        self._closed.set()

    @property
    def is_closed(self) -> bool:
        return self._closed.is_set()


class AsyncioQuestion(_Hold):
    """See `Question`."""

    shows_what_came: bool = True

    def __init__(self, port: AsyncioPort) -> None:
        super().__init__()
        self._port = port
        self._rounds = 0

    def ask(self) -> None:
        """See `Question`."""
        self._port.call_soon(self._answer)

    def _answer(self) -> None:
        self._rounds += 1
        queue = self._queue()
        busy = self._rounds < _ROUNDS if queue is None else bool(queue)
        if busy and not self.is_closed:
            self.ask()
        else:
            self.hold()

    def _queue(self) -> Sized | None:
        """What the loop will call next; loops of other makes may not show it."""
        return cast("Sized | None", getattr(self._port.key, "_ready", None))

    def is_quiet(self, seconds: float = 0) -> bool:
        """See `Question`."""
        return self.holds.wait(seconds) and not self._queue()

    def is_void(self) -> bool:
        """See `Question`."""
        return not self._port.key.is_running()


class TrioQuestion(_Hold):
    """See `Question`."""

    shows_what_came: bool = False

    def __init__(self, port: LoopPort) -> None:
        super().__init__()
        self._port = port
        self._is_void = False

    def ask(self) -> None:
        """See `Question`."""
        self._is_void = not self._port.call_soon(self._spawn)

    def _spawn(self) -> None:
        import trio

        try:
            trio.lowlevel.spawn_system_task(self._answer)
        except RuntimeError:  # the run is about to end
            self._is_void = True

    async def _answer(self) -> None:
        import trio.testing

        try:
            await trio.testing.wait_all_tasks_blocked()
        except trio.Cancelled:
            self._is_void = True
            raise
        self.hold()

    def is_quiet(self, seconds: float = 0) -> bool:
        """See `Question`."""
        return self.holds.wait(seconds)

    def is_void(self) -> bool:
        """See `Question`."""
        return self._is_void
