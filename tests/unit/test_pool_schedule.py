"""`Schedule`: which worker gets which job, and what becomes of both; without processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest

from penstock._model.definition import RunKind, make_definition
from penstock._remote.functions import Name
from penstock._remote.jobs import Job, JobContext
from penstock._remote.outcomes import (
    JobOutcome,
    NotStarted,
    Raised,
    Returned,
    Stopped,
    TimeLimitReached,
    WorkerLost,
)
from penstock._remote.pipes import messages
from penstock._remote.pipes.assignments import Assignment, SharedContext, Worker
from penstock._remote.pipes.messages import Bytes, Message, MessageReader
from penstock._remote.pipes.schedule import Schedule
from penstock._remote.pipes.worker_process import WorkerProcess

DEFINITION = make_definition(RunKind.TASK, "work", "module.work", None, None, ())


class FakeProcess:
    """What a schedule does with a process."""

    def __init__(self) -> None:
        self.reader = MessageReader()
        self.got: list[Message] = []
        self.asked = 0
        self.killed = False
        self.is_broken = False

    def send(self, parts: Sequence[Bytes]) -> bool:
        self.got += self.reader.feed(b"".join(parts))
        return True

    def ask_back(self) -> None:
        self.asked += 1

    def kill(self) -> None:
        self.killed = True

    @property
    def jobs(self) -> list[int]:
        """The numbers of the jobs that it was sent."""
        return [message.number for message in self.got if message.kind == messages.JOB]

    @property
    def kinds(self) -> list[bytes]:
        return [message.kind for message in self.got]


class Play:
    """A schedule with fake processes, at a time that the test sets."""

    def __init__(self, limit: int = 1, max_jobs: int | None = None) -> None:
        self.schedule = Schedule(limit, max_jobs)
        self.now = 100.0
        self.ended: dict[Job, JobOutcome] = {}
        self.shared = self.context()

    def context(self, timeout_seconds: float | None = None) -> tuple[JobContext, SharedContext]:
        context = JobContext(
            Name("module", "work"), DEFINITION, False, timeout_seconds, None
        )  # positional by design
        return context, SharedContext(b"context")

    def job(self, shared: tuple[JobContext, SharedContext] | None = None) -> Assignment:
        """Admit a job and add it."""
        context, sent = shared or self.shared
        job = Job(context, (), {}, b"run", "work-0", ())
        assignment = Assignment(job, sent, b"job", lambda outcome: self.end(job, outcome))
        self.schedule.reserve(lambda: self.schedule.add(assignment, self.now))
        self.call()
        return assignment

    def end(self, job: Job, outcome: JobOutcome) -> None:
        assert job not in self.ended, "a job has one outcome"
        self.ended[job] = outcome

    def call(self) -> None:
        while self.schedule.calls:
            calls, self.schedule.calls = self.schedule.calls, []
            for call in calls:
                call()

    def start(self) -> tuple[Worker, FakeProcess]:
        """A process that was asked for has been started, and is ready."""
        assert self.schedule.starts > 0, "nobody has asked for a process"
        self.schedule.starts -= 1
        process = FakeProcess()
        worker = Worker(cast("WorkerProcess", process), self.now)
        self.schedule.has_started(worker, self.now)
        self.hear(worker, messages.READY)
        return worker, process

    def hear(
        self, worker: Worker, kind: bytes, number: int = 0, payload: bytes = b"", took: float = 0.0
    ) -> None:
        self.schedule.hear(worker, Message(kind, number, took, payload), self.now)
        self.schedule.dispatch(self.now)
        self.call()

    def answer(self, worker: Worker, number: int, took: float = 0.0001) -> None:
        answer = messages.answer_of_value(number)
        self.hear(worker, answer.kind, number, bytes(answer.payload), took)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.schedule.look(self.now)
        self.call()

    def give_back(self, worker: Worker, *numbers: int) -> None:
        self.hear(worker, messages.GIVEN_BACK, payload=messages.encode_numbers(numbers))

    def die(self, worker: Worker) -> None:
        self.schedule.has_ended(worker, "has died", self.now)
        self.call()

    def outcome(self, assignment: Assignment) -> JobOutcome | None:
        return self.ended.get(assignment.job)

    def quick_worker(self) -> tuple[Worker, FakeProcess]:
        """A worker that has shown that the jobs of the context are quick."""
        first = self.job()
        worker, process = self.start()
        self.answer(worker, first.number)
        process.got.clear()
        return worker, process


@pytest.fixture
def play() -> Play:
    return Play()


# Who gets what


def test_a_process_is_started_for_a_job_and_gets_it_when_it_is_ready(play: Play) -> None:
    assert play.schedule.starts == 0
    job = play.job()
    assert play.schedule.starts == 1
    worker, process = play.start()
    assert process.kinds == [messages.CONTEXT, messages.JOB]
    play.answer(worker, job.number)
    outcome = play.outcome(job)
    assert isinstance(outcome, Returned)
    assert outcome.load() == job.number


def test_no_more_processes_are_started_than_there_are_jobs_and_the_limit_says() -> None:
    play = Play(limit=3)
    play.job()
    play.job()
    assert play.schedule.starts == 2
    for _ in range(5):
        play.job()
    assert play.schedule.starts == 3


def test_a_context_is_sent_once_to_a_worker(play: Play) -> None:
    worker, process = play.quick_worker()
    play.answer(worker, play.job().number)
    assert process.kinds == [messages.JOB]


def test_a_worker_forgets_the_oldest_contexts_and_gets_them_again(play: Play) -> None:
    worker, process = play.quick_worker()
    for _ in range(messages.CONTEXTS_KEPT):
        play.answer(worker, play.job(play.context()).number)
    process.got.clear()
    play.answer(worker, play.job().number)
    assert process.kinds == [messages.CONTEXT, messages.JOB]


def test_no_more_jobs_are_reserved_than_there_are_workers_until_they_are_known_to_be_quick(
    play: Play,
) -> None:
    begun: list[None] = []

    def ask_for(count: int) -> int:
        """Ask for so many reservations; how many come."""
        begun.clear()
        for _ in range(count):
            play.schedule.reserve(lambda: begun.append(None))
        play.call()
        return len(begun)

    assert ask_for(3) == 1
    for _ in range(3):
        play.schedule.release()
    play.call()
    play.quick_worker()
    assert ask_for(100) == 50, "five milliseconds of work"


def test_quick_jobs_are_sent_ahead_and_slow_ones_are_not() -> None:
    play = Play()
    worker, process = play.quick_worker()
    jobs = [play.job() for _ in range(5)]
    assert process.jobs == [job.number for job in jobs]
    slow = play.context()
    play.job(slow)
    assert len(process.jobs) == 5
    for job in jobs:
        play.answer(worker, job.number)
    assert len(process.jobs) == 6, "alone"


def test_a_worker_is_sent_no_more_ahead_than_a_few_milliseconds_of_work() -> None:
    play = Play()
    first = play.job()
    worker, process = play.start()
    play.answer(worker, first.number, took=0.002)
    for _ in range(4):
        play.job()
    assert len(process.jobs) == 1 + 2


def test_an_idle_worker_comes_before_one_that_is_busy() -> None:
    play = Play(limit=2)
    jobs = [play.job(), play.job()]
    workers = [play.start(), play.start()]
    for (worker, process), job in zip(workers, jobs, strict=True):
        assert process.jobs == [job.number]
        play.answer(worker, job.number)
    play.job()
    play.job()
    assert sorted(len(process.jobs) for _, process in workers) == [2, 2]


# The ends of workers


def test_the_death_of_a_worker_ends_the_job_that_it_is_with_and_no_other() -> None:
    play = Play()
    worker, _ = play.quick_worker()
    jobs = [play.job() for _ in range(4)]
    play.answer(worker, jobs[0].number)
    play.die(worker)
    assert isinstance(play.outcome(jobs[1]), WorkerLost)
    assert play.outcome(jobs[2]) is play.outcome(jobs[3]) is None
    _, process = play.start()
    assert process.jobs == [jobs[2].number, jobs[3].number]


def test_a_job_that_could_not_be_sent_goes_to_another_worker(play: Play) -> None:
    worker, process = play.quick_worker()
    process.is_broken = True
    job = play.job()
    play.die(worker)
    assert play.outcome(job) is None
    _, process = play.start()
    assert process.jobs == [job.number]


def test_a_worker_without_memory_is_killed_and_the_jobs_that_it_was_sent_ahead_live_on(
    play: Play,
) -> None:
    worker, process = play.quick_worker()
    jobs = [play.job() for _ in range(3)]
    answer = messages.answer_of_error(MemoryError())
    play.hear(worker, answer.kind, jobs[0].number, bytes(answer.payload))
    assert isinstance(play.outcome(jobs[0]), Raised)
    assert process.killed
    play.die(worker)
    _, process = play.start()
    assert process.jobs == [jobs[1].number, jobs[2].number]


def test_a_worker_is_dismissed_after_its_share_of_jobs() -> None:
    play = Play(max_jobs=2)
    first = play.job()
    worker, process = play.start()
    play.answer(worker, first.number)
    second, third = play.job(), play.job()
    assert process.jobs == [first.number, second.number]
    play.answer(worker, second.number)
    assert process.kinds[-1] == messages.END
    assert play.start()[1].jobs == [third.number]


def test_idle_workers_leave_and_are_killed_where_they_do_not(play: Play) -> None:
    _, process = play.quick_worker()
    play.pass_time(59)
    assert process.kinds == []
    play.pass_time(2)
    assert process.kinds == [messages.END]
    assert not process.killed
    play.pass_time(6)
    assert process.killed


def test_a_start_that_fails_is_the_end_of_one_job_and_after_three_of_all_for_a_while() -> None:
    play = Play(limit=1)
    jobs = [play.job() for _ in range(3)]
    for job in jobs:
        worker = Worker(cast("WorkerProcess", FakeProcess()), play.now)
        play.schedule.has_started(worker, play.now)
        play.die(worker)
        outcome = play.outcome(job)
        assert isinstance(outcome, WorkerLost)
        assert "before it could take a task" in outcome.reason
    outcome = play.outcome(play.job())
    assert isinstance(outcome, WorkerLost)
    assert outcome.reason.startswith("Worker processes end before")
    play.now += 31
    assert play.outcome(play.job()) is None


def test_a_process_that_cannot_be_started_fails_one_job(play: Play) -> None:
    job = play.job()
    play.schedule.could_not_start(OSError("no"), play.now)
    play.call()
    assert isinstance(play.outcome(job), NotStarted)


# Jobs that have to end


def test_a_job_that_is_stopped_before_a_worker_has_it_goes_to_none(play: Play) -> None:
    job = play.job()
    play.schedule.stop(job.job, play.now)
    play.call()
    assert isinstance(play.outcome(job), Stopped)
    assert play.start()[1].jobs == []


def test_stopping_kills_the_worker_that_has_this_job_alone(play: Play) -> None:
    _, process = play.quick_worker()
    job = play.job()
    play.schedule.stop(job.job, play.now)
    assert process.killed


def test_before_a_kill_the_worker_gives_back_what_it_was_sent_ahead(play: Play) -> None:
    worker, process = play.quick_worker()
    jobs = [play.job() for _ in range(3)]
    play.schedule.stop(jobs[0].job, play.now)
    assert (process.asked, process.killed) == (1, False)
    play.give_back(worker, jobs[1].number, jobs[2].number)
    assert process.killed
    play.die(worker)
    assert play.start()[1].jobs == [jobs[1].number, jobs[2].number]
    assert play.outcome(jobs[1]) is None


def test_a_worker_that_went_on_meanwhile_is_not_killed(play: Play) -> None:
    worker, process = play.quick_worker()
    jobs = [play.job() for _ in range(2)]
    play.schedule.stop(jobs[0].job, play.now)
    play.answer(worker, jobs[0].number)
    play.give_back(worker)
    play.pass_time(0.2)
    assert not process.killed
    play.answer(worker, jobs[1].number)
    assert isinstance(play.outcome(jobs[0]), Stopped)
    assert isinstance(play.outcome(jobs[1]), Returned)


def test_a_worker_that_can_give_nothing_back_is_killed_all_the_same(play: Play) -> None:
    worker, process = play.quick_worker()
    jobs = [play.job() for _ in range(2)]
    play.schedule.stop(jobs[0].job, play.now)
    play.pass_time(0.05)
    assert not process.killed
    play.pass_time(0.06)
    assert process.killed
    play.die(worker)
    assert play.start()[1].jobs == [jobs[1].number]


def test_a_stopped_job_that_was_sent_ahead_costs_nobody_a_worker(play: Play) -> None:
    worker, process = play.quick_worker()
    jobs = [play.job() for _ in range(3)]
    play.schedule.stop(jobs[1].job, play.now)
    play.give_back(worker, jobs[1].number, jobs[2].number)
    assert not process.killed
    play.answer(worker, jobs[0].number)
    assert process.jobs == [jobs[0].number, jobs[1].number, jobs[2].number, jobs[2].number]


def test_the_time_of_a_job_begins_with_the_call_of_its_function(play: Play) -> None:
    job = play.job(play.context(timeout_seconds=1.0))
    worker, process = play.start()
    play.pass_time(50)
    play.hear(worker, messages.CALLED, job.number)
    play.pass_time(0.9)
    assert play.outcome(job) is None
    play.pass_time(0.2)
    assert isinstance(play.outcome(job), TimeLimitReached)
    assert process.killed


def test_a_worker_that_is_long_with_a_job_gives_back_the_others(play: Play) -> None:
    play = Play(limit=2)
    first, second = play.job(), play.job()
    (busy, busy_process), (other, other_process) = play.start(), play.start()
    play.answer(busy, first.number)
    jobs = [play.job() for _ in range(3)]  # as the other one is with a job of its own
    assert len(busy_process.jobs) == 1 + 3
    play.pass_time(0.03)
    assert busy_process.asked == 1
    play.give_back(busy, jobs[1].number, jobs[2].number)
    assert len(busy_process.jobs) == 1 + 3, "it gets nothing while it is with that job"
    play.answer(other, second.number)
    assert other_process.jobs == [second.number, jobs[1].number, jobs[2].number]


# The end of the pool


def test_closing_ends_all_jobs_kills_the_busy_and_dismisses_the_idle() -> None:
    play = Play(limit=2)
    jobs = [play.job(), play.job()]
    (busy, busy_process), (idle, idle_process) = play.start(), play.start()
    play.answer(idle, jobs[1].number)
    assert busy.has
    play.schedule.close(play.now)
    play.call()
    assert isinstance(play.outcome(jobs[0]), Stopped)
    assert busy_process.killed
    assert idle_process.kinds[-1] == messages.END
    assert isinstance(play.outcome(play.job()), Stopped)


def test_closing_lets_all_who_wait_begin(play: Play) -> None:
    play.job()
    begun: list[str] = []
    play.schedule.reserve(lambda: begun.append("waiting"))
    play.call()
    assert begun == []
    play.schedule.close(play.now)
    play.call()
    assert begun == ["waiting"]


# Messages


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_messages_are_the_same_however_the_stream_is_cut(size: int) -> None:
    sent = [(b"A", 1, b""), (b"B", 2**60, b"x" * 300), (b"C", 3, b"y" * 70_000), (b"D", 4, b"z")]
    stream = b"".join(part for one in sent for part in messages.framed(*one))
    reader = MessageReader()
    got = [message for piece in pieces(stream, size) for message in reader.feed(piece)]
    assert [(one.kind, one.number, bytes(one.payload)) for one in got] == sent


def pieces(stream: bytes, size: int) -> Iterator[bytes]:
    return (stream[start : start + size] for start in range(0, len(stream), size))


def test_a_job_comes_as_it_went() -> None:
    context, shared = Play().context()
    job = Job(context, (1, [2]), {"key": "value"}, b"id", "work-1", ())
    payload = messages.encode_job(job, shared.number)
    assert messages.context_number_of(payload) == shared.number
    call: Any = messages.decode_job(payload)
    assert call == (b"id", "work-1", (), (1, [2]), {"key": "value"})


def test_numbers_come_as_they_went() -> None:
    numbers = [1, 2**40, 0]
    assert messages.decode_numbers(messages.encode_numbers(numbers)) == numbers
