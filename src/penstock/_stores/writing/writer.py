"""Group commit: all that is recorded goes through one queue to one coroutine that has it written.

While one transaction is committed, the next batch gathers, and what a batch says of one run becomes
one row. A barrier is set only after the transaction that holds all before it has been committed.

The coroutine runs in the engine's loop and waits there until something is recorded. Then it has the
thread of the connection write, in one call: that takes batch after batch from the queue until none
has come for a moment, and no other thread has a part in it. So the loop is never held up, and the
price of an asyncio connection is two hand-overs between threads each time that the writer was idle.

Why: docs/inside/store.md, "The writer is a coroutine of the engine's loop".
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Final

from penstock._model.rows import Source
from penstock._stores.port import Backlog
from penstock._stores.writing.batches import RUNS_A_BATCH, Barrier, Batch, Queue, RunStates
from penstock._stores.writing.target import BatchTarget
from penstock._waiting.latch import Latch, expected
from penstock._waiting.loops import LoopThread
from penstock.exceptions import StoreError

_PATIENCE_SECONDS: Final = 60.0
"""How long whoever closes or pauses the writer waits for the batch that is being written."""
_GATHER_SECONDS: Final = 0.005
"""How long a small batch waits for more; a barrier cuts it short."""
_ITEMS_IN_QUEUE: Final = 50_000
_BYTES_IN_QUEUE: Final = 64 * 1024 * 1024
COUNTED_BYTES: Final = 4096
"""From this size on results count by their bytes."""
_log = logging.getLogger("penstock.store")


class _Idleness:
    """The coroutine's wait for something to do, which any thread may end.

    Whoever ends it notes that after the loop has been told, and not before: where an interrupt
    comes between, the next one tells the loop once more, which changes nothing.
    """

    __slots__ = ("_future", "_host", "_is_over")

    def __init__(self, host: LoopThread) -> None:
        self._host = host
        self._future = asyncio.get_running_loop().create_future()
        self._is_over = False

    def end(self) -> None:
        if not self._is_over:
            self._host.port.call_soon(self._end)
            self._is_over = True

    def _end(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    async def wait(self) -> None:
        await self._future


class Writer:
    """Has runs written, from the moment on at which it is made.

    Args:
        target: where they are written.
        host: the engine's loop, in which nothing may wait for the writer: it would wait for itself.
        backlog: is full while more is recorded than written.
        settle: is told of each batch that has been dealt with, in the connection's thread.

    Raises:
        StoreError: the target cannot be opened.
    """

    def __init__(
        self,
        target: BatchTarget,
        host: LoopThread,
        backlog: Backlog,
        settle: Callable[[Batch], None],
    ) -> None:
        self._target = target
        self._host = host
        self._backlog = backlog
        self._settle = settle
        self._queue: Queue = deque()
        self._lock = threading.Lock()
        self._bytes = 0
        self._room: Latch | None = None
        self._failure: StoreError | None = None
        # Two waits can be cut short, and neither needs a lock. Who waits sets `_idleness`, or
        # `_is_gathering`, and then looks once more whether there is something to do; who has
        # something to do says so first, and then looks whether anybody waits. So at least one of
        # the two sees the other.
        self._idleness: _Idleness | None = None
        self._is_gathering = False
        self._is_urgent = False
        self._wake_ups: SimpleQueue[None] = SimpleQueue()  # any code may put, even if run by gc
        self._closing = False
        self._pausing = False
        self._is_running = False
        self._stopped = Latch()
        self._ended = Latch()
        opened = expected(Latch())
        # A script may end right away, and then no thread can be started any more.
        self._start(opened)
        opened.wait(releases_worker=False)
        self.check()

    # From any thread

    def record(self, run: Source, length: int) -> None:
        """Have the run written as it was after its first `length` states; returns at once."""
        queue = self._queue
        queue.append(RunStates(run, length))
        if len(queue) > _ITEMS_IN_QUEUE:
            self._backlog.is_full = True
        if self._idleness is not None:
            self._end_idleness()

    def _end_idleness(self) -> None:
        idleness = self._idleness  # the coroutine may have set it to None by now
        if idleness is not None:
            idleness.end()

    def count_result(self, size: int) -> None:
        """Count the bytes of a result that is recorded next, where it is large enough."""
        if size >= COUNTED_BYTES:
            with self._lock:
                self._bytes += size
                if self._bytes > _BYTES_IN_QUEUE:
                    self._backlog.is_full = True

    def room(self) -> Latch | None:
        """What to wait for before recording more; None: go on.

        Raises:
            StoreError: something could not be written.
        """
        self.check()
        with self._lock:
            self._backlog.is_full = (
                len(self._queue) > _ITEMS_IN_QUEUE or self._bytes > _BYTES_IN_QUEUE
            )
            if not self._backlog.is_full:  # the writer was faster
                return None
            if self._room is None:
                self._room = expected(Latch())
            room = self._room
        self._end_idleness()  # where an interrupt has kept a record from doing so
        return room

    def barrier(self) -> Latch:
        """Set when all that was recorded so far is written, or can never be: see `check`."""
        latch = expected(Latch())
        self._queue.append(Barrier(latch))
        self._wake()
        if self._ended.is_set():
            latch.set()
        return latch

    def _wake(self) -> None:
        """Have that done now which there is to do."""
        self._is_urgent = True
        if self._is_gathering:
            self._wake_ups.put(None)
        self._end_idleness()

    def check(self) -> None:
        """Raise `StoreError` where something recorded could not be written."""
        if self._failure is not None:
            raise self._failure

    def pause(self) -> None:
        """Close the connection, once the batch at hand is written, until `resume`."""
        self._pausing = True
        self._wake()
        if not self._ended.is_set():
            expected(self._stopped).wait(timeout=_PATIENCE_SECONDS, releases_worker=False)

    def resume(self) -> None:
        """Go on."""
        self._pausing = False
        if not self._ended.is_set():
            self._start(Latch())

    def leave_behind(self) -> None:
        """This is a forked child: nobody would make room in it."""
        self._backlog.is_full = False

    def close(self) -> None:
        """Write what is there, and close the connection; the second time changes nothing.

        Raises:
            StoreError: something could not be written.
        """
        self._closing = True
        self.barrier()
        expected(self._ended).wait(timeout=_PATIENCE_SECONDS)
        self.check()

    def _start(self, opened: Latch) -> None:
        """Start the coroutine, unless it runs: it may have taken longer than a pause waits."""
        with self._lock:
            if self._is_running:
                return
            self._is_running = True
            self._stopped = stopped = Latch()
        if not self._host.spawn(lambda: self._run(opened, stopped)):
            self._fail(RuntimeError("the loop of its engine is closed"))
            opened.set()

    # In the engine's loop

    async def _run(self, opened: Latch, stopped: Latch) -> None:
        try:
            while self._is_running:
                await self._write_until_stopped(opened)
                self._note_stop()
        except BaseException as error:
            self._fail(error)
            if not isinstance(error, Exception):
                raise
        finally:
            opened.set()
            stopped.set()

    def _note_stop(self) -> None:
        """Decide whether to go on; `resume` comes before this, or finds that nothing runs."""
        with self._lock:
            is_paused = self._pausing
            self._is_running = not (is_paused or self._closing)
        if self._closing and not is_paused:
            self._end()

    def _fail(self, error: BaseException) -> None:
        self._failure = StoreError(f"The writer of {self._target} has stopped: {error!r}.")
        _log.error("The writer of %s has stopped", self._target, exc_info=error)
        self._end()

    def _end(self) -> None:
        """Write nothing any more; nobody may wait for a writer that has ended."""
        self._ended.set()
        while self._queue:
            for latch in Batch(self._queue).barriers:
                latch.set()
        if self._room is not None:
            self._room.set()

    async def _write_until_stopped(self, opened: Latch) -> None:
        await self._target.open()
        opened.set()
        try:
            while await self._has_work():
                with self._closing_when_cancelled():
                    await self._target.call(self._write_queue)
        finally:
            with self._closing_when_cancelled():
                await self._target.close()

    @contextmanager
    def _closing_when_cancelled(self) -> Generator[None]:
        """The engine stops its loop, perhaps before time: write what is left, and end."""
        try:
            yield
        except asyncio.CancelledError:
            self._closing = True

    async def _has_work(self) -> bool:
        """Wait for something to write; False: there is nothing more to come, for now."""
        while self._pausing or not self._queue:
            if self._closing or self._pausing:
                return False
            await self._be_idle()
        return True

    async def _be_idle(self) -> None:
        self._idleness = idleness = _Idleness(self._host)
        if not (self._queue or self._closing or self._pausing):
            with self._closing_when_cancelled():
                await idleness.wait()
        self._idleness = None

    # In the connection's thread

    def _write_queue(self) -> None:
        """Write one batch after another, until none comes for a moment."""
        while self._has_gathered():
            self._write(Batch(self._queue))

    def _has_gathered(self) -> bool:
        """Wait a moment for a batch to grow; False: there is none, or it has to wait.

        Small batches one right after another would take the GIL from other threads all the time.
        """
        if len(self._queue) < RUNS_A_BATCH:
            self._is_gathering = True
            ends_at = time.monotonic() + _GATHER_SECONDS
            while not self._is_due() and (left := ends_at - time.monotonic()) > 0:
                with suppress(Empty):
                    self._wake_ups.get(timeout=left)
            self._is_gathering = False
        self._is_urgent = False  # before the queue is read: what comes later is urgent anew
        return bool(self._queue) and not self._pausing

    def _is_due(self) -> bool:
        return self._is_urgent or self._closing or self._pausing

    def _write(self, batch: Batch) -> None:
        """Write a batch, and let everybody know who waits for it, whatever comes of it."""
        try:
            if self._failure is None and batch.latest:
                self._target.write(batch)
        except StoreError as error:
            self._failure = error
            _log.critical("%s Its history is incomplete from here on.", error)
        finally:
            size = batch.payload_bytes(COUNTED_BYTES)
            self._settle(batch)
            self._make_room(size)
            for latch in batch.barriers:
                latch.set()

    def _make_room(self, size: int) -> None:
        """Let those go on who wait for room, once half of it is there."""
        with self._lock:
            self._bytes -= size
            room = self._room
            if room is None or len(self._queue) > _ITEMS_IN_QUEUE // 2:
                return
            self._room = None
        room.set()
