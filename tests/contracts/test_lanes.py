"""Lanes and threads: nothing is lost or done twice, however many call, wait and rest."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import pytest

from penstock._waiting import free_threads, worker_lanes
from penstock._waiting.free_threads import FreeThreads
from penstock._waiting.latch import Latch, this_thread
from penstock._waiting.loops import LoopThread
from penstock._waiting.worker_lanes import Lanes
from penstock._waiting.workers import Workers
from tests.patience import PATIENCE_SECONDS, soon


def until(condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> bool:
    """Wait for something to hold; whether it did."""
    ends_at = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends_at:
            return False
        time.sleep(0.001)
    return True


def worker_threads() -> int:
    return sum(t.name.startswith(("AnyIO", "penstock-thread")) for t in threading.enumerate())


def thread_of_a_call(workers: Workers) -> threading.Thread:
    threads: list[threading.Thread] = []
    workers.run_soon(lambda: threads.append(threading.current_thread()))
    assert until(lambda: bool(threads))
    return threads[0]


@pytest.fixture
def _patient_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread ends by itself."""
    for module in (worker_lanes, free_threads):
        monkeypatch.setattr(module, "_IDLE_SECONDS", 1000.0)


@pytest.fixture(params=["lanes", "one lane", "free threads"])
def workers(request: pytest.FixtureRequest, host: LoopThread) -> Workers:
    """Each kind of workers."""
    limits = {"lanes": 8, "one lane": 1}
    kind = str(request.param)
    return Lanes(host, limits[kind]) if kind in limits else FreeThreads()


@pytest.fixture
def _restless_threads() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


# What holds for all workers


@pytest.mark.usefixtures("_restless_threads")
def test_the_calls_of_many_threads_are_each_done_once(workers: Workers) -> None:
    done: list[tuple[int, int]] = []

    def produce(producer: int) -> None:
        for index in range(300):
            workers.run_soon(partial(done.append, (producer, index)))

    producers = [threading.Thread(target=produce, args=(number,)) for number in range(4)]
    for thread in producers:
        thread.start()
    for thread in producers:
        thread.join()
    assert until(lambda: len(done) >= 1200)
    time.sleep(0.01)
    assert Counter(done) == Counter((p, i) for p in range(4) for i in range(300))


def test_calls_that_come_one_by_one_are_each_done(workers: Workers) -> None:
    """Each comes when the worker of the one before is just about to rest."""
    for index in range(300):
        done = threading.Event()
        workers.run_soon(done.set)
        assert done.wait(PATIENCE_SECONDS), f"call {index} was left behind"


def test_calls_may_make_calls(workers: Workers) -> None:
    done: list[int] = []

    def countdown(left: int) -> None:
        done.append(left)
        if left:
            workers.run_soon(lambda: countdown(left - 1))
            workers.run_soon(lambda: None)

    workers.run_soon(lambda: countdown(300))
    assert until(lambda: len(done) == 301)
    assert done == list(range(300, -1, -1))


