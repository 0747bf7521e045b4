"""Latches under many threads: each callback is called once, and no waiter is left waiting."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise

import anyio
import pytest

from penstock._waiting.latch import Latch, when_all
from tests.patience import PATIENCE_SECONDS


@pytest.fixture(autouse=True)
def _restless_threads() -> Iterator[None]:
    """Threads that take turns a thousand times more often than usual meet more often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


def run_together(*works: Callable[[], object]) -> None:
    """Call each in a thread of its own, all at the same moment, and wait for them."""
    together = threading.Barrier(len(works))
    errors: list[BaseException] = []

    def run(work: Callable[[], object]) -> None:
        together.wait()
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert not errors


def test_callbacks_added_by_many_threads_while_it_is_set_are_called_once_each() -> None:
    for _ in range(20):
        latch, called = Latch(), list[tuple[int, int]]()

        def add(
            producer: int, latch: Latch = latch, called: list[tuple[int, int]] = called
        ) -> None:
            for index in range(150):
                latch.add_callback(partial(called.append, (producer, index)))

        run_together(*(partial(add, producer) for producer in range(4)), latch.set, latch.set)
        expected = [(producer, index) for producer in range(4) for index in range(150)]
        assert sorted(called) == expected


def test_a_callback_discarded_while_it_is_set_is_called_at_most_once() -> None:
    for _ in range(100):
        latch, called = Latch(), list[int]()
        callbacks = [partial(called.append, index) for index in range(10)]
        for callback in callbacks:
            latch.add_callback(callback)

        def discard(latch: Latch = latch, callbacks: list[partial[None]] = callbacks) -> None:
            for callback in callbacks[::2]:
                latch.discard_callback(callback)

        run_together(latch.set, discard)
        assert len(called) == len(set(called))
        assert set(called) >= {1, 3, 5, 7, 9}


def test_a_callback_added_to_a_set_latch_is_called_at_once() -> None:
    latch, called = Latch(), list[int]()
    latch.set()
    latch.add_callback(lambda: called.append(1))
    assert called == [1]


def test_setting_twice_calls_once() -> None:
    latch, called = Latch(), list[int]()
    latch.add_callback(lambda: called.append(1))
    latch.set()
    latch.set()
    assert called == [1]


def test_a_discarded_callback_is_not_called() -> None:
    latch, called = Latch(), list[int]()

    def callback() -> None:
        called.append(1)

    latch.add_callback(callback)
    latch.discard_callback(callback)
    latch.discard_callback(callback)
    latch.set()
    assert not called


def test_callbacks_are_called_in_order_and_never_nested() -> None:
    first, second, log = Latch(), Latch(), list[str]()

    def set_the_second() -> None:
        log.append("begin")
        second.set()
        log.append("end")

    first.add_callback(set_the_second)
    first.add_callback(lambda: log.append("after"))
    second.add_callback(lambda: log.append("second"))
    first.set()
    assert log[:2] == ["begin", "end"]
    assert sorted(log[2:]) == ["after", "second"]


def test_a_chain_of_ten_thousand_needs_no_stack() -> None:
    latches = [Latch() for _ in range(10_000)]
    for latch, following in pairwise(latches):
        latch.add_callback(following.set)
    latches[0].set()
    assert all(latch.is_set() for latch in latches)


def test_a_callback_that_raises_is_logged_and_the_others_are_called(
    caplog: pytest.LogCaptureFixture,
) -> None:
    latch, called = Latch(), list[int]()

    def fail() -> None:
        raise ValueError("no")

    latch.add_callback(fail)
    latch.add_callback(lambda: called.append(1))
    with caplog.at_level(logging.ERROR, "penstock"):
        latch.set()
    assert called == [1]
    assert [record.exc_info is not None for record in caplog.records] == [True]


def test_a_wait_that_is_given_up_leaves_nothing_behind() -> None:
    latch = Latch()
    began = time.monotonic()
    assert not latch.wait(0.02)
    assert time.monotonic() - began >= 0.02
    assert not latch.wait(0)
    assert not latch._callbacks


