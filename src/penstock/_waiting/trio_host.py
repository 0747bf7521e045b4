"""Tasks of trio for coroutines: one for each that waits, and none for one that does not.

Starting a task with a cancel scope of its own takes trio as long as all that is on record of a run.
So a host, which is one task with one scope, takes coroutine after coroutine from a queue and steps
it itself. The first one that has something to wait for keeps the task and the scope for itself, and
another host takes the rest.

Why: docs/inside/threads.md, "On trio a coroutine gets a task of its own when it waits".
"""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import trio


class _Hosted:
    """A coroutine function, and what is known of its run.

    Attributes:
        scope: what cancels it, while it runs.
    """

    __slots__ = ("context", "ended", "is_cancelled", "scope", "start")

    def __init__(
        self,
        start: Callable[[], Coroutine[Any, Any, None]],
        context: Context,
        ended: Callable[[object], object],
    ) -> None:
        self.start = start
        self.context = context
        self.ended = ended
        self.is_cancelled = False
        self.scope: trio.CancelScope | None = None

    def cancel(self) -> None:
        """Cancel it, unless it has ended; in the thread of the loop, and not by its own code.

        Other code runs there only while this waits, and then the scope is its own.
        """
        self.is_cancelled = True
        if self.scope is not None:
            self.scope.cancel()


class TrioHost:
    """Runs coroutines in one trio loop, side by side.

    A host is one of its tasks, in which coroutines run. (`Engine.host` is another thing: the
    engine's own loop.)

    It has no lock, as all of it is called in the thread of that loop. While `_is_hosted` is true, a
    host will look into the queue again, so what is put there is taken up: it becomes false in the
    same step in which a host finds the queue empty, or steps on a coroutine that waits while
    nothing is queued. It may be false while there is a host, after another one was cancelled; then
    one more is spawned, and both take from the queue.
    """

    def __init__(self) -> None:
        self._queue: deque[_Hosted] = deque()
        self._is_hosted = False

    def start(
        self,
        start: Callable[[], Coroutine[Any, Any, None]],
        context: Context,
        ended: Callable[[object], object],
    ) -> Callable[[], None]:
        """Run a coroutine as `LoopPort.start` says."""
        hosted = _Hosted(start, context, ended)
        self._queue.append(hosted)
        if not self._is_hosted:
            self._spawn()
        return hosted.cancel

    def _spawn(self) -> None:
        self._is_hosted = bool(self._queue)
        if self._is_hosted:
            import trio

            trio.lowlevel.spawn_system_task(self._host, context=Context())

    async def _host(self) -> None:
        import trio

        with trio.CancelScope() as scope:
            while self._queue:
                if await self._run(self._queue.popleft(), scope):
                    return  # another host has the rest
        self._is_hosted = False

    async def _run(self, hosted: _Hosted, scope: trio.CancelScope) -> bool:
        """Run one to its end; whether it had to wait."""
        try:
            if hosted.is_cancelled:
                return False
            hosted.scope = scope
            return await _stepped(hosted.start(), hosted.context, self._spawn)
        finally:
            hosted.scope = None
            hosted.ended(hosted)


@types.coroutine
def _stepped(
    coroutine: Coroutine[Any, Any, None], context: Context, waits: Callable[[], object]
) -> Generator[Any, Any, bool]:
    """Await a coroutine in a context of its own; whether it waited, which `waits` is told first."""
    step: Callable[..., Any] = coroutine.send
    sent: Any = None
    has_waited = False
    while True:
        try:
            trap = context.run(step, sent)
        except StopIteration:
            return has_waited
        if not has_waited:
            has_waited = True
            waits()
        try:
            sent, step = (yield trap), coroutine.send
        except BaseException as error:
            sent, step = error, coroutine.throw
