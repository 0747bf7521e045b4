"""A pool of worker processes: jobs go to them as they are free, and no thread waits for one.

One thread hears all workers, and does what is due. Whoever brings a job gives it to an idle worker
directly, under the same lock. What is to be called then (the ends of jobs, and the next runs) is
called after the lock was released.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping
from multiprocessing.context import SpawnContext
from pathlib import Path

from typing_extensions import override

from penstock._remote.executor import Executor
from penstock._remote.jobs import Job, JobContext
from penstock._remote.outcomes import JobOutcome
from penstock._remote.pipes.assignments import Assignment, SharedContext
from penstock._remote.pipes.guard import WORKER_NAME
from penstock._remote.pipes.messages import StartUp, encode_context, encode_job
from penstock._remote.pipes.pool_thread import PoolThread
from penstock._remote.pipes.schedule import Schedule
from penstock._remote.pipes.worker_process import WorkerProcess

_CLOSE_SECONDS = 7.0
_CONTEXTS_KEPT = 64


class ProcessPool(Executor):
    """Runs jobs in processes of their own.

    Args:
        context: the way in which multiprocessing starts them.
        environment: the settings of the engine, as environment variables.
        max_workers: how many processes at most.
        memory_limit_bytes: how much each may hold; None: as much as it likes.
        max_tasks_per_worker: after so many jobs a process ends; None: after any number.
    """

    def __init__(
        self,
        context: SpawnContext,
        environment: Mapping[str, str],
        max_workers: int,
        memory_limit_bytes: int | None,
        max_tasks_per_worker: int | None,
    ) -> None:
        self._context = context
        self._environment = environment
        self._memory_limit_bytes = memory_limit_bytes
        self._schedule = Schedule(max_workers, max_tasks_per_worker)
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._contexts: dict[JobContext, SharedContext] = {}
        self._thread: PoolThread | None = None

    @override
    def reserve(self, begin: Callable[[], object], /) -> None:
        self._change(lambda schedule, _now: schedule.reserve(begin))

    @override
    def release(self) -> None:
        self._change(lambda schedule, _now: schedule.release())

    @override
    def start(self, job: Job, done: Callable[[JobOutcome], object], /) -> None:
        context = self._shared(job.context)
        assignment = Assignment(job, context, encode_job(job, context.number), done)
        if self._thread is None:
            self._start_thread()
        self._change(lambda schedule, now: schedule.add(assignment, now))

    @override
    def stop(self, job: Job, /) -> None:
        self._change(lambda schedule, now: schedule.stop(job, now))

    @override
    def close(self) -> None:
        self._change(lambda schedule, now: schedule.close(now))
        if self._thread is not None:
            self._thread.wake()
            self._thread.join(_CLOSE_SECONDS)

    def _shared(self, context: JobContext) -> SharedContext:
        """The context as it is sent; the same one for all jobs that share it.

        Without a lock: two threads may both encode one, and a worker may then get it twice.
        """
        shared = self._contexts.get(context)
        if shared is None:
            shared = SharedContext(encode_context(context))
            if len(self._contexts) >= _CONTEXTS_KEPT:
                self._contexts.clear()
            self._contexts[context] = shared
        return shared

    def _start_thread(self) -> None:
        with self._lock:
            if self._thread is None:
                thread = PoolThread(self._schedule, self._lock, self._start_process)
                thread.start()
                self._thread = thread

    def _change(self, change: Callable[[Schedule, float], object]) -> None:
        """Change the schedule, and do what follows from it outside of the pool's thread."""
        schedule, thread = self._schedule, self._thread
        with self._lock:
            change(schedule, time.monotonic())
            calls, schedule.calls = schedule.calls, []
            if thread is not None:
                thread.wake_if_needed()
        for call in calls:
            call()

    def _start_process(self) -> WorkerProcess:
        name = f"{WORKER_NAME}-{next(self._numbers)}"
        folder = str(Path.cwd())
        start_up = StartUp(self._environment, folder, self._memory_limit_bytes, _levels())
        return WorkerProcess(self._context, name, start_up)


def _levels() -> dict[str, int]:
    """The levels of the loggers that have one, by name; the root's is ""."""
    loggers = dict(logging.root.manager.loggerDict)
    levels = {
        name: logger.level
        for name, logger in loggers.items()
        if isinstance(logger, logging.Logger) and logger.level
    }
    return {**levels, "": logging.root.level}
