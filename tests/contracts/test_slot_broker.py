"""Requests for slots, on every store: first come, first served, and none is ever lost."""

from __future__ import annotations

import gc
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import anyio
import pytest

from penstock._engine import slot_broker
from penstock._engine.slot_broker import SlotBroker, SlotGrant
from penstock._stores.port import Exchanged, Limit, Store
from penstock.exceptions import StoreError
from tests.conftest import RunLoop
from tests.patience import PATIENCE_SECONDS, soon


@pytest.fixture
def broker(store: Store) -> Iterator[SlotBroker]:
    """A broker on each store, with one slot of `a` and two of `b`."""
    store.slots.set_limit(Limit("a", 1))
    store.slots.set_limit(Limit("b", 2))
    made = SlotBroker(store.slots, time.time, call_later)
    yield made
    made.close()


def call_later(seconds: float, call: Callable[[], object]) -> None:
    timer = threading.Timer(seconds, call)
    timer.daemon = True
    timer.start()


def until(condition: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < ends_at, "it never came about"
        time.sleep(0.001)


def taken(store: Store, name: str = "a") -> float:
    return next(limit.taken for limit in store.slots.read_limits(0.0) if limit.name == name)


def test_who_asks_first_is_served_first(broker: SlotBroker) -> None:
    served: list[int] = []
    grants = [broker.ask(["a"]) for _ in range(200)]
    for number, grant in enumerate(grants):
        grant.add_callback(partial(served.append, number))
    for grant in grants:
        assert grant.wait(PATIENCE_SECONDS)
        grant.give_back()
    assert served == list(range(200))


def test_a_request_waits_for_all_its_limits(broker: SlotBroker) -> None:
    first = broker.ask(["a"])
    both = broker.ask(["b", "a"])
    other = broker.ask(["b"], 2)
    assert first.wait(PATIENCE_SECONDS)
    assert other.wait(PATIENCE_SECONDS)
    first.give_back()
    assert not both.wait(0.05)
    other.give_back()
    assert both.wait(PATIENCE_SECONDS)


def test_who_asks_no_more_leaves_the_line(broker: SlotBroker) -> None:
    first, second, third = (broker.ask(["a"]) for _ in range(3))
    assert first.wait(PATIENCE_SECONDS)
    second.give_back()
    first.give_back()
    assert third.wait(PATIENCE_SECONDS)
    assert not second.is_set()


def test_slots_are_given_back_once(broker: SlotBroker, store: Store) -> None:
    first, second = broker.ask(["a"]), broker.ask(["a"])
    first.wait(PATIENCE_SECONDS)
    first.give_back()
    first.give_back()
    assert second.wait(PATIENCE_SECONDS)
    first.give_back()
    assert not broker.ask(["a"]).wait(0.05)
    assert taken(store) == 1


def test_a_request_that_nobody_refers_to_gives_its_slots_back(
    broker: SlotBroker, store: Store
) -> None:
    """An interrupt may come before anybody could note that there is something to give back."""
    broker.ask(["a"])
    grant = broker.ask(["a"])
    assert grant.wait(PATIENCE_SECONDS)
    del grant
    gc.collect()
    until(lambda: taken(store) == 0)


def test_thousands_may_wait_and_leave(broker: SlotBroker, store: Store) -> None:
    first = broker.ask(["a"])
    assert first.wait(PATIENCE_SECONDS)
    waiting = [broker.ask(["a"]) for _ in range(5000)]
    last = broker.ask(["a"])
    for grant in waiting:
        grant.give_back()
    first.give_back()
    assert last.wait(PATIENCE_SECONDS)


def test_many_get_theirs_in_one_go(store: Store) -> None:
    store.slots.set_limit(Limit("a", 1000))
    broker = SlotBroker(store.slots, time.time, call_later)
    grants = [broker.ask(["a"]) for _ in range(1000)]
    assert all(grant.wait(PATIENCE_SECONDS) for grant in grants)
    assert taken(store) == 1000
    broker.close()


def test_threads_that_ask_at_once_never_have_more_than_there_are(store: Store) -> None:
    store.slots.set_limit(Limit("a", 3))
    store.slots.set_limit(Limit("b", 2))
    broker, lock = SlotBroker(store.slots, time.time, call_later), threading.Lock()
    inside = {"a": 0, "b": 0}
    most = dict(inside)

    def use(names: Sequence[str]) -> None:
        for _ in range(30):
            grant = broker.ask(names)
            assert grant.wait(PATIENCE_SECONDS)
            with lock:
                for name in names:
                    inside[name] += 1
                    most[name] = max(most[name], inside[name])
            time.sleep(0)
            with lock:
                for name in names:
                    inside[name] -= 1
            grant.give_back()

    wanted = itertools.islice(itertools.cycle([["a"], ["b"], ["a", "b"]]), 9)
    threads = [threading.Thread(target=use, args=(names,)) for names in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == {"a": 3, "b": 2}
    until(lambda: taken(store) == taken(store, "b") == 0)
    broker.close()


def test_a_task_of_a_loop_that_is_cancelled_leaks_no_slot(
    broker: SlotBroker, store: Store, run_loop: RunLoop
) -> None:
    """Whenever that comes: while it waits, as it is served, or after."""

    async def ask() -> None:
        grant = broker.ask(["a"])
        try:
            await grant.wait_async()
            await anyio.sleep(0.0005)
        finally:
            grant.give_back()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(60):
                with anyio.move_on_after(number * 0.0001):
                    async with anyio.create_task_group() as inner:
                        inner.start_soon(ask)
                        inner.start_soon(ask)
                group.start_soon(anyio.lowlevel.checkpoint)

    run_loop(main)
    until(lambda: taken(store) == 0)


def test_a_limit_that_is_raised_lets_those_go_on_who_wait(broker: SlotBroker, store: Store) -> None:
    first, second = broker.ask(["a"]), broker.ask(["a"])
    assert first.wait(PATIENCE_SECONDS)
    store.slots.set_limit(Limit("a", 2))
    assert second.wait(PATIENCE_SECONDS)


def test_who_waits_for_what_decays_goes_on_in_time(broker: SlotBroker, store: Store) -> None:
    store.slots.set_limit(Limit("c", 1, 100.0))
    began = time.monotonic()
    for _ in range(11):
        assert broker.ask(["c"], decays=True).wait(PATIENCE_SECONDS)
    took = time.monotonic() - began
    assert took > 0.09 and soon(took, 5)


def test_a_decay_that_comes_with_a_request_is_taken_up_with_it(
    broker: SlotBroker, store: Store
) -> None:
    """Else the next one would not be waited for, as one seemed to be still to come."""
    store.slots.set_limit(Limit("c", 1, 100.0))
    broker._has_decayed, broker._decays_at = True, 0.0
    grant = broker.ask(["c"], decays=True)  # kept, as giving it back would be one more message
    assert grant.wait(PATIENCE_SECONDS)
    until(lambda: not broker._has_decayed)
    assert broker._decays_at is None
    grant.give_back()


# The end, and trouble


def test_a_broker_that_closes_lets_nobody_wait(store: Store) -> None:
    store.slots.set_limit(Limit("a", 1))
    broker = SlotBroker(store.slots, time.time, call_later)
    first, second = broker.ask(["a"]), broker.ask(["a"])
    assert first.wait(PATIENCE_SECONDS)
    broker.close()
    assert second.wait(PATIENCE_SECONDS)
    late = broker.ask(["a"])
    assert late.is_set()
    for grant in (second, late):
        assert "shut down" in str(grant.error)
    assert first.error is None
    broker.close()


def test_a_broker_that_nobody_asked_has_no_thread(store: Store) -> None:
    before = threading.active_count()
    broker = SlotBroker(store.slots, time.time, call_later)
    assert threading.active_count() == before
    broker.close()
    assert broker.ask(["a"]).error is not None


class Failures:
    """Lets the trades of a store fail for a while."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self._exchange = store.slots.exchange
        self.left = 0
        self.given_back: list[Mapping[str, int]] = []
        monkeypatch.setattr(store.slots, "exchange", self.exchange)
        monkeypatch.setattr(slot_broker, "_RETRY_SECONDS", 0.001)

    def exchange(self, given_back: Mapping[str, int], *rest: Any) -> Exchanged:
        if self.left:
            self.left -= 1
            raise StoreError("the disk is full")
        self.given_back.append(given_back)
        return self._exchange(given_back, *rest)


@pytest.fixture
def failures(store: Store, monkeypatch: pytest.MonkeyPatch) -> Failures:
    """Trades that can be made to fail."""
    return Failures(store, monkeypatch)


def test_a_store_that_fails_is_asked_again_and_nothing_is_lost(
    failures: Failures, broker: SlotBroker, caplog: pytest.LogCaptureFixture
) -> None:
    failures.left = 3
    first = broker.ask(["a"])
    assert_served(first)
    failures.left = 3
    first.give_back()
    assert_served(broker.ask(["a"]))
    assert failures.given_back.count({"a": 1}) >= 1
    assert "the disk is full" in caplog.text


def test_a_store_that_fails_for_long_is_told_to_those_who_wait(
    failures: Failures, broker: SlotBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slot_broker, "_GIVE_UP_SECONDS", 0.01)
    failures.left = 1_000_000
    grant = broker.ask(["a"])
    assert grant.wait(PATIENCE_SECONDS)
    assert "the disk is full" in str(grant.error)
    failures.left = 0
    assert_served(broker.ask(["a"]))


def assert_served(grant: SlotGrant) -> None:
    assert grant.wait(PATIENCE_SECONDS)
    assert grant.error is None
