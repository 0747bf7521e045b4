"""The thread of a pool: it hears the workers and does what is due, and never waits for one of them.

Others change the schedule, too, under the pool's lock. This thread says under the lock until when
it will sleep (`_sleeps_until`), releases the lock, and sleeps. A byte in `_woken` ends that, even
one that came before it. Whoever has changed the schedule so that something is due earlier, or is
left for this thread to do, sends one before the lock is released: so it never sleeps too long.

A process is started in a thread of its own, as that takes longer than the others should wait.

Why: docs/inside/remote.md, "One thread hears all worker processes".
"""

from __future__ import annotations

import contextlib
import logging
import math
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence

from penstock._remote.pipes.assignments import Phase, Worker
from penstock._remote.pipes.log_records import LogRecords
from penstock._remote.pipes.messages import LOGGED, Message
from penstock._remote.pipes.schedule import Schedule
from penstock._remote.pipes.worker_process import WorkerProcess
from penstock._waiting.thread_reserve import start_thread

_CHECK_SECONDS = 1.0
_SOON_SECONDS = 0.01
_KILL_SECONDS = 1.0
_GIVE_UP_SECONDS = 2.0
_LOGS_SECONDS = 1.0
_log = logging.getLogger("penstock.engine")


class PoolThread:
    """Hears the workers of a schedule.

    Args:
        schedule: what it acts for.
        lock: under which the schedule is used.
        start_process: starts a process; it takes its time.
    """

    def __init__(
        self, schedule: Schedule, lock: threading.Lock, start_process: Callable[[], WorkerProcess]
    ) -> None:
        self._schedule = schedule
        self._lock = lock
        self._start_process = start_process
        self._logs = LogRecords()
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._sleeps_until = 0.0
        self._checks_at = math.inf
        self._heard: set[Worker] = set()
        self._silent_since: dict[Worker, float] = {}
        self._thread: threading.Thread | None = None

    # From any thread

    def start(self) -> None:
        """Start it.

        Raises:
            RuntimeError: no thread can be started any more, as the interpreter ends.
        """
        self._thread = start_thread(self._run, "penstock-pool")

    def join(self, seconds: float) -> None:
        """Wait for its end, which comes when the schedule is closed; for so long at most."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(seconds)

    def wake(self) -> None:
        """End its sleep."""
        # Where the socket is full it is about to wake; where it is closed, it has ended.
        with contextlib.suppress(OSError):
            self._waker.send(b"w")

    def wake_if_needed(self) -> None:
        """Under the lock: end its sleep where there is something that it has to do."""
        schedule = self._schedule
        if schedule.look_at < self._sleeps_until or schedule.starts or schedule.unsent:
            self._sleeps_until = 0.0  # once is enough
            self.wake()

    # In the thread

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except Exception:  # a defect must not leave runs that wait for ever
            _log.exception("The thread of a pool of worker processes has failed")
            self._end_all()
        finally:
            self._logs.close(_LOGS_SECONDS)
            self._selector.close()
            self._woken.close()
            self._waker.close()

    def _end_all(self) -> None:
        with self._lock:
            self._schedule.close(time.monotonic())
            calls, self._schedule.calls = self._schedule.calls, []
        for call in calls:
            call()

    def _turn(self) -> bool:
        """Sleep until there is something to do, and do it; False: there never will be any more."""
        heard = self._sleep()
        ended = self._ended_workers()
        schedule, now = self._schedule, time.monotonic()
        with self._lock:
            for worker, messages in (*heard, *ended):
                for message in messages:
                    schedule.hear(worker, message, now)
            for worker, _ in ended:
                schedule.has_ended(worker, worker.process.ending(), now)
            (schedule.look if schedule.look_at <= now else schedule.dispatch)(now)
            calls, schedule.calls = schedule.calls, []
            starts, schedule.starts = schedule.starts, 0
            unsent, schedule.unsent = schedule.unsent, []
            workers = tuple(schedule.workers)
            is_over = schedule.is_closed and not workers and not schedule.coming
            self._sleeps_until = min(schedule.look_at, self._next_check(workers, now))
        self._hear(workers)
        for worker in unsent:
            self._select(worker, selectors.EVENT_READ | selectors.EVENT_WRITE)
        for call in calls:
            self._logs.then(call)
        self._start_processes(starts)
        return not is_over

    def _sleep(self) -> list[tuple[Worker, Sequence[Message]]]:
        """Sleep until somebody says something, or something is due; what the workers have said."""
        until = self._sleeps_until
        seconds = None if until == math.inf else max(0.0, until - time.monotonic())
        heard: list[tuple[Worker, Sequence[Message]]] = []
        for key, events in self._selector.select(seconds):
            worker: Worker | None = key.data
            if worker is None:
                with contextlib.suppress(BlockingIOError):
                    self._woken.recv(4096)
                continue
            if events & selectors.EVENT_WRITE:
                self._send_more(worker)
            if events & selectors.EVENT_READ:
                heard.append((worker, self._said_by(worker)))
        return heard

    def _said_by(self, worker: Worker) -> Sequence[Message]:
        said = worker.process.receive()
        if said is None:
            self._selector.unregister(worker.process.socket)
            self._silent_since[worker] = time.monotonic()
            self._checks_at = 0.0
            return ()
        return self._without_records(said)

    def _without_records(self, said: Sequence[Message]) -> Sequence[Message]:
        """The messages for the schedule; the log records among them are handled before those."""
        if all(message.kind != LOGGED for message in said):
            return said
        for message in said:
            if message.kind == LOGGED:
                self._logs.handle(message.payload)
        return [message for message in said if message.kind != LOGGED]

    def _send_more(self, worker: Worker) -> None:
        with self._lock:
            is_all = worker.process.flush()
        if is_all:
            self._select(worker, selectors.EVENT_READ)

    def _hear(self, workers: Sequence[Worker]) -> None:
        """Begin to hear those that are new."""
        for worker in workers:
            if worker not in self._heard:
                self._heard.add(worker)
                self._selector.register(worker.process.socket, selectors.EVENT_READ, worker)

    def _select(self, worker: Worker, events: int) -> None:
        if worker in self._heard and worker not in self._silent_since:
            self._selector.modify(worker.process.socket, events, worker)

    # The ends of processes

    def _ended_workers(self) -> list[tuple[Worker, Sequence[Message]]]:
        """Those that have ended since the last check, and what they have still said.

        A closed socket alone does not say how the process has ended; and a process that the user's
        code has started may keep it open when its parent has ended.
        """
        now = time.monotonic()
        if now < self._checks_at:
            return []
        self._checks_at = math.inf
        gone = [worker for worker in self._heard if self._is_gone(worker, now)]
        return [(worker, self._last_words_of(worker)) for worker in gone]

    def _is_gone(self, worker: Worker, now: float) -> bool:
        if worker.process.has_ended():
            return True
        since = self._silent_since.get(worker)
        if since is not None and now - since > _KILL_SECONDS:
            worker.process.kill()
            return now - since > _GIVE_UP_SECONDS  # the application has made SIGCHLD its own
        return False

    def _last_words_of(self, worker: Worker) -> Sequence[Message]:
        """Hear for the last time what a worker has said."""
        self._heard.discard(worker)
        said: Sequence[Message] = ()
        if self._silent_since.pop(worker, None) is None:
            self._selector.unregister(worker.process.socket)
            said = self._without_records(worker.process.receive_rest())
        worker.process.close()
        return said

    def _next_check(self, workers: Sequence[Worker], now: float) -> float:
        """When to check next whether processes have ended."""
        if not workers:
            self._checks_at = math.inf
            return math.inf
        is_soon = self._silent_since or any(worker.phase is Phase.KILLED for worker in workers)
        self._checks_at = min(self._checks_at, now + (_SOON_SECONDS if is_soon else _CHECK_SECONDS))
        return self._checks_at

    # New processes

    def _start_processes(self, count: int) -> None:
        for _ in range(count):
            name = "penstock-pool-start"
            try:
                start_thread(self._start_one, name)
            except RuntimeError:  # the interpreter ends, and this thread is the last that there is
                self._start_one()

    def _start_one(self) -> None:
        now = time.monotonic()
        try:
            process = self._start_process()
        except Exception as error:  # whatever multiprocessing raises
            with self._lock:
                self._schedule.could_not_start(error, now)
        else:
            with self._lock:
                self._schedule.has_started(Worker(process, now), now)
        self.wake()
