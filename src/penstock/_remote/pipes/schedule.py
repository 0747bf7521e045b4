"""Which worker gets which job, and when one is started, asked, dismissed or killed.

Jobs that are known to be quick travel together: a worker is sent a few milliseconds of them ahead.
It does them in their order. So it is with the first one that it has not answered; its death is the
end of that one alone, and all others go to another worker, as none of them has begun.

Why: docs/inside/remote.md, "Short jobs travel together".
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial

from penstock._remote.jobs import Job
from penstock._remote.outcomes import (
    JobOutcome,
    NotStarted,
    Stopped,
    TimeLimitReached,
    WorkerLost,
)
from penstock._remote.pipes.assignments import STUCK_SECONDS, Assignment, Pace, Phase, Worker
from penstock._remote.pipes.messages import (
    ANSWERS,
    CALLED,
    EXHAUSTED,
    GIVEN_BACK,
    READY,
    Message,
    decode_numbers,
    outcome_of,
)

_AHEAD_SECONDS = 0.005
"""How much work a worker is sent ahead."""
_AHEAD_JOBS = 64
"""How many jobs a worker has at most."""
_QUICK_SECONDS = 0.0025
"""A job that takes longer is not sent ahead."""
_KILL_GRACE_SECONDS = 0.1
"""How long a worker that has to be killed may take to give back what it was sent ahead."""
_IDLE_SECONDS = 60.0
_SLOW_START_SECONDS = 30.0
_LEAVE_SECONDS = 5.0
_FAILED_STARTS = 3
_PAUSE_SECONDS = 30.0
_log = logging.getLogger("penstock.engine")
_HINT = (
    "What went wrong is on stderr. A script that is not a module needs its flows called below "
    "`if __name__ == '__main__':`, as each worker process imports the script"
)
_NONE_STARTS = f"Worker processes end before they can take a task. {_HINT}."


class Schedule:
    """The jobs and the workers of a pool.

    All of it is called under the pool's lock. It neither blocks nor calls the code of others: what
    has to be called once the lock is free is left in `calls`.

    Args:
        limit: how many workers at most.
        max_jobs: how many jobs each of them takes; None: any number.

    Attributes:
        workers: those that have been started and whose end has not been seen.
        calls: what is to be called now, in this order.
        starts: how many workers are to be started now.
        unsent: those to whom something is left to be sent.
        coming: how many workers are being started, or were and do not take jobs yet.
        look_at: when `look` has to be called at the latest.
        is_closed: nothing more is done.
    """

    def __init__(self, limit: int, max_jobs: int | None) -> None:
        self._limit = limit
        self._max_jobs = math.inf if max_jobs is None else max_jobs
        self.workers: list[Worker] = []
        self.calls: list[Callable[[], object]] = []
        self.starts = 0
        self.unsent: list[Worker] = []
        self.coming = 0
        self.look_at = math.inf
        self.is_closed = False
        self._idle: dict[Worker, None] = {}
        self._serving: dict[Worker, None] = {}
        self._waiting: deque[Callable[[], object]] = deque()
        self._ready: deque[Assignment] = deque()
        self._assignments: dict[Job, Assignment] = {}
        self._reserved = 0
        self._capacity = limit
        self._pace = Pace()
        self._failed_starts = 0
        self._pauses_until = 0.0

    # What the engine asks for

    def reserve(self, begin: Callable[[], object]) -> None:
        """Have `begin` called when a job can be taken."""
        self._waiting.append(begin)
        self._grant_reservations()

    def release(self) -> None:
        """No job comes of a reservation."""
        self._reserved -= 1
        self._grant_reservations()

    def add(self, assignment: Assignment, now: float) -> None:
        """A job has come for which capacity was reserved."""
        self._assignments[assignment.job] = assignment
        if self.is_closed:
            self._settle(assignment, Stopped())
        elif now < self._pauses_until and not self._serving:
            self._settle(assignment, WorkerLost(_NONE_STARTS))
        else:
            self._ready.append(assignment)
        self.dispatch(now)

    def stop(self, job: Job, now: float) -> None:
        """Nobody wants the job any more; it may have ended."""
        assignment = self._assignments.get(job)
        if assignment is None:
            return
        self._settle(assignment, Stopped())
        worker = assignment.worker
        if worker is None:
            self._ready.remove(assignment)
        elif not self._end_unwanted(worker, now):
            worker.ask_back()  # it was sent ahead
        self.dispatch(now)

    def close(self, now: float) -> None:
        """End it all: idle workers by themselves, busy ones at once."""
        self.is_closed = True
        self._ready.clear()
        for assignment in tuple(self._assignments.values()):
            self._settle(assignment, Stopped())
        for worker in self.workers:
            if worker.phase is Phase.STARTING or worker.has:
                self._kill(worker, now)
            elif worker.phase is Phase.SERVING:
                self._dismiss(worker, now)
        self._grant_reservations()

    # What becomes of workers

    def has_started(self, worker: Worker, now: float) -> None:
        """A process has been started; it says later that it is ready."""
        self.workers.append(worker)
        self._look_at(now + _SLOW_START_SECONDS)
        if self.is_closed:
            self._kill(worker, now)

    def could_not_start(self, error: Exception, now: float) -> None:
        """A process could not be started: one job fails by it."""
        self.coming -= 1
        if self._ready:
            self._settle(self._ready.popleft(), NotStarted(error))
        self.dispatch(now)

    def hear(self, worker: Worker, message: Message, now: float) -> None:
        """A worker has said something; `dispatch` has to follow."""
        kind, number = message.kind, message.number
        if kind in ANSWERS:
            self._hear_answer(worker, message, now)
            if kind == EXHAUSTED:  # what fills its memory would fail the next jobs, too
                worker.unreached.update(worker.has.values())
                self._kill(worker, now)
        elif kind == CALLED:
            self._hear_call(worker, number, now)
        elif kind == GIVEN_BACK:
            self._hear_given_back(worker, decode_numbers(message.payload), now)
        elif kind == READY and worker.phase is Phase.STARTING:
            worker.enter(Phase.SERVING, now)
            self._serving[worker] = None
            self.coming -= 1
            self._failed_starts = 0
        self._end_unwanted(worker, now)
        self._update(worker, now)

    def _hear_answer(self, worker: Worker, answer: Message, now: float) -> None:
        assignment = worker.remove(answer.number, now)
        if assignment is None:
            return
        assignment.context.pace.add(answer.seconds)
        self._pace.add(answer.seconds)
        ahead = min(_AHEAD_JOBS, int(_AHEAD_SECONDS / max(self._pace.seconds, 1e-6)))
        self._capacity = self._limit * max(1, ahead)
        self._settle(assignment, outcome_of(answer))
        if len(worker.has) > 1:
            self._look_at(worker.ask_at)

    def _hear_call(self, worker: Worker, number: int, now: float) -> None:
        assignment = worker.has.get(number)
        limit = None if assignment is None else assignment.job.context.timeout_seconds
        if assignment is not None and limit is not None:
            assignment.deadline = now + limit
            self._look_at(assignment.deadline)

    def _hear_given_back(self, worker: Worker, numbers: list[int], now: float) -> None:
        worker.has_answered(now)
        returned = [worker.remove(number, now) for number in numbers]
        worker.jobs -= len(numbers)
        self._put_back(assignment for assignment in returned if assignment is not None)

    def _put_back(self, assignments: Iterator[Assignment]) -> None:
        """Jobs that no worker has begun are the next ones, in the order that they had."""
        wanted = [assignment for assignment in assignments if not assignment.is_settled]
        self._ready.extendleft(reversed(wanted))

    def has_ended(self, worker: Worker, ending: str, now: float) -> None:
        """A process is gone; `ending` says how, in words."""
        self.workers.remove(worker)
        self._idle.pop(worker, None)
        self._serving.pop(worker, None)
        if worker.phase is Phase.STARTING:
            self._count_failed_start(ending, now)
        first = worker.first
        if first is not None and first not in worker.unreached:
            worker.remove(first.number, now)
            reason = f"The worker process of task run {first.job.name!r} {ending}."
            self._settle(first, WorkerLost(reason))
        left = [worker.remove(number, now) for number in tuple(worker.has)]
        self._put_back(assignment for assignment in left if assignment is not None)
        self.dispatch(now)

    def _count_failed_start(self, ending: str, now: float) -> None:
        """One job fails by it; after several in a row all do for a while, as they would anyway."""
        self.coming -= 1
        self._failed_starts += 1
        if self._ready:
            reason = f"A worker process {ending} before it could take a task. {_HINT}."
            self._settle(self._ready.popleft(), WorkerLost(reason))
        if self._failed_starts >= _FAILED_STARTS and not self._serving:
            self._pauses_until = now + _PAUSE_SECONDS
            while self._ready:
                self._settle(self._ready.popleft(), WorkerLost(_NONE_STARTS))

    # What time brings

    def look(self, now: float) -> None:
        """Do what is due by now, and say by `look_at` when something will be next."""
        self.look_at = math.inf
        for worker in tuple(self.workers):
            if worker.phase is Phase.SERVING:
                self._look_at(self._look_after(worker, now))
            elif worker.phase is Phase.LEAVING:
                self._do_at(worker.since + _LEAVE_SECONDS, now, partial(self._kill, worker, now))
            elif worker.phase is Phase.STARTING and not worker.is_late:
                tell = partial(self._tell_of_slow_start, worker)
                self._do_at(worker.since + _SLOW_START_SECONDS, now, tell)
        self.dispatch(now)

    def _do_at(self, moment: float, now: float, do: Callable[[], object]) -> None:
        if now >= moment:
            do()
        else:
            self._look_at(moment)

    def _tell_of_slow_start(self, worker: Worker) -> None:
        worker.is_late = True
        warning = (
            "A worker process is not ready after %d seconds. Does it import a script that runs "
            "something, and not below `if __name__ == '__main__':`?"
        )
        self.calls.append(partial(_log.warning, warning, _SLOW_START_SECONDS))

    def _look_after(self, worker: Worker, now: float) -> float:
        """Do what is due for a worker that serves; when something will be next."""
        first = worker.first
        if first is None:
            if now < worker.since + _IDLE_SECONDS:
                return worker.since + _IDLE_SECONDS
            self._dismiss(worker, now)
            return now + _LEAVE_SECONDS
        if first.deadline <= now:
            self._settle(first, TimeLimitReached())
            self._end_unwanted(worker, now)
        if worker.kill_at <= now:
            self._kill(worker, now)
        elif worker.ask_at <= now and len(worker.has) > 1:
            worker.ask_back()
        asks_at = worker.ask_at if len(worker.has) > 1 and not worker.was_asked else math.inf
        deadline = math.inf if first.is_settled else first.deadline
        return min(asks_at, deadline, worker.kill_at)

    def _look_at(self, moment: float) -> None:
        self.look_at = min(self.look_at, moment)

    # How

    def dispatch(self, now: float) -> None:
        """Give jobs to workers, have workers started for the others, and let more jobs come."""
        ready = self._ready
        while ready:
            worker = self._worker_for(ready[0], now)
            if worker is None:
                break
            if not worker.give(ready.popleft(), now):
                self.unsent.append(worker)
            self._idle.pop(worker, None)
            if len(worker.has) > 1:
                self._look_at(worker.ask_at)
        self._grant_reservations()

    def _worker_for(self, assignment: Assignment, now: float) -> Worker | None:
        if self._idle:
            return next(reversed(self._idle))
        while (
            len(self._serving) + self.coming < self._limit
            and self.coming < len(self._ready)
            and not self.is_closed
        ):
            self.starts += 1
            self.coming += 1
        return self._worker_ahead(assignment.context.pace.seconds, now)

    def _worker_ahead(self, seconds: float, now: float) -> Worker | None:
        """The worker that has the least to do, if it may be sent a job that takes so long."""
        if seconds > _QUICK_SECONDS:
            return None
        fit = [worker for worker in self._serving if self._takes_ahead(worker, now)]
        chosen = min(fit, key=_busy_seconds, default=None)
        if chosen is None or chosen.busy_seconds + seconds > _AHEAD_SECONDS:
            return None
        return chosen

    def _takes_ahead(self, worker: Worker, now: float) -> bool:
        return (
            len(worker.has) < _AHEAD_JOBS
            and worker.jobs < self._max_jobs
            and not worker.was_asked
            and worker.kill_at == math.inf
            and now < worker.since_first + STUCK_SECONDS
        )

    def _grant_reservations(self) -> None:
        while self._waiting and (self._reserved < self._capacity or self.is_closed):
            self._reserved += 1
            self.calls.append(self._waiting.popleft())

    def _settle(self, assignment: Assignment, outcome: JobOutcome) -> None:
        """The first outcome of a job is the one."""
        if assignment.is_settled:
            return
        assignment.is_settled = True
        del self._assignments[assignment.job]
        self._reserved -= 1
        self.calls.append(partial(assignment.done, outcome))

    def _end_unwanted(self, worker: Worker, now: float) -> bool:
        """End the job that the worker is with, where nobody wants it; whether that is so.

        The kill must hit no other job. Alone, the job is the only one that it can hit. Others that
        the worker was sent ahead it gives back first; where it cannot, as the code keeps all its
        threads from running, it cannot have gone on to another job either.
        """
        first = worker.first
        if first is None or not first.is_settled or worker.phase is not Phase.SERVING:
            return False
        if len(worker.has) == 1:
            self._kill(worker, now)
        else:
            worker.ask_back()
            worker.kill_at = min(worker.kill_at, now + _KILL_GRACE_SECONDS)
            self._look_at(worker.kill_at)
        return True

    def _update(self, worker: Worker, now: float) -> None:
        """After a change: it may be idle now, or have done its share."""
        if not worker.is_idle or worker in self._idle:
            return
        worker.since = now
        if worker.jobs >= self._max_jobs or self.is_closed:
            self._dismiss(worker, now)
        else:
            self._idle[worker] = None
            self._look_at(now + _IDLE_SECONDS)

    def _dismiss(self, worker: Worker, now: float) -> None:
        self._forget(worker)
        worker.dismiss(now)
        self._look_at(now + _LEAVE_SECONDS)

    def _kill(self, worker: Worker, now: float) -> None:
        self._forget(worker)
        worker.kill(now)

    def _forget(self, worker: Worker) -> None:
        """Give it no more jobs."""
        if worker.phase is Phase.STARTING:
            self.coming -= 1
        self._serving.pop(worker, None)
        self._idle.pop(worker, None)


def _busy_seconds(worker: Worker) -> float:
    return worker.busy_seconds
