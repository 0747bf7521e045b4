"""Coroutines of libraries that know asyncio alone, awaited in either loop; nobody else is held up.

On asyncio they run in the loop that awaits them, and on trio in an asyncio loop in a thread of its
own. A caller that is cancelled goes on at once: its coroutine runs to its end, and gives its value
to nobody.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from penstock._waiting.latch import Latch, expected
from penstock._waiting.loops import AsyncioPort, LoopThread, current_port

T = TypeVar("T")


class AsyncioCalls:
    """Runs coroutines in asyncio, for callers in any loop and thread.

    Args:
        thread_name: of the thread with a loop that callers on trio need, from the first one on.
    """

    def __init__(self, thread_name: str) -> None:
        self._thread_name = thread_name
        self._lock = threading.Lock()
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._process = os.getpid()
        self._host: LoopThread | None = None
        self._running: set[Future[Any]] = set()

    async def run(self, start: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What the coroutine returns, or raises."""
        loop = self._loop()
        future = asyncio.run_coroutine_threadsafe(start(), loop)
        # No lock: to add, to discard, and to make a tuple of the set are single steps of the
        # interpreter. `close` is called when nobody calls `run` any more.
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        await _end_of(future)
        return future.result()

    def _loop(self) -> asyncio.AbstractEventLoop:
        self._forget_the_parent()
        port = current_port()
        if isinstance(port, AsyncioPort):
            return port.loop
        with self._lock:
            if self._host is None:
                self._host = LoopThread(self._thread_name)
            return self._host.port.loop

    def _forget_the_parent(self) -> None:
        """In a forked child the thread is gone, and what ran has no end.

        It is no part of the list of what is done after a fork (`_engine/process.py`): that would
        have to know all objects of this class, which come and go with the readers of users.
        """
        if self._process != os.getpid():
            self._lock = threading.Lock()  # another thread of the parent may have had it
            self._begin_anew()

    async def close(self) -> None:
        """Wait for what still runs, and end the thread where there is one."""
        self._forget_the_parent()
        with anyio.CancelScope(shield=True):
            for future in tuple(self._running):
                await _end_of(future)
            host, self._host = self._host, None
            if host is not None:
                await anyio.to_thread.run_sync(host.stop)


async def _end_of(future: Future[Any]) -> None:
    ended = expected(Latch())
    future.add_done_callback(lambda _future: ended.set())
    await ended.wait_async()
