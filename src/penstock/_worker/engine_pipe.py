"""The way between a worker and the pool: jobs come in, in their order, and messages go out."""

from __future__ import annotations

import socket
import threading
from collections import deque
from multiprocessing.connection import wait
from typing import NamedTuple

from penstock._remote.pipes.messages import (
    CONTEXT,
    CONTEXTS_KEPT,
    END,
    JOB,
    Bytes,
    Message,
    MessageReader,
    context_number_of,
    joined,
)
from penstock._worker.runs import LoadedContext

_CHUNK_BYTES = 1 << 18


class Line:
    """Sends messages to the pool, for any thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, parts: list[Bytes]) -> None:
        """Send them, one after another.

        Raises:
            OSError: the pool is gone.
        """
        with self._lock:
            for piece in joined(parts):
                self._connection.sendall(piece)


class SentJob(NamedTuple):
    """A job as it came, with its context."""

    number: int
    context: LoadedContext
    payload: Bytes


class Inbox:
    """The jobs that have come and are not taken.

    The main thread takes them from the left, and the watcher gives them back from the right. Either
    is one step of a deque, so each job is taken or given back, and never both. Both may read the
    connection, one at a time (`_reading`). The main thread waits there for jobs, with the lock; the
    watcher never waits for the lock, as there is nothing to give back while the main thread waits.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._reader = MessageReader()
        self._reading = threading.Lock()
        self._contexts: dict[int, LoadedContext] = {}
        self._jobs: deque[SentJob] = deque()
        self._has_ended = False

    def take(self) -> SentJob | None:
        """The next job, as soon as there is one; None: there will be no more."""
        while True:
            try:
                return self._jobs.popleft()
            except IndexError:
                if self._has_ended:
                    return None
            with self._reading:
                if not self._jobs:  # the watcher may have read some
                    self._read()

    def give_back(self) -> list[int]:
        """The numbers of all jobs that have come and were not taken; nobody takes them now."""
        if self._reading.acquire(blocking=False):
            try:
                while not self._has_ended and wait([self._connection], 0):
                    self._read()
            finally:
                self._reading.release()
        numbers: list[int] = []
        while True:
            try:
                numbers.append(self._jobs.pop().number)
            except IndexError:
                return numbers[::-1]

    def _read(self) -> None:
        data = self._connection.recv(_CHUNK_BYTES)
        if not data:
            self._has_ended = True  # the pool is gone
        for message in self._reader.feed(data):
            self._keep(message)

    def _keep(self, message: Message) -> None:
        if message.kind == JOB:
            context = self._contexts[context_number_of(message.payload)]
            self._jobs.append(SentJob(message.number, context, message.payload))
        elif message.kind == CONTEXT:
            # The pool forgets the same ones. Jobs that have come hold theirs.
            if len(self._contexts) >= CONTEXTS_KEPT:
                del self._contexts[next(iter(self._contexts))]
            self._contexts[message.number] = LoadedContext(message.payload)
        elif message.kind == END:
            self._has_ended = True
