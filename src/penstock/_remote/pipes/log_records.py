"""A thread of the pool handles the log records of worker processes, in order with what follows.

The handlers of the application may take their time, and what a record carries may be the user's: so
the pool's own thread, which has deadlines to keep, does neither.
"""

from __future__ import annotations

import logging
import pickle
import queue
import threading
from collections.abc import Callable

from penstock._remote.pipes.messages import Bytes
from penstock._waiting.thread_reserve import start_thread

_log = logging.getLogger("penstock.engine")


class LogRecords:
    """Handles records, and calls what has to come after them.

    Only the pool's thread puts something in, and `_unhandled` tells it whether anything is left
    there: so what it calls by itself has nothing before it, and the order of a worker is kept.
    """

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._put = 0
        self._handled = 0
        self._thread: threading.Thread | None = None

    def handle(self, payload: Bytes) -> None:
        """Let the loggers of this process have a record."""
        self._enqueue(lambda: handle_record(payload))

    def then(self, call: Callable[[], object]) -> None:
        """Call this when all records before it are handled: at once where they are."""
        if self._put == self._handled:
            call()
        else:
            self._enqueue(call)

    def _enqueue(self, call: Callable[[], object]) -> None:
        if self._thread is None:
            try:
                self._thread = start_thread(self._run, "penstock-pool-logs")
            except RuntimeError:  # none can be started any more, as the interpreter ends
                call()
                return
        self._put += 1
        self._queue.put(call)

    def _run(self) -> None:
        while True:
            call = self._queue.get()
            try:
                call()
            except _End:
                return
            except Exception:
                _log.exception("What follows a log record of a worker process has failed")
            finally:
                self._handled += 1

    def close(self, seconds: float) -> None:
        """Wait until all that was put in is done, for so long at most."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._queue.put(_raise_end)
            self._thread.join(seconds)


class _End(Exception):
    """The thread has nothing more to do."""


def _raise_end() -> None:
    raise _End


def handle_record(payload: Bytes) -> None:
    """Let the loggers of this process have a record of a worker's."""
    try:
        record = logging.makeLogRecord(pickle.loads(payload))
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)
    except Exception:
        _log.exception("A log record of a worker process could not be handled")
