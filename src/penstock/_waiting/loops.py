"""Event loops: whose thread this is, and how to reach a loop from another thread.

A port outlives its loop: what is sent to a closed loop is dropped, and the sender is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypeVarTuple, Unpack

from typing_extensions import override

from penstock._waiting.start_limiter import StartLimiter
from penstock._waiting.thread_reserve import start_thread

if TYPE_CHECKING:
    import trio

    from penstock._waiting.trio_host import TrioHost

Ts = TypeVarTuple("Ts")
Start: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
Parking: TypeAlias = tuple[Awaitable[object], Callable[[], object]]
"""What to await, and what ends the wait, once, from any thread."""


class LoopPort(ABC):
    """The way into one event loop.

    Attributes:
        library: what anyio calls the kind of the loop.
        key: the loop itself; ports with the same key lead to the same loop.
        start_limiter: where tasks wait that are started through this port.
    """

    __slots__ = ()

    library: ClassVar[str]
    key: object
    start_limiter: StartLimiter

    @abstractmethod
    def is_here(self) -> bool:
        """Whether this thread runs the loop, right now."""

    @abstractmethod
    def call_soon(self, call: Callable[[Unpack[Ts]], object], *args: *Ts) -> bool:
        """Run `call` soon in the loop's thread; from any thread. False: the loop is closed."""

    @abstractmethod
    def start(
        self, start: Start, context: Context, ended: Callable[[object], object]
    ) -> Callable[[], object]:
        """Run a coroutine as a task of its own; what cancels it. Both in the loop's thread.

        `ended` is called there with something or other when the task is over, even if its code
        has never begun. Whoever starts a task has to hold what this returns until then.
        """

    @abstractmethod
    def parking(self) -> Parking:
        """Make a way to wait, in a task of the loop, for another thread or for this one."""


class AsyncioPort(LoopPort):
    """The way into an asyncio loop.

    Attributes:
        loop: the same as `key`.
    """

    __slots__ = ("key", "loop", "start_limiter")

    library = "asyncio"

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.key = self.loop = loop
        self.start_limiter = StartLimiter()

    @override
    def is_here(self) -> bool:
        return asyncio._get_running_loop() is self.loop

    @override
    def call_soon(self, call: Callable[[Unpack[Ts]], object], *args: *Ts) -> bool:
        # A loop that has stopped for good takes calls until it is closed, and never makes them:
        # asyncio does not tell. That is for the few microseconds between the two alone, as its
        # tasks have been cancelled and have ended before.
        try:
            # A context of its own, as the call is to see nothing of the caller's.
            self.loop.call_soon_threadsafe(call, *args, context=Context())
        except RuntimeError:
            return False
        return True

    @override
    def start(
        self, start: Start, context: Context, ended: Callable[[object], object]
    ) -> Callable[[], object]:
        task = self.loop.create_task(start(), context=context)
        task.add_done_callback(ended, context=context)
        return task.cancel

    @override
    def parking(self) -> Parking:
        future = self.loop.create_future()

        def end() -> None:
            if not future.done():  # in the loop's thread, so nothing ends it after the look
                future.set_result(None)

        def wake() -> None:
            if self.is_here():
                end()
            else:
                self.call_soon(end)

        return future, wake


class TrioPort(LoopPort):
    """The way into a trio run.

    Attributes:
        token: the same as `key`.
    """

    __slots__ = ("_host", "key", "start_limiter", "token")

    library = "trio"

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        self.key = self.token = token
        self.start_limiter = StartLimiter()
        self._host: TrioHost | None = None

    @override
    def is_here(self) -> bool:
        import trio

        return trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is self.token

    @override
    def call_soon(self, call: Callable[[Unpack[Ts]], object], *args: *Ts) -> bool:
        import trio

        try:
            self.token.run_sync_soon(functools.partial(call, *args))
        except trio.RunFinishedError:
            return False
        return True

    @override
    def start(
        self, start: Start, context: Context, ended: Callable[[object], object]
    ) -> Callable[[], object]:
        if self._host is None:  # always in the loop's thread, so there is only one
            from penstock._waiting.trio_host import TrioHost

            self._host = TrioHost()
        return self._host.start(start, context, ended)

    @override
    def parking(self) -> Parking:
        import trio

        event = trio.Event()

        def wake() -> None:
            if self.is_here():
                event.set()
            else:
                self.call_soon(event.set)

        return event.wait(), wake


def current_port() -> LoopPort | None:
    """The port of the loop that runs in this thread right now; None: none does."""
    # Where both do (guest mode), the inner one is trio's.
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        return TrioPort(trio.lowlevel.current_trio_token())
    loop = asyncio._get_running_loop()
    return AsyncioPort(loop) if loop is not None else None


def context_for(library: str | None) -> Context:
    """A copy of the present context for code that will run in another thread or loop.

    `library` is the kind of that loop; None: it is a thread without one. anyio.run() notes it in
    the context, where a copy would have it wrong.
    """
    context = copy_context()
    sniffio = sys.modules.get("sniffio")
    if sniffio is not None and sniffio.current_async_library_cvar.get() != library:
        context.run(sniffio.current_async_library_cvar.set, library)
    return context


class LoopThread:
    """An asyncio loop in a daemon thread of its own.

    Attributes:
        port: the way into the loop.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self.port: AsyncioPort = AsyncioPort(self._loop)
        # The loop holds its tasks only weakly. No lock: the set is changed in its thread alone.
        self._held: set[Callable[[], object]] = set()
        try:
            self._thread = start_thread(self._run, name)
        except RuntimeError:
            self._loop.close()
            raise

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def spawn(self, start: Start, context: Context | None = None) -> bool:
        """Run a coroutine in the loop; from any thread. False: the loop is closed."""
        return self.port.call_soon(self._hold, start, context or Context())

    def _hold(self, start: Start, context: Context) -> None:
        cancel = self.port.start(start, context, lambda _task: self._held.discard(cancel))
        self._held.add(cancel)

    def call_later(self, seconds: float, call: Callable[[Unpack[Ts]], object], *args: *Ts) -> None:
        """Run `call` in the loop's thread after `seconds`; from any thread."""
        self.port.call_soon(self._loop.call_later, seconds, call, *args)

    def is_current(self) -> bool:
        """Whether this thread is the loop's."""
        return threading.current_thread() is self._thread

    def stop(self) -> None:
        """Cancel what still runs, let it end, and end the thread."""
        if self.is_current() or not self._thread.is_alive():
            return
        future = asyncio.run_coroutine_threadsafe(_cancel_others(), self._loop)
        with contextlib.suppress(TimeoutError):
            future.result(timeout=5)
        self.port.call_soon(self._loop.stop)
        self._thread.join(timeout=5)
        if not self._thread.is_alive():
            self._loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
