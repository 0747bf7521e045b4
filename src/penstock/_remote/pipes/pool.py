"""A pool of worker processes: one job, one process, which can be killed without harm to others.

A process that has died, or was killed for its job's sake, is replaced when there is another job.
The threads that call `ProcessPool.call` are the lanes of the task runner, so there are never more
jobs at once than lanes; no queue is needed here.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable
from multiprocessing.context import SpawnContext
from pathlib import Path

from penstock._model.settings import Settings
from penstock._remote.pipes.guard import WORKER_NAME
from penstock._remote.pipes.messages import Terms, outcome_of
from penstock._remote.pipes.worker import Worker, WorkerGone
from penstock._rules.effects import Error, Interrupted, Outcome
from penstock._rules.task_run import TaskRun
from penstock._waiting.loops import LoopThread
from penstock.exceptions import NotTransferable, WorkerCrashed

_IDLE_SECONDS = 60.0
_TEND_SECONDS = 5.0
_STILLBORN_AT_MOST = 3
_PAUSE_SECONDS = 30.0
_GRACE_SECONDS = 5.0
_GUARD = (
    "What it had to say is on stderr. A script that is not a module needs its flows called below "
    "`if __name__ == '__main__':`, as each worker process imports the script"
)


class ProcessPool:
    """Calls the functions of task runs in processes of their own.

    Args:
        host: whose timer looks after idle workers.
        context: the way in which multiprocessing starts them.
        memory_limit_bytes: how much each may hold; None: as much as it likes.
        max_tasks_per_worker: after so many jobs a worker ends; None: after any number.
    """

    def __init__(
        self,
        host: LoopThread,
        context: SpawnContext,
        memory_limit_bytes: int | None,
        max_tasks_per_worker: int | None,
    ) -> None:
        self._host = host
        self._context = context
        self._memory_limit_bytes = memory_limit_bytes
        self._max_tasks_per_worker = max_tasks_per_worker
        self._lock = threading.Lock()
        self._idle: list[Worker] = []
        self._leaving: list[Worker] = []
        self._busy: dict[TaskRun, Worker] = {}
        self._numbers = itertools.count(1)
        self._stillborn = 0
        self._pauses_until = 0.0
        self._is_tended = False
        self._is_closed = False

    def call(self, run: TaskRun, settings: Settings, is_wanted: Callable[[], bool]) -> Outcome:
        """Call the run's function in a worker, within its time.

        Whoever wants the call no more first lets `is_wanted` say so and then calls `stop`: so the
        worker is killed wherever the call has come to.
        """
        if time.monotonic() < self._pauses_until:
            return outcome_of(WorkerCrashed(f"No worker process comes to life. {_GUARD}."))
        while True:
            try:
                worker = self._take(settings)
            except (OSError, EOFError, RuntimeError) as error:  # as multiprocessing raises them
                return Error(error)
            with self._lock:
                self._busy[run] = worker
            try:
                is_on = is_wanted() and not self._is_closed
                outcome = self._do(worker, run) if is_on else None
            finally:
                self._give_back(run, worker)
            if not is_wanted() or self._is_closed:
                return Interrupted()
            if outcome is not None:
                return outcome

    def _do(self, worker: Worker, run: TaskRun) -> Outcome | None:
        """What came of it; None: the worker was gone, and another one can do it."""
        try:
            outcome = worker.do(run)
        except NotTransferable as error:
            return Error(error)
        except WorkerGone as ending:
            if worker.is_ready or worker.was_killed:
                return None
            self._count_stillborn()
            message = f"A worker process {ending} before it could take a task. {_GUARD}."
            return outcome_of(WorkerCrashed(message))
        self._stillborn = 0
        if type(outcome) is Error and isinstance(outcome.exception, MemoryError):
            worker.kill()  # what fills its memory is of no use to the next task
        return outcome

    def _count_stillborn(self) -> None:
        """After several in a row try no more for a while: the next ones would end as they did."""
        self._stillborn += 1
        if self._stillborn >= _STILLBORN_AT_MOST:
            self._pauses_until = time.monotonic() + _PAUSE_SECONDS

    def stop(self, run: TaskRun) -> None:
        """Kill the worker that runs this run's code, if any does; from any thread."""
        with self._lock:
            worker = self._busy.get(run)
            if worker is not None:
                worker.kill()

    def close(self) -> None:
        """End all workers: idle ones by themselves, busy ones at once."""
        with self._lock:
            self._is_closed = True
            leaving = [*self._leaving, *self._idle]
            for worker in self._idle:
                worker.dismiss()
            for worker in self._busy.values():
                worker.kill()
            self._idle, self._leaving = [], []
        ends_at = time.monotonic() + _GRACE_SECONDS
        for worker in leaving:
            worker.bury(max(0.0, ends_at - time.monotonic()))

    def _take(self, settings: Settings) -> Worker:
        """An idle worker, or a new one."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
        name = f"{WORKER_NAME}-{next(self._numbers)}"
        return Worker(self._context, name, self._terms(settings))

    def _terms(self, settings: Settings) -> Terms:
        return Terms(settings, str(Path.cwd()), self._memory_limit_bytes, _levels())

    def _give_back(self, run: TaskRun, worker: Worker) -> None:
        with self._lock:
            del self._busy[run]
            is_doomed = worker.is_doomed or self._is_closed
            if not is_doomed:
                self._keep(worker)
        if is_doomed:
            worker.bury()

    def _keep(self, worker: Worker) -> None:
        """Under the lock: have it wait for the next job, or leave."""
        worker.waits_since = time.monotonic()
        if worker.jobs == self._max_tasks_per_worker:
            self._dismiss(worker)
        else:
            self._idle.append(worker)
        if not self._is_tended:
            self._is_tended = True
            self._host.call_later(_TEND_SECONDS, self._tend)

    def _dismiss(self, worker: Worker) -> None:
        worker.waits_since = time.monotonic()
        worker.dismiss()
        self._leaving.append(worker)

    # In the host's thread

    def _tend(self) -> None:
        """Let workers leave that have been idle for long, and see off those that have left."""
        now = time.monotonic()
        with self._lock:
            speaking = [worker for worker in self._idle if worker.has_mail()]
            quiet = [worker for worker in self._idle if worker not in speaking]
            gone = [worker for worker in self._leaving if _is_over(worker, now)]
            self._leaving = [worker for worker in self._leaving if worker not in gone]
            self._idle = []
            for worker in quiet:
                is_tired = now - worker.waits_since > _IDLE_SECONDS
                (self._dismiss if is_tired else self._idle.append)(worker)
        # The handlers of the application are called, and ends are waited for, without the lock.
        gone += [worker for worker in speaking if not worker.read_mail()]
        for worker in gone:
            worker.bury()
        with self._lock:
            self._idle += [worker for worker in speaking if worker not in gone]
            for worker in self._idle if self._is_closed else ():  # meanwhile
                worker.dismiss()
            self._is_tended = bool(self._idle or self._leaving)
            if self._is_tended:
                self._host.call_later(_TEND_SECONDS, self._tend)


def _is_over(worker: Worker, now: float) -> bool:
    return worker.has_left() or now - worker.waits_since > _GRACE_SECONDS


def _levels() -> dict[str, int]:
    """The levels of the loggers that have one, by name; the root's is ""."""
    loggers = dict(logging.root.manager.loggerDict)
    levels = {
        name: logger.level
        for name, logger in loggers.items()
        if isinstance(logger, logging.Logger) and logger.level
    }
    return {**levels, "": logging.root.level}