def test_a_call_that_raises_is_logged_and_the_next_ones_are_done(
    workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    done = threading.Event()

    def fail() -> None:
        raise SystemExit(3)

    with caplog.at_level(logging.ERROR, "penstock"):
        for _ in range(5):
            workers.run_soon(fail)
        workers.run_soon(done.set)
        assert done.wait(PATIENCE_SECONDS)
        assert until(lambda: len(caplog.records) == 5)


def test_calls_are_done_in_threads_that_do_not_hold_the_interpreter(workers: Workers) -> None:
    seen: list[bool] = []
    workers.run_soon(lambda: seen.append(threading.current_thread().daemon))
    assert until(lambda: len(seen) == 1)
    assert seen == [True]


def test_workers_say_how_many_may_be_at_work(host: LoopThread) -> None:
    assert Lanes(host, 8).limit == 8
    assert FreeThreads().limit is None


@pytest.mark.usefixtures("_patient_threads")
def test_idle_threads_of_closed_workers_end_at_once(workers: Workers) -> None:
    threads = [thread_of_a_call(workers)]
    workers.close()
    threads.append(thread_of_a_call(workers))  # what comes later is called all the same
    assert until(lambda: not any(thread.is_alive() for thread in threads))


@pytest.mark.usefixtures("_patient_threads")
def test_a_thread_at_work_ends_after_its_call_once_its_workers_are_closed(workers: Workers) -> None:
    began, may_end = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    def work() -> None:
        threads.append(threading.current_thread())
        began.set()
        may_end.wait(PATIENCE_SECONDS)

    workers.run_soon(work)
    assert began.wait(PATIENCE_SECONDS)
    done = threading.Event()
    workers.run_soon(done.set)  # it may have to wait for the thread at work
    workers.close()
    time.sleep(0.01)
    assert threads[0].is_alive()
    may_end.set()
    assert done.wait(PATIENCE_SECONDS)
    assert until(lambda: not threads[0].is_alive())


@pytest.mark.usefixtures("_restless_threads", "_patient_threads")
def test_nothing_is_lost_while_workers_are_closed(workers: Workers) -> None:
    done: list[int] = []
    before = worker_threads()

    def produce() -> None:
        for index in range(300):
            workers.run_soon(partial(done.append, index))

    producer = threading.Thread(target=produce)
    producer.start()
    while producer.is_alive():
        workers.close()
    assert until(lambda: len(done) >= 300)
    assert until(lambda: worker_threads() <= before)
    assert sorted(done) == list(range(300))


# Lanes


def test_one_lane_does_quick_calls_in_their_order(host: LoopThread) -> None:
    """As long as nothing takes long, one thread is enough."""
    pool, done, idents = Lanes(host, 8), list[int](), set[int]()

    def call(index: int) -> None:
        done.append(index)
        idents.add(threading.get_ident())

    for index in range(200):
        pool.run_soon(partial(call, index))
    assert until(lambda: len(done) == 200)
    assert done == list(range(200)) or len(idents) > 1
    assert len(idents) <= 2


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_lanes_are_added_up_to_the_limit_while_calls_take_long(
    host: LoopThread, limit: int
) -> None:
    pool, gate = Lanes(host, limit), threading.Event()
    inside: list[int] = []
    done: list[int] = []

    def call() -> None:
        inside.append(1)
        gate.wait(PATIENCE_SECONDS)
        done.append(1)

    for _ in range(30):
        pool.run_soon(call)
    assert until(lambda: len(inside) == limit)
    time.sleep(0.05)
    assert len(inside) == limit
    gate.set()
    assert until(lambda: len(done) == 30)


def test_lanes_rest_when_calls_are_quick_again(
    host: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And their threads go when they have rested for long."""
    monkeypatch.setattr(worker_lanes, "_IDLE_SECONDS", 0.05)
    before = worker_threads()
    pool, gate, done = Lanes(host, 8), threading.Event(), list[int]()
    inside: list[int] = []

    def block() -> None:
        inside.append(1)
        gate.wait(PATIENCE_SECONDS)

    for _ in range(8):
        pool.run_soon(block)
    assert until(lambda: len(inside) == 8)
    assert pool._awake == 8
    gate.set()
    assert until(lambda: pool._awake == 0)

    def quick() -> None:
        done.append(1)
        ends_at = time.perf_counter() + 0.0002
        while time.perf_counter() < ends_at:
            pass

    for _ in range(400):
        pool.run_soon(quick)
    assert until(lambda: pool._width == 1 or len(done) == 400)
    assert until(lambda: len(done) == 400)
    assert until(lambda: pool._awake == 0)
    assert until(lambda: len(pool._lanes) == 0)
    assert until(lambda: worker_threads() <= before)
    woken = threading.Event()
    pool.run_soon(woken.set)
    assert woken.wait(PATIENCE_SECONDS)


def test_calls_that_come_when_a_lane_gives_up_its_rest_are_not_lost(
    host: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_lanes, "_IDLE_SECONDS", 0.0005)
    pool = Lanes(host, 2)
    for index in range(300):
        done = threading.Event()
        pool.run_soon(done.set)
        assert done.wait(PATIENCE_SECONDS), f"call {index} was left behind"
        time.sleep(0.0002 * (index % 5))


def test_another_lane_works_in_the_stead_of_one_that_waits(host: LoopThread) -> None:
    """With a limit of one, each of a hundred calls waits for the one that comes after it."""
    pool, ended = Lanes(host, 1), list[int]()
    latches = [Latch() for _ in range(101)]

    def call(index: int) -> None:
        assert latches[index + 1].wait(PATIENCE_SECONDS)
        ended.append(index)
        latches[index].set()

    for index in range(100):
        pool.run_soon(partial(call, index))
    pool.run_soon(latches[100].set)
    assert latches[0].wait(PATIENCE_SECONDS)
    assert until(lambda: ended == list(range(99, -1, -1)))
    assert until(lambda: pool._awake == 0)


def test_a_wait_that_does_not_release_its_worker_keeps_others_out(host: LoopThread) -> None:
    pool, latch, log = Lanes(host, 1), Latch(), list[str]()

    def hold() -> None:
        log.append("hold")
        latch.wait(PATIENCE_SECONDS, releases_worker=False)
        log.append("held")

    pool.run_soon(hold)
    pool.run_soon(lambda: log.append("next"))
    assert until(lambda: log == ["hold"])
    time.sleep(0.03)
    assert log == ["hold"]
    latch.set()
    assert until(lambda: log == ["hold", "held", "next"])


@pytest.mark.usefixtures("_restless_threads")
def test_the_count_of_lanes_at_work_is_right_after_many_waits(host: LoopThread) -> None:
    """Waits that end at once, in time, and not at all; nothing is lost, and all lanes rest."""
    pool, done = Lanes(host, 3), list[int]()

    def call(index: int) -> None:
        latch = Latch()
        if index % 3 == 0:
            latch.set()
        if index % 3 == 1:
            pool.run_soon(latch.set)
        latch.wait(PATIENCE_SECONDS if index % 3 == 1 else 0.0005)
        done.append(index)

    for index in range(300):
        pool.run_soon(partial(call, index))
    assert until(lambda: len(done) == 300)
    assert sorted(done) == list(range(300))
    assert until(lambda: pool._awake == 0)
    assert not pool._queue


def test_only_a_worker_works_for_a_pool(host: LoopThread) -> None:
    pool, seen = Lanes(host, 1), list[object]()
    pool.run_soon(lambda: seen.append(this_thread.pool))
    assert until(lambda: len(seen) == 1)
    assert seen == [pool]
    assert this_thread.pool is None


def test_a_lane_whose_wait_is_over_goes_on_when_no_thread_can_be_started(
    host: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was to be replaced by a lane that never came to be, as at the interpreter's end."""
    pool, log = Lanes(host, 1), list[str]()
    run_sync = anyio.to_thread.run_sync
    comes_back = threading.Event()

    async def start_no_thread(*_args: object, **_options: object) -> None:
        with anyio.fail_after(PATIENCE_SECONDS):
            while not comes_back.is_set():  # noqa: ASYNC110  # another thread sets it
                await anyio.sleep(0.001)
        await anyio.sleep(0.03)
        raise RuntimeError("can't start new thread")

    def wait_in_vain() -> None:
        monkeypatch.setattr(anyio.to_thread, "run_sync", start_no_thread)
        pool.run_soon(lambda: log.append("next"))
        Latch().wait(0.02)
        comes_back.set()
        log.append("back")

    def wait_and_tell() -> None:
        wait_in_vain()
        monkeypatch.setattr(anyio.to_thread, "run_sync", run_sync)

    threading.Timer(0.03, comes_back.set).start()
    pool.run_soon(wait_and_tell)
    began = time.monotonic()
    assert until(lambda: log == ["back", "next"])
    assert soon(time.monotonic() - began, 3)


# Free threads


def test_free_threads_are_as_many_as_are_needed() -> None:
    pool, together = FreeThreads(), threading.Barrier(20)
    passed: list[int] = []

    def meet() -> None:
        together.wait(PATIENCE_SECONDS)
        passed.append(1)

    for _ in range(20):
        pool.run_soon(meet)
    assert until(lambda: len(passed) == 20)


def test_an_idle_free_thread_is_used_again() -> None:
    pool, idents = FreeThreads(), set[int]()
    for _ in range(50):
        pool.run_soon(lambda: idents.add(threading.get_ident()))
        assert until(lambda: len(pool.idle) == 1)
    assert len(idents) == 1


def test_free_threads_go_when_nobody_has_asked_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(free_threads, "_IDLE_SECONDS", 0.02)
    before = worker_threads()
    pool = FreeThreads()
    for _ in range(5):
        pool.run_soon(lambda: time.sleep(0.01))
    assert until(lambda: worker_threads() <= before)
    done = threading.Event()
    pool.run_soon(done.set)
    assert done.wait(PATIENCE_SECONDS)


@pytest.mark.usefixtures("_restless_threads")
def test_a_free_thread_that_is_asked_while_it_leaves_does_the_work_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(free_threads, "_IDLE_SECONDS", 0.0)
    pool, done = FreeThreads(), list[tuple[int, int]]()
    errors: list[BaseException] = []

    def produce(producer: int) -> None:
        for index in range(400):
            try:
                pool.run_soon(partial(done.append, (producer, index)))
            except BaseException as error:
                errors.append(error)

    producers = [threading.Thread(target=produce, args=(number,)) for number in range(3)]
    for thread in producers:
        thread.start()
    for thread in producers:
        thread.join()
    assert not errors
    assert until(lambda: len(done) >= 1200)
    time.sleep(0.01)
    assert Counter(done) == Counter((p, i) for p in range(3) for i in range(400))


class Meddling(deque[Any]):
    """The idle threads, with callers that come at the worst of moments."""

    def __init__(self) -> None:
        super().__init__()
        self.before_remove: Callable[[], None] | None = None
        self.after_append: Callable[[], None] | None = None

    def remove(self, value: object, /) -> None:
        meddle, self.before_remove = self.before_remove, None
        if meddle is not None:
            meddle()
        super().remove(value)

    def append(self, value: object, /) -> None:
        super().append(value)
        meddle, self.after_append = self.after_append, None
        if meddle is not None:
            meddle()


def test_a_free_thread_asked_in_its_last_moment_and_once_more_does_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is picked just before it would leave, and again the moment that work is done."""
    monkeypatch.setattr(free_threads, "_IDLE_SECONDS", 0.01)
    pool, done, errors = FreeThreads(), list[str](), list[BaseException]()
    pool.idle = idle = Meddling()

    def ask(name: str) -> None:
        try:
            pool.run_soon(lambda: done.append(name))
        except BaseException as error:
            errors.append(error)

    def ask_once_more() -> None:
        idle.after_append = lambda: ask("once more")
        ask("in the last moment")

    pool.run_soon(lambda: None)
    assert until(lambda: len(idle) == 1)
    idle.before_remove = ask_once_more
    assert until(lambda: idle.before_remove is None)
    assert until(lambda: len(done) == 2 or bool(errors))
    assert not errors
    assert done == ["in the last moment", "once more"]