def test_all_threads_that_wait_are_woken() -> None:
    for _ in range(20):
        latch, woken = Latch(), list[bool]()

        def wait(latch: Latch = latch, woken: list[bool] = woken) -> None:
            woken.append(latch.wait(10))

        run_together(*[wait] * 8, latch.set)
        assert woken == [True] * 8


def test_waits_that_end_at_the_moment_of_the_setting_end_well() -> None:
    """Whichever is first, the wait tells the truth and the latch is set."""
    for index in range(60):
        latch, said = Latch(), list[bool]()

        def wait(latch: Latch = latch, said: list[bool] = said, index: int = index) -> None:
            said.append(latch.wait(index / 20_000))

        def set_it(latch: Latch = latch) -> None:
            time.sleep(0.0015)
            latch.set()

        run_together(wait, set_it)
        assert len(said) == 1
        assert latch.wait(0)


def test_tasks_of_a_loop_are_woken_by_another_thread(backend: str) -> None:
    async def main() -> None:
        for _ in range(20):
            latch, woken = Latch(), list[int]()

            async def wait(index: int, latch: Latch = latch, woken: list[int] = woken) -> None:
                await latch.wait_async()
                woken.append(index)

            with anyio.fail_after(PATIENCE_SECONDS):
                async with anyio.create_task_group() as group:
                    for index in range(5):
                        group.start_soon(wait, index)
                    threading.Thread(target=latch.set).start()
                await latch.wait_async()
            assert sorted(woken) == list(range(5))

    anyio.run(main, backend=backend)


def test_a_cancelled_wait_of_a_loop_leaves_nothing_behind(backend: str) -> None:
    latch = Latch()

    async def main() -> bool:
        with anyio.move_on_after(0.01) as scope:
            await latch.wait_async()
        return scope.cancelled_caught

    assert anyio.run(main, backend=backend)
    assert not latch._callbacks
    latch.set()


def test_a_latch_set_after_the_loop_of_its_waiter_has_gone_hurts_nobody(
    backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    latch, called = Latch(), list[int]()
    awaited: list[object] = []

    async def main() -> None:
        coroutine = latch.wait_async()
        awaited.append(coroutine)
        with anyio.move_on_after(0):
            await coroutine
        # As a loop that is torn down would leave it: the callback is still there.
        latch.add_callback(_wake_up_in_this_loop())

    anyio.run(main, backend=backend)
    latch.add_callback(lambda: called.append(1))
    latch.set()
    assert called == [1]
    assert not caplog.records


def _wake_up_in_this_loop() -> Callable[[], object]:
    from penstock._waiting.loops import current_port

    port = current_port()
    assert port is not None
    parked, wake = port.parking()
    close = getattr(parked, "close", None) or getattr(parked, "cancel", None)
    assert close is not None
    close()
    return wake


def test_when_all_calls_once_however_many_threads_set_the_last_ones() -> None:
    for _ in range(40):
        latches, called = [Latch() for _ in range(12)], list[bool]()

        def note(latches: list[Latch] = latches, called: list[bool] = called) -> None:
            called.append(all(latch.is_set() for latch in latches))

        def set_every_fourth(start: int, latches: list[Latch] = latches) -> None:
            for latch in latches[start::4]:
                latch.set()

        run_together(
            partial(when_all, latches, note),
            *(partial(set_every_fourth, start) for start in range(4)),
        )
        assert called == [True]


def test_when_all_of_nothing_or_of_set_latches_calls_at_once() -> None:
    called, latch = list[int](), Latch()
    when_all([], lambda: called.append(0))
    latch.set()
    when_all([latch], lambda: called.append(1))
    assert called == [0, 1]


def test_when_all_does_not_call_before_the_last_one() -> None:
    called, latches = list[int](), [Latch(), Latch()]
    when_all(latches, lambda: called.append(1))
    latches[1].set()
    assert not called
    latches[0].set()
    assert called == [1]
